"""What a trained network's maps take from the surroundings of a pixel: fewer specks, one grade.

A network decides each cell of its map almost alone. Its doubt then shows as specks, and grades of
one tissue, such as tumor and normal mucosa, alternate within a gland.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from napari_plimseg.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor


_LARGEST = {"smoothing_um": 1000.0, "vote_um": 1000.0, "least_um2": 1e6}
_REACH = 2.5
"""Where a Gaussian ends, in standard deviations."""
_FARTHEST = 3.0
"""Largest log-odds, from the mean of its group, with which one cell takes part in a vote."""
_LEAST = 1e-4
_COMPACT = 1.5
"""How far pieces reach that are removed, relative to the side of a square of their area."""


@dataclass(frozen=True)
class Surroundings:
    """How logits are smoothed, and which classes are told apart by their surroundings.

    Parameters
    ----------
    smoothing_um : float
        Standard deviation of the Gaussian over all logits, in um; 0 changes nothing.
    together : tuple of int
        Class indices of the grades of one tissue. How much of a pixel belongs to the tissue stays
        as it is; which grade it has is the vote of the tissue around it.
    vote_um : float
        Standard deviation of the Gaussian over the votes, in um.
    least_um2 : float
        Pieces of one class with a smaller area become what is next to them; 0 keeps all. Those at
        the border of what is seen stay, because the rest of them is not.
    """

    smoothing_um: float = 0.0
    together: tuple[int, ...] = ()
    vote_um: float = 0.0
    least_um2: float = 0.0

    def __post_init__(self) -> None:
        for name, largest in _LARGEST.items():
            value = float(getattr(self, name))
            object.__setattr__(self, name, value)
            if not 0 <= value <= largest:
                raise ModelError(f"its surroundings' {name} of {value} is impossible")
        object.__setattr__(self, "together", tuple(self.together))
        classes = self.together
        if len(classes) == 1 or len(set(classes)) < len(classes):
            raise ModelError(f"its surroundings' classes {list(classes)} are impossible")
        if any(type(index) is not int or index < 0 for index in classes):
            raise ModelError(f"its surroundings' classes {list(classes)} are no class indices")
        if bool(classes) != bool(self.vote_um):
            raise ModelError("its surroundings need both classes and a distance to vote")

    @classmethod
    def from_dict(cls, data: Any) -> Surroundings:
        """Read the output of `to_dict`.

        Raises
        ------
        ModelError
            When an entry is missing or impossible.
        """
        try:
            numbers = {name: float(data[name]) for name in _LARGEST}
            return cls(together=tuple(data["together"]), **numbers)
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"its surroundings are incomplete ({error})") from error

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for a model file's header."""
        numbers = {name: getattr(self, name) for name in _LARGEST}
        return {**numbers, "together": list(self.together)}

    def margin(self, um_per_pixel: float, multiple: int) -> int:
        """Return the pixels around a part of the slide that `cleared` needs.

        Parameters
        ----------
        um_per_pixel : float
        multiple : int
            Pixels of which the margin is a multiple.
        """
        reach = _COMPACT * math.sqrt(self.least_um2) / um_per_pixel
        return math.ceil(reach / multiple) * multiple

    def cleared(self, logits: Tensor, um_per_cell: float, *, step: int, margin: int) -> Tensor:
        """Return blended logits without the small pieces that blending made.

        Where two windows overlap, neither decides alone. Blocks between multiples of `step` are
        judged each with its own margin, so that the result is independent of the tiling.

        Parameters
        ----------
        logits : Tensor of float, shape (B, C, h, w)
            Of a part of the slide that begins and ends at multiples of `step`, with its margin.
        um_per_cell : float
        step, margin : int
            Side of a block, and cells around it.

        Returns
        -------
        Tensor of float, shape (B, C, h - 2 margin, w - 2 margin)
        """
        least, frame = self.least_um2 / um_per_cell**2, 2 * margin
        height, width = (side - frame for side in logits.shape[2:])
        found = logits[:, :, margin : margin + height, margin : margin + width].clone()
        if least > 1:
            for b, y, x in product(
                range(len(found)), range(0, height, step), range(0, width, step)
            ):
                part = logits[b, :, y : y + step + frame, x : x + step + frame]
                cleared = without_specks(part, least)
                found[b, :, y : y + step, x : x + step] = cleared[
                    :, margin : margin + step, margin : margin + step
                ]
        return found

    def settled(self, logits: Tensor, um_per_cell: float) -> Tensor:
        """Return logits that follow their surroundings.

        Parameters
        ----------
        logits : Tensor of float, shape (B, C, h, w)
        um_per_cell : float

        Returns
        -------
        Tensor of float, shape (B, C, h, w)
        """
        import torch

        found = gaussian(logits, self.smoothing_um / um_per_cell)
        if self.together:
            found = self._voted(found, self.vote_um / um_per_cell)
        least = self.least_um2 / um_per_cell**2
        if least > 1:
            found = torch.stack([without_specks(maps, least) for maps in found])
        return found

    def _voted(self, logits: Tensor, cells: float) -> Tensor:
        """Return logits (B, C, h, w) with the grades that the tissue around votes for."""
        group = list(self.together)
        own = logits[:, group]  # (B, G, h, w)
        share = logits.softmax(1)[:, group].sum(1, keepdim=True)  # (B, 1, h, w)
        leads = (own - own.mean(1, keepdim=True)).clamp(-_FARTHEST, _FARTHEST)
        votes = gaussian(share * leads, cells) / gaussian(share, cells).clamp_min(_LEAST)
        found = logits.clone()
        found[:, group] = own.logsumexp(1, keepdim=True) + votes.log_softmax(1)
        return found


def surroundings_of(network: Mapping[str, Any]) -> Surroundings | None:
    """Return the surroundings in a model file's header, if it has any.

    Raises
    ------
    ModelError
        When they are impossible.
    """
    return Surroundings.from_dict(network["surroundings"]) if "surroundings" in network else None


def gaussian(maps: Tensor, cells: float) -> Tensor:
    """Return maps (B, C, h, w) smoothed by a Gaussian; their borders are repeated outside.

    Parameters
    ----------
    maps : Tensor of float
    cells : float
        Standard deviation; 0 returns the maps as they are.
    """
    import torch
    from torch.nn import functional

    if cells <= 0:
        return maps
    reach = math.ceil(_REACH * cells)
    places = torch.arange(-reach, reach + 1, dtype=maps.dtype, device=maps.device)
    kernel = (-((places / cells) ** 2) / 2).exp()
    kernel = kernel / kernel.sum()
    batch, channels, height, width = maps.shape
    found = maps.reshape(batch * channels, 1, height, width)
    found = functional.pad(found, (reach, reach, 0, 0), mode="replicate")
    found = functional.conv2d(found, kernel.view(1, 1, 1, -1))
    found = functional.pad(found, (0, 0, reach, reach), mode="replicate")
    return functional.conv2d(found, kernel.view(1, 1, -1, 1)).view_as(maps)


def without_specks(logits: Tensor, least: float) -> Tensor:
    """Return logits whose small pieces repeat those of the nearest larger piece.

    Parameters
    ----------
    logits : Tensor of float, shape (C, h, w)
    least : float
        Cells of the smallest piece that stays, unless it reaches the border.

    Returns
    -------
    Tensor of float, shape (C, h, w)
    """
    import torch

    # on a CPU, ten times as fast as torch's argmax; the first of equal classes wins in both
    mask = logits.cpu().numpy().argmax(0)
    is_speck = np.zeros(mask.shape, bool)
    for index in np.unique(mask):
        pieces, _ = ndimage.label(mask == index)
        small = np.bincount(pieces.ravel()) < least
        small[0] = False  # the other classes
        for edge in (pieces[0], pieces[-1], pieces[:, 0], pieces[:, -1]):
            small[edge] = False
        is_speck |= small[pieces]
    if not is_speck.any() or is_speck.all():
        return logits
    nearest = ndimage.distance_transform_edt(is_speck, return_distances=False, return_indices=True)
    rows, columns = (torch.from_numpy(part).long().to(logits.device) for part in nearest)
    found = logits[:, rows, columns]
    # where two neighbors of a speck meet, its class would win again by a hair
    at = torch.from_numpy(np.argwhere(is_speck)).to(logits.device).T
    own = torch.from_numpy(mask).to(logits.device)[at[0], at[1]]
    found[own, at[0], at[1]] = found[:, at[0], at[1]].amin(0)
    return found

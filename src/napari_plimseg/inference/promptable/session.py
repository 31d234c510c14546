"""Smart select on one slide: points and boxes in, masks out, from patches at two resolutions.

session = HintSession(open_slide("a.svs"), load_hint_model(...), EmbeddingCache.of_user())
session.prepare([hint])            # slow in a new place: call it in a thread
mask = session.segment([hint])     # fast from then on, also for other hints nearby
"""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy import ndimage

from napari_plimseg.errors import ConfigError, ModelError, SlideError
from napari_plimseg.fingerprints import fingerprint
from napari_plimseg.inference.promptable.embedding_cache import EmbeddingCache, PatchKey
from napari_plimseg.inference.promptable.geometry import Hint, HintMask, PatchPair, pair_for

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from napari_plimseg.models import Encoded, PatchHints, WsiSam
    from napari_plimseg.slides import Region, Slide


AT_ONCE = 8
"""Number of objects decoded together."""


class HintSession:
    """Answers hints on one slide with one model.

    Pixels come from the slide, so contrast limits and colors of the viewer have no effect.
    Thread-safe.

    Parameters
    ----------
    slide : Slide
    model : WsiSam
        With weights; a model with random ones is refused.
    cache : EmbeddingCache, optional
        In memory only when None.
    pixel_size : float, optional
        Micrometers per level-0 pixel to assume where the file has none. Without it, such a slide
        is refused when hints are placed.

    Raises
    ------
    ModelError
        When the model's weights are random.
    SlideError
        When the slide is not a stained section in transmitted light.
    """

    def __init__(
        self,
        slide: Slide,
        model: WsiSam,
        cache: EmbeddingCache | None = None,
        *,
        pixel_size: float | None = None,
    ) -> None:
        if not model.weights_name:
            raise ModelError(
                "the model for hints has random weights, so its masks would be meaningless",
                remedy="Choose the bundled model, or a trained one.",
            )
        if not slide.is_brightfield:
            raise SlideError(
                "hints need a stained section in transmitted light, and this looks like "
                "fluorescence",
                path=slide.path,
                remedy="Paint its regions with the brush.",
            )
        if pixel_size is not None and not pixel_size > 0:
            raise ConfigError(f"a pixel size of {pixel_size} um/px is impossible")
        self.slide = slide
        self.model = model
        # a quarter faster on a CPU; changes only the memory layout
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.cache = cache or EmbeddingCache()
        self.pixel_size = pixel_size
        self._fingerprint: str | None = None
        self._encoding = threading.Lock()

    @property
    def weights_name(self) -> str:
        """Name of the weights, for people."""
        return self.model.weights_name

    def pair_for(self, hints: Sequence[Hint], *, coarser: int = 0) -> PatchPair:
        """Return the finest patches that hold all hints together.

        Parameters
        ----------
        hints : sequence of Hint
        coarser : int
            Additional factors of two, for an object that is cut (`HintMask.is_cut`).

        Raises
        ------
        ConfigError
            Without a hint, or with one outside the slide.
        SlideError
            When the pixel size is unknown and none was assumed.
        """
        if not hints:
            raise ConfigError(
                "there is no hint", remedy="Click inside an object, or draw a box around it."
            )
        for hint in hints:
            self._check_place(hint)
        return pair_for(hints, self._downsample(), self.model.side, coarser=coarser)

    def is_prepared(self, hints: Sequence[Hint], *, coarser: int = 0) -> bool:
        """Whether `segment` finds all embeddings in the cache."""
        pair = self.pair_for(hints, coarser=coarser)
        return all(self._key(place) in self.cache for place in (pair.fine, pair.coarse))

    def prepare(self, hints: Sequence[Hint], *, coarser: int = 0) -> PatchPair:
        """Encode the patches of hints that are not cached: the slow part, for a thread.

        Raises
        ------
        SlideError
            When the slide's pixels can't be read, or its pixel size is unknown.
        """
        pair = self.pair_for(hints, coarser=coarser)
        for place in (pair.fine, pair.coarse):
            self._encoded(place)
        return pair

    def segment(self, hints: Sequence[Hint], *, coarser: int = 0) -> HintMask:
        """Return one mask of everything that the hints point at, from one pair of patches.

        Patches that were not prepared are encoded now.

        Raises
        ------
        SlideError
            When the slide's pixels can't be read, or its pixel size is unknown.
        """
        pair = self.prepare(hints, coarser=coarser)
        masks = self._masks(pair, hints)
        together = np.logical_or.reduce([mask.mask for mask in masks])
        return HintMask(
            pair.y, pair.x, pair.downsample, together,
            score=float(np.mean([mask.score for mask in masks])),
            is_cut=any(mask.is_cut for mask in masks),
        )  # fmt: skip

    def refine(self, hint: Hint, *, coarser: int = 0) -> HintMask:
        """Return the mask of a hint, in its own pixels, corrected by its points and boxes.

        A mask larger than the patch changes only where hints point; the rest of its outline
        stays. `is_cut` tells whether the change reaches a border of the patch.

        Raises
        ------
        ConfigError
            When the hint has no mask.
        SlideError
            When the slide's pixels can't be read, or its pixel size is unknown.
        """
        if hint.mask is None:
            raise ConfigError("there is no mask to refine", remedy="Click a region of the mask.")
        pair = self.prepare([hint], coarser=coarser)
        (answer,) = self._masks(pair, [hint])
        rows, columns = (
            (np.arange(pair.side) + start + 0.5) * pair.downsample for start in (pair.y, pair.x)
        )
        before = hint.mask.at(rows, columns)
        changed = answer.mask != before
        if not _holds(answer.region, hint.mask.bounding_box):
            changed = _pieces_at(changed, pair.hints_in(hint))
        redrawn = replace(answer, mask=before ^ changed)
        is_cut = bool((changed & self._open_border(pair)).any())
        return hint.mask.redrawn(redrawn, is_cut=is_cut)

    def segment_each(self, hints: Sequence[Hint]) -> list[HintMask]:
        """Return one mask per hint, each from its own patches: for many boxes at once."""
        masks: list[HintMask | None] = [None] * len(hints)
        of_pair: dict[PatchPair, list[int]] = {}
        for index, hint in enumerate(hints):
            of_pair.setdefault(self.pair_for([hint]), []).append(index)
        for pair, indices in of_pair.items():
            found = self._masks(pair, [hints[i] for i in indices])
            for index, mask in zip(indices, found, strict=True):
                masks[index] = mask
        return [mask for mask in masks if mask is not None]

    def _downsample(self) -> float:
        if self.slide.mpp is None and self.pixel_size is not None:
            return self.model.mpp / self.pixel_size
        return self.slide.working_downsample(self.model.mpp)

    def _check_place(self, hint: Hint) -> None:
        hull = hint.hull
        height, width = self.slide.shape
        if hull.y >= height or hull.x >= width or hull.y + hull.height <= 0 or (
            hull.x + hull.width <= 0
        ):  # fmt: skip
            raise ConfigError(
                "the point or box is outside the slide", remedy="Place it on the tissue."
            )

    def _key(self, place: tuple[float, int, int]) -> PatchKey:
        if self._fingerprint is None:
            self._fingerprint = fingerprint(self.slide.path)
        downsample, y, x = place
        return PatchKey(
            self._fingerprint, downsample, y, x, self.model.side, self.model.encoder_identity
        )

    def _encoded(self, place: tuple[float, int, int]) -> Encoded:
        downsample, y, x = place
        side = self.model.side

        @torch.inference_mode()
        def encode() -> Encoded:
            pixels = self.slide.read_at(downsample, y, x, side, side)
            scaled = torch.from_numpy(pixels).permute(2, 0, 1)[None].to(self._device).float() / 255
            return self.model.encode(scaled)

        with self._encoding:  # two threads must not encode the same place
            return self.cache.get(self._key(place), encode)

    @property
    def _device(self) -> torch.device:
        return next(self.model.parameters()).device

    def _masks(self, pair: PatchPair, hints: Sequence[Hint]) -> list[HintMask]:
        """Return one mask per hint, each of the patch's size."""
        hr, lr = (
            self._encoded(place).to(device=self._device, dtype=torch.float32)
            for place in (pair.fine, pair.coarse)
        )
        parts = [(index, part) for index, hint in enumerate(hints) for part in hint.parts()]
        together = np.zeros((len(hints), pair.side, pair.side), np.bool_)
        scores: list[list[float]] = [[] for _ in hints]
        for first in range(0, len(parts), AT_ONCE):
            group = parts[first : first + AT_ONCE]
            fine = [pair.hints_in(part) for _, part in group]
            coarse = [pair.hints_in(part, coarse=True).mask for _, part in group]
            logits, qualities = self._decoded(hr, lr, fine, coarse)
            for (index, _), place, mask, quality in zip(
                group, fine, logits > 0, qualities, strict=True
            ):
                together[index] |= _pointed_at(mask, place)
                scores[index].append(float(np.clip(quality, 0, 1)))
        together &= self._on_slide(pair)
        return [
            HintMask(
                pair.y, pair.x, pair.downsample, mask, float(np.mean(score)),
                is_cut=bool((mask & self._open_border(pair)).any()),
            )
            for mask, score in zip(together, scores, strict=True)
        ]  # fmt: skip

    @torch.inference_mode()
    def _decoded(
        self,
        hr: Encoded,
        lr: Encoded,
        hints: Sequence[PatchHints],
        coarse_masks: Sequence[NDArray[np.float32] | None],
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return logits (N, side, side) and expected overlaps (N,)."""
        count = len(hints)
        masks = self.model.decode(hr.expanded(count), lr.expanded(count), hints, coarse_masks)
        logits: Tensor = masks.of_patch(self.model.side)[:, 0]
        return logits.cpu().numpy(), masks.quality.cpu().numpy()

    def _on_slide(self, pair: PatchPair) -> NDArray[np.bool_]:
        """Return which pixels of the HR patch are on the slide."""
        inside = [
            ((places := (np.arange(pair.side) + start + 0.5) * pair.downsample) >= 0)
            & (places < length)
            for start, length in zip((pair.y, pair.x), self.slide.shape, strict=True)
        ]
        on_slide: NDArray[np.bool_] = np.logical_and.outer(*inside)
        return on_slide

    def _open_border(self, pair: PatchPair) -> NDArray[np.bool_]:
        """Return the border of the HR patch where the slide continues."""
        height, width = self.slide.shape
        bottom, right = ((s + pair.side) * pair.downsample for s in (pair.y, pair.x))
        border = np.zeros((pair.side, pair.side), np.bool_)
        border[0] |= pair.y > 0
        border[:, 0] |= pair.x > 0
        border[-1] |= bottom < height
        border[:, -1] |= right < width
        return border


def _holds(region: Region, box: Region | None) -> bool:
    return box is None or (
        region.y <= box.y
        and region.x <= box.x
        and box.y + box.height <= region.y + region.height
        and box.x + box.width <= region.x + region.width
    )


def _pieces_at(changed: NDArray[np.bool_], hints: PatchHints) -> NDArray[np.bool_]:
    """Return the connected pieces of a change that contain a point or part of a box."""
    labels, count = ndimage.label(changed)
    wanted = np.zeros(count + 1, np.bool_)
    last = len(changed) - 1
    for y, x, _ in hints.points:
        wanted[labels[min(int(y), last), min(int(x), last)]] = True
    for y0, x0, y1, x1 in hints.boxes:
        wanted[np.unique(labels[int(y0) : int(np.ceil(y1)), int(x0) : int(np.ceil(x1))])] = True
    wanted[0] = False
    pieces: NDArray[np.bool_] = wanted[labels]
    return pieces


def _pointed_at(mask: NDArray[np.bool_], hints: PatchHints) -> NDArray[np.bool_]:
    """Return the connected regions of a mask that hints point at; all when they point at none."""
    labels, count = ndimage.label(mask)
    if count < 2:
        return mask
    wanted = np.zeros(count + 1, np.bool_)
    last = len(mask) - 1
    for y, x, positive in hints.points:
        if positive:
            wanted[labels[min(int(y), last), min(int(x), last)]] = True
    for y0, x0, y1, x1 in hints.boxes:
        inside = labels[int(y0) : int(np.ceil(y1)), int(x0) : int(np.ceil(x1))]
        wanted[np.unique(inside)] = True
    if hints.mask is not None:
        wanted[np.unique(labels[hints.mask > 0])] = True
    wanted[0] = False
    return wanted[labels] if wanted.any() else mask

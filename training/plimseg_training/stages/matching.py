"""The losses between texts and regions under CAMs, as the frozen matcher sees both."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional as F

from napari_plimseg.models import TEMPLATES
from plimseg_training.stages.losses import Pairs, losses_by_weight, similarity_of
from plimseg_training.stages.window_pooling import WindowPooling

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from torch import Tensor

    from napari_plimseg.models import Matcher
    from napari_plimseg.tissue import TissueClasses
    from plimseg_training.config import MatchingConfig
    from plimseg_training.stages.losses import Calibration
    from plimseg_training.stages.samples import Sample


NON_TISSUE = ("background", "empty glass slide", "adipose tissue")
"""Texts of non-tissue: a class in few data sets, and next to tissue on every slide."""


@torch.no_grad()
def class_texts(classes: TissueClasses, matcher: Matcher) -> Tensor:
    """Return a unit vector per tissue class, (C, D), from its prompts in all templates."""
    vectors = []
    for mask_id in classes.tissue_ids:
        texts = [t.format(text) for text in classes[mask_id - 1].texts for t in TEMPLATES]
        vectors.append(F.normalize(matcher.encode_text(texts).mean(0), dim=0))
    return torch.stack(vectors)


@torch.no_grad()
def other_texts(classes: TissueClasses, matcher: Matcher) -> Tensor:
    """Return unit vectors of non-tissue, (B, D), except for texts that are classes themselves."""
    named = {text for tissue_class in classes for text in tissue_class.texts}
    free = [text for text in NON_TISSUE if text not in named] or [NON_TISSUE[1]]
    return torch.stack(
        [
            F.normalize(matcher.encode_text([t.format(text) for t in TEMPLATES]).mean(0), dim=0)
            for text in free
        ]
    )


@torch.no_grad()
def class_means(vectors: Tensor, tags: Tensor) -> Tensor:
    """Return the mean vectors of windows with a single tag, (C, D): the control without text.

    A class that never occurs alone gets the mean of all its windows.

    Parameters
    ----------
    vectors : Tensor, shape (N, D)
        Unit vectors of windows.
    tags : Tensor, shape (N, C)
    """
    present = tags > 0
    alone = present & (present.sum(1, keepdim=True) == 1)
    chosen = torch.where(alone.any(0), alone, present).float()  # (N, C)
    return F.normalize(chosen.T @ vectors, dim=1)


class RegionMatching(nn.Module):
    """The losses between regions and texts, on the windows of one sample.

    Parameters
    ----------
    config : MatchingConfig
        Form, weights, and the space in which regions are masked.
    prototypes : Tensor, shape (C, D)
        The vectors that classes are matched with.
    others : Tensor, shape (B, D)
        Texts of non-tissue.
    calibration : Calibration
        The matcher's cosines on the training windows.
    exclusive : bool
        Whether every pixel belongs to one of the classes. CAMs then become probabilities by a
        softmax; otherwise by a sigmoid per class with background as the rest, as in CLIMS.
    matcher : Matcher or None
        Encodes masked images; not needed in the space "features".
    fill : Tensor or None, shape (3,)
        Color of masked pixels.
    """

    prototypes: Tensor
    others: Tensor
    fill: Tensor

    def __init__(
        self,
        config: MatchingConfig,
        prototypes: Tensor,
        others: Tensor,
        calibration: Calibration,
        *,
        exclusive: bool,
        matcher: Matcher | None = None,
        fill: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.exclusive = exclusive
        self.matcher = matcher
        self.register_buffer("prototypes", prototypes)
        self.register_buffer("others", others)
        self.register_buffer("fill", torch.ones(3) if fill is None else fill)
        similarity = similarity_of(config.form, config.temperature, calibration)
        self.losses = nn.ModuleDict(losses_by_weight(config, similarity, calibration))

    def activations(self, cams: Tensor) -> Tensor:
        """Return P in [0, 1] of CAM logits (C, h, w)."""
        return cams.softmax(0) if self.exclusive else cams.sigmoid()

    def forward(
        self, cams: Tensor, sample: Sample, pooling: WindowPooling, random: np.random.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted sum of the losses of one sample, and each of them.

        Parameters
        ----------
        cams : Tensor, shape (C, h, w)
            Logits.
        sample : Sample
        pooling : WindowPooling
            Of the sample's windows on the grid of the CAMs.
        random : Generator
            Chooses pairs when not all fit into one call of the matcher.
        """
        pairs = self.pairs(self.activations(cams), sample, pooling, random)
        texts = torch.cat([self.prototypes, self.others])
        parts = {name: loss(pairs, texts) for name, loss in self.losses.items()}
        weights = self.config.weights
        return sum((weights[name] * part for name, part in parts.items()), cams.sum() * 0), parts

    def pairs(
        self,
        activations: Tensor,
        sample: Sample,
        pooling: WindowPooling,
        random: np.random.Generator,
    ) -> Pairs:
        """Return vectors of the regions under activations P (C, h, w), and of the rest.

        The other parameters are those of `forward`.
        """
        if self.config.space == "image":
            return self._pairs_of_images(activations, sample, pooling, random)
        return self._pairs_of_features(activations, sample, pooling)

    def _tagged(self, tags: np.ndarray, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """Return tags (N, C) of bool, and window and class of each pair, (E,) each."""
        present = torch.tensor(tags > 0).to(device)
        if self.config.pairs_on == "multi":
            several = present & (present.sum(1, keepdim=True) > 1)
        else:
            several = present
        window, tissue_class = several.nonzero(as_tuple=True)
        return present, window, tissue_class

    def _pairs_of_features(
        self, activations: Tensor, sample: Sample, pooling: WindowPooling
    ) -> Pairs:
        """Mask the matcher's dense vectors: means weighted with P and with 1 - P."""
        if sample.matched is None:
            raise ValueError("the sample has no vectors of the matcher")
        vectors, fine = sample.matched, activations  # (D, h, w), (C, h, w)
        if vectors.shape[1:] != activations.shape[1:]:
            rows, columns = vectors.shape[1:]
            stride = round(pooling.stride * activations.shape[1] / rows)
            pooling = WindowPooling(sample.windows, (rows, columns), stride).to(vectors.device)
            activations = F.interpolate(
                activations[None], vectors.shape[1:], mode="bilinear", align_corners=False
            )[0]
        present, window, tissue_class = self._tagged(sample.tags, vectors.device)
        whole = pooling.mean(vectors)  # (N, D)
        under = torch.stack([pooling.mean(part * vectors) for part in activations], 1)  # (N, C, D)
        foreground = under[window, tissue_class]
        background = (whole[:, None] - under)[window, tissue_class]
        return Pairs(
            F.normalize(foreground, dim=1),
            F.normalize(background, dim=1),
            tissue_class,
            present[window],
            fine,
        )

    def _pairs_of_images(
        self,
        activations: Tensor,
        sample: Sample,
        pooling: WindowPooling,
        random: np.random.Generator,
    ) -> Pairs:
        """Mask the image, as CLIMS does."""
        if sample.pixels is None or self.matcher is None:
            raise ValueError("masking images needs pixels and a matcher")
        present, window, tissue_class = self._tagged(sample.tags, activations.device)
        chosen = torch.from_numpy(random.permutation(len(window))[: self.config.pairs_at_once])
        window, tissue_class = window[chosen], tissue_class[chosen]
        height, width = sample.size
        image = sample.pixels.to(activations.device)
        full = F.interpolate(
            activations[None], scale_factor=pooling.stride, mode="bilinear", align_corners=False
        )[0, :, :height, :width]  # (C, H, W)
        fronts, backs = [], []
        for n, k in zip(window.tolist(), tissue_class.tolist(), strict=True):
            y, x, rows, columns = sample.windows[n].tolist()
            pixels = image[:, y : y + rows, x : x + columns]
            cam = full[k, y : y + rows, x : x + columns]
            fill = self._filling(pixels)
            fronts.append(cam * pixels + (1 - cam) * fill)
            backs.append((1 - cam) * pixels + cam * fill)
        if not fronts:
            empty = activations.new_zeros(0, self.prototypes.shape[1])
            return Pairs(empty, empty, tissue_class, present[window], activations)
        vectors = _embedded(self.matcher, fronts + backs)  # (2 E, D)
        front, back = vectors.chunk(2)
        return Pairs(front, back, tissue_class, present[window], activations)

    def _filling(self, pixels: Tensor) -> Tensor:
        if self.config.fill == "zero":
            return torch.zeros_like(pixels)
        if self.config.fill == "blur":
            side = min(pixels.shape[1:]) // 4 * 2 + 1
            return F.avg_pool2d(pixels[None], side, 1, side // 2, count_include_pad=False)[0]
        return self.fill[:, None, None].expand_as(pixels)


def window_vectors(matched: Sequence[Tensor], pooled: Sequence[WindowPooling]) -> Tensor:
    """Return unit vectors of all windows of some images, (N, D)."""
    return torch.cat(
        [F.normalize(pool.mean(maps), dim=1) for maps, pool in zip(matched, pooled, strict=True)]
    )


def _embedded(matcher: Matcher, pictures: Sequence[Tensor]) -> Tensor:
    """Return unit vectors of pictures, (N, D); pictures of one size are encoded in one call."""
    places: dict[torch.Size, list[int]] = {}
    for place, picture in enumerate(pictures):
        places.setdefault(picture.shape, []).append(place)
    alike = list(places.values())
    vectors = [matcher.embed(torch.stack([pictures[i] for i in chosen])) for chosen in alike]
    order = torch.tensor([i for chosen in alike for i in chosen]).argsort()
    return torch.cat(vectors)[order.to(vectors[0].device)]

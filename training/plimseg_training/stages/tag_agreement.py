"""How well class scores predict the tags: which of several opinions to label pixels with."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from plimseg_training.stages.window_pooling import WindowPooling

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from plimseg_training.config import PseudoMaskConfig
    from plimseg_training.data import TaggedImage

    Scores = Callable[[TaggedImage, PseudoMaskConfig], Tensor]


TRUSTED = 0.6
"""Agreement with the tags from which a model is taken for labels by the source "auto".

On 200 patches of GlaS the colorectal model has 0.8, and labels 85 % of the pixels with two tags
right (the mean of CAMs and words: 75 %); on WSSS4LUAD, of lung, 0.75, and a mIoU of 79 under the
tags (words: 74)."""
_SIDES: tuple[Literal["left", "right"], ...] = ("left", "right")
_COMPARED = 100
"""Images, at most, on whose tags two scores are compared."""


def agreement(scores: Callable[[TaggedImage], Tensor], images: Sequence[TaggedImage]) -> float:
    """Return how well scores predict the tags of the training windows, from 0 (not at all) to 1.

    The score of a window is the mean over its pixels. For each class that some windows have and
    others lack, the area under the ROC curve is the chance that a tagged window scores higher than
    one without the tag; the result is the mean of these areas, of which 0.5 would be chance,
    rescaled to 0 to 1. Only tags are used, never true masks. Of CAMs, which were trained on these
    tags, it is optimistic.

    Parameters
    ----------
    scores : callable
        From an image to class scores (C, H, W) that don't depend on its tags.
    images : sequence of TaggedImage
        Of which at most 100, evenly spread, are used.
    """
    pooled, tags = [], []
    for image in images[:: -(-len(images) // _COMPARED)]:
        found = scores(image).cpu()
        pooled.append(WindowPooling(image.windows, image.size, 1).mean(found).numpy())
        tags.append(image.tags > 0)
    areas = _roc_areas(np.concatenate(pooled), np.concatenate(tags))
    return max(0.0, 2 * float(np.mean(areas)) - 1) if areas else 0.0


def agreements(
    seen: Mapping[str, Scores], config: PseudoMaskConfig, images: Sequence[TaggedImage]
) -> dict[str, float]:
    """Return the `agreement` of several opinions, by name.

    Parameters
    ----------
    seen : mapping of str to callable
        From an image and the settings to class scores (C, H, W).
    config : PseudoMaskConfig
    images : sequence of TaggedImage
    """
    # one view is enough to compare them
    plain = replace(config, scales=(1.0,), flips=False)

    def of(scores: Scores) -> float:
        return agreement(lambda image: scores(image, plain), images)

    return {name: of(scores) for name, scores in seen.items()}


def _roc_areas(scores: NDArray[np.float32], tags: NDArray[np.bool_]) -> list[float]:
    areas = []
    for one, tagged in zip(scores.T, tags.T, strict=True):
        if 0 < tagged.sum() < len(tagged):
            lower = np.sort(one[~tagged])
            places = [np.searchsorted(lower, one[tagged], side) for side in _SIDES]
            areas.append(float(np.mean(places)) / len(lower))
    return areas

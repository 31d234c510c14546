"""Scores for pseudo masks: of the CAMs, of the text model alone, or the mean of both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from napari_plimseg.models import text_prototypes
from plimseg_training.stages.common import full_size, mean_of_views
from plimseg_training.stages.window_pooling import WindowPooling, allowed_classes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from napari_plimseg.models import Matcher
    from plimseg_training.config import PseudoMaskConfig
    from plimseg_training.data import TaggedFolder, TaggedImage

    Scores = Callable[[TaggedImage, PseudoMaskConfig], Tensor]
    """From an image to class scores (C, H, W), averaged over the scales and flips."""


_SIDES: tuple[Literal["left", "right"], ...] = ("left", "right")
_COMPARED = 100
"""Images, at most, on whose tags two scores are compared."""


class WordScores:
    """What a frozen image-text model sees of the classes at every pixel, without any training.

    Images are resized to the pixel size that the model knows: at 1 um, bundled words predict the
    tags of WSSS4LUAD's windows with a mean ROC area of 0.76, at their own 0.5 um with 0.86.

    Parameters
    ----------
    matcher : Matcher
    folder : TaggedFolder
        Its classes' prompts describe the tissue; background is left out.
    mpp : float
        Micrometers per pixel of the images.
    multiple : int
        Images are padded to a multiple of this many pixels.
    device : torch.device
        Device of the matcher.
    """

    def __init__(
        self,
        matcher: Matcher,
        folder: TaggedFolder,
        mpp: float,
        multiple: int,
        device: torch.device,
    ) -> None:
        self._scale = mpp / matcher.mpp
        self._matcher, self._multiple, self._device = matcher, multiple, device
        tissue = len(folder.classes.tissue_ids)
        self._texts = text_prototypes(folder.classes, matcher)[:tissue].to(device)

    def __call__(self, image: TaggedImage, config: PseudoMaskConfig) -> Tensor:
        """Return probabilities (C, H, W): the softmax of cosines times the logit scale."""

        def predicted(pixels: Tensor) -> Tensor:
            vectors = self._matcher.dense(pixels)[0].float()
            cosine = torch.einsum("dhw,cd->chw", vectors, self._texts)
            stride = round(pixels.shape[2] / cosine.shape[1])
            logits = full_size(cosine * self._matcher.logit_scale, stride, pixels.shape[2:])
            return logits.softmax(0)

        return mean_of_views(
            image, predicted, self._multiple, self._device,
            scales=[scale * self._scale for scale in config.scales], turns=config.flips,
        )  # fmt: skip


def under_tags(scores: Tensor, image: TaggedImage) -> Tensor:
    """Return scores (C, H, W) multiplied by the tags; they add up to 1 at every pixel."""
    allowed = torch.from_numpy(allowed_classes(image.windows, image.tags, image.size))
    kept = scores.clamp_min(1e-6) * allowed.to(scores.device)
    return kept / kept.sum(0)


def label_scores(
    config: PseudoMaskConfig,
    words: Scores,
    cams: Scores | None,
    weights: tuple[float, float] = (0.5, 0.5),
) -> Callable[[TaggedImage], Tensor]:
    """Return the function from an image to the scores (C, H, W) that its pseudo mask is made of.

    Parameters
    ----------
    config : PseudoMaskConfig
        Its `source` says which scores. Those of words, and of the mean, add up to 1 under the tags.
    words, cams : callable
        From an image and the settings to scores. There are no CAMs for the source "words".
    weights : tuple of float
        Of the CAMs and the words in the source "mean"; `agreement` of each with the tags.
    """
    if config.source == "words":
        return lambda image: _shares(words(image, config), image, config)
    if cams is None:
        raise ValueError(f"the source '{config.source}' needs the CAMs of stage 1")
    if config.source == "cams":
        return lambda image: cams(image, config)
    total = sum(weights)
    first, second = (w / total for w in weights) if total else (0.5, 0.5)
    return lambda image: (
        first * _shares(cams(image, config), image, config)
        + second * _shares(words(image, config), image, config)
    )


def _shares(scores: Tensor, image: TaggedImage, config: PseudoMaskConfig) -> Tensor:
    if config.gate_by_tags:
        return under_tags(scores, image)
    positive = scores.clamp_min(1e-6)
    return positive / positive.sum(0)


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


def _roc_areas(scores: NDArray[np.float32], tags: NDArray[np.bool_]) -> list[float]:
    areas = []
    for one, tagged in zip(scores.T, tags.T, strict=True):
        if 0 < tagged.sum() < len(tagged):
            lower = np.sort(one[~tagged])
            places = [np.searchsorted(lower, one[tagged], side) for side in _SIDES]
            areas.append(float(np.mean(places)) / len(lower))
    return areas

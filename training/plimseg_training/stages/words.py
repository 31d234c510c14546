"""Scores for pseudo masks: of CAMs, of the text model alone, of a trained model, or their mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from napari_plimseg.models import load_model, text_prototypes
from plimseg_training.data import read_pixels
from plimseg_training.evaluation import predict_image
from plimseg_training.stages.common import full_size, mean_of_views
from plimseg_training.stages.window_pooling import allowed_classes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    from napari_plimseg.models import Matcher
    from plimseg_training.config import PseudoMaskConfig
    from plimseg_training.data import TaggedFolder, TaggedImage
    from plimseg_training.stages.stage1 import Encoders

    Scores = Callable[[TaggedImage, PseudoMaskConfig], Tensor]
    """From an image to class scores (C, H, W), averaged over the scales and flips."""


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


class ModelScores:
    """What a trained model of tissue classes sees of other classes, through their texts.

    The model's class k stands for class c with the softmax over c of their texts' cosine times the
    logit scale: "tumour epithelium" for "gland" rather than for "other tissue". Its background
    stands for all classes alike.

    Parameters
    ----------
    name : str
        Of the model, or its file.
    matcher : Matcher
        Whose text encoder compares the classes.
    folder : TaggedFolder
        Its classes; background is left out.
    mpp : float
        Micrometers per pixel of the images.
    device : torch.device

    Attributes
    ----------
    title : str
        Of the model.
    shares : Tensor, shape (K, C)
        What each of the model's classes stands for; rows add up to 1.

    Raises
    ------
    ModelError
        When the model does not exist or can't be read.
    """

    def __init__(
        self, name: str, matcher: Matcher, folder: TaggedFolder, mpp: float, device: torch.device
    ) -> None:
        self._model, self._mpp, self._device = load_model(name), mpp, device
        self.title = self._model.name
        own, tissue = self._model.classes, len(folder.classes.tissue_ids)
        wanted = text_prototypes(folder.classes, matcher)[:tissue]
        alike = text_prototypes(own, matcher) @ wanted.T  # (K, C)
        self.shares = (alike * matcher.logit_scale).softmax(1).detach().cpu()
        self.shares[len(own.tissue_ids) :] = 1 / tissue

    def __call__(self, image: TaggedImage, config: PseudoMaskConfig) -> Tensor:
        """Return probabilities (C, H, W)."""
        found = predict_image(self._model, read_pixels(image), self._mpp, device=self._device)
        return torch.einsum("khw,kc->chw", torch.from_numpy(found), self.shares)


def opinions(
    config: PseudoMaskConfig,
    encoders: Encoders,
    folder: TaggedFolder,
    mpp: float,
    cams: Scores | None,
) -> dict[str, Scores]:
    """Return the functions that a recipe's pseudo masks are made with, by `config.sources`.

    Parameters
    ----------
    config : PseudoMaskConfig
    encoders : Encoders
    folder : TaggedFolder
    mpp : float
        Micrometers per pixel of the images.
    cams : callable or None
        From an image and the settings to the scores of stage 1.
    """
    found: dict[str, Scores] = {}
    matcher, device = encoders.matcher, encoders.device
    for source in config.sources:
        if source == "words":
            multiple = max(encoders.backbone.strides)
            found[source] = WordScores(matcher, folder, mpp, multiple, device)
        elif source == "model":
            found[source] = ModelScores(config.model, matcher, folder, mpp, device)
        elif cams is None:
            raise ValueError(f"the source '{config.source}' needs the CAMs of stage 1")
        else:
            found[source] = cams
    return found


def label_scores(
    config: PseudoMaskConfig, seen: Mapping[str, Scores], weights: Mapping[str, float]
) -> Callable[[TaggedImage], Tensor]:
    """Return the function from an image to the scores (C, H, W) that its pseudo mask is made of.

    Parameters
    ----------
    config : PseudoMaskConfig
        Scores of words, models, and of the mean, add up to 1 under the tags.
    seen : mapping of str to callable
        `opinions`.
    weights : mapping of str to float
        Of each in the mean: its `agreement` with the tags.
    """
    source = config.source
    if source == "cams":
        return lambda image: seen["cams"](image, config)
    if source != "mean":
        return lambda image: _shares(seen[source](image, config), image, config)
    total = sum(weights.get(name, 1.0) for name in seen)
    parts = {n: weights.get(n, 1.0) / total if total else 1 / len(seen) for n in seen}

    def mean(image: TaggedImage) -> Tensor:
        found = [
            part * _shares(seen[name](image, config), image, config) for name, part in parts.items()
        ]
        return torch.stack(found).sum(0)

    return mean


def _shares(scores: Tensor, image: TaggedImage, config: PseudoMaskConfig) -> Tensor:
    if config.gate_by_tags:
        return under_tags(scores, image)
    positive = scores.clamp_min(1e-6)
    return positive / positive.sum(0)

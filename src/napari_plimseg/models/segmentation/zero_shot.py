"""Zero-shot segmentation: dense image vectors against text prototypes."""

from __future__ import annotations

import copy
import hashlib
import json
import weakref
from typing import TYPE_CHECKING, Any, Protocol, Self

import torch
from torch.nn import functional as F

from napari_plimseg.models.acceleration import Acceleratable, EngineError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from napari_plimseg.models.acceleration import Engine
    from napari_plimseg.models.encoders import ImageTextEncoder
    from napari_plimseg.tissue import TissueClasses


TEMPLATES = (
    "{}.",
    "an H&E image of {}.",
    "a photomicrograph of {}.",
    "a histopathology image showing {}.",
)
"""Prompt templates; each is filled with a synonym."""


class TextEncoder(Protocol):
    """Turns strings into vectors of the space shared with images."""

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Return unit vectors (N, D)."""


def text_prototypes(classes: TissueClasses, encoder: TextEncoder) -> Tensor:
    """Return one unit vector per class, (C, D): the mean over its synonyms and the templates.

    Sentence vectors have unit length, and so has a synonym's mean over the templates: all synonyms
    of a class count alike. Vectors are cached per encoder, so that editing one class encodes only
    that class.
    """
    import torch

    return torch.stack([text_prototype(tissue_class.texts, encoder) for tissue_class in classes])


_known: weakref.WeakKeyDictionary[TextEncoder, dict[tuple[str, ...], Tensor]] = (
    weakref.WeakKeyDictionary()
)


def text_prototype(synonyms: tuple[str, ...], encoder: TextEncoder) -> Tensor:
    """Return the unit vector (D,) of one class: the mean over its synonyms and the templates."""
    import torch
    from torch.nn.functional import normalize

    known = _known.setdefault(encoder, {})
    if synonyms not in known:
        sentences = [template.format(text) for text in synonyms for template in TEMPLATES]
        with torch.inference_mode():
            vectors = normalize(encoder.encode_text(sentences).float(), dim=-1)
            by_synonym = vectors.reshape(len(synonyms), len(TEMPLATES), -1).mean(1)
            mean = normalize(by_synonym, dim=-1).mean(0)
        known[synonyms] = normalize(mean, dim=-1).cpu()  # (D,)
    return known[synonyms]


_RESULT_VERSION = 2


class ZeroShotModel:
    """A `DenseModel` made of an image-text encoder and tissue classes.

    The cosine of every dense image vector with every class prototype, times the encoder's logit
    scale, is interpolated to the mask's grid; softmax makes it a probability.

    Parameters
    ----------
    encoder : ImageTextEncoder
        Gives dense image vectors and text vectors in one space.
    classes : TissueClasses
        Described to the model by their names or prompts only.
    mask_stride : int
        Side of a mask pixel in input pixels.
    prototypes : Tensor, shape (C, D), optional
        Unit vectors to use instead of those of the prompts.
    """

    def __init__(
        self,
        encoder: ImageTextEncoder,
        classes: TissueClasses,
        *,
        name: str | None = None,
        mask_stride: int = 4,
        prototypes: Tensor | None = None,
    ) -> None:
        self._encoder = encoder
        self._device = torch.device("cpu")
        self.name = name or encoder.name
        self.classes = classes
        self.mpp = encoder.mpp
        self.alignment = encoder.alignment
        self.halo = encoder.halo
        self.mask_stride = mask_stride
        self.identity = self._identity(prototypes)
        if prototypes is None:
            prototypes = text_prototypes(classes, encoder)
        self.prototypes = prototypes.float()  # (C, D)

    def _identity(self, given: Tensor | None) -> str:
        """Digest what changes results; prototypes made from prompts follow from the rest."""
        # without colors: they change no result, so a class can be recolored without a new run
        words = [[c.name, *c.texts] for c in self.classes] + [self.classes.has_background]
        settings: list[Any] = [
            _RESULT_VERSION, self._encoder.identity, words, TEMPLATES,
            self.mask_stride, self.alignment, self.halo, self.mpp, self._encoder.logit_scale,
        ]  # fmt: skip
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
        if given is not None:
            digest.update(given.detach().cpu().float().numpy().tobytes())
        return digest.hexdigest()

    @property
    def window(self) -> int:
        """Side of the encoder's input in pixels; 0 if torch alone computes it."""
        return self._encoder.window if isinstance(self._encoder, Acceleratable) else 0

    def running_on(self, engine: Engine) -> Self:
        """Return a copy that shares the weights and is computed by an engine.

        Raises
        ------
        EngineError
            When the engine can't.
        """
        if not isinstance(self._encoder, Acceleratable):
            raise EngineError(f"'{self._encoder.name}' is computed by torch alone")
        other = copy.copy(self)
        other._encoder = self._encoder.running_on(engine)
        return other

    def to(self, device: torch.device) -> Self:
        """Move the weights and return self."""
        self._encoder.to(device)
        self.prototypes = self.prototypes.to(device)
        return self

    def adapted_to(self, tissue_pixels: NDArray[np.uint8]) -> Self:
        """Return self: stain normalization did not help (docs/models.md has the numbers)."""
        return self

    @torch.inference_mode()
    def probabilities(self, images: Tensor) -> Tensor:
        """Return class probabilities (B, C, H / mask_stride, W / mask_stride) of uint8 images."""
        vectors = self._encoder.dense(images)  # (B, D, h, w)
        cosine = torch.einsum("bdhw,cd->bchw", vectors, self.prototypes)
        size = (images.shape[1] // self.mask_stride, images.shape[2] // self.mask_stride)
        logits = F.interpolate(
            cosine * self._encoder.logit_scale, size, mode="bilinear", align_corners=False
        )
        return logits.softmax(1)

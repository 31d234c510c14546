"""From a tissue class to its prototype: synonyms x templates, encoded and averaged."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from napari_plimseg.tissue import TissueClasses

TEMPLATES = (
    "{}.",
    "an H&E image of {}.",
    "a photomicrograph of {}.",
    "a histopathology image showing {}.",
)
"""Sentences into which a synonym is put."""


class TextEncoder(Protocol):
    """What can turn strings into vectors of the space shared with images."""

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Return unit vectors (N, D)."""


def text_prototypes(classes: TissueClasses, encoder: TextEncoder) -> Tensor:
    """Return one unit vector a class, as (C, D): the mean over its synonyms and the templates.

    Every sentence has unit length, and so has the mean over the templates of a synonym before the
    synonyms are averaged: all synonyms of a class count alike. What an encoder has been asked
    before is remembered, so that editing one class encodes one class.
    """
    import torch

    return torch.stack([_prototype(tissue_class.texts, encoder) for tissue_class in classes])


_known: weakref.WeakKeyDictionary[TextEncoder, dict[tuple[str, ...], Tensor]] = (
    weakref.WeakKeyDictionary()
)


def _prototype(synonyms: tuple[str, ...], encoder: TextEncoder) -> Tensor:
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

"""The language-image matching losses and the tag loss: one class per equation.

This is our reading of PLIMSeg: its method section is not public, and its wording points to CLIMS
(Xie et al., CVPR 2022) and QA-CLIMS (Deng et al., ACM MM 2023) of the same lab. Notation: a pair
`e` is a window with one class `k` of its tags; `f` are unit vectors of the frozen matcher, of the
region under the class's CAM (`foreground`) and of the rest of the window (`background`). The texts
are unit vectors too: first one per class, then those of non-tissue.

To add a loss between regions and texts, write a `TextLoss` here and give it a row in `LOSSES`. A
recipe turns it on by its name under `matching.other_losses`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import torch
from torch import nn
from torch.nn import functional as F

from napari_plimseg.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from plimseg_training.config import MatchingConfig


Form = Literal["clims", "contrastive", "sigmoid"]
CLAMP = 1e-4


@dataclass(frozen=True)
class Pairs:
    """Windows and the classes of their tags, as the matcher sees them.

    Parameters
    ----------
    foreground, background : Tensor, shape (E, D)
        Unit vectors of the region under the cam and of the rest of the window.
    classes : Tensor of int64, shape (E,)
        The class of each pair.
    present : Tensor of bool, shape (E, C)
        All classes of the pair's window.
    activations : Tensor, shape (C, h, w)
        P: the CAMs of the image in [0, 1].
    """

    foreground: Tensor
    background: Tensor
    classes: Tensor
    present: Tensor
    activations: Tensor

    def __len__(self) -> int:
        return len(self.classes)

    @property
    def many_tags(self) -> Tensor:
        """Which pairs are of windows with two or more tags, (E,) of bool."""
        return self.present.sum(1) > 1


class Similarity(Protocol):
    """From unit vectors and texts to similarities in (0, 1)."""

    def __call__(self, vectors: Tensor, texts: Tensor) -> Tensor:
        """Return (E, L) similarities of (E, D) vectors with (L, D) texts."""


@dataclass(frozen=True)
class ClimsSimilarity:
    """The clamped cosine: the form of CLIMS, `step/train_clims.py`."""

    def __call__(self, vectors: Tensor, texts: Tensor) -> Tensor:
        """Return (E, L) similarities of (E, D) vectors with (L, D) texts."""
        return _cosines(vectors, texts).clamp(CLAMP, 1 - CLAMP)


@dataclass(frozen=True)
class ContrastiveSimilarity:
    """Softmax of the cosines over all texts: the form of QA-CLIMS.

    Unlike the clamped cosine it does not depend on the range of a matcher's cosines, which is
    narrow and different for each matcher.

    Parameters
    ----------
    temperature : float
        What the cosines are divided by.
    offsets : tuple of float
        Subtracted from the cosines with the first texts, because some texts are closer to all
        images than others; the mean offset is subtracted for all other texts. Nothing is
        subtracted when empty.
    """

    temperature: float = 0.07
    offsets: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ConfigError(f"a temperature of {self.temperature} is not above 0")

    def __call__(self, vectors: Tensor, texts: Tensor) -> Tensor:
        """Return (E, L) similarities of (E, D) vectors with (L, D) texts."""
        cosines = _cosines(vectors, texts)
        if self.offsets:
            mean = sum(self.offsets) / len(self.offsets)
            rest = [mean] * (len(texts) - len(self.offsets))
            cosines = cosines - cosines.new_tensor([*self.offsets, *rest])
        return (cosines / self.temperature).softmax(1).clamp(CLAMP, 1 - CLAMP)


@dataclass(frozen=True)
class SigmoidSimilarity:
    """Sigmoid of the cosine, centered between matched and mismatched ones.

    Parameters
    ----------
    scale : float
        Steepness.
    center : float
        The cosine whose similarity is one half; see `Calibration.center`.
    """

    scale: float = 20.0
    center: float = 0.25

    def __call__(self, vectors: Tensor, texts: Tensor) -> Tensor:
        """Return (E, L) similarities of (E, D) vectors with (L, D) texts."""
        cosines = _cosines(vectors, texts)
        return (self.scale * (cosines - self.center)).sigmoid().clamp(CLAMP, 1 - CLAMP)


class TextLoss(nn.Module, ABC):
    """A loss between regions under CAMs and texts.

    Parameters
    ----------
    similarity : Similarity
        s, from unit vectors and texts to (0, 1).
    """

    def __init__(self, similarity: Similarity) -> None:
        super().__init__()
        self.similarity = similarity

    @classmethod
    def from_recipe(
        cls, similarity: Similarity, config: MatchingConfig, calibration: Calibration
    ) -> TextLoss:
        """Build the loss; override it in a loss with parameters of its own.

        Parameters
        ----------
        similarity : Similarity
            Of the recipe's form, calibrated.
        config : MatchingConfig
        calibration : Calibration
            The matcher's cosines on the training windows.
        """
        return cls(similarity)

    @abstractmethod
    def forward(self, pairs: Pairs, texts: Tensor) -> Tensor:
        """Return the loss of pairs and texts (L, D), with a gradient also where it is 0."""


class ForegroundTextMatching(TextLoss):
    """`L_FTM = -1/|E| sum_E log s(f_fg, t_k)`: the region under a CAM matches its class's text."""

    def forward(self, pairs: Pairs, texts: Tensor) -> Tensor:
        """Return the loss of pairs and texts (L, D); 0 when there are no pairs."""
        if not len(pairs):
            return pairs.foreground.sum() * 0
        s = self.similarity(pairs.foreground, texts)  # (E, L)
        own = s.gather(1, pairs.classes[:, None])[:, 0]  # (E,)
        return -own.log().mean()


class BackgroundTextMatching(TextLoss):
    """`L_BTM = -1/|E'| sum_E' log(1 - s(f_bg, t_k))`: the rest of the window does not.

    Parameters
    ----------
    similarity : Similarity
    on : {"multi", "all"}
        E': windows with two or more tags, or all. A window of one tag satisfies "no class k
        outside the region" best when the region is everything, and then the rest is an empty
        image that says nothing.
    """

    def __init__(self, similarity: Similarity, on: Literal["multi", "all"] = "multi") -> None:
        super().__init__(similarity)
        self.on = on

    @classmethod
    def from_recipe(
        cls, similarity: Similarity, config: MatchingConfig, calibration: Calibration
    ) -> BackgroundTextMatching:
        """Build the loss for the windows that the recipe names."""
        return cls(similarity, config.btm_on)

    def forward(self, pairs: Pairs, texts: Tensor) -> Tensor:
        """Return the loss of pairs and texts (L, D); 0 when there are no pairs."""
        chosen = pairs.many_tags if self.on == "multi" else torch.ones_like(pairs.many_tags)
        if not bool(chosen.any()):
            return pairs.background.sum() * 0
        s = self.similarity(pairs.background[chosen], texts)  # (E', L)
        own = s.gather(1, pairs.classes[chosen][:, None])[:, 0]  # (E',)
        return -torch.log1p(-own).mean()


class CooccurringBackgroundSuppression(TextLoss):
    """`L_CBS = -1/|E| sum_E 1/|B| sum_B [s > tau] log(1 - s(f_fg, b))`: the region matches no other text.

    B is all texts but the pair's own: those of classes absent from the window, of the window's
    other classes, and of non-tissue.

    Parameters
    ----------
    similarity : Similarity
    threshold : float
        tau: smaller similarities cost nothing. It does not transfer between matchers.
    """  # noqa: E501

    def __init__(self, similarity: Similarity, threshold: float = 0.0) -> None:
        super().__init__(similarity)
        self.threshold = threshold

    @classmethod
    def from_recipe(
        cls, similarity: Similarity, config: MatchingConfig, calibration: Calibration
    ) -> CooccurringBackgroundSuppression:
        """Build the loss with the recipe's threshold, or else the measured one."""
        if config.form != "clims":
            # a softmax over texts has no cosines to compare with a threshold
            return cls(similarity)
        threshold = calibration.threshold if config.threshold is None else config.threshold
        return cls(similarity, threshold)

    def forward(self, pairs: Pairs, texts: Tensor) -> Tensor:
        """Return the loss of pairs and texts (L, D); 0 when there are no pairs."""
        if not len(pairs) or len(texts) < 2:
            return pairs.foreground.sum() * 0
        s = self.similarity(pairs.foreground, texts)  # (E, L)
        others = torch.ones_like(s).scatter(1, pairs.classes[:, None], 0.0)
        counted = others * (s.detach() > self.threshold)
        return -(counted * torch.log1p(-s)).sum(1).mean() / (len(texts) - 1)


class AreaTerm(TextLoss):
    """`L_REG = mean(P)` over all classes, absent ones too: nothing is covered without a reason."""

    def forward(self, pairs: Pairs, texts: Tensor) -> Tensor:
        """Return the mean of the activations (C, h, w), whatever the texts are."""
        return pairs.activations.mean()


LOSSES: dict[str, type[TextLoss]] = {
    "ftm": ForegroundTextMatching,
    "btm": BackgroundTextMatching,
    "cbs": CooccurringBackgroundSuppression,
    "area": AreaTerm,
}
"""The losses between regions and texts by name; `MatchingConfig.weights` has the same names."""


def losses_by_weight(
    config: MatchingConfig, similarity: Similarity, calibration: Calibration
) -> dict[str, TextLoss]:
    """Return the losses that a recipe gives a weight, in the recipe's order.

    Raises
    ------
    ConfigError
        When the recipe names an unknown loss.
    """
    unknown = [name for name in config.weights if name not in LOSSES]
    if unknown:
        raise ConfigError(
            f"the key 'matching.other_losses' names '{unknown[0]}', which is not a loss",
            remedy=f"Known losses: {', '.join(LOSSES)}.",
        )
    return {
        name: LOSSES[name].from_recipe(similarity, config, calibration) for name in config.weights
    }


class TagLoss(nn.Module):
    """`L_cls`: binary cross-entropy of pooled CAM logits with tags."""

    def forward(self, logits: Tensor, tags: Tensor) -> Tensor:
        """Return the loss of logits (N, C) and tags (N, C); 0 when there are no windows."""
        if not len(logits):
            return logits.sum() * 0
        return F.binary_cross_entropy_with_logits(logits.float(), tags.float())


@dataclass(frozen=True)
class Calibration:
    """Statistics of a matcher's cosines on the training windows.

    Parameters
    ----------
    matched, mismatched : float
        Mean cosine of windows of one tag with their text, and with the texts of absent classes.
    threshold : float
        Median of the mismatched cosines: tau of the form "clims".
    offsets : tuple of float
        One per class: halfway between the mean cosines of its text with windows of the class
        (of this class only, if any) and with windows without it.
    """

    matched: float
    mismatched: float
    threshold: float
    offsets: tuple[float, ...] = ()

    @property
    def center(self) -> float:
        """Halfway between matched and mismatched: the center of the form "sigmoid"."""
        return (self.matched + self.mismatched) / 2


def calibrate(vectors: Tensor, tags: Tensor, texts: Tensor) -> Calibration:
    """Measure a matcher's cosines on whole, unmasked windows.

    Parameters
    ----------
    vectors : Tensor, shape (N, D)
        Unit vectors of windows.
    tags : Tensor, shape (N, C)
    texts : Tensor, shape (C, D)
        Text vectors of the classes.

    Returns
    -------
    Calibration
        With zeros and ones where no window can be measured.
    """
    cosines = _cosines(vectors, texts)  # (N, C)
    present = tags > 0
    single = present & (present.sum(1, keepdim=True) == 1)
    matched = cosines[single] if bool(single.any()) else cosines[present]
    absent = cosines[~present]
    return Calibration(
        float(matched.mean()) if matched.numel() else 1.0,
        float(absent.mean()) if absent.numel() else 0.0,
        float(absent.median()) if absent.numel() else 0.0,
        _offsets(cosines, present, single),
    )


def _offsets(cosines: Tensor, present: Tensor, single: Tensor) -> tuple[float, ...]:
    """Return the offset of each class of cosines (N, C)."""
    offsets = []
    for found, has, alone in zip(cosines.T, present.T, single.T, strict=True):
        with_class = found[alone] if bool(alone.any()) else found[has]
        means = [float(part.mean()) for part in (with_class, found[~has]) if part.numel()]
        offsets.append(sum(means) / max(1, len(means)))
    return tuple(offsets)


def similarity_of(form: Form, temperature: float, calibration: Calibration) -> Similarity:
    """Return the similarity of a form, calibrated."""
    if form == "clims":
        return ClimsSimilarity()
    if form == "contrastive":
        return ContrastiveSimilarity(temperature, calibration.offsets)
    if form == "sigmoid":
        return SigmoidSimilarity(center=calibration.center)
    raise ConfigError(f"'{form}' is not a form of similarity: clims, contrastive or sigmoid")


def _cosines(vectors: Tensor, texts: Tensor) -> Tensor:
    """Return cosines (E, L) in single precision."""
    # half precision would round differences that the temperature then magnifies
    with torch.autocast(vectors.device.type, enabled=False):
        return vectors.float() @ texts.float().T

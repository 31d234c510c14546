"""PLIMSeg stage 2: a segmentation network trained on pseudo masks and tags."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from plimseg_training.stages.common import SegmentationNetwork, SegmentationTask, full_size
from plimseg_training.stages.pseudo_masks import IGNORED
from plimseg_training.stages.samples import ArrayCache, Sample, SampleSource, alike

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from plimseg_training.config import Recipe
    from plimseg_training.data import TaggedFolder, TaggedImage
    from plimseg_training.stages.stage1 import Encoders


_LOG_ZERO, _REVERSE_WEIGHT = -4.0, 0.25
"""Symmetric cross-entropy: what log(0) counts as, and the weight of the swapped term."""
MOST_DRAWN = 4.0
_LABEL_SHARE = 0.8
"""Bootstrapping: share of the label in the target."""


class PseudoMaskLoss(nn.Module):
    """Cross-entropy with pseudo masks, without ignored pixels.

    Parameters
    ----------
    form : {"cross_entropy", "symmetric", "bootstrap"}
        "symmetric" adds cross-entropy with the roles of label and prediction swapped (Wang et al.,
        ICCV 2019). "bootstrap" mixes each label with the prediction (Reed et al., 2015). Both
        tolerate wrong labels better.
    hard_pixels : {"none", "oeem"}
        "oeem" is online easy example mining (Li et al., MICCAI 2022): within an image, a pixel's
        weight grows with the network's agreement with its label, because labels that it can't
        learn are mostly wrong. Images of a single class are not weighted.
    """

    def __init__(self, hard_pixels: str = "none", form: str = "cross_entropy") -> None:
        super().__init__()
        self.hard_pixels, self.form = hard_pixels, form

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of logits (B, C, H, W) and targets (B, H, W), -1 where ignored."""
        known = targets != IGNORED
        if not bool(known.any()):
            return logits.sum() * 0
        logits = logits.float()
        each = F.cross_entropy(logits, targets.long(), ignore_index=IGNORED, reduction="none")
        if self.form != "cross_entropy":
            each = self._tolerant(each, logits, targets) * known
        if self.hard_pixels == "oeem":
            each = each * self._weights(each.detach(), targets, known)
        return each.sum() / known.sum()

    def _tolerant(self, each: Tensor, logits: Tensor, targets: Tensor) -> Tensor:
        labels = targets.long().clamp_min(0)[:, None]
        if self.form == "symmetric":
            right = logits.softmax(1).gather(1, labels)[:, 0]
            return each + _REVERSE_WEIGHT * -_LOG_ZERO * (1 - right)
        log_p = logits.log_softmax(1)
        own = -(log_p.detach().exp() * log_p).sum(1)
        return _LABEL_SHARE * each + (1 - _LABEL_SHARE) * own

    @staticmethod
    def _weights(each: Tensor, targets: Tensor, known: Tensor) -> Tensor:
        weights = torch.ones_like(each)
        for i, (loss, target, counted) in enumerate(zip(each, targets, known, strict=True)):
            if len(target[counted].unique()) > 1:
                share = (-loss[counted]).softmax(0)
                weights[i][counted] = share * len(share)
        return weights


def image_weights(folder: TaggedFolder) -> NDArray[np.float64]:
    """Return how often each image (N,) is drawn relative to those with the commonest tag.

    The rarest tag of an image decides: it counts as often as it is rarer, at most four times.
    """
    tagged = np.stack([image.tags.any(0) for image in folder.images])  # (N, C)
    counts = tagged.sum(0).clip(min=1)
    rarity = (counts.max() / counts).clip(max=MOST_DRAWN)
    found: NDArray[np.float64] = np.where(tagged, rarity, 1.0).max(1)
    return found


def drawn_images(
    weights: NDArray[np.float64], items: int, random: np.random.Generator
) -> NDArray[np.int64]:
    """Return the images of an epoch's items (items,), each as often as its weight says.

    Drawn systematically, so that no image is drawn twice more or less often than it should be.
    """
    order = random.permutation(len(weights))
    edges = weights[order].cumsum()
    places = (np.arange(items) + random.random()) / items * edges[-1]
    found: NDArray[np.int64] = order[np.searchsorted(edges, places, side="right")]
    return found


class Stage2Task(SegmentationTask):
    """Stage 2 as the training loop sees it.

    Parameters
    ----------
    recipe : Recipe
    folder : TaggedFolder
        Training images.
    validation : TaggedFolder or None
        Images with truth to validate on.
    encoders : Encoders
    targets : callable
        From a tagged image to its pseudo mask, class indices (H, W).
    name : str
        Name of the stage; each round of self-training has its own.
    """

    def __init__(
        self,
        recipe: Recipe,
        folder: TaggedFolder,
        validation: TaggedFolder | None,
        encoders: Encoders,
        targets: Callable[[TaggedImage], NDArray[np.int16]],
        name: str = "stage2",
    ) -> None:
        self.name = name
        self.recipe = recipe
        self.stage = recipe.stage2
        self.folder = folder
        self.validation = validation
        self.encoders = encoders
        self.targets = ArrayCache(targets)
        self.device = encoders.device
        self.blocks = encoders.blocks
        self.loss_masks = PseudoMaskLoss(recipe.stage2.hard_pixels, recipe.stage2.loss_form)
        self.source = SampleSource(
            folder.images,
            augment=recipe.stage2.augment,
            crop=recipe.stage2.crop,
            blocks=encoders.blocks,
            multiple=max(encoders.backbone.strides),
            read=ArrayCache(),
        )
        self._drawn = np.arange(len(folder.images))
        self._weights = (
            image_weights(folder) if recipe.stage2.balance else np.ones(len(self.source))
        )
        torch.manual_seed(recipe.seed + 1)
        model = recipe.model
        self.network = SegmentationNetwork(
            encoders.backbone, len(folder.classes), model.width, model.decoder
        ).to(self.device)

    def epoch_items(self, epoch: int) -> int:
        """Return the number of crops per epoch."""
        stage = self.stage
        if not stage.steps:
            return len(self.source)
        return -(-stage.steps * stage.batch_size * stage.accumulate // stage.epochs)

    def names(self, indices: Sequence[int]) -> list[str]:
        """Return the names of the images of the latest epoch's items, for messages."""
        return super().names([int(self._drawn[index]) for index in indices])

    def _images_of(self, seed: int, epoch: int) -> NDArray[np.int64]:
        """Return which image each item of an epoch is cropped from."""
        if not self.stage.steps and not self.stage.balance:
            return self._drawn
        self._drawn = drawn_images(
            self._weights, self.epoch_items(epoch), np.random.default_rng((seed, epoch))
        )
        return self._drawn

    def batch(self, seed: int, epoch: int, indices: Sequence[int]) -> tuple[Sample, ...]:
        """Return samples of some images in an epoch."""
        images = self._images_of(seed, epoch)
        return tuple(
            self.source.sample(
                int(images[index]),
                np.random.default_rng((seed, epoch, index)),
                self.targets(self.folder.images[images[index]]),
            )
            for index in indices
        )

    def loss(self, batch: Sequence[Sample]) -> tuple[Tensor, dict[str, float]]:
        """Return the mean loss over a batch, and its terms."""
        total, parts = torch.zeros((), device=self.device), {"masks": 0.0, "tags": 0.0}
        for samples in alike(batch):
            share = len(samples) / len(batch)
            coarse = self.network(samples)  # (B, C, h, w)
            targets = torch.stack([s.target for s in samples if s.target is not None])
            stride = self.network.head.stride
            logits = torch.stack([full_size(one, stride, samples[0].size) for one in coarse])
            masks = self.loss_masks(logits, targets.to(self.device))
            total = total + share * masks
            parts["masks"] += share * float(masks.detach())
            if self.recipe.stage2.tag_weight:
                tags = self.tag_loss(coarse, samples)
                total = total + share * self.recipe.stage2.tag_weight * tags
                parts["tags"] += share * float(tags.detach())
        return total, parts

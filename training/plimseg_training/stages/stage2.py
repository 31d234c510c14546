"""PLIMSeg stage 2: a segmentation network trained on pseudo masks and tags."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from plimseg_training.stages.common import SegmentationNetwork, SegmentationTask, full_size
from plimseg_training.stages.pseudo_masks import IGNORED
from plimseg_training.stages.samples import Sample, SampleSource, alike

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from plimseg_training.config import Recipe
    from plimseg_training.data import TaggedFolder, TaggedImage
    from plimseg_training.stages.stage1 import Encoders


class PseudoMaskLoss(nn.Module):
    """Cross-entropy with pseudo masks, without ignored pixels.

    Parameters
    ----------
    hard_pixels : {"none", "oeem"}
        "oeem" is online easy example mining (Li et al., MICCAI 2022): within an image, a pixel's
        weight grows with the network's agreement with its label, because labels that it can't
        learn are mostly wrong. Images of a single class are not weighted.
    """

    def __init__(self, hard_pixels: str = "none") -> None:
        super().__init__()
        self.hard_pixels = hard_pixels

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of logits (B, C, H, W) and targets (B, H, W), -1 where ignored."""
        known = targets != IGNORED
        if not bool(known.any()):
            return logits.sum() * 0
        each = F.cross_entropy(
            logits.float(), targets.long(), ignore_index=IGNORED, reduction="none"
        )
        if self.hard_pixels == "oeem":
            each = each * self._weights(each.detach(), targets, known)
        return each.sum() / known.sum()

    @staticmethod
    def _weights(each: Tensor, targets: Tensor, known: Tensor) -> Tensor:
        weights = torch.ones_like(each)
        for i, (loss, target, counted) in enumerate(zip(each, targets, known, strict=True)):
            if len(target[counted].unique()) > 1:
                share = (-loss[counted]).softmax(0)
                weights[i][counted] = share * len(share)
        return weights


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
        self.targets = targets
        self.device = encoders.device
        self.blocks = encoders.blocks
        self.loss_masks = PseudoMaskLoss(recipe.stage2.hard_pixels)
        self.source = SampleSource(
            folder.images,
            augment=recipe.stage2.augment,
            crop=recipe.stage2.crop,
            blocks=encoders.blocks,
            multiple=max(encoders.backbone.strides),
        )
        torch.manual_seed(recipe.seed + 1)
        self.network = SegmentationNetwork(
            encoders.backbone, len(folder.classes), recipe.model.width
        ).to(self.device)

    def batch(self, seed: int, epoch: int, indices: Sequence[int]) -> tuple[Sample, ...]:
        """Return samples of some images in an epoch."""
        return tuple(
            self.source.sample(
                index,
                np.random.default_rng((seed, epoch, index)),
                self.targets(self.folder.images[index]),
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

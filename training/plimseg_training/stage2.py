"""PLIMSeg stage 2: a segmentation network taught by pseudo masks, and still by tags."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_plimseg.models.seg_net import SegNet
from plimseg_training.losses import TagLoss
from plimseg_training.pseudo_masks import IGNORED
from plimseg_training.samples import Sample, SampleSource, alike
from plimseg_training.stage1 import full_size
from plimseg_training.stage_task import StageTask, encoded, score_of_logits
from plimseg_training.windows import WindowPooling

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from napari_plimseg.models.backbones import Backbone
    from plimseg_training.config import Recipe
    from plimseg_training.stage1 import Encoders
    from plimseg_training.tagged_folder import TaggedFolder, TaggedImage


class PseudoMaskLoss(nn.Module):
    """Cross-entropy with pseudo masks, ignored pixels left out.

    Parameters
    ----------
    hard_pixels : {"none", "oeem"}
        "oeem" is online easy example mining (Li et al., MICCAI 2022): within an image, a pixel
        weighs as much as the network already agrees with its label, since those that it can't
        learn are mostly wrong. Images of one class are left as they are.
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


class Stage2(nn.Module):
    """Image encoder and segmentation head: what stage 2 trains and the plugin runs.

    Parameters
    ----------
    backbone : Backbone
    classes : int
        Channels, background among them.
    width : int
    """

    def __init__(self, backbone: Backbone, classes: int, width: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = SegNet(backbone.block_channels, backbone.strides, classes, width)

    def forward(self, samples: Sequence[Sample]) -> Tensor:
        """Return logits (B, C, H, W) of samples of one size, on their own grid."""
        device = next(self.head.parameters()).device
        blocks = encoded(self.backbone, samples, device)
        logits: Tensor = self.head(blocks)
        return logits


class Stage2Task(StageTask):
    """Stage 2 as the training loop sees it.

    Parameters
    ----------
    recipe : Recipe
    folder : TaggedFolder
        To train on.
    validation : TaggedFolder or None
        To measure on, where it has truth.
    encoders : Encoders
    targets : callable
        From a tagged image to its pseudo mask, class indices (H, W).
    name : str
        Of the stage; rounds of self-training have their own.
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
        self.tissue = len(folder.classes.tissue_ids)
        self.loss_masks = PseudoMaskLoss(recipe.stage2.hard_pixels)
        self.loss_tags = TagLoss()
        self.source = SampleSource(
            folder.images,
            augment=recipe.stage2.augment,
            crop=recipe.stage2.crop,
            blocks=encoders.blocks,
            multiple=max(encoders.backbone.strides),
        )
        torch.manual_seed(recipe.seed + 1)
        self.network = Stage2(encoders.backbone, len(folder.classes), recipe.model.width).to(
            self.device
        )

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return what is trained, with learning rates."""
        return self.groups_of(self.network)

    def batch(self, seed: int, epoch: int, indices: Sequence[int]) -> tuple[Sample, ...]:
        """Return the samples of some images in an epoch."""
        return tuple(
            self.source.sample(
                index,
                np.random.default_rng((seed, epoch, index)),
                self.targets(self.folder.images[index]),
            )
            for index in indices
        )

    def loss(self, batch: Sequence[Sample]) -> tuple[Tensor, dict[str, float]]:
        """Return the mean loss of the batch's samples, and its parts."""
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
                tags = self._tag_loss(coarse, samples)
                total = total + share * self.recipe.stage2.tag_weight * tags
                parts["tags"] += share * float(tags.detach())
        return total, parts

    def _tag_loss(self, logits: Tensor, samples: Sequence[Sample]) -> Tensor:
        """Return how far windows' predictions are from their tags, by the smooth maximum."""
        losses = []
        for one, sample in zip(logits.float(), samples, strict=True):
            if not len(sample.windows):
                continue
            cells = (one.shape[1], one.shape[2])
            pooling = WindowPooling(sample.windows, cells, self.network.head.stride)
            pooled = pooling.to(self.device).smooth_max(log_odds(one)[: self.tissue])
            losses.append(self.loss_tags(pooled, torch.tensor(sample.tags).to(self.device)))
        return torch.stack(losses).mean() if losses else logits.sum() * 0

    @torch.inference_mode()
    def logits(self, image: TaggedImage) -> Tensor:
        """Return the logits (C, H, W) of a whole image, as the network is now."""
        self.network.eval()
        sample = SampleSource((image,), blocks=self.encoders.blocks).sample(
            0, np.random.default_rng(0)
        )
        coarse: Tensor = self.network([sample])[0]
        return full_size(coarse.float(), self.network.head.stride, image.size)

    def validate(self) -> dict[str, float]:
        """Return the agreement with the truth of the validation images."""
        if self.validation is None:
            return {}
        score = score_of_logits(self.validation, self.logits)
        if score is None:
            return {}
        return {"score": score.miou, "miou": score.miou, "dice": score.mean_dice}


def log_odds(logits: Tensor) -> Tensor:
    """Return each class's logit over all others together, (C, h, w) of (C, h, w)."""
    if len(logits) == 1:
        return logits
    rest = [torch.cat([logits[:k], logits[k + 1 :]]).logsumexp(0) for k in range(len(logits))]
    return logits - torch.stack(rest)

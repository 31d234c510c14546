"""PLIMSeg stage 1: a CAM network trained on tags, with CAMs constrained by texts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_plimseg.errors import ConfigError
from napari_plimseg.models import SMALLEST_SIDE, BundledMatcher, CamNet, load_backbone
from plimseg_training.stages.common import StageTask, encoded, full_size, score_of_logits
from plimseg_training.stages.features import (
    DerivedFeatureCache,
    FeatureCache,
    stride_of,
    whole_pixels,
)
from plimseg_training.stages.losses import TagLoss, calibrate
from plimseg_training.stages.matching import (
    RegionMatching,
    class_means,
    class_texts,
    other_texts,
    window_vectors,
)
from plimseg_training.stages.pseudo_masks import probabilities_of
from plimseg_training.stages.samples import Flip, Sample, SampleSource, alike
from plimseg_training.stages.window_pooling import WindowPooling

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_plimseg.models import Backbone, Matcher
    from plimseg_training.config import PseudoMaskConfig, Recipe, StageConfig
    from plimseg_training.data import TaggedFolder, TaggedImage


_CALIBRATION_IMAGES = 64
_COLOR_IMAGES = 8
HEAD_BLOCKS = 3
CAM_STRIDE = 16
"""CAMs use the last blocks only, on the coarsest grid up to this stride: a finer grid costs four
times as much and was no better on GlaS; a coarser one has too few cells per window."""


@dataclass(frozen=True)
class Encoders:
    """The pretrained networks of stage 1, and the caches of their features.

    Parameters
    ----------
    backbone : Backbone
    matcher : Matcher
    blocks : FeatureCache or None
        The blocks that stage 1 uses, if they are frozen and pixels do not change between epochs.
    matched : FeatureCache, DerivedFeatureCache or None
        Vectors of the matcher, if regions are masked in its features.
    device : torch.device
    """

    backbone: Backbone
    matcher: Matcher
    blocks: FeatureCache | None
    matched: FeatureCache | DerivedFeatureCache | None
    device: torch.device

    @classmethod
    def of(
        cls, backbone: Backbone, matcher: Matcher, recipe: Recipe, device: torch.device
    ) -> Encoders:
        """Move the networks to the device, and cache features where stage 1 allows it."""
        backbone.to(device)
        matcher.to(device)
        multiple = max(backbone.strides)
        first = 0 if _is_shared(recipe) else _first_block(backbone)
        blocks = _cached_features(backbone, recipe.model.train_blocks, recipe.stage1, device, first)
        matched: FeatureCache | DerivedFeatureCache | None = None
        if recipe.matching.space == "features" and recipe.matching.is_used:
            same_trunk = matcher.name == backbone.name
            if blocks is not None and same_trunk and isinstance(matcher, BundledMatcher):
                matched = DerivedFeatureCache(blocks, matcher.dense_of_blocks)
            else:
                matched = FeatureCache(lambda images: [matcher.dense(images)], device, multiple)
        return cls(backbone, matcher, blocks, matched, device)

    def after_stage1(self, recipe: Recipe) -> Encoders:
        """Return the same without features that only stage 1 uses: they take gigabytes."""
        return self if _is_shared(recipe) else replace(self, blocks=None, matched=None)

    def for_stage2(self, recipe: Recipe) -> Encoders:
        """Return the networks as stage 2 uses them, without the matcher's cache.

        An encoder of its own is loaded anew in every call, so that a further round starts from
        the pretrained weights.
        """
        model, stage = recipe.model, recipe.stage2
        if model.segmenter == "backbone":
            fresh = _cached_features(self.backbone, model.train_blocks, stage, self.device)
            reused = self.blocks if _is_shared(recipe) else None
            return Encoders(
                self.backbone, self.matcher, fresh and (reused or fresh), None, self.device
            )
        own = load_backbone(model.segmenter, seed=recipe.seed).to(self.device)
        blocks = _cached_features(own, model.segmenter_blocks, stage, self.device)
        return Encoders(own, self.matcher, blocks, None, self.device)


def _is_shared(recipe: Recipe) -> bool:
    """Whether both stages use the same frozen encoder, and so the same cached features."""
    return recipe.model.segmenter == "backbone" and recipe.model.train_blocks == "none"


def _first_block(backbone: Backbone) -> int:
    return max(0, len(backbone.strides) - HEAD_BLOCKS)


def _cached_features(
    backbone: Backbone, blocks: str, stage: StageConfig, device: torch.device, first: int = 0
) -> FeatureCache | None:
    """Unfreeze the backbone blocks that a stage trains; return a cache if there are none.

    Stain jitter changes the pixels in every epoch, so that caching features would be useless. Only
    the maps from block `first` on are kept.
    """
    backbone.set_trainable(blocks if stage.backbone_learning_rate else "none")
    if backbone.is_trainable or stage.augment == "full":
        return None
    return FeatureCache(lambda images: backbone(images)[first:], device, max(backbone.strides))


class Stage1(nn.Module):
    """Image encoder and CAM head: the network of stage 1.

    Parameters
    ----------
    backbone : Backbone
    prototypes : Tensor, shape (C, D)
    width : int
    learnt : int
        As in `CamNet`.
    """

    def __init__(self, backbone: Backbone, prototypes: Tensor, width: int, learnt: int = 0) -> None:
        super().__init__()
        self.backbone = backbone
        first = _first_block(backbone)
        strides = backbone.strides[first:]
        grid = max((stride for stride in strides if stride <= CAM_STRIDE), default=min(strides))
        self.head = CamNet(
            backbone.block_channels[first:], strides, prototypes, width, grid, learnt
        )

    def forward(self, blocks: Sequence[Tensor]) -> Tensor:
        """Return CAM logits (B, C, h, w) of the encoder's last blocks; finer ones are not used."""
        cams: Tensor = self.head(blocks[-len(self.head.strides) :])
        return cams

    def encoded(self, samples: Sequence[Sample]) -> list[Tensor]:
        """Return the blocks of samples of one size, computed or from the cache."""
        return encoded(self.backbone, samples, self.head.prototypes.device)


@dataclass(frozen=True)
class Stage1Batch:
    """The samples of a batch, and their epoch.

    Parameters
    ----------
    samples : tuple of Sample
    epoch : int
    random : Generator
        Random numbers for the loss.
    """

    samples: tuple[Sample, ...]
    epoch: int
    random: np.random.Generator


class Stage1Task(StageTask):
    """Stage 1 as the training loop sees it.

    Parameters
    ----------
    recipe : Recipe
    folder : TaggedFolder
        Training images; their truth is never used.
    validation : TaggedFolder or None
        Images with truth to validate on.
    encoders : Encoders
    """

    name = "stage1"

    def __init__(
        self,
        recipe: Recipe,
        folder: TaggedFolder,
        validation: TaggedFolder | None,
        encoders: Encoders,
    ) -> None:
        smallest = min(int(image.windows[:, 2:].min()) for image in folder.images)
        if recipe.stage1.crop and recipe.stage1.crop < smallest:
            raise ConfigError(
                f"the key 'stage1.crop' is {recipe.stage1.crop}, too small for any tagged window",
                remedy=f"Write {smallest} or more, or 0 for whole images.",
            )
        self.recipe = recipe
        self.stage = recipe.stage1
        self.folder = folder
        self.validation = validation
        self.encoders = encoders
        self.device = encoders.device
        self.tag_loss = TagLoss()
        self.source = SampleSource(
            folder.images,
            augment=recipe.stage1.augment,
            crop=recipe.stage1.crop,
            blocks=encoders.blocks,
            matched=encoders.matched,
            multiple=max(encoders.backbone.strides),
            with_pixels=recipe.matching.space == "image",
        )
        texts = class_texts(folder.classes, encoders.matcher).to(self.device)
        self.matching = self._matching(texts) if recipe.matching.is_used else None
        torch.manual_seed(recipe.seed)
        matching = recipe.matching
        learnt = matching.per_class if matching.prototypes == "learnt" else 0
        self.network = Stage1(encoders.backbone, texts, recipe.model.width, learnt).to(self.device)

    def _matching(self, texts: Tensor) -> RegionMatching:
        """Calibrate the matcher on the training windows and build the losses."""
        config, matcher, classes = self.recipe.matching, self.encoders.matcher, self.folder.classes
        vectors, tags = self._window_vectors(self.folder.images[:_CALIBRATION_IMAGES])
        if config.prototypes == "class_means":
            texts = class_means(vectors, tags)
        return RegionMatching(
            config,
            texts,
            other_texts(classes, matcher),
            calibrate(vectors, tags, texts),
            exclusive=not classes.has_background,
            matcher=matcher if config.space == "image" else None,
            fill=self._mean_color(),
        ).to(self.device)

    def _window_vectors(self, images: Sequence[TaggedImage]) -> tuple[Tensor, Tensor]:
        multiple = self.source.multiple
        maps = self.encoders.matched or FeatureCache(
            lambda pixels: [self.encoders.matcher.dense(pixels)], self.device, multiple, budget=0
        )
        matched = [maps.of(image)[0] for image in images]
        pooled = [
            WindowPooling(
                image.windows,
                (found.shape[1], found.shape[2]),
                stride_of(image.size, found, multiple),
            ).to(self.device)
            for image, found in zip(images, matched, strict=True)
        ]
        tags = np.concatenate([image.tags for image in images])
        return window_vectors(matched, pooled), torch.from_numpy(tags).to(self.device)

    def _mean_color(self) -> Tensor:
        """Return the mean RGB of some images, (3,), to fill masked pixels with."""
        images = self.folder.images[:: max(1, len(self.folder.images) // _COLOR_IMAGES)]
        means = [whole_pixels(image).mean((1, 2)) for image in images]
        return torch.stack(means).mean(0)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the parameter groups, with learning rates."""
        return self.groups_of(self.network)

    def batch(self, seed: int, epoch: int, indices: Sequence[int]) -> Stage1Batch:
        """Return samples of some images in an epoch."""
        samples = tuple(
            self.source.sample(index, np.random.default_rng((seed, epoch, index)))
            for index in indices
        )
        return Stage1Batch(samples, epoch, np.random.default_rng((seed, epoch, *indices)))

    def loss(self, batch: Stage1Batch) -> tuple[Tensor, dict[str, float]]:
        """Return the mean loss over a batch, and its terms."""
        matching = self.recipe.matching
        matches = matching.is_used and batch.epoch >= matching.warm_up_epochs
        parts: dict[str, float] = {}
        total = torch.zeros((), device=self.device)
        for samples in alike(batch.samples):
            blocks = self.network.encoded(samples)
            cams = self.network(blocks)  # (B, C, h, w)
            for sample, cam in zip(samples, cams.float(), strict=True):
                pooling = self._pooling(sample, cam)
                pooled = pooling.pool(cam, self.recipe.model.pooling)  # (N, C)
                tags = torch.tensor(sample.tags).to(self.device)
                found = {"tags": self.tag_loss(pooled, tags)}
                loss = found["tags"]
                if matches and self.matching is not None:
                    matched, each = self.matching(cam, sample, pooling, batch.random)
                    loss = loss + matched
                    found |= each
                total = total + loss / len(batch.samples)
                for name, part in found.items():
                    share = float(part.detach()) / len(batch.samples)
                    parts[name] = parts.get(name, 0.0) + share
        if matching.prototypes == "learnt":
            likeness = self.network.head.likeness()
            total = total + matching.diversity * likeness
            parts["diversity"] = float(likeness.detach())
        return total, parts

    def _pooling(self, sample: Sample, cam: Tensor) -> WindowPooling:
        cells = (cam.shape[1], cam.shape[2])
        return WindowPooling(sample.windows, cells, self.network.head.stride).to(self.device)

    @torch.inference_mode()
    def cams(self, image: TaggedImage) -> Tensor:
        """Return the current network's CAM logits (C, h, w) of a whole image."""
        self.network.eval()
        source = SampleSource((image,), blocks=self.encoders.blocks)
        blocks = self.network.encoded([source.sample(0, np.random.default_rng(0))])
        cams: Tensor = self.network(blocks)[0]
        return cams

    @torch.inference_mode()
    def averaged_cams(self, image: TaggedImage, scales: Sequence[float], *, flips: bool) -> Tensor:
        """Return CAM logits at the image's full size, averaged over scales and flips.

        Parameters
        ----------
        image : TaggedImage
        scales : sequence of float
            Relative image sizes; 1 is the original.
        flips : bool
            Whether to average over horizontal, vertical and combined flips too.

        Returns
        -------
        Tensor, shape (C, H, W)
        """
        self.network.eval()
        stride, found = self.network.head.stride, []
        for scale in scales:
            size = [max(SMALLEST_SIDE, round(side * scale)) for side in image.size]
            for flip in dict.fromkeys(Flip(r, c) for r in (False, flips) for c in (False, flips)):
                cams = flip.maps(self.network(self._flipped_blocks(image, size, flip)))
                cams = full_size(cams[0].float(), stride, size)
                found.append(F.interpolate(cams[None], image.size, mode="bilinear")[0])
        return torch.stack(found).mean(0)

    def label_scores(self, image: TaggedImage, config: PseudoMaskConfig) -> Tensor:
        """Return the scores (C, H, W) in [0, 1] that a pseudo mask is made of."""
        cams = self.averaged_cams(image, config.scales, flips=config.flips)
        return probabilities_of(cams, exclusive=not self.folder.classes.has_background)

    def _flipped_blocks(self, image: TaggedImage, size: Sequence[int], flip: Flip) -> list[Tensor]:
        """Return the encoder's blocks of a flipped image at a size, from the cache if possible."""
        cache = self.encoders.blocks
        if cache is not None and tuple(size) == image.size:
            return [flip.maps(maps)[None] for maps in cache.of(image)]
        pixels = whole_pixels(image).to(self.device)[None]
        if tuple(size) != image.size:
            pixels = F.interpolate(pixels, tuple(size), mode="bilinear", antialias=True)
        multiple = max(self.encoders.backbone.strides)
        pad = (0, -size[1] % multiple, 0, -size[0] % multiple)
        # padded before it is flipped, so that flipping the maps back undoes it exactly
        pixels = F.pad(pixels, pad, mode="reflect")
        blocks: list[Tensor] = self.network.backbone(flip.maps(pixels))
        return blocks

    def validate(self) -> dict[str, float]:
        """Return the scores of the CAMs, without tags, on validation images that have truth."""
        if self.validation is None:
            return {}
        stride = self.network.head.stride
        score = score_of_logits(
            self.validation,
            lambda image: full_size(self.cams(image).float(), stride, image.size),
        )
        if score is None:
            return {}
        return {"score": score.miou, "cam_miou": score.miou, "cam_dice": score.mean_dice}

"""The fast student: a small network that learns what the trained one predicts."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_plimseg.errors import ConfigError, ModelError
from napari_plimseg.models.backbone_small import SMALL, fresh_small_backbone
from napari_plimseg.models.model_file import load_model_file
from napari_plimseg.models.seg_model import BACKBONE, MASK_STRIDE
from napari_plimseg.models.weights import check_weights
from plimseg_training.features import FrozenMaps
from plimseg_training.pictures import IMAGE_SUFFIXES, read_rgb
from plimseg_training.predict import predict_maps
from plimseg_training.samples import Sample, SampleSource, alike
from plimseg_training.stage_task import SegmentationNetwork, SegmentationTask, full_size
from plimseg_training.tagged_folder import TaggedImage

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor

    from napari_plimseg.models.backbone_small import SmallBackbone
    from napari_plimseg.models.seg_model import SegModel
    from plimseg_training.config import Recipe
    from plimseg_training.tagged_folder import TaggedFolder

STUDENT_WIDTH = 48
"""Of the student's head."""
_LEAST = -20.0
"""Log probability of what the teacher excludes."""
_SMALLEST_SIDE = 32


def soft_loss(logits: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return `T^2 KL(p_T || q_T)`, the mean over places (Hinton et al. 2015).

    Parameters
    ----------
    logits : Tensor, shape (B, C, h, w)
        Of the student.
    teacher : Tensor, shape (B, C, h, w)
        Log probabilities.
    temperature : float
        T: both are divided by it before they are made probabilities again.
    """
    wanted = (teacher.float() / temperature).log_softmax(1)
    found = (logits.float() / temperature).log_softmax(1)
    return temperature**2 * (wanted.exp() * (wanted - found)).sum(1).mean()


class DistillTask(SegmentationTask):
    """The student as the training loop sees it.

    It is taught by what the teacher makes of an image as the plugin would show it, computed once
    an image; only the student sees changed stains.

    Parameters
    ----------
    recipe : Recipe
    folder : TaggedFolder
        To train on.
    validation : TaggedFolder or None
        To measure on, where it has truth.
    teacher : SegModel
        On `device`.
    device : torch.device
    """

    name = "distill"

    def __init__(
        self,
        recipe: Recipe,
        folder: TaggedFolder,
        validation: TaggedFolder | None,
        teacher: SegModel,
        device: torch.device,
    ) -> None:
        self.config = recipe.distill
        self.stage = recipe.distill.stage()
        self.folder = folder
        self.validation = validation
        self.device = device
        further = untagged_images(self.config.unlabelled, len(folder.classes.tissue_ids))
        backbone = started_backbone(self.config.start, recipe.seed)
        self.source = SampleSource(
            (*folder.images, *further),
            augment=self.stage.augment,
            crop=self.stage.crop,
            matched=teacher_maps(teacher, max(backbone.strides), device),
            multiple=max(backbone.strides),
            with_pixels=True,
        )
        torch.manual_seed(recipe.seed + 2)
        self.network = SegmentationNetwork(backbone, len(folder.classes), STUDENT_WIDTH).to(device)

    def digest(self) -> str:
        """Return a digest of the images without tags and of the start: others make another run."""
        digest = hashlib.sha256()
        for image in self.source.images[len(self.folder.images) :]:
            digest.update(f"{image.path.name} {image.size}".encode())
        if self.config.start is not None:
            digest.update(self.config.start.read_bytes())
        return digest.hexdigest()

    def batch(self, seed: int, epoch: int, indices: Sequence[int]) -> tuple[Sample, ...]:
        """Return the samples of some images in an epoch; those without tags have no windows."""
        samples = []
        for index in indices:
            random = np.random.default_rng((seed, epoch, index))
            sample = self.source.sample(index, random)
            if index >= len(self.folder.images):
                sample = replace(sample, windows=sample.windows[:0], tags=sample.tags[:0])
            samples.append(sample)
        return tuple(samples)

    def loss(self, batch: Sequence[Sample]) -> tuple[Tensor, dict[str, float]]:
        """Return the mean loss of the batch's samples, and its parts."""
        total, parts = torch.zeros((), device=self.device), {"soft": 0.0, "tags": 0.0}
        for samples in alike(batch):
            share = len(samples) / len(batch)
            coarse = self.network(samples)  # (B, C, h, w)
            wanted = torch.stack([s.matched for s in samples if s.matched is not None])
            factor = self.network.head.stride // MASK_STRIDE
            size = wanted.shape[2:]
            logits = torch.stack([full_size(one, factor, size) for one in coarse])
            soft = soft_loss(logits, wanted.to(self.device), self.config.temperature)
            total = total + share * soft
            parts["soft"] += share * float(soft.detach())
            if self.config.tag_weight:
                tags = self.tag_loss(coarse, samples)
                total = total + share * self.config.tag_weight * tags
                parts["tags"] += share * float(tags.detach())
        return total, parts


def teacher_maps(teacher: SegModel, multiple: int, device: torch.device) -> FrozenMaps:
    """Return the teacher's log probabilities (C, H / 4, W / 4) of images, remembered."""

    def compute(images: Tensor) -> list[Tensor]:
        pixels = (images[0] * 255).round().byte().movedim(0, -1).cpu().numpy()
        maps, _ = predict_maps(teacher, pixels, None, device=device)
        return [torch.from_numpy(maps.maps)[None].log().clamp_min(_LEAST)]

    return FrozenMaps(compute, device, multiple)


def started_backbone(start: Path | None, seed: int) -> SmallBackbone:
    """Return the student's encoder, all of it trainable, with weights drawn or of a model file.

    Raises
    ------
    ModelError
        When the file can't be read or holds another network.
    """
    backbone = fresh_small_backbone(seed)
    if start is None:
        return backbone
    header, tensors = load_model_file(start)
    if header.network.get("backbone") != backbone.spec:
        raise ModelError(
            f"its encoder is no '{SMALL}' one that a student could begin with",
            path=start,
            remedy="Give the fast.safetensors of another training, or leave distill.start out.",
        )
    state = {
        name.removeprefix(BACKBONE): tensor.float()
        for name, tensor in tensors.items()
        if name.startswith(BACKBONE)
    }
    check_weights(state, backbone.state_dict(), path=start)
    backbone.load_state_dict(state)
    return backbone


def untagged_images(folders: Sequence[Path], tissue: int) -> tuple[TaggedImage, ...]:
    """Return the images of folders and their sub-folders, none of them tagged.

    Parameters
    ----------
    folders : sequence of Path
    tissue : int
        How many classes there are to tag.

    Raises
    ------
    ConfigError
        When a folder is missing or holds no image.
    TagError
        When an image can't be read.
    """
    found = []
    for folder in folders:
        paths = sorted(
            path
            for path in folder.rglob("*")
            if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
        )
        if not paths:
            raise ConfigError(
                "the key 'distill.unlabelled' names a folder without images",
                path=folder,
                remedy="Give a folder of PNG, JPEG, BMP, TIFF or WebP images.",
            )
        for path in paths:
            height, width = read_rgb(path).shape[:2]
            if min(height, width) < _SMALLEST_SIDE:
                continue
            window = np.array([[0, 0, height, width]], np.int32)
            tags = np.zeros((1, tissue), np.uint8)
            name = path.relative_to(folder).as_posix()
            found.append(TaggedImage(path, (height, width), window, tags, name, given_name=name))
    return tuple(found)

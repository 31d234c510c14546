"""The fast student: a small network trained on the predictions of the large one."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional as F

from napari_plimseg.errors import ConfigError, ModelError
from napari_plimseg.models import (
    BACKBONE,
    SMALL,
    check_weights,
    fresh_small_backbone,
    load_model_file,
)
from plimseg_training.data import IMAGE_SUFFIXES, TaggedImage, read_rgb
from plimseg_training.stages.common import SegmentationNetwork, SegmentationTask
from plimseg_training.stages.samples import Sample, SampleSource, alike

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor

    from napari_plimseg.models import SmallBackbone
    from plimseg_training.config import Recipe
    from plimseg_training.data import TaggedFolder


STUDENT_WIDTH = 48
"""Channels of the student's head."""
_SMALLEST_SIDE = 32


def soft_loss(logits: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return `T^2 KL(p_T || q_T)`, averaged over pixels (Hinton et al. 2015).

    Parameters
    ----------
    logits : Tensor, shape (B, C, h, w)
        Logits of the student.
    teacher : Tensor, shape (B, C, h, w)
        Log probabilities of the teacher.
    temperature : float
        T: both are divided by it before the softmax. The factor T^2 keeps the size of the
        gradient the same for any T.
    """
    wanted = (teacher.float() / temperature).log_softmax(1)
    found = (logits.float() / temperature).log_softmax(1)
    return temperature**2 * (wanted.exp() * (wanted - found)).sum(1).mean()


class DistillTask(SegmentationTask):
    """The student as the training loop sees it.

    The teacher predicts every image once, unchanged; only the student sees stain jitter, and so
    learns to ignore it.

    Parameters
    ----------
    recipe : Recipe
    folder : TaggedFolder
        Training images.
    validation : TaggedFolder or None
        Images with truth to validate on.
    teacher : SegmentationTask
        With its trained network.
    """

    name = "distill"

    def __init__(
        self,
        recipe: Recipe,
        folder: TaggedFolder,
        validation: TaggedFolder | None,
        teacher: SegmentationTask,
    ) -> None:
        self.config = recipe.distill
        self.stage = recipe.distill.stage()
        self.folder = folder
        self.validation = validation
        self.device = teacher.device
        further = untagged_images(self.config.unlabelled, len(folder.classes.tissue_ids))
        backbone = started_backbone(self.config.start, recipe.seed)
        self.source = SampleSource(
            (*folder.images, *further),
            augment=self.stage.augment,
            crop=self.stage.crop,
            matched=TeacherMaps(teacher, max(backbone.strides)),
            multiple=max(backbone.strides),
            with_pixels=True,
        )
        torch.manual_seed(recipe.seed + 2)
        self.network = SegmentationNetwork(backbone, len(folder.classes), STUDENT_WIDTH).to(
            self.device
        )

    def digest(self) -> str:
        """Return a digest of the untagged images and the initial weights, which define the run."""
        digest = hashlib.sha256()
        for image in self.source.images[len(self.folder.images) :]:
            digest.update(f"{image.path.name} {image.size}".encode())
        if self.config.start is not None:
            digest.update(self.config.start.read_bytes())
        return digest.hexdigest()

    def batch(self, seed: int, epoch: int, indices: Sequence[int]) -> tuple[Sample, ...]:
        """Return samples of some images in an epoch; untagged images have no windows."""
        samples = []
        for index in indices:
            random = np.random.default_rng((seed, epoch, index))
            sample = self.source.sample(index, random)
            if index >= len(self.folder.images):
                sample = replace(sample, windows=sample.windows[:0], tags=sample.tags[:0])
            samples.append(sample)
        return tuple(samples)

    def loss(self, batch: Sequence[Sample]) -> tuple[Tensor, dict[str, float]]:
        """Return the mean loss over a batch, and its terms."""
        total, parts = torch.zeros((), device=self.device), {"soft": 0.0, "tags": 0.0}
        for samples in alike(batch):
            share = len(samples) / len(batch)
            coarse = self.network(samples)  # (B, C, h, w)
            wanted = torch.stack([s.matched for s in samples if s.matched is not None])
            logits = F.interpolate(coarse, wanted.shape[2:], mode="bilinear")
            soft = soft_loss(logits, wanted.to(self.device), self.config.temperature)
            total = total + share * soft
            parts["soft"] += share * float(soft.detach())
            if self.config.tag_weight:
                tags = self.tag_loss(coarse, samples)
                total = total + share * self.config.tag_weight * tags
                parts["tags"] += share * float(tags.detach())
        return total, parts


class TeacherMaps:
    """Cached predictions of a trained network for whole images.

    Parameters
    ----------
    teacher : SegmentationTask
        With its trained network.
    multiple : int
        Maps are padded to a multiple of this many pixels by repeating their border.
    """

    def __init__(self, teacher: SegmentationTask, multiple: int) -> None:
        self._teacher = teacher
        self._multiple = multiple
        self._known: dict[str, Tensor] = {}
        self._lock = threading.Lock()

    def of(self, image: TaggedImage) -> list[Tensor]:
        """Return a list of one map: log probabilities (C, h, w) at the teacher's stride."""
        key = str(image.path)
        # prefetching threads share the network
        with self._lock:
            if key not in self._known:
                found = self._teacher.coarse_logits(image).log_softmax(0)
                stride = self._teacher.network.head.stride
                height, width = (-(-s // self._multiple) * self._multiple for s in image.size)
                lacking = (
                    -(-width // stride) - found.shape[2],
                    -(-height // stride) - found.shape[1],
                )
                padded = F.pad(found[None], (0, lacking[0], 0, lacking[1]), mode="replicate")[0]
                self._known[key] = padded.half().cpu()
            return [self._known[key].float()]


def started_backbone(start: Path | None, seed: int) -> SmallBackbone:
    """Return the student's encoder, fully trainable, with random weights or those of a model file.

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
            f"its encoder is not of the kind '{SMALL}', so a student can't start from it",
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
    """Return the images of folders and their subfolders, without tags.

    Parameters
    ----------
    folders : sequence of Path
    tissue : int
        Number of classes that can be tagged.

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

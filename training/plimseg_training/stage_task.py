"""What both stages are to the training loop, and how both are measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from plimseg_training.metrics import Score, confusion_matrix
from plimseg_training.tagged_folder import read_truth

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from torch import Tensor, nn

    from napari_plimseg.models.backbones import Backbone
    from plimseg_training.config import StageConfig
    from plimseg_training.samples import Sample, SampleSource
    from plimseg_training.tagged_folder import TaggedFolder, TaggedImage


class StageNetwork(Protocol):
    """An image encoder and a head on it."""

    @property
    def backbone(self) -> Backbone:
        """The image encoder."""

    @property
    def head(self) -> nn.Module:
        """What is trained in any case."""


class StageTask:
    """What is alike in the tasks of both stages: their items are the images of a folder.

    Attributes
    ----------
    folder : TaggedFolder
    source : SampleSource
        Of the folder's images.
    stage : StageConfig
        Of this stage.
    """

    folder: TaggedFolder
    source: SampleSource
    stage: StageConfig

    def groups_of(self, network: StageNetwork) -> list[dict[str, Any]]:
        """Return what is trained of a network, with learning rates."""
        groups = [{"params": list(network.head.parameters()), "lr": self.stage.learning_rate}]
        return groups + network.backbone.parameter_groups(self.stage.backbone_learning_rate)

    def epoch_items(self, epoch: int) -> int:
        """Return how many images an epoch has."""
        return len(self.source)

    def names(self, indices: Sequence[int]) -> list[str]:
        """Return the names of images, for messages."""
        return [self.folder.images[index].name for index in indices]


def encoded(backbone: Backbone, samples: Sequence[Sample], device: torch.device) -> list[Tensor]:
    """Return the encoder's blocks of samples of one size, computed or remembered."""
    if samples[0].blocks:
        return [torch.stack(maps) for maps in zip(*(s.blocks for s in samples), strict=True)]
    pixels = torch.stack([s.pixels for s in samples if s.pixels is not None])
    blocks: list[Tensor] = backbone(pixels.to(device))
    return blocks


def score_of_logits(folder: TaggedFolder, logits: Callable[[TaggedImage], Tensor]) -> Score | None:
    """Return how the strongest class agrees with truth, pooled over images; None without truth.

    Parameters
    ----------
    folder : TaggedFolder
    logits : callable
        From an image to class logits (C or more, H, W); tissue classes come first.
    """
    classes = len(folder.classes.tissue_ids)
    confusion: NDArray[np.int64] = np.zeros((classes, classes), np.int64)
    for image in folder.images:
        if image.truth is not None:
            truth = read_truth(image, folder)
            truth[truth > classes] = 0
            mask = logits(image)[:classes].argmax(0).cpu().numpy().astype(np.uint8)
            confusion += confusion_matrix(truth, mask + 1, classes)
    if not confusion.any():
        return None
    return Score(confusion, folder.classes.names[:classes], tuple(range(classes)))

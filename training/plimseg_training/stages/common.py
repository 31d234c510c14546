"""What the tasks of all stages share: parameter groups, tag losses and validation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from napari_plimseg.models import PYRAMID_WIDTH, SMALLEST_SIDE, log_odds, segmentation_head
from plimseg_training.data import read_truth
from plimseg_training.evaluation import Score, confusion_matrix
from plimseg_training.stages.features import whole_pixels
from plimseg_training.stages.losses import TagLoss
from plimseg_training.stages.samples import Flip, SampleSource
from plimseg_training.stages.window_pooling import WindowPooling

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from napari_plimseg.models import Backbone
    from plimseg_training.config import StageConfig
    from plimseg_training.data import TaggedFolder, TaggedImage
    from plimseg_training.stages.features import FeatureCache
    from plimseg_training.stages.samples import Sample


class StageNetwork(Protocol):
    """An image encoder and a head on it."""

    @property
    def backbone(self) -> Backbone:
        """The image encoder."""

    @property
    def head(self) -> nn.Module:
        """The part that is always trained."""


class StageTask:
    """Base of the tasks of all stages, whose items are the images of a folder.

    Attributes
    ----------
    folder : TaggedFolder
    source : SampleSource
        Makes samples of the folder's images.
    stage : StageConfig
        Settings of this stage.
    """

    folder: TaggedFolder
    source: SampleSource
    stage: StageConfig

    def groups_of(self, network: StageNetwork) -> list[dict[str, Any]]:
        """Return the parameter groups of a network, with learning rates."""
        groups = [{"params": list(network.head.parameters()), "lr": self.stage.learning_rate}]
        return groups + network.backbone.parameter_groups(self.stage.backbone_learning_rate)

    def epoch_items(self, epoch: int) -> int:
        """Return the number of images per epoch."""
        return len(self.source)

    def names(self, indices: Sequence[int]) -> list[str]:
        """Return the names of images, for messages."""
        return [self.source.images[index].name for index in indices]


class SegmentationNetwork(nn.Module):
    """Image encoder and segmentation head: the network that the plugin runs.

    Parameters
    ----------
    backbone : Backbone
    classes : int
        Number of classes, including background.
    width : int
        Channels of the head; a pyramid always has its own number.
    decoder : str
        Kind of head, as in `ModelConfig`.
    """

    def __init__(
        self, backbone: Backbone, classes: int, width: int, decoder: str = "context"
    ) -> None:
        super().__init__()
        self.backbone = backbone
        own = PYRAMID_WIDTH if decoder == "pyramid" else width
        self.head = segmentation_head(decoder, backbone, classes, own)

    def forward(self, samples: Sequence[Sample]) -> Tensor:
        """Return logits (B, C, h, w) of samples of one size, on the head's grid."""
        device = next(self.head.parameters()).device
        blocks = encoded(self.backbone, samples, device)
        logits: Tensor = self.head(blocks)
        return logits


class SegmentationTask(StageTask):
    """Base of the tasks that train a segmentation network: tags, logits and scores.

    Attributes
    ----------
    network : SegmentationNetwork
    validation : TaggedFolder or None
        Images with truth to validate on.
    device : torch.device
    blocks : FeatureCache or None
        Cached features of a frozen encoder.
    """

    network: SegmentationNetwork
    validation: TaggedFolder | None
    device: torch.device
    blocks: FeatureCache | None = None

    @property
    def tissue(self) -> int:
        """Number of classes that can be tagged."""
        return len(self.folder.classes.tissue_ids)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the parameter groups, with learning rates."""
        return self.groups_of(self.network)

    def tag_loss(self, logits: Tensor, samples: Sequence[Sample]) -> Tensor:
        """Return the tag loss of the samples' windows, given logits (B, C, h, w)."""
        loss, losses = TagLoss(), []
        for one, sample in zip(logits.float(), samples, strict=True):
            if len(sample.windows):
                tags = torch.tensor(sample.tags).to(self.device)
                losses.append(loss(self.window_scores(one, sample.windows), tags))
        return torch.stack(losses).mean() if losses else logits.sum() * 0

    def window_scores(self, logits: Tensor, windows: NDArray[np.int32]) -> Tensor:
        """Return the smooth maximum of the log-odds (C, h, w) over windows, (N, tissue classes)."""
        pooling = WindowPooling(
            windows, (logits.shape[1], logits.shape[2]), self.network.head.stride
        )
        return pooling.to(self.device).smooth_max(log_odds(logits)[: self.tissue])

    @torch.inference_mode()
    def coarse_logits(self, image: TaggedImage) -> Tensor:
        """Return the current network's logits (C, h, w) of a whole image."""
        self.network.eval()
        source = SampleSource((image,), blocks=self.blocks)
        coarse: Tensor = self.network([source.sample(0, np.random.default_rng(0))])[0]
        return coarse.float()

    def logits(self, image: TaggedImage) -> Tensor:
        """Return the logits (C, H, W) of a whole image at its full size."""
        return full_size(self.coarse_logits(image), self.network.head.stride, image.size)

    @torch.inference_mode()
    def turned_probabilities(self, image: TaggedImage) -> Tensor:
        """Return probabilities (C, H, W) of an image, the mean over its eight turned views."""
        self.network.eval()
        network = self.network

        def predicted(pixels: Tensor) -> Tensor:
            logits = network.head(network.backbone(pixels))[0].float()
            return full_size(logits, network.head.stride, pixels.shape[2:]).softmax(0)

        return mean_of_views(image, predicted, max(network.backbone.strides), self.device)

    def validate(self) -> dict[str, float]:
        """Return the scores on the validation images that have truth."""
        if self.validation is None:
            return {}
        score = score_of_logits(self.validation, self.logits)
        if score is None:
            return {}
        return {"score": score.miou, "miou": score.miou, "dice": score.mean_dice}


@torch.inference_mode()
def mean_of_views(
    image: TaggedImage,
    predicted: Callable[[Tensor], Tensor],
    multiple: int,
    device: torch.device,
    *,
    scales: Sequence[float] = (1.0,),
    turns: bool = True,
) -> Tensor:
    """Return predictions (C, H, W) of an image, the mean over its turned views.

    Parameters
    ----------
    image : TaggedImage
    predicted : callable
        From pixels (1, 3, h, w) in [0, 1] to (C, h, w).
    multiple : int
        Images are padded to a multiple of this many pixels.
    device : torch.device
    scales : sequence of float
        Relative image sizes to average over; 1 is the original.
    turns : bool
        Whether to average over the eight flips and quarter turns.
    """
    pixels = whole_pixels(image).to(device)[None]
    found = []
    for scale in scales:
        height, width = (max(SMALLEST_SIDE, round(side * scale)) for side in image.size)
        resized = pixels
        if (height, width) != image.size:
            resized = F.interpolate(pixels, (height, width), mode="bilinear", antialias=True)
        # padded before it is turned, so that turning the maps back undoes it exactly
        padded = F.pad(resized, (0, -width % multiple, 0, -height % multiple), mode="reflect")
        for number in range(8 if turns else 1):
            flip = Flip(*(bool(number >> bit & 1) for bit in range(3)))
            one = flip.undone(predicted(flip.maps(padded)))[:, :height, :width]
            if (height, width) != image.size:
                one = F.interpolate(one[None], image.size, mode="bilinear")[0]
            found.append(one)
    return torch.stack(found).mean(0)


def encoded(backbone: Backbone, samples: Sequence[Sample], device: torch.device) -> list[Tensor]:
    """Return the encoder's blocks of samples of one size, computed or from the cache."""
    if samples[0].blocks:
        return [torch.stack(maps) for maps in zip(*(s.blocks for s in samples), strict=True)]
    pixels = torch.stack([s.pixels for s in samples if s.pixels is not None])
    blocks: list[Tensor] = backbone(pixels.to(device))
    return blocks


def score_of_logits(folder: TaggedFolder, logits: Callable[[TaggedImage], Tensor]) -> Score | None:
    """Return the score of the strongest class, pooled over images; None without truth.

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


def full_size(logits: Tensor, stride: int, size: Sequence[int]) -> Tensor:
    """Return logits (C, h, w) interpolated to the image's full size, (C, H, W)."""
    full = F.interpolate(logits[None], scale_factor=stride, mode="bilinear", align_corners=False)
    return full[0, :, : size[0], : size[1]]

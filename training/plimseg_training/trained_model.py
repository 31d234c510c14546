"""A trained network as the plugin runs it: scores and model file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_plimseg.files import write_json
from napari_plimseg.models.segmentation.seg_model import (
    SegModel,
    save_segmentation_model,
    segmentation_header,
    windows_for,
)
from plimseg_training.evaluation.scoring import evaluate
from plimseg_training.stages.class_gate import gated_logits

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import torch
    from numpy.typing import NDArray

    from napari_plimseg.models.class_gate import ClassGate
    from plimseg_training.data.datasets import TrainingData
    from plimseg_training.data.tagged_folder import TaggedImage
    from plimseg_training.stages.common import SegmentationTask


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """A trained network with everything needed to write its model file.

    Parameters
    ----------
    title : str
        Title in the list of models.
    task : SegmentationTask
        With its trained network.
    data : TrainingData
        Its training data.
    width : int
        Channels of its head.
    backbone_inside : bool
        Whether to store the encoder's weights in the file, as is necessary if they were trained.
    gate : ClassGate or None
    """

    title: str
    task: SegmentationTask
    data: TrainingData
    width: int
    backbone_inside: bool
    gate: ClassGate | None = None

    def model(self) -> SegModel:
        """Return the network as the plugin runs it, in windows."""
        network = self.task.network
        return SegModel(
            network.backbone,
            network.head,
            self.data.train.classes,
            name=self.title,
            mpp=self.data.mpp,
            **self._shared(),
        )

    def mask_ids(self, image: TaggedImage) -> NDArray[np.uint8]:
        """Return the mask (H, W) of a whole image."""
        logits = gated_logits(self.task, self.gate, image, self.data.mpp)
        return (logits.argmax(0).cpu().numpy() + 1).astype(np.uint8)

    def measured(self, path: Path, device: torch.device) -> dict[str, float]:
        """Return the scores on the validation part in percent; empty without truth.

        Parameters
        ----------
        path : Path
            JSON file for the whole evaluation.
        device : torch.device
        """
        validation = self.data.validation
        if validation is None or not any(image.truth for image in validation.images):
            return {}
        classes = validation.classes
        protocol = "oeem" if len(classes) == 2 and not classes.has_background else "A"
        found = evaluate(self.model(), validation, protocol=protocol, device=str(device))
        write_json(path, found.to_dict())
        score, title = found.results[0].score, found.results[0].title
        return {
            f"mIoU ({title})": round(100 * score.miou, 2),
            f"mean Dice ({title})": round(100 * score.mean_dice, 2),
        }

    def save(self, path: Path, scores: Mapping[str, float]) -> None:
        """Write the model file.

        Parameters
        ----------
        path : Path
        scores : mapping of str to float
            Scores in percent by name.
        """
        network, train = self.task.network, self.data.train
        header = segmentation_header(
            network.backbone,
            train.classes,
            width=self.width,
            mpp=self.data.mpp,
            patch_size=int(train.images[0].windows[0, 2]),
            backbone_inside=self.backbone_inside,
            title=self.title,
            license="research use; as the training images and the encoder allow",
            scores=scores,
            training_sha256=train.digest(),
            **self._shared(),
        )
        save_segmentation_model(path, header, network.backbone, network.head)

    def _shared(self) -> dict[str, Any]:
        window, step = windows_for(self.task.network.backbone)
        return {"window": window, "step": step, "gate": self.gate}

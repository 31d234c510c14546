"""The class gate of a trained network, with thresholds chosen from the training windows' tags."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_plimseg.models import ALWAYS, ClassGate, gated
from plimseg_training.stages.common import full_size

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from plimseg_training.config import GateConfig
    from plimseg_training.data import TaggedImage
    from plimseg_training.stages.common import SegmentationTask


def fitted_gate(config: GateConfig, task: SegmentationTask, mpp: float) -> ClassGate | None:
    """Return the gate that a recipe asks for, if any.

    Parameters
    ----------
    config : GateConfig
    task : SegmentationTask
        With its trained network; the tags of its training images set the thresholds.
    mpp : float
        Pixel size of the images in micrometers.
    """
    if config.by == "none":
        return None
    images = task.folder.images
    side = float(np.median(np.concatenate([np.sqrt(i.windows[:, 2:].prod(1)) for i in images])))
    field_um = config.field * side * mpp
    if config.keep is None:
        return ClassGate(field_um, (0.0,) * task.tissue)
    scores = np.concatenate(
        [
            task.window_scores(task.coarse_logits(image), image.windows).cpu().numpy()
            for image in images
        ]
    )
    tags = np.concatenate([image.tags for image in images])
    return ClassGate(field_um, gate_thresholds(scores, tags, config.keep))


def gated_logits(
    task: SegmentationTask, gate: ClassGate | None, image: TaggedImage, mpp: float
) -> Tensor:
    """Return the logits (C, H, W) of a whole image, minus infinity where the gate is closed."""
    coarse = task.coarse_logits(image)[None]
    stride = task.network.head.stride
    logits = full_size(coarse[0], stride, image.size)
    if gate is None:
        return logits
    seen = gate.seen(coarse, gate.cells(mpp, stride))[0]
    return gated(logits[None], full_size(seen, stride, image.size)[None])[0]


def gate_thresholds(
    scores: NDArray[np.float32], tags: NDArray[np.uint8], keep: float
) -> tuple[float, ...]:
    """Return for each class the highest threshold that a share of its tagged windows reaches.

    Parameters
    ----------
    scores, tags : ndarray, shape (N, C)
        Scores and tags of the windows.
    keep : float
        Share of a class's tagged windows that the gate must let through.

    Returns
    -------
    tuple of float
        The gate is always open for a class without any tagged window: nothing is known of it.
    """
    found = []
    for score, tagged in zip(scores.T, tags.T > 0, strict=True):
        own = np.sort(score[tagged])[::-1]
        needed = int(np.ceil(keep * len(own) - 1e-9))
        found.append(float(own[needed - 1]) if len(own) else ALWAYS)
    return tuple(found)

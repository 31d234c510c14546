"""The class gate of a trained network: its thresholds, chosen by the tags of training windows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_plimseg.models.gate import ALWAYS, ClassGate

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from plimseg_training.config import GateConfig
    from plimseg_training.stage_task import SegmentationTask


def fitted_gate(config: GateConfig, task: SegmentationTask, mpp: float) -> ClassGate | None:
    """Return the gate that a recipe asks for, or None.

    Parameters
    ----------
    config : GateConfig
    task : SegmentationTask
        With its trained network; the tags are those of its training images.
    mpp : float
        Micrometres per pixel of the images.
    """
    if config.by == "none":
        return None
    images = task.folder.images
    scores = np.concatenate(
        [
            task.window_scores(task.coarse_logits(image), image.windows).cpu().numpy()
            for image in images
        ]
    )
    tags = np.concatenate([image.tags for image in images])
    side = float(np.median(np.concatenate([np.sqrt(i.windows[:, 2:].prod(1)) for i in images])))
    return ClassGate(side * mpp, gate_thresholds(scores, tags, config.keep))


def gate_thresholds(
    scores: NDArray[np.float32], tags: NDArray[np.uint8], keep: float
) -> tuple[float, ...]:
    """Return the greatest threshold a class that a share of its tagged windows reaches.

    Parameters
    ----------
    scores, tags : ndarray, shape (N, C)
        Of the windows.
    keep : float
        The share.

    Returns
    -------
    tuple of float
        A class that no window is tagged with is never left out.
    """
    found = []
    for score, tagged in zip(scores.T, tags.T > 0, strict=True):
        own = np.sort(score[tagged])[::-1]
        needed = int(np.ceil(keep * len(own) - 1e-9))
        found.append(float(own[needed - 1]) if len(own) else ALWAYS)
    return tuple(found)

"""Workers of dask with a model that takes no time; each tile that they predict is noted in a file.

dask imports it in every worker: `DASK_DISTRIBUTED__WORKER__PRELOAD=tests.support.worker_models`.
"""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from napari_plimseg import models
from napari_plimseg.results import mask_store
from tests.support.models import ColorModel

if TYPE_CHECKING:
    import torch

    from napari_plimseg.tissue import TissueClasses

LOG = "PLIMSEG_TEST_TILES"
"""The file that gets a line for each tile: process id, digest of the pixels."""
SECONDS = "PLIMSEG_TEST_SECONDS"
"""How long a tile takes."""


class NotedModel(ColorModel):
    """Notes each tile that it predicts."""

    def probabilities(self, images: torch.Tensor) -> torch.Tensor:
        time.sleep(float(os.environ.get(SECONDS, "0")))
        with Path(os.environ[LOG]).open("a") as log:
            for image in images.numpy():
                log.write(f"{os.getpid()} {hashlib.sha256(image.tobytes()).hexdigest()}\n")
        return super().probabilities(images)


def load(name: str | Path, classes: TissueClasses | None = None) -> NotedModel:
    """Stand in for `load_model`."""
    return NotedModel()


def dask_setup(worker: object) -> None:
    """Give a worker the model, and let it enter each tile in the journal of its store at once."""
    models.load_model = load
    mask_store._JOURNAL_INTERVAL = 0.0

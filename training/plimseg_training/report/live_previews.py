"""Small preview pictures of a few training images, updated while a stage trains."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from napari_plimseg.files import atomic_write
from napari_plimseg.training_runs.events import Event
from plimseg_training.data.tagged_folder import read_pixels
from plimseg_training.report.previews import encoded, preview_sheet

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from plimseg_training.data.tagged_folder import TaggedFolder, TaggedImage


PAUSE_SECONDS = 10.0
"""Shortest time between updates, which also take at most a twentieth of the training time."""
_SHARE = 20
_SIDE = 150


class LivePreviews:
    """Draws the current predictions for some images, to show the progress.

    Parameters
    ----------
    folder : Path
        For one JPEG per image, which each update overwrites.
    data : TaggedFolder
        Defines the classes.
    images : sequence of TaggedImage
        Some of its images.
    log : callable
        Called with an event for each picture.
    """

    def __init__(
        self,
        folder: Path,
        data: TaggedFolder,
        images: Sequence[TaggedImage],
        log: Callable[[Event], None],
    ) -> None:
        self._folder = folder
        self._data = data
        self._images = tuple(images)
        self._log = log
        self._next = 0.0

    def draw(
        self,
        stage: str,
        mask_of: Callable[[TaggedImage], NDArray[np.uint8]],
        caption: str,
        pseudo_mask_of: Callable[[TaggedImage], NDArray[np.uint8]] | None = None,
    ) -> None:
        """Draw all pictures, unless the last update was too recent.

        When the disk is full, pictures are skipped and the training continues.

        Parameters
        ----------
        stage : str
            Name of the stage.
        mask_of : callable
            Returns the network's current mask ids (h, w) of an image.
        caption : str
            Caption of these masks.
        pseudo_mask_of : callable, optional
            Returns the mask ids (h, w) of an image's pseudo mask.
        """
        begun = time.monotonic()
        if begun < self._next:
            return
        for image in self._images:
            sheet = preview_sheet(
                read_pixels(image),
                classes=self._data.classes,
                tags=image.tags,
                pseudo_mask=None if pseudo_mask_of is None else pseudo_mask_of(image),
                prediction=mask_of(image),
                prediction_caption=caption,
                name=image.name,
                side=_SIDE,
            )
            path = self._folder / f"{image.name}.jpg"
            with contextlib.suppress(OSError):
                with atomic_write(path) as temporary:
                    temporary.write_bytes(encoded(sheet))
                self._log(Event("preview", stage=stage, data={"file": str(path), "live": True}))
        ended = time.monotonic()
        self._next = ended + max(PAUSE_SECONDS, _SHARE * (ended - begun))

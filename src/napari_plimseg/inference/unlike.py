"""Whether a slide looks like the tissue that a model was trained on: a look before the run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_plimseg.errors import SlideError, is_out_of_memory
from napari_plimseg.tiling import Window

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from napari_plimseg.inference.plan import Frame, TissueGate
    from napari_plimseg.models import DenseModel
    from napari_plimseg.slides import Slide


MOST_WINDOWS, SIDE = 32, 256
"""Windows of a slide that are looked at, and their side in pixels at the model's resolution."""
_MOST_PLACES, _LEAST_TISSUE = 4000, 0.5


def unlike(slide: Slide, model: DenseModel, frame: Frame, gate: TissueGate) -> str:
    """Return a sentence when a slide is unlike a model's training tissue; "" otherwise.

    It depends on slide, model and tissue settings only, not on the region of a run.

    Parameters
    ----------
    slide : Slide
    model : DenseModel
        On its device; models that don't know their training tissue find no slide unlike it.
    frame : Frame
        The resolution at which the model works on the slide.
    gate : TissueGate
    """
    if getattr(model, "familiarity", None) is None:
        return ""
    found: str = model.unlike(sampled_windows(slide, frame, gate))  # type: ignore[attr-defined]
    return found


def sampled_windows(
    slide: Slide, frame: Frame, gate: TissueGate, most: int = MOST_WINDOWS
) -> Iterator[NDArray[np.uint8]]:
    """Yield up to `most` windows (h, w, 3) of a slide's tissue, spread at random, always the same.

    Parts of the slide that can't be read are left out.
    """
    rows, columns = (max(1, size // SIDE) for size in frame.shape)
    height, width = (min(SIDE, size) for size in frame.shape)
    scale = frame.downsample / gate.downsample
    order = np.random.default_rng(0).permutation(rows * columns)[:_MOST_PLACES]
    for place in order.tolist():
        if most == 0:
            return
        y, x = place // columns * SIDE, place % columns * SIDE
        masked = Window(
            round(y * scale), round(x * scale),
            max(1, round(height * scale)), max(1, round(width * scale)),
        )  # fmt: skip
        if gate.window(masked).mean() < _LEAST_TISSUE:
            continue
        try:
            pixels = gate.read(slide, frame.downsample, y, x, height, width)
        except SlideError as error:
            if is_out_of_memory(error):
                raise
            continue
        most -= 1
        yield pixels

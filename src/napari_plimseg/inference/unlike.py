"""A look at a slide's tissue before the run: whether a model knows it, and windows to check."""

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
CHECKED_WINDOWS = 4
"""Of a network, spread over the tissue of a slide: enough for 20,000 pixels of a mask."""
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


def checked_windows(
    slide: Slide, frame: Frame, gate: TissueGate, side: int, stride: int
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return windows (N, side, side, 3) of a slide, and which of their mask pixels are tissue.

    They are spread at random over the tissue, always the same; parts of the slide that can't be
    read are left out.
    """
    rows, columns = (max(1, size // side) for size in frame.shape)
    order = np.random.default_rng(0).permutation(rows * columns)[:_MOST_PLACES]
    images, masks = [], []
    for least in (_LEAST_TISSUE, 1e-9):
        for place in order.tolist():
            window = Window(place // columns * side, place % columns * side, side, side)
            at = Window(*(value // stride for value in (window.y, window.x, side, side)))
            tissue = gate.window(at)
            # what has half a window of tissue was taken in the first round
            if not least <= tissue.mean() < (_LEAST_TISSUE if least < _LEAST_TISSUE else 2):
                continue
            try:
                images.append(gate.read_around(slide, frame, window, side))
            except SlideError as error:
                if is_out_of_memory(error):
                    raise
                continue
            masks.append(tissue)
            if len(images) == CHECKED_WINDOWS:
                break
        if images:
            break
    if not images:
        return np.empty((0, side, side, 3), np.uint8), np.empty((0, 1, 1), bool)
    return np.stack(images), np.stack(masks)

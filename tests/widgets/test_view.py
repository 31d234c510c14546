"""`Segmentation.view`: a result of a Python program in napari."""

from __future__ import annotations

from typing import TYPE_CHECKING

import napari
import numpy as np
import pytest
from PIL import Image

from napari_plimseg import segment
from napari_plimseg._widgets.docks import main_dock
from napari_plimseg.inference.plan import RunSettings
from tests.support import widgets as fakes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.gui


def test_slide_and_mask_are_shown_in_the_open_viewer(
    make_napari_viewer: Callable,
    model: fakes.ColorModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    qtbot,  # type: ignore[no-untyped-def]
) -> None:
    viewer = make_napari_viewer()
    path = tmp_path / "a.png"
    Image.fromarray(fakes.tissue_pixels(300, 400)).save(path)
    result = segment(path, model, mpp=0.5, settings=RunSettings(tile_size=256, device="cpu"))
    monkeypatch.setattr(napari, "current_viewer", lambda: viewer)
    monkeypatch.setattr(napari, "run", lambda: pytest.fail("the viewer runs already"))
    assert result.view() is viewer
    dock = main_dock(viewer)
    qtbot.waitUntil(lambda: dock.view is not None, timeout=60_000)
    assert dock.view.store.path == result.store_path
    assert dock.slides.slide.mpp == 0.5
    assert np.array_equal(dock.view.layer.data, result.mask)

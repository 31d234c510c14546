"""A viewer with the dock, a slide in memory and a model that answers at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import fakes
import pytest

from napari_plimseg.models import catalogue
from napari_plimseg.models.catalogue import ModelInfo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from napari_plimseg._widgets.main_dock import PlimsegDock
    from napari_plimseg.tissue import TissueClasses


def offer_only(model: fakes.ColorModel) -> dict[str, Callable]:
    """Return what the catalogue's functions are replaced by: one model, which takes any classes."""

    def load_model(name: str, classes: TissueClasses | None = None) -> fakes.ColorModel:
        model.set_classes(classes or fakes.CLASSES)
        return model

    info = ModelInfo(
        name="color",
        title="Colour model",
        description="Tells purple from pink.",
        classes=fakes.CLASSES,
        mpp=1.0,
        license="none",
        source="tests",
        size_bytes=0,
        available=True,
    )
    return {"list_models": lambda: [info], "load_model": load_model}


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> fakes.ColorModel:
    """The only model of the catalogue."""
    model = fakes.ColorModel()
    model.gate.set()
    for name, function in offer_only(model).items():
        monkeypatch.setattr(catalogue, name, function)
    return model


@pytest.fixture
def dock(
    make_napari_viewer_proxy: Callable, model: fakes.ColorModel, qtbot: object
) -> Iterator[PlimsegDock]:
    """The dock in a viewer, without a slide."""
    from napari_plimseg._widgets.main_dock import PlimsegDock

    viewer = make_napari_viewer_proxy()
    dock = PlimsegDock(viewer)
    viewer.window.add_dock_widget(dock, name="PLIMSeg", area="right")
    yield dock
    model.gate.set()
    dock.controller.stop_and_wait()


@pytest.fixture
def add_slide(dock: PlimsegDock, tmp_path: Path) -> Callable[..., fakes.ArraySlide]:
    """Returns a function that opens a slide in memory in the dock's viewer."""

    def add(
        height: int = 1200, width: int = 1600, mpp: float | None = 0.5, name: str = "slide.tif"
    ) -> fakes.ArraySlide:
        slide = fakes.ArraySlide(tmp_path / name, fakes.tissue_pixels(height, width), mpp)
        size = mpp or 1.0
        dock._viewer.add_image(
            [slide.pixels, slide.pixels[::4, ::4]],
            rgb=True,
            multiscale=True,
            name=slide.path.stem,
            scale=(size, size),
            units=("um", "um") if mpp else ("px", "px"),
            metadata={"plimseg_slide": slide},
        )
        return slide

    return add

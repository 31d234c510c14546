"""A viewer with the dock, a slide in memory and a model that answers at once."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import widgets as fakes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from napari_plimseg._widgets.generate.dock import PlimsegDock

PATIENCE = 60.0


@pytest.fixture(autouse=True)
def only_the_main_thread_touches_layers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail a test in which another thread draws a layer or makes one tell something."""
    from napari.layers import Layer
    from napari.utils.events import EmitterGroup, EventEmitter

    monkeypatch.setenv("NAPARI_ENSURE_PLUGIN_MAIN_THREAD", "1")
    touched: list[str] = []

    def guarded(function: Callable, of_layer: Callable[[Any], bool]) -> Callable:
        def checked(self: Any, *args: Any, **options: Any) -> Any:
            if threading.current_thread() is not threading.main_thread() and of_layer(self):
                name = threading.current_thread().name
                touched.append(f"{function.__qualname__} of {self!r:.80} in thread {name}")
            return function(self, *args, **options)

        return checked

    def tells_of_a_layer(emitter: Any) -> bool:
        return isinstance(emitter.source, Layer)

    monkeypatch.setattr(Layer, "refresh", guarded(Layer.refresh, lambda _: True))
    for kind in (EventEmitter, EmitterGroup):
        monkeypatch.setattr(kind, "__call__", guarded(kind.__call__, tells_of_a_layer))
    yield
    assert not touched, touched


@pytest.fixture(autouse=True)
def windows_are_hidden_before_their_layers_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """Close viewers unseen: Mesa may crash where a canvas is resized while its layers go."""
    from napari import Viewer

    close = Viewer.close

    def hidden(self: Viewer) -> None:
        self.window._qt_window.hide()
        close(self)

    monkeypatch.setattr(Viewer, "close", hidden)


@pytest.fixture(autouse=True)
def nothing_leaks() -> Iterator[None]:
    """Fail a test after which threads or windows of the plugin are left."""
    from qtpy.QtWidgets import QApplication

    from napari_plimseg._widgets.common.background_job import stop_jobs

    yield
    assert stop_jobs(PATIENCE), "a job does not end"
    left = [t.name for t in threading.enumerate() if t.name.startswith("plimseg")]
    assert not left
    application = QApplication.instance()
    if application is not None:
        application.processEvents()
        windows = [w for w in QApplication.topLevelWidgets() if w.isVisible()]
        assert not [w for w in windows if type(w).__module__.startswith("napari_plimseg")]


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> fakes.ColorModel:
    """The only model of the library."""
    model = fakes.ColorModel()
    model.gate.set()
    for module, name, function in fakes.only_model(model):
        monkeypatch.setattr(module, name, function)
    return model


@pytest.fixture
def dock(
    make_napari_viewer_proxy: Callable, model: fakes.ColorModel, qtbot: object
) -> Iterator[PlimsegDock]:
    """The dock in a viewer, without a slide."""
    from napari_plimseg._widgets.generate.dock import PlimsegDock

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
            units=("um", "um") if mpp else ("pixel", "pixel"),
            metadata={"plimseg_slide": slide},
        )
        return slide

    return add

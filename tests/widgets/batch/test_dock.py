"""The batch dock: every button in every state, and a batch from dropped files to a result."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from napari_plimseg._widgets.batch.dock import BatchDock
from napari_plimseg._widgets.batch.state import BatchState
from napari_plimseg._widgets.docks import open_main_dock
from napari_plimseg._widgets.generate.state import Phase
from napari_plimseg.inference.cohort import Cohort, CohortItem, ItemState
from napari_plimseg.inference.devices import ENGINE
from napari_plimseg.settings import remember
from tests.support import widgets as fakes
from tests.support.paths import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WAIT = 30_000
CONTROLS = ("add", "run", "stop", "remove", "retry", "open", "mpp", "setup")


def item(state: ItemState, name: str = "a.svs", **more: Any) -> CohortItem:
    return CohortItem(Path("/slides") / name, Path(name).stem, state, **more)


def state_of(*states: ItemState, selected: int | None = None, **more: Any) -> BatchState:
    items = tuple(item(state, f"{i}.svs") for i, state in enumerate(states))
    return BatchState(items, () if selected is None else (items[selected],), **more)


W, N, R = ItemState.WAITING, ItemState.NEEDS_MPP, ItemState.RUNNING
S, D, F = ItemState.STOPPED, ItemState.DONE, ItemState.FAILED


@pytest.mark.parametrize(
    ("state", "allowed", "sentences"),
    [
        (state_of(), "add setup", {"run": "Add slides first", "open": "Add slides first"}),
        (state_of(list_problem="It is damaged."), "setup", {"add": "damaged", "run": "damaged"}),
        (state_of(W), "add run setup", {"remove": "Select slides", "open": "Select one slide"}),
        (state_of(W, looking=True), "run setup", {"add": "being added"}),
        (state_of(W, selected=0), "add run remove setup", {"open": "No result yet (waiting)"}),
        (state_of(W, engine_owner="the dock"), "add setup", {"run": "wait for the dock"}),
        (state_of(W, model_problem="Not here."), "add setup", {"run": "Not here."}),
        (state_of(N, selected=0), "add remove mpp setup", {"run": "Pixel size unknown"}),
        (state_of(F), "add retry setup", {"run": "press Retry failed"}),
        (state_of(D, selected=0), "add remove open setup", {"run": "All slides are done"}),
        (state_of(S, D), "add run setup", {"mpp": "selected slides is known", "stop": "Nothing"}),
        (
            state_of(R, W, selected=0, phase=Phase.RUNNING),
            "add stop",
            {"run": "The batch is running", "remove": "stop the batch", "setup": "wait or stop"},
        ),
        (state_of(R, phase=Phase.STOPPING), "add", {"stop": "Stopping after"}),
    ],
)
def test_every_button_says_why_not(
    state: BatchState, allowed: str, sentences: dict[str, str]
) -> None:
    assert [c for c in CONTROLS if not state.why_not(c)] == [
        c for c in CONTROLS if c in allowed.split()
    ]
    for control, says in sentences.items():
        assert says in state.why_not(control)


def test_an_unknown_control_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="no control"):
        BatchState().why_not("fly")


def slides(folder: Path, count: int = 2, side: int = 400) -> list[Path]:
    folder.mkdir(exist_ok=True)
    paths = [folder / f"s{i}.png" for i in range(count)]
    for i, path in enumerate(paths):
        Image.fromarray(fakes.tissue_pixels(side + 4 * i, side)).save(path)
    return paths


@pytest.fixture
def batch(
    make_napari_viewer_proxy: Callable, model: fakes.ColorModel, tmp_path: Path, qtbot: Any
) -> Iterator[BatchDock]:
    remember("batch_folder", str(tmp_path / "results"))
    remember("batch_formats", ["csv"])
    viewer = make_napari_viewer_proxy()
    dock = BatchDock(viewer)
    viewer.window.add_dock_widget(dock, name="PLIMSeg Batch")
    qtbot.waitUntil(lambda: dock._cohort is not None, timeout=WAIT)
    yield dock
    model.gate.set()
    dock.stop_and_wait()
    dock._cohort.close()


def add(dock: BatchDock, places: list[Path], qtbot: Any, mpp: float | None = 1.0) -> None:
    dock.add(places)
    qtbot.waitUntil(lambda: not dock._look_job.is_running, timeout=WAIT)
    if mpp is not None:
        dock.table.selectAll()
        dock.mpp_edit.setText(str(mpp))
        dock.mpp_edit.editingFinished.emit()


def run(dock: BatchDock, qtbot: Any) -> None:
    dock.run_button.click()
    qtbot.waitUntil(lambda: not dock.is_running, timeout=WAIT)


def states(dock: BatchDock) -> list[ItemState]:
    return [item.state for item in dock._cohort.items]


@pytest.mark.gui
def test_from_dropped_files_to_a_result_in_the_viewer(
    batch: BatchDock, tmp_path: Path, qtbot: Any
) -> None:
    assert batch.hint.isVisibleTo(batch)
    paths = slides(tmp_path / "in")
    add(batch, [tmp_path / "in", paths[0], tmp_path / "gone.svs"], qtbot, mpp=None)
    assert "s0.png' is already in the list" in batch.banner.text
    assert "gone.svs" in batch.banner.text
    assert states(batch) == [N, N]
    assert "Pixel size unknown" in batch.run_button.toolTip()
    batch.table.selectAll()
    assert batch.mpp_row.isVisibleTo(batch)
    batch.mpp_edit.setText("much")
    batch.mpp_edit.editingFinished.emit()
    assert "not a pixel size" in batch.banner.text
    batch.mpp_edit.setText("1,0")
    batch.mpp_edit.editingFinished.emit()
    assert states(batch) == [W, W]
    run(batch, qtbot)
    assert states(batch) == [D, D]
    assert batch.banner.text == "Done. 2 slides segmented."
    assert len(list((tmp_path / "results").glob("*.areas.csv"))) == 2
    batch.table.select(paths[1])
    batch.open_button.click()
    from napari_plimseg._widgets.docks import main_dock

    dock = main_dock(batch._viewer)
    qtbot.waitUntil(lambda: dock.view is not None, timeout=WAIT)
    assert dock.slides.slide.path == paths[1]
    assert dock.slides.slide.mpp == 1
    assert dock.view.store.done_fraction == 1
    batch.open_result()
    assert len(dock.slides.layers) == 1
    dock.controller.stop_and_wait()


@pytest.mark.gui
def test_the_result_of_the_batch_opens_though_the_slide_has_another_one(
    batch: BatchDock, model: fakes.ColorModel, tmp_path: Path, qtbot: Any
) -> None:
    (path,) = slides(tmp_path / "in", 1)
    add(batch, [path], qtbot)
    run(batch, qtbot)
    store = batch.folder / batch._cohort.items[0].store
    dock = open_main_dock(batch._viewer)
    dock.open_slide(str(path))
    dock.slide_section.mpp_row.typed.emit(1.0)
    model.identity = "0" * 64
    dock.start()
    qtbot.waitUntil(lambda: not dock.controller.is_running, timeout=WAIT)
    other = dock.view
    assert other.store.path != store
    batch.table.select(path)
    for _ in range(2):  # the second time its layer is there, below the other one
        batch.open_result()
        qtbot.waitUntil(lambda: dock.view.store.path == store, timeout=WAIT)
        assert dock.view.layer.visible
        assert not other.layer.visible
        dock.controller._bring_forward(dock.slides.slide, other)
    dock.controller.stop_and_wait()


@pytest.mark.gui
def test_stop_keeps_what_is_done_and_run_all_does_the_rest(
    batch: BatchDock, model: fakes.ColorModel, tmp_path: Path, qtbot: Any
) -> None:
    add(batch, slides(tmp_path / "in", side=1600), qtbot)
    model.gate.clear()
    model.tiles_before_gate = 3
    batch.start()
    qtbot.waitUntil(lambda: batch._cohort.items[0].tiles_done >= 1, timeout=WAIT)
    assert batch.stop_button.isVisibleTo(batch)
    assert not batch.run_button.isVisibleTo(batch)
    assert not batch.model_choice.isEnabled()
    assert ENGINE.owner == "the batch"
    batch.stop_button.click()
    model.gate.set()
    qtbot.waitUntil(lambda: not batch.is_running, timeout=WAIT)
    assert states(batch) == [S, W]
    assert "Cancelled" in batch.banner.text
    seen = model.seen
    run(batch, qtbot)
    assert states(batch) == [D, D]
    total = sum(item.tiles_total for item in batch._cohort.items)
    assert model.seen - seen < total


@pytest.mark.gui
def test_a_missing_pixel_size_is_asked_for_before_the_model_is_loaded(
    batch: BatchDock, tmp_path: Path, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[Any] = []
    load = batch._keeper.model
    monkeypatch.setattr(batch._keeper, "model", lambda *what: loaded.append(what) or load(*what))
    paths = slides(tmp_path / "in", count=3)
    add(batch, paths, qtbot, mpp=None)
    batch.table.select(paths[0])
    batch.mpp_edit.setText("1.0")
    batch.mpp_edit.editingFinished.emit()
    batch.table.clearSelection()
    assert states(batch) == [W, N, N]
    batch.run_button.click()
    assert not batch.is_running
    assert batch.table.selected_paths == paths[1:]
    assert batch.mpp_row.isVisibleTo(batch)
    assert batch.banner.text.startswith("2 slides have no pixel size.")
    batch.table.select(paths[1])
    batch.mpp_edit.setText("1.0")
    batch.mpp_edit.editingFinished.emit()
    assert states(batch) == [W, W, N]
    assert not batch.banner.text
    batch.run_button.click()
    assert batch.table.selected_paths == paths[2:]
    assert batch.banner.text.startswith("1 slide has no pixel size.")
    assert not loaded
    batch.banner.offer_button.click()  # leave it out
    qtbot.waitUntil(lambda: not batch.is_running, timeout=WAIT)
    assert states(batch) == [D, D, N]
    assert loaded


@pytest.mark.gui
def test_a_failing_slide_is_told_and_tried_again(
    batch: BatchDock, tmp_path: Path, qtbot: Any
) -> None:
    paths = slides(tmp_path / "in")
    add(batch, paths, qtbot)
    whole = paths[0].read_bytes()
    paths[0].write_bytes(b"broken")
    run(batch, qtbot)
    assert states(batch) == [F, D]
    assert "s0.png" in batch.banner.text
    paths[0].write_bytes(whole)
    batch.retry_button.click()
    run(batch, qtbot)
    assert states(batch) == [D, D]
    batch.table.select(paths[0])
    batch.remove_button.click()
    assert [item.path for item in batch._cohort.items] == [paths[1]]


@pytest.mark.gui
def test_one_run_at_a_time(batch: BatchDock, tmp_path: Path, qtbot: Any) -> None:
    add(batch, slides(tmp_path / "in", 1), qtbot)
    with ENGINE.held_by("the run of the dock PLIMSeg"):
        batch.refresh_state()
        assert "wait for the run of the dock PLIMSeg" in batch.run_button.toolTip()
        batch.start()
        assert not batch.is_running
    batch.refresh_state()
    assert batch.run_button.isEnabled()


@pytest.mark.gui
def test_the_list_comes_back_and_another_program_is_told(
    batch: BatchDock, tmp_path: Path, qtbot: Any
) -> None:
    (path,) = slides(tmp_path / "in", 1)
    with Cohort.open(tmp_path / "other") as other:
        other.add(path, mpp=1.0)
        batch.open_folder(tmp_path / "other")
        qtbot.waitUntil(lambda: not batch._opening.is_running, timeout=WAIT)
        assert "another program uses its list" in batch.banner.text
        assert "another program" in batch.add_button.toolTip()
        other._items[path] = dataclasses.replace(other._items[path], state=R)
        other._save()
    batch.open_folder(tmp_path / "other")
    qtbot.waitUntil(lambda: batch._cohort is not None, timeout=WAIT)
    assert states(batch) == [S]
    assert "is unfinished" in batch.banner.text
    qtbot.waitUntil(lambda: batch.table.has_thumbnail(path), timeout=WAIT)


CLOSE = """
import sys, threading, time
from pathlib import Path
from tests.support import widgets as fakes
model = fakes.ColorModel()
answer = model.probabilities
def slow(images):
    time.sleep(0.05)
    return answer(images)
model.probabilities = slow
for module, name, function in fakes.only_model(model):
    setattr(module, name, function)
import napari
from PIL import Image
from qtpy.QtCore import QTimer
from napari_plimseg.settings import remember
from napari_plimseg._widgets.batch.dock import BatchDock
from napari_plimseg.inference.cohort import Cohort
out = Path(sys.argv[1])
Image.fromarray(fakes.tissue_pixels(4000, 4000)).save(out / "big.png")
with Cohort.open(out) as cohort:
    cohort.add(out / "big.png", mpp=0.5)
remember("batch_folder", str(out))
viewer = napari.Viewer()
dock = BatchDock(viewer)
viewer.window.add_dock_widget(dock, name="PLIMSeg Batch")
closed = []
def watch():
    if dock._cohort is not None and not dock.is_running and not closed:
        dock.start()
    if dock._cohort is not None and dock._cohort.items[0].tiles_done >= 2 and not closed:
        closed.append(time.monotonic())
        timer.stop()
        viewer.close()
timer = QTimer()
timer.timeout.connect(watch)
timer.start(50)
napari.run()
while any(t.name.startswith("plimseg") for t in threading.enumerate()):
    time.sleep(0.02)
    if time.monotonic() - closed[0] > 5:
        sys.exit("a thread went on for five seconds after closing")
with Cohort.open(out) as cohort:
    print(cohort.items[0].state.value, cohort.items[0].tiles_done)
"""


@pytest.mark.gui
def test_window_closed_in_mid_run(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-c", CLOSE, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert "Traceback" not in result.stderr
    assert result.stdout.split()[-2] == "stopped"


@pytest.mark.gui
def test_nothing_goes_on_after_a_batch(batch: BatchDock, tmp_path: Path, qtbot: Any) -> None:
    add(batch, slides(tmp_path / "in", 1), qtbot)
    run(batch, qtbot)
    qtbot.waitUntil(
        lambda: not any(t.name.startswith("plimseg") for t in threading.enumerate()), timeout=WAIT
    )

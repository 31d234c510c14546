"""For `kill_napari.py`: napari processes that generate and train until killed, and checks."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SAMPLE = Path(__file__).parents[1] / "src" / "napari_plimseg" / "sample" / "CMU-1-Small-Region.svs"
RUNS = "trainings"
_PATIENCE_SECONDS = 300


def generate(folder: Path, log: Path) -> None:
    """Open napari, continue the last run, and log each finished tile."""
    import napari
    from qtpy.QtCore import QTimer

    from napari_plimseg._widgets.generate import PlimsegDock

    viewer = napari.Viewer(show=True)
    dock = PlimsegDock(viewer)
    viewer.window.add_dock_widget(dock, name="PLIMSeg", area="right")
    dock.settings_form.controls["tile_size"].setCurrentIndex(0)

    def note(progress: Any) -> None:
        window = progress.window
        if window is not None:
            place = [window.y, window.x, window.height, window.width]
            with log.open("a") as file:
                file.write(json.dumps([time.time(), *place]) + "\n")

    dock.controller.progressed.connect(note)
    dock.open_slide(str(SAMPLE))
    QTimer.singleShot(1500, dock.start)  # the dock looks for the last result first
    napari.run()


def lost_tiles(folder: Path, log: Path, before: float) -> tuple[int, int]:
    """Return the number of tiles reported as finished before a time, and of missing ones.

    A result that is complete is removed, so that the next napari begins anew.
    """
    from napari_plimseg.results import MaskStore
    from napari_plimseg.tissue import NOT_COMPUTED

    told = [json.loads(line) for line in log.read_text().splitlines() if line.endswith("]")]
    finished = [place for when, *place in told if when < before]
    (path,) = (folder / "results").glob("*.plimseg")
    with MaskStore.open(path) as store:
        ids = store.read_classes()
        done = store.done_fraction
    lost = sum(
        bool((ids[y : y + height, x : x + width] == NOT_COMPUTED).any())
        for y, x, height, width in finished
    )
    if done >= 1:
        shutil.rmtree(path)
    return len(finished), lost


def train(folder: Path, log: Path) -> None:
    """Open napari and start a training, or continue that of the last napari."""
    import napari

    viewer = napari.Viewer(show=True)
    timer = _train_in(viewer, folder, log)
    timer.start(100)
    napari.run()


def close(folder: Path, log: Path, seed: int) -> None:
    """Open napari, generate and train at once, and close the window at a random moment."""
    import napari
    from qtpy.QtCore import QTimer

    from napari_plimseg._widgets.generate import PlimsegDock

    rng = random.Random(seed)  # noqa: S311
    viewer = napari.Viewer(show=True)
    dock = PlimsegDock(viewer)
    viewer.window.add_dock_widget(dock, name="PLIMSeg", area="right")
    dock.settings_form.controls["tile_size"].setCurrentIndex(0)
    training = folder / "training.log"
    trains = _train_in(viewer, folder, training)
    trains.start(100)
    tiles: list[int] = []
    dock.controller.progressed.connect(lambda progress: tiles.append(progress.tiles_done))
    dock.open_slide(str(SAMPLE))

    def begin() -> None:
        if training.exists() and not dock.is_running and not tiles:
            dock.start()
        elif tiles and training.exists():
            starts.stop()
            QTimer.singleShot(int(1000 * rng.uniform(0, 6)), end)

    def end() -> None:
        busy = dock.is_running
        part = log.with_suffix(".part")
        part.write_text(json.dumps([time.time(), busy, tiles[-1]]))
        part.rename(log)
        viewer.close()

    starts = QTimer()
    starts.timeout.connect(begin)
    starts.start(100)
    napari.run()


def _train_in(viewer: Any, folder: Path, log: Path) -> Any:
    """Return a timer that starts a training, or resumes it; `log` appears with its next step."""
    from qtpy.QtCore import QTimer

    from napari_plimseg._widgets.train import TrainDock

    opened = time.time()
    dock = TrainDock(viewer)
    viewer.window.add_dock_widget(dock, name="PLIMSeg Train", area="right")
    begun: list[bool] = []

    def look() -> None:
        process = dock.process
        if process is not None and process.state.is_alive and _has_stepped(folder, opened):
            log.touch()
        if begun or dock._look.is_running or dock.state.checking:
            return
        if process is not None:
            if process.state.is_alive or dock.state.why_not("resume"):
                return  # it is still running, or its state is not known yet
            begun.append(True)
            dock.resume()
        elif dock.folder is None:
            dock.choose_folder(folder / "patches")
        else:
            dock.folder_section.mpp_edit.setText("0.5")
            dock.folder_section.mpp_edit.editingFinished.emit()
            dock.setup.efforts["best"].setChecked(True)  # long enough for several kills
            begun.append(True)
            dock.start()

    timer = QTimer()
    timer.timeout.connect(look)
    return timer


def _has_stepped(folder: Path, since: float) -> bool:
    """Whether a training has made a step since a moment."""
    return any(event["kind"] == "step" and event["time"] > since for event in _events(folder))


def _events(folder: Path) -> Iterator[dict[str, Any]]:
    for path in sorted((folder / RUNS).glob("*/progress.jsonl")):
        for line in path.read_text("utf-8", errors="replace").splitlines():
            with contextlib.suppress(ValueError):  # truncated by the kill
                yield json.loads(line)


def steps_taken_back(folder: Path) -> tuple[int, int]:
    """Return the number of reported checkpoints, and of those that a later start ignored."""
    order = {"stage1": 1, "pseudo_masks": 2, "stage2": 3}
    checkpoint: tuple[int, int, int] | None = None
    known = lost = 0
    started = False
    for event in _events(folder):
        place = (
            order.get(str(event.get("stage")), 0),
            int(event.get("epoch") or 0),
            int(event.get("step") or 0),
        )
        if event["kind"] == "start":
            started = True
        elif event["kind"] == "checkpoint":
            known += 1
            checkpoint = place
        elif event["kind"] == "step" and started:
            lost += checkpoint is not None and place <= checkpoint
            started = False
    return known, lost


def put_away_finished(folder: Path) -> bool:
    """Move a finished training away, so that the next napari starts another."""
    is_done = any(event["kind"] == "done" for event in _events(folder))
    if is_done:
        wait_for(lambda: not any(_is_locked(run) for run in (folder / RUNS).iterdir()))
        number = len(list(folder.glob("finished-*")))
        (folder / RUNS).rename(folder / f"finished-{number}")
    return is_done


def end_training(folder: Path) -> None:
    """Kill the training too, as in a power failure, whoever started it."""
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or ()
        if "plimseg_training" in words and any(str(folder) in word for word in words):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
    wait_for(lambda: not is_training(folder))


def is_training(folder: Path) -> bool:
    """Whether a training is under way."""
    return any(_is_locked(run) for run in (folder / RUNS).iterdir())


def _is_locked(run: Path) -> bool:
    from napari_plimseg.training_runs import RunFolder

    return RunFolder(run).is_locked


def wait_for(until: Callable[[], bool]) -> None:
    """Wait until a condition holds.

    Raises
    ------
    TimeoutError
        When it takes longer than five minutes.
    """
    end = time.monotonic() + _PATIENCE_SECONDS
    while not until():
        if time.monotonic() > end:
            raise TimeoutError("nothing happens")
        time.sleep(0.02)

"""`kill -9` at random moments of segmenting, training, exporting and painting."""

from __future__ import annotations

import gc
import hashlib
import importlib
import os
import pkgutil
import random
import shutil
import signal
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.painted_log import PaintedLog, judge
from napari_plimseg.results import Corrections, MaskInfo, MaskStore, corrected, export_all
from napari_plimseg.results.corrections import journal
from napari_plimseg.slides import Region
from napari_plimseg.tissue import COLORECTAL
from tests.campaigns.forks import (
    count_changes,
    die_at_change,
    in_fork,
    leftovers,
    spread,
    tree,
)
from tests.support.masks import PaintedSlide, blobs, info_for
from tests.support.slides import tissue, write_svs
from tests.support.stores import written_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from napari.layers import Labels

    from tests.campaigns.report import Outcomes, Report, Settings

TILE = 128
KILLS_IN_A_ROW = 4


@contextmanager
def scratch() -> Iterator[Path]:
    """Yield a new folder that is deleted afterwards."""
    with tempfile.TemporaryDirectory(prefix="plimseg-faults-", ignore_cleanup_errors=True) as name:
        folder = Path(name).resolve()
        folder.chmod(0o755)
        yield folder


@dataclass(frozen=True)
class Work:
    """A piece of work that may be killed and started again until it is done.

    Parameters
    ----------
    run : callable
        Does all of it in a folder, or what is left of it.
    look : callable
        Given the folder after a kill, returns what is wrong, as a sentence; empty if nothing is.
    result : callable
        Given the folder at the end, returns all that must be the same as without kills.
    """

    run: Callable[[Path], object]
    look: Callable[[Path], str]
    result: Callable[[Path], object]


@dataclass(frozen=True)
class Straight:
    """What the work does without kills: its result, seconds and changes of files."""

    result: object
    seconds: float
    changes: int


def straight(work: Work, folder: Path) -> Straight:
    """Do the work without kills, twice: the first time nothing is cached yet."""
    for name in ("first", "second"):
        place = folder / name
        place.mkdir()
        ended = in_fork(lambda place=place: work.run(place) and None)
        if not ended.is_good:
            raise RuntimeError(f"it fails without any kill: {ended.told()}")
    results = [_in_fork(lambda n=n: work.result(folder / n)) for n in ("first", "second")]
    if results[0] != results[1]:
        raise RuntimeError("two runs without kills differ")
    counted = folder / "counted"
    counted.mkdir()
    return Straight(
        results[0], ended.seconds, count_changes(lambda: work.run(counted) and None, counted)
    )


def _in_fork(work: Callable[[], Any]) -> Any:
    ended = in_fork(work)
    if not ended.is_good:
        raise RuntimeError(ended.told())
    return ended.value


def kill_chain(work: Work, expected: Straight, folder: Path, seed: int, kills: int) -> list[str]:
    """Kill the work so often, finish it, and return a problem for each kill; "" for none."""
    rng = random.Random(seed)  # noqa: S311
    folder.mkdir()
    problems: list[str] = []
    attempts = 0
    while len(problems) < kills:
        attempts += 1
        if rng.random() < 0.5:
            delay, before = rng.uniform(0.0, expected.seconds), None
        else:
            delay = None
            before = die_at_change(folder, rng.randrange(max(1, expected.changes)))
        ended = in_fork(lambda: work.run(folder) and None, before=before, kill_after=delay)
        if ended.signal == signal.SIGKILL:
            problems.append(_in_fork(lambda: work.look(folder)))
        elif not ended.is_good:
            problems.append(f"it can't go on after a kill: {ended.told()}")
            break
        else:
            # it was done before the moment came: start from nothing, as the next user does
            broken = _differs(work, expected, folder)
            if broken:
                problems.append(broken)
                break
            shutil.rmtree(folder)
            folder.mkdir()
        if attempts > 20 * kills:
            raise RuntimeError("it is never hit")
    ended = in_fork(lambda: work.run(folder) and None)
    if not ended.is_good:
        problems[-1] = problems[-1] or f"it can't be finished: {ended.told()}"
    else:
        problems[-1] = problems[-1] or _differs(work, expected, folder)
    return problems


def _differs(work: Work, expected: Straight, folder: Path) -> str:
    result = _in_fork(lambda: work.result(folder))
    if result != expected.result:
        assert isinstance(result, dict)
        assert isinstance(expected.result, dict)
        names = {
            name
            for name in result.keys() | expected.result.keys()
            if result.get(name) != expected.result.get(name)
        }
        return f"the result differs from an uninterrupted one: {', '.join(sorted(names)[:5])}"
    left = leftovers(folder)
    return f"temporary files are left: {', '.join(left[:3])}" if left else ""


def kill_all(work: Work, settings: Settings, outcomes: Outcomes, kills: int, command: str) -> None:
    """Kill some work so many times in chains, and count each kill."""
    with scratch() as folder:
        expected = straight(work, folder)
        chains = [
            (number, min(KILLS_IN_A_ROW, kills - at))
            for number, at in enumerate(range(0, kills, KILLS_IN_A_ROW))
        ]

        def chain(item: tuple[int, int]) -> list[str]:
            number, count = item
            place = folder / f"chain-{number}"
            try:
                return kill_chain(work, expected, place, settings.seed + number, count)
            finally:
                shutil.rmtree(place, ignore_errors=True)

        for (number, _), problems in spread(chain, chains, settings.processes):
            for problem in problems:
                again = f"{command} --seed {settings.seed + number} --count 1"
                outcomes.check(not problem, again, problem)
    outcomes.note = f"{expected.seconds:.1f} s and {expected.changes} changes of files a run"


# -- segment


def segment_job(folder: Path, formats: Sequence[str], *, tile: int = TILE) -> Any:
    """Return a job with a model whose answers take milliseconds."""
    from napari_plimseg.inference import RunSettings, SegmentationJob
    from tests.support.models import ColorModel

    return SegmentationJob(
        model=ColorModel(),
        settings=RunSettings(
            tile_size=tile, batch_size=2, tissue=None, probabilities=True, device="cpu"
        ),
        folder=folder,
        formats=tuple(formats),
    ).loaded()


def segment(slide: Path, folder: Path, formats: Sequence[str] | None = None) -> None:
    """Segment and export a slide, or what is left of it."""
    from napari_plimseg.results import FORMATS

    for _ in segment_job(folder, tuple(FORMATS) if formats is None else formats).steps(
        slide, slide.stem
    ):
        pass


def look_at_store(path: Path) -> str:
    """Return what is wrong with a store after a kill: its finished tiles must be whole."""
    if not (path / "manifest.json").exists():
        return ""  # killed while it was made
    with MaskStore.open(path) as store:
        damage = store.damage()
    # until a run has finished, other programs find levels that are incomplete
    return f"damaged: {damage}" if damage.damaged_tiles or damage.lost_journal else ""


def segment_result(folder: Path) -> dict[str, str]:
    """Return digests of the exports, of the chunks, and of the mask as the program reads it."""
    found = {
        name: digest
        for name, digest in tree(folder).items()
        if name.endswith((".tif", ".geojson", ".csv", ".png")) or "/c/" in name
    }
    for path in folder.glob("*.plimseg"):
        with MaskStore.open(path) as store:
            found["read"] = hashlib.sha256(store.read_classes().tobytes()).hexdigest()
            found["done"] = str(store.done_fraction)
    return found


def make_slide(folder: Path, height: int = 600, width: int = 760) -> Path:
    """Write a slide that opens in an instant."""
    return write_svs(folder / "slide.svs", [tissue(height, width)], mpp="0.5")


def kills_of_segment(settings: Settings, outcomes: Outcomes, kills: int) -> None:
    with scratch() as folder:
        slide = make_slide(folder)
        work = Work(
            run=lambda out: segment(slide, out),
            look=lambda out: look_at_store(out / "slide.plimseg"),
            result=segment_result,
        )
        kill_all(
            work,
            settings,
            outcomes,
            kills,
            "python -m tests.campaigns.faults --only 'kill segment'",
        )


# -- train


def train_program(recipe: Path, out: Path) -> None:
    """Run `plimseg train` in this process: stage 1, pseudo masks, stage 2, student, model list."""
    from plimseg_training.__main__ import main

    os.environ["PLIMSEG_DATA_DIR"] = str(out / "user")
    code = main(["train", str(recipe), "--out", str(out / "run"), "--resume"])
    if code:
        raise RuntimeError(f"plimseg train ended with {code}")


def train_result(out: Path) -> dict[str, str]:
    """Return digests of the model files, the pseudo masks and the model in the list."""
    wanted = ("model.safetensors", "fast.safetensors", "pseudo_masks/", "user/models/")
    return {name: digest for name, digest in tree(out).items() if any(w in name for w in wanted)}


def look_at_training(out: Path) -> str:
    """Return what is wrong with a run folder after a kill."""
    from napari_plimseg.training_runs import RunFolder
    from plimseg_training.loop.state import read_state

    run = RunFolder(out / "run")
    if run.is_locked:
        return "the dead training still holds the lock"
    for stage in ("stage1", "stage2", "distill"):
        if run.stage(stage).is_dir():
            found = read_state(run.stage(stage))
            if found is not None and found[1]:
                return f"{stage}: {found[1]}"
    for path in [run.model_file, *(out / "user" / "models").glob("[!.]*.safetensors")]:
        if path.is_file():
            from napari_plimseg.models import load_model_file

            load_model_file(path)
    return ""


def make_recipe(folder: Path) -> Path:
    """Write a recipe that trains the whole pipeline in a second or two."""
    from tests.support.stages import named_tissue, recipe

    chosen = recipe(
        named_tissue(folder / "images", (32, 32)),
        "distill.student=small",
        "distill.epochs=1",
        "distill.crop=32",
        "stage2.ema=0.5",
        "stage2.augment=full",
    )
    chosen.to_yaml(folder / "recipe.yaml")
    return folder / "recipe.yaml"


def kills_of_train(settings: Settings, outcomes: Outcomes, kills: int) -> None:
    with scratch() as folder:
        recipe = make_recipe(folder)
        work = Work(
            run=lambda out: train_program(recipe, out),
            look=look_at_training,
            result=train_result,
        )
        kill_all(
            work, settings, outcomes, kills, "python -m tests.campaigns.faults --only 'kill train'"
        )


# -- export


def export_version(folder: Path, version: int) -> None:
    """Write every export of one of two masks."""
    mask = blobs((300, 340), version)
    slide = PaintedSlide(np.full((1200, 1360, 3), 240, np.uint8))
    export_all(folder, "case", mask, info_for(mask), slide)


def kills_of_export(settings: Settings, outcomes: Outcomes, kills: int) -> None:
    """Each file is the old one or the new one, and the next export leaves no temporary file."""
    with scratch() as folder:
        versions = []
        seconds = 0.0
        for version in (0, 1):
            place = folder / f"version-{version}"
            place.mkdir()
            seconds = in_fork(lambda v=version, p=place: export_version(p, v)).seconds
            versions.append(tree(place))
        if len(versions[0]) != 4 or any(versions[0][n] == versions[1][n] for n in versions[0]):
            raise RuntimeError("the two versions do not differ in every file")
        counting = folder / "counting"
        counting.mkdir()
        changes = count_changes(lambda: export_version(counting, 0), counting)

        def one(number: int) -> str:
            rng = random.Random(settings.seed + number)  # noqa: S311
            place = folder / f"kill-{number}"
            shutil.copytree(folder / "version-0", place)
            while True:
                delay = rng.uniform(0, seconds) if rng.random() < 0.5 else None
                before = None if delay is not None else die_at_change(place, rng.randrange(changes))
                ended = in_fork(lambda: export_version(place, 1), before=before, kill_after=delay)
                if ended.signal:
                    break
            found = tree(place)
            for name in versions[0]:
                if found.get(name) not in (versions[0][name], versions[1][name]):
                    return f"{name} is neither the old file nor the new one"
            ended = in_fork(lambda: export_version(place, 1))
            if not ended.is_good or (left := leftovers(place)):
                return f"after the next export: {ended.told()}, {left}"
            found = tree(place)
            shutil.rmtree(place)
            return "" if found == versions[1] else "the next export is not the same"

        command = "python -m tests.campaigns.faults --only 'kill export'"
        for number, problem in spread(one, range(kills), settings.processes):
            outcomes.check(
                not problem, f"{command} --seed {settings.seed + number} --count 1", problem
            )
    outcomes.note = f"{seconds:.1f} s and {changes} changes of files an export"


# -- paint: strokes that a flush has put on the disk

SHAPE = (1500, 1300)
INFO = MaskInfo(
    slide_name="slide.svs",
    slide_fingerprint="c0ffee" * 10,
    slide_shape=(6000, 5200),
    bounds=Region(0, 0, 6000, 5200),
    mpp=0.5,
    shape=SHAPE,
    downsample=4.0,
    classes=COLORECTAL,
)
MAX_STROKES = 4000


def stroke(seed: int, number: int) -> tuple[int, int, np.ndarray, np.ndarray]:
    """Return corner, ids and pixels of a stroke; one in eight takes corrections back."""
    rng = np.random.default_rng((seed, number))
    height, width = rng.integers(2, 120, 2)
    y, x = rng.integers(0, SHAPE[0] - height), rng.integers(0, SHAPE[1] - width)
    mask_id = 0 if number % 8 == 7 else 1 + number % len(COLORECTAL)
    block = np.full((height, width), mask_id, np.uint8)
    return int(y), int(x), block, rng.random((height, width)) < 0.7


def paint(folder: Path, seed: int, log: Path) -> None:
    """Paint until killed; note in a log how many strokes are on the disk."""
    journal.COMPACT_BYTES = 300_000  # small enough that the file is rewritten again and again
    rng = random.Random(seed)  # noqa: S311
    corrections = Corrections.open(folder, INFO)
    noted = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for number in range(MAX_STROKES):
        y, x, block, where = stroke(seed, number)
        corrections.write(y, x, block, where)
        if rng.random() < 0.3:
            corrections.flush()
            os.write(noted, (number + 1).to_bytes(4, "little"))
        if rng.random() < 0.02:
            corrections.flush_and_release()
        time.sleep(rng.random() * 0.002)


def strokes_in(found: np.ndarray, before: np.ndarray, seed: int, least: int) -> int | None:
    """Return how many strokes give what was found, at least so many; None when none do."""
    state = before.copy()
    for number in range(MAX_STROKES):
        if number >= least and np.array_equal(state, found):
            return number
        if number > least + 200:
            return None
        y, x, block, where = stroke(seed, number)
        part = state[y : y + block.shape[0], x : x + block.shape[1]]
        np.copyto(part, block, where=where)
    return None


def left_by_painter(folder: Path) -> np.ndarray:
    """Return what is there on opening.

    Raises
    ------
    RuntimeError
        When the journal says that something is wrong with it.
    """
    corrections = Corrections.open(folder, INFO)
    if corrections.note():
        raise RuntimeError(f"the journal says: {corrections.note()}")
    return corrections.read(slice(0, SHAPE[0]), slice(0, SHAPE[1]))


def kills_of_paint(settings: Settings, outcomes: Outcomes, kills: int) -> None:
    """What a flush has put on the disk is there; painters follow each other on one journal."""

    def painters(item: tuple[int, int]) -> list[str]:
        first, count = item
        with scratch() as folder:
            return _killed_painters(
                folder, range(settings.seed + first, settings.seed + first + count)
            )

    half = -(-kills // settings.processes)
    parts = [(at, min(half, kills - at)) for at in range(0, kills, half)]
    command = "python -m tests.campaigns.faults --only 'kill paint'"
    for (first, _), problems in spread(painters, parts, settings.processes):
        for number, problem in enumerate(problems):
            seed = settings.seed + first + number
            outcomes.check(not problem, f"{command} --seed {seed} --count 1", problem)


def _killed_painters(folder: Path, seeds: Sequence[int]) -> list[str]:
    before = np.zeros(SHAPE, np.uint8)
    problems = []
    for seed in seeds:
        rng = random.Random(seed)  # noqa: S311
        log = folder / f"painted-{seed}.log"
        ended = in_fork(
            lambda seed=seed, log=log: paint(folder / "c", seed, log),
            kill_after=rng.uniform(0.05, 0.25),
        )
        if ended.signal != signal.SIGKILL:
            problems.append(f"the painter ended: {ended.told()}")
            continue
        said = log.read_bytes() if log.exists() else b""
        saved = int.from_bytes(said[len(said) // 4 * 4 - 4 :][:4], "little") if said else 0
        out = folder / "found.npy"

        def look(out: Path = out) -> None:
            np.save(out, left_by_painter(folder / "c"))

        ended = in_fork(look)
        if not ended.is_good:
            problems.append(ended.told())
            continue
        found = np.load(out)
        there = strokes_in(found, before, seed, saved)
        problems.append(
            "" if there is not None else f"{saved} strokes were saved, and what is left is not them"
        )
        before = found
    return problems


# -- paint: the recorder of the mask layer, which saves half a second after a change


class Brush:
    """Strokes, polygons, the eraser, undo and redo at random, each noted with its time."""

    def __init__(self, layer: Labels, log: Path, seed: int) -> None:
        self.layer = layer
        self.rng = random.Random(seed)  # noqa: S311
        self.log = PaintedLog(layer, log)

    def step(self) -> None:
        """Do one thing that a person does."""
        rng, layer = self.rng, self.layer
        height, width = layer.data.shape
        kind = rng.random()
        y, x = rng.uniform(0, height - 1), rng.uniform(0, width - 1)
        layer.selected_label = rng.randint(0, len(COLORECTAL))
        if kind < 0.15:
            layer.undo()
        elif kind < 0.2:
            layer.redo()
        elif kind < 0.3 and layer.selected_label:
            corners = [[y, x], [y + 80, x + 10], [y + 20, x + 90]]
            layer.paint_polygon(corners, layer.selected_label)
        else:
            layer.brush_size = rng.randint(5, 60)
            with layer.block_history():
                for _ in range(rng.randint(1, 12)):
                    y, x = y + rng.uniform(-30, 30), x + rng.uniform(-30, 30)
                    layer.paint([y, x], layer.selected_label)
        self.log.note()


def record(folder: Path, seed: int, log: Path) -> None:
    """Paint on the layer of a mask, with the program's own recorder, until killed."""
    from napari.components import ViewerModel
    from qtpy.QtCore import QCoreApplication, QTimer

    from napari_plimseg._widgets.viewer import MaskView

    application = QCoreApplication([])
    store = MaskStore.open(folder / "slide.plimseg")
    slide = PaintedSlide(np.full((1800, 1600, 3), 240, np.uint8), mpp=0.5, path="slide.svs")
    view = MaskView(
        ViewerModel(), slide, store, store.read_classes(), store.info.classes, slide_stem="slide"
    )
    brush = Brush(view.layer, log, seed)
    timer = QTimer()

    def tick() -> None:
        brush.step()
        timer.start(brush.rng.choice([0, 5, 16, 16, 40, 200]))

    timer.setSingleShot(True)
    timer.timeout.connect(tick)
    timer.start(0)
    application.exec()


def _killed_recorders(folder: Path, seeds: Sequence[int]) -> list[str]:
    model = blobs((450, 400))
    info = info_for(model, mpp=0.5, name="slide.svs")

    def make() -> None:
        written_store(folder / "slide.plimseg", info, model, np.full_like(model, 200), 128).close()

    _in_fork(make)
    before, problems = model.copy(), []
    for seed in seeds:
        rng = random.Random(seed)  # noqa: S311
        log, out = folder / f"painted-{seed}.log", folder / "found.npy"
        ended = in_fork(
            lambda seed=seed, log=log: record(folder, seed, log),
            kill_after=rng.uniform(2.3, 5.5),
        )
        killed = time.time()
        if ended.signal != signal.SIGKILL:
            problems.append(f"the painter ended: {ended.told()}")
            continue

        def look(out: Path = out) -> None:
            mask, _ = corrected(model.copy(), info, folder)
            np.save(out, mask)

        ended = in_fork(look)
        if not ended.is_good:
            problems.append(ended.told())
            continue
        found = np.load(out)
        steps, _, lost = judge(before, found, model, log, killed)
        problems.append(f"{lost} pixels of {steps} steps are lost" if lost else "")
        before = found
    return problems


def kills_of_recorder(settings: Settings, outcomes: Outcomes, kills: int) -> None:
    """Nothing painted more than two seconds before a kill is lost."""

    def painters(item: tuple[int, int]) -> list[str]:
        first, count = item
        with scratch() as folder:
            seeds = range(settings.seed + first, settings.seed + first + count)
            return _killed_recorders(folder, seeds)

    # painters wait most of the time, so several share a processor
    at_once = 2 * settings.processes
    share = -(-kills // at_once)
    parts = [(at, min(share, kills - at)) for at in range(0, kills, share)]
    command = "python -m tests.campaigns.faults --only 'kill painting'"
    for (first, _), problems in spread(painters, parts, at_once):
        for number, problem in enumerate(problems):
            seed = settings.seed + first + number
            outcomes.check(not problem, f"{command} --seed {seed} --count 1", problem)


KILLS: dict[str, Callable[[Settings, Outcomes, int], None]] = {
    "kill segment, resume": kills_of_segment,
    "kill train (whole pipeline), resume": kills_of_train,
    "kill export, every format": kills_of_export,
    "kill paint, flushed strokes": kills_of_paint,
    "kill painting layer, two seconds": kills_of_recorder,
}


EARLY = (
    "encodings.idna",
    "encodings.utf_8_sig",
    "imagecodecs",
    "napari.components",
    "napari.layers",
    "PIL.JpegImagePlugin",
    "PIL.PngImagePlugin",
    "qtpy.QtCore",
    "scipy.ndimage",
    "shapely",
    "tifffile",
    "xml.etree.ElementTree",
)
"""What is imported on first use otherwise."""


def warm() -> None:
    """Import everything that forks use: they start in milliseconds, and may open no file."""
    import torch

    for name in EARLY:
        importlib.import_module(name)
    torch.set_num_threads(1)
    # forks that give up the administrator's rights may not be able to read the environment
    importlib.import_module("napari_plimseg.models.model_file").current_versions()
    # what an optimizer imports is imported before the forks
    torch.optim.AdamW([torch.zeros(1, requires_grad=True)]).zero_grad()
    for package in ("napari_plimseg", "plimseg_training"):
        root = importlib.import_module(package)
        for found in pkgutil.walk_packages(root.__path__, f"{package}."):
            if not found.name.endswith("__main__"):
                importlib.import_module(found.name)
    for name in ("models", "stages", "library", "tagged_folders"):
        importlib.import_module(f"tests.support.{name}")
    # the collector would copy every page of every fork
    gc.collect()
    gc.freeze()


def run(settings: Settings, report: Report) -> None:
    """Kill everything `settings.count` times."""
    for name, row in KILLS.items():
        if settings.wants(name):
            with report.row(name) as outcomes:
                row(settings, outcomes, settings.count)

"""Everything that this program writes, each with an old state, a new one, and how to read it."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_plimseg.errors import ModelError
from napari_plimseg.results import FORMATS, MaskStore, StoreLayout
from napari_plimseg.results.corrections.corrections import Corrections
from napari_plimseg.tiling import Window
from napari_plimseg.tissue import COLORECTAL
from tests.campaigns.forks import tree
from tests.support.masks import PaintedSlide, blobs, info_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@dataclass(frozen=True)
class Writer:
    """One thing that is written to disk.

    Parameters
    ----------
    name : str
    old : callable
        Writes the old state into a folder.
    new : callable
        Writes the new state over it: what is attacked.
    read : callable
        Returns what a folder holds; by default the digests of its files.
    raises : bool
        Whether a failure raises our error; otherwise it is only logged, since nothing depends
        on the file.
    appends : bool
        Whether what is read is a list that grows, of which a part may be written.
    """

    name: str
    old: Callable[[Path], object]
    new: Callable[[Path], object]
    read: Callable[[Path], Any] = tree
    raises: bool = True
    appends: bool = False


MASKS = tuple(blobs((96, 130), seed) for seed in (1, 2))
LAYOUT = StoreLayout((32, 32), 128, has_probabilities=False, recipe="test")


def _slide() -> PaintedSlide:
    return PaintedSlide(np.full((384, 520, 3), 240, np.uint8))


def _export(key: str, version: int) -> Callable[[Path], object]:
    def write(folder: Path) -> None:
        mask = MASKS[version]
        kind = FORMATS[key]
        kind.write(folder / f"case{kind.suffix}", mask, info_for(mask), _slide(), "mask")

    return write


def _store(folder: Path) -> None:
    """Write a store whose last row of tiles is not computed yet."""
    info = info_for(MASKS[0])
    with MaskStore.create(folder / "case.plimseg", info, LAYOUT) as store:
        _write_rows(store, range(2))


def _write_rows(store: MaskStore, rows: range) -> None:
    height, width = store.info.shape
    for row in rows:
        for column in range(-(-width // 32)):
            y, x = row * 32, column * 32
            window = Window(y, x, min(32, height - y), min(32, width - x))
            part = MASKS[0][window.slices]
            store.write_tile((row, column), window, part, part, None)


def _fill_store(folder: Path) -> None:
    with MaskStore.open(folder / "case.plimseg", writable=True) as store:
        _write_rows(store, range(2, 3))


def _recolor_store(folder: Path) -> None:
    with MaskStore.open(folder / "case.plimseg", writable=True) as store:
        first = store.info.classes[0]
        colors = store.info.classes.replaced(first.name, replace(first, color=(1, 2, 3)))
        store.describe(replace(store.info, classes=colors))


def _read_store(folder: Path) -> list[Any]:
    """Return the finished tiles with their mask ids, in order."""
    path = folder / "case.plimseg"
    if not (path / "manifest.json").exists():
        return []
    found: list[Any] = []
    with MaskStore.open(path) as store:
        mask = store.read_classes()
        if store.info.classes[0].color == (1, 2, 3):
            found.append("recolored")
        for row in range(3):
            for column in range(5):
                if store.state((row, column)):
                    part = mask[row * 32 : row * 32 + 32, column * 32 : column * 32 + 32]
                    good = np.array_equal(
                        part, MASKS[0][row * 32 : row * 32 + 32, column * 32 : column * 32 + 32]
                    )
                    found.append([row, column, good])
    return found


def _read_colors(folder: Path) -> Any:
    with MaskStore.open(folder / "case.plimseg") as store:
        return [list(store.info.classes[0].color), store.done_fraction]


def _corrections(folder: Path) -> Corrections:
    return Corrections.open(folder, info_for(MASKS[0]))


def _paint(number: int, *, release: bool = False) -> Callable[[Path], object]:
    def write(folder: Path) -> None:
        corrections = _corrections(folder)
        rng = np.random.default_rng(number)
        block = rng.integers(1, 5, (40, 50)).astype(np.uint8)
        corrections.write(number * 10, number * 20, block)
        corrections.flush()
        if release:
            corrections.flush_and_release()

    return write


def _rewrite_corrections(folder: Path) -> None:
    from napari_plimseg.results.corrections import journal

    journal.COMPACT_BYTES = 10
    _paint(2)(folder)


def _read_corrections(folder: Path) -> Any:
    import hashlib

    corrections = _corrections(folder)
    pixels = corrections.read(slice(0, 96), slice(0, 130))
    return [hashlib.sha256(pixels.tobytes()).hexdigest(), corrections.note()]


def _review(number: int) -> Callable[[Path], object]:
    def write(folder: Path) -> None:
        from napari_plimseg.results import ReviewedRegion, ReviewLog

        if not (folder / "case.plimseg").exists():
            _store(folder)
        with MaskStore.open(folder / "case.plimseg") as store:
            ReviewLog(store).add(ReviewedRegion(number, number, 5, 5))

    return write


def _read_review(folder: Path) -> Any:
    from napari_plimseg.results import ReviewLog

    with MaskStore.open(folder / "case.plimseg") as store:
        # adding one again, after a failure, adds it twice
        return sorted({region.y for region in ReviewLog(store).regions})


def _objects(tissue: int) -> Callable[[Path], object]:
    def write(folder: Path) -> None:
        from napari_plimseg.results import export_corrected_objects

        mask = np.full((300, 300), 2, np.uint8)
        corrections = Corrections.open(folder / "unused", info_for(mask, downsample=2.0, mpp=0.5))
        corrections.write(100, 120, np.full((30, 30), tissue, np.uint8))
        mask[100:130, 120:150] = tissue
        slide = PaintedSlide(np.full((600, 600, 3), 200, np.uint8), mpp=0.5)
        export_corrected_objects(folder / "objects", slide, mask, corrections)

    return write


# -- models


def _header(title: str) -> Any:
    from tests.support.library import header

    return header(title=title)


def _model(title: str) -> Callable[[Path], object]:
    def write(folder: Path) -> None:
        from napari_plimseg.models import save_model
        from tests.support.library import unit_vectors

        save_model(folder / "model.safetensors", _header(title), {"prototypes": unit_vectors(2)})

    return write


def _import(title: str) -> Callable[[Path], object]:
    def write(folder: Path) -> None:
        from napari_plimseg.files import sha256
        from napari_plimseg.models.importing import _copy_model

        os.environ["PLIMSEG_DATA_DIR"] = str(folder / "user")
        source = _source(folder, title)
        try:
            _copy_model(source, sha256(source))  # it was tried in a process before
        except ModelError as error:
            if "in the library already" not in str(error):
                raise

    return write


def _source(folder: Path, title: str) -> Path:
    """Return a model file that lies beside the folder under attack."""
    source = folder.parent / f"source-{title}"
    if not (source / "model.safetensors").exists():
        source.mkdir(exist_ok=True)
        _model(title)(source)
    return source / "model.safetensors"


def _listed(title: str) -> Callable[[Path], object]:
    def write(folder: Path) -> None:
        from plimseg_training.commands.train import listed

        os.environ["PLIMSEG_DATA_DIR"] = str(folder / "user")
        listed(_source(folder, title), "glands")

    return write


# -- what docks and batches keep


def _settings(tile: int) -> Callable[[Path], object]:
    def write(folder: Path) -> None:
        from napari_plimseg.settings import (
            DockSettings,
            TrainSettings,
            remember,
            save_settings,
            save_train_settings,
        )

        os.environ["PLIMSEG_DATA_DIR"] = str(folder)
        save_settings(replace(DockSettings(), tile_size=tile))
        save_train_settings(TrainSettings(mpp=str(tile)))
        remember("tile", tile)

    return write


def _cohort(number: int) -> Callable[[Path], object]:
    def write(folder: Path) -> None:
        from napari_plimseg.inference import Cohort

        slide = folder.parent / f"slide-{number}.png"
        if not slide.exists():
            from PIL import Image

            Image.fromarray(np.full((64, 64, 3), 200, np.uint8)).save(slide)
        with Cohort.open(folder) as cohort:
            cohort.add(slide, mpp=0.5, stem=f"slide-{number}", look=False)

    return write


def _read_cohort(folder: Path) -> Any:
    from napari_plimseg.inference import Cohort

    with Cohort.open(folder) as cohort:
        return [item.stem for item in cohort.items]


def _classes(number: int) -> Callable[[Path], object]:
    def write(folder: Path) -> None:
        first = COLORECTAL[0]
        COLORECTAL.replaced(first.name, replace(first, color=(number, 2, 3))).to_yaml(
            folder / "classes.yaml"
        )

    return write


def _tags(tag: str) -> Callable[[Path], object]:
    def write(folder: Path) -> None:
        from napari_plimseg.training_runs import TagTable
        from tests.support.tagged_folders import csv_folder, good_rows

        if not (folder / "tags.csv").exists():
            csv_folder(folder, "file,tumour,stroma\n" + good_rows())
        table = TagTable(folder)
        table.set_tags("0.png", [tag])

    return write


def _read_tags(folder: Path) -> Any:
    from napari_plimseg.training_runs import TagTable

    table = TagTable(folder)
    return {name: sorted(table.tags(name)) for name in table.images}


def _cache(value: float) -> Callable[[Path], object]:
    def write(folder: Path) -> None:
        import torch

        from napari_plimseg.inference.promptable.embedding_cache import EmbeddingCache
        from napari_plimseg.models import Encoded

        maps = Encoded(torch.full((4, 8, 8), value), torch.full((4, 8, 8), value))
        EmbeddingCache(folder, memory_bytes=0, disk_bytes=1 << 20)._write("d" * 64, maps)

    return write


# -- training


def _state(epoch: int) -> Callable[[Path], object]:
    def write(folder: Path) -> None:
        import torch

        from plimseg_training.loop.state import Position, TrainState, write_state

        tensors = {"network.w": torch.full((40, 40), float(epoch))}
        state = TrainState(tensors, Position(epoch=epoch), {}, {"name": "tiny"}, "digest")
        write_state(folder, state)

    return write


def _read_state(folder: Path) -> Any:
    from plimseg_training.loop.state import read_state

    found = read_state(folder)
    if found is None:
        return None
    return [found[0].position.epoch, float(found[0].tensors["network.w"][0, 0])]


def _weights(value: float) -> Callable[[Path], object]:
    def write(folder: Path) -> None:
        import torch

        from plimseg_training.loop.state import write_weights

        layer = torch.nn.Linear(30, 30)
        with torch.no_grad():
            for weight in layer.parameters():
                weight.fill_(value)
        write_weights(folder / "best.safetensors", layer, {"epoch": int(value)})

    return write


def _events(number: int) -> Callable[[Path], object]:
    def write(folder: Path) -> None:
        from napari_plimseg.training_runs import Event
        from plimseg_training.events import ProgressLog

        log = ProgressLog(folder / "progress.jsonl")
        for step in range(number, number + 8):
            log(Event("step", stage="stage1", step=step, message="x" * 700))

    return write


def _read_events(folder: Path) -> list[Any]:
    from plimseg_training.events import read_events

    # a training that is started again writes its steps again
    return sorted({event.step for event in read_events(folder / "progress.jsonl")})


def _history(rows: int) -> Callable[[Path], object]:
    def write(folder: Path) -> None:
        from plimseg_training.events import write_history
        from plimseg_training.run_folder import writing

        with writing(folder):
            write_history(
                folder / "history.csv", "stage1", [{"epoch": n, "loss": n / 7} for n in range(rows)]
            )

    return write


def _pseudo_mask(value: int) -> Callable[[Path], object]:
    def write(folder: Path) -> None:
        from plimseg_training.stages import write_pseudo_mask

        mask = (np.random.default_rng(value).integers(0, 3, (90, 90))).astype(np.int16)
        write_pseudo_mask(folder / "0.png", mask)

    return write


def _recipe(epochs: int) -> Callable[[Path], object]:
    def write(folder: Path) -> None:
        from tests.support.stages import recipe

        recipe(None, f"stage1.epochs={epochs}").to_yaml(folder / "recipe.yaml")

    return write


def _report(note: str) -> Callable[[Path], object]:
    def write(folder: Path) -> None:
        from plimseg_training.report import write_report

        write_report(folder, notes=[note * 500])

    return write


def _cut(tissue: int) -> Callable[[Path], object]:
    """Cut patches of one image, and of a second one into the same folder."""

    def write(folder: Path) -> None:
        from PIL import Image

        from plimseg_training.data import cut_patches

        pixels = np.random.default_rng(tissue).integers(60, 180, (128, 128, 3)).astype(np.uint8)
        image, truth = folder.parent / f"cut-{tissue}.png", folder.parent / f"cut-{tissue}-mask.png"
        if not truth.exists():
            Image.fromarray(pixels).save(image)
            Image.fromarray(np.full((128, 128), tissue, np.uint8)).save(truth)
        cut_patches(
            image, truth, folder / "cut", patch=64, stride=64, classes=COLORECTAL, source_mpp=0.5
        )

    return write


def _scores(seed: int) -> Callable[[Path], object]:
    def write(folder: Path) -> None:
        from napari_plimseg.tissue import GLAS
        from plimseg_training.commands.evaluate import write_image_scores
        from plimseg_training.evaluation import Score
        from plimseg_training.evaluation.protocols import PROTOCOLS
        from plimseg_training.evaluation.scoring import Evaluation, ImageScore, ProtocolResult

        matrix = np.random.default_rng(seed).integers(1, 50, (2, 2))
        score = Score(matrix, GLAS.names, (0, 1))
        images = tuple(ImageScore(f"{n}.png", score) for n in range(40))
        result = ProtocolResult(PROTOCOLS["oeem"], False, score, images)
        write_image_scores(
            folder / "images.csv",
            Evaluation(
                "my model", "0" * 8, "glas", GLAS.names, (result,), 40, (), (), 1.5, "CPU, 2 cores"
            ),
        )

    return write


def _nothing(folder: Path) -> None:
    """There is no old state."""


def all_writers() -> list[Writer]:
    """Return every writer of the program."""
    exports = [Writer(f"export {key}", _export(key, 0), _export(key, 1)) for key in sorted(FORMATS)]
    return [
        *exports,
        Writer("new mask store", _nothing, _store, _read_store, appends=True),
        Writer("tiles and journal of a store", _store, _fill_store, _read_store, appends=True),
        Writer("manifest of a store", _store, _recolor_store, _read_colors),
        Writer("list of reviewed regions", _review(1), _review(2), _read_review),
        Writer("corrections, first", _nothing, _paint(1), _read_corrections),
        Writer("corrections, appended", _paint(1), _paint(2), _read_corrections),
        Writer("corrections, compacted", _paint(1), _rewrite_corrections, _read_corrections),
        Writer("corrected objects", _objects(1), _objects(3)),
        Writer("model file", _model("old"), _model("new")),
        Writer("model imported", _import("old"), _import("new")),
        Writer("model listed after training", _listed("old"), _listed("new")),
        Writer("settings of docks", _settings(512), _settings(1024), raises=False),
        Writer("list of slides", _cohort(1), _cohort(2), _read_cohort),
        Writer("list of classes", _classes(1), _classes(2)),
        Writer("table of tags", _tags("tumour"), _tags("stroma"), _read_tags),
        Writer("cache of embeddings", _cache(1), _cache(2), raises=False),
        Writer("checkpoint", _state(1), _state(2), _read_state),
        Writer("best weights", _weights(1), _weights(2)),
        Writer("events of a training", _events(0), _events(8), _read_events, appends=True),
        Writer("history of a training", _history(3), _history(90)),
        Writer("pseudo mask", _pseudo_mask(1), _pseudo_mask(2)),
        Writer("scores of images", _scores(1), _scores(2)),
        Writer("recipe", _recipe(2), _recipe(3)),
        Writer("report of a training", _report("old"), _report("new")),
        Writer("patches cut from images", _cut(1), _cut(2)),
    ]


def fresh(folder: Path, source: Path) -> Path:
    """Make a folder a copy of another one."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source, folder)
    return folder

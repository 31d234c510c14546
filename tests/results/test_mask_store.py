from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from napari_plimseg.errors import StoreError
from napari_plimseg.results import mask_store
from napari_plimseg.results.mask_info import MaskInfo
from napari_plimseg.results.mask_store import MaskStore, StoreLayout
from napari_plimseg.slides.slide import Region
from napari_plimseg.tiling import Window
from napari_plimseg.tissue import BCSS_WSSS, TissueClass
from tests.support.paths import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SHAPE = (50, 70)
TILE = (32, 32)


def make_info(**changes: Any) -> MaskInfo:
    values: dict[str, Any] = {
        "slide_name": "naïve 幻灯片.svs",
        "slide_fingerprint": "f" * 64,
        "slide_shape": (400, 560),
        "bounds": Region(3, 4, 390, 500),
        "mpp": 0.25,
        "shape": SHAPE,
        "downsample": 8.0,
        "classes": BCSS_WSSS,
        "model_name": "test",
        "model_identity": "1",
    }
    return MaskInfo(**{**values, **changes})


LAYOUT = StoreLayout(TILE, 128, has_probabilities=True, recipe="r")


def fill(store: MaskStore, tile: tuple[int, int], value: int) -> None:
    rows, columns = SHAPE
    window = Window(
        tile[0] * 32, tile[1] * 32, min(32, rows - tile[0] * 32), min(32, columns - tile[1] * 32)
    )
    block = np.full((window.height, window.width), value, np.uint8)
    store.write_tile(tile, window, block, block, np.stack([block] * len(BCSS_WSSS)))


TILES = [(r, c) for r in range(2) for c in range(3)]


@pytest.fixture
def full(tmp_path: Path) -> Path:
    with MaskStore.create(tmp_path / "full.plimseg", make_info(), LAYOUT) as store:
        for i, tile in enumerate(TILES):
            fill(store, tile, i % 4 + 1)
    return tmp_path / "full.plimseg"


def test_a_store_gives_back_what_was_written(full: Path) -> None:
    store = MaskStore.open(full)
    assert store.info == make_info()
    assert store.layout == LAYOUT
    assert store.done_fraction == 1
    mask = store.read_classes()
    assert mask.shape == SHAPE
    for i, (r, c) in enumerate(TILES):
        assert (mask[r * 32 : r * 32 + 32, c * 32 : c * 32 + 32] == i % 4 + 1).all()
    assert store.probabilities is not None
    assert store.probabilities.shape == (5, *SHAPE)


def test_tiles_not_in_the_journal_are_not_shown(tmp_path: Path) -> None:
    store = MaskStore.create(tmp_path / "s.plimseg", make_info(), LAYOUT)
    fill(store, (0, 0), 3)
    store.classes[0:32, 32:64] = 2  # as a kill between chunk and journal leaves it
    store.close()
    mask = MaskStore.open(tmp_path / "s.plimseg").read_classes()
    assert (mask[:32, :32] == 3).all()
    assert (mask[:32, 32:] == 0).all()


def test_a_flipped_bit_of_a_chunk_never_changes_a_value(full: Path) -> None:
    chunks = [f for f in full.rglob("*") if f.is_file() and "c" in f.relative_to(full).parts]
    assert len(chunks) == 18
    rng = np.random.default_rng(0)
    whole = MaskStore.open(full)
    assert whole.probabilities is not None
    mask, probabilities = whole.read_classes(), np.asarray(whole.probabilities[:])
    found = 0
    for chunk in chunks:
        good = chunk.read_bytes()
        for bit in rng.choice(len(good) * 8, size=12, replace=False):
            bad = bytearray(good)
            bad[bit // 8] ^= 1 << (bit % 8)
            chunk.write_bytes(bad)
            store = MaskStore.open(full)
            shown = store.read_classes()
            assert ((shown == mask) | (shown == 0)).all()
            if store.forget_damaged() == 0:
                # a few bits of a Zstandard frame carry nothing: the content must be the same
                np.testing.assert_array_equal(shown, mask)
                assert store.probabilities is not None
                np.testing.assert_array_equal(store.probabilities[:], probabilities)
            else:
                found += 1
        chunk.write_bytes(good)
    assert found > 200


def test_a_lost_chunk_reads_as_not_computed_and_is_done_again(full: Path) -> None:
    (full / "classes.zarr" / "c" / "1" / "1").unlink()
    store = MaskStore.open(full)
    assert (store.read_classes()[32:, 32:64] == 0).all()
    assert store.forget_damaged() == 1
    assert store.state((1, 1)) is None
    assert store.state((0, 0)) == "done"


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (lambda p: (p / "manifest.json").unlink(), "not a mask store"),
        (lambda p: (p / "manifest.json").write_text("{"), "manifest.json is damaged"),
        (
            lambda p: (p / "manifest.json").write_text(
                (p / "manifest.json").read_text("utf-8").replace('"test"', '"tEst"'), "utf-8"
            ),
            "checksum",
        ),
        (lambda p: (p / "classes.zarr" / "zarr.json").unlink(), "'classes' can't be opened"),
        (
            lambda p: (p / "classes.zarr" / "zarr.json").write_text(
                (p / "classes.zarr" / "zarr.json").read_text().replace("70", "71")
            ),
            "does not fit",
        ),
    ],
)
def test_a_damaged_store_is_refused_with_the_remedy(
    full: Path, harm: Callable[[Path], Any], says: str
) -> None:
    harm(full)
    with pytest.raises(StoreError, match=says) as caught:
        MaskStore.open(full)
    assert "full.plimseg" in str(caught.value)
    assert str(full.parent) not in str(caught.value)


def test_a_damaged_journal_costs_time_and_not_correctness(full: Path) -> None:
    text = (full / "journal.json").read_text()
    (full / "journal.json").write_text(text.replace("done", "dome", 1))
    store = MaskStore.open(full)
    assert store.done_fraction == 0
    assert (store.read_classes() == 0).all()


def test_a_newer_format_says_so(full: Path) -> None:
    content = json.loads((full / "manifest.json").read_text("utf-8"))["content"]
    content["format"] = 99
    mask_store.write_checked(full / "manifest.json", content)
    with pytest.raises(StoreError, match="newer version"):
        MaskStore.open(full)


def test_colours_can_change_and_classes_can_not(full: Path) -> None:
    recolored = BCSS_WSSS.replaced("stroma", TissueClass("stroma", (1, 2, 3)))
    with MaskStore.open(full, writable=True) as store:
        store.recolor(recolored)
        with pytest.raises(StoreError, match="other classes"):
            store.recolor(BCSS_WSSS.without("stroma"))
    again = MaskStore.open(full)
    assert again.info.classes == recolored
    assert again.done_fraction == 1


def test_only_one_writes(full: Path) -> None:
    with (
        MaskStore.open(full, writable=True),
        pytest.raises(StoreError, match="another program"),
    ):
        MaskStore.open(full, writable=True)
    MaskStore.open(full, writable=True).close()


def test_other_files_are_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(StoreError, match="other files"):
        MaskStore.create(tmp_path, make_info(), LAYOUT)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_full_disk_keeps_what_was_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MaskStore.create(tmp_path / "s.plimseg", make_info(), LAYOUT)
    fill(store, (0, 0), 1)
    store.flush()

    def no_room(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("napari_plimseg.results.mask_store.write_checked", no_room)
    fill(store, (0, 1), 2)
    with pytest.raises(StoreError, match=r"disk is full.*kept.*resumes where it stopped"):
        store.flush()
    monkeypatch.undo()
    store._lock.release()
    again = MaskStore.open(tmp_path / "s.plimseg")
    assert again.state((0, 0)) == "done"
    assert (again.read_classes()[:32, :32] == 1).all()


def test_too_little_room_is_said_before_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        mask_store.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1 << 20})()
    )
    with pytest.raises(StoreError, match=r"1 MB free.*may need \d+ MB"):
        MaskStore.create(tmp_path / "s.plimseg", make_info(), LAYOUT)


KILLED = """
import os, sys, threading, time
import numpy as np
from napari_plimseg.results.mask_store import MaskStore
from tests.results.test_mask_store import LAYOUT, TILES, fill, make_info
import napari_plimseg.results.mask_store as module
module._JOURNAL_INTERVAL = 0.0
store = MaskStore.open(sys.argv[1], writable=True)
print("ready", flush=True)
for round in range(10**6):
    for i, tile in enumerate(TILES):
        fill(store, tile, i % 4 + 1)
"""


@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
def test_kill_at_any_moment_leaves_a_good_store(tmp_path: Path) -> None:
    path = tmp_path / "s.plimseg"
    MaskStore.create(path, make_info(), LAYOUT).close()
    rng = np.random.default_rng(1)
    for _ in range(4):
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(KILLED), str(path)],
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        try:
            process.wait(float(rng.uniform(0.02, 0.3)))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
        process.stdout.close()
        store = MaskStore.open(path)
        assert store.forget_damaged() == 0
        mask = store.read_classes()
        for i, (r, c) in enumerate(TILES):
            if store.state((r, c)) == "done":
                assert (mask[r * 32 : r * 32 + 32, c * 32 : c * 32 + 32] == i % 4 + 1).all()
    assert store.done_fraction > 0

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zarr

from napari_plimseg import open_slide, segment
from napari_plimseg.errors import DamagedStoreError, SlideError, StoreError
from napari_plimseg.inference import RunSettings
from napari_plimseg.results import mask_store
from napari_plimseg.results.mask_info import MaskInfo
from napari_plimseg.results.mask_store import MaskStore, StoreLayout
from napari_plimseg.results.store_arrays import StoreArray
from napari_plimseg.slides import slides_in
from napari_plimseg.slides.slide import Region
from napari_plimseg.tiling import Window
from napari_plimseg.tissue import BCSS_WSSS, UNREADABLE, TissueClass
from tests.support.ngff_rules import check_image, check_labels
from tests.support.paths import ROOT
from tests.support.store_flips import (
    every_bit,
    files_of,
    flipped,
    outcome,
    read_everything,
    some_bits,
)

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


def chunk(path: Path, name: str, row: int, column: int) -> Path:
    if name == "probabilities":
        return path / name / "0" / "c" / "0" / str(row) / str(column)
    return path / "labels" / name / "0" / "c" / str(row) / str(column)


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
    every = store.read("probabilities", slice(0, 50), slice(0, 70))
    assert every.shape == (5, *SHAPE)
    one = store.read("probabilities", slice(3, 47), slice(31, 70), step=5, channel=2)
    np.testing.assert_array_equal(one, every[2, 3:47:5, 31:70:5])
    np.testing.assert_array_equal(
        store.read("classes", slice(1, 99), slice(33, 65), step=7), mask[1:50:7, 33:65:7]
    )


def test_tiles_not_in_the_journal_are_not_shown(tmp_path: Path) -> None:
    store = MaskStore.create(tmp_path / "s.plimseg", make_info(), LAYOUT)
    fill(store, (0, 0), 3)
    chunks = tmp_path / "s.plimseg" / "labels" / "classes" / "0" / "c" / "0"
    shutil.copy(chunks / "0", chunks / "1")  # as a kill between chunk and journal leaves it
    store.close()
    mask = MaskStore.open(tmp_path / "s.plimseg").read_classes()
    assert (mask[:32, :32] == 3).all()
    assert (mask[:32, 32:] == 0).all()


@pytest.mark.parametrize("seed", range(2))
def test_no_flipped_bit_changes_anything_unnoticed(full: Path, seed: int) -> None:
    expected = read_everything(MaskStore.open(full))
    metadata, chunks = files_of(full)
    assert len(chunks) == 18
    rng = np.random.default_rng(seed)
    bits = some_bits(metadata, 200, rng) + some_bits(chunks, 100, rng)
    found = Counter()
    for file, bit in bits:
        with flipped(file, bit):
            told = outcome(full, expected)
            found[told] += 1
            # the checksum covers each bit of a chunk
            assert told == ("damage told" if file in chunks else told), file
    assert found["CHANGED"] == 0, found
    assert found["damage told"] > 200
    assert outcome(full, expected) == "same"


def test_each_bit_of_a_chunk_and_of_a_small_zarr_json_is_noticed(full: Path) -> None:
    expected = read_everything(MaskStore.open(full))
    files = [full / "labels" / "classes" / "0" / "c" / "1" / "1", full / "labels" / "zarr.json"]
    for file, bit in every_bit(files)[::3]:
        with flipped(file, bit):
            assert outcome(full, expected) == "damage told", (file, bit)


def test_a_lost_chunk_is_an_error_and_computed_again(full: Path) -> None:
    chunk(full, "classes", 1, 1).unlink()
    store = MaskStore.open(full)
    with pytest.raises(DamagedStoreError, match="1 of 6 tiles of the classes is damaged") as caught:
        store.read_classes()
    assert "x 64 to 128 µm, y 64 to 100 µm, about 0.0023 mm²" in str(caught.value)
    assert "only these parts are computed" in str(caught.value)
    assert "--allow-damaged" in str(caught.value)
    mask = store.read_classes(allow_damaged=True)
    assert (mask[32:, 32:64] == UNREADABLE).all()
    assert np.isin(mask, (1, 2, 3, 4, UNREADABLE)).all()
    # other parts, and other arrays, need nobody's permission
    assert (store.read("classes", slice(0, 32), slice(0, 70)) != UNREADABLE).all()
    assert store.read("confidence", slice(32, 50), slice(32, 64)).all()
    assert store.forget_damaged() == 1
    assert store.dropped.damaged_tiles == {(1, 1)}
    assert store.state((1, 1)) is None
    assert store.state((0, 0)) == "done"


def test_damage_names_each_part(full: Path) -> None:
    for row, column in ((0, 0), (0, 1), (1, 2)):
        chunk(full, "confidence", row, column).write_bytes(b"")
    chunk(full, "probabilities", 1, 2).unlink()
    damage = MaskStore.open(full).damage()
    assert dict(damage.tiles)["confidence"] == ((0, 0), (0, 1), (1, 2))
    assert damage.pixels == 32 * 64 + 18 * 6
    assert damage.area_mm2 == pytest.approx(damage.pixels * 4e-6)
    first, _, second = damage.sentence.partition(" in all; ")
    assert first == (
        "3 of 6 tiles of the confidence are damaged or lost: x 0 to 128 µm, y 0 to 64 µm; "
        "x 128 to 140 µm, y 64 to 100 µm, about 0.0086 mm²"
    )
    assert second.startswith("1 of 6 tiles of the probabilities is damaged")
    store = MaskStore.open(full)
    for name in ("confidence", "probabilities"):
        with pytest.raises(DamagedStoreError, match=name):
            store.read(name, slice(0, 50), slice(0, 70))
        there = store.read(name, slice(32, 50), slice(64, 70), allow_damaged=True)
        assert not there.any()
    with pytest.raises(DamagedStoreError, match="probabilities"):
        store.check()


def test_without_a_pixel_size_damage_is_in_pixels(tmp_path: Path) -> None:
    with MaskStore.create(tmp_path / "s.plimseg", make_info(mpp=None), LAYOUT) as store:
        fill(store, (1, 2), 1)
    chunk(tmp_path / "s.plimseg", "classes", 1, 2).unlink()
    sentence = MaskStore.open(tmp_path / "s.plimseg").damage().sentence
    assert sentence.endswith("x 64 to 70, y 32 to 50, 108 pixels")


def test_two_swapped_chunks_are_noticed(full: Path) -> None:
    one, other = chunk(full, "classes", 0, 0), chunk(full, "classes", 0, 1)
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)
    assert MaskStore.open(full).damage().damaged_tiles == {(0, 0), (0, 1)}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_a_pipe_in_place_of_a_chunk_does_not_block(full: Path) -> None:
    chunk(full, "classes", 0, 0).unlink()
    os.mkfifo(chunk(full, "classes", 0, 0))
    assert MaskStore.open(full).damage().damaged_tiles == {(0, 0)}


def test_a_chunk_that_would_inflate_is_damaged(full: Path) -> None:
    import google_crc32c
    from imagecodecs import zstd_encode

    bomb = bytes(zstd_encode(bytes(50_000_000), 1))
    path = chunk(full, "classes", 0, 0)
    path.write_bytes(bomb + google_crc32c.value(bomb).to_bytes(4, "little"))
    found = StoreArray(path.parents[2], SHAPE, TILE).read((0, 0))
    assert found is None


@pytest.mark.parametrize("lose", ["unlink", "damage", "wrong entry"])
def test_a_lost_journal_is_told(full: Path, lose: str) -> None:
    path = full / "journal.json"
    if lose == "unlink":
        path.unlink()
    elif lose == "damage":
        path.write_text(path.read_text().replace("done", "dome", 1))
    else:
        mask_store.write_checked(path, {"7,7": {"state": "done", "region": None}})
    store = MaskStore.open(full)
    assert store.done_fraction == 0
    with pytest.raises(DamagedStoreError, match=r"journal is lost or damaged.*6 tiles"):
        store.read_classes()
    chunk(full, "classes", 1, 1).unlink()
    mask = store.read_classes(allow_damaged=True)  # what is there can be had
    assert (mask[:32] != 0).all()
    assert (mask[32:, 32:64] == 0).all()
    with MaskStore.open(full, writable=True) as again:
        assert again.forget_damaged() == 0
        assert again.dropped.lost_journal
        assert again.state((0, 0)) is None
        fill(again, (0, 0), 1)
    assert not MaskStore.open(full).damage()


@pytest.mark.parametrize("change", ["slide_fingerprint", "model_identity", "recipe"])
def test_journal_and_chunks_of_another_mask_are_told(full: Path, change: str) -> None:
    info, layout = make_info(), LAYOUT
    if change == "recipe":
        layout = replace(layout, recipe="another")
    else:
        info = replace(info, **{change: "another"})
    other = full.with_name("other.plimseg")
    with MaskStore.create(other, info, layout) as store:
        for tile in TILES:
            fill(store, tile, 4)
    for name in ("labels/classes", "labels/confidence", "probabilities"):
        chunks = full / name / "0" / "c"
        shutil.rmtree(chunks)
        shutil.copytree(other / name / "0" / "c", chunks)
    shutil.copy(other / "journal.json", full / "journal.json")
    with pytest.raises(DamagedStoreError, match="journal is lost or damaged"):
        MaskStore.open(full).read_classes()


def test_a_journal_without_an_owner_is_read(full: Path) -> None:
    path = full / "journal.json"
    content = json.loads(path.read_text())
    del content["owner"]  # as earlier versions wrote it
    path.write_text(json.dumps(content))
    assert not MaskStore.open(full).damage()


def test_a_new_store_has_a_journal(tmp_path: Path) -> None:
    MaskStore.create(tmp_path / "s.plimseg", make_info(), LAYOUT).close()
    assert not MaskStore.open(tmp_path / "s.plimseg").damage()
    assert [path.name for path in tmp_path.iterdir()] == ["s.plimseg"]


@pytest.mark.parametrize(
    "name", ["zarr.json", "labels/classes/zarr.json", "labels/classes/0/zarr.json"]
)
def test_damaged_metadata_is_told_and_written_again(full: Path, name: str) -> None:
    good = (full / name).read_bytes()
    for bad in (good.replace(b"y", b"z", 1), b"", good + b" "):
        (full / name).write_bytes(bad)
        store = MaskStore.open(full)
        with pytest.raises(DamagedStoreError, match=name):
            store.read_classes()
        assert store.read_classes(allow_damaged=True).all()
        with MaskStore.open(full, writable=True) as writable:
            assert writable.forget_damaged() == 0
            assert writable.dropped.metadata == (name,)
        assert (full / name).read_bytes() == good
        assert not MaskStore.open(full).damage()


def test_replacing_a_tile_is_safe_at_any_moment(full: Path) -> None:
    """A kill between the new chunk and the journal must not look like damage."""
    store = MaskStore.open(full, writable=True)
    fill(store, (0, 0), 4)  # not flushed
    seen = MaskStore.open(full)
    assert not seen.damage()
    assert (seen.read_classes()[:32, :32] == 4).all()
    store.close()
    # a reader that opened before does not take the newer chunk for a damaged one
    early = MaskStore.open(full)
    with MaskStore.open(full, writable=True) as store:
        fill(store, (0, 1), 3)
    assert (early.read_classes()[:32, 32:64] == 3).all()


# -- other programs


BIG = (1300, 1100)


def big_store(path: Path) -> tuple[MaskStore, np.ndarray]:
    layout = StoreLayout((200, 200), 800, has_probabilities=True, recipe="r")
    info = make_info(shape=BIG, slide_shape=(10400, 8800))
    mask = np.random.default_rng(0).integers(1, 6, BIG, dtype=np.uint8)
    store = MaskStore.create(path, info, layout)
    for row in range(7):
        for column in range(6):
            write_part(store, mask, row, column)
    return store, mask


def write_part(store: MaskStore, mask: np.ndarray, row: int, column: int) -> None:
    y, x = row * 200, column * 200
    window = Window(y, x, min(200, BIG[0] - y), min(200, BIG[1] - x))
    part = mask[window.slices]
    store.write_tile((row, column), window, part, 50 * part, np.stack([part] * 5))


def listed_levels(path: Path) -> list[str]:
    return [d["path"] for d in check_image(path / "labels" / "classes")["datasets"]]


def test_a_store_follows_the_standard_at_each_moment(tmp_path: Path) -> None:
    path = tmp_path / "s.plimseg"
    store, mask = big_store(path)
    store.flush()

    def check() -> None:
        check_image(path)
        assert check_labels(path) == ["classes", "confidence"]
        channels = check_image(path / "probabilities")
        assert [axis["name"] for axis in channels["axes"]] == ["c", "y", "x"]
        for level in listed_levels(path):
            step = 2 ** int(level)
            for name, factor in (("classes", 1), ("confidence", 50)):
                values = zarr.open_array(path / "labels" / name / level, mode="r")[:]
                np.testing.assert_array_equal(values, factor * mask[::step, ::step])
        every = zarr.open_array(path / "probabilities" / "0", mode="r")[:]
        np.testing.assert_array_equal(every, np.stack([mask] * 5))

    assert listed_levels(path) == ["0"]
    check()
    store.close()
    assert listed_levels(path) == ["0", "1", "2"]
    check()
    with MaskStore.open(path, writable=True) as store:
        assert listed_levels(path) == ["0", "1", "2"]
        mask[200:400, 200:400] = 5
        write_part(store, mask, 1, 1)
        assert listed_levels(path) == ["0"]
        store.flush()
        check()
    assert listed_levels(path) == ["0", "1", "2"]
    check()
    assert not MaskStore.open(path).damage()


def test_only_what_changed_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, mask = big_store(tmp_path / "s.plimseg")
    store.close()
    seen: list[set[tuple[int, int]]] = []
    real = mask_store.update_levels
    monkeypatch.setattr(mask_store, "update_levels", lambda *a: seen.append(set(a[3])) or real(*a))
    with MaskStore.open(tmp_path / "s.plimseg", writable=True) as store:
        write_part(store, mask, 0, 3)
    assert seen == [{(0, 3)}] * 2
    with MaskStore.open(tmp_path / "s.plimseg", writable=True):
        pass  # nothing changed
    assert len(seen) == 2
    # a run that was stopped leaves levels out; the next one makes all of them
    store = MaskStore.open(tmp_path / "s.plimseg", writable=True)
    write_part(store, mask, 0, 3)
    store.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert listed_levels(tmp_path / "s.plimseg") == ["0"]
    assert len(seen) == 2
    MaskStore.open(tmp_path / "s.plimseg", writable=True).close()
    assert listed_levels(tmp_path / "s.plimseg") == ["0", "1", "2"]
    assert len(seen[-1]) == 42


def test_damaged_levels_do_not_stay(tmp_path: Path) -> None:
    store, mask = big_store(tmp_path / "s.plimseg")
    store.close()
    levels = tmp_path / "s.plimseg" / "labels" / "classes"
    (levels / "1" / "c" / "0" / "0").write_bytes(b"damaged")
    mask[1200:, 1000:] = 1
    with MaskStore.open(tmp_path / "s.plimseg", writable=True) as store:
        write_part(store, mask, 6, 5)
    np.testing.assert_array_equal(zarr.open_array(levels / "2", mode="r")[:], mask[::4, ::4])


def test_a_full_disk_at_the_end_costs_only_the_levels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, mask = big_store(tmp_path / "s.plimseg")

    def no_room(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(mask_store, "update_levels", no_room)
    store.close()
    assert listed_levels(tmp_path / "s.plimseg") == ["0"]
    np.testing.assert_array_equal(MaskStore.open(tmp_path / "s.plimseg").read_classes(), mask)


def test_the_reader_of_the_standard_sees_classes_colors_and_micrometers(tmp_path: Path) -> None:
    from ome_zarr.io import parse_url
    from ome_zarr.reader import Reader

    store, mask = big_store(tmp_path / "s.plimseg")
    store.close()
    nodes = list(Reader(parse_url(tmp_path / "s.plimseg"))())
    image, _, classes, confidence = nodes
    for node, factor in ((image, 50), (classes, 1), (confidence, 50)):
        assert [axis["unit"] for axis in node.metadata["axes"]] == ["micrometer"] * 2
        for level, transforms in enumerate(node.metadata["coordinateTransformations"]):
            step = 2**level
            np.testing.assert_array_equal(node.data[level], factor * mask[::step, ::step])
            assert transforms[0]["scale"] == [2.0 * step] * 2
            assert transforms[1]["translation"] == [2.0 * step / 2 - 0.125] * 2
    for mask_id, tissue_class in enumerate(BCSS_WSSS, 1):
        color = [c / 255 for c in (*tissue_class.color, 255)]
        assert classes.metadata["color"][mask_id] == color
        assert classes.metadata["properties"][mask_id]["class"] == tissue_class.name


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


def test_a_newer_format_says_so(full: Path) -> None:
    content = json.loads((full / "manifest.json").read_text("utf-8"))["content"]
    content["format"] = 99
    mask_store.write_checked(full / "manifest.json", content)
    with pytest.raises(StoreError, match="newer version"):
        MaskStore.open(full)


def test_colours_can_change_and_classes_can_not(full: Path) -> None:
    recolored = BCSS_WSSS.replaced("stroma", TissueClass("stroma", (1, 2, 3)))
    with MaskStore.open(full, writable=True) as store:
        store.describe(replace(store.info, classes=recolored))
        with pytest.raises(StoreError, match="other classes"):
            store.describe(replace(store.info, classes=BCSS_WSSS.without("stroma")))
    again = MaskStore.open(full)
    assert again.info.classes == recolored
    assert again.done_fraction == 1
    assert not again.damage()
    assert b"[1,2,3,255]" in (full / "labels" / "classes" / "zarr.json").read_bytes()


def test_only_one_writes(full: Path) -> None:
    with MaskStore.open(full, writable=True):
        with pytest.raises(StoreError, match="another program"):
            MaskStore.open(full, writable=True)
        with pytest.raises(StoreError, match="another program"):
            MaskStore.create(full, make_info(), LAYOUT)
        assert full.exists()
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

    def no_room(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("napari_plimseg.results.store_manifest.write_checked", no_room)
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


def test_a_store_is_no_slide(full: Path) -> None:
    with pytest.raises(SlideError, match="it is a mask and not a slide"):
        open_slide(full)
    assert list(slides_in(full.parent)) == []


@pytest.mark.slow
def test_the_reader_of_the_standard_opens_the_store_of_a_polyp(
    shared_data: Path, tmp_path: Path
) -> None:
    from ome_zarr.io import parse_url
    from ome_zarr.reader import Reader

    slide = shared_data / "wsi" / "colon_polyp_crop.tif"
    region = Region(4500, 2500, 1400, 1400)
    result = segment(slide, region=region, out=tmp_path, settings=RunSettings(device="cpu"))
    check_image(result.store_path)
    assert check_labels(result.store_path) == ["classes", "confidence"]
    _, _, classes, _ = Reader(parse_url(result.store_path))()
    info, mask = result.info, result.mask
    assert (mask != 0).sum() > 20_000
    assert len(classes.data) > 1
    for level, data in enumerate(classes.data):
        np.testing.assert_array_equal(data, mask[:: 2**level, :: 2**level])
    assert [axis["unit"] for axis in classes.metadata["axes"]] == ["micrometer"] * 2
    scale, translation = classes.metadata["coordinateTransformations"][0]
    assert scale["scale"] == [0.25 * info.downsample] * 2
    assert translation["translation"] == list(info.napari_translate)
    for mask_id, tissue_class in enumerate(info.classes, 1):
        color = [c / 255 for c in (*tissue_class.color, 255)]
        assert classes.metadata["color"][mask_id] == color
        assert classes.metadata["properties"][mask_id]["class"] == tissue_class.name

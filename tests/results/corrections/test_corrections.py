"""Corrections: what was flushed is there again, whatever happened to the file or the mask."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_plimseg.errors import CorrectionsError
from napari_plimseg.results.corrections import journal
from napari_plimseg.results.corrections.corrections import Corrections, corrected, corrections_path
from napari_plimseg.results.corrections.journal_file import (
    CorrectionFrame,
    Description,
    Record,
    description_record,
    pixels_record,
    scan,
)
from napari_plimseg.results.mask_info import MaskInfo
from napari_plimseg.slides.slide import Region
from napari_plimseg.tissue import TissueClass, TissueClasses
from tests.support.paths import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

SHAPE = (700, 900)


def classes_of(*names: str) -> TissueClasses:
    colors = [(10 * i, 20, 30) for i in range(len(names))]
    return TissueClasses(
        tuple(TissueClass(n, c) for n, c in zip(names, colors, strict=True)),
        has_background="background" in names,
    )


def info_of(
    *names: str, shape: tuple[int, int] = SHAPE, downsample: float = 4.0, digest: str = "a" * 64
) -> MaskInfo:
    return MaskInfo(
        slide_name="case 7.svs",
        slide_fingerprint=digest,
        slide_shape=(2800, 3600),
        bounds=Region(0, 0, 2800, 3600),
        mpp=0.5,
        shape=shape,
        downsample=downsample,
        classes=classes_of(*(names or ("tumour", "stroma", "background"))),
    )


INFO = info_of()
SMALL = info_of(shape=(70, 90))
WHOLE = (slice(0, SHAPE[0]), slice(0, SHAPE[1]))


def fresh(folder: Path, info: MaskInfo = INFO) -> Corrections:
    """Open as another process would: nothing is shared with journals that are still open."""
    journal._open_journals.clear()
    return Corrections.open(folder, info)


def everything(corrections: Corrections) -> NDArray[np.uint8]:
    height, width = corrections.info.shape
    return corrections.read(slice(0, height), slice(0, width))


def journal_file(folder: Path, info: MaskInfo = INFO) -> Path:
    return corrections_path(folder, info) / "journal.bin"


def painted(folder: Path, *blocks: tuple[int, int, int], info: MaskInfo = INFO) -> Corrections:
    """Squares of 20 pixels: (y, x, mask id), each flushed on its own."""
    corrections = fresh(folder, info)
    for y, x, mask_id in blocks:
        corrections.write(y, x, np.full((20, 20), mask_id, np.uint8))
        corrections.flush()
    return corrections


def test_looking_makes_no_folder(tmp_path: Path) -> None:
    corrections = fresh(tmp_path)
    assert corrections.pixels == 0
    assert corrections.is_saved
    corrections.flush_and_release()
    assert not list(tmp_path.iterdir())


def test_what_was_flushed_is_there_again(tmp_path: Path) -> None:
    corrections = painted(tmp_path, (0, 0, 1), (500, 500, 2), (690, 890, 3))
    corrections.write(100, 100, np.ones((5, 5), np.uint8))
    assert not corrections.is_saved
    again = fresh(tmp_path)
    expected = np.zeros(SHAPE, np.uint8)
    expected[0:20, 0:20] = 1
    expected[500:520, 500:520] = 2
    expected[690:, 890:] = 3
    np.testing.assert_array_equal(everything(again), expected)
    assert again.pixels == 20 * 20 * 2 + 10 * 10
    assert again.note() == ""
    assert corrections_path(tmp_path, INFO).name == "case 7-aaaaaaaaaaaa.plimseg-corrections"


squares = st.tuples(st.integers(0, 60), st.integers(0, 60), st.integers(1, 25), st.integers(1, 25))
actions = st.one_of(
    st.tuples(st.just("paint"), squares, st.integers(0, 3)),
    st.tuples(st.just("spots"), squares, st.integers(1, 3), st.integers(0, 2**16)),
    st.tuples(st.just("undo")),
    st.tuples(st.just("flush")),
    st.tuples(st.just("flush_and_release")),
    st.tuples(st.just("reopen")),
)


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=st.lists(actions, max_size=25), chunk=st.sampled_from([7, 32, 512]))
def test_any_sequence_gives_what_numpy_gives(
    steps: list[tuple], chunk: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The person's view: a layer that is painted and undone, recorded, saved and opened again."""
    folder = tmp_path_factory.mktemp("steps")
    info = info_of(shape=(85, 85))
    rng = np.random.default_rng(len(steps))
    model = rng.integers(1, 4, info.shape).astype(np.uint8)
    layer, history = model.copy(), []
    expected = np.zeros(info.shape, np.uint8)  # corrections by the plain rule
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("napari_plimseg.results.corrections.sparse_mask.CHUNK", chunk)
        corrections = fresh(folder, info)
        for kind, *rest in steps:
            before = layer.copy()
            if kind == "paint":
                (y, x, height, width), mask_id = rest
                layer[y : y + height, x : x + width] = mask_id
            elif kind == "spots":
                (y, x, height, width), mask_id, seed = rest
                where = np.random.default_rng(seed).random((height, width)) < 0.5
                layer[y : y + height, x : x + width][where] = mask_id
            elif kind == "undo" and history:
                layer = history.pop()
            elif kind in ("flush", "flush_and_release"):
                getattr(corrections, kind)()
            elif kind == "reopen":
                corrections.flush()
                corrections = fresh(folder, info)
            if kind in ("paint", "spots"):
                history.append(before)
            # what the recorder does after each change: record, then fill in where erased
            changed = layer != before
            expected[changed] = np.where(layer == model, 0, layer)[changed]
            corrections.record(0, 0, layer, model)
            layer = np.where(layer == 0, model, layer)
            np.testing.assert_array_equal(everything(corrections), expected)
        corrections.flush()
        np.testing.assert_array_equal(everything(fresh(folder, info)), expected)


@pytest.mark.parametrize("step", [2, 3, 7])
def test_painting_on_fewer_pixels_paints_what_they_stand_for(tmp_path: Path, step: int) -> None:
    rng = np.random.default_rng(step)
    model = rng.integers(1, 3, SHAPE).astype(np.uint8)
    shown = model[::step, ::step].copy()
    corrections = fresh(tmp_path)
    corrections.write(33, 40, np.full((2, 2), 3, np.uint8))  # finer than what is shown
    corrections.apply(shown, step)
    shown[33 // step : 60, 50:90] = 3
    shown[-1, -1] = 3
    assert corrections.record(0, 0, shown, model[::step, ::step], step)
    found = everything(corrections)
    rows, columns = np.nonzero(shown[:, 50:] != model[::step, ::step][:, 50:])
    columns += 50
    for row, column in zip(rows, columns, strict=True):
        part = found[row * step : (row + 1) * step, column * step : (column + 1) * step]
        assert (part == 3).all()
    elsewhere = found.copy()
    elsewhere[33:35, 40:42] = 0
    assert np.count_nonzero(elsewhere) <= len(rows) * step**2
    merged = model[::step, ::step].copy()
    corrections.apply(merged, step)
    np.testing.assert_array_equal(merged, shown)
    np.testing.assert_array_equal(found[33:35, 40:42], 3)


def test_a_file_cut_at_every_byte(tmp_path: Path) -> None:
    painted(tmp_path, (0, 0, 1), (10, 10, 2), (30, 30, 3), info=SMALL)
    data = journal_file(tmp_path).read_bytes()
    ends = []
    position = 0
    for record in scan(data).records:
        position = data.index(record.body, position) + len(record.body)
        ends.append(position)
    assert ends[-1] == len(data)
    states = []
    state = np.zeros(SMALL.shape, np.uint8)
    for record in scan(data).records[2:]:
        if record.pixels is not None and record.kind == 2:
            rows, columns = record.window.slices
            np.copyto(state[rows, columns], record.pixels, where=record.pixels != 255)
        states.append(state.copy())
    folder = tmp_path / "cut"
    file = journal_file(folder)
    file.parent.mkdir(parents=True)
    for length in range(ends[0], len(data)):
        file.write_bytes(data[:length])
        whole = sum(length >= end for end in ends[2:])
        found = fresh(folder, SMALL)
        expected = states[whole - 1] if whole else np.zeros(SMALL.shape, np.uint8)
        np.testing.assert_array_equal(everything(found), expected)
        assert found.note() == ""
        if length % 25 == 0:  # painting goes on behind the last whole record
            found.write(60, 60, np.full((3, 3), 2, np.uint8))
            found.flush()
            expected = expected.copy()
            expected[60:63, 60:63] = 2
            np.testing.assert_array_equal(everything(fresh(folder, SMALL)), expected)


def test_a_bit_flipped_anywhere_loses_one_record_at_most(tmp_path: Path) -> None:
    spots = [(0, 0, 1), (25, 25, 2), (50, 50, 3)]
    painted(tmp_path, *spots, info=SMALL)
    file = journal_file(tmp_path)
    data = file.read_bytes()
    for position in range(0, len(data), 2):
        broken = bytearray(data)
        broken[position] ^= 1 << position % 8
        file.write_bytes(broken)
        found = fresh(tmp_path, SMALL)
        values = [int(everything(found)[y + 5, x + 5]) for y, x, _ in spots]
        lost = [value == 0 for value in values]
        assert sum(lost) <= 1
        assert all(v in (0, i) for v, (_, _, i) in zip(values, spots, strict=True))
        if any(lost):
            assert "damaged" in found.note()
        if position % 50 == 0:  # what is painted then comes after the damage, and nothing is cut
            found.write(60, 60, np.full((3, 3), 2, np.uint8))
            found.flush()
            assert everything(fresh(tmp_path, SMALL))[61, 61] == 2
            assert file.read_bytes()[: len(data)] == bytes(broken)


def test_a_file_of_noise_is_set_aside_not_overwritten(tmp_path: Path) -> None:
    file = journal_file(tmp_path)
    file.parent.mkdir(parents=True)
    noise = np.random.default_rng(0).bytes(5000)
    file.write_bytes(noise)
    corrections = fresh(tmp_path)
    assert "damaged" in corrections.note()
    corrections.write(0, 0, np.ones((3, 3), np.uint8))
    corrections.flush()
    kept = [p for p in file.parent.iterdir() if ".damaged-" in p.name]
    assert [p.read_bytes() for p in kept] == [noise]
    assert fresh(tmp_path).pixels == 9


def test_a_newer_file_is_refused(tmp_path: Path) -> None:
    from napari_plimseg.results.corrections import journal_file

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal_file, "FORMAT_VERSION", 2)
        painted(tmp_path, (0, 0, 1))
    with pytest.raises(CorrectionsError, match="newer version"):
        fresh(tmp_path)


def test_more_classes_than_ids_are_refused(tmp_path: Path) -> None:
    painted(tmp_path, (1, 1, 1))
    many = Description(CorrectionFrame.of(INFO), tuple(f"c{i}" for i in range(300)), "2026")
    journal_file(tmp_path).write_bytes(description_record(many, 1))
    with pytest.raises(CorrectionsError, match="description of the corrections is incomplete"):
        fresh(tmp_path)


def test_records_outside_of_the_mask_are_not_inflated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    painted(tmp_path, (1, 1, 1))
    file = journal_file(tmp_path)
    height, width = INFO.shape
    outside = pixels_record(9, height - 1, width - 1, np.ones((64, 64), np.uint8))
    file.write_bytes(file.read_bytes() + outside)
    inflated = []
    pixels = Record.pixels.fget
    assert pixels is not None
    monkeypatch.setattr(
        Record, "pixels", property(lambda r: inflated.append(r.window.height) or pixels(r))
    )
    assert "1 parts" in fresh(tmp_path).note()
    assert inflated
    assert 64 not in inflated


def test_corrections_of_another_slide_are_left_alone(tmp_path: Path) -> None:
    painted(tmp_path, (0, 0, 1))
    other = info_of(digest="a" * 12 + "b" * 52)
    corrections = fresh(tmp_path, other)
    assert corrections.pixels == 0
    assert "another slide" in corrections.note()


@pytest.mark.parametrize(
    ("names", "seen"),
    [
        (("stroma", "tumour", "background"), (2, 1, 3)),
        (("Tumour", "STROMA", "Background"), (1, 2, 3)),
        (("fat", "tumour", "necrosis", "stroma", "background"), (2, 4, 5)),
        (("stroma", "background"), (0, 1, 2)),
        (("a", "b"), (0, 0, 0)),
    ],
)
def test_classes_are_matched_by_name(tmp_path: Path, names: tuple, seen: tuple) -> None:
    painted(tmp_path, (0, 0, 1), (100, 100, 2), (300, 300, 3))
    other = fresh(tmp_path, info_of(*names))
    found = everything(other)
    assert (found[5, 5], found[105, 105], found[305, 305]) == seen
    lost = [n for n, i in zip(INFO.classes.names, seen, strict=True) if not i]
    assert other.not_shown == dict.fromkeys(lost, 400)
    assert other.pixels == 400 * sum(i > 0 for i in seen)
    for name in lost:
        assert f"'{name}' (400 pixels) are kept but not shown" in other.note()
    # painting with the other model keeps all of it
    other.write(500, 500, np.full((4, 4), len(names), np.uint8))
    other.flush()
    again = fresh(tmp_path)
    assert tuple(int(everything(again)[y, y]) for y in (5, 105, 305)) == (1, 2, 3)
    assert everything(fresh(tmp_path, info_of(*names)))[501, 501] == len(names)


def test_another_frame_shows_them_in_its_own_pixels(tmp_path: Path) -> None:
    painted(tmp_path, (100, 200, 2))
    coarse = info_of(shape=(350, 450), downsample=8.0)
    before = journal_file(tmp_path).read_bytes()
    other = fresh(tmp_path, coarse)
    expected = np.zeros(coarse.shape, np.uint8)
    expected[50:60, 100:110] = 2
    np.testing.assert_array_equal(everything(other), expected)
    merged = np.ones((175, 225), np.uint8)
    other.apply(merged, 2)
    np.testing.assert_array_equal(merged, np.where(expected > 0, expected, 1)[::2, ::2])
    assert "another resolution" in other.note()
    assert other.pixels == 100
    other.flush_and_release()
    assert journal_file(tmp_path).read_bytes() == before  # looking changes nothing
    other.write(0, 0, np.ones((2, 2), np.uint8))
    other.flush()
    expected[:2, :2] = 1
    again = fresh(tmp_path, coarse)
    np.testing.assert_array_equal(everything(again), expected)
    assert again.note() == ""
    kept = [p for p in journal_file(tmp_path).parent.iterdir() if ".earlier-" in p.name]
    assert [p.read_bytes() for p in kept] == [before]
    fine = everything(fresh(tmp_path))
    assert (fine[100:120, 200:220] == 2).all()
    assert (fine[:4, :4] == 1).all()
    assert np.count_nonzero(fine) == 400 + 16


def test_two_masks_of_a_slide_share_them(tmp_path: Path) -> None:
    one = fresh(tmp_path)
    two = Corrections.open(tmp_path, info_of("stroma", "tumour", "background"))
    one.write(7, 7, np.full((2, 2), 1, np.uint8))
    assert everything(two)[7, 7] == 2
    two.write(7, 8, np.full((1, 1), 1, np.uint8))
    assert everything(one)[7, 8] == 2


def test_a_full_disk_keeps_everything_and_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corrections = painted(tmp_path, (0, 0, 1))
    good = journal_file(tmp_path).read_bytes()
    real = os.fsync

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    corrections.write(50, 50, np.full((9, 9), 2, np.uint8))
    for _ in range(3):
        with pytest.raises(CorrectionsError, match=r"No space left.*Free some space"):
            corrections.flush()
    assert not corrections.is_saved
    assert everything(corrections)[55, 55] == 2
    assert journal_file(tmp_path).read_bytes() == good
    monkeypatch.setattr(os, "fsync", real)
    corrections.write(70, 70, np.full((9, 9), 3, np.uint8))
    corrections.flush()
    assert corrections.is_saved
    found = everything(fresh(tmp_path))
    assert (found[5, 5], found[55, 55], found[75, 75]) == (1, 2, 3)


def test_a_folder_that_went_away_is_written_again(tmp_path: Path) -> None:
    import shutil

    corrections = painted(tmp_path, (0, 0, 1))
    shutil.rmtree(corrections_path(tmp_path, INFO))
    corrections.write(50, 50, np.full((9, 9), 2, np.uint8))
    corrections.flush()
    found = everything(fresh(tmp_path))
    assert (found[5, 5], found[55, 55]) == (1, 2)


def test_many_strokes_are_compacted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corrections = painted(tmp_path, *[(i % 40, i % 37, i % 3 + 1) for i in range(200)])
    before, expected = journal_file(tmp_path).stat().st_size, everything(corrections)
    corrections.flush_and_release()
    assert journal_file(tmp_path).stat().st_size < before / 5
    np.testing.assert_array_equal(everything(fresh(tmp_path)), expected)
    # and in mid-work, when the file has grown large
    monkeypatch.setattr(journal, "COMPACT_BYTES", 3000)
    for i in range(100):
        corrections.write(i, i, np.full((20, 20), i % 3 + 1, np.uint8))
        corrections.flush()
    assert journal_file(tmp_path).stat().st_size < 6000
    np.testing.assert_array_equal(everything(fresh(tmp_path)), everything(corrections))


def test_discarding_can_be_taken_back(tmp_path: Path) -> None:
    corrections = painted(tmp_path, (0, 0, 1))
    corrections.write(50, 50, np.full((9, 9), 2, np.uint8))  # not flushed
    folder = corrections_path(tmp_path, INFO)
    moved = corrections.discard()
    assert moved is not None
    assert moved.name.startswith(folder.name + ".discarded-")
    assert not folder.exists()
    assert corrections.pixels == 0
    assert fresh(tmp_path).pixels == 0
    assert corrections.discard() is None
    moved.rename(folder)
    assert fresh(tmp_path).pixels == 400 + 81


def test_discarded_corrections_are_brought_back_and_those_of_now_go_in_their_place(
    tmp_path: Path,
) -> None:
    corrections = painted(tmp_path, (0, 0, 1))
    corrections.flush()
    assert corrections.list_discarded() == []
    first = everything(corrections)
    moved = corrections.discard()
    assert corrections.list_discarded() == [moved]
    corrections.write(50, 50, np.full((9, 9), 2, np.uint8))  # not flushed
    second, generation = everything(corrections), corrections.journal.generation
    assert moved is not None
    corrections.restore(moved)
    assert corrections.journal.generation > generation
    np.testing.assert_array_equal(everything(corrections), first)
    np.testing.assert_array_equal(everything(fresh(tmp_path)), first)
    assert corrections.is_saved
    (other,) = corrections.list_discarded()
    corrections.write(0, 90, np.full((3, 3), 1, np.uint8))  # and painting goes on
    corrections.flush()
    assert fresh(tmp_path).pixels == 400 + 9
    corrections.restore(other)
    np.testing.assert_array_equal(everything(corrections), second)


def test_what_can_not_be_brought_back_says_so(tmp_path: Path) -> None:
    corrections = painted(tmp_path, (0, 0, 1))
    with pytest.raises(CorrectionsError):
        corrections.restore(tmp_path / "nothing")
    assert len(corrections.list_discarded()) == 1  # nothing is lost


PAINT_ELSEWHERE = """
import sys
from pathlib import Path
import numpy as np
from tests.results.corrections.test_corrections import INFO, info_of, fresh
info = info_of("fat", "stroma", "background")
corrections = fresh(Path(sys.argv[1]), info)
corrections.write(0, 0, np.full((20, 20), 2, np.uint8))
corrections.flush()
print("painted", flush=True)
sys.stdin.readline()
corrections.flush_and_release()
print("rested", flush=True)
"""


def test_one_program_writes_and_the_other_takes_over(tmp_path: Path) -> None:
    mine = fresh(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-c", PAINT_ELSEWHERE, str(tmp_path)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        assert other.stdout.readline() == "painted\n"
        mine.write(10, 10, np.full((20, 20), 1, np.uint8))
        with pytest.raises(CorrectionsError, match="another program"):
            mine.flush()
        assert not mine.is_saved
        other.stdin.write("\n")
        other.stdin.flush()
        assert other.stdout.readline() == "rested\n"
    generation = mine.journal.generation
    mine.flush()
    assert mine.journal.generation != generation
    expected = np.zeros(SHAPE, np.uint8)
    expected[:20, :20] = 2
    expected[10:30, 10:30] = 1
    np.testing.assert_array_equal(everything(mine), expected)
    np.testing.assert_array_equal(everything(fresh(tmp_path)), expected)


def test_a_renamed_slide_finds_its_corrections(tmp_path: Path) -> None:
    painted(tmp_path, (0, 0, 1))
    assert fresh(tmp_path, replace(INFO, slide_name="anonymous.svs")).pixels == 400


def test_a_mask_with_its_corrections(tmp_path: Path) -> None:
    painted(tmp_path, (0, 0, 1))
    journal._open_journals.clear()
    mask, found = corrected(np.full(SHAPE, 2, np.uint8), INFO, tmp_path)
    assert found.pixels == np.count_nonzero(mask == 1) == 400

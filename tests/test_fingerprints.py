from __future__ import annotations

import errno
import hashlib
import os
from typing import TYPE_CHECKING

import pytest

from napari_plimseg import fingerprints
from napari_plimseg.errors import SlideError
from napari_plimseg.files import sha256, temporary_prefix
from napari_plimseg.fingerprints import fingerprint, former_fingerprints, is_fingerprint_of

if TYPE_CHECKING:
    from pathlib import Path


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def flip(path: Path, at: int = 0) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def zarr_slide(folder: Path, chunks: int = 12) -> Path:
    write(folder / ".zattrs", b'{"multiscales": []}')
    write(folder / ".zgroup", b'{"zarr_format": 2}')
    write(folder / "0" / ".zarray", b'{"shape": [1]}')
    for i in range(chunks):
        write(folder / "0" / f"{i}", hashlib.sha256(b"%d" % i).digest() * 40)
    write(folder / "labels" / ".zattrs", b'{"labels": ["old"]}')
    return folder


def of_version_0_1(folder: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(p for p in folder.rglob("*") if p.is_file()):
        digest.update(f"{file.relative_to(folder)}:{file.stat().st_size}\n".encode())
    return digest.hexdigest()


def test_a_file_is_identified_by_size_head_and_tail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fingerprints, "_WHOLE_FILE_LIMIT", 1000)
    monkeypatch.setattr(fingerprints, "_HEAD_AND_TAIL", 100)
    big = write(tmp_path / "big", os.urandom(5000))
    first = fingerprint(big)
    for at in (0, 4999):
        flip(big, at)
        assert fingerprint(big) != first
        flip(big, at)
    assert fingerprint(big) == first
    assert former_fingerprints(big) == ()
    small = write(tmp_path / "small", b"x")
    assert fingerprint(small) == sha256(small)


@pytest.mark.parametrize("name", [".zattrs", "0/.zarray", "0/0", "0/7", "0/11"])
def test_one_bit_of_a_small_folder_changes_its_fingerprint(tmp_path: Path, name: str) -> None:
    slide = zarr_slide(tmp_path / "a.zarr")
    before = fingerprint(slide)
    flip(slide / name, at=7)
    assert fingerprint(slide) != before
    flip(slide / name, at=7)
    assert fingerprint(slide) == before


def test_a_large_folder_is_sampled_the_same_way_every_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slide = zarr_slide(tmp_path / "a.zarr", chunks=100)
    monkeypatch.setattr(fingerprints, "_WHOLE_FOLDER_FILES", 50)
    monkeypatch.setattr(fingerprints, "_SAMPLED_FILES", 10)
    monkeypatch.setattr(fingerprints, "_SAMPLE", 16)
    before = fingerprint(slide)
    seen = []
    for i in range(100):
        chunk = slide / "0" / str(i)
        changed = []
        for at in (0, 640, 1279, 100):
            flip(chunk, at)
            changed.append(fingerprint(slide) != before)
            flip(chunk, at)
        assert changed in ([True, True, True, False], [False] * 4), "head, middle and tail"
        seen.append(changed[0])
    assert sum(seen) == 10
    assert fingerprint(slide) == before
    for metadata in (".zattrs", "0/.zarray"):
        flip(slide / metadata)
        assert fingerprint(slide) != before
        flip(slide / metadata)
    (slide / "0" / "5").rename(slide / "0" / "five")
    assert fingerprint(slide) != before


def test_labels_and_unfinished_files_are_no_part_of_the_image(tmp_path: Path) -> None:
    slide = zarr_slide(tmp_path / "a.zarr")
    before = fingerprint(slide)
    write(slide / "labels" / "tissue" / ".zattrs", b"{}")
    write(slide / "0" / (temporary_prefix("partial") + "x"), b"half a chunk")
    assert fingerprint(slide) == before
    write(slide / "0" / "labels", b"a chunk of this name is one")
    assert fingerprint(slide) != before


def test_the_fingerprint_of_version_0_1_is_recognized(tmp_path: Path) -> None:
    slide = zarr_slide(tmp_path / "a.zarr")
    former = of_version_0_1(slide)
    assert former in former_fingerprints(slide)
    assert former != fingerprint(slide)
    assert is_fingerprint_of(former, slide)
    assert is_fingerprint_of(fingerprint(slide), slide)
    assert not is_fingerprint_of("0" * 64, slide)
    # also after labels were written into a slide that had none
    bare = zarr_slide(tmp_path / "b.zarr")
    (bare / "labels" / ".zattrs").unlink()
    former = of_version_0_1(bare)
    write(bare / "labels" / ".zattrs", b"{}")
    assert is_fingerprint_of(former, bare)


def test_a_mirax_slide_is_its_file_and_the_folder_beside_it(tmp_path: Path) -> None:
    slide = write(tmp_path / "a.mrxs", b"a preview")
    alone = fingerprint(slide)
    assert alone == sha256(slide)
    write(tmp_path / "a" / "Slidedat.ini", b"[GENERAL]")
    data = write(tmp_path / "a" / "Data0001.dat", b"pixels")
    whole = fingerprint(slide)
    assert whole != alone
    assert former_fingerprints(slide) == (alone,)
    flip(data)
    assert fingerprint(slide) != whole


def test_an_unreadable_chunk_does_not_hide_the_slide(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slide = zarr_slide(tmp_path / "a.zarr")
    before = fingerprint(slide)
    opened = type(slide).open

    def refuse(self: Path, *args: object, **kwargs: object) -> object:
        if self.name == "3":
            raise PermissionError(13, "Permission denied")
        return opened(self, *args, **kwargs)  # type: ignore[call-overload]

    monkeypatch.setattr(type(slide), "open", refuse)
    assert fingerprint(slide) not in ("", before)


def test_a_slide_that_can_no_longer_be_read_is_an_error_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slide = write(tmp_path / "slide.mrxs", b"x" * 1000)
    write(tmp_path / "slide" / "Slidedat.ini", b"[GENERAL]")

    def no_room(*args: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(fingerprints, "sha256", no_room)
    for compute in (fingerprint, former_fingerprints):
        with pytest.raises(SlideError, match=r"slide\.mrxs.*can't be read \(Too many open files\)"):
            compute(slide)

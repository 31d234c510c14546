"""All exports together: same place, nothing private, nothing lost when the disk is full."""

from __future__ import annotations

import errno
import json
import os
import shutil
import zlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile

from napari_plimseg.errors import ConfigError, ExportError
from napari_plimseg.fingerprints import fingerprint
from napari_plimseg.results.export import (
    FORMATS,
    Format,
    export_all,
    export_geojson,
    export_label_tiff,
    export_stem,
)
from napari_plimseg.results.mask_info import MaskInfo
from napari_plimseg.slides import open_slide
from napari_plimseg.tissue import COLORECTAL
from tests.support.masks import PaintedSlide, blobs, drawn, info_for

if TYPE_CHECKING:
    from pathlib import Path

    from napari_plimseg.slides.slide import Slide

CANARY = "PHI-CANARY-7731"
ENDINGS = {
    "ome-tiff": ".mask.ome.tif",
    "geojson": ".geojson",
    "csv": ".areas.csv",
    "png": ".overlay.png",
}


def small_slide() -> PaintedSlide:
    return PaintedSlide(np.full((80, 120, 3), 240, np.uint8))


def small_mask() -> Any:
    return blobs((20, 30))


def write_one(key: str, path: Path, slide: Slide | None = None) -> Path:
    mask = small_mask()
    return FORMATS[key].write(path, mask, info_for(mask), slide or small_slide(), "mask")


@pytest.mark.parametrize("key", FORMATS)
def test_no_export_replaces_one_of_another_slide(key: str, tmp_path: Path) -> None:
    mask = small_mask()
    first = info_for(mask)
    second = replace(first, slide_fingerprint="beef" * 16)
    (path,) = export_all(tmp_path, "x", mask, first, small_slide(), formats=(key,))
    before = path.read_bytes()
    with pytest.raises(ExportError, match="another slide with the same name"):
        export_all(tmp_path, "x", mask, second, small_slide(), formats=(key,))
    assert path.read_bytes() == before
    stem = export_stem(tmp_path, "x", second, (key,))
    assert stem == "x-beefbeef"
    export_all(tmp_path, stem, mask, second, small_slide(), formats=(key,))
    assert export_stem(tmp_path, "x", first, (key,)) == "x"
    export_all(tmp_path, "x", mask, first, small_slide(), formats=(key,))
    assert len(list(tmp_path.iterdir())) == 2


def test_files_that_do_not_name_their_slide_are_replaced(tmp_path: Path) -> None:
    mask = small_mask()
    (tmp_path / "x.geojson").write_text('{"type": "FeatureCollection", "features": []}')
    (tmp_path / "x.areas.csv").write_text("slide,class\nx.svs,gland\n")
    files = export_all(tmp_path, "x", mask, info_for(mask), formats=("geojson", "csv"))
    assert all("f00d" in path.read_text() for path in files)


def test_flat_names_with_the_stem_of_the_slide(tmp_path: Path) -> None:
    mask = small_mask()
    files = export_all(tmp_path / "new" / "folder", "case 7", mask, info_for(mask), small_slide())
    assert {key: kind.suffix for key, kind in FORMATS.items()} == ENDINGS
    assert [f.name for f in files] == [f"case 7{ending}" for ending in ENDINGS.values()]
    assert sorted(p.name for p in (tmp_path / "new" / "folder").iterdir()) == sorted(
        f.name for f in files
    )


def test_without_the_slide_there_is_no_picture(tmp_path: Path) -> None:
    mask = small_mask()
    files = export_all(tmp_path, "a", mask, info_for(mask))
    assert [f.name for f in files] == ["a.mask.ome.tif", "a.geojson", "a.areas.csv"]
    with pytest.raises(ExportError, match="needs the slide"):
        export_all(tmp_path, "a", mask, info_for(mask), formats=["png"])


def test_a_suffix_must_end_with_the_extension() -> None:
    with pytest.raises(ConfigError, match="does not end"):
        Format("Text", "A name.", ".names.txt", ".csv", FORMATS["csv"].write)


@pytest.mark.parametrize("stem", ["", "../a", "a/b", "."])
def test_stems_with_folders_are_refused(tmp_path: Path, stem: str) -> None:
    mask = small_mask()
    with pytest.raises(ExportError, match="no file name"):
        export_all(tmp_path, stem, mask, info_for(mask))


def test_unknown_formats_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    mask = small_mask()
    with pytest.raises(ExportError, match="docx"):
        export_all(tmp_path, "a", mask, info_for(mask), formats=["csv", "docx"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("downsample", "mpp"), [(4.0, 0.25), (4.00012, 0.2527), (2.5, 0.5), (1.0, 1.0)]
)
@pytest.mark.parametrize("corner", [(0, 0), (100, 33)])
def test_a_rectangle_lies_at_the_same_um_everywhere(
    tmp_path: Path, downsample: float, mpp: float, corner: tuple[int, int]
) -> None:
    """Where a rectangle is on the slide, in um from the slide's corner, in every export."""
    rows, columns = (30, 90), (40, 130)
    mask = np.zeros((200, 240), np.uint8)
    mask[slice(*rows), slice(*columns)] = 3
    info = info_for(mask, downsample=downsample, mpp=mpp, corner=corner)
    expected = np.array([*rows, *columns]) * downsample * mpp  # top, bottom, left, right

    from napari.layers import Labels

    layer = Labels(mask, scale=info.napari_scale, translate=info.napari_translate)
    # napari's world has the centre of the slide's first pixel at its origin
    corners = [
        layer.data_to_world(np.array([rows[i], columns[i]]) - 0.5) for i in (0, 1)
    ] + np.full(2, mpp / 2)
    in_napari = [corners[0][0], corners[1][0], corners[0][1], corners[1][1]]
    assert in_napari == pytest.approx(expected)

    path = export_label_tiff(tmp_path / "m.ome.tif", mask, info)
    with tifffile.TiffFile(path) as tiff:
        numerator, denominator = tiff.pages[0].tags["XResolution"].value
        pixel = 1e4 / (numerator / denominator)
        found = np.argwhere(tiff.asarray() == 3)
    in_tiff = np.array([found[:, 0].min(), found[:, 0].max() + 1, found[:, 1].min(),
                        found[:, 1].max() + 1]) * pixel  # fmt: skip
    assert in_tiff == pytest.approx(expected, rel=1e-6)

    path = export_geojson(tmp_path / "m.geojson", mask, info)
    (feature,) = json.loads(path.read_text())["features"]
    ring = np.array(feature["geometry"]["coordinates"][0]) + corner[::-1]  # QuPath's crop undone
    in_geojson = np.array([ring[:, 1].min(), ring[:, 1].max(), ring[:, 0].min(), ring[:, 0].max()])
    assert in_geojson * mpp == pytest.approx(expected)


def bytes_of(path: Path) -> bytes:
    """Return a file's bytes and, after them, all that its compressed parts hold."""
    content = path.read_bytes()
    inside = [content]
    for start in range(len(content) - 2):
        if content[start] == 0x78 and content[start + 1] in (0x01, 0x5E, 0x9C, 0xDA):
            stream = zlib.decompressobj()
            try:
                inside.append(stream.decompress(content[start : start + 200_000]))
            except zlib.error:
                continue
    return b"\0".join(inside)


def test_nothing_private_gets_into_any_export(tmp_path: Path) -> None:
    folder = tmp_path / f"{CANARY}-folder"
    folder.mkdir()
    path = folder / "plain.tif"
    tifffile.imwrite(
        path,
        np.full((600, 700, 3), 230, np.uint8),
        tile=(256, 256),
        photometric="rgb",
        description=f"Aperio |Patient = {CANARY}-description|MPP = 0.5",
        software=f"{CANARY}-software",
        extratags=[(315, "s", 0, f"{CANARY}-artist", True), (316, "s", 0, f"{CANARY}-host", True)],
        metadata=None,
    )
    with open_slide(path) as slide:
        mask = blobs((150, 175))
        info = MaskInfo(
            slide_name=slide.name,
            slide_fingerprint=fingerprint(path),
            slide_shape=slide.shape,
            bounds=slide.bounds,
            mpp=slide.mpp,
            shape=(150, 175),
            downsample=4.0,
            classes=COLORECTAL,
        )
        files = export_all(folder, "plain", mask, info, slide)
    assert len(files) == 4
    for file in files:
        content = bytes_of(file)
        for secret in (CANARY, str(tmp_path)):
            for encoding in ("utf-8", "utf-16-le", "utf-16-be"):
                assert secret.encode(encoding) not in content, f"{secret} in {file.name}"


@pytest.mark.parametrize("key", sorted(FORMATS))
def test_a_full_disk_leaves_the_old_file(
    tmp_path: Path, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"a{FORMATS[key].suffix}"
    path.write_text("old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ExportError, match=r"the disk is full.*Free some space") as refused:
        write_one(key, path)
    assert refused.value.path == path
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("key", sorted(FORMATS))
def test_a_disk_that_fills_up_while_writing(tmp_path: Path, key: str) -> None:
    """The operating system itself cuts the file, as a quota does."""
    import signal

    resource = pytest.importorskip("resource", reason="limits of file sizes are POSIX")
    path = tmp_path / f"a{FORMATS[key].suffix}"
    path.write_text("old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, limits[1]))
    try:
        with pytest.raises(ExportError, match="too large"):
            write_one(key, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_disk_too_small_is_told_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nearly_full = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: nearly_full)
    mask = np.ones((2000, 2000), np.uint8)
    with pytest.raises(ExportError, match="are free"):
        export_label_tiff(tmp_path / "new" / "m.ome.tif", mask, info_for(mask))
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("key", sorted(FORMATS))
@pytest.mark.parametrize("error", [errno.EACCES, errno.EROFS, errno.EIO])
def test_a_folder_that_can_not_be_written(
    tmp_path: Path, key: str, error: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr("tempfile.mkstemp", refuse)
    with pytest.raises(ExportError, match=r"folder") as refused:
        write_one(key, tmp_path / "a.x")
    assert "'a.x'" in str(refused.value)
    assert str(tmp_path) not in str(refused.value)


@pytest.mark.parametrize("key", sorted(FORMATS))
def test_paths_that_are_folders_or_go_through_files(tmp_path: Path, key: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "folder", tmp_path / "file" / "a.x", tmp_path / ("n" * 300)):
        with pytest.raises(ExportError, match="Choose"):
            write_one(key, path)


def test_an_interrupted_export_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.ome.tif"
    path.write_text("old")

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("napari_plimseg.results.export.label_tiff._chain_levels", interrupt)
    mask = drawn(["12"])
    with pytest.raises(KeyboardInterrupt):
        export_label_tiff(path, mask, info_for(mask))
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["m.ome.tif"]

"""Labels in an OME-Zarr slide: whole or not there, and the slide is as it was."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from napari_plimseg.errors import ExportError
from napari_plimseg.fingerprints import fingerprint
from napari_plimseg.results.export import slide_labels
from napari_plimseg.results.export.slide_labels import has_labels, write_labels
from napari_plimseg.slides import open_slide
from tests.support.masks import blobs, info_for
from tests.support.models import painted
from tests.support.slides import write_ome_zarr

if TYPE_CHECKING:
    from napari_plimseg.results.mask_info import MaskInfo

VERSIONS = pytest.mark.parametrize("version", ["0.4", "0.5"])
SIDE = 1200


def slide_of(path: Path, version: str, **options: Any) -> Path:
    pixels = painted(SIDE, SIDE)
    return write_ome_zarr(path, [pixels, pixels[::2, ::2]], version=version, **options)


def mask_of(slide: Path, downsample: float = 2.0) -> tuple[np.ndarray, MaskInfo]:
    mask = blobs((int(SIDE / downsample),) * 2)
    info = info_for(mask, downsample=downsample, mpp=0.5, slide_shape=(SIDE, SIDE), name=slide.name)
    return mask, dataclasses.replace(info, slide_fingerprint=fingerprint(slide))


def content(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "labels" not in path.relative_to(folder).parts
    }


def ome(group: Path) -> dict[str, Any]:
    if (group / "zarr.json").exists():
        found: dict[str, Any] = json.loads((group / "zarr.json").read_text())["attributes"]["ome"]
        return found
    found = json.loads((group / ".zattrs").read_text())
    return found


def nodes_of(slide: Path) -> list[Any]:
    """Return what the reader of the standard finds in a slide."""
    from ome_zarr.io import parse_url
    from ome_zarr.reader import Reader

    return list(Reader(parse_url(str(slide)))())


@VERSIONS
@pytest.mark.parametrize("axes", ["cyx", "tczyx"])
def test_the_reader_of_the_standard_finds_the_labels_at_the_slide(
    tmp_path: Path, version: str, axes: str
) -> None:
    slide = slide_of(tmp_path / "a.zarr", version, axes=axes)
    mask, info = mask_of(slide)
    before = content(slide)
    with open_slide(slide) as opened:
        pixels, mpp = opened.read_at(1.0, 0, 0, 200, 200), opened.mpp
    group = write_labels(slide, mask, info)
    assert group == slide / "labels" / "plimseg"
    assert content(slide) == before
    assert fingerprint(slide) == info.slide_fingerprint
    with open_slide(slide) as opened:
        assert opened.mpp == mpp
        np.testing.assert_array_equal(opened.read_at(1.0, 0, 0, 200, 200), pixels)

    nodes = nodes_of(slide)
    (label,) = [node for node in nodes if "plimseg" in str(node.zarr)]
    assert len(label.data) == 2
    assert label.data[0].ndim == len(axes)
    np.testing.assert_array_equal(np.asarray(label.data[0]).reshape(mask.shape), mask)
    np.testing.assert_array_equal(np.asarray(label.data[1]).squeeze(), mask[::2, ::2])
    assert label.metadata["color"][1][:3] == [c / 255 for c in info.classes[0].color]
    assert label.metadata["properties"][1]["class"] == info.classes[0].name
    item = ome(group)["multiscales"][0]
    assert item["axes"][-1] == {"name": "x", "type": "space", "unit": "micrometer"}
    first = item["datasets"][0]["coordinateTransformations"]
    assert first[0]["scale"][-2:] == [1.0, 1.0]  # 2 pixels of 0.5 um
    assert first[1]["translation"][-2:] == [0.25, 0.25]  # the center of 2 pixels
    assert item["name"] == "plimseg"


@VERSIONS
def test_labels_are_placed_like_the_image_of_the_file(tmp_path: Path, version: str) -> None:
    # the pixel size that a person gave is not known to those who open the slide
    slide = slide_of(tmp_path / "a.zarr", version, mpp=1.0, unit="pixel")
    mask, info = mask_of(slide)
    item = ome(write_labels(slide, mask, info))["multiscales"][0]
    assert item["axes"][-1]["unit"] == "pixel"
    assert item["datasets"][0]["coordinateTransformations"][0]["scale"][-2:] == [2.0, 2.0]


@VERSIONS
def test_labels_of_others_stay_and_ours_are_replaced_on_request(
    tmp_path: Path, version: str
) -> None:
    slide = slide_of(tmp_path / "a.zarr", version)
    mask, info = mask_of(slide)
    write_labels(slide, mask, info, name="nuclei")
    other = content(slide / "labels" / "nuclei")
    assert has_labels(slide, "nuclei")
    assert not has_labels(slide)
    write_labels(slide, mask, info)
    with pytest.raises(ExportError, match=r"already has labels 'plimseg'.*replace"):
        write_labels(slide, mask, info)
    group = write_labels(slide, np.ones_like(mask), info, replace=True)
    import zarr

    assert (np.asarray(zarr.open_group(str(group), mode="r")["0"]) == 1).all()
    assert content(slide / "labels" / "nuclei") == other
    assert ome(slide / "labels")["labels"] == ["nuclei", "plimseg"]
    assert sorted(p.name for p in (slide / "labels").iterdir() if p.is_dir()) == [
        "nuclei", "plimseg",
    ]  # fmt: skip


def test_the_image_of_bioformats2raw_is_found(tmp_path: Path) -> None:
    outer = tmp_path / "a.zarr"
    slide_of(outer / "0", "0.4")
    (outer / ".zgroup").write_text('{"zarr_format": 2}')
    (outer / ".zattrs").write_text('{"bioformats2raw.layout": 3}')
    mask, info = mask_of(outer)
    assert write_labels(outer, mask, info) == outer / "0" / "labels" / "plimseg"
    assert fingerprint(outer) == info.slide_fingerprint


def test_what_does_not_fit_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    slide = slide_of(tmp_path / "a.zarr", "0.4")
    mask, info = mask_of(slide)
    (tmp_path / "b.svs").write_bytes(b"x")
    with pytest.raises(ExportError, match="not an OME-Zarr slide"):
        write_labels(tmp_path / "b.svs", mask, info)
    with pytest.raises(ExportError, match="belongs to"):
        write_labels(slide, mask, dataclasses.replace(info, slide_fingerprint="0" * 64))
    with pytest.raises(ExportError, match="other pixels"):
        write_labels(slide, mask[1:], info)
    for name in ("../x", "", ".x", "a/b"):
        with pytest.raises(ExportError, match="name of labels"):
            write_labels(slide, mask, info, name=name)
    assert not (slide / "labels").exists()


def test_a_slide_that_may_not_be_written_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slide = slide_of(tmp_path / "a.zarr", "0.5")
    mask, info = mask_of(slide)

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(slide_labels, "_build", refuse)
    with pytest.raises(ExportError, match=r"a\.zarr.*may not be written.*Copy it"):
        write_labels(slide, mask, info)
    assert not has_labels(slide)


KILLED = """
import os, pickle, sys
from pathlib import Path
import numpy as np
from napari_plimseg.results.export import slide_labels
from tests.results.export.test_slide_labels import mask_of
slide, moment = Path(sys.argv[1]), sys.argv[2]
mask, info = mask_of(slide)
def die(*a, **k): os._exit(9)
if moment == "rename":
    Path.rename = die
elif moment == "list":
    real = slide_labels._list
    def listing(image, **k):
        if k.get("adding"): die()
        real(image, **k)
    slide_labels._list = listing
else:
    setattr(slide_labels, moment, die)
slide_labels.write_labels(slide, mask, info, replace=True)
"""


@pytest.mark.skipif(os.name == "nt", reason="kills itself the POSIX way")
@VERSIONS
@pytest.mark.parametrize("moment", ["sync_files", "rename", "list"])
def test_a_kill_leaves_the_slide_readable(tmp_path: Path, version: str, moment: str) -> None:
    slide = slide_of(tmp_path / "a.zarr", version)
    mask, info = mask_of(slide)
    if moment == "rename":  # while replacing
        write_labels(slide, mask, info)
    command = [sys.executable, "-c", KILLED, str(slide), moment]
    assert subprocess.run(command, check=False).returncode == 9
    assert fingerprint(slide) == info.slide_fingerprint
    assert nodes_of(slide)
    with open_slide(slide) as opened:
        opened.read_at(1.0, 0, 0, 100, 100)
    write_labels(slide, mask, info, replace=True)
    labels = slide / "labels"
    assert [p.name for p in labels.iterdir() if p.is_dir()] == ["plimseg"], "leftovers are swept"
    assert ome(labels)["labels"] == ["plimseg"]


@pytest.mark.parametrize(
    ("version", "text"),
    [
        ("0.4", '{"labels": {"a": 1}}'),
        ("0.4", '{"labels": "a"}'),
        ("0.5", '{"attributes": []}'),
        ("0.5", '{"attributes": {"ome": []}}'),
        ("0.5", '{"attributes": {"ome": {"labels": {"a": 1}}}}'),
    ],
)
def test_a_damaged_list_of_labels_is_refused_and_stays(
    tmp_path: Path, version: str, text: str
) -> None:
    slide = slide_of(tmp_path / "a.zarr", version)
    mask, info = mask_of(slide)
    (slide / "labels").mkdir()
    file = slide / "labels" / ("zarr.json" if version == "0.5" else ".zattrs")
    file.write_text(text)
    with pytest.raises(ExportError, match=r"list of labels is damaged"):
        write_labels(slide, mask, info)
    assert file.read_text() == text
    assert not [path for path in (slide / "labels").iterdir() if path.is_dir()]


def test_labels_are_not_written_through_a_link(tmp_path: Path) -> None:
    slide = slide_of(tmp_path / "a.zarr", "0.5")
    mask, info = mask_of(slide)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    try:
        (slide / "labels").symlink_to(elsewhere)
    except OSError:
        pytest.skip("links need a permission here")
    with pytest.raises(ExportError, match="link to another place"):
        write_labels(slide, mask, info)
    assert not list(elsewhere.iterdir())


@VERSIONS
def test_labels_stay_when_new_ones_cannot_take_their_place(
    tmp_path: Path, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    slide = slide_of(tmp_path / "a.zarr", version)
    mask, info = mask_of(slide)
    write_labels(slide, mask, info)
    before = sorted(path.name for path in (slide / "labels" / "plimseg").rglob("*"))
    rename = Path.rename

    def full(path: Path, target: Path) -> Path:
        if path.name.startswith(".labels-"):
            raise OSError(errno.ENOSPC, "No space left on device")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(ExportError, match="disk is full"):
        write_labels(slide, mask, info, replace=True)
    labels = slide / "labels"
    assert sorted(path.name for path in (labels / "plimseg").rglob("*")) == before
    assert ome(labels)["labels"] == ["plimseg"]

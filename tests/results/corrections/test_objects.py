"""What a person corrected becomes images with outlines that a training reads."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from napari_plimseg.errors import ExportError
from napari_plimseg.results.corrections.corrections import Corrections
from napari_plimseg.results.corrections.objects import FIELD, TABLE, export_corrected_objects
from napari_plimseg.slides import Region
from plimseg_training.data.scan import scan_folder
from plimseg_training.promptable.objects import Objects
from tests.support.masks import PaintedSlide, info_for

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_plimseg.results.mask_info import MaskInfo

TUMOUR, STROMA = 1, 2
SIDE = 1500  # mask pixels of 1 um


def case(
    folder: Path, name: str = "case 7.svs", mpp: float | None = 0.5
) -> tuple[PaintedSlide, NDArray[np.uint8], Corrections, MaskInfo]:
    """A slide of 0.5 um pixels, and its mask at 1 um: stroma everywhere."""
    mask = np.full((SIDE, SIDE), STROMA, np.uint8)
    info = info_for(mask, downsample=2.0, mpp=mpp, name=name)
    info = replace(info, slide_fingerprint=f"{hash(name) % 10**8:08d}")
    random = np.random.default_rng(0)
    pixels = random.integers(0, 255, (2 * SIDE, 2 * SIDE, 3), dtype=np.uint8)
    slide = PaintedSlide(pixels, mpp=mpp, path=name)
    return slide, mask, Corrections.open(folder, info), info


def paint(
    mask: NDArray[np.uint8], corrections: Corrections, region: Region, tissue: int = TUMOUR
) -> None:
    y, x, height, width = (int(v) for v in (region.y, region.x, region.height, region.width))
    corrections.write(y, x, np.full((height, width), tissue, np.uint8))
    mask[y : y + height, x : x + width] = tissue


def read(path: Path) -> NDArray[np.uint8]:
    return np.asarray(Image.open(path))


def test_an_object_lies_in_the_middle_of_its_field_with_its_outline(tmp_path: Path) -> None:
    slide, mask, corrections, _ = case(tmp_path)
    paint(mask, corrections, Region(700, 800, 60, 40))
    found = export_corrected_objects(tmp_path / "out", slide, mask, corrections)
    assert (found.fields, found.objects) == (1, 1)
    (outline,) = (tmp_path / "out" / "instances").iterdir()
    expected = np.zeros((FIELD, FIELD), np.uint8)
    expected[512 - 30 : 512 + 30, 512 - 20 : 512 + 20] = 1
    assert np.array_equal(read(outline), expected)
    truth = read(tmp_path / "out" / "truth" / outline.name)
    assert (truth[expected > 0] == TUMOUR).all()
    # the field begins at mask pixel (730 - 512, 820 - 512), and two slide pixels make one
    corner = slide.pixels[2 * 218 : 2 * 218 + 2, 2 * 308 : 2 * 308 + 2].mean((0, 1))
    pixels = read(tmp_path / "out" / "img" / outline.name)
    assert np.abs(pixels[0, 0] - corner).max() <= 1


def test_a_training_reads_the_folder(tmp_path: Path) -> None:
    slide, mask, corrections, info = case(tmp_path)
    paint(mask, corrections, Region(700, 800, 60, 40))
    paint(mask, corrections, Region(100, 50, 30, 30))
    out = tmp_path / "out"
    export_corrected_objects(out, slide, mask, corrections)
    report = scan_folder(out, classes=None, mpp=None)
    assert not report.fatal, report.table()
    folder = report.raise_if_fatal()
    assert folder.mpp == 1.0
    tissue = [info.classes[i - 1].name for i in info.classes.tissue_ids]
    assert [folder.classes[i - 1].name for i in folder.classes.tissue_ids] == tissue
    objects = Objects(folder, 1.0)
    sizes = sorted(int(objects.pair(i, 512).hr_mask.sum()) for i in range(len(objects)))
    assert sizes == [900, 2400]


def test_what_the_model_found_is_no_object(tmp_path: Path) -> None:
    slide, mask, corrections, _ = case(tmp_path)
    mask[300:420, 300:420] = TUMOUR  # the model's
    paint(mask, corrections, Region(420, 300, 10, 10))  # a little added to it
    with pytest.raises(ExportError, match="no object"):
        export_corrected_objects(tmp_path / "out", slide, mask, corrections)
    paint(mask, corrections, Region(420, 300, 60, 120))
    found = export_corrected_objects(tmp_path / "out", slide, mask, corrections)
    assert found.objects == 1


def test_objects_that_lie_together_share_a_field(tmp_path: Path) -> None:
    slide, mask, corrections, _ = case(tmp_path)
    for place in (0, 100, 200):
        paint(mask, corrections, Region(600 + place, 700, 40, 40))
    found = export_corrected_objects(tmp_path / "out", slide, mask, corrections)
    assert (found.fields, found.objects) == (1, 3)


def test_an_object_at_the_slides_edge_has_white_beside_it(tmp_path: Path) -> None:
    slide, mask, corrections, _ = case(tmp_path)
    paint(mask, corrections, Region(0, 0, 40, 40))
    export_corrected_objects(tmp_path / "out", slide, mask, corrections)
    (outline,) = (tmp_path / "out" / "instances").iterdir()
    assert (read(outline) > 0).sum() == 1600
    assert read(tmp_path / "out" / "truth" / outline.name)[0, 0] == 0


def test_a_second_slide_joins_and_a_second_time_replaces(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for name in ("a.svs", "b.svs", "a.svs"):
        slide, mask, corrections, _ = case(tmp_path / name, name)
        paint(mask, corrections, Region(700, 800, 60, 40))
        export_corrected_objects(out, slide, mask, corrections)
    lines = (out / TABLE).read_text("utf-8").splitlines()
    assert len(lines) == 3
    assert len({line.split(",")[2] for line in lines[1:]}) == 2


def test_a_folder_of_other_classes_is_left_alone(tmp_path: Path) -> None:
    slide, mask, corrections, _ = case(tmp_path)
    paint(mask, corrections, Region(700, 800, 60, 40))
    table = tmp_path / "out" / TABLE
    table.parent.mkdir()
    table.write_text("file,cat\na.png,1\n")
    with pytest.raises(ExportError, match="other classes"):
        export_corrected_objects(table.parent, slide, mask, corrections)
    assert table.read_text() == "file,cat\na.png,1\n"
    table.write_bytes(b"file,caf\xe9\n")  # of a program that writes Latin-1
    with pytest.raises(ExportError, match="UTF-8"):
        export_corrected_objects(table.parent, slide, mask, corrections)
    assert table.read_bytes() == b"file,caf\xe9\n"


def test_without_a_pixel_size_it_says_what_to_do(tmp_path: Path) -> None:
    slide, mask, corrections, _ = case(tmp_path, mpp=None)
    paint(mask, corrections, Region(700, 800, 60, 40))
    with pytest.raises(ExportError, match="pixel size"):
        export_corrected_objects(tmp_path / "out", slide, mask, corrections)

"""Which slide an export is of, whatever bytes follow its name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from napari_plimseg.results.export.owner import exported_slide
from napari_plimseg.results.mask_info import SLIDE_KEY

if TYPE_CHECKING:
    from pathlib import Path


def test_the_checksum_of_a_picture_is_no_part_of_the_slide(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    for number in range(200):  # among as many checksums, several begin with letters or digits
        fingerprint, about = f"{number:064x}", PngInfo()
        about.add_text(SLIDE_KEY, fingerprint)
        Image.new("L", (4, 4)).save(path, pnginfo=about)
        assert exported_slide(path) == fingerprint


def test_other_files_are_of_no_slide(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    assert exported_slide(path) == ""
    Image.new("L", (4, 4)).save(path)
    assert exported_slide(path) == ""

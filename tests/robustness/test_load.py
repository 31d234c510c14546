"""The short form of `make load`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
import tifffile

from tests.campaigns.load import SHORT_SLIDES
from tests.support.campaigns import campaign
from tests.support.large_slides import GLASS, TissueBlock, write_huge_slide

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_many_slides_a_large_slide_and_many_objects() -> None:
    printed = campaign("load", "--short", seconds=900)
    assert printed.splitlines()[-1].endswith(", 0 failed")
    assert f"{SHORT_SLIDES - 1} done" in printed, "all but the damaged one"


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_a_missing_guard_is_noticed() -> None:
    guard = "thumbnails use the pyramid"
    assert f"guard {guard}: noticed" in campaign(
        "load", "--self-test", "--only", guard, seconds=900
    )


def test_the_huge_slide_is_what_it_says(tmp_path: Path) -> None:
    path = write_huge_slide(
        tmp_path / "a.tif", 8_192, 10_240, TissueBlock(4_096, 2_048, 2_048, 4_096)
    )
    with tifffile.TiffFile(path) as tiff:
        assert [page.shape[:2] for page in tiff.pages] == [
            (8_192, 10_240), (2_048, 2_560), (512, 640),
        ]  # fmt: skip
        for page in tiff.pages:
            pixels = page.asarray()
            step = 8_192 // page.shape[0]
            inside = pixels[4_096 // step : 6_144 // step, 2_048 // step : 6_144 // step]
            assert (pixels[0, 0] == GLASS).all()
            assert not (inside == GLASS).all(axis=-1).any()
            glass = (pixels == GLASS).all(axis=-1).sum()
            assert glass == pixels.shape[0] * pixels.shape[1] - inside.shape[0] * inside.shape[1]
    assert path.stat().st_size < 1 << 20

"""Micrometres per pixel from every place; unknown stays unknown."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tifffile

from napari_plimseg.errors import SlideError
from napari_plimseg.slides import metadata, open_slide
from tests.support import slides as factory

PICTURE = factory.tissue(128, 128)


@pytest.mark.parametrize(
    ("description", "mpp"),
    [
        ("Aperio|AppMag = 20|MPP = 0.4990|Left = 25", 0.499),
        ("Aperio|MPP=0.2527", 0.2527),
        ("Aperio|MPP = 2.5e-1|", 0.25),
        ("Aperio|AppMag = 20", None),
        ("Aperio|MPP = 0|", None),
        ("Aperio|MPP = 0.0000001|", None),
        ("Aperio|MPP = 499|", None),
        ("Aperio|MPP = .|", None),
        ("Aperio|MPP = unknown", None),
        ("XMPP = 0.5", None),
    ],
)
def test_aperio(description, mpp):
    assert metadata.from_aperio(description) == mpp


@pytest.mark.parametrize(
    ("pixels", "unit", "mpp"),
    [
        (40_000, 3, 0.25),
        (101_600, 2, 0.25),
        (4_000, 4, 0.25),
        (20_139.58, 3, 0.49653),
        (1, 1, None),
        (40_000, 1, None),
        (72, 2, None),
        (96, 2, None),
        (300, 2, None),
        (1_200, 2, None),
        (0, 3, None),
        (-40_000, 3, None),
        (math.inf, 3, None),
        (math.nan, 3, None),
        (40_000, 77, None),
    ],
)
def test_resolution(pixels, unit, mpp):
    found = metadata.from_resolution(pixels, unit)
    assert found is None if mpp is None else found == pytest.approx(mpp, rel=1e-4)


@pytest.mark.parametrize(
    ("value", "unit", "mpp"),
    [
        (0.25, "µm", 0.25),
        (0.25, "μm", 0.25),  # Greek mu, not the micro sign
        ("0.25", "micrometer", 0.25),
        (250, "nm", 0.25),
        (0.00025, "mm", 0.25),
        (2.5e-7, "meter", 0.25),
        (0.25, "pixel", None),
        (0.25, "", None),
        (0.25, None, None),
        ("wide", "µm", None),
        (0, "µm", None),
        (1, "mm", None),
    ],
)
def test_length(value, unit, mpp):
    found = metadata.from_length(value, unit)
    assert found is None if mpp is None else found == pytest.approx(mpp)


@pytest.mark.parametrize(
    ("height", "width", "mpp", "said"),
    [
        (0.25, 0.25, 0.25, False),
        (0.25, 0.2537, math.sqrt(0.25 * 0.2537), False),
        (0.25, 0.26, None, True),
        (0.5, 0.25, None, True),
        (0.25, None, 0.25, False),
        (None, 0.25, 0.25, False),
        (None, None, None, False),
        (0.25, math.nan, 0.25, False),
    ],
)
def test_pixels_that_are_not_square_have_no_single_size(height, width, mpp, said):
    found, note = metadata.square(height, width)
    assert found == (mpp and pytest.approx(mpp))
    assert (note is not None) is said


@pytest.mark.parametrize(
    ("options", "mpp"),
    [
        ({"resolution": (40_000, 40_000), "resolutionunit": "CENTIMETER"}, 0.25),
        ({"resolution": (50_800, 50_800), "resolutionunit": "INCH"}, 0.5),
        ({"resolution": (72, 72), "resolutionunit": "INCH"}, None),
        ({"resolution": (40_000, 20_000), "resolutionunit": "CENTIMETER"}, None),
        ({}, None),
    ],
)
def test_tiff_files(tmp_path, options, mpp):
    with open_slide(factory.write_tiff(tmp_path / "r.tif", [PICTURE], **options)) as slide:
        assert slide.mpp == (mpp and pytest.approx(mpp))


def test_not_square_is_said(tmp_path):
    options = {"resolution": (40_000, 20_000), "resolutionunit": "CENTIMETER"}
    with open_slide(factory.write_tiff(tmp_path / "r.tif", [PICTURE], **options)) as slide:
        assert "not square" in slide.notes[0]


def test_imagej(tmp_path):
    import tifffile

    path = tmp_path / "ij.tif"
    tifffile.imwrite(path, PICTURE, imagej=True, resolution=(2, 2), metadata={"unit": "um"})
    with open_slide(path) as slide:
        assert slide.mpp == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("metadata", "mpp"),
    [
        ({"PhysicalSizeX": 250, "PhysicalSizeXUnit": "nm",
          "PhysicalSizeY": 250, "PhysicalSizeYUnit": "nm"}, 0.25),
        ({"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.25}, None),
        ({"PhysicalSizeXUnit": "pixel", "PhysicalSizeYUnit": "pixel"}, None),
    ],
)  # fmt: skip
def test_ome_tiff(tmp_path, metadata, mpp):
    with open_slide(factory.write_ome_tiff(tmp_path / "m.ome.tif", [PICTURE], **metadata)) as slide:
        assert slide.mpp == (mpp and pytest.approx(mpp))


@pytest.mark.parametrize(
    ("mpp", "unit", "expected"),
    [(0.5, "micrometer", 0.5), (500, "nanometer", 0.5), (1.0, "", None), (5, "millimeter", None)],
)
def test_ome_zarr(tmp_path, mpp, unit, expected):
    path = factory.write_ome_zarr(tmp_path / "m.zarr", [PICTURE], mpp=mpp, unit=unit)
    with open_slide(path) as slide:
        assert slide.mpp == (expected and pytest.approx(expected))


@pytest.mark.parametrize("sizes", ['SizeT="1000000000"', 'SizeZ="2000" SizeT="1_000"'])
def test_planes_that_ome_xml_declares_are_bounded(sizes, tmp_path):
    xml = f'<?xml version="1.0"?><OME><Image><Pixels SizeX="64" SizeY="64" {sizes}/></Image></OME>'
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, np.zeros((64, 64), np.uint8), description=xml, metadata=None)
    with pytest.raises(SlideError, match="OME-XML declares"):
        open_slide(path)

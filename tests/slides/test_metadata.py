"""Micrometres per pixel from every place; unknown stays unknown."""

from __future__ import annotations

import json
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
        (0.25, "micrometers", 0.25),
        (0.25, "Microns", 0.25),
        (0.25, "Âµm", 0.25),  # UTF-8 that was read as Latin-1 and written again
        (0.25, "Î¼m", 0.25),
        (0.25, "Ã‚Âµm", 0.25),
        (0.25, "\\u00B5m", 0.25),
        (250, "nanometers", 0.25),
        ("0,25", "µm", 0.25),
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


@pytest.mark.parametrize("unit", ["um", "micrometers", "\\u00B5m"])
def test_imagej(unit, tmp_path):
    path = tmp_path / "ij.tif"
    tifffile.imwrite(path, PICTURE, imagej=True, resolution=(2, 2), metadata={"unit": unit})
    with open_slide(path) as slide:
        assert slide.mpp == pytest.approx(0.5)


OME_IMAGE = (
    '<?xml version="1.0" encoding="UTF-8"?>'
    '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0" {name}>'
    '<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" SizeX="{x}" SizeY="{y}" SizeC="3" '
    'SizeZ="1" SizeT="1" {sizes}>{channels}<TiffData/></Pixels></Image>{end}'
)
TOGETHER = '<Channel ID="Channel:0:0" SamplesPerPixel="3"/>'
APART = "".join(f'<Channel ID="Channel:0:{i}" SamplesPerPixel="1"/>' for i in range(3))
QUARTER = 'PhysicalSizeX="0.25" PhysicalSizeY="0.25"'


def ome_xml(name="", sizes="", channels=TOGETHER, end="</OME>") -> bytes:
    height, width = PICTURE.shape[:2]
    return OME_IMAGE.format(
        name=name, sizes=sizes, channels=channels, end=end, x=width, y=height
    ).encode()


@pytest.mark.parametrize("sizes", ["", 'PhysicalSizeX="0" PhysicalSizeY="0"'])
def test_ome_tiff_without_sizes_has_those_of_its_tiff(sizes, tmp_path):
    path = factory.write_tiff(
        tmp_path / "a.ome.tif",
        [PICTURE],
        description=ome_xml(sizes=sizes),
        resolution=(40_000, 40_000),
        resolutionunit="CENTIMETER",
    )
    with open_slide(path) as slide:
        assert slide.mpp == pytest.approx(0.25)


@pytest.mark.parametrize(
    "broken",
    [
        {"name": 'Name="liver & bile"'},
        {"name": 'Name="a\x01b"'},
        {"name": 'Name="p < 0.05"'},
        {"end": "</Image>"},
        {"end": "<Extra></OME>"},
        {"end": "</OME"},
    ],
)
@pytest.mark.parametrize("channels", [TOGETHER, APART], ids=["together", "apart"])
def test_ome_xml_that_is_damaged_costs_no_pixels(broken, channels, tmp_path):
    path = tmp_path / "a.ome.tif"
    xml = ome_xml(sizes=QUARTER, channels=channels, **broken)
    pages = [PICTURE] if channels is TOGETHER else list(PICTURE.transpose(2, 0, 1))
    kind = "rgb" if channels is TOGETHER else "minisblack"
    with tifffile.TiffWriter(path) as writer:
        for number, page in enumerate(pages):
            about = None if number else xml
            writer.write(page, tile=(64, 64), photometric=kind, metadata=None, description=about)
    with open_slide(path) as slide:
        assert slide.mpp == pytest.approx(0.25)
        assert "OME-XML is damaged" in " ".join(slide.notes)
        np.testing.assert_array_equal(slide.read_level(0, 0, 0, *PICTURE.shape[:2]), PICTURE)


def test_ome_xml_that_does_not_fit_costs_no_pixels(tmp_path):
    xml = ome_xml(sizes=QUARTER).replace(b'DimensionOrder="XYCZT"', b"")
    with open_slide(
        factory.write_tiff(tmp_path / "a.ome.tif", [PICTURE], description=xml)
    ) as slide:
        assert slide.mpp == pytest.approx(0.25)
        assert "does not fit" in " ".join(slide.notes)
        np.testing.assert_array_equal(slide.read_level(0, 0, 0, *PICTURE.shape[:2]), PICTURE)


def test_aperio_with_a_decimal_comma(tmp_path):
    with open_slide(factory.write_svs(tmp_path / "a.svs", [PICTURE], mpp="0,2521")) as slide:
        assert slide.mpp == pytest.approx(0.2521)


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


def test_an_ome_zarr_with_a_unit_but_without_a_scale_has_no_pixel_size(tmp_path):
    path = factory.write_ome_zarr(tmp_path / "m.zarr", [PICTURE])
    attributes = json.loads((path / ".zattrs").read_text())
    for dataset in attributes["multiscales"][0]["datasets"]:
        del dataset["coordinateTransformations"]
    (path / ".zattrs").write_text(json.dumps(attributes))
    with open_slide(path) as slide:
        assert slide.mpp is None


@pytest.mark.parametrize("sizes", ['SizeT="1000000000"', 'SizeZ="2000" SizeT="1_000"'])
def test_planes_that_ome_xml_declares_are_bounded(sizes, tmp_path):
    xml = f'<?xml version="1.0"?><OME><Image><Pixels SizeX="64" SizeY="64" {sizes}/></Image></OME>'
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, np.zeros((64, 64), np.uint8), description=xml, metadata=None)
    with pytest.raises(SlideError, match="OME-XML declares"):
        open_slide(path)

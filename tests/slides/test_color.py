"""Each way of storing colour gives exact 8-bit RGB, or is refused with the reason."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_plimseg.errors import SlideError
from napari_plimseg.slides import open_slide
from napari_plimseg.slides.color import ColorTable, rgb_channels
from tests.support import slides as factory

if TYPE_CHECKING:
    from pathlib import Path

RGB = np.array([[[0, 0, 0], [255, 255, 255]], [[200, 100, 50], [1, 128, 254]]], np.uint8)
GRAY = np.array([[0, 255], [100, 1]], np.uint8)
ALPHA = np.array([[255, 0], [128, 255]], np.uint8)


def over_white(color: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    weight = alpha[..., None] / 255
    return np.floor(color * weight + 255 * (1 - weight) + 0.5).astype(np.uint8)


def as_rgb(gray: np.ndarray) -> np.ndarray:
    return np.repeat(gray[..., None], 3, axis=2)


@dataclass(frozen=True)
class Stored:
    """Samples as stored, with the writer's options, and what is to be seen."""

    name: str
    samples: np.ndarray
    options: dict[str, Any]
    seen: np.ndarray
    note: str | None = None


PALETTE = np.zeros((3, 256), np.uint16)
PALETTE[:, :4] = np.array([[0, 200, 30, 255], [0, 100, 60, 255], [0, 50, 90, 255]]) * 257
INDICES = np.array([[0, 1], [2, 3]], np.uint8)
DEEP = np.array([[0, 65535], [128, 129]], np.uint16)  # 128 / 257 rounds to 0, 129 / 257 to 1
CASES = (
    Stored("rgb", RGB, {"photometric": "rgb"}, RGB),
    Stored("rgba", np.dstack([RGB, ALPHA]), {"photometric": "rgb", "extrasamples": ["unassalpha"]},
           over_white(RGB, ALPHA), "over white"),
    Stored("rgba premultiplied",
           np.dstack([RGB * (ALPHA[..., None] == 255), ALPHA]),
           {"photometric": "rgb", "extrasamples": ["assocalpha"]},
           np.where(ALPHA[..., None] == 255, RGB, 255 - ALPHA[..., None]), "over white"),
    Stored("rgbx", np.dstack([RGB, ALPHA]), {"photometric": "rgb", "extrasamples": ["unspecified"]},
           RGB, "fourth channel"),
    Stored("gray", GRAY, {"photometric": "minisblack"}, as_rgb(GRAY), "Gray levels"),
    Stored("gray inverted", GRAY, {"photometric": "miniswhite"}, as_rgb(255 - GRAY), "Gray levels"),
    Stored("gray alpha", np.dstack([GRAY, ALPHA]),
           {"photometric": "minisblack", "extrasamples": ["unassalpha"], "planarconfig": "contig"},
           as_rgb(over_white(GRAY[..., None], ALPHA)[..., 0]), "over white"),
    Stored("bilevel", np.array([[True, False], [False, True]]), {"photometric": "minisblack"},
           as_rgb(np.array([[255, 0], [0, 255]], np.uint8)), "Black and white"),
    Stored("palette", INDICES, {"photometric": "palette", "colormap": PALETTE},
           (PALETTE.T >> 8)[INDICES].astype(np.uint8), "looked up"),
    Stored("16 bit", np.dstack([DEEP] * 3), {"photometric": "rgb"},
           as_rgb(np.array([[0, 255], [0, 1]], np.uint8)), "divided by 257"),
    Stored("16 bit gray", DEEP, {"photometric": "minisblack"},
           as_rgb(np.array([[0, 255], [0, 1]], np.uint8)), "divided by 257"),
    Stored("12 bit", np.array([[0, 4095], [2048, 8]], np.uint16),
           {"photometric": "minisblack", "bitspersample": 12, "compression": "none"},
           as_rgb(np.array([[0, 255], [128, 0]], np.uint8)), "12-bit"),
    Stored("jpeg ycbcr", np.full((64, 64, 3), (200, 100, 50), np.uint8),
           {"photometric": "rgb", "compression": "jpeg", "compressionargs": {"level": 100}},
           np.full((64, 64, 3), (200, 100, 50), np.uint8)),
    Stored("jpeg 2000", np.tile(RGB, (32, 32, 1)),
           {"photometric": "rgb", "compression": "jpeg2000"}, np.tile(RGB, (32, 32, 1))),
    Stored("webp", np.tile(RGB, (32, 32, 1)),
           {"photometric": "rgb", "compression": "webp", "compressionargs": {"level": -1}},
           np.tile(RGB, (32, 32, 1))),
)  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_tiff_colors_are_exact(tmp_path, case):
    path = tmp_path / "c.tif"
    options = {"tile": (16, 16), "compression": "zlib", "metadata": None} | case.options
    if case.name == "12 bit":
        del options["tile"]  # tifffile packs strips only
        try:
            imagecodecs.packints_encode(case.samples, 12)
        except NotImplementedError:
            pytest.skip("this imagecodecs writes no 12-bit samples: 2026.3.6 is the first")
    if options["compression"] == "none":
        options["compression"] = None
    tifffile.imwrite(path, case.samples, **options)
    with open_slide(path) as slide:
        got = slide.read_level(0, 0, 0, *slide.shape)
        tolerance = 2 if "jpeg ycbcr" in case.name else 0
        assert np.abs(got.astype(int) - case.seen).max() <= tolerance
        assert any(case.note in note for note in slide.notes) if case.note else not slide.notes


def deep_png(path: Path) -> Path:
    Image.fromarray(DEEP).save(path)
    return path


@pytest.mark.parametrize(
    ("name", "mode", "pixels", "seen", "note"),
    [
        ("rgb.png", "RGB", RGB, RGB, None),
        ("gray.png", "L", GRAY, as_rgb(GRAY), "Gray levels"),
        ("rgba.png", "RGBA", np.dstack([RGB, ALPHA]), over_white(RGB, ALPHA), "over white"),
        ("rgba.webp", "RGBA", np.dstack([RGB, ALPHA]), over_white(RGB, ALPHA), "over white"),
        ("bilevel.png", "1", GRAY, as_rgb(np.array([[0, 255], [0, 0]], np.uint8)), "Black and"),
        ("palette.png", "P", RGB, RGB, "looked up"),
        ("bitmap.bmp", "RGB", RGB, RGB, None),
    ],
)  # fmt: skip
def test_picture_colors_are_exact(tmp_path, name, mode, pixels, seen, note):
    image = Image.fromarray(pixels)
    if mode == "1":
        image = image.point(lambda v: 255 * (v > 127)).convert("1", dither=Image.Dither.NONE)
    elif mode == "P":
        image = image.quantize(16)
    image.save(tmp_path / name, **({"lossless": True, "exact": True} if "webp" in name else {}))
    with open_slide(tmp_path / name) as slide:
        np.testing.assert_array_equal(slide.read_level(0, 0, 0, 2, 2), seen)
        assert any(note in n for n in slide.notes) if note else not slide.notes


def test_deep_gray_picture(tmp_path):
    with open_slide(deep_png(tmp_path / "deep.png")) as slide:
        assert slide.read_level(0, 0, 0, 2, 2)[..., 0].tolist() == [[0, 255], [0, 1]]
        assert "divided by 257" in " ".join(slide.notes)


def test_declared_bits_of_a_camera_are_used(tmp_path):
    pixels = np.full((3, 64, 64), 2048, np.uint16)
    path = factory.write_ome_tiff(
        tmp_path / "twelve.ome.tif", [pixels.transpose(1, 2, 0)], SignificantBits=12
    )
    with open_slide(path) as slide:
        assert (slide.read_level(0, 0, 0, 64, 64) == 128).all()
        assert "12-bit samples are scaled to 8 bits." in slide.notes


REFUSED = (
    ("float", np.zeros((8, 8, 3), np.float32), {"photometric": "rgb"}, "floating-point"),
    ("signed", np.zeros((8, 8, 3), np.int16), {"photometric": "rgb"}, "signed"),
    ("32 bit", np.zeros((8, 8, 3), np.uint32), {"photometric": "rgb"}, "32 bits"),
    ("cmyk", np.zeros((8, 8, 4), np.uint8), {"photometric": "separated"}, "CMYK"),
    ("lab", np.zeros((8, 8, 3), np.uint8), {"photometric": "cielab"}, "CIELab"),
    ("five", np.zeros((8, 8, 5), np.uint8), {"photometric": "rgb"}, "5 channels"),
    ("multiplex", np.zeros((7, 8, 8), np.uint8),
     {"photometric": "minisblack", "planarconfig": "separate"}, "multiplex .* 7 channels"),
)  # fmt: skip


@pytest.mark.parametrize(
    ("samples", "options", "reason"), [c[1:] for c in REFUSED], ids=[c[0] for c in REFUSED]
)
def test_tiff_colors_without_meaning_are_refused(tmp_path, samples, options, reason):
    path = tmp_path / "refused.tif"
    tifffile.imwrite(path, samples, metadata=None, **options)
    with pytest.raises(SlideError, match=rf"'refused\.tif'.*{reason}.*\. [A-Z]"):
        open_slide(path)


def test_cmyk_pictures_are_refused(tmp_path):
    path = tmp_path / "refused.jpg"
    Image.new("CMYK", (8, 8)).save(path)
    with pytest.raises(SlideError, match=r"'refused\.jpg': its colors are CMYK.*Save it as"):
        open_slide(path)


RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


@pytest.mark.parametrize(
    ("names", "colors", "order", "is_certain"),
    [
        (("R", "G", "B"), (), (0, 1, 2), True),
        (("Red", "Green", "Blue"), (), (0, 1, 2), True),
        (("Blau", "Grün", "Rot"), (), (2, 1, 0), True),
        (("TL Brightfield-R", "TL Brightfield-G", "TL Brightfield-B"), (), (0, 1, 2), True),
        (("", "", ""), (), (0, 1, 2), True),
        (("", "", ""), (BLUE, GREEN, RED), (2, 1, 0), True),
        (("Channel:0:0", "Channel:0:1", "Channel:0:2"), (), (0, 1, 2), True),
        (("0", "1", "2"), (RED, GREEN, BLUE), (0, 1, 2), True),
        (("Axiocam 305", "second", "third"), (RED, GREEN, BLUE), (0, 1, 2), False),
        (("one", "two", "three"), (None, RED, RED), (0, 1, 2), False),
        (("R", "G", "B", "alpha"), (), (0, 1, 2), True),
    ],
)
def test_which_channels_are_red_green_and_blue(names, colors, order, is_certain):
    found = rgb_channels(names, colors)
    assert (found.order, found.is_certain) == (order, is_certain)


@pytest.mark.parametrize(
    "names",
    [
        ("DAPI", "FITC", "Cy3"),
        ("DAPI", "Red", "Green"),
        ("Texas Red", "Green", "Blue"),
        ("Hematoxylin", "Eosin", "Residual"),
        ("488", "561", "640"),
        ("R", "G"),
        ("DAPI", "FITC", "TRITC", "Cy5"),
        ("R", "G", "B", "infrared"),
    ],
)
def test_stains_are_not_colors(names):
    assert rgb_channels(names, (RED, GREEN, BLUE)) is None


def test_ome_tiff_of_three_named_stains_is_refused(tmp_path):
    stains = factory.tissue(64, 64).transpose(2, 0, 1)
    path = factory.write_ome_tiff(
        tmp_path / "stains.ome.tif", [stains], axes="CYX", Channel={"Name": ["DAPI", "CD3", "CD8"]}
    )
    with pytest.raises(SlideError, match=r"3 channels \(DAPI, CD3, CD8\)"):
        open_slide(path)


def test_ome_tiff_of_red_green_and_blue_planes_opens(tmp_path):
    pixels = factory.tissue(200, 300)
    path = factory.write_ome_tiff(
        tmp_path / "planes.ome.tif",
        [pixels.transpose(2, 0, 1)],
        axes="CYX",
        Channel={"Name": ["Red", "Green", "Blue"]},
    )
    with open_slide(path) as slide:
        np.testing.assert_array_equal(slide.read_level(0, 30, 40, 100, 200), pixels[30:130, 40:240])


def planes(pixels: np.ndarray, kind: str, path: Path, names: Any, colors: Any) -> Path:
    """Write three separate planes with the names and colors of their channels."""
    if kind == "zarr":
        factory.write_ome_zarr(path, [pixels], labels=["", "", ""])
        file, attributes = factory.zarr_attributes(path)
        attributes["omero"]["channels"] = [
            {"label": name, "color": "{:02X}{:02X}{:02X}".format(*color)}
            for name, color in zip(names, colors, strict=True)
        ]
        file.write_text(json.dumps(attributes), "utf-8")
        return path
    numbers = [int.from_bytes(bytes((*color, 255)), "big", signed=True) for color in colors]
    return factory.write_ome_tiff(
        path,
        [pixels.transpose(2, 0, 1)],
        axes="CYX",
        Channel={"Name": list(names), "Color": numbers},
    )


@pytest.mark.parametrize("kind", ["zarr", "ome.tif"])
def test_planes_of_a_color_camera_open_under_any_names(kind, tmp_path):
    pixels = factory.tissue(200, 300)
    shuffled = np.ascontiguousarray(pixels[..., [2, 0, 1]])
    names, colors = ("Axio A", "Axio B", "Axio C"), (BLUE, RED, GREEN)
    with open_slide(planes(shuffled, kind, tmp_path / f"p.{kind}", names, colors)) as slide:
        np.testing.assert_array_equal(slide.read_level(0, 30, 40, 100, 200), pixels[30:130, 40:240])
        assert "Axio B, Axio C, Axio A are shown as red, green and blue" in " ".join(slide.notes)


@pytest.mark.parametrize("kind", ["zarr", "ome.tif"])
def test_dark_planes_of_unknown_names_are_markers(kind, tmp_path):
    spots = np.zeros((300, 300, 3), np.uint8)
    spots[::7, ::5] = (40, 180, 90)
    path = planes(spots, kind, tmp_path / f"m.{kind}", ("Mart", "S100", "X"), (RED, GREEN, BLUE))
    with pytest.raises(SlideError, match=r"3 channels \(Mart, S100, X\)"):
        open_slide(path)


def test_imagej_composite_of_a_color_camera(tmp_path):
    pixels = factory.tissue(100, 120)
    ramp = np.arange(256, dtype=np.uint8)
    tables = [np.stack([ramp * (i == k) for i in range(3)]) for k in range(3)]
    path = tmp_path / "composite.tif"
    tifffile.imwrite(
        path,
        pixels.transpose(2, 0, 1),
        imagej=True,
        metadata={"axes": "CYX", "mode": "composite", "LUTs": tables},
    )
    with open_slide(path) as slide:
        np.testing.assert_array_equal(slide.read_level(0, 0, 0, 100, 120), pixels)


def test_four_stains_of_a_zarr_are_not_transparent_colors(tmp_path):
    path = factory.write_ome_zarr(
        tmp_path / "s.zarr", [np.full((64, 64, 4), 90, np.uint8)], labels=["DAPI", "A", "B", "C"]
    )
    with pytest.raises(SlideError, match="4 channels"):
        open_slide(path)


def test_ome_zarr_of_stains_is_refused(tmp_path):
    path = factory.write_ome_zarr(
        tmp_path / "s.zarr", [factory.tissue(64, 64)], labels=["DAPI", "CD3", "CD8"]
    )
    with pytest.raises(SlideError, match=r"3 channels \(DAPI, CD3, CD8\)"):
        open_slide(path)


def test_ome_zarr_of_16_bits_is_divided_by_257(tmp_path):
    deep = factory.tissue(64, 64).astype(np.uint16) * 257
    path = factory.write_ome_zarr(tmp_path / "deep.zarr", [deep])
    with open_slide(path) as slide:
        np.testing.assert_array_equal(slide.read_level(0, 0, 0, 64, 64), factory.tissue(64, 64))
        assert "divided by 257" in slide.notes[0]


@pytest.mark.parametrize("bits", range(2, 17))
def test_black_and_white_stay_black_and_white(bits):
    samples = np.array([[[0], [(1 << bits) - 1]]], np.uint16)
    assert ColorTable("gray", bits).to_rgb(samples)[0].tolist() == [[0] * 3, [255] * 3]

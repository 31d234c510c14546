"""Pixel size and levels, from every place where vendors write them."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from napari_plimseg.slides.slide import Level, usable_mpp

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


MAX_ANISOTROPY = 0.015
"""Relative difference of pixel height and width above which no single size is honest."""
_UNITS = {
    "pm": 1e-6, "picometer": 1e-6, "picometre": 1e-6,
    "å": 1e-4, "angstrom": 1e-4, "ångström": 1e-4,
    "nm": 1e-3, "nanometer": 1e-3, "nanometre": 1e-3,
    "µm": 1.0, "μm": 1.0, "um": 1.0, "µ": 1.0, "μ": 1.0, "micron": 1.0, "\\u00b5m": 1.0,
    "\\u03bcm": 1.0, "&#181;m": 1.0, "\ufffdm": 1.0, "?m": 1.0,
    "micrometer": 1.0, "micrometre": 1.0, "mikrometer": 1.0,
    "mm": 1e3, "millimeter": 1e3, "millimetre": 1e3,
    "cm": 1e4, "centimeter": 1e4, "centimetre": 1e4,
    "m": 1e6, "meter": 1e6, "metre": 1e6,
    "in": 25_400.0, "inch": 25_400.0, "inche": 25_400.0,
}  # fmt: skip
_PER_UNIT = {2: 25_400.0, 3: 10_000.0, 4: 1_000.0, 5: 1.0}  # TIFF ResolutionUnit -> um
_APERIO_MPP = re.compile(r"\bMPP\s*=\s*([0-9.,]+(?:[eE][-+]?\d+)?)")


def square(mpp_y: float | None, mpp_x: float | None) -> tuple[float | None, str | None]:
    """Return one pixel size from two, and a sentence when they differ too much.

    A slide whose pixels are not square still opens, but its pixel size stays unknown: otherwise
    every area and every model would silently work with a wrong number.

    Parameters
    ----------
    mpp_y, mpp_x : float or None
        Height and width of a pixel in um.
    """
    height, width = usable_mpp(mpp_y), usable_mpp(mpp_x)
    if height is None or width is None:
        return height or width, None
    if abs(height - width) > MAX_ANISOTROPY * max(height, width):
        return None, (
            f"Its pixels are {height:.4g} um high and {width:.4g} um wide, not square: "
            "for viewing only."
        )
    return math.sqrt(height * width), None


def from_length(value: object, unit: object) -> float | None:
    """Return um for a length with a unit, as OME and NGFF metadata give it; None when unusable."""
    number, factor = _decimal(str(value)), _um_in(str(unit))
    return None if number is None or factor is None else usable_mpp(number * factor)


def _decimal(text: str) -> float | None:
    """Return a number, also one with a decimal comma; None for anything else."""
    try:
        return float(text.strip().rstrip(",").replace(",", "."))
    except ValueError:
        return None


def _um_in(unit: str) -> float | None:
    """Return the um in a unit as writers spell it: in the plural, or encoded twice."""
    spelled = unit
    for _ in range(3):  # each round takes one wrong encoding away
        plain = spelled.strip(" .\0").casefold()
        for word in (plain, plain.removesuffix("s")):
            if word in _UNITS:
                return _UNITS[word]
        try:
            spelled = spelled.encode("cp1252").decode("utf-8")
        except UnicodeError:
            return None
    return None


def from_aperio(description: str) -> float | None:
    """Return the number after `MPP =` in an Aperio image description."""
    match = _APERIO_MPP.search(description)
    return usable_mpp(_decimal(match[1])) if match else None


def from_resolution(pixels: float, unit: int) -> float | None:
    """Return um/px from a TIFF resolution; what printers and screens use is out of range.

    Parameters
    ----------
    pixels : float
        Pixels per unit.
    unit : int
        The ResolutionUnit tag: 2 is inch, 3 is cm; 1 means that the numbers are only a ratio.
    """
    if unit not in _PER_UNIT or not math.isfinite(pixels) or pixels <= 0:
        return None
    return usable_mpp(_PER_UNIT[unit] / pixels)


def from_imagej(metadata: Mapping[str, object] | None, pixels: float) -> float | None:
    """Return um/px from ImageJ's `unit` and the resolution in pixels per unit."""
    if not metadata or not math.isfinite(pixels) or pixels <= 0:
        return None
    return from_length(1 / pixels, metadata.get("unit", ""))


_ASPECT_TOLERANCE = 0.02


def downsample_of(finest: tuple[int, int], shape: tuple[int, int]) -> float:
    """Return level-0 pixels per pixel, a whole number where rounding explains the difference.

    A level of half of 4443 x 3567 has 2221 x 1783 pixels: their size is 2, not 2.0005, and the
    file only dropped the last half pixel.

    Parameters
    ----------
    finest, shape : tuple of int
        Pixels (y, x) of level 0 and of the level.
    """
    ratio = (finest[0] / shape[0] + finest[1] / shape[1]) / 2
    power = 1
    while power * 1.5 < ratio:
        power *= 2
    for whole in (power, round(ratio)):
        if all(abs(f / whole - s) < 1 for f, s in zip(finest, shape, strict=True)):
            return float(whole)
    return max(1.0, ratio)


def pyramid_of(
    shapes: Sequence[tuple[int, int]], tile_shapes: Sequence[tuple[int, int]]
) -> tuple[list[int], tuple[Level, ...]]:
    """Return the images that form a pyramid under the first, and their levels.

    An image that does not shrink, or whose aspect differs from the first by more than 2 % and
    two pixels, is something else (a label, a macro picture, a thumbnail) and is skipped.

    Parameters
    ----------
    shapes, tile_shapes : sequence of tuple of int
        Pixels (y, x) of images and of their tiles, the finest image first.

    Returns
    -------
    indices : list of int
    levels : tuple of Level
    """
    finest = shapes[0]
    indices, levels = [0], [Level(finest, 1.0, tile_shapes[0])]
    for index in range(1, len(shapes)):
        shape = shapes[index]
        before = levels[-1].shape
        if min(shape) < 1 or shape[0] >= before[0] or shape[1] >= before[1]:
            continue
        proportional = finest[0] * shape[1] / finest[1]
        if abs(shape[0] - proportional) > max(2.0, _ASPECT_TOLERANCE * shape[0]):
            continue
        downsample = downsample_of(finest, shape)
        if downsample <= levels[-1].downsample:
            continue
        indices.append(index)
        levels.append(Level(shape, downsample, tile_shapes[index]))
    return indices, tuple(levels)

"""Micrometres per pixel, from every place where vendors put it; None when absent."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from napari_plimseg.slides.slide import usable_mpp

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_ANISOTROPY = 0.015
"""Relative difference of pixel height and width above which no single size is honest."""
_UNITS = {
    "pm": 1e-6, "picometer": 1e-6,
    "å": 1e-4, "angstrom": 1e-4,
    "nm": 1e-3, "nanometer": 1e-3, "nanometre": 1e-3,
    "µm": 1.0, "μm": 1.0, "um": 1.0, "micron": 1.0, "microns": 1.0, "\\u00b5m": 1.0,
    "micrometer": 1.0, "micrometre": 1.0,
    "mm": 1e3, "millimeter": 1e3, "millimetre": 1e3,
    "cm": 1e4, "centimeter": 1e4, "centimetre": 1e4,
    "m": 1e6, "meter": 1e6, "metre": 1e6,
    "in": 25_400.0, "inch": 25_400.0,
}  # fmt: skip
_PER_UNIT = {2: 25_400.0, 3: 10_000.0, 4: 1_000.0, 5: 1.0}  # TIFF ResolutionUnit -> um
_APERIO_MPP = re.compile(r"\bMPP\s*=\s*([0-9.]+(?:[eE][-+]?\d+)?)")


def square(mpp_y: float | None, mpp_x: float | None) -> tuple[float | None, str | None]:
    """Return one pixel size from two, and a sentence when they differ too much.

    A slide with pixels that are not square still opens, but its size stays unknown: every area
    and every model would otherwise work with a wrong number without saying so.

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
            f"Its pixels are {height:.4g} um high and {width:.4g} um wide, not square, so the "
            "pixel size is taken as unknown."
        )
    return math.sqrt(height * width), None


def from_length(value: object, unit: object) -> float | None:
    """Return um for a length with a unit, as OME and NGFF metadata give it; None when unusable."""
    try:
        number = float(str(value))
    except ValueError:
        return None
    factor = _UNITS.get(str(unit).strip().casefold())
    return None if factor is None else usable_mpp(number * factor)


def from_aperio(description: str) -> float | None:
    """Return the number after `MPP =` in an Aperio image description."""
    match = _APERIO_MPP.search(description)
    return usable_mpp(float(match[1])) if match and match[1].strip(".") else None


def from_resolution(pixels: float, unit: int) -> float | None:
    """Return um/px from a TIFF resolution; what printers and screens use is out of range.

    Parameters
    ----------
    pixels : float
        Pixels a unit.
    unit : int
        The ResolutionUnit tag: 2 inch, 3 cm; 1 says that the numbers are only a ratio.
    """
    if unit not in _PER_UNIT or not math.isfinite(pixels) or pixels <= 0:
        return None
    return usable_mpp(_PER_UNIT[unit] / pixels)


def from_imagej(metadata: Mapping[str, object] | None, pixels: float) -> float | None:
    """Return um/px from ImageJ's `unit` and the resolution in pixels a unit."""
    if not metadata or not math.isfinite(pixels) or pixels <= 0:
        return None
    return from_length(1 / pixels, metadata.get("unit", ""))

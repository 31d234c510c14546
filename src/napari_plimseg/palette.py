"""Colors of tissue classes that people can tell apart over a stained slide.

Colors are compared as they are seen: half transparent over hematoxylin, eosin and glass, as the
distance in CIELAB. Where asked for, they are compared as color-blind eyes see them, too.
"""

from __future__ import annotations

import itertools
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

Color = tuple[int, int, int]

OPACITY = 0.5
"""Of a mask over its slide."""
CLEAR_DISTANCE = 15.0
"""Two colors are told apart from this distance in CIELAB on, over every backdrop."""
_BACKDROPS = np.array([(121, 84, 150), (222, 150, 185), (243, 241, 243)], np.float64)

COLOR_BLIND: tuple[Color, ...] = (
    (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66),
    (0, 114, 178), (213, 94, 0), (204, 121, 167), (0, 0, 0),
)  # fmt: skip
"""The palette of Okabe and Ito, which color-blind eyes tell apart."""

# Machado, Oliveira and Fernandes (2009), severity 1, in linear RGB
_DEFICIENCIES = {
    "protan": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216),
               (-0.003882, -0.048116, 1.051998)),
    "deutan": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413),
               (-0.011820, 0.042940, 0.968881)),
}  # fmt: skip
_TO_XYZ = np.array(
    [(0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505)]
)  # fmt: skip
_WHITE = np.array([0.9505, 1.0, 1.089])


def distance(first: Color, second: Color, *, color_blind: bool = False) -> float:
    """Return how different two colors look over a slide, at the backdrop where it is least.

    Parameters
    ----------
    first, second : tuple of int
        Red, green and blue, 0 to 255.
    color_blind : bool
        Whether they are seen with normal, protanopic and deuteranopic eyes, whichever is worst.

    Returns
    -------
    float
        Distance in CIELAB.
    """
    return float(_distances([first], [second], color_blind)[0, 0])


def distinct_color(
    used: Iterable[Color], preferred: Iterable[Color] = (), *, color_blind: bool = False
) -> Color:
    """Return a color that differs from all others.

    Parameters
    ----------
    used : iterable of tuple of int
        The colors that are taken.
    preferred : iterable of tuple of int
        The first of these that is clear of all used ones is returned.
    color_blind : bool
        Whether color-blind eyes must tell it apart, too.

    Returns
    -------
    tuple of int
        One of `preferred`, otherwise the color farthest from all used ones.
    """
    taken = [*dict.fromkeys(used)]
    wanted = [*dict.fromkeys(preferred)]
    if wanted and not taken:
        return wanted[0]
    if wanted:
        clear = _distances(wanted, taken, color_blind).min(1) >= CLEAR_DISTANCE
        if clear.any():
            return wanted[int(np.argmax(clear))]
    candidates = _candidates()
    nearest = _distances(candidates, taken or [(255, 255, 255)], color_blind).min(1)
    return candidates[int(np.argmax(nearest))]


def color_blind_colors(count: int) -> tuple[Color, ...]:
    """Return colors that color-blind eyes tell apart over a slide, the first ones best."""
    colors: list[Color] = []
    while len(colors) < count:
        colors.append(distinct_color(colors, COLOR_BLIND, color_blind=True))
    return tuple(colors)


@cache
def _candidates() -> tuple[Color, ...]:
    steps = (0, 51, 102, 153, 204, 255)
    # grays and what is nearly white look like glass or shadow
    every = ((r, g, b) for r, g, b in itertools.product(steps, repeat=3))
    return tuple(c for c in every if max(c) - min(c) >= 102)


def _distances(
    first: Iterable[Color], second: Iterable[Color], color_blind: bool
) -> NDArray[np.float64]:
    """Return the distance (N, M) of each of N colors to each of M, over the worst backdrop."""
    eyes = [np.eye(3), *(map(np.array, _DEFICIENCIES.values()) if color_blind else ())]
    found = []
    for eye in eyes:
        a, b = (_seen(colors, eye) for colors in (first, second))
        found.append(np.linalg.norm(a[:, None] - b[None], axis=-1).min(-1))
    least: NDArray[np.float64] = np.minimum.reduce(found)
    return least


def _seen(colors: Iterable[Color], eye: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return CIELAB (N, B, 3) of N colors, half transparent over each of B backdrops."""
    plain = np.array([*colors], np.float64)
    blended = (OPACITY * plain[:, None] + (1 - OPACITY) * _BACKDROPS[None]) / 255
    linear = np.where(blended <= 0.04045, blended / 12.92, ((blended + 0.055) / 1.055) ** 2.4)
    xyz = np.clip(linear @ eye.T, 0, 1) @ _TO_XYZ.T / _WHITE
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    light = 116 * f[..., 1] - 16
    return np.stack([light, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], axis=-1)

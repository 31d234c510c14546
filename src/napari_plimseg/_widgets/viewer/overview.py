"""Where the view is on a small map of a slide. Without Qt and napari."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

SMALL_SIDE = 4096
"""A slide of at most this many pixels on both sides needs no map."""
LONGEST_SIDE = 180
"""Of the map, in pixels of the screen."""
_SMALLEST_BOX = 5.0


@dataclass(frozen=True)
class Overview:
    """A map of a slide.

    Parameters
    ----------
    height, width : int
        Of the map, in pixels of the screen.
    top, left, bottom, right : float
        World coordinates of the slide's edges.
    """

    height: int
    width: int
    top: float
    left: float
    bottom: float
    right: float

    @classmethod
    def of(cls, top: float, left: float, bottom: float, right: float) -> Self:
        """Return the map of a slide between these world coordinates."""
        high, wide = bottom - top, right - left
        scale = LONGEST_SIDE / max(high, wide)
        return cls(
            max(1, round(high * scale)), max(1, round(wide * scale)), top, left, bottom, right
        )

    def box(
        self, center: tuple[float, float], zoom: float, window: tuple[int, int]
    ) -> tuple[float, float, float, float]:
        """Return y, x, height and width, in pixels of the map, of what a window shows.

        Parameters
        ----------
        center : tuple of float
            World (y, x) in the middle of the window.
        zoom : float
            Pixels of the screen per world unit.
        window : tuple of int
            Pixels of the screen (height, width).

        Returns
        -------
        tuple of float
            Within the map, and never too small to be seen.
        """
        sides = []
        for middle, pixels, low, high, length in (
            (center[0], window[0], self.top, self.bottom, self.height),
            (center[1], window[1], self.left, self.right, self.width),
        ):
            scale = length / (high - low)
            half = max(pixels / zoom / 2 * scale, _SMALLEST_BOX / 2)
            place = (middle - low) * scale
            first = min(max(0.0, place - half), length - _SMALLEST_BOX)
            last = max(min(float(length), place + half), first + _SMALLEST_BOX)
            sides.append((first, last - first))
        (y, height), (x, width) = sides
        return y, x, height, width

    def place(self, y: float, x: float) -> tuple[float, float]:
        """Return the world (y, x) of a pixel of the map; of its edge for pixels outside."""
        down, across = (
            min(max(0.0, at / length), 1.0) for at, length in ((y, self.height), (x, self.width))
        )
        return (
            self.top + down * (self.bottom - self.top),
            self.left + across * (self.right - self.left),
        )

    def fits(self, window: tuple[int, int]) -> bool:
        """Whether a window (height, width) has room for the map."""
        return 3 * self.height <= window[0] and 3 * self.width <= window[1]


def is_small(shape: tuple[int, int]) -> bool:
    """Whether a slide of these level-0 pixels (height, width) needs no map."""
    return max(shape) <= SMALL_SIDE

"""Where a slide has tissue: found by color at a low level, in well under a second."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from napari_plimseg.errors import ConfigError, SlideError
from napari_plimseg.slides.slide import UNSCANNED, WHITE

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from napari_plimseg.slides.slide import Slide

_TYPICAL_MPP = 0.5  # only to choose a level and lengths when a file gives no pixel size
_MIN_SIDE, _MAX_SIDE = 512, 2048
_LEVEL_FITS = (0.6, 2.0)  # a level whose pixel is this many times the wanted one is used unchanged
_DEFAULT_GLASS = 243.0
_GLASS_SIDE = 1024  # enough pixels to know the color of the glass
_BLUR_UM = 6.0
_BLOCK = 64
_STAIN = (200, 110, 160)
_PIECE_SHARE = 0.05
_GRAY = 0.15  # color below this share of the density is gray: dust, shadow, black ink
_PEN_BLEEDS_UM = 50.0
_PEN_SMALLEST_UM = 150.0
_FILL_SMALLEST_UM = 100.0
_LUMEN_UM, _SLIT_UM = 100.0, 16.0
_EDGE = 2  # mask pixels around black fill in which pixels of finer levels are still black
_BLACK = 40  # stained tissue is never darker in every channel; unscanned fields and felt pens are
_LOG = np.log(np.maximum(np.arange(256, dtype=np.float32), 12.0))  # below is the camera's noise


@dataclass(frozen=True)
class TissueMaskSettings:
    """What counts as tissue.

    Parameters
    ----------
    mpp : float
        Wanted micrometers per mask pixel; a level near it is used unchanged.
    weak, strong : float
        Optical density of color (largest minus smallest channel, relative to the glass): a pixel
        from `weak` may be tissue, and each piece of tissue must reach `strong` somewhere.
    max_hole_um : float
        Enclosed holes up to a disc of this diameter are filled: lumens, vessels, fat cells.
    min_piece_um : float
        Pieces smaller than a disc of this diameter are removed as dust.
    join_um : float
        Gaps up to about this width are closed: the walls of fat cells become one piece.
    margin_um : float
        Margin around the tissue, so that its rim is never cut.
    remove_pen : bool
        Whether strokes of felt pens and tissue dye in blue, green, black and red are left out.
    """

    mpp: float = 4.0
    weak: float = 0.055
    strong: float = 0.12
    max_hole_um: float = 180.0
    min_piece_um: float = 80.0
    join_um: float = 40.0
    margin_um: float = 4.0
    remove_pen: bool = True

    def __post_init__(self) -> None:
        if not 0.5 <= self.mpp <= 100:
            raise ConfigError(f"a tissue mask at {self.mpp} um/px is not between 0.5 and 100")
        if not 0 < self.weak <= self.strong <= 2:
            raise ConfigError(
                f"the tissue thresholds weak={self.weak} and strong={self.strong} are wrong",
                remedy="Give 0 < weak <= strong <= 2.",
            )
        for name in ("max_hole_um", "min_piece_um", "join_um", "margin_um"):
            if not 0 <= getattr(self, name) <= 1e5:
                raise ConfigError(f"{name} of the tissue mask is {getattr(self, name)}, not a size")

    def without_glass(self) -> TissueMaskSettings:
        """Return settings by which wide clefts and lumens are glass, as for people who paint.

        A run takes them for tissue, so that it leaves no gaps in what a model should see.
        """
        return dataclasses.replace(
            self,
            max_hole_um=min(self.max_hole_um, _LUMEN_UM),  # fat cells are tissue
            join_um=min(self.join_um, _SLIT_UM),
            margin_um=0.0,
        )


@dataclass(frozen=True, eq=False)
class TissueMask:
    """Where there is tissue.

    Parameters
    ----------
    mask : ndarray of bool, shape (h, w)
        True on tissue; pixel (0, 0) begins at the corner of the slide.
    downsample : float
        Level-0 pixels per mask pixel and side.
    unscanned : ndarray of bool, shape (h, w), optional
        True where the file is black because nothing was scanned, and a little around it.
    """

    mask: NDArray[np.bool_]
    downsample: float
    unscanned: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        if self.mask.ndim != 2 or self.mask.dtype != np.bool_ or not self.downsample > 0:
            raise ConfigError(
                f"a tissue mask of {self.mask.dtype} {self.mask.shape} at {self.downsample}"
            )

    @property
    def fraction(self) -> float:
        """Share of the slide that is tissue, 0 to 1."""
        return float(self.mask.mean()) if self.mask.size else 0.0

    def window(
        self, downsample: float, y: int, x: int, height: int, width: int
    ) -> NDArray[np.bool_]:
        """Sample the mask at the centers of the pixels of a virtual level.

        The value at a pixel depends on its global position only, not on the window.

        Parameters
        ----------
        downsample : float
            Level-0 pixels per pixel of the virtual level.
        y, x, height, width : int
            The window in pixels of the virtual level; False outside the slide.

        Returns
        -------
        ndarray of bool, shape (height, width)
        """
        return self._window(self.mask, downsample, y, x, height, width)

    def at(
        self, downsample: float, rows: NDArray[np.int64], columns: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Sample the mask at pixels (n,) of a virtual level; False outside the slide."""
        places = [
            np.floor((along + 0.5) * downsample / self.downsample).astype(np.int64)
            for along in (rows, columns)
        ]
        inside = np.ones(len(rows), np.bool_)
        for place, side in zip(places, self.mask.shape, strict=True):
            inside &= (place >= 0) & (place < side)
            np.clip(place, 0, side - 1, out=place)
        inside &= self.mask[places[0], places[1]]
        return inside

    def over_white(
        self, pixels: NDArray[np.uint8], downsample: float, y: int, x: int
    ) -> NDArray[np.uint8]:
        """Return pixels of the slide with white where nothing was scanned, as scanners write it.

        Parameters
        ----------
        pixels : ndarray of uint8, shape (h, w, 3)
            A window of the virtual level.
        downsample : float
            Level-0 pixels per pixel of the virtual level.
        y, x : int
            The window's corner in pixels of the virtual level.
        """
        if self.unscanned is None:
            return pixels
        fill = self._window(self.unscanned, downsample, y, x, *pixels.shape[:2])
        fill &= pixels.max(2) < _BLACK
        return np.where(fill[..., None], np.uint8(WHITE), pixels) if fill.any() else pixels

    def _window(
        self, mask: NDArray[np.bool_], downsample: float, y: int, x: int, height: int, width: int
    ) -> NDArray[np.bool_]:
        rows, row_inside = self._sampled(downsample, y, height, mask.shape[0])
        columns, column_inside = self._sampled(downsample, x, width, mask.shape[1])
        sampled: NDArray[np.bool_] = mask[np.ix_(rows, columns)]
        return sampled & row_inside[:, None] & column_inside

    def _sampled(
        self, downsample: float, start: int, count: int, limit: int
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        centers = (np.arange(start, start + count) + 0.5) * downsample / self.downsample
        index = np.floor(centers).astype(np.int64)
        return np.clip(index, 0, limit - 1), (index >= 0) & (index < limit)


def tissue_mask(slide: Slide, settings: TissueMaskSettings | None = None) -> TissueMask:
    """Find the tissue on a slide.

    Tissue is what has color compared with the glass, whatever the color of the glass. The
    threshold is absolute and not taken from the picture's histogram (as Otsu's is), so a picture
    that is all tissue stays whole and one that is all glass stays empty. Blue, green and black
    strokes are recognized by their hue, red ones by absorbing blue nearly as much as green, which
    stained tissue does not.

    Parameters
    ----------
    slide : Slide
        An open slide; its pixel size may be unknown.
    settings : TissueMaskSettings, optional

    Returns
    -------
    TissueMask

    Raises
    ------
    SlideError
        When the slide can't be read.
    """
    settings = settings or TissueMaskSettings()
    mpp = slide.mpp or _TYPICAL_MPP
    downsample = _mask_downsample(slide, settings.mpp / mpp)
    height, width = (max(1, int(np.ceil(side / downsample - 1e-6))) for side in slide.shape)
    rgb = _read_what_can_be_read(slide, downsample, height, width)
    unscanned = _unscanned(rgb, mpp * downsample)
    if unscanned is not None:
        rgb = _over_white(rgb, unscanned)
        unscanned = _grown(unscanned, _EDGE)
    tissue = find_tissue(rgb, mpp * downsample, settings)
    gap = slide.overview_gap(downsample)
    if gap:
        # what lies between the tiles that were read may be tissue if it is close to some
        tissue = _grown(tissue, min(gap / downsample, *tissue.shape))
    return TissueMask(tissue, downsample, unscanned)


def _read_what_can_be_read(
    slide: Slide, downsample: float, height: int, width: int
) -> NDArray[np.uint8]:
    """Read the whole slide at a low level; a damaged part looks like tissue.

    The run then tries its tiles and marks them as unreadable, instead of taking them for glass.
    """
    try:
        return slide.read_at(downsample, 0, 0, height, width)
    except SlideError:
        whole = np.full((height, width, 3), _STAIN, np.uint8)
    readable = 0
    for y in range(0, height, _BLOCK):
        for x in range(0, width, _BLOCK):
            rows, columns = min(_BLOCK, height - y), min(_BLOCK, width - x)
            try:
                whole[y : y + rows, x : x + columns] = slide.read_at(
                    downsample, y, x, rows, columns
                )
                readable += 1
            except SlideError:
                continue
    if not readable:
        raise SlideError(
            "no part of it can be read", path=slide.path, remedy="Copy it again from the scanner."
        )
    return whole


def find_tissue(
    rgb: NDArray[np.uint8], mpp: float, settings: TissueMaskSettings
) -> NDArray[np.bool_]:
    """Find the tissue in a picture.

    Parameters
    ----------
    rgb : ndarray of uint8, shape (h, w, 3)
    mpp : float
        Micrometers per pixel of `rgb`.
    settings : TissueMaskSettings

    Returns
    -------
    ndarray of bool, shape (h, w)
    """
    density = optical_density(rgb, mpp)
    most, chroma = _strength(density)
    red, green, _ = density  # each (h, w)
    # stains take more green than red, or about as much; marks in blue and green do not
    weak = (chroma >= settings.weak) & (chroma >= _GRAY * most) & (red <= 0.02 + 1.12 * green)
    weak &= rgb.max(2) >= _BLACK
    if settings.remove_pen:
        weak &= ~_pen(density, mpp)
    strong = weak & (chroma >= settings.strong)
    tissue = _reaching(weak, strong)
    tissue = _closed(tissue, settings.join_um / 2 / mpp)
    # of a picture smaller than a piece of tissue, a part is a piece
    smallest = min(_disc_area(settings.min_piece_um, mpp), _PIECE_SHARE * tissue.size)
    tissue = _without_pieces(tissue, smallest)
    tissue = ~_without_pieces(~tissue, _disc_area(settings.max_hole_um, mpp), border=False)
    return _grown(tissue, settings.margin_um / mpp)


def optical_density(rgb: NDArray[np.uint8], mpp: float) -> NDArray[np.float32]:
    """Return the optical density against the glass, as (3, h, w), 0 or more."""
    glass = _glass_color(rgb)
    logs = _LOG[rgb].transpose(2, 0, 1)  # (3, h, w)
    sigma = _BLUR_UM / 2 / mpp
    if sigma > 0.5:
        logs = np.stack([ndimage.gaussian_filter(channel, sigma) for channel in logs])
    density: NDArray[np.float32] = np.log(glass)[:, None, None] - logs
    return np.maximum(density, 0, out=density)


def _unscanned(rgb: NDArray[np.uint8], mpp: float) -> NDArray[np.bool_] | None:
    """Return where a converter left black what was not scanned; None when nowhere."""
    brightest = rgb.max(2)
    fill = _without_pieces(brightest <= UNSCANNED, _disc_area(_FILL_SMALLEST_UM, mpp))
    # compression with loss frays the edge
    return _reaching(brightest < _BLACK, fill) if fill.any() else None


def _over_white(rgb: NDArray[np.uint8], fill: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return the picture with white in place of black fill.

    Black pixels blur into the tissue beside them and look like a felt pen, which is left out with
    its surroundings. Pixels at the edge hold both, so they take the color of the next ones inside.
    """
    mixed = _grown(fill, 1)
    filled = rgb.copy()
    filled[fill] = WHITE
    if not mixed.all():
        edge = mixed & ~fill
        nearest = ndimage.distance_transform_edt(mixed, return_distances=False, return_indices=True)
        filled[edge] = rgb[tuple(nearest[:, edge])]
    return filled


def _strength(
    density: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the largest density of the three channels, and by how much it exceeds the smallest."""
    red, green, blue = density
    most = np.maximum(np.maximum(red, green), blue)
    return most, most - np.minimum(np.minimum(red, green), blue)


def _mask_downsample(slide: Slide, wanted: float) -> float:
    longest = max(slide.shape)
    wanted = max(1.0, min(wanted, longest / _MIN_SIDE), longest / _MAX_SIDE)
    low, high = (factor * wanted for factor in _LEVEL_FITS)
    fits = [
        level.downsample
        for level in slide.levels
        if low <= level.downsample <= high and max(level.shape) <= _MAX_SIDE
    ]
    return min(fits, key=lambda downsample: abs(np.log(downsample / wanted)), default=wanted)


def _glass_color(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the color of empty glass: what is bright, flat and almost gray, most often."""
    step = -(-max(rgb.shape) // _GLASS_SIDE)
    rgb = rgb[::step, ::step]
    brightest, darkest = rgb.max(2), rgb.min(2)
    gray = rgb[..., 1].astype(np.float32)
    mean = ndimage.uniform_filter(gray, 5)
    spread = ndimage.uniform_filter(gray * gray, 5) - mean * mean
    candidates = (darkest >= 195) & (brightest - darkest <= 22) & (spread < 9)
    scanned = candidates & (darkest < 254)  # pure white was never scanned
    # a few pale pixels of a picture that is all tissue are not the glass
    if scanned.sum() < 0.005 * gray.size:
        scanned = candidates
    if scanned.sum() < 0.005 * gray.size:
        return np.full(3, _DEFAULT_GLASS, np.float32)
    pixels = rgb[scanned]  # (N, 3)
    most = int(np.bincount(pixels[:, 1], minlength=256).argmax())
    near = pixels[np.abs(pixels[:, 1].astype(np.int16) - most) <= 3]
    glass: NDArray[np.float32] = np.median(near, axis=0).astype(np.float32)
    return glass


def _pen(density: NDArray[np.float32], mpp: float) -> NDArray[np.bool_]:
    red, green, blue = density
    most, chroma = _strength(density)
    blue_or_green_pen = (chroma > 0.4) & (red > 0.06 + 1.12 * green)
    black_pen = (most > 0.8) & (chroma < _GRAY * most)
    red_pen = (green > 1.35) & (red < 0.2 * green) & (blue > 0.72 * green)
    core = _without_pieces(
        blue_or_green_pen | black_pen | red_pen, _disc_area(_PEN_SMALLEST_UM, mpp)
    )
    # a stroke fades through paler tones, which would pass for tissue
    return _grown(core, _PEN_BLEEDS_UM / mpp)


def _disc_area(diameter_um: float, mpp: float) -> float:
    """Return the area of a disc in pixels."""
    return float(np.pi / 4 * (diameter_um / mpp) ** 2)


def _reaching(weak: NDArray[np.bool_], strong: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Keep the connected parts of `weak` that hold a pixel of `strong`."""
    labels, count = ndimage.label(weak, np.ones((3, 3)))
    keep = np.zeros(count + 1, np.bool_)
    keep[labels[strong]] = True
    keep[0] = False
    kept: NDArray[np.bool_] = keep[labels]
    return kept


def _without_pieces(
    mask: NDArray[np.bool_], smallest: float, *, border: bool = True
) -> NDArray[np.bool_]:
    """Remove connected parts below `smallest` pixels; without `border`, not those that touch it."""
    labels, count = ndimage.label(mask)
    keep = np.bincount(labels.ravel(), minlength=count + 1) >= smallest
    if not border:
        for edge in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
            keep[edge] = True
    keep[0] = False
    kept: NDArray[np.bool_] = keep[labels]
    return kept


def _grown(mask: NDArray[np.bool_], radius: float) -> NDArray[np.bool_]:
    """Dilate by a square."""
    return _filtered(mask, radius, ndimage.maximum_filter1d)


def _closed(mask: NDArray[np.bool_], radius: float) -> NDArray[np.bool_]:
    """Dilate and erode by a square; the picture's border erodes nothing."""
    return _filtered(_grown(mask, radius), radius, ndimage.minimum_filter1d)


def _filtered(
    mask: NDArray[np.bool_], radius: float, extreme: Callable[..., NDArray[np.uint8]]
) -> NDArray[np.bool_]:
    side = 2 * round(radius) + 1
    pixels = mask.view(np.uint8)
    if side > 1:
        for axis in (0, 1):
            pixels = extreme(pixels, side, axis=axis, mode="nearest")
    return pixels.view(np.bool_)

"""The overlay picture: the slide with its classes in color, a legend and a scale bar."""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_plimseg.errors import ExportError
from napari_plimseg.results.export.label_tiff import LabelPyramid
from napari_plimseg.results.export.writing import RESEARCH_USE, export_to
from napari_plimseg.results.mask_info import SLIDE_KEY, MaskInfo
from napari_plimseg.results.measure import area_table
from napari_plimseg.tissue import UNREADABLE

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont, ImageFont

    from napari_plimseg.results.measure import ClassArea, MaskArray
    from napari_plimseg.slides import Slide
    from napari_plimseg.tissue import Color


_PAPER, _INK, _FAINT, _RULE = (255, 255, 255), (32, 33, 36), (105, 109, 115), (216, 218, 222)
_LONGEST_NAME = 18  # in letter heights; longer names end in an ellipsis


class OverlaySheet:
    """Lays a picture out on white.

    Parameters
    ----------
    picture : Image
        The slide with its classes.
    info : MaskInfo
    areas : tuple of ClassArea
        Rows of the legend; rows that are not tissue appear only where they occur.
    downsample : float
        Level-0 pixels per pixel of the picture.
    """

    def __init__(
        self, picture: Image, info: MaskInfo, areas: tuple[ClassArea, ...], downsample: float
    ) -> None:
        self.picture = picture
        self.info = info
        self.tissue = [area for area in areas if area.kind == "tissue"]
        self.others = [area for area in areas if area.kind != "tissue" and area.pixels]
        self.mpp = None if info.mpp is None else info.mpp * downsample
        self.size = max(13, min(34, round(max(picture.size) / 60)))
        self.line = round(self.size * 1.75)
        self.margin = round(self.size * 1.6)

    def drawn(self) -> Image:
        """Return the finished sheet."""
        from PIL import Image, ImageDraw

        name_width, area_width, percent_width = self._legend_widths()
        legend_left = self.picture.width + 2 * self.margin
        legend_width = name_width + area_width + percent_width
        top = self.margin + self.line * 3
        below = top + self.picture.height + self.line * 2
        legend_height = self.line * (len(self.tissue) + len(self.others) + 4)
        sheet = Image.new(
            "RGB",
            (
                legend_left + legend_width + self.margin,
                max(below, top + legend_height) + self.margin // 2,
            ),
            _PAPER,
        )
        draw = ImageDraw.Draw(sheet)
        self._draw_title(draw, sheet.width - 2 * self.margin)
        sheet.paste(self.picture, (self.margin, top))
        draw.rectangle(
            (
                self.margin - 1,
                top - 1,
                self.margin + self.picture.width,
                top + self.picture.height,
            ),
            outline=_RULE,
        )
        self._draw_scale(draw, self.margin, top + self.picture.height)
        self._draw_legend(draw, legend_left, top, (name_width, area_width, percent_width))
        return sheet

    def _font(self, factor: float = 1.0, *, bold: bool = False) -> FreeTypeFont | ImageFont:
        return _font(self.size * factor, bold)

    def _fitting(self, text: str, width: float, font: FreeTypeFont | ImageFont) -> str:
        if font.getlength(text) <= width:
            return text
        while text and font.getlength(text + "…") > width:
            text = text[:-1]
        return text.rstrip() + "…"

    def _draw_title(self, draw: ImageDraw, width: int) -> None:
        model = f"Model: {self.info.model_name}" if self.info.model_name else "Tissue classes"
        mpp = self.info.mask_mpp
        facts = [model, RESEARCH_USE]
        title, small = self._font(1.4, bold=True), self._font(0.9)
        if mpp is not None:
            facts.insert(1, f"mask at {mpp:.3g} {_um()}/px")
        draw.text(
            (self.margin, self.margin),
            self._fitting(self.info.slide_name, width, title),
            _INK,
            title,
            anchor="lt",
        )
        draw.text(
            (self.margin, self.margin + round(self.line * 1.35)),
            self._fitting("  ·  ".join(facts), width, small),
            _FAINT,
            small,
            anchor="lt",
        )

    def _draw_scale(self, draw: ImageDraw, left: int, top: int) -> None:
        middle = top + self.line
        if self.mpp is None:
            draw.text(
                (left, middle),
                "Pixel size unknown: no scale bar, areas in mask pixels.",
                _FAINT,
                self._font(0.9),
                anchor="lm",
            )
            return
        um = round_length(self.picture.width * self.mpp / 4)
        right, half = left + round(um / self.mpp), max(2, self.size // 6)
        draw.rectangle((left, middle - half, right, middle + half), fill=_INK)
        text = f"{um / 1000:g} mm" if um >= 1000 else f"{um:g} {_um()}"
        draw.text((right + self.size * 0.7, middle), text, _INK, self._font(), anchor="lm")

    def _swatch(self) -> int:
        return round(self.size * 1.05)

    def _columns(self, area: ClassArea) -> tuple[str, str, str]:
        name = self._fitting(area.name, _LONGEST_NAME * self.size, self._font())
        size = f"{area.pixels:,}" if area.mm2 is None else _mm2(area.mm2)
        percent = "" if area.percent_of_tissue is None else f"{area.percent_of_tissue:.1f}"
        return name, size, percent

    def _heads(self) -> tuple[str, str, str]:
        return "Class", "px" if self.mpp is None else _mm2_unit(), "% of tissue"

    def _legend_widths(self) -> tuple[int, int, int]:
        font, small = self._font(), self._font(0.85)
        rows = [self._columns(area) for area in (*self.tissue, *self.others)]
        widths = [
            max(small.getlength(head), *(font.getlength(row[i]) for row in rows))
            for i, head in enumerate(self._heads())
        ]
        gap = self.size * 1.6
        return (
            round(widths[0] + self._swatch() + self.size * 0.7),
            round(widths[1] + gap),
            round(widths[2] + gap),
        )

    def _draw_legend(
        self, draw: ImageDraw, left: int, top: int, widths: tuple[int, int, int]
    ) -> None:
        rights = (left + widths[0] + widths[1], left + sum(widths))
        y = top + self.line // 2
        name, size, percent = self._heads()
        small = self._font(0.85)
        draw.text((left, y), name, _FAINT, small, anchor="lm")
        draw.text((rights[0], y), size, _FAINT, small, anchor="rm")
        draw.text((rights[1], y), percent, _FAINT, small, anchor="rm")
        y = self._draw_rule(draw, left, rights[1], y)
        for area in self.tissue:
            color = self.info.classes[area.mask_id - 1].color
            self._draw_row(draw, (left, *rights), y, area, color)
            y += self.line
        if self.others:
            y = self._draw_rule(draw, left, rights[1], y - self.line)
            for area in self.others:
                self._draw_row(draw, (left, *rights), y, area, None)
                y += self.line

    def _draw_rule(self, draw: ImageDraw, left: int, right: int, y: int) -> int:
        """Draw a line below the row at `y` and return the middle of the next row."""
        below = y + round(self.line * 0.65)
        draw.line((left, below, right, below), _RULE, max(1, self.size // 14))
        return below + round(self.line * 0.75)

    def _draw_row(
        self,
        draw: ImageDraw,
        columns: tuple[int, int, int],
        y: int,
        area: ClassArea,
        color: Color | None,
    ) -> None:
        left, size_right, percent_right = columns
        name, size, percent = self._columns(area)
        ink = _INK if area.pixels and color is not None else _FAINT
        if color is not None:
            half = self._swatch() // 2
            draw.rounded_rectangle(
                (left, y - half, left + 2 * half, y + half), self.size // 5, color, _RULE
            )
        draw.text(
            (left + self._swatch() + self.size * 0.7, y), name, ink, self._font(), anchor="lm"
        )
        draw.text((size_right, y), size, ink, self._font(), anchor="rm")
        draw.text((percent_right, y), percent, ink, self._font(), anchor="rm")


@cache
def _font_file(*, bold: bool) -> Path | None:
    """Find the Open Sans that vispy, napari's canvas, ships; Pillow's own font has no µ."""
    canvas = importlib.util.find_spec("vispy")
    if canvas is None or canvas.origin is None:
        return None
    name = f"OpenSans-{'Bold' if bold else 'Regular'}.ttf"
    file = Path(canvas.origin).parent / "util" / "fonts" / "data" / name
    return file if file.is_file() else None


def _font(size: float, bold: bool) -> FreeTypeFont | ImageFont:
    from PIL import ImageFont

    file = _font_file(bold=bold)
    return ImageFont.load_default(size) if file is None else ImageFont.truetype(file, size)


def _um() -> str:
    return "um" if _font_file(bold=False) is None else "µm"


def _mm2_unit() -> str:
    return "mm2" if _font_file(bold=False) is None else "mm²"


def round_length(longest: float) -> float:
    """Return the largest of 1, 2 or 5 times a power of ten that is not above `longest`."""
    power = 10.0 ** np.floor(np.log10(longest))
    return float(max(step * power for step in (1, 2, 5) if step * power <= longest * (1 + 1e-9)))


def _mm2(area: float) -> str:
    if area == 0:
        return "0"
    return f"{area:,.2f}" if area >= 1 else f"{area:.4f}" if area < 0.01 else f"{area:.3f}"


_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)
_ROWS_AT_ONCE = 256
_UNREADABLE_COLOR = (128, 128, 128)


def export_overlay(
    path: str | Path,
    mask: MaskArray,
    info: MaskInfo,
    slide: Slide,
    *,
    max_side: int = 2048,
    opacity: float = 0.45,
) -> Path:
    """Write a picture of the slide with the classes blended over it.

    Parameters
    ----------
    path : str or Path
        Should end in `.png`.
    mask : array of uint8, shape (y, x)
        Mask ids.
    info : MaskInfo
    slide : Slide
        The slide that the mask belongs to.
    max_side : int
        Longest side of the slide in the picture, in pixels.
    opacity : float
        Of the colors, 0 to 1.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    ExportError
        When the mask belongs to another slide or the file can't be written.
    SlideError
        When the slide can't be read.
    """
    from PIL.PngImagePlugin import PngInfo

    path = Path(path)
    if slide.shape != info.slide_shape:
        raise ExportError(
            f"the mask belongs to a slide of {info.slide_shape[1]} x {info.slide_shape[0]} pixels, "
            f"this one has {slide.shape[1]} x {slide.shape[0]}",
            path=path,
        )
    with export_to(path, mask, info) as temporary:
        picture = overlay_picture(mask, info, slide, max_side=max_side, opacity=opacity)
        about = PngInfo()
        about.add_text(SLIDE_KEY, info.slide_fingerprint)
        picture.save(temporary, format="PNG", pnginfo=about)
    return path


def overlay_picture(
    mask: MaskArray, info: MaskInfo, slide: Slide, *, max_side: int = 2048, opacity: float = 0.45
) -> Image:
    """Return the picture that `export_overlay` writes."""
    from PIL import Image

    downsample = max(1.0, max(slide.shape) / max_side)
    shape = (
        max(1, int(slide.shape[0] / downsample)),
        max(1, int(slide.shape[1] / downsample)),
    )
    rgb = slide.read_at(downsample, 0, 0, *shape)
    ids = _ids_at(mask, info, downsample, shape)
    blended = Image.fromarray(_blended(rgb, ids, info, opacity))
    return OverlaySheet(blended, info, area_table(mask, info), downsample).drawn()


def _ids_at(
    mask: MaskArray, info: MaskInfo, downsample: float, shape: tuple[int, int]
) -> NDArray[np.uint8]:
    # one tile as large as the picture
    side = max(shape)
    (tile,) = LabelPyramid(mask, info.downsample).iter_tiles(downsample, shape, side)
    return tile[: shape[0], : shape[1]]


def _blended(
    rgb: NDArray[np.uint8], ids: NDArray[np.uint8], info: MaskInfo, opacity: float
) -> NDArray[np.uint8]:
    colors = np.zeros((256, 3), np.float32)
    weights = np.zeros(256, np.float32)
    for mask_id in info.classes.tissue_ids:
        colors[mask_id] = info.classes[mask_id - 1].color
        weights[mask_id] = opacity
    colors[UNREADABLE], weights[UNREADABLE] = _UNREADABLE_COLOR, 0.8
    edge = np.zeros(ids.shape, np.bool_)  # keeps neighbors apart where colors are alike
    edge[1:] |= ids[1:] != ids[:-1]
    edge[:, 1:] |= ids[:, 1:] != ids[:, :-1]
    edge &= weights[ids] > 0
    blended = np.empty_like(rgb)
    for start in range(0, len(ids), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        weight = weights[ids[rows]][..., None]  # (h, w, 1)
        color = colors[ids[rows]]
        pixels = rgb[rows].astype(np.float32)
        # under a class the stain fades to gray, so that colors match the legend
        gray = (pixels @ _LUMINANCE)[..., None]  # (h, w, 1)
        below = np.where(weight > 0, 0.3 * pixels + 0.7 * gray, pixels)
        mixed = below * (1 - weight) + color * weight
        line = edge[rows]
        mixed[line] = mixed[line] * 0.4 + color[line] * 0.45
        blended[rows] = np.clip(np.rint(mixed), 0, 255)
    return blended

"""Preview pictures: an image beside its CAMs, pseudo mask, prediction and truth; also live."""

from __future__ import annotations

import contextlib
import io
import time
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from napari_plimseg.errors import ConfigError
from napari_plimseg.files import atomic_write
from napari_plimseg.training_runs import Event
from plimseg_training.data import read_pixels

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import ArrayLike, NDArray

    from napari_plimseg.tissue import Color, TissueClasses
    from plimseg_training.data import TaggedFolder, TaggedImage


PANEL_SIDE = 168
_PANELS_A_ROW = 7
_GAP, _MARGIN, _LINE = 10, 14, 20
_PAPER, _INK, _FAINT, _RULE = (255, 255, 255), (32, 33, 36), (105, 109, 115), (216, 218, 222)
_OPACITY = 0.5
_HEAT = np.array(
    [(0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164)], np.float32
)
_NO_CLASS = (128, 128, 128)


def preview_sheet(
    rgb: NDArray[np.uint8],
    *,
    classes: TissueClasses,
    tags: ArrayLike,
    cams: NDArray[np.floating] | None = None,
    pseudo_mask: NDArray[np.uint8] | None = None,
    prediction: NDArray[np.uint8] | None = None,
    truth: NDArray[np.uint8] | None = None,
    prediction_caption: str = "prediction",
    name: str = "",
    side: int = PANEL_SIDE,
) -> NDArray[np.uint8]:
    """Return one picture with captions and a legend.

    Parameters
    ----------
    rgb : ndarray of uint8, shape (H, W, 3)
    classes : TissueClasses
    tags : array of 0 and 1, shape (C,) or (N, C)
        Tags of the image or of its windows; a class counts if any window has it.
    cams : ndarray of float, shape (C, h, w), optional
        Of any size; all are scaled from 0 to the maximum over the image, and captions show the
        maximum of each.
    pseudo_mask, prediction, truth : ndarray of uint8, shape (h, w), optional
        Mask ids of any size; 0 and 255 (no class) are drawn pale with gray stripes.
    prediction_caption : str
        Caption of the prediction.
    name : str
        Title of the picture.
    side : int
        Longest side of the image in a panel, in pixels.

    Returns
    -------
    ndarray of uint8, shape (height, width, 3)

    Raises
    ------
    ConfigError
        When the number of cams or tags is not that of the tissue classes.
    """
    tagged = np.atleast_2d(np.asarray(tags, bool)).sum(0) > 0
    names = [classes.names[i - 1] for i in classes.tissue_ids]
    for what, count in (("tags", len(tagged)), ("cams", len(names) if cams is None else len(cams))):
        if count != len(names):
            raise ConfigError(f"{count} {what} for {len(names)} tissue classes")
    scale = side / max(rgb.shape[:2])
    size = (max(1, round(rgb.shape[1] * scale)), max(1, round(rgb.shape[0] * scale)))
    image = np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.LANCZOS))
    panels = [("image", image, True)]
    if cams is not None:
        top = float(np.nanmax(cams))
        for title, cam, present in zip(names, cams, tagged, strict=True):
            caption = f"{title} {float(np.nanmax(cam)):.2f}"
            panels.append((caption, _heated(image, cam, top), bool(present)))
    for caption, mask in (
        ("pseudo mask", pseudo_mask),
        (prediction_caption, prediction),
        ("truth", truth),
    ):
        if mask is not None:
            panels.append((caption, painted(image, mask, classes.colors), True))
    legend = [
        (tissue.name, tissue.color, i >= len(names) or bool(tagged[i]))
        for i, tissue in enumerate(classes)
    ]
    shown_tags = ", ".join(n for n, present in zip(names, tagged, strict=True) if present)
    title = "   ".join(part for part in (name, f"tags: {shown_tags or 'none'}") if part)
    return _laid_out(title, panels, legend)


def painted(
    image: NDArray[np.uint8],
    mask: NDArray[np.uint8],
    colors: Sequence[Color],
    opacity: float = _OPACITY,
) -> NDArray[np.uint8]:
    """Blend a mask's colors over an image of any size.

    Parameters
    ----------
    image : ndarray of uint8, shape (H, W, 3)
    mask : ndarray of uint8, shape (h, w)
        Mask ids.
    colors : sequence of colors
        Colors of mask ids from 1 on; other ids are drawn pale with gray stripes.
    opacity : float

    Returns
    -------
    ndarray of uint8, shape (H, W, 3)
    """
    height, width = image.shape[:2]
    fitted = np.asarray(Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST))
    table = np.zeros((256, 3), np.float32)
    table[1 : len(colors) + 1] = colors
    blended = (1 - opacity) * image + opacity * table[fitted]
    rows, columns = np.mgrid[0:height, 0:width]
    unknown = (fitted == 0) | (fitted > len(colors))
    blended[unknown] = 0.4 * image[unknown] + 0.6 * 255
    blended[unknown & ((rows + columns) // 3 % 3 == 0)] = _NO_CLASS
    drawn: NDArray[np.uint8] = np.rint(blended).astype(np.uint8)
    return drawn


def encoded(picture: NDArray[np.uint8], quality: int = 82) -> bytes:
    """Return a picture as JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=quality, optimize=True)
    return buffer.getvalue()


def _heated(image: NDArray[np.uint8], cam: NDArray[np.floating], top: float) -> NDArray[np.uint8]:
    """Blend a CAM over a gray image: dark at zero, bright at the maximum."""
    height, width = image.shape[:2]
    shares = np.clip(np.nan_to_num(cam.astype(np.float32)) / (top if top > 0 else 1.0), 0, 1)
    fitted = np.asarray(
        Image.fromarray(shares).resize((width, height), Image.Resampling.BILINEAR), np.float32
    )
    place = np.clip(fitted, 0, 1) * (len(_HEAT) - 1)
    lower = np.minimum(place.astype(np.int64), len(_HEAT) - 2)
    share = (place - lower)[..., None]
    colors = _HEAT[lower] * (1 - share) + _HEAT[lower + 1] * share
    gray = image.mean(2, keepdims=True)
    drawn: NDArray[np.uint8] = np.rint(0.35 * gray + 0.65 * colors).astype(np.uint8)
    return drawn


def _laid_out(
    title: str,
    panels: list[tuple[str, NDArray[np.uint8], bool]],
    legend: list[tuple[str, Color, bool]],
) -> NDArray[np.uint8]:
    height, width = panels[0][1].shape[:2]
    column, row = max(width, 96) + _GAP, height + _LINE + _GAP
    columns = min(len(panels), _PANELS_A_ROW)
    rows = -(-len(panels) // columns)
    small, bold = ImageFont.load_default(12), ImageFont.load_default(14)
    places = _legend_places(legend, columns * column - _GAP, small)
    legend_height = (places[-1][1] + 1) * _LINE
    sheet = Image.new(
        "RGB",
        (
            2 * _MARGIN + columns * column - _GAP,
            2 * _MARGIN + _LINE + 6 + rows * row + legend_height,
        ),
        _PAPER,
    )
    draw = ImageDraw.Draw(sheet)
    inside = sheet.width - 2 * _MARGIN
    draw.text((_MARGIN, _MARGIN), _fitting(title, inside, bold), _INK, bold)
    top = _MARGIN + _LINE + 6
    for i, (caption, picture, strong) in enumerate(panels):
        x, y = _MARGIN + i % columns * column, top + i // columns * row
        text = _fitting(caption, column - _GAP, small)
        draw.text((x, y), text, _INK if strong else _FAINT, small)
        sheet.paste(Image.fromarray(picture), (x, y + _LINE))
        edge = (x - 1, y + _LINE - 1, x + width, y + _LINE + height)
        draw.rectangle(edge, outline=_RULE)
    for (text, color, strong), (x, line) in zip(legend, places, strict=True):
        y = top + rows * row + line * _LINE
        draw.rectangle((_MARGIN + x, y + 1, _MARGIN + x + 12, y + 13), color, _RULE)
        draw.text((_MARGIN + x + 18, y), text, _INK if strong else _FAINT, small)
    return np.asarray(sheet)


def _legend_places(
    legend: list[tuple[str, Color, bool]],
    width: int,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> list[tuple[int, int]]:
    """Return x position and line of each entry, wrapped to lines of at most `width`."""
    places, x, line = [], 0, 0
    for text, _, _ in legend:
        needed = 18 + round(font.getlength(text)) + 16
        if x and x + needed > width:
            x, line = 0, line + 1
        places.append((x, line))
        x += needed
    return places


def _fitting(text: str, width: float, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text.rstrip() + "..."


PAUSE_SECONDS = 10.0
"""Shortest time between updates, which also take at most a twentieth of the training time."""
_SHARE = 20
_SIDE = 150


class LivePreviews:
    """Draws the current predictions for some images, to show the progress.

    Parameters
    ----------
    folder : Path
        For one JPEG per image, which each update overwrites.
    data : TaggedFolder
        Defines the classes.
    images : sequence of TaggedImage
        Some of its images.
    log : callable
        Called with an event for each picture.
    """

    def __init__(
        self,
        folder: Path,
        data: TaggedFolder,
        images: Sequence[TaggedImage],
        log: Callable[[Event], None],
    ) -> None:
        self._folder = folder
        self._data = data
        self._images = tuple(images)
        self._log = log
        self._next = 0.0

    def draw(
        self,
        stage: str,
        mask_of: Callable[[TaggedImage], NDArray[np.uint8]],
        caption: str,
        pseudo_mask_of: Callable[[TaggedImage], NDArray[np.uint8]] | None = None,
    ) -> None:
        """Draw all pictures, unless the last update was too recent.

        When the disk is full, pictures are skipped and the training continues.

        Parameters
        ----------
        stage : str
            Name of the stage.
        mask_of : callable
            Returns the network's current mask ids (h, w) of an image.
        caption : str
            Caption of these masks.
        pseudo_mask_of : callable, optional
            Returns the mask ids (h, w) of an image's pseudo mask.
        """
        begun = time.monotonic()
        if begun < self._next:
            return
        for image in self._images:
            sheet = preview_sheet(
                read_pixels(image),
                classes=self._data.classes,
                tags=image.tags,
                pseudo_mask=None if pseudo_mask_of is None else pseudo_mask_of(image),
                prediction=mask_of(image),
                prediction_caption=caption,
                name=image.name,
                side=_SIDE,
            )
            path = self._folder / f"{image.name}.jpg"
            with contextlib.suppress(OSError):
                with atomic_write(path) as temporary:
                    temporary.write_bytes(encoded(sheet))
                place = f"{self._folder.name}/{path.name}"  # relative to the run folder
                self._log(Event("preview", stage=stage, data={"file": place, "live": True}))
        ended = time.monotonic()
        self._next = ended + max(PAUSE_SECONDS, _SHARE * (ended - begun))

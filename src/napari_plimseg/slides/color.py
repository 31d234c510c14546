"""How stored samples become 8-bit RGB, or why they are refused."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_plimseg.errors import SlideError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

Model = Literal[
    "rgb", "rgba", "rgba premultiplied", "rgbx", "gray", "gray inverted", "gray alpha", "palette"
]
_CONVERT = "Export the slide as 8-bit RGB, for example with QuPath or with: vips icc_export."


@dataclass(frozen=True)
class ColorTable:
    """How the samples of one slide become 8-bit RGB.

    Parameters
    ----------
    model : str
        What the samples are.
    bits : int
        Used bits of each sample, 1 to 16.
    palette : ndarray of uint8, shape (n, 3), optional
        The colors of indices, for the model "palette".
    """

    model: Model
    bits: int = 8
    palette: NDArray[np.uint8] | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= 16:
            raise SlideError(f"samples of {self.bits} bits can't become 8-bit colors")

    @property
    def notes(self) -> tuple[str, ...]:
        """What is converted, as sentences for people."""
        notes = []
        if self.model.startswith("gray"):
            notes.append(
                "Black and white pixels are shown in gray levels: models expect H&E colors."
                if self.bits == 1
                else "Gray levels are shown as RGB: models expect H&E colors."
            )
        if self.model in ("rgba", "rgba premultiplied", "gray alpha"):
            notes.append("Transparent pixels are shown over white.")
        if self.model == "rgbx":
            notes.append("A fourth channel of unknown meaning is ignored.")
        if self.model == "palette":
            notes.append("Palette colors are looked up.")
        if self.bits == 16 and self.model != "palette":
            notes.append(
                "16-bit samples are divided by 257 to 8 bits; an image that looks dark was stored "
                "with fewer bits than the file declares."
            )
        elif self.bits > 8 and self.model != "palette":
            notes.append(f"{self.bits}-bit samples are scaled to 8 bits.")
        return tuple(notes)

    def to_rgb(self, pixels: NDArray[Any]) -> NDArray[np.uint8]:
        """Convert (h, w, samples) to (h, w, 3) uint8 RGB."""
        if self.model == "rgb" and pixels.dtype == np.uint8 and self.bits == 8:
            return pixels
        if self.palette is not None:
            looked_up: NDArray[np.uint8] = self.palette[
                np.minimum(pixels[..., 0], len(self.palette) - 1)
            ]
            return looked_up
        eight = self._to_eight_bits(pixels)
        if self.model == "rgb":
            return eight
        if self.model == "rgbx":
            return np.ascontiguousarray(eight[..., :3])
        if self.model == "gray inverted":
            eight = np.uint8(255) - eight
        if self.model in ("gray", "gray inverted"):
            return np.repeat(eight, 3, axis=2)
        color, alpha = eight[..., :-1].astype(np.uint32), eight[..., -1:].astype(np.uint32)
        if self.model == "rgba premultiplied":
            over = np.minimum(color + (255 - alpha), 255)
        else:
            over = (color * alpha + 255 * (255 - alpha) + 127) // 255
        flat = over.astype(np.uint8)
        return np.repeat(flat, 3, axis=2) if flat.shape[2] == 1 else flat

    def _to_eight_bits(self, pixels: NDArray[Any]) -> NDArray[np.uint8]:
        if self.bits == 8:
            return pixels.astype(np.uint8, copy=False)
        top = (1 << self.bits) - 1
        wide = np.minimum(pixels.astype(np.uint32), top)
        scaled: NDArray[np.uint8] = ((wide * 255 + top // 2) // top).astype(np.uint8)
        return scaled


def refuse(path: Path, problem: str, remedy: str = _CONVERT) -> SlideError:
    """Return the error for pixels that have no honest meaning as H&E colors."""
    return SlideError(problem, path=path, remedy=remedy)


def for_tiff(
    path: Path,
    *,
    photometric: int,
    samples: int,
    bits: int,
    dtype: np.dtype[Any],
    extra: Sequence[int] = (),
    colormap: NDArray[Any] | None = None,
) -> ColorTable:
    """Return the table for a TIFF image.

    Parameters
    ----------
    path : Path
        For the message.
    photometric : int
        The PhotometricInterpretation tag.
    samples, bits : int
        Samples per pixel, bits used per sample.
    dtype : dtype
        Of the decoded samples.
    extra : sequence of int
        The ExtraSamples tag: 1 premultiplied alpha, 2 plain alpha, 0 unknown.
    colormap : ndarray of uint16, shape (3, n), optional
        The ColorMap tag.

    Raises
    ------
    SlideError
        For CMYK, CIELab, floating point, more than 16 bits and more than four channels.
    """
    if dtype.kind not in "ub":
        kind = {"f": "floating-point", "c": "complex", "i": "signed"}.get(dtype.kind, str(dtype))
        raise refuse(path, f"its samples are {kind} numbers, which have no fixed black and white")
    if bits > 16:
        raise refuse(path, f"its samples have {bits} bits; up to 16 are known")
    if photometric == 5:
        raise refuse(path, "its colors are CMYK, for printing", "Export it as RGB.")
    if photometric in (8, 9, 10):
        raise refuse(path, "its colors are CIELab", "Export it as RGB.")
    if photometric == 3:
        if samples != 1 or colormap is None or colormap.ndim != 2 or len(colormap) != 3:
            raise refuse(path, "its palette is missing or incomplete")
        table = np.ascontiguousarray((colormap.T >> 8).astype(np.uint8))
        return ColorTable("palette", bits, table)
    if photometric in (2, 6):
        if samples == 3:
            return ColorTable("rgb", bits)
        if samples == 4:
            alpha = tuple(extra)[:1] or (0,)
            by_meaning: dict[int, Model] = {1: "rgba premultiplied", 2: "rgba"}
            return ColorTable(by_meaning.get(int(alpha[0]), "rgbx"), bits)
    if photometric in (0, 1):
        if samples == 1:
            return ColorTable("gray" if photometric == 1 else "gray inverted", bits)
        if samples == 2 and photometric == 1 and tuple(extra)[:1] in ((1,), (2,)):
            return ColorTable("gray alpha", bits)
        if samples > 1:
            raise not_brightfield(path, samples, ())
    raise refuse(path, f"it has {samples} channels of color model {photometric}")


_COLOR_WORDS = (
    {"r", "red", "rot", "rouge", "rojo", "rosso", "vermelho", "rood", "röd"},
    {"g", "v", "green", "grün", "gruen", "vert", "verde", "groen", "grön"},
    {"b", "blue", "blau", "bleu", "azul", "blu", "blauw", "blå"},
)
_NUMBERED = re.compile(
    r"(tl|bright ?field|rgba?|channel|ch|c|camera|plane|sample|band|image|none|[\W_])*[\d\W_]*"
)
_STAINS = re.compile(
    r"dapi|hoechst|fitc|tritc|\bcy[ -]?[2-7]|[gryc]fp|cherry|tomato|texas|alexa|rhodamin|\bopal"
    r"|fluor|ha?ematox|eosin|\bdab\b|residual|\baf[ -]?\d{3}|\bdraq|sytox|syto|phalloid"
    r"|\bcd[ -]?\d+|\bpan-?ck|cytokeratin|\bck\d*\b|ki-?67|\bpd-?l?1\b|\bsox[ -]?\d+|foxp3"
    r"|vimentin|collagen|\bactin|^[3-7]\d\d$|\b[3-7]\d\d ?nm\b"
)
_LONGEST_NAME = 100
_OPAQUE = {"a", "alpha", "opacity"}


@dataclass(frozen=True)
class RgbChannels:
    """Which of an image's separate channels are red, green and blue.

    Parameters
    ----------
    order : tuple of int
        The red, the green and the blue channel.
    is_certain : bool
        Whether the names say so. Otherwise the pixels have to look like light through a section:
        multiplex images too have three channels, in red, green and blue.
    names : tuple of str
        Of the channels.
    """

    order: tuple[int, int, int]
    is_certain: bool
    names: tuple[str, ...]

    @property
    def notes(self) -> tuple[str, ...]:
        """What people should know, as sentences."""
        if self.is_certain and self.order == (0, 1, 2):
            return ()
        named = [self.names[i] or f"number {i + 1}" for i in self.order]
        return (f"The channels {', '.join(named)} are shown as red, green and blue.",)


def rgb_channels(
    names: Sequence[str], colors: Sequence[tuple[int, int, int] | None] = ()
) -> RgbChannels | None:
    """Return how three separate channels, or four with opacity, are RGB; None for stains.

    Writers name the channels of a color camera in their own ways, so red, green and blue as
    display colors decide the order; next the words for colors in the names.

    Parameters
    ----------
    names : sequence of str
        One a channel; empty where there is none.
    colors : sequence of tuple of int or None
        The display color of each channel, red, green and blue from 0 to 255; None where there is
        none.
    """
    plain = [re.sub(r"[\s_]+", " ", name[:_LONGEST_NAME].casefold()).strip() for name in names]
    if len(plain) == 4 and plain[3] not in _OPAQUE and not _NUMBERED.fullmatch(plain[3]):
        return None
    if len(plain) not in (3, 4) or any(_STAINS.search(name) for name in plain):
        return None
    by_name = _order([_word_color(name) for name in plain[:3]])
    by_color = _order([_primary(color) for color in tuple(colors)[:3]])
    numbered = all(_NUMBERED.fullmatch(name) for name in plain[:3])
    return RgbChannels(
        by_color or by_name or (0, 1, 2), numbered or by_name is not None, tuple(names)
    )


def _order(colors: list[int | None]) -> tuple[int, int, int] | None:
    """Return where red (0), green (1) and blue (2) are; None unless each is there once."""
    if len(colors) != 3 or set(colors) != {0, 1, 2}:
        return None
    return colors.index(0), colors.index(1), colors.index(2)


def _word_color(name: str) -> int | None:
    words = set(re.findall(r"[^\W\d_]+", name))
    found = [i for i, known in enumerate(_COLOR_WORDS) if words & known]
    return found[0] if len(found) == 1 else None


def _primary(color: tuple[int, int, int] | None) -> int | None:
    """Return 0, 1 or 2 for a color that is red, green or blue; None for any other."""
    if color is None or max(color) < 128 or sorted(color)[1] > max(color) // 4:
        return None
    return color.index(max(color))


def not_brightfield(path: Path, channels: int, names: Sequence[str]) -> SlideError:
    """Return the error for multiplex or fluorescence images."""
    listed = f" ({', '.join(n for n in names if n)})" if any(names) else ""
    return SlideError(
        f"it is a multiplex or fluorescence image with {channels} channels{listed}, "
        "not brightfield RGB",
        path=path,
        remedy="Open an H&E scan, or export an H&E-like RGB rendering of this one.",
    )

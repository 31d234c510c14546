"""Reading of training images and truth masks."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps

from napari_plimseg.errors import TagError, user_path
from napari_plimseg.reading import open_picture, orientation_of
from napari_plimseg.slides import is_of_system

if TYPE_CHECKING:
    from numpy.typing import NDArray


IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
_TRANSPARENT = ("RGBA", "LA", "PA")
_DIRECT = ("RGB", "L", "P", "1")
_LOSSY_TIFF = ("jpeg", "tiff_jpeg", "webp", "jpeg2000")
_WEBP_HEAD = 128
_MOST_LEVELS = 64


def is_image_file(path: Path) -> bool:
    """Return whether a file is a training image by its name; files of the system never are."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not is_of_system(path.name)


def entries_of(folder: Path) -> list[Path]:
    """Return the files and folders directly in a folder, without those of the system, sorted."""
    return sorted(path for path in folder.iterdir() if not is_of_system(path.name))


def images_below(folder: Path) -> list[Path]:
    """Return the image files in a folder and its subfolders, sorted.

    Raises
    ------
    OSError
        When one of the folders may not be read: its images would be missing without a word.
    """
    found = []
    for parent, folders, names in os.walk(folder, onerror=_raise):
        folders[:] = [name for name in folders if not is_of_system(name)]
        found += [Path(parent, name) for name in names]
    return sorted(path for path in found if is_image_file(path))


def image_files(folder: Path) -> list[Path]:
    """Return the image files directly in a folder, sorted by name."""
    return sorted(path for path in folder.iterdir() if is_image_file(path) and path.is_file())


def _raise(error: OSError) -> None:
    raise error


def place_named(text: str) -> Path:
    """Return the path that a user's text means, where ~ is the home folder."""
    return user_path(text)


def is_there(path: Path) -> bool:
    """Return whether a path written by a user is a file; False for an invalid name."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def read_rgb(path: Path) -> NDArray[np.uint8]:
    """Decode a whole training image.

    Gray, palette and bilevel images become RGB; transparent ones are put on white.

    Parameters
    ----------
    path : Path
        PNG, JPEG, BMP, TIFF or WebP.

    Returns
    -------
    ndarray of uint8, shape (h, w, 3)

    Raises
    ------
    TagError
        When the file is missing, damaged, truncated, of 16 bits, or in another color space.
    """
    image = _loaded(path)
    if image.mode in _TRANSPARENT or "transparency" in image.info:
        over = image.convert("RGBA")
        white = Image.new("RGBA", over.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, over)
    elif image.mode not in _DIRECT:
        raise TagError(
            f"its color mode ({image.mode}) is not 8-bit RGB or gray",
            path=path,
            remedy="Save it as an 8-bit RGB PNG.",
        )
    return np.asarray(image.convert("RGB"))


def read_mask(path: Path) -> NDArray[np.uint8]:
    """Decode a whole mask of classes or of objects.

    Parameters
    ----------
    path : Path
        A palette or gray image whose pixel values are classes, or an RGB image of class colors.

    Returns
    -------
    ndarray of uint8, shape (h, w) or (h, w, 3)
        Palette indices or gray values; three channels if the file is in color.

    Raises
    ------
    TagError
        When the file can't be read, has values above 255, or was compressed lossily.
    """
    return read_palette_mask(path)[0]


def read_palette_mask(path: Path) -> tuple[NDArray[np.uint8], list[int]]:
    """Decode a mask as `read_mask` does, and its palette: red, green, blue, red, ...; else empty.

    Raises
    ------
    TagError
        As `read_mask`.
    """
    image = _loaded(path, wide=True)
    palette = list(image.getpalette() or []) if image.mode == "P" else []
    return _mask_values(image, path), palette


def _refuse_lossy(image: Image.Image, path: Path) -> None:
    """Refuse a mask whose values a lossy compression has changed, mostly along the borders."""
    lossy = image.format == "JPEG"
    if image.format == "TIFF":
        lossy = image.info.get("compression") in _LOSSY_TIFF
    elif image.format == "WEBP":
        with path.open("rb") as file:
            lossy = b"VP8 " in file.read(_WEBP_HEAD)
    if lossy:
        raise TagError(
            f"{image.format} compressed it with losses, which changes the numbers and colors of "
            "a mask",
            path=path,
            remedy="Save the mask as PNG where it was made: to convert this file does not bring "
            "its values back.",
        )


def _refuse_several(image: Image.Image, path: Path) -> None:
    """Refuse a mask of several pictures, such as one per class; a pyramid's have other sizes."""
    size, count = image.size, int(getattr(image, "n_frames", 1))
    for number in range(1, min(count, _MOST_LEVELS)):
        image.seek(number)
        if image.size == size:
            raise TagError(
                f"it holds {count} pictures, of which only the first would be read",
                path=path,
                remedy="Save one picture with all classes.",
            )
    image.seek(0)


def _mask_values(image: Image.Image, path: Path) -> NDArray[np.uint8]:
    if image.mode == "RGBA":  # what can't be seen is not annotated, whatever its color
        values = np.array(image)
        values[values[..., 3] == 0] = 0
        return np.ascontiguousarray(values[..., :3])
    if image.mode == "RGB":
        return np.asarray(image)
    values = np.asarray(image)
    if values.ndim != 2 or values.dtype.kind not in "biu":
        raise TagError(
            f"its pixels ({image.mode}) are not class numbers",
            path=path,
            remedy="Save the mask as an 8-bit palette or gray PNG.",
        )
    if values.size and (int(values.min()) < 0 or int(values.max()) > 255):
        raise TagError(
            f"it has the value {int(values.max())}",
            path=path,
            remedy="Save the mask with values 0 to 255.",
        )
    return values.astype(np.uint8, copy=False)


def palette_of(path: Path) -> list[int]:
    """Return the red, green and blue values of a palette image; nothing of another.

    Raises
    ------
    TagError
        When it can't be read as a picture.
    """
    with open_picture(path, TagError) as image:
        return list(image.getpalette() or [])


def _loaded(path: Path, *, wide: bool = False) -> Image.Image:
    if not path.exists():
        raise TagError(
            "the file does not exist", path=path, remedy="Add it, or remove it from the list."
        )
    if path.is_file() and path.stat().st_size == 0:
        raise TagError(
            "the file is empty",
            path=path,
            remedy="Copy it again from its source, or delete it.",
        )
    try:
        with open_picture(path, TagError, becomes_rgb=not wide) as image:
            raw = "" if not image.tile else str(image.tile[0][3])
            deep = image.mode.startswith(("I", "F")) or ";16" in raw
            if deep and not wide:
                raise TagError(
                    "it has 16 bits or more per channel",
                    path=path,
                    remedy="Save it as an 8-bit RGB PNG, which is enough for stained tissue.",
                )
            if wide:
                _refuse_lossy(image, path)
                _refuse_several(image, path)
            image.load()
            if orientation_of(image) > 1:
                return ImageOps.exif_transpose(image)
            return image
    except (TagError, MemoryError):  # without memory, nothing is known about the image
        raise
    except Exception as error:  # image decoders raise exceptions of any type
        raise TagError(
            f"it can't be decoded ({type(error).__name__})",
            path=path,
            remedy="Copy it again from its source, or delete it.",
        ) from error

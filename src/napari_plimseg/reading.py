"""Reading small files of others: regular files only, of bounded size and depth, of known types.

JSON and YAML of the whole program are read here. Opening a pipe would wait forever, a device never
ends, deep nesting ends Python's stack, and YAML's aliases multiply; each is an error that names
the file.
"""

from __future__ import annotations

import io
import json
import math
import os
import re
import stat
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import yaml

from napari_plimseg import limits
from napari_plimseg.errors import ConfigError, PlimsegError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from PIL import Image, ImageFile


class UnreadableError(ConfigError):
    """A file can't be read, where the reader does without it."""

    subject = "file"


_OTHER_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
# a text without an end reaches to the end of all: no other start of a text is tried after it
_JSON_PARTS = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)|[\[\]{}]', re.DOTALL)
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_LONGEST_NUMBER = 40
_COPY_AGAIN = "The file may be damaged: copy it again from its source."
_NAMES = {dict: "keys and values", list: "a list", str: "a text", int: "a number"}


def check_regular(path: str | Path, error_class: type[PlimsegError]) -> os.stat_result:
    """Check that a path is a regular file, links followed, before any library opens it.

    Parameters
    ----------
    path : str or Path
    error_class : type of PlimsegError
        Of what is raised.

    Returns
    -------
    os.stat_result

    Raises
    ------
    PlimsegError
        When nothing is there, it may not be read, or it is a folder, a pipe, a socket or a device.
    """
    try:
        status = Path(path).stat()
    except (OSError, ValueError) as error:
        raise _unreadable(path, error, error_class) from error
    for is_kind, name in _OTHER_KINDS:
        if is_kind(status.st_mode):
            raise error_class(f"it is {name}, not a regular file", path=path, remedy="Name a file.")
    return status


def open_regular(path: str | Path, error_class: type[PlimsegError]) -> BinaryIO:
    """Open a regular file for reading bytes; the caller closes it.

    Raises
    ------
    PlimsegError
        As `check_regular`, also when a pipe takes the file's place in between.
    """
    check_regular(path, error_class)
    try:
        file = open(path, "rb", opener=_open_without_waiting)  # noqa: SIM115 - with opener
    except (OSError, ValueError) as error:
        raise _unreadable(path, error, error_class) from error
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise error_class("it is not a regular file", path=path, remedy="Name a file.")
    return file


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _unreadable(
    path: str | Path, error: Exception, error_class: type[PlimsegError]
) -> PlimsegError:
    if isinstance(error, FileNotFoundError):
        return error_class("it does not exist", path=path, remedy="Check the name and the folder.")
    reason = getattr(error, "strerror", None) or str(error)
    return error_class(
        f"it can't be read ({reason})", path=path, remedy="Check its name and permissions."
    )


def read_bytes(
    path: str | Path, error_class: type[PlimsegError], *, limit: str = "text-bytes"
) -> bytes:
    """Read a regular file as a whole.

    Parameters
    ----------
    path : str or Path
    error_class : type of PlimsegError
        Of what is raised.
    limit : str
        The limit on its size.

    Raises
    ------
    PlimsegError
        When it is no regular file, can't be read, or is larger than the limit.
    """
    with open_regular(path, error_class) as file:
        size = os.fstat(file.fileno()).st_size
        limits.check(error_class, limit, size, path=path, what="it holds")
        try:
            # files of /proc have no size, and a file may grow
            content = file.read(limits.get(limit) + 1)
        except OSError as error:
            raise _unreadable(path, error, error_class) from error
    limits.check(error_class, limit, len(content), path=path, what="it holds")
    return content


def read_text(
    path: str | Path, error_class: type[PlimsegError], *, limit: str = "text-bytes"
) -> str:
    """Read a regular file as UTF-8, without a byte order mark.

    Raises
    ------
    PlimsegError
        As `read_bytes`, and when it is not UTF-8.
    """
    try:
        return read_bytes(path, error_class, limit=limit).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise error_class("it is not UTF-8 text", path=path, remedy="Save it as UTF-8.") from error


def read_packed_text(
    path: str | Path,
    error_class: type[PlimsegError],
    *,
    endings: tuple[str, ...],
    limit: str = "text-bytes",
) -> str:
    """Read a file as UTF-8 that may be compressed: by gzip, or as the only one in a ZIP archive.

    Parameters
    ----------
    path : str or Path
    error_class : type of PlimsegError
        Of what is raised.
    endings : tuple of str
        How the name of the file in an archive ends, in lower case.
    limit : str
        The limit on its size, packed and unpacked.

    Raises
    ------
    PlimsegError
        As `read_text`, and when it can't be unpacked, or the archive holds no such file, or more
        than one.
    """
    data = read_bytes(path, error_class, limit=limit)
    try:
        if data.startswith(b"\x1f\x8b"):
            data = _unpacked(zlib.decompressobj(wbits=31), data, path, error_class, limit)
        elif data.startswith((b"PK\x03\x04", b"PK\x05\x06")):  # the second is empty
            data = _in_archive(data, path, error_class, endings, limit)
        return data.decode("utf-8-sig")
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise error_class(
            f"it can't be unpacked ({_reason(error)})", path=path, remedy=_COPY_AGAIN
        ) from error
    except UnicodeDecodeError as error:
        raise error_class("it is not UTF-8 text", path=path, remedy="Save it as UTF-8.") from error


def _unpacked(
    unpacking: Any, data: bytes, path: str | Path, error_class: type[PlimsegError], limit: str
) -> bytes:
    found = unpacking.decompress(data, limits.get(limit) + 1)
    limits.check(error_class, limit, len(found), path=path, what="it unpacks to")
    if not unpacking.eof:
        raise EOFError("it ends too early")
    return bytes(found)


def _in_archive(
    data: bytes,
    path: str | Path,
    error_class: type[PlimsegError],
    endings: tuple[str, ...],
    limit: str,
) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = [n for n in archive.namelist() if not n.startswith(("__MACOSX/", "."))]
        fitting = [name for name in names if name.lower().endswith(endings)]
        if len(fitting) != 1:
            raise error_class(
                f"the archive holds {len(fitting) or 'no'} files {' or '.join(endings)}",
                path=path,
                remedy="Unpack it and name the file.",
            )
        with archive.open(fitting[0]) as file:
            found = file.read(limits.get(limit) + 1)
    limits.check(error_class, limit, len(found), path=path, what="it unpacks to")
    return found


PICTURE_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")
"""What `open_picture` opens; Pillow knows many more, less used and less tested."""


def open_picture(
    path: str | Path,
    error_class: type[PlimsegError],
    *,
    formats: tuple[str, ...] = PICTURE_FORMATS,
    becomes_rgb: bool = False,
    remedy: str = "",
) -> ImageFile.ImageFile:
    """Open a picture of a bounded decoded size; the caller closes it.

    Pillow's own limit counts pixels, and 179 million of them are an error: an 8-bit mask of a
    slide has more. Here the decoded bytes count.

    Parameters
    ----------
    path : str or Path
    error_class : type of PlimsegError
        Of what is raised.
    formats : tuple of str
        Pillow's names of the formats to try.
    becomes_rgb : bool
        Whether gray pictures take three bytes per pixel as well.
    remedy : str
        What to do about a picture that is too large, besides raising the limit.

    Returns
    -------
    PIL.Image.Image
        Not decoded yet; decoding raises whatever Pillow raises.

    Raises
    ------
    PlimsegError
        When it is no regular file, no picture, or beyond the limit "picture-bytes".
    """
    file = open_regular(path, error_class)
    try:
        image, why_not = _first_image(file, str(path), formats)
        if image is None:
            problem, cure = _not_a_picture(why_not, formats)
            raise error_class(problem, path=path, remedy=cure)
        width, height = image.size
        bytes_per_pixel = len(image.getbands()) * _BYTES_OF_MODE.get(image.mode, 1)
        if becomes_rgb:
            bytes_per_pixel = max(3, bytes_per_pixel)
        limits.check(
            error_class,
            "picture-bytes",
            width * height * bytes_per_pixel,
            path=path,
            what=f"a picture of {width:,} x {height:,} pixels decodes to",
            remedy=remedy,
        )
    except BaseException:
        file.close()
        raise
    return image


def orientation_of(image: Image.Image) -> int:
    """Return how a camera was held, as EXIF numbers it: 1 is upright, up to 8.

    Of TIFF it is always 1: Pillow turns them itself. Nothing is decoded.
    """
    is_jpeg = image.format in ("JPEG", "MPO")  # phones append a second picture
    is_told = "exif" in image.info or (is_jpeg and "xmp" in image.info)
    if not is_told or not (is_jpeg or image.format in ("PNG", "WEBP")):
        return 1
    try:
        number = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # noqa: BLE001 - Pillow raises anything for damaged EXIF
        return 1
    return number if number in range(1, 9) else 1


def upright(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Return pixels (h, w, ...) as they are to be seen.

    Parameters
    ----------
    pixels : ndarray, shape (h, w, ...)
        As stored.
    orientation : int
        From `orientation_of`.
    """
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels[:, ::-1] if orientation in (2, 3, 6, 7) else pixels


_ORIENTATION = 0x0112
_BYTES_OF_MODE = {"I": 4, "F": 4, "I;16": 2, "I;16L": 2, "I;16B": 2, "I;16N": 2}


def _first_image(
    file: BinaryIO, name: str, formats: tuple[str, ...]
) -> tuple[ImageFile.ImageFile | None, Exception | None]:
    """Return the picture as `Image.open` does, without its check of the number of pixels.

    Or else why the reader of its format refused it; None when it is of no such format.
    """
    from PIL import Image

    Image.preinit()
    prefix = file.read(16)
    why_not: Exception | None = None
    for kind in formats:
        if kind not in Image.OPEN:
            Image.init()
        factory, accept = Image.OPEN[kind]
        if accept is not None and accept(prefix) is not True:
            continue
        file.seek(0)
        try:
            image = factory(file, name)
        except Exception as error:  # noqa: BLE001 - Pillow raises anything for damaged pictures
            why_not = error
            continue
        image._exclusive_fp = True  # closing the picture closes the file
        return image, None
    return None, why_not


_UNKNOWN_KIND = r"unknown pixel mode|unknown data organization|KeyError\(\d+\)"
"""In what Pillow raises for sound TIFF files that it does not decode."""


def _not_a_picture(why_not: Exception | None, formats: tuple[str, ...]) -> tuple[str, str]:
    """Return why a file can't be opened as a picture, and what to do about it."""
    if why_not is None:
        kinds = f"{', '.join(formats[:-1])} or {formats[-1]}" if formats[1:] else formats[0]
        return f"it is not a {kinds} picture", "Check the file; its content counts, not its name."
    if "too large" in str(why_not):  # Pillow bounds what texts and profiles inflate to
        return (
            f"its texts or color profile are larger than is read ({why_not})",
            "Save it again without metadata, for example with: exiftool -all= FILE.",
        )
    if isinstance(why_not, SyntaxError | KeyError) and re.search(_UNKNOWN_KIND, repr(why_not)):
        return (
            "its pixels are of a kind that is not read as a picture, such as 64-bit numbers or an "
            "unusual compression",
            "Save it as an 8-bit PNG.",
        )
    return (
        "it can't be read as a picture",
        "It is damaged or incomplete. Copy it again from its source.",
    )


def check_page(
    path: Path, page: Any, error_class: type[PlimsegError], *, limit: str = "picture-bytes"
) -> None:
    """Check the decoded bytes of a page of tifffile, before it is decoded.

    Parameters
    ----------
    path : Path
    page : tifffile.TiffPage
    error_class : type of PlimsegError
        Of what is raised.
    limit : str
        "picture-bytes" for the whole page, "segment-bytes" for one of its tiles or strips.

    Raises
    ------
    PlimsegError
        When it is beyond the limit.
    """
    tile = math.prod(page.chunks)
    size, what = (tile, "one of its tiles decodes to")
    if limit == "picture-bytes":
        size, what = max(tile, page.size), "it decodes to"
    limits.check(error_class, limit, size * page.dtype.itemsize, path=path, what=what)


def read_json(
    path: str | Path,
    error_class: type[PlimsegError],
    *,
    kind: type = dict,
    limit: str = "text-bytes",
    remedy: str = _COPY_AGAIN,
    finite: bool = True,
) -> Any:
    """Read a JSON file.

    Parameters
    ----------
    path : str or Path
    error_class : type of PlimsegError
        Of what is raised.
    kind : type
        What the outermost value must be: dict, list, or object for anything.
    limit : str
        The limit on the size of the file.
    remedy : str, optional
        What the user can do about a damaged file, as a sentence.
    finite : bool
        Whether NaN and infinite numbers are errors.

    Raises
    ------
    PlimsegError
        As `read_text` and `parse_json`.
    """
    text = read_text(path, error_class, limit=limit)
    return parse_json(text, error_class, path=path, kind=kind, remedy=remedy, finite=finite)


def parse_json(
    text: str | bytes,
    error_class: type[PlimsegError],
    *,
    path: str | Path | None = None,
    kind: type = dict,
    what: str = "it",
    remedy: str = _COPY_AGAIN,
    finite: bool = True,
    surrogates: bool = False,
) -> Any:
    """Return the content of JSON text.

    Parameters
    ----------
    text : str or bytes
        Its size is already bounded.
    error_class : type of PlimsegError
        Of what is raised.
    path : str or Path, optional
        Where the text is from.
    kind : type
        What the outermost value must be: dict, list, or object for anything.
    what : str
        Names the part of the file: "its header".
    remedy : str, optional
        What the user can do about damaged text, as a sentence.
    finite : bool
        Whether NaN and infinite numbers are errors.
    surrogates : bool
        Whether half a character is allowed, as names of files have it that are not UTF-8.

    Raises
    ------
    PlimsegError
        When it is not JSON in UTF-8, is nested too deeply, holds numbers that no computer
        calculates with or half a character, or is of another kind.
    """
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8-sig")
        if not text.strip():
            raise ValueError("it is empty")
        _check_json_depth(text, error_class, path, what)
        content = json.loads(
            text,
            parse_float=_finite_float if finite else None,
            parse_int=_short_int,
            parse_constant=_refused_constant if finite else None,
        )
        if not surrogates and _SURROGATE.search(text):
            for found in _texts(content):
                found.encode("utf-8")
    except (ValueError, RecursionError) as error:
        raise error_class(
            f"{what} is not readable JSON ({_reason(error)})", path=path, remedy=remedy
        ) from error
    if not isinstance(content, kind):
        raise error_class(
            f"{what} holds {kind_of(content)} instead of {_NAMES.get(kind, kind.__name__)}",
            path=path,
            remedy=remedy,
        )
    return content


def _reason(error: Exception) -> str:
    if isinstance(error, UnicodeError):
        return "it is not UTF-8"
    return str(error)[:200] or type(error).__name__


def _finite_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:20]} is too large")
    return value


def _short_int(text: str) -> int:
    if len(text) > _LONGEST_NUMBER:
        raise ValueError(f"a number has {len(text):,} digits")
    return int(text)


def _refused_constant(text: str) -> float:
    raise ValueError(f"{text} is not a number")


def _check_json_depth(
    text: str, error_class: type[PlimsegError], path: str | Path | None, what: str
) -> None:
    deepest = limits.get("nesting")
    if text.count("[") + text.count("{") <= deepest:
        return
    depth = 0
    for part in _JSON_PARTS.finditer(text):
        first = text[part.start()]
        if first in "[{":
            depth += 1
            if depth > deepest:
                raise limits.exceeded(
                    error_class, "nesting", depth, path=path, what=f"{what} is nested in"
                )
        elif first != '"':
            depth -= 1


def _texts(content: Any) -> Iterator[str]:
    """Yield every text inside of lists and dicts, keys included."""
    waiting = [content]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            waiting += [*value.keys(), *value.values()]
        elif isinstance(value, list | tuple | set):
            waiting += value


def kind_of(value: object) -> str:
    """Return what a value is, as a message names it: "a list", "nothing"."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    for kind, name in ((dict, "keys and values"), (list, "a list"), (str, "a text")):
        if isinstance(value, kind):
            return name
    return "a number" if isinstance(value, int | float) else f"a {type(value).__name__}"


def read_yaml(path: str | Path, error_class: type[PlimsegError]) -> Any:
    """Read a YAML file that a person wrote; the caller checks what it holds.

    Raises
    ------
    PlimsegError
        As `read_text` and `parse_yaml`.
    """
    return parse_yaml(read_text(path, error_class, limit="yaml-bytes"), error_class, path=path)


def parse_yaml(
    text: str, error_class: type[PlimsegError], *, path: str | Path | None = None
) -> Any:
    """Return the content of YAML text: lists, dicts, texts, numbers, dates.

    Parameters
    ----------
    text : str
    error_class : type of PlimsegError
        Of what is raised.
    path : str or Path, optional
        Where the text is from.

    Raises
    ------
    PlimsegError
        When it is not YAML, is too large or nested too deeply, is indented by tabs, holds a key
        twice, aliases, which multiply, or tags, which name types; with the line.
    """
    limits.check(error_class, "yaml-bytes", len(text), path=path, what="it holds")
    for number, line in enumerate(text.splitlines(), start=1):
        if "\t" in line[: len(line) - len(line.lstrip())]:
            raise error_class(
                f"line {number} is indented by a tab", path=path, remedy="Use spaces only."
            )
    try:
        _check_yaml_events(text)
        content = _Loader(text).get_single_data()
        for found in _texts(content):
            found.encode("utf-8")
    except _Refused as error:
        limit = error.nesting
        if limit:
            raise limits.exceeded(
                error_class, "nesting", limit, path=path, what="it is nested in"
            ) from error
        raise error_class(error.problem, path=path, remedy=error.remedy) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark is not None else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise error_class(
            f"{where}not readable YAML ({problem})",
            path=path,
            remedy="Write 'key: value', with a space after the colon.",
        ) from error
    except (ValueError, TypeError, OverflowError, AttributeError, RecursionError) as error:
        # PyYAML's constructors of dates, numbers and merged keys raise these
        raise error_class(
            f"not readable YAML ({_reason(error)})", path=path, remedy="Put the text in quotes."
        ) from error
    return content


class _Refused(Exception):
    """What YAML allows and this program does not."""

    def __init__(self, problem: str, remedy: str = "", *, nesting: int = 0) -> None:
        self.problem, self.remedy, self.nesting = problem, remedy or None, nesting
        super().__init__(problem)


def _check_yaml_events(text: str) -> None:
    """Check nesting, aliases and tags; PyYAML's parser has no recursion, its composer has."""
    depth, deepest = 0, limits.get("nesting")
    for event in yaml.parse(text, Loader=_Loader):
        mark = event.start_mark
        line = 0 if mark is None else mark.line + 1
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise _Refused(
                f"line {line} holds an alias or anchor (* or &), which can multiply endlessly",
                "Write the values out, or put the text in quotes.",
            )
        tag = getattr(event, "tag", None)
        if tag not in (None, "!"):
            raise _Refused(
                f"line {line} holds a tag ({str(tag)[:40]})",
                "Remove it, or put the text in quotes.",
            )
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > deepest:
                raise _Refused("it is nested too deeply", nesting=depth)
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """PyYAML's safe loader, which would silently keep the last of two equal keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        lines: dict[str, int] = {}
        for key, _ in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            if name in lines:
                raise _Refused(
                    f"the key '{name[:80]}' appears twice, in lines {lines[name]} and {line}",
                    "Remove one of them.",
                )
            lines[name] = line
        found: dict[Any, Any] = super().construct_mapping(node, deep)
        return found


def _number(loader: _Loader, node: yaml.ScalarNode) -> Any:
    """Return a number; "1:1:1:..." is one of base 60 in YAML, and takes quadratic time."""
    if len(node.value) > _LONGEST_NUMBER:
        raise ValueError(f"a number has {len(node.value):,} digits")
    kind = str(node.tag).rpartition(":")[2]
    return getattr(loader, f"construct_yaml_{kind}")(node)


for _kind in ("int", "float"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_kind}", _number)

"""Reading small files of others: what must end in an error that names the file."""

from __future__ import annotations

import gzip
import json
import os
import socket
import struct
import sys
import time
import warnings
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from napari_plimseg import limits
from napari_plimseg.errors import ConfigError, SlideError, TagError
from napari_plimseg.reading import (
    check_regular,
    open_picture,
    open_regular,
    parse_json,
    read_json,
    read_packed_text,
    read_yaml,
)
from napari_plimseg.slides import open_slide

if TYPE_CHECKING:
    from collections.abc import Callable


DEEP = 100_000
BAD_JSON = {
    "lists": b"[" * DEEP + b"]" * DEEP,
    "tables": b'{"a":' * DEEP + b"1" + b"}" * DEEP,
    "65 levels": b'{"a":' * 65 + b"1" + b"}" * 65,
    "unclosed": b"[" * DEEP,
    "huge float": b'{"a": 1e999}',
    "digits": b'{"a": ' + b"9" * 5_000 + b"}",
    "NaN": b'{"a": NaN}',
    "infinity": b'{"a": -Infinity}',
    "half a character": rb'{"a": "\ud800"}',
    "half a key": rb'{"\udc00": 1}',
    "Latin-1": '{"a": "é"}'.encode("latin-1"),
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "list": b"[1]",
    "null": b"null",
    "text": b'"a"',
    "number": b"7",
    "nothing": b"",
    "zeros": bytes(100),
    "cut": b'{"a": [1, 2',
}
BAD_YAML = {
    "billion laughs": "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n",
    "anchor only": "a: &a x\n",
    "recursive": "&a [*a]\n",
    "merge": "a: &a {b: 1}\nc: {<<: *a}\n",
    "flow": "[" * DEEP,
    "mappings": "{a: " * DEEP,
    "blocks": "".join("  " * i + "a:\n" for i in range(70)),
    "dashes": "- " * 400 + "a",
    "equal keys": "a: 1\nb: 2\na: 3\n",
    "equal keys inside": "x:\n  a: 1\n  a: 2\n",
    "python": "!!python/object/apply:os.system ['true']\n",
    "tag": "a: !x 1\n",
    "binary": "a: !!binary AAAA\n",
    "set": "!!set {a, b}\n",
    "date": "a: 2001-99-99\n",
    "digits": "a: " + "9" * 5_000,
    "half a character": 'a: "\\ud800"\n',
    "list as key": "? [a, b]\n: 1\n",
    "control": "a: \x01\n",
    "two": "a: 1\n---\nb: 2\n",
    "tabs": "a:\n\tb: 1\n",
}


@pytest.mark.parametrize("tail", ["", "\\", '"]', "\\\\"])
def test_a_text_without_end_takes_linear_time(tail: str) -> None:
    text = "[" + "[]," * 70 + '"' + '\\"' * 1_000_000 + tail
    started = time.perf_counter()
    if tail == '"]':
        parse_json(text, ConfigError, kind=list)
    else:
        with pytest.raises(ConfigError, match="not readable JSON"):
            parse_json(text, ConfigError)
    assert time.perf_counter() - started < 10


def test_brackets_after_a_text_are_counted() -> None:
    for text in (r'["\\", "\"", ', r'["[[[\"[[", "", '):
        with pytest.raises(ConfigError, match="nested in"):
            parse_json(text + "[" * 70, ConfigError)


@pytest.mark.parametrize("number", [":".join(["1"] * 200_000), ":".join(["1"] * 200_000) + ".5"])
def test_long_numbers_of_base_60_are_refused(number: str, tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(f"a: {number}")
    started = time.perf_counter()
    with pytest.raises(ConfigError, match="digits"):
        read_yaml(path, ConfigError)
    assert time.perf_counter() - started < 5


@pytest.mark.parametrize("name", BAD_JSON)
def test_bad_json_is_our_error(name: str, tmp_path: Path) -> None:
    path = tmp_path / "cohort.json"
    path.write_bytes(BAD_JSON[name])
    with pytest.raises(TagError, match=r"cohort\.json") as caught:
        read_json(path, TagError)
    assert len(str(caught.value)) < 500


def test_good_json_is_read(tmp_path: Path) -> None:
    content = {"a": [1, 2.5, 2**127, "é😀", None, True], "b": {"}": '"[' * 200}}
    path = tmp_path / "a.json"
    for data in (json.dumps(content), json.dumps(content, ensure_ascii=False)):
        path.write_bytes(data.encode("utf-8-sig"))
        assert read_json(path, TagError) == content
    assert parse_json("[" * 64 + "]" * 64, TagError, kind=list)
    assert parse_json("[NaN]", TagError, kind=list, finite=False)
    with limits.changed(["nesting=65"]):
        assert parse_json("[" * 65 + "]" * 65, TagError, kind=list)


@pytest.mark.parametrize("name", BAD_YAML)
def test_bad_yaml_is_our_error(name: str, tmp_path: Path) -> None:
    path = tmp_path / "classes.yaml"
    path.write_text(BAD_YAML[name], "utf-8")
    with pytest.raises(ConfigError, match=r"classes\.yaml") as caught:
        read_yaml(path, ConfigError)
    assert len(str(caught.value)) < 500


def test_good_yaml_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("a: [1, 'x &b *c !d', \"*\"]\nb: {c: é}\n", "utf-8-sig")
    assert read_yaml(path, ConfigError) == {"a": [1, "x &b *c !d", "*"], "b": {"c": "é"}}


def fifo(path: Path) -> None:
    os.mkfifo(path)


def link_to(target: str) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        path.symlink_to(target)

    return make


def bound_socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # names of sockets are short
    try:
        socket.socket(socket.AF_UNIX).bind(path.name)
    finally:
        os.chdir(here)


NOT_FILES: dict[str, Callable[[Path], Any]] = {
    "pipe": fifo,
    "device": link_to("/dev/zero"),
    "standard input": link_to("/dev/stdin"),
    "circle": link_to("a.json"),
    "dangling": link_to("nothing"),
    "socket": bound_socket,
    "folder": lambda path: path.mkdir(),
    "nothing": lambda path: None,
}


@pytest.mark.skipif(sys.platform == "win32", reason="pipes have no names in folders there")
@pytest.mark.parametrize("name", NOT_FILES)
def test_only_regular_files_are_opened(name: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    NOT_FILES[name](path)
    for read in (read_json, read_yaml, open_regular):
        with pytest.raises(TagError, match=r"a\.json"):
            read(path, TagError).close()  # type: ignore[attr-defined, operator]


def test_a_link_to_a_file_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "real.json").write_text("{}")
    (tmp_path / "a.json").symlink_to("real.json")
    assert read_json(tmp_path / "a.json", TagError) == {}
    assert check_regular(tmp_path / "a.json", TagError).st_size == 2


def test_a_large_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(TagError, match=r"'text-bytes'.*--limit text-bytes="):
        read_json(path, TagError)
    with pytest.raises(TagError, match="'yaml-bytes'"):
        read_yaml(path, TagError)


def png(path: Path, side: int, color: int) -> Path:
    """Write the beginning of a PNG of `side` x `side` pixels; color 0 is gray, 2 RGB, 6 RGBA."""

    def part(kind: bytes, content: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + crc

    head = struct.pack(">IIBBBBB", side, side, 8, color, 0, 0, 0)
    parts = part(b"IHDR", head) + part(b"IDAT", b"") + part(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + parts)
    return path


def test_pictures_count_decoded_bytes_not_pixels(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Pillow warns of half a gigapixel
        with open_picture(png(tmp_path / "mask.png", 46_000, 0), TagError) as mask:
            assert mask.size == (46_000, 46_000)
        with open_slide(png(tmp_path / "slide.png", 13_000, 2)) as slide:
            assert slide.shape == (13_000, 13_000)
        large = png(tmp_path / "large.png", 40_000, 2)
        refused = (
            r"'large\.png': a picture of 40,000 x 40,000 pixels decodes to 4\.8 GB; the limit "
            r"'picture-bytes' is 2\.1 GB.*--limit picture-bytes=5GB"
        )
        with pytest.raises(TagError, match=refused):
            open_picture(large, TagError)
        with pytest.raises(SlideError, match=refused):
            open_slide(large)
        with limits.changed(["picture-bytes=5GB"]), open_slide(large) as slide:
            assert slide.shape == (40_000, 40_000)
        # shown in color, a gray picture takes three bytes per pixel
        with pytest.raises(SlideError, match="'picture-bytes'"):
            open_slide(png(tmp_path / "gray.png", 46_000, 0))


def test_why_a_file_is_no_picture_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("not a picture")
    with pytest.raises(TagError, match="it is not a PNG, JPEG, WEBP, BMP or TIFF picture"):
        open_picture(tmp_path / "a.png", TagError)
    texts = PngInfo()
    texts.add_text("history", "x" * 3_000_000, zip=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "b.png", pnginfo=texts)
    with pytest.raises(TagError, match=r"texts or color profile are larger.*without metadata"):
        open_picture(tmp_path / "b.png", TagError)
    (tmp_path / "c.png").write_bytes((tmp_path / "b.png").read_bytes()[:20])
    with pytest.raises(TagError, match="damaged or incomplete"):
        open_picture(tmp_path / "c.png", TagError)


@pytest.mark.parametrize(("name", "pack"), [("a.gz", gzip.compress), ("a.json", bytes)])
def test_packed_text_is_read_as_it_is(
    tmp_path: Path, name: str, pack: Callable[[bytes], bytes]
) -> None:
    (tmp_path / name).write_bytes(pack(b"\xef\xbb\xbf{}"))
    assert read_packed_text(tmp_path / name, TagError, endings=(".json",)) == "{}"

"""What of an OME-Zarr folder is refused before zarr decodes it."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import resource
import struct
import sys
import zlib
from typing import TYPE_CHECKING, Any

import numcodecs
import numpy as np
import pytest

from napari_plimseg import limits
from napari_plimseg.errors import SlideError
from napari_plimseg.slides import open_slide
from napari_plimseg.slides.validation.zarr import ZarrArray
from tests.support import slides as factory

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PIXELS = factory.tissue(64, 64)
CHUNK = 3 * 64 * 64
BOMB = 200_000_000


def change(path: Path, **values: Any) -> None:
    content = json.loads(path.read_text())
    for key, value in values.items():
        inner = content
        *parents, last = key.split("__")
        for name in parents:
            inner = inner[name]
        inner[last] = value
    path.write_text(json.dumps(content))


def pictured(path: Path, version: str) -> Path:
    return factory.write_ome_zarr(path / "z.zarr", [PIXELS], version=version)


TWO: dict[str, dict[str, Any]] = {
    "pickle": {"compressor": {"id": "pickle"}},
    "pickle as a filter": {"filters": [{"id": "pickle"}]},
    "words": {"filters": [{"id": "vlen-utf8"}]},
    "bz2": {"compressor": {"id": "bz2", "level": 1}},
    "lzma": {"compressor": {"id": "lzma"}},
    "codec without name": {"compressor": {"level": 1}},
    "codec of another type": {"compressor": ["zlib"]},
    "codec name of another type": {"compressor": {"id": ["zlib"]}},
    "objects": {"dtype": "|O"},
    "records": {"dtype": [["a", "|u1"]]},
    "texts": {"dtype": "<U1000000000"},
    "bytes": {"dtype": "|V1000000000"},
    "no dtype": {"dtype": None},
    "large chunks": {"chunks": [3, 100_000, 100_000]},
    "small chunks": {"chunks": [3, 1, 1], "shape": [3, 20_000, 20_000]},
    "empty chunks": {"chunks": [3, 0, 64]},
    "negative chunks": {"chunks": [3, -64, -64]},
    "broken chunks": {"chunks": [3, 1.5, 64]},
    "true chunks": {"chunks": [True, 64, 64]},
    "chunks of other axes": {"chunks": [64, 64]},
    "huge": {"shape": [3, 2**40, 2**40]},
    "beyond 64 bits": {"shape": [3, 10**30, 64]},
    "no shape": {"shape": None},
    "many axes": {"shape": [1] * 5_000, "chunks": [1] * 5_000},
    "fill value": {"fill_value": {"a": [1]}},
    "format": {"zarr_format": 7},
    "order": {"order": {"a": 1}},
    "separator": {"dimension_separator": 5},
}
GZIP = {"name": "gzip", "configuration": {"level": 1}}
THREE: dict[str, dict[str, Any]] = {
    "unknown codec": {"codecs": [{"name": "bytes"}, {"name": "numcodecs.pickle"}]},
    "pickle": {"codecs": [{"name": "pickle"}]},
    "texts": {"codecs": [{"name": "vlen-utf8"}], "data_type": "string"},
    "twice": {
        "codecs": [{"name": "bytes"}, *[{"name": "gzip", "configuration": {"level": 1}}] * 2]
    },
    "two compressors": {
        "codecs": [
            {"name": "bytes"},
            {"name": "gzip", "configuration": {"level": 1}},
            {"name": "zstd", "configuration": {"level": 1, "checksum": False}},
        ]
    },
    "no codecs": {"codecs": None},
    "codecs of another type": {"codecs": {"name": "bytes"}},
    "a codec of another type": {"codecs": [7]},
    "data type": {"data_type": {"name": "numpy.datetime64", "configuration": {}}},
    "structured": {"data_type": {"name": "structured", "configuration": {"fields": [["a", "u1"]]}}},
    "transformers": {"storage_transformers": [{"name": "x"}]},
    "grid": {"chunk_grid": {"name": "rectilinear", "configuration": {}}},
    "no grid": {"chunk_grid": None},
    "keys": {"chunk_key_encoding": {"name": "x"}},
    "large chunks": {"chunk_grid__configuration__chunk_shape": [3, 100_000, 100_000]},
    "small chunks": {
        "chunk_grid__configuration__chunk_shape": [3, 1, 1],
        "shape": [3, 20_000, 20_000],
    },
    "group": {"node_type": "group"},
    "fill value": {"fill_value": [1, 2]},
    "huge": {"shape": [3, 2**40, 2**40]},
}


def shards(**inner: Any) -> dict[str, Any]:
    little = {"name": "bytes", "configuration": {"endian": "little"}}
    configuration = {
        "chunk_shape": [3, 32, 32],
        "codecs": [little],
        "index_codecs": [little, {"name": "crc32c"}],
        "index_location": "end",
    } | inner
    return {"name": "sharding_indexed", "configuration": configuration}


SHARDED = {
    "nested": [shards(codecs=[shards()])],
    "compressed": [shards(), {"name": "gzip", "configuration": {"level": 1}}],
    "index compressed": [shards(index_codecs=[{"name": "bytes"}, {"name": "gzip"}])],
    "does not divide": [shards(chunk_shape=[3, 31, 32])],
    "no chunk shape": [shards(chunk_shape=None)],
    "inner pickle": [shards(codecs=[{"name": "pickle"}])],
    "one pixel": [shards(chunk_shape=[1, 1, 1])],
}


@pytest.mark.parametrize("name", TWO)
def test_arrays_of_format_2_that_are_refused(name: str, tmp_path: Path) -> None:
    path = pictured(tmp_path, "0.4")
    change(path / "0" / ".zarray", **TWO[name])
    with pytest.raises(SlideError, match=r"z\.zarr"):
        open_slide(path)


@pytest.mark.parametrize("name", THREE)
def test_arrays_of_format_3_that_are_refused(name: str, tmp_path: Path) -> None:
    path = pictured(tmp_path, "0.5")
    change(path / "0" / "zarr.json", **THREE[name])
    with pytest.raises(SlideError, match=r"z\.zarr"):
        open_slide(path)


@pytest.mark.parametrize("name", SHARDED)
def test_shards_that_are_refused(name: str, tmp_path: Path) -> None:
    path = pictured(tmp_path, "0.5")
    change(path / "0" / "zarr.json", shape=[3, 4096, 4096], codecs=SHARDED[name])
    grid = [3, 4096, 4096] if name == "one pixel" else [3, 64, 64]
    change(path / "0" / "zarr.json", chunk_grid__configuration__chunk_shape=grid)
    with pytest.raises(SlideError, match=r"z\.zarr"):
        open_slide(path)


def blosc_bomb() -> bytes:
    encoded = bytearray(numcodecs.Blosc("zstd").encode(bytes(CHUNK)))
    encoded[4:8] = struct.pack("<I", BOMB)
    return bytes(encoded)


def zstd_of_unknown_size() -> bytes:
    """Return a frame without its content size, of blocks that repeat one byte."""
    blocks = BOMB // (128 << 10)
    block = (1 << 1 | (128 << 10) << 3).to_bytes(3, "little") + b"\0"
    last = (1 | 1 << 1 | (128 << 10) << 3).to_bytes(3, "little") + b"\0"
    return b"\x28\xb5\x2f\xfd" + bytes([0, 0x58]) + block * blocks + last


BOMBS: dict[str, tuple[dict[str, Any], Callable[[], bytes]]] = {
    "zlib": ({"id": "zlib", "level": 1}, lambda: zlib.compress(bytes(BOMB), 9)),
    "gzip": ({"id": "gzip", "level": 1}, lambda: gzip.compress(bytes(BOMB), 9)),
    "gzip members": (
        {"id": "gzip", "level": 1},
        lambda: gzip.compress(bytes(BOMB // 100), 9) * 100,
    ),
    "zstd": ({"id": "zstd", "level": 1}, lambda: bytes(numcodecs.Zstd().encode(bytes(BOMB)))),
    "zstd without size": ({"id": "zstd", "level": 1}, zstd_of_unknown_size),
    "blosc": ({"id": "blosc", "cname": "zstd", "clevel": 1, "shuffle": 1}, blosc_bomb),
    "lz4": ({"id": "lz4"}, lambda: bytes(numcodecs.LZ4().encode(bytes(BOMB)))),
    "nothing": (None, lambda: bytes(10 * CHUNK)),  # type: ignore[dict-item]
}


def memory_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


@pytest.mark.parametrize("name", BOMBS)
def test_chunks_that_inflate_beyond_their_declaration(name: str, tmp_path: Path) -> None:
    compressor, make = BOMBS[name]
    path = pictured(tmp_path, "0.4")
    change(path / "0" / ".zarray", compressor=compressor)
    chunk = next(p for p in (path / "0").rglob("*") if p.is_file() and not p.name.startswith("."))
    chunk.write_bytes(make())
    before = memory_mb()
    with open_slide(path) as slide, pytest.raises(SlideError, match=r"z\.zarr"):
        slide.read_level(0, 0, 0, 64, 64)
    if sys.platform == "linux":
        assert memory_mb() - before < BOMB / 2e6


def test_a_chunk_passes_few_codecs_only(tmp_path: Path) -> None:
    path = pictured(tmp_path, "0.4")
    change(path / "0" / ".zarray", filters=[{"id": "shuffle"}] * 9)
    with pytest.raises(SlideError, match="9 codecs"):
        open_slide(path)


@pytest.mark.parametrize("kept", [3, 15, 16, 40, -1])
def test_blosc_never_sees_a_chunk_that_is_cut(kept: int, tmp_path: Path) -> None:
    # it would read what is behind the end in memory: pixels of nowhere, or a dead process
    slide = pictured(tmp_path, "0.4")
    [chunk] = [p for p in (slide / "0").iterdir() if not p.name.startswith(".")]
    chunk.write_bytes(chunk.read_bytes()[:kept])
    with open_slide(slide) as opened, pytest.raises(SlideError, match="not as long"):
        opened.read_level(0, 0, 0, 64, 64)


@pytest.mark.parametrize("whole", [True, False])
def test_shards_hold_no_bomb(tmp_path: Path, *, whole: bool) -> None:
    import zarr

    path = pictured(tmp_path, "0.5")
    gzipped = {"name": "gzip", "configuration": {"level": 1}}
    inner = [{"name": "bytes", "configuration": {"endian": "little"}}, gzipped]
    change(path / "0" / "zarr.json", codecs=[shards(codecs=inner, index_codecs=inner[:1])])
    zarr.open_array(str(path / "0"), mode="r+")[...] = PIXELS.transpose(2, 0, 1)
    with open_slide(path) as slide:
        np.testing.assert_array_equal(slide.read_level(0, 0, 0, 64, 64), PIXELS)
        np.testing.assert_array_equal(slide.read_level(0, 5, 5, 9, 9), PIXELS[5:14, 5:14])
    shard = path / "0" / "c" / "0" / "0" / "0"
    bomb = gzip.compress(bytes(BOMB // 2), 9)
    index = np.array([[0, len(bomb)]] * 16, "<u8").tobytes()  # 4 x 4 chunks in a shard
    shard.write_bytes(bomb + index)
    side = 64 if whole else 9
    with open_slide(path) as slide, pytest.raises(SlideError, match=r"would inflate"):
        slide.read_level(0, 0, 0, side, side)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("kind", ["fifo", "device", "folder", "sparse"])
def test_only_regular_files_of_a_folder_are_opened(version: str, kind: str, tmp_path: Path) -> None:
    path = pictured(tmp_path, version)
    files = sorted(p for p in path.rglob("*") if p.is_file() and p.name not in (".zgroup",))
    assert len(files) > 2
    for file in files:
        kept = file.read_bytes()
        file.unlink()
        if kind == "fifo":
            os.mkfifo(file)
        elif kind == "device":
            file.symlink_to("/dev/zero")
        elif kind == "folder":
            file.mkdir()
        else:
            with file.open("wb") as stream:
                stream.truncate(1 << 40)
        try:
            with pytest.raises(SlideError, match=r"z\.zarr"), open_slide(path) as slide:
                slide.read_level(0, 0, 0, 64, 64)
        finally:
            file.rmdir() if kind == "folder" else file.unlink()
            file.write_bytes(kept)


def test_consolidated_metadata_are_not_believed(tmp_path: Path) -> None:
    path = pictured(tmp_path, "0.4")
    array = json.loads((path / "0" / ".zarray").read_text())
    lie = {
        ".zgroup": {"zarr_format": 2},
        ".zattrs": json.loads((path / ".zattrs").read_text()),
        "0/.zarray": array | {"compressor": {"id": "pickle"}},
    }
    (path / ".zmetadata").write_text(json.dumps({"metadata": lie, "zarr_consolidated_format": 1}))
    with open_slide(path) as slide:
        np.testing.assert_array_equal(slide.read_level(0, 0, 0, 64, 64), PIXELS)


def test_levels_have_the_same_channels(tmp_path: Path) -> None:
    levels = factory.pyramid(factory.tissue(300, 300), 2)
    path = factory.write_ome_zarr(tmp_path / "slide.zarr", levels)
    layout = json.loads((path / "1" / ".zarray").read_text())
    layout["shape"][0] = 3_000_000  # 46 GB that a view of the whole slide would read
    (path / "1" / ".zarray").write_text(json.dumps(layout))
    with pytest.raises(SlideError, match=r"slide\.zarr.*3 and 3,000,000 channels"):
        open_slide(path)


WRONG: tuple[Any, ...] = (None, 7, -1, 1.5, "x", [], {}, [None], {"a": None}, True, [[[]]], 10**30)


def places(value: Any, *, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [at] if at else []
    inner: Any = value.items() if isinstance(value, dict) else ()
    if isinstance(value, list):
        inner = enumerate(value)
    for key, one in inner:
        found += places(one, at=(*at, key))
    return found


@pytest.mark.parametrize(
    ("version", "name"),
    [("0.4", ".zattrs"), ("0.4", "0/.zarray"), ("0.5", "zarr.json"), ("0.5", "0/zarr.json")],
)
def test_wrong_types_anywhere_are_our_errors(version: str, name: str, tmp_path: Path) -> None:
    path = pictured(tmp_path, version)
    sound = (path / name).read_text()
    for place in places(json.loads(sound)):
        for wrong in WRONG:
            content = json.loads(sound)
            inner = content
            for key in place[:-1]:
                inner = inner[key]
            inner[place[-1]] = wrong
            (path / name).write_text(json.dumps(content))
            # a SlideError is right, and so is an image; anything else fails
            with contextlib.suppress(SlideError), open_slide(path) as slide:
                height, width = slide.shape
                slide.read_level(0, 0, 0, min(64, height), min(64, width))


def test_large_chunks_are_decoded_a_few_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = factory.tissue(300, 500)
    path = factory.write_ome_zarr(tmp_path / "z.zarr", [pixels], chunk=64)
    monkeypatch.setenv(limits.ENVIRONMENT, f"segment-bytes={2 * 64 * 64 * 3}")
    with open_slide(path) as slide:
        np.testing.assert_array_equal(slide.read_level(0, 3, 7, 290, 490), pixels[3:293, 7:497])


def test_sizes_of_sound_chunks_are_accepted(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for content in (bytes(400_000), rng.bytes(400_000), rng.bytes(1000) * 400):
        for name, codec in {
            "zstd": numcodecs.Zstd(), "zlib": numcodecs.Zlib(), "gzip": numcodecs.GZip(),
            "lz4": numcodecs.LZ4(), "blosc": numcodecs.Blosc("lz4"),
        }.items():  # fmt: skip
            array = ZarrArray(2, (400_000,), (400_000,), 400_000, name)
            encoded = bytes(codec.encode(content))
            array.check_chunk(memoryview(encoded), tmp_path, "0")
            assert len(encoded) <= array.file_bytes

"""The safetensors container: its table of tensors, its seal, and writing it.

The table is read here, not by the library, because it is the part that a stranger writes: each
entry is checked before a byte of memory is taken for a tensor. The seal is a SHA-256 over every
byte of the file, with the digits of the seal itself read as zeros. So no bit can change unnoticed,
not even one of the header's punctuation.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from napari_plimseg import limits
from napari_plimseg.errors import ModelError
from napari_plimseg.reading import check_regular, parse_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from io import BufferedReader

    import torch
    from torch import Tensor

SEAL_KEY = "plimseg_sha256"
SIZES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1,
    "BOOL": 1,
}  # fmt: skip
"""Bytes per value of the types that are read, by their names in the file."""
_TYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64",
    "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip
TYPE_NAMES = {name: key for key, name in _TYPES.items()}
"""From PyTorch's names of types to those in a file."""
INCOMPLETE = "It may be incomplete; copy or download it again."
DAMAGED = "The file was damaged on a disk or on its way: copy it again, or train it again."
_NO_SEAL = "0" * 64
LARGEST_RANK = 16


@dataclass(frozen=True)
class TensorEntry:
    """One row of the table.

    Parameters
    ----------
    dtype : str
        A key of `SIZES`.
    shape : tuple of int
    begin, end : int
        Its bytes, counted from the start of the data.
    """

    dtype: str
    shape: tuple[int, ...]
    begin: int = 0
    end: int = 0

    @property
    def size_bytes(self) -> int:
        """Bytes of its values."""
        return math.prod(self.shape) * SIZES[self.dtype]


@dataclass(frozen=True)
class TensorTable:
    """What the header of a safetensors file says.

    Parameters
    ----------
    metadata : dict of str
    entries : dict of TensorEntry
        By the name of the tensor.
    header : bytes
        As in the file, with the 8 bytes of its length.
    """

    metadata: dict[str, str]
    entries: dict[str, TensorEntry]
    header: bytes


def read_table(path: str | Path) -> TensorTable:
    """Read the table of a safetensors file without its tensors.

    Raises
    ------
    ModelError
        When the file is missing, is no safetensors file, or its table does not match its size.
    """
    path = Path(path)
    try:
        with opened(path) as file:
            size = file.seek(0, 2)
            file.seek(0)
            return _table_of(file, size)
    except ModelError as error:
        raise ModelError(error.problem, path=path, remedy=error.remedy) from error
    except MemoryError as error:
        raise out_of_memory(path, "memory ran out while its header was read") from error
    except (OSError, ValueError, RecursionError, OverflowError) as error:
        raise ModelError(
            f"not a readable model file ({type(error).__name__})", path=path, remedy=INCOMPLETE
        ) from error


def read_tensors(
    path: str | Path, table: TensorTable, *, sealed: bool = False
) -> dict[str, Tensor]:
    """Read all tensors of a safetensors file into memory of their own.

    The library maps the file instead: then a file that is overwritten later changes a model that
    is loaded, and one that is cut kills the process.

    Parameters
    ----------
    path : str or Path
    table : TensorTable
        Of the same file.
    sealed : bool
        Whether its content must match the seal in its header.

    Raises
    ------
    ModelError
        When it can't be read, has changed since its table was read, or does not match its seal.
    """
    import torch

    path = Path(path)
    check_total_size(sum(entry.size_bytes for entry in table.entries.values()), path)
    stored = table.metadata.get(SEAL_KEY, "")
    digest = hashlib.sha256(_without_seal(table.header, stored))
    found = {}
    try:
        with fits_into_memory(path), opened(path) as file:
            changed = file.read(len(table.header)) != table.header
            for name, entry in sorted(table.entries.items(), key=lambda row: row[1].begin):
                raw = torch.empty(entry.size_bytes, dtype=torch.uint8)
                changed |= file.readinto(raw.numpy().data) != entry.size_bytes
                if sealed:
                    digest.update(raw.numpy().data)
                found[name] = raw.view(torch_type(entry.dtype)).reshape(entry.shape)
    except OSError as error:
        raise ModelError(
            f"can't be read ({error.strerror or error})", path=path, remedy=INCOMPLETE
        ) from error
    if changed:
        raise ModelError("changed while it was read", path=path, remedy="Try again.")
    if sealed and not seals_match(stored, digest.hexdigest()):
        raise ModelError("its content does not match its checksum", path=path, remedy=DAMAGED)
    return found


def seals_match(stored: str, found: str) -> bool:
    """Whether the seal in a file is that of its content."""
    return bool(stored) and stored == found


def write_sealed(
    path: str | Path, metadata: Mapping[str, str], tensors: Mapping[str, Tensor]
) -> None:
    """Write a safetensors file with a seal; the same content gives the same bytes.

    One tensor at a time is copied, and the seal is filled in at the end. Not atomic: `path` is a
    temporary file of the caller.

    Parameters
    ----------
    path : str or Path
    metadata : mapping of str
    tensors : mapping of Tensor
    """
    table: dict[str, Any] = {"__metadata__": {**metadata, SEAL_KEY: _NO_SEAL}}
    # as the library does: wide types first, which keeps each tensor aligned
    order = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    begin = 0
    for name in order:
        tensor = tensors[name]
        end = begin + tensor.numel() * tensor.element_size()
        table[name] = {
            "dtype": dtype_name(tensor), "shape": list(tensor.shape), "data_offsets": [begin, end],
        }  # fmt: skip
        begin = end
    text = json.dumps(table, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    header = struct.pack("<Q", len(text)) + text
    digest = hashlib.sha256(header)
    with Path(path).open("wb") as file:
        file.write(header)
        for name in order:
            raw = _bytes_of(tensors[name])
            digest.update(raw)
            file.write(raw)
        file.seek(_seal_at(header, _NO_SEAL))
        file.write(digest.hexdigest().encode())


def opened(path: Path) -> BufferedReader:
    """Open a weight file; what is no regular file, such as a pipe, is refused."""
    if not path.exists():
        raise ModelError("the file does not exist", path=path)
    check_regular(path, ModelError)
    return path.open("rb")


def _without_seal(header: bytes, stored: str) -> bytes:
    """Return a header with zeros for the digits of its seal."""
    at = _seal_at(header, stored)
    if at < 0:
        return b""  # no content has this digest
    return header[:at] + _NO_SEAL.encode() + header[at + len(_NO_SEAL) :]


def _seal_at(header: bytes, stored: str) -> int:
    """Return where the digits of the seal begin; -1 when that is nowhere or not clear."""
    if not re.fullmatch(r"[0-9a-f]{64}", stored):
        return -1
    entry = f'"{SEAL_KEY}":"{stored}"'.encode()
    if header.count(entry) != 1:
        return -1
    return header.index(entry) + len(entry) - 1 - len(stored)


def _table_of(file: BufferedReader, size: int) -> TensorTable:
    start = file.read(8)
    if len(start) < 8:
        raise _broken("it is too short")
    length = struct.unpack("<Q", start)[0]
    if length > size - 8:
        raise _broken("it is cut off")
    check_header_size(length)
    text = file.read(length)
    content = parse_json(text, ModelError, what="its table", remedy=INCOMPLETE)
    json.loads(text, object_pairs_hook=_without_doubles)  # Python keeps the last of two
    metadata = content.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(type(v) is str for v in metadata.values()):
        raise _broken("its description is not made of texts")
    entries = {name: _entry_of(name, row) for name, row in content.items()}
    check_layout(entries, size - 8 - length)
    return TensorTable(metadata, entries, start + text)


def largest_header() -> int:
    """Return the most bytes that a header may have."""
    return limits.get("header-bytes")


def check_header_size(length: int) -> None:
    """Refuse a header above the limit before it is read."""
    limits.check(ModelError, "header-bytes", length, what="its header takes")


def check_total_size(size: int, path: Path) -> None:
    """Refuse tensors above the limit, or that memory has no room for, before it is taken."""
    limits.check(ModelError, "model-bytes", size, path=path, what="its tensors take")
    free = free_memory()
    if size > free:
        raise out_of_memory(path, f"it takes {size / 1e9:.1f} GB and {free / 1e9:.1f} GB are free")


def free_memory() -> int:
    """Return the bytes that a program can still take, swapped memory included."""
    try:
        return int(psutil.virtual_memory().available + psutil.swap_memory().free)
    except (OSError, RuntimeError):  # systems that don't tell
        return 1 << 62


def out_of_memory(path: Path, why: str) -> ModelError:
    """Return the error for a model that does not fit into memory."""
    return ModelError(
        f"does not fit into memory ({why})",
        path=path,
        remedy="Close other programs, or use a smaller model or a computer with more memory.",
    )


@contextlib.contextmanager
def fits_into_memory(path: Path) -> Iterator[None]:
    """Turn an exception for exhausted memory into a `ModelError` that names the file."""
    try:
        yield
    except MemoryError as error:
        raise out_of_memory(path, "memory ran out while it was loaded") from error
    except RuntimeError as error:  # PyTorch's own
        if "can't allocate memory" not in str(error) and "not enough memory" not in str(error):
            raise
        raise out_of_memory(path, "memory ran out while it was loaded") from error


def check_layout(entries: Mapping[str, TensorEntry], size: int) -> None:
    """Refuse tables whose tensors overlap, leave holes, or are not the whole data."""
    at = 0
    for entry in sorted(entries.values(), key=lambda each: (each.begin, each.end)):
        if entry.begin != at:
            raise _broken("its tensors overlap or leave holes")
        at = entry.end
    if at != size:
        raise _broken(f"it has {size} bytes of tensors and its table names {at}")


def _entry_of(name: str, row: Any) -> TensorEntry:
    if not isinstance(row, dict) or set(row) != {"dtype", "shape", "data_offsets"}:
        raise _broken(f"its table is wrong at '{name[:80]}'")
    dtype, shape, offsets = row["dtype"], row["shape"], row["data_offsets"]
    numbers = [*shape, *offsets] if type(shape) is list and type(offsets) is list else [-1]
    if any(type(n) is not int or not 0 <= n < 1 << 48 for n in numbers) or len(offsets) != 2:
        raise _broken(f"its table is wrong at '{name[:80]}'")
    if type(dtype) is not str or dtype not in SIZES:
        raise _broken(f"'{name[:80]}' has values of a type that no model has")
    entry = TensorEntry(dtype, tuple(shape), *offsets)
    if len(shape) > LARGEST_RANK or entry.size_bytes != entry.end - entry.begin:
        raise _broken(f"'{name[:80]}' does not have the size of its shape")
    return entry


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise _broken("an entry of its header occurs twice")
    return result


def _broken(what: str) -> ModelError:
    return ModelError(f"not a readable model file ({what})", remedy=INCOMPLETE)


def dtype_name(tensor: Tensor) -> str:
    """Return the type of a tensor's values, a key of `SIZES`.

    Raises
    ------
    ModelError
        When it is one that no model has, such as complex numbers.
    """
    name = str(tensor.dtype).removeprefix("torch.")
    if name not in TYPE_NAMES:
        raise ModelError(f"a model has no tensors of type {name}")
    return TYPE_NAMES[name]


def torch_type(name: str) -> torch.dtype:
    """Return PyTorch's type for a key of `SIZES`."""
    import torch

    types = (
        torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32,
        torch.int16, torch.int8, torch.uint8, torch.bool,
    )  # fmt: skip
    return next(each for each in types if str(each) == f"torch.{_TYPES[name]}")


def _bytes_of(tensor: Tensor) -> memoryview:
    import torch

    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data

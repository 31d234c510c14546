"""Tensors of PyTorch's own files (.pt, .pth, .bin), read without unpickling.

A pickle is a program. This module runs none of it: it decodes the instructions, follows the few
that make tables of tensors, and refuses the file at the first that could do anything else. Type,
shape and place of each tensor are checked against the file before memory is taken. Both layouts of
PyTorch are read: a zip with one member per storage, and the older one of five pickles in a row.
"""

from __future__ import annotations

import contextlib
import io
import math
import pickletools
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_plimseg.errors import ConfigError, ModelError
from napari_plimseg.models.tensor_file import (
    INCOMPLETE,
    LARGEST_RANK,
    SIZES,
    TYPE_NAMES,
    check_header_size,
    check_total_size,
    fits_into_memory,
    largest_header,
    torch_type,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from torch import Tensor

_STORAGES = {
    "DoubleStorage": "F64", "FloatStorage": "F32", "HalfStorage": "F16", "BFloat16Storage": "BF16",
    "LongStorage": "I64", "IntStorage": "I32", "ShortStorage": "I16", "CharStorage": "I8",
    "ByteStorage": "U8", "BoolStorage": "BOOL", "UntypedStorage": "U8",
}  # fmt: skip
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_MOST_STEPS = 2_000_000
"""A checkpoint with optimizer of 5,000 tensors has 200,000."""
_CONSTANTS = {
    "NONE", "NEWTRUE", "NEWFALSE", "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4",
    "FLOAT", "BINFLOAT", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "STRING",
    "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8",
}  # fmt: skip
_EMPTY: dict[str, Callable[[], Any]] = {
    "EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "EMPTY_SET": list,
}  # fmt: skip
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_TABLES = {("collections", "OrderedDict"), ("builtins", "dict"), ("__builtin__", "dict")}
_REBUILDS = {
    ("torch._utils", "_rebuild_tensor"), ("torch._utils", "_rebuild_tensor_v2"),
    ("torch._utils", "_rebuild_tensor_v3"),
}  # fmt: skip
_PARAMETERS = {
    ("torch._utils", "_rebuild_parameter"), ("torch._utils", "_rebuild_parameter_with_state"),
}  # fmt: skip
_OF_TYPE = ("torch._tensor", "_rebuild_from_type_v2")
_PLAIN = {("torch", "Size"), ("builtins", "set"), ("__builtin__", "set"), ("torch", "device")}
_CLASSES = {("torch", "Tensor"), ("torch.nn.parameter", "Parameter"), ("torch.nn", "Parameter")}
_OTHER_TENSORS = {
    ("torch._utils", f"_rebuild_{kind}")
    for kind in (
        "qtensor", "sparse_tensor", "sparse_csr_tensor", "meta_tensor_no_storage", "nested_tensor",
        "wrapper_subclass", "device_tensor_from_numpy", "device_tensor_from_cpu_tensor",
    )
} | {("torch", f"{kind}Storage") for kind in (
    "ComplexFloat", "ComplexDouble", "QUInt8", "QInt8", "QInt32", "QUInt4x2", "QUInt2x4",
)}  # fmt: skip
_PLAIN_FILE = "Ask its author for a .safetensors file."
_BLOCK = 4 << 20
_STORAGE_MODULES = {"torch", "torch.cuda", "torch.storage"}


@dataclass(frozen=True)
class Storage:
    """A run of values in the file.

    Parameters
    ----------
    key : str
        Its name in the file.
    dtype : str
        A key of `SIZES`.
    count : int
        Its values.
    """

    key: str
    dtype: str
    count: int

    @property
    def size_bytes(self) -> int:
        """Bytes of its values."""
        return self.count * SIZES[self.dtype]


@dataclass(frozen=True)
class PickledTensor:
    """A tensor of the file, described: values of a storage in steps.

    Parameters
    ----------
    storage : Storage
    dtype : str
        A key of `SIZES`.
    offset : int
        Of the first value in the storage.
    shape, stride : tuple of int
    """

    storage: Storage
    dtype: str
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def __post_init__(self) -> None:
        numbers = (*self.shape, *self.stride, self.offset)
        if any(type(n) is not int or not 0 <= n < 1 << 48 for n in numbers):
            raise _broken("a tensor's shape is impossible")
        if len(self.shape) != len(self.stride) or len(self.shape) > LARGEST_RANK:
            raise _broken("a tensor's shape is impossible")
        most = self.storage.size_bytes // SIZES[self.dtype]
        values = math.prod(self.shape)
        last = self.offset + sum((n - 1) * s for n, s in zip(self.shape, self.stride, strict=True))
        # a stride of 0 would make many values of one
        if values and (last >= most or values > most):
            raise _broken("a tensor is larger than its values in the file")

    @property
    def size_bytes(self) -> int:
        """Bytes of its values."""
        return math.prod(self.shape) * SIZES[self.dtype]


@dataclass(frozen=True)
class PickledFile:
    """What a file holds, and where.

    Parameters
    ----------
    path : Path
    content : Any
        Tables, lists, numbers and texts, with `PickledTensor` for tensors.
    sizes : dict of int
        Bytes of each storage in the file, by its key.
    starts : dict of int, or None
        First byte of each storage in the older layout; None in a zip.
    """

    path: Path
    content: Any
    sizes: dict[str, int]
    starts: dict[str, int] | None = None

    def load(self, tensors: Mapping[str, PickledTensor]) -> dict[str, Tensor]:
        """Read the values of described tensors; those of one storage share its memory.

        Raises
        ------
        ModelError
            When they are not all in the file, or above the limit.
        """
        import torch

        storages = {each.storage.key: each.storage for each in tensors.values()}
        for storage in storages.values():
            check_storage(storage, self.sizes, self.path)
        check_total_size(sum(each.size_bytes for each in tensors.values()), self.path)
        found, raw = {}, {}
        with _our_errors(self.path):
            for key, storage in storages.items():
                raw[key] = torch.empty(storage.size_bytes, dtype=torch.uint8)
                self._read(key, raw[key].numpy().data)
        for name, each in tensors.items():
            size = each.storage.size_bytes // SIZES[each.dtype] * SIZES[each.dtype]
            values = raw[each.storage.key][:size].view(torch_type(each.dtype))
            found[name] = values.as_strided(each.shape, each.stride, each.offset)
        return found

    def _read(self, key: str, into: memoryview) -> None:
        if self.starts is not None:
            with self.path.open("rb") as file:
                file.seek(self.starts[key])
                if file.readinto(into) != len(into):
                    raise EOFError
            return
        with zipfile.ZipFile(self.path) as file:
            member = next(m for m in file.infolist() if _own_name(m) == f"data/{key}")
            with file.open(member) as values:  # compares its checksum at the end
                at = 0
                while block := values.read(_BLOCK):
                    kept = block[: len(into) - at]
                    into[at : at + len(kept)] = kept
                    at += len(block)
        if at < len(into):
            raise EOFError


def open_pickled(path: Path) -> PickledFile:
    """Read what a file holds, without the values of its tensors.

    Raises
    ------
    ModelError
        When it is damaged, or holds anything but tensors and plain data.
    """
    with _our_errors(path):
        with path.open("rb") as file:
            is_zip = file.read(4) == b"PK\x03\x04"
        return _open_zip(path) if is_zip else _open_row(path)


@contextlib.contextmanager
def _our_errors(path: Path) -> Iterator[None]:
    """Turn what a stranger's bytes raise into a `ModelError` that names the file."""
    try:
        with fits_into_memory(path):
            yield
    except ModelError as error:
        raise ModelError(error.problem, path=path, remedy=error.remedy) from error
    except ConfigError:  # a limit that the user set wrongly
        raise
    except Exception as error:  # the libraries list no exceptions
        raise ModelError(
            f"not a readable weight file ({type(error).__name__})", path=path, remedy=INCOMPLETE
        ) from error


def check_members(members: list[zipfile.ZipInfo], size: int) -> None:
    """Refuse zips whose members are compressed or larger than the file: PyTorch writes neither."""
    if any(each.compress_type != zipfile.ZIP_STORED or each.flag_bits & 1 for each in members):
        raise ModelError(
            "its content is compressed, which PyTorch never does",
            remedy=_PLAIN_FILE,
        )
    if sum(max(each.file_size, each.compress_size) for each in members) > size:
        raise _broken("it claims more than it holds")


def check_storage(storage: Storage, sizes: Mapping[str, int], path: Path) -> None:
    """Refuse values that are not in the file."""
    if storage.size_bytes > sizes.get(storage.key, -1):
        raise ModelError(
            "not a readable weight file (a tensor's values are missing)",
            path=path,
            remedy=INCOMPLETE,
        )


def check_global(module: str, name: str) -> None:
    """Refuse every name but those of tables and tensors."""
    known = _TABLES | _REBUILDS | _PARAMETERS | _PLAIN | _CLASSES | {_OF_TYPE}
    is_type = module in _STORAGE_MODULES and (name in _STORAGES or name in TYPE_NAMES)
    if (module, name) in _OTHER_TENSORS:
        raise ModelError(f"a model has no tensors of this kind ({name})", remedy=_PLAIN_FILE)
    if (module, name) not in known and not is_type:
        raise _more_than_tensors()


def _open_zip(path: Path) -> PickledFile:
    size = path.stat().st_size
    with zipfile.ZipFile(path) as file:
        members = file.infolist()
        check_members(members, size)
        by_name = {_own_name(each): each for each in members}
        if len(by_name) != len(members) or "data.pkl" not in by_name:
            raise _broken("it is no file of PyTorch")
        if "constants.pkl" in by_name:  # a program, not weights
            raise _more_than_tensors()
        if "byteorder" in by_name and file.read(by_name["byteorder"]) != b"little":
            raise _broken("its bytes are in another order")
        table = by_name["data.pkl"]
        check_header_size(table.file_size)
        content = Interpreter(io.BytesIO(file.read(table))).run()
    sizes = {
        name.removeprefix("data/"): each.file_size
        for name, each in by_name.items()
        if name.startswith("data/")
    }
    return PickledFile(path, content, sizes)


def _open_row(path: Path) -> PickledFile:
    """Open a file of the older layout: magic number, version, system, content, keys, values."""
    size = path.stat().st_size
    with path.open("rb") as file:
        text = io.BytesIO(file.read(min(size, largest_header())))
        magic = Interpreter(text).run()
        if type(magic) is not int or magic != _MAGIC:
            raise _broken("it is no file of PyTorch")
        if Interpreter(text).run() != _PROTOCOL:
            raise _broken("it is of another version")
        system = Interpreter(text).run()
        if not isinstance(system, dict) or system.get("little_endian") is not True:
            raise _broken("its bytes are in another order")
        steps = Interpreter(text)
        content, keys = steps.run(), Interpreter(text).run()
        if not isinstance(keys, list) or len(keys) > len(steps.storages):
            raise _broken("its values are not those of its tensors")
        at, sizes, starts = text.tell(), {}, {}
        for key in keys:
            storage = steps.storages.get(str(key))
            file.seek(at)
            count = int.from_bytes(file.read(8), "little")
            if storage is None or count != storage.count or at + 8 + storage.size_bytes > size:
                raise _broken("its values are not those of its tensors")
            sizes[storage.key], starts[storage.key] = storage.size_bytes, at + 8
            at += 8 + storage.size_bytes
    return PickledFile(path, content, sizes, starts)


def _own_name(member: zipfile.ZipInfo) -> str:
    return member.filename.partition("/")[2]


class Interpreter:
    """Follows the instructions of one pickle that make tables, lists and tensors; runs no code.

    Parameters
    ----------
    file : BytesIO
        At the start of the pickle; afterwards at its end.

    Attributes
    ----------
    storages : dict of Storage
        Those that were named, by their keys.
    """

    def __init__(self, file: io.BytesIO) -> None:
        self._file = file
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        self._copied = 0
        self.storages: dict[str, Storage] = {}

    def run(self) -> Any:
        """Return what the pickle describes.

        Raises
        ------
        ModelError
            When it could do more than describe tensors, or is malformed.
        """
        for count, (operation, argument, _) in enumerate(pickletools.genops(self._file)):
            if count > _MOST_STEPS:
                raise _broken("its table has too many entries")
            if operation.name == "STOP":
                return self._stack.pop()
            self._follow(operation.name, argument)
        raise _broken("it is cut off")

    def _follow(self, name: str, argument: Any) -> None:
        stack = self._stack
        if name in _CONSTANTS:
            stack.append(_constant(name, argument))
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name in ("PROTO", "FRAME"):
            pass
        elif name == "MARK":
            self._marks.append(len(stack))
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            self._memo[int(argument)] = stack[-1]
        elif name == "MEMOIZE":
            self._memo[len(self._memo)] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(self._memo[int(argument)])
        elif name == "GLOBAL":
            module, _, what = argument.partition(" ")
            stack.append(self._named(module, what))
        elif name == "STACK_GLOBAL":
            what, module = stack.pop(), stack.pop()
            stack.append(self._named(module, what))
        elif name == "BINPERSID":
            stack.append(self._storage(stack.pop()))
        elif name in ("REDUCE", "NEWOBJ"):
            arguments, function = stack.pop(), stack.pop()
            stack.append(self._made(function, arguments))
        elif name == "BUILD":  # attributes of a table, such as torch's `_metadata`
            stack.pop()
            if not isinstance(stack[-1], dict | PickledTensor):
                raise _more_than_tensors()
        else:
            self._collect(name)

    def _collect(self, name: str) -> None:
        stack = self._stack
        if name in _TUPLES:
            count = _TUPLES[name]
            if len(stack) < count:
                raise _broken("it is malformed")
            stack[-count:] = [tuple(stack[-count:])]
        elif name in ("SETITEM", "APPEND"):
            values = [stack.pop() for _ in range(2 if name == "SETITEM" else 1)][::-1]
            _add(stack[-1], values)
        elif name in ("SETITEMS", "APPENDS", "ADDITEMS", "TUPLE", "LIST", "DICT"):
            start = self._marks.pop()
            values = stack[start:]
            del stack[start:]
            if name == "TUPLE":
                stack.append(tuple(values))
            elif name in ("LIST", "DICT"):
                stack.append([] if name == "LIST" else {})
                _add(stack[-1], values)
            else:
                _add(stack[-1], values)
        else:
            raise _more_than_tensors()

    def _named(self, module: Any, name: Any) -> Named:
        if type(module) is not str or type(name) is not str:
            raise _broken("it is malformed")
        check_global(module, name)
        return Named(module, name)

    def _storage(self, what: Any) -> Storage:
        if type(what) is not tuple or len(what) < 5 or what[0] != "storage":
            raise _more_than_tensors()
        kind, key, count = what[1], what[2], what[4]
        if not isinstance(kind, Named) or kind.name not in _STORAGES or type(key) is not str:
            raise _broken("it is malformed")
        if type(count) is not int or not 0 <= count < 1 << 48 or any(what[5:]):
            raise _broken("a storage's size is impossible")
        storage = Storage(key, _STORAGES[kind.name], count)
        if self.storages.setdefault(key, storage) != storage:
            raise _broken("a storage occurs twice")
        return storage

    def _made(self, function: Any, arguments: Any) -> Any:
        if not isinstance(function, Named) or type(arguments) is not tuple:
            raise _more_than_tensors()
        key = (function.module, function.name)
        if key == _OF_TYPE:
            return self._made(arguments[0], arguments[2])
        if key in _PARAMETERS or key in _CLASSES:
            if not arguments or not isinstance(arguments[0], PickledTensor):
                raise _broken("it is malformed")
            return arguments[0]
        if key in _REBUILDS:
            return _tensor(function.name, arguments)
        if key in _TABLES:
            table: dict[Any, Any] = {}
            for pairs in arguments:
                self._copied += len(pairs)
                if self._copied > _MOST_STEPS:
                    raise _broken("its table has too many entries")
                for pair in pairs:
                    _add(table, list(pair))
            return table
        if key in _PLAIN:
            return arguments
        raise _more_than_tensors()


@dataclass(frozen=True)
class Named:
    """A name in a pickle that would stand for a class or a function."""

    module: str
    name: str


def _tensor(function: str, arguments: tuple[Any, ...]) -> PickledTensor:
    storage, offset, shape, stride = arguments[:4]
    if not isinstance(storage, Storage) or type(shape) is not tuple or type(stride) is not tuple:
        raise _broken("it is malformed")
    dtype = storage.dtype
    if function == "_rebuild_tensor_v3":
        kind = arguments[6]
        if not isinstance(kind, Named) or kind.name not in TYPE_NAMES:
            raise _broken("it is malformed")
        dtype = TYPE_NAMES[kind.name]
    return PickledTensor(storage, dtype, offset, shape, stride)


def _add(to: Any, values: list[Any]) -> None:
    if isinstance(to, dict):
        if len(values) % 2:
            raise _broken("it is malformed")
        for key, value in zip(values[::2], values[1::2], strict=True):
            if not isinstance(key, str | int | float | bytes | bool | None):
                raise _broken("it is malformed")
            to[key] = value
    elif isinstance(to, list):
        to.extend(values)
    else:
        raise _more_than_tensors()


def _constant(name: str, argument: Any) -> Any:
    return {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}.get(name, argument)


def _broken(what: str) -> ModelError:
    return ModelError(f"not a readable weight file ({what})", remedy=INCOMPLETE)


def _more_than_tensors() -> ModelError:
    return ModelError(
        "the file holds more than tensors, and such code is never run",
        remedy=_PLAIN_FILE,
    )

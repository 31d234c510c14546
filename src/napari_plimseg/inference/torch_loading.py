"""Loads torch's largest library before Python imports torch, so that a window goes on answering."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import sys
from pathlib import Path

_FILES = {"linux": "libtorch_cpu.so", "darwin": "libtorch_cpu.dylib"}


def load_torch_library() -> bool:
    """Load torch's processor library; return whether that was possible and still to be done.

    An import holds Python's lock while the system loads a library, here for a quarter of a second.
    A plain call to the system does not. Whatever goes wrong costs nothing: the import does it then.
    """
    name = _FILES.get(sys.platform)
    spec = None if name is None or "torch" in sys.modules else importlib.util.find_spec("torch")
    if name is None or spec is None or spec.origin is None:
        return False
    path = Path(spec.origin).parent / "lib" / name
    try:
        load = ctypes.CDLL(None).dlopen
    except (OSError, AttributeError):
        return False
    load.argtypes, load.restype = (ctypes.c_char_p, ctypes.c_int), ctypes.c_void_p
    return path.is_file() and load(os.fsencode(path), os.RTLD_NOW) is not None

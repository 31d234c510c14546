"""Networks with an input of fixed size, computed by torch or, on a CPU, faster by OpenVINO."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.util
import logging
import os
import sys
import threading
import warnings
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self, runtime_checkable

import numpy as np

from napari_plimseg._version import __version__
from napari_plimseg.errors import ConfigError, ModelError, is_out_of_memory
from napari_plimseg.files import atomic_write, scratch_folder, user_cache_dir

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn


CACHE_LIMIT = 1_000_000_000
"""Bytes of converted networks that are kept on disk; the least recently used are deleted."""
NOT_INSTALLED = "OpenVINO is not installed"
_CACHE_VERSION, _SUFFIX = 1, ".network"
_HINTS = {"float32": "f32", "bfloat16": "bf16"}
_logger = logging.getLogger(__name__)
_building = threading.RLock()


class EngineError(ModelError):
    """An engine can't compute a network on this computer."""


@dataclass(frozen=True)
class Engine:
    """What computes a network.

    Parameters
    ----------
    name : {"torch", "openvino"}
    precision : {"float32", "bfloat16"}
        Of the numbers inside the network. Torch computes in float32 only.
    """

    name: str = "torch"
    precision: str = "float32"

    def __post_init__(self) -> None:
        known = {("torch", "float32"), ("openvino", "float32"), ("openvino", "bfloat16")}
        if (self.name, self.precision) not in known:
            raise ConfigError(f"there is no engine '{self.name}' with '{self.precision}'")


TORCH = Engine()


@runtime_checkable
class Acceleratable(Protocol):
    """A model or encoder whose network sees windows of fixed size.

    Attributes
    ----------
    window : int
        Side of the network's input in pixels.
    """

    window: int

    def running_on(self, engine: Engine) -> Self:
        """Return a copy that shares the weights and is computed by an engine.

        Raises
        ------
        EngineError
            When the engine can't.
        """


def engines_for(precision: str) -> list[Engine]:
    """Return the engines to try on a CPU before torch, fastest first.

    Parameters
    ----------
    precision : {"auto", "float32", "bfloat16"}

    Raises
    ------
    EngineError
        When bfloat16 is demanded and the CPU has no instructions for it.
    """
    if precision == "bfloat16" and not has_bfloat16():
        raise EngineError("this computer's CPU has no instructions for bfloat16")
    wanted = ["bfloat16", "float32"] if precision == "auto" else [precision]
    return [Engine("openvino", p) for p in wanted if p != "bfloat16" or has_bfloat16()]


def has_bfloat16() -> bool:
    """Whether the CPU has instructions for bfloat16; without them it would only be slower."""
    import torch

    found = torch.cpu.get_capabilities()
    return bool(found.get("avx512_bf16") or found.get("amx_bf16"))


class Network:
    """A network of square windows that any engine can compute.

    Parameters
    ----------
    module : nn.Module
        Maps float (N, 3, window, window) to one tensor (N, ...); in evaluation mode.
    window : int
        Side of a window in pixels. Torch computes inputs of other sizes.
    key : str
        Hex digest of everything that determines its output.
    engine : Engine
    """

    def __init__(self, module: nn.Module, window: int, key: str, engine: Engine = TORCH) -> None:
        self.module, self.window, self.key, self.engine = module, window, key, engine
        self._compiled = None if engine == TORCH else _compiled(self)

    def __call__(self, windows: Tensor) -> Tensor:
        """Return the output of (N, 3, h, w); each window's is the same in every batch."""
        fits = windows.shape[1:] == (3, self.window, self.window) and windows.device.type == "cpu"
        found: Tensor
        found = self._compiled(windows) if self._compiled and fits else self.module(windows)
        return found

    def on(self, engine: Engine) -> Network:
        """Return the network computed by an engine; it shares the weights.

        Raises
        ------
        EngineError
            When the engine can't.
        """
        return Network(self.module, self.window, self.key, engine)


class _Compiled:
    """A network that OpenVINO computes, one window at a time."""

    def __init__(self, request: Any) -> None:
        self._request = request
        self._lock = threading.Lock()

    def __call__(self, windows: Tensor) -> Tensor:
        import torch

        found = []
        with self._lock:  # a request is for one thread
            for window in windows.float().contiguous().numpy():
                result = self._request.infer(
                    {0: window[None]}, share_inputs=True, share_outputs=True
                )
                # copied: the next window overwrites it
                found.append(torch.from_numpy(result[0]).clone())
        return torch.cat(found)


_known: weakref.WeakKeyDictionary[nn.Module, dict[tuple[object, ...], _Compiled]] = (
    weakref.WeakKeyDictionary()
)


def _compiled(network: Network) -> _Compiled:
    """Return the compiled network, with as many threads as torch has now."""
    import torch

    threads = torch.get_num_threads()
    with _building:
        known = _known.setdefault(network.module, {})
        key = (network.window, network.key, network.engine, threads)
        if key not in known:
            try:
                settings = {
                    "INFERENCE_PRECISION_HINT": _HINTS[network.engine.precision],
                    "INFERENCE_NUM_THREADS": threads,
                    "NUM_STREAMS": 1,
                    # several processes would be pinned to the same cores
                    "ENABLE_CPU_PINNING": False,
                }
                compiled = _core().compile_model(_exported(network), "CPU", settings)
                known[key] = _Compiled(compiled.create_infer_request())
            except EngineError:
                raise
            except Exception as error:
                if is_out_of_memory(error):
                    raise
                _logger.info("OpenVINO failed", exc_info=True)
                first = (str(error) or type(error).__name__).strip().splitlines()[0][:200]
                raise EngineError(f"OpenVINO can't compute this network ({first})") from error
        return known[key]


def _exported(network: Network) -> Any:
    """Return the network as OpenVINO reads it, from the cache on disk if it is there."""
    import torch

    openvino = openvino_package()
    versions = [openvino.__version__, torch.__version__, __version__, _CACHE_VERSION]
    name = hashlib.sha256(repr([network.key, network.window, versions]).encode()).hexdigest()
    path = user_cache_dir() / "networks" / f"{name[:32]}{_SUFFIX}"
    content = _read(path)
    if content is None:
        content = _converted(network)
        _keep(path, content)
    end = 8 + int.from_bytes(content[:8], "little")
    weights = openvino.Tensor(np.frombuffer(content, np.uint8, offset=end))
    return _core().read_model(content[8:end], weights)


def _converted(network: Network) -> bytes:
    """Return the network in OpenVINO's form: size of the description, description, weights."""
    import torch

    openvino = openvino_package()
    shape = [1, 3, network.window, network.window]
    with torch.inference_mode(), warnings.catch_warnings():
        # sizes become constants, as they are
        warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)  # type: ignore[attr-defined]
        warnings.simplefilter("ignore", DeprecationWarning)
        traced = torch.jit.trace(  # type: ignore[no-untyped-call]
            network.module, torch.zeros(shape), check_trace=False
        )
        model = openvino.convert_model(traced, example_input=torch.zeros(shape), input=shape)
    with scratch_folder() as folder:
        openvino.save_model(model, folder / "network.xml", compress_to_fp16=False)
        described = (folder / "network.xml").read_bytes()
        return (
            len(described).to_bytes(8, "little") + described + (folder / "network.bin").read_bytes()
        )


def _read(path: Path) -> bytes | None:
    """Return the content of a cache file; None when it is missing or damaged."""
    try:
        if path.stat().st_size > CACHE_LIMIT:
            return None
        content = path.read_bytes()
        os.utime(path)  # used now
    except OSError:
        return None
    digest, content = content[:32], content[32:]
    return content if hashlib.sha256(content).digest() == digest else None


def _keep(path: Path, content: bytes) -> None:
    """Write a cache file and delete the least recently used ones over the limit."""
    if len(content) > CACHE_LIMIT // 2:
        return
    try:
        with atomic_write(path) as temporary:
            temporary.write_bytes(hashlib.sha256(content).digest() + content)
        files = sorted(path.parent.glob(f"*{_SUFFIX}"), key=lambda file: -file.stat().st_mtime)
        total = 0
        for file in files:
            total += file.stat().st_size
            if total > CACHE_LIMIT:
                file.unlink()
    except OSError as error:
        _logger.info("A converted network can't be cached: %s", error)


@functools.cache
def openvino_package() -> Any:
    """Import OpenVINO without its telemetry.

    Raises
    ------
    EngineError
        When it is not installed or can't be imported.
    """
    if importlib.util.find_spec("openvino") is None:
        raise EngineError(NOT_INSTALLED, remedy="Install napari-plimseg[fast].")
    silence_telemetry()
    try:
        import openvino
    except Exception as error:
        _logger.info("OpenVINO can't be imported", exc_info=True)
        raise EngineError(f"OpenVINO can't be imported ({type(error).__name__})") from error
    return openvino


def silence_telemetry() -> None:
    """Keep OpenVINO from sending what it does to its maker, as it does unless people opt out."""
    if sys.modules.get("openvino_telemetry") is not None:  # another plugin has imported it
        with contextlib.suppress(ImportError):
            from openvino_telemetry.utils.sender import TelemetrySender

            TelemetrySender.send = _send_nothing
    # as if it were not installed: OpenVINO then takes a stub of its own
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]


def _send_nothing(*arguments: object) -> None:
    """Take the place of what sends."""


@functools.cache
def _core() -> Any:
    return openvino_package().Core()

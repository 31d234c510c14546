"""Read weight files of others: tensors only, checked whole before a network sees them."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path
from typing import TYPE_CHECKING

from napari_plimseg.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import torch
    from torch import Tensor

_WRAPPERS = ("state_dict", "model", "model_state_dict")
_PREFIXES = ("module.", "_orig_mod.")


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Return the tensors of a `.safetensors`, `.pt`, `.pth` or `.bin` file.

    Nothing but tensors and plain containers is ever unpickled; there is no way around that.

    Raises
    ------
    ModelError
        When the file is missing, damaged, or holds anything but tensors.
    """
    import safetensors
    import safetensors.torch
    import torch

    path = Path(path)
    if not path.is_file():
        raise ModelError("the file does not exist", path=path)
    try:
        if path.suffix == ".safetensors":
            content = safetensors.torch.load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(
            "the file holds more than tensors, and such code is never run",
            path=path,
            remedy="Ask its author for a .safetensors file.",
        ) from error
    except (safetensors.SafetensorError, RuntimeError, EOFError, OSError, ValueError) as error:
        raise ModelError(
            f"not a readable weight file ({type(error).__name__})",
            path=path,
            remedy="It may be incomplete; copy or download it again.",
        ) from error
    return _tensors_of(content, path)


def _tensors_of(content: object, path: Path) -> dict[str, Tensor]:
    import torch

    while isinstance(content, dict) and any(isinstance(content.get(k), dict) for k in _WRAPPERS):
        content = next(content[k] for k in _WRAPPERS if isinstance(content.get(k), dict))
    if not isinstance(content, dict):
        raise ModelError("the file holds no table of named tensors", path=path)
    tensors = {str(k): v for k, v in content.items() if isinstance(v, torch.Tensor)}
    if not tensors:
        raise ModelError("the file holds no tensors", path=path)
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors


def check_weights(
    found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], *, path: str | Path
) -> None:
    """Compare names and shapes with those of a network, and look for values that are not finite.

    Raises
    ------
    ModelError
        Naming the first tensor that is wrong.
    """
    missing = sorted(set(wanted) - set(found))
    unknown = sorted(set(found) - set(wanted))
    if missing or unknown:
        what = f"'{missing[0]}' is missing" if missing else f"'{unknown[0]}' is not known"
        raise ModelError(
            f"its tensors are those of another network: {what} "
            f"({len(missing)} missing, {len(unknown)} unknown)",
            path=path,
            remedy="Check that the name of the architecture fits the weights.",
        )
    for name, tensor in found.items():
        if tensor.shape != wanted[name].shape:
            raise ModelError(
                f"'{name}' has shape {tuple(tensor.shape)} instead of {tuple(wanted[name].shape)}",
                path=path,
                remedy="Check that the name of the architecture fits the weights.",
            )
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise ModelError(
                f"'{name}' holds values that are not finite",
                path=path,
                remedy="The file is damaged or its training failed; use another one.",
            )


def load_checked(
    network: torch.nn.Module,
    path: str | Path,
    translate: Callable[[dict[str, Tensor]], dict[str, Tensor]] | None = None,
) -> str:
    """Read, check and load weights, and return the SHA-256 of the file.

    Parameters
    ----------
    translate : callable, optional
        Brings the tensors of another program to the network's names, and leaves others alone.
    """
    from napari_plimseg.files import sha256

    tensors = read_weights(path)
    if translate is not None:
        tensors = translate(tensors)
    check_weights(tensors, network.state_dict(), path=path)
    network.load_state_dict(tensors)
    return sha256(path)


def weights_digest(network: torch.nn.Module) -> str:
    """Return the SHA-256 of the names and values of all weights."""
    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()

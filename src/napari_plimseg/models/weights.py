"""Weight files: reading and checking them, renaming and quantizing their tensors."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import torch

from napari_plimseg.errors import ModelError
from napari_plimseg.models.pickled_file import PickledFile, PickledTensor, open_pickled
from napari_plimseg.models.tensor_file import TensorEntry, opened, read_table, read_tensors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from torch import Tensor


T = TypeVar("T")
Described: TypeAlias = "Mapping[str, Tensor] | Mapping[str, TensorEntry]"
"""Tensors, or the rows of a file's table."""
_WRAPPERS = ("state_dict", "model", "model_state_dict")
_DEEPEST_WRAPPER = 4
_PREFIXES = ("module.", "_orig_mod.")


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Return the tensors of a `.safetensors`, `.pt`, `.pth` or `.bin` file.

    Nothing is unpickled, because a pickle can run any code. There is deliberately no way to switch
    this off.

    Raises
    ------
    ModelError
        When the file is missing, damaged, or holds anything but tensors.
    """
    path = Path(path)
    if _is_safetensors(path):
        return _without_prefix(read_tensors(path, read_table(path)))
    file = open_pickled(path)
    return file.load(_tensors_of(file))


def read_shapes(path: str | Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return type and shape of each tensor of a weight file; no memory is taken for its values.

    Returns
    -------
    dict of (str, tuple of int)
        By the name of the tensor: a type as safetensors names it ("F32"), and the shape.

    Raises
    ------
    ModelError
        When the file is missing, damaged, or holds anything but tensors.
    """
    path = Path(path)
    if _is_safetensors(path):
        rows = _without_prefix(read_table(path).entries)
        return {name: (row.dtype, row.shape) for name, row in rows.items()}
    described = _tensors_of(open_pickled(path))
    return {name: (each.dtype, each.shape) for name, each in described.items()}


def _is_safetensors(path: Path) -> bool:
    with opened(path) as file:  # some publish them under another name
        return path.suffix == ".safetensors" or file.read(9)[8:] == b"{"


def _tensors_of(file: PickledFile) -> dict[str, PickledTensor]:
    content = file.content
    for _ in range(_DEEPEST_WRAPPER):  # a table may hold itself
        inner = content if isinstance(content, dict) else {}
        wrapped = next((inner[k] for k in _WRAPPERS if isinstance(inner.get(k), dict)), None)
        if wrapped is None:
            break
        content = wrapped
    if not isinstance(content, dict):
        raise ModelError("the file holds no table of named tensors", path=file.path)
    tensors = {str(k): v for k, v in content.items() if isinstance(v, PickledTensor)}
    if not tensors:
        raise ModelError("the file holds no tensors", path=file.path)
    return _without_prefix(tensors)


def _without_prefix(tensors: dict[str, T]) -> dict[str, T]:
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors


def check_weights(
    found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], *, path: str | Path
) -> None:
    """Compare names and shapes with those of a network, and check that values are finite.

    Raises
    ------
    ModelError
        When a tensor is missing, unknown, of another shape or not finite; names the first one.
    """
    check_shapes(found, wanted, path=path)
    for name, tensor in found.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise ModelError(
                f"'{name}' holds values that are not finite",
                path=path,
                remedy="The file is damaged or its training failed: use another one.",
            )


def check_shapes(
    found: Described,
    wanted: Mapping[str, Tensor],
    *,
    path: str | Path,
) -> None:
    """Compare names, shapes and types with those of a network; values are not read.

    Parameters
    ----------
    found : mapping of Tensor or TensorEntry
    wanted : mapping of Tensor
        May be without memory (`shapes_of`).
    path : str or Path
        For the message.

    Raises
    ------
    ModelError
        When a tensor is missing, unknown, of another shape, or whole numbers are fractions or the
        other way round; names the first one.
    """
    missing = sorted(set(wanted) - set(found))
    unknown = sorted(set(found) - set(wanted))
    if missing or unknown:
        what = f"'{missing[0]}' is missing" if missing else f"'{unknown[0]}' is not known"
        raise ModelError(
            f"its tensors are those of another network: {what} "
            f"({len(missing)} missing, {len(unknown)} unknown)",
            path=path,
            remedy="Check that the architecture's name matches the weights.",
        )
    for name, tensor in found.items():
        if tensor.shape != wanted[name].shape:
            raise ModelError(
                f"'{name}' has shape {tuple(tensor.shape)} instead of {tuple(wanted[name].shape)}",
                path=path,
                remedy="Check that the architecture's name matches the weights.",
            )
        # counters of batches are published as fractions too
        is_other = _is_floating(tensor) != wanted[name].is_floating_point()
        if is_other and len(wanted[name].shape):
            raise ModelError(
                f"'{name}' has values of another type than its network's",
                path=path,
                remedy="Check that the architecture's name matches the weights.",
            )


def _is_floating(tensor: Tensor | TensorEntry) -> bool:
    if isinstance(tensor, TensorEntry):
        return tensor.dtype.startswith(("F", "BF"))
    return tensor.is_floating_point()


def load_checked(
    network: torch.nn.Module,
    path: str | Path,
    translate: Callable[[dict[str, Tensor]], dict[str, Tensor]] | None = None,
) -> str:
    """Read, check and load weights, and return the SHA-256 of the file.

    Parameters
    ----------
    translate : callable, optional
        Renames the tensors of another library; leaves those of this network unchanged.
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


_CLIP_NAMES = {
    "logit_scale": "logit_scale",
    "visual_projection.weight": "visual.proj",
    "text_projection.weight": "text_projection",
    "vision_model.embeddings.class_embedding": "visual.class_embedding",
    "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
    "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
    "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "vision_model.pre_layrnorm": "visual.ln_pre",
    "vision_model.post_layernorm": "visual.ln_post",
    "text_model.final_layer_norm": "ln_final",
}
_CLIP_TOWERS = {"vision_model": "visual.transformer", "text_model": "transformer"}
_CLIP_LAYERS = {
    "layer_norm1": "ln_1", "layer_norm2": "ln_2", "self_attn.out_proj": "attn.out_proj",
    "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj",
}  # fmt: skip
_CLIP_LAYER = re.compile(r"(vision_model|text_model)\.encoder\.layers\.(\d+)\.(.+)\.(weight|bias)")

_DINO_NAMES = {
    "embeddings.cls_token": "cls_token",
    "embeddings.register_tokens": "reg_token",
    "embeddings.position_embeddings": "pos_embed",
    "embeddings.patch_embeddings.projection.weight": "patch_embed.proj.weight",
    "embeddings.patch_embeddings.projection.bias": "patch_embed.proj.bias",
    "layernorm.weight": "norm.weight",
    "layernorm.bias": "norm.bias",
}
_DINO_LAYERS = {
    "attention.output.dense": "attn.proj", "attention.o_proj": "attn.proj",
    "mlp.weights_in": "mlp.fc1", "mlp.weights_out": "mlp.fc2", "mlp.down_proj": "mlp.fc2",
}  # fmt: skip
_DINO_STACKED = {
    "attention.attention.query": "attn.qkv", "attention.attention.key": "attn.qkv",
    "attention.attention.value": "attn.qkv", "attention.q_proj": "attn.qkv",
    "attention.k_proj": "attn.qkv", "attention.v_proj": "attn.qkv",
    "mlp.gate_proj": "mlp.fc1", "mlp.up_proj": "mlp.fc1",
}  # fmt: skip
"""In the order in which they are stacked; transformers 5 has its own names."""
_POOLING = ("attn_pool_contrast.", "ln_contrast.")
_DINO_LAYER = re.compile(r"encoder\.layer\.(\d+)\.(.+)\.(weight|bias|lambda1)")


def open_clip_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of transformers' `CLIPModel` as open_clip names them; others unchanged.

    PLIP is published in that layout. Its activation is the quick GELU, so open_clip's architecture
    must be one whose name ends in `-quickgelu`.
    """
    if "vision_model.embeddings.class_embedding" not in tensors:
        return tensors
    result: dict[str, Tensor] = {}
    stacked: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        layer = _CLIP_LAYER.fullmatch(name)
        if layer:
            tower, number, what, kind = layer.groups()
            block = f"{_CLIP_TOWERS[tower]}.resblocks.{number}"
            if what in _CLIP_LAYERS:
                result[f"{block}.{_CLIP_LAYERS[what]}.{kind}"] = tensor
            else:  # self_attn.q_proj, k_proj and v_proj
                stacked.setdefault(f"{block}.attn.in_proj_{kind}", {})[what[-6]] = tensor
        elif not name.endswith("position_ids"):
            stem, _, kind = name.rpartition(".")
            known = _CLIP_NAMES.get(name) or f"{_CLIP_NAMES.get(stem, stem)}.{kind}"
            result[known] = tensor.T if name.endswith("_projection.weight") else tensor
    return result | {name: _stacked(parts, ("q", "k", "v")) for name, parts in stacked.items()}


def timm_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of transformers' DINOv2 and of CONCH 1.5 as timm names them.

    Phikon-v2, Hibou and Midnight are published in the first layout. Their register tokens have no
    position embedding; timm's have one, which is set to zero. Of CONCH 1.5, which has no text
    tower, the pooling of whole images is left out. Others are returned as they are.
    """
    if "trunk.cls_token" in tensors:
        return {
            name.removeprefix("trunk."): tensor
            for name, tensor in tensors.items()
            if not name.startswith(_POOLING)
        }
    if "embeddings.cls_token" not in tensors:
        return tensors
    result: dict[str, Tensor] = {}
    stacked: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        layer = _DINO_LAYER.fullmatch(name)
        if layer is None:
            if name != "embeddings.mask_token":
                result[_DINO_NAMES.get(name, name)] = tensor
            continue
        number, what, kind = layer.groups()
        if kind == "lambda1":
            result[f"blocks.{number}.ls{what[-1]}.gamma"] = tensor
        elif what in _DINO_STACKED:
            whole = f"blocks.{number}.{_DINO_STACKED[what]}.{kind}"
            stacked.setdefault(whole, {})[what] = tensor
        else:
            result[f"blocks.{number}.{_DINO_LAYERS.get(what, what)}.{kind}"] = tensor
    if "reg_token" in result and "pos_embed" in result:
        positions = result["pos_embed"]  # (1, 1 + h * w, width)
        none = torch.zeros_like(result["reg_token"])
        result["pos_embed"] = torch.cat((positions[:, :1], none, positions[:, 1:]), 1)
    return result | {name: _stacked(parts, _DINO_STACKED) for name, parts in stacked.items()}


def _stacked(parts: Mapping[str, Tensor], order: Iterable[str]) -> Tensor:
    return torch.cat([parts[part] for part in order if part in parts])


SCALE_SUFFIX = ".row_scale"


def quantized(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return int8 values (N, ...) and float32 scales (N, 1, ...) of a matrix or kernel.

    `values * scales` differs from `weight` by at most half a scale, which is 1/254 of the row's
    largest magnitude. Every row has its own scale because rows differ once batch norms are folded
    in: by a factor of 3.6 in a typical layer of the bundled model.
    """
    rest = tuple(range(1, weight.ndim))
    scale = weight.abs().amax(rest, keepdim=True).clamp_min(1e-12) / 127
    return torch.round(weight / scale).to(torch.int8), scale.float()


def dequantized(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return `state` in float32, with every int8 tensor multiplied by its scales."""
    result = {}
    for name, tensor in state.items():
        if name.endswith(SCALE_SUFFIX):
            continue
        if tensor.dtype == torch.int8:
            result[name] = tensor.float() * state[name + SCALE_SUFFIX]
        else:
            result[name] = tensor.float() if tensor.is_floating_point() else tensor
    return result


def dequantized_entries(
    entries: Mapping[str, TensorEntry], *, path: str | Path
) -> dict[str, TensorEntry]:
    """Return what the tensors of a file will be after `dequantized`.

    Raises
    ------
    ModelError
        When int8 values have no scales that match them.
    """
    result = {}
    for name, entry in entries.items():
        if name.endswith(SCALE_SUFFIX):
            continue
        if entry.dtype == "I8":
            scales = entries.get(name + SCALE_SUFFIX)
            wanted = (*entry.shape[:1], *[1] * (len(entry.shape) - 1))
            if scales is None or scales.shape != wanted or not _is_floating(scales):
                raise ModelError(f"'{name}' has no scales that match it", path=path)
            entry = TensorEntry("F32", entry.shape)
        result[name] = entry
    return result

"""Weights under the names of transformers, brought to those of open_clip and timm."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from torch import Tensor

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
"""In the order in which they are stacked. Version 5 of transformers has names of its own."""
_DINO_LAYER = re.compile(r"encoder\.layer\.(\d+)\.(.+)\.(weight|bias|lambda1)")


def open_clip_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of transformers' `CLIPModel` as open_clip names them; others unchanged.

    That is PLIP's layout. Its activation is the quick GELU: open_clip's architecture must be one
    whose name ends in `-quickgelu`.
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
    """Return the tensors of transformers' DINOv2 as timm names them; others unchanged.

    Phikon-v2 and Hibou have that layout. Their registers have no position, timm's have one: it
    is zero.
    """
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

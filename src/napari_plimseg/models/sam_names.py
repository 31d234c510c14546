"""Weights of SAM, SAM-HQ and MobileSAM under the names of this package's modules.

They come with the names of Meta's code (`sam_vit_b_01ec64.pth`, `mobile_sam.pt`, those of SAM-HQ)
or of transformers. Sizes are not looked at here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_plimseg.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from torch import Tensor

Rules = tuple[tuple[str, str], ...]

_MLP: Rules = (
    (r"\.layers\.0\.(weight|bias)$", r".proj_in.\1"),
    (r"\.layers\.1\.(weight|bias)$", r".layers.0.\1"),
    (r"\.layers\.2\.(weight|bias)$", r".proj_out.\1"),
)
_HINTS_META: Rules = (
    (r"^pe_layer\.positional_encoding_gaussian_matrix$", "shared_embedding.positional_embedding"),
    (r"^point_embeddings\.", "point_embed."),
    (r"^mask_downscaling\.0\.", "mask_embed.conv1."),
    (r"^mask_downscaling\.1\.", "mask_embed.layer_norm1."),
    (r"^mask_downscaling\.3\.", "mask_embed.conv2."),
    (r"^mask_downscaling\.4\.", "mask_embed.layer_norm2."),
    (r"^mask_downscaling\.6\.", "mask_embed.conv3."),
)
_DECODER_META: Rules = (
    (r"^(transformer\.layers\.\d+)\.norm(\d)\.", r"\1.layer_norm\2."),
    (r"^transformer\.norm_final_attn\.", "transformer.layer_norm_final_attn."),
    (r"^output_upscaling\.0\.", "upscale_conv1."),
    (r"^output_upscaling\.1\.", "upscale_layer_norm."),
    (r"^output_upscaling\.3\.", "upscale_conv2."),
)
_ADDED: Rules = (
    (r"^(hf|hq)_token\.", "token."),
    (r"^(hf_mlp|hq_mask_mlp)\.", "token_mlp."),
    (r"^embedding_encoder\.", "fusion.final."),
    (r"^compress_vit_feat\.", "fusion.early."),
    (r"^embedding_maskfeature\.", "fusion.upscaled."),
    (r"^encoder_conv1\.", "fusion.final.0."),
    (r"^encoder_norm\.", "fusion.final.1."),
    (r"^encoder_conv2\.", "fusion.final.3."),
    (r"^compress_vit_conv1\.", "fusion.early.0."),
    (r"^compress_vit_norm\.", "fusion.early.1."),
    (r"^compress_vit_conv2\.", "fusion.early.3."),
    (r"^mask_conv1\.", "fusion.upscaled.0."),
    (r"^mask_norm\.", "fusion.upscaled.1."),
    (r"^mask_conv2\.", "fusion.upscaled.3."),
)
_VIT_META: Rules = (
    (r"^patch_embed\.proj\.", "patch_embed.projection."),
    (r"^blocks\.", "layers."),
    (r"\.norm(\d)\.", r".layer_norm\1."),
    (r"^neck\.0\.", "neck.conv1."),
    (r"^neck\.1\.", "neck.layer_norm1."),
    (r"^neck\.2\.", "neck.conv2."),
    (r"^neck\.3\.", "neck.layer_norm2."),
)
# timm merges patches at the beginning of a stage, MobileSAM at the end of the one before
_TINY_VIT: Rules = (
    (r"^patch_embed\.seq\.0\.", "network.patch_embed.conv1."),
    (r"^patch_embed\.seq\.2\.", "network.patch_embed.conv2."),
    (r"^layers\.0\.downsample\.", "network.stages.1.downsample."),
    (r"^layers\.1\.downsample\.", "network.stages.2.downsample."),
    (r"^layers\.2\.downsample\.", "network.stages.3.downsample."),
    (r"^layers\.", "network.stages."),
    (r"\.c\.weight$", ".conv.weight"),
)
_NOT_USED = re.compile(r"(norm_head|head)\.|.*attention_bias_idxs$")
_MLPS = re.compile(r"(output_hypernetworks_mlps\.\d+|iou_prediction_head|token_mlp)\.")


@dataclass(frozen=True)
class SamTensors:
    """The tensors of a checkpoint, sorted.

    Parameters
    ----------
    encoder : mapping
        With the names of `VitEncoder.network` or of `TinyVitEncoder`.
    is_tiny : bool
        Whether the encoder is MobileSAM's.
    hint_encoder, decoder : mapping
        With the names of `HintEncoder` and of `SamDecoder`.
    added : mapping
        What SAM-HQ adds, with the names of `Branch`; empty otherwise.
    """

    encoder: Mapping[str, Tensor]
    is_tiny: bool
    hint_encoder: Mapping[str, Tensor]
    decoder: Mapping[str, Tensor]
    added: Mapping[str, Tensor]


def sorted_tensors(tensors: Mapping[str, Tensor], *, path: Path) -> SamTensors:
    """Sort the tensors of a checkpoint and bring them to this package's names.

    Raises
    ------
    ModelError
        When a part is missing: a checkpoint of something else.
    """
    hints = _part(tensors, "prompt_encoder.")
    encoder = _part(tensors, "image_encoder.") or _part(tensors, "vision_encoder.")
    decoder = _part(tensors, "mask_decoder.")
    for name, part in (("image", encoder), ("prompt", hints), ("mask", decoder)):
        if not part:
            raise ModelError(
                f"it has no {name} part of a SAM",
                path=path,
                remedy="Choose a whole checkpoint of SAM, SAM-HQ or MobileSAM (not SAM 2).",
            )
    hints = _renamed(hints, _HINTS_META)
    shared = tensors.get("shared_image_embedding.positional_embedding")
    if shared is not None:  # transformers may write a tied tensor under either name
        hints.setdefault("shared_embedding.positional_embedding", shared)
    is_tiny = any(name.startswith("patch_embed.seq.") for name in encoder)
    encoder = _renamed(encoder, _TINY_VIT if is_tiny else _VIT_META)
    decoder = _renamed(_renamed(decoder, _DECODER_META), _ADDED)
    decoder = {
        (_renamed_once(name, _MLP) if _is_meta(decoder, name) else name): tensor
        for name, tensor in decoder.items()
    }
    added = {k: v for k, v in decoder.items() if k.startswith(("token.", "token_mlp.", "fusion."))}
    return SamTensors(
        {k: v for k, v in encoder.items() if not _NOT_USED.match(k)},
        is_tiny,
        hints,
        {k: v for k, v in decoder.items() if k not in added},
        added,
    )


def _is_meta(names: Iterable[str], name: str) -> bool:
    """Whether a tensor belongs to an MLP with Meta's names: one without a `proj_in`."""
    found = _MLPS.match(name)
    return found is not None and f"{found[0]}proj_in.weight" not in names


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _renamed(tensors: Mapping[str, Tensor], rules: Rules) -> dict[str, Tensor]:
    found = {}
    for name, tensor in tensors.items():
        new = name
        for pattern, text in rules:
            new = re.sub(pattern, text, new)
        found[new] = tensor
    return found


def _renamed_once(name: str, rules: Rules) -> str:
    for pattern, text in rules:
        if re.search(pattern, name):
            return re.sub(pattern, text, name)
    return name

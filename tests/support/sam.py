"""Small SAMs with random weights, saved in the formats that real ones come in."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from napari_plimseg.models.torchvision_compat import make_torchvision_importable

if TYPE_CHECKING:
    from pathlib import Path

SIDE, WIDTH, HIDDEN = 64, 32, 48


def randomised(network: nn.Module, seed: int = 0) -> Any:
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            tensor.copy_(0.4 * torch.randn(tensor.shape, generator=generator))
            if "running_var" in name:
                tensor.abs_().add_(0.5)
    return network.eval()


def transformers_sam(folder: Path, *, high_quality: bool = False) -> Any:
    """Save a SAM or SAM-HQ as transformers does, and return it."""
    make_torchvision_importable()
    import transformers as t

    prefix = "SamHQ" if high_quality else "Sam"
    vision = {
        "hidden_size": HIDDEN, "output_channels": WIDTH, "num_hidden_layers": 3,
        "num_attention_heads": 4, "image_size": SIDE, "patch_size": 16, "mlp_dim": 40,
        "window_size": 2, "global_attn_indexes": [1, 2], "num_pos_feats": WIDTH // 2,
    }  # fmt: skip
    decoder = {
        "hidden_size": WIDTH, "mlp_dim": 24, "num_attention_heads": 2, "iou_head_hidden_dim": WIDTH,
        **({"vit_dim": HIDDEN} if high_quality else {}),
    }  # fmt: skip
    config = getattr(t, f"{prefix}Config")(
        vision_config=vision,
        prompt_encoder_config={"hidden_size": WIDTH, "image_size": SIDE, "patch_size": 16},
        mask_decoder_config=decoder,
    )
    model = randomised(getattr(t, f"{prefix}Model")(config))
    # one tensor in every real checkpoint; transformers ties them in SAM, not in SAM-HQ
    model.prompt_encoder.shared_embedding.positional_embedding.data.copy_(
        model.shared_image_embedding.positional_embedding
    )
    model.save_pretrained(folder)
    return model


_TO_META = (
    (r"shared_embedding\.positional_embedding", "pe_layer.positional_encoding_gaussian_matrix"),
    (r"^point_embed\.", "point_embeddings."),
    (r"mask_embed\.conv1", "mask_downscaling.0"),
    (r"mask_embed\.layer_norm1", "mask_downscaling.1"),
    (r"mask_embed\.conv2", "mask_downscaling.3"),
    (r"mask_embed\.layer_norm2", "mask_downscaling.4"),
    (r"mask_embed\.conv3", "mask_downscaling.6"),
    (r"upscale_conv1", "output_upscaling.0"),
    (r"upscale_layer_norm", "output_upscaling.1"),
    (r"upscale_conv2", "output_upscaling.3"),
    (r"layer_norm_final_attn", "norm_final_attn"),
    (r"layer_norm(\d)", r"norm\1"),
    (r"(mlps\.\d|prediction_head)\.layers\.0", r"\1.layers.1"),
    (r"(mlps\.\d|prediction_head)\.proj_in", r"\1.layers.0"),
    (r"(mlps\.\d|prediction_head)\.proj_out", r"\1.layers.2"),
)
_VIT_TO_META = (
    (r"^patch_embed\.projection", "patch_embed.proj"),
    (r"^layers\.", "blocks."),
    (r"layer_norm(\d)", r"norm\1"),
)
_NECK = {"neck.conv1": "neck.0", "neck.layer_norm1": "neck.1", "neck.conv2": "neck.2",
         "neck.layer_norm2": "neck.3"}  # fmt: skip


def meta_names(model: Any) -> dict[str, Tensor]:
    """Return the tensors of transformers' SAM under Meta's names."""
    found = {}
    for name, tensor in model.state_dict().items():
        part, _, rest = name.partition(".")
        if part == "vision_encoder":
            for ours, theirs in _NECK.items():
                rest = re.sub(f"^{re.escape(ours)}\\.", f"{theirs}.", rest)
            found[f"image_encoder.{_replaced(rest, _VIT_TO_META)}"] = tensor
        elif part in {"prompt_encoder", "mask_decoder"}:
            found[f"{part}.{_replaced(rest, _TO_META)}"] = tensor
    return found


def mobile_sam(path: Path, model: Any) -> Any:
    """Save MobileSAM's names with a small TinyViT and the other parts of `model`; return it."""
    from napari_plimseg.models.promptable.sam_encoders import TinyVitEncoder

    encoder = randomised(
        TinyVitEncoder({
            "embed_dims": [8, 16, 16, 32], "depths": [1, 1, 2, 1], "num_heads": [2, 2, 4, 4],
            "window_sizes": [7, 3, 4, 3], "output_channels": WIDTH, "side": SIDE,
        })
    )  # fmt: skip
    tensors = {k: v for k, v in meta_names(model).items() if not k.startswith("image_encoder")}
    for name, tensor in encoder.state_dict().items():
        new = name.removeprefix("network.").replace(".conv.weight", ".c.weight")
        new = new.replace("patch_embed.conv1", "patch_embed.seq.0")
        new = new.replace("patch_embed.conv2", "patch_embed.seq.2")
        merging = re.match(r"stages\.(\d)\.downsample\.", new)
        if merging:  # MobileSAM merges at the end of the stage before
            new = f"layers.{int(merging[1]) - 1}.downsample.{new[merging.end() :]}"
        new = re.sub(r"^stages\.", "layers.", new)
        tensors[f"image_encoder.{new}"] = tensor
    for name in ("norm_head.weight", "norm_head.bias", "head.weight", "head.bias"):
        tensors[f"image_encoder.{name}"] = torch.zeros(3)
    torch.save(tensors, path)
    return encoder


def _replaced(name: str, rules: tuple[tuple[str, str], ...]) -> str:
    for pattern, text in rules:
        name = re.sub(pattern, text, name)
    return name

"""CLIP models of random weights and reduced size, in the layout of the hub."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file

from napari_plimseg.models.torchvision_compat import make_torchvision_importable

if TYPE_CHECKING:
    from pathlib import Path

TEXT = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
VIT = {"image_size": 64, "layers": 5, "width": 64, "head_width": 32, "patch_size": 16}
RESNET = {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None}
MEAN, STD = [0.7, 0.5, 0.7], [0.2, 0.25, 0.2]


def write_clip(folder: Path, vision: dict[str, Any], text: dict[str, Any], **more: Any) -> str:
    """Save a random CLIP as the hub has them, and return its name."""
    make_torchvision_importable()
    import open_clip

    folder.mkdir(parents=True, exist_ok=True)
    model = {"embed_dim": 16, "vision_cfg": vision, "text_cfg": text, **more}
    content = {"model_cfg": model, "preprocess_cfg": {"mean": MEAN, "std": STD}}
    (folder / "open_clip_config.json").write_text(json.dumps(content))
    torch.manual_seed(0)
    network = open_clip.create_model(
        f"local-dir:{folder}", load_weights=False, pretrained_text=False
    )
    state = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    save_file(state, folder / "open_clip_model.safetensors")
    return f"local-dir:{folder}"

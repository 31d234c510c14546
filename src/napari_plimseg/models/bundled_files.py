"""Where the shipped models lie; light, so that a list of models needs no torch."""

from __future__ import annotations

import importlib.resources
from pathlib import Path

CONFIG_FILE = "open_clip_config.json"
WEIGHTS_FILE = "open_clip_model.safetensors"
TOKENIZER_FILE = "tokenizer.json"
TISSUE_FILE = "tissue.safetensors"


def bundled_folder() -> Path:
    """Return the folder of the shipped weights."""
    return Path(str(importlib.resources.files("napari_plimseg.models") / "bundled"))

"""A folder of discs to give hints for, and a recipe that trains on it in seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from plimseg_training.promptable.config import HintRecipe

if TYPE_CHECKING:
    from pathlib import Path

SIDE = 64
MPP = 0.62


def disc(side: int, y: float, x: float, radius: float) -> np.ndarray:
    rows, columns = np.mgrid[:side, :side] + 0.5
    return (rows - y) ** 2 + (columns - x) ** 2 < radius**2


def glands(root: Path, images: int = 4) -> Path:
    """A GlaS folder with two touching discs an image, told apart by `instances` only."""
    rows = ["name,patient_id"]
    for name in ("img", "masks", "instances"):
        (root / name).mkdir(parents=True)
    for i in range(1, images + 1):
        random = np.random.default_rng(i)
        labels = np.zeros((96, 96), np.uint8)
        labels[disc(96, 30, 44, 14)] = 1
        labels[disc(96, 58, 44, 14)] = 2
        pixels = random.integers(200, 240, (96, 96, 3), dtype=np.uint8)
        pixels[labels > 0] = (90, 20, 120)
        Image.fromarray(pixels).save(root / "img" / f"train_{i}.png")
        Image.fromarray((labels > 0).astype(np.uint8)).save(root / "masks" / f"train_{i}.png")
        Image.fromarray(labels).save(root / "instances" / f"train_{i}.png")
        rows.append(f"train_{i},{i}")
    (root / "Grade.csv").write_text("\n".join(rows) + "\n")
    return root


def recipe(folder: Path, **changes: Any) -> HintRecipe:
    content: dict[str, Any] = {
        "kind": "hints",
        "name": "discs",
        "data": {"train": str(folder), "layout": "glas", "validation_groups": ["patient 1"]},
        "objects": {"mpp": MPP, "leave_out": ["other tissue"], "views": 2},
        "model": {
            "start": "backbone:random:densenet121",
            "side": SIDE,
            "embed_dim": 32,
            "mlp_dim": 32,
        },
        "training": {"epochs": 2, "batch_size": 3, "learning_rate": 2e-3, "precision": "float32"},
        "device": "cpu",
    }
    for section, value in changes.items():
        known = content.get(section)
        content[section] = {**known, **value} if isinstance(known, dict) else value
    return HintRecipe.from_dict(content)

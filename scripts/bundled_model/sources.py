"""Locations and labels of the pictures used to train the shipped models."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

HELD_OUT_SHARE = 3  # of ten pictures of LC25000 and the osteosarcoma set

NCT_CLASSES = ("ADI", "BACK", "DEB", "LYM", "MUC", "MUS", "NORM", "STR", "TUM")
NCT_FOLDER = "nct-crc-samples/NCT-CRC-HE-100K"
KATHER_2016 = {
    "01_TUMOR": "TUM", "02_STROMA": "STR", "03_COMPLEX": "COMPLEX", "04_LYMPHO": "LYM",
    "05_DEBRIS": "DEB", "06_MUCOSA": "NORM", "07_ADIPOSE": "ADI", "08_EMPTY": "BACK",
}  # fmt: skip
LC25000 = {
    "colon_aca": "COLON_TUM", "colon_n": "COLON_NORM",
    "lung_aca": "LUNG_TUM", "lung_n": "LUNG_NORM", "lung_scc": "LUNG_SCC",
}  # fmt: skip
OSTEOSARCOMA = {"Viable": "BONE_TUM", "Non-Viable-Tumor": "BONE_NEC", "Non-Tumor": "BONE_OTHER"}


def is_held_out(path: Path) -> bool:
    """Return whether a picture of LC25000 or the osteosarcoma set is held out for testing."""
    return zlib.crc32(path.name.encode()) % 10 < HELD_OUT_SHARE


def read_rgb(path: Path) -> NDArray[np.uint8]:
    return np.asarray(Image.open(path).convert("RGB"))


def blank_glass() -> Iterator[NDArray[np.uint8]]:
    """Yield pictures of empty glass in the shades of different scanners."""
    random = np.random.default_rng(0)
    for shade in range(214, 256, 3):
        tint = random.integers(-3, 4, 3)
        noise = random.normal(0, random.uniform(0, 3), (320, 320, 3))
        yield np.clip(shade + tint + noise, 0, 255).astype(np.uint8)

"""Write the sample slide of colorectal tissue tiles.

    python scripts/build_samples.py DATA

DATA holds `nct-crc-samples/CRC-VAL-HE-7K`, one folder of tiles per class (Kather et al., CC BY
4.0). The first five tiles of each of its seven classes become the rows of a slide of 0.5 um per
pixel; a table beside it says which class is where.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
import tifffile

from napari_plimseg._sample_data import COLORECTAL_TILES
from plimseg_training.data import read_rgb

SIDE, PER_CLASS, MPP = 224, 5, 0.5
CLASSES = {
    "TUM": "tumour epithelium",
    "NORM": "normal mucosa",
    "STR": "stroma",
    "LYM": "lymphocytes",
    "MUS": "muscle",
    "MUC": "mucus",
    "ADI": "adipose",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    options = parser.parse_args()
    root = options.data / "nct-crc-samples" / "CRC-VAL-HE-7K"
    pixels = np.full((SIDE * len(CLASSES), SIDE * PER_CLASS, 3), 255, np.uint8)
    rows = []
    for row, (folder, name) in enumerate(CLASSES.items()):
        for column, path in enumerate(sorted((root / folder).iterdir())[:PER_CLASS]):
            y, x = row * SIDE, column * SIDE
            pixels[y : y + SIDE, x : x + SIDE] = read_rgb(path)
            rows.append((y, x, SIDE, name, path.name))
    per_centimeter = (10_000 / MPP, 10_000 / MPP)
    tifffile.imwrite(
        COLORECTAL_TILES.path, pixels, tile=(256, 256), photometric="rgb", compression="jpeg",
        compressionargs={"level": 88}, resolution=per_centimeter, resolutionunit="CENTIMETER",
    )  # fmt: skip
    with COLORECTAL_TILES.path.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("y", "x", "side", "class", "file"))
        writer.writerows(rows)


if __name__ == "__main__":
    main()

"""Tell an existing model file what its training tissue looked like, without training it again.

    python scripts/add_familiarity.py MODEL IMAGE_OR_FOLDER... [--mpp 0.5]

The images are those that the model was trained on; other parts of the file stay as they are.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from napari_plimseg.models import FAMILIARITY, Familiarity, load_model_file, save_model

ENDINGS = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp"}
MOST_IMAGES = 400


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("images", type=Path, nargs="+", help="training images or their folders")
    parser.add_argument("--mpp", type=float, help="of the images; by default that of the model")
    options = parser.parse_args()
    torch.set_num_threads(1)
    paths = [
        path
        for given in options.images
        for path in (sorted(given.rglob("*")) if given.is_dir() else [given])
        if path.suffix.lower() in ENDINGS
    ]
    chosen = paths[:: 1 + len(paths) // MOST_IMAGES]
    header, tensors = load_model_file(options.model)
    factor = (options.mpp or header.mpp) / header.mpp
    images = []
    for path in chosen:
        with Image.open(path) as opened:
            size = (round(opened.width * factor), round(opened.height * factor))
            images.append(np.array(opened.convert("RGB").resize(size, Image.Resampling.BILINEAR)))
    found = Familiarity.fitted(images)
    if found is None:
        raise SystemExit("There are too few images with tissue.")
    network = {**header.network, "familiarity": found.to_dict()}
    tensors |= {FAMILIARITY + name: part for name, part in found.tensors().items()}
    save_model(options.model, replace(header, network=network), tensors)
    print(f"{options.model.name}: {len(images)} images, limit {found.limit:.2f}")


if __name__ == "__main__":
    main()

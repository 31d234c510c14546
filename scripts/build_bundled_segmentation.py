"""Train a segmentation model of nine colorectal tissues from image-level tags only.

    python scripts/build_bundled_segmentation.py --data DATA --work WORK --out tissue.safetensors

Composes mosaics of tiles with one tag each, trains `training/recipes/bundled_colorectal.yaml` on
them and writes the head; the encoder is that of the shipped image-text model. The same seed on the
same machine gives the same mosaics. docs/models.md describes DATA.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import torch
from bundled_model.mosaics import tiles, write_folder

from napari_plimseg.models import load_model_file, save_model
from napari_plimseg.tissue import COLORECTAL
from plimseg_training.config import load_recipe
from plimseg_training.pipeline import train_recipe

ROOT = Path(__file__).resolve().parent.parent
RECIPE = ROOT / "training" / "recipes" / "bundled_colorectal.yaml"
TITLE = "Colorectal tissue, from tags"
LICENSE = "BSD-3-Clause; trained on CC-BY 4.0 data (Kather et al.); research use"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of training data")
    parser.add_argument("--out", type=Path, required=True, help="model file to write")
    parser.add_argument(
        "--work", type=Path, required=True, help="folder for mosaics and run; resumed if it exists"
    )
    parser.add_argument(
        "--mosaics",
        type=int,
        nargs=2,
        default=(192, 24),
        help="numbers of training and held-out mosaics",
    )
    parser.add_argument("--lc25000", action="store_true", help="add tiles with two tags each")
    parser.add_argument("--set", nargs="*", default=[], help="recipe settings KEY=VALUE")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)  # reproducible sums
    folder, run = options.work / "mosaics", options.work / "run"
    training, held = tiles(options.data, lc25000=options.lc25000)
    write_folder(folder, training, held, tuple(options.mosaics), options.seed)
    recipe = load_recipe(RECIPE).override([f"data.train={folder}", *options.set])
    recipe = replace(recipe, seed=options.seed)
    trained = train_recipe(
        recipe, run, on_event=lambda event: event.message and print(event.message, flush=True)
    )
    header, tensors = load_model_file(trained)
    # training tags glass like a tissue, but users of the model expect a background class
    shipped = replace(header, classes=COLORECTAL, title=TITLE, license=LICENSE)
    save_model(options.out, shipped, tensors)
    print(f"wrote {options.out}: {options.out.stat().st_size / 1e6:.1f} MB")
    print(json.dumps(dict(header.scores)))


if __name__ == "__main__":
    main()

"""Train the shipped model of the skin sample from the tags of its tiles.

    python scripts/build_skin_model.py WORK            # train and write the shipped model
    python scripts/build_skin_model.py WORK --strips   # measure models that lack a strip

The tags are in `src/napari_plimseg/sample/skin_tags.csv`: 88 tiles of 256 px, each tagged with what
covers about a twentieth of it or more. With --strips a model is trained for each of five strips of
the slide, from the tiles of the others, and a class counts as found in a tile of the strip when the
mask gives it a twentieth of the tile. One training takes about five minutes on one core.
"""

from __future__ import annotations

import argparse
import csv
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from napari_plimseg._sample_data import SKIN
from napari_plimseg.models import (
    BACKBONE,
    SCALE_SUFFIX,
    load_model,
    load_model_file,
    quantized,
    save_model,
)
from napari_plimseg.models.encoders import SKIN_FILE, bundled_folder
from napari_plimseg.slides import open_slide
from plimseg_training.config import Recipe, chosen_recipe
from plimseg_training.evaluation import predict_image
from plimseg_training.pipeline import train_recipe

TAGS = SKIN.path.parent / "skin_tags.csv"
SIDE, MPP, FOUND = 256, 0.499, 0.05
STRIPS = ((0, 1), (2, 3), (4, 5), (6, 7), (8, 9, 10))
"""Rows of tiles that are left out together."""
CLASSES = {
    "classes": [
        {"name": "epidermis", "color": [125, 75, 190],
         "prompts": ["squamous epithelium", "epidermis", "keratinocytes"]},
        {"name": "keratin", "color": [235, 160, 30], "prompts": ["keratin", "stratum corneum"]},
        {"name": "dermis", "color": [225, 90, 120],
         "prompts": ["dermis", "collagen", "connective tissue"]},
        {"name": "glass", "color": [235, 235, 235], "prompts": ["background", "empty glass slide"]},
    ],
    "has_background": False,
}  # fmt: skip


def place_of(name: str) -> tuple[int, int]:
    """Return y and x of a tile from its name, `skin_y0512_x1024.png`."""
    _, y, x = Path(name).stem.split("_")
    return int(y[1:]), int(x[1:])


def write_tiles(out: Path, without: tuple[int, ...]) -> Path:
    """Cut the tagged tiles from the slide, without some rows of them, and write their tags."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    with TAGS.open(newline="") as file:
        header, *rows = list(csv.reader(file))
    kept = [row for row in rows if place_of(row[0])[0] // SIDE not in without]
    with open_slide(SKIN.path) as slide:
        for name, *_ in kept:
            Image.fromarray(slide.read_level(0, *place_of(name), SIDE, SIDE)).save(out / name)
    with (out / "tags.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *kept])
    return out


def recipe_for(tiles: Path) -> Recipe:
    """Return the default recipe for a folder of tiles without validation.

    Stage 1 sees the few tiles more often, or it does not learn the rare keratin.
    """
    settings = (
        "name=Skin sample from 88 tags", "data.validation_fraction=0", f"data.mpp={MPP}",
        "stage1.epochs=40", "pseudo_masks.ignore_margin=0.25", "stage2.steps=240",
        "stage2.epochs=4",
        # as the default recipe was when the shipped file was made
        "stage1.augment=none", "pseudo_masks.source=cams", "pseudo_masks.ignore_share=0",
        "matching.most_single_tags=1",
    )  # fmt: skip
    recipe = chosen_recipe(tiles).override(settings)
    data = recipe.to_dict()
    data["data"]["classes"] = CLASSES
    return Recipe.from_dict(data)


def trained(work: Path, without: tuple[int, ...] = ()) -> Path:
    """Train without some rows of tiles and return the model file."""
    tiles = write_tiles(work / "tiles", without)
    return train_recipe(recipe_for(tiles), work / "run")


def agreement(work: Path) -> None:
    """Print how often the tags of left-out tiles are found, and what else is, per class."""
    names = [str(c["name"]) for c in CLASSES["classes"]]  # type: ignore[index]
    counts = np.zeros((len(names), 3), int)  # tagged and found, tagged, found without a tag
    with TAGS.open(newline="") as file:
        tags = {r["file"]: [int(r[n]) for n in names] for r in csv.DictReader(file)}
    with open_slide(SKIN.path) as slide:
        pixels = slide.read_level(0, 0, 0, *slide.shape)
    for strip in STRIPS:
        model = load_model(trained(work / f"without_{strip[0]}", strip))
        top, end = strip[0] * SIDE, (strip[-1] + 1) * SIDE
        mask = predict_image(model, pixels[top:end], MPP).argmax(0)
        for name, tagged in tags.items():
            y, x = place_of(name)
            if y // SIDE in strip:
                tile = mask[y - top : y - top + SIDE, x : x + SIDE]
                shares = np.bincount(tile.ravel(), minlength=len(names)) / tile.size
                for row, (tag, share) in enumerate(zip(tagged, shares, strict=True)):
                    counts[row] += (tag and share >= FOUND, tag, not tag and share >= FOUND)
    print(f"{'class':12}{'tagged tiles':>14}{'found':>8}{'found without tag':>20}")
    for name, (found, tagged, more) in zip(names, counts, strict=True):
        print(f"{name:12}{tagged:>14}{found:>8}{more:>20}")


def write_shipped(made: Path, out: Path) -> None:
    """Write a model file with its encoder's kernels in 8 bits, which halves it."""
    header, tensors = load_model_file(made)
    for name in [n for n, t in tensors.items() if n.startswith(BACKBONE) and t.ndim == 4]:
        tensors[name], tensors[name + SCALE_SUFFIX] = quantized(tensors[name].float())
    save_model(out, header, tensors)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path, help="folder for tiles and training runs")
    parser.add_argument("--strips", action="store_true", help="measure instead of shipping")
    options = parser.parse_args()
    if options.strips:
        agreement(options.work)
        return
    write_shipped(trained(options.work / "all"), bundled_folder() / SKIN_FILE)


if __name__ == "__main__":
    main()

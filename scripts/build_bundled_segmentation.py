"""Train the shipped model of nine colorectal tissues.

    PYTHONPATH=scripts python scripts/build_bundled_segmentation.py --data DATA --work WORK \
        --out tissue.safetensors

Composes fields of tiles with tags and of outlined glands, and trains stage 2 of
`training/recipes/bundled_colorectal.yaml` on them. Each further round trains a new network on
fields of tiles labeled by the one before it, as far as their tags allow; the shipped model is that
of the first. An interrupted run continues where it was. docs/models.md describes DATA.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from bundled_model.fields import (
    colon_pieces,
    crypt_pieces,
    pt1_pieces,
    relabeled,
    tile_pieces,
    training_tiles,
    write_fields,
)
from torch.nn import functional as F

from napari_plimseg.models import (
    decoder_of,
    load_backbone,
    load_matcher,
    load_model,
    save_segmentation_model,
    segmentation_header,
)
from napari_plimseg.tissue import COLORECTAL
from plimseg_training.config import load_recipe
from plimseg_training.data import scan_folder
from plimseg_training.loop import train
from plimseg_training.stages import Encoders, Flip, Stage2Task, Targets, to_unit

if TYPE_CHECKING:
    from collections.abc import Callable

    from bundled_model.fields import Piece
    from numpy.typing import NDArray

    from plimseg_training.config import Recipe

ROOT = Path(__file__).resolve().parent.parent
RECIPE = ROOT / "training" / "recipes" / "bundled_colorectal.yaml"
TITLE = "Colorectal tissue"
LICENSE = (
    "BSD-3-Clause; trained on data under CC-BY 4.0 (Kather et al.) and MIT (pT1 glands) and on "
    "LC25000, free for AI research; research use"
)
COUNTS = {"mosaic": 240, "glands": 90, "colon": 120}
LEAST = 0.6  # probability of a relabeled pixel


def words_of() -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    """Return the text model's probabilities (9, H, W) of pixels, in a white frame."""
    model = load_model()

    def words(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        height, width = pixels.shape[:2]
        halo, step = model.halo, model.alignment
        pad = ((halo, halo + -height % step), (halo, halo + -width % step), (0, 0))
        framed = np.pad(pixels, pad, mode="symmetric")
        found = model.probabilities(torch.from_numpy(framed)[None])
        fine = F.interpolate(found, scale_factor=model.mask_stride, mode="bilinear")
        return fine[0, :, halo : halo + height, halo : halo + width].numpy()

    return words


def seen_by(task: Stage2Task, views: int = 4) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    """Return a network's probabilities (9, H, W) of pixels, the mean of turned views."""
    network = task.network.eval()

    @torch.inference_mode()
    def seen(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        height, width = pixels.shape[:2]
        pad = ((0, -height % 32), (0, -width % 32), (0, 0))
        image = to_unit(np.pad(pixels, pad, mode="symmetric"))[None]
        total = torch.zeros(len(COLORECTAL), *image.shape[2:])
        for number in range(views):
            flip = Flip(bool(number & 1), bool(number & 2), bool(number & 4))
            logits = network.head(network.backbone(flip.maps(image)))
            size = flip.maps(image).shape[2:]
            fine = F.interpolate(logits, size, mode="bilinear", align_corners=False)
            total += flip.undone(fine[0].softmax(0))
        return (total / views)[:, :height, :width].numpy()

    return seen


def first_pieces(data: Path) -> list[Piece]:
    """Return the pieces of the first round: tiles as words see them, and outlined glands."""
    pieces = list(tile_pieces(training_tiles(data), words_of()))
    return [*pieces, *pt1_pieces(data), *crypt_pieces(data)]


def training_images(data: Path) -> list[NDArray[np.uint8]]:
    """Return the pictures (H, W, 3) of tissue that the model learns from, at its pixel size."""
    tiles = [tile.pixels for tile in training_tiles(data) if tile.tags != ("BACK",)]
    sources = (pt1_pieces(data), crypt_pieces(data), colon_pieces(data))
    return [*tiles, *(piece.pixels for source in sources for piece in source)]


def task_of(recipe: Recipe, folder: Path, number: int) -> Stage2Task:
    """Return stage 2 on the fields of a folder."""
    classes = recipe.data.tissue_classes()
    images = scan_folder(folder, classes=classes, layout="csv").raise_if_fatal()
    device = torch.device("cpu")
    encoders = Encoders(load_backbone("small"), load_matcher("bundled"), None, None, device)
    return Stage2Task(
        recipe, images, None, encoders.for_stage2(recipe), Targets(folder / "classes"),
        f"stage2_round{number}",
    )  # fmt: skip


def trained(recipe: Recipe, pieces: list[Piece], work: Path, number: int) -> Stage2Task:
    """Train a network on fields of some pieces."""
    folder = work / f"fields_{number}"
    if not (folder / "tags.csv").is_file():
        write_fields(folder, pieces, COUNTS, recipe.seed, number)
    task = task_of(recipe, folder, number)
    train(
        task, recipe.stage2, work, seed=recipe.seed, device="cpu", recipe=recipe,
        on_event=lambda event: event.message and print(event.message, flush=True),
    )  # fmt: skip
    return task


def save(path: Path, task: Stage2Task, recipe: Recipe) -> None:
    """Write the model file."""
    network = task.network
    header = segmentation_header(
        network.backbone,
        # training tags glass like a tissue, but users of the model expect a background class
        COLORECTAL,
        width=network.head.width, decoder=decoder_of(network.head), mpp=task.folder.mpp or 0.5,
        patch_size=task.stage.crop, backbone_inside=True, title=TITLE, license=LICENSE,
        surroundings=recipe.surroundings.for_classes(COLORECTAL),
    )  # fmt: skip
    save_segmentation_model(path, header, network.backbone, network.head)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of training data")
    parser.add_argument("--out", type=Path, required=True, help="model file to write")
    parser.add_argument("--work", type=Path, required=True, help="folder for fields and runs")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--set", nargs="*", default=[], help="recipe settings KEY=VALUE")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)  # reproducible sums
    recipe = replace(load_recipe(RECIPE).override(options.set), seed=options.seed)
    options.work.mkdir(parents=True, exist_ok=True)
    pieces = first_pieces(options.data)
    task = trained(recipe, pieces, options.work, 1)
    save(options.work / "round_1.safetensors", task, recipe)
    for number in range(2, options.rounds + 1):
        seen = seen_by(task)
        every = [*pieces, *colon_pieces(options.data)]
        labeled = [relabeled(piece, seen, LEAST) for piece in every]
        task = trained(recipe, labeled, options.work, number)
        save(options.work / f"round_{number}.safetensors", task, recipe)
    save(options.out, task, recipe)
    print(f"wrote {options.out}: {options.out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()

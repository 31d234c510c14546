"""A tagged folder of mosaics: pictures composed of tiles that each show one tissue.

A tile has one tag and no outlines. A mosaic shows several tissues side by side, so that there are
windows with one tag and with several, as in a user's own folder. Training only sees the tags; the
outlines of the pieces are stored for held-out mosaics only.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from bundled_model.sources import (
    KATHER_2016,
    LC25000,
    NCT_CLASSES,
    NCT_FOLDER,
    blank_glass,
    is_held_out,
    read_rgb,
)
from PIL import Image
from scipy import ndimage

from plimseg_training.data import class_fractions, window_grid
from plimseg_training.stages import stain_jitter, to_unit

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

CLASSES = {
    "TUM": "tumour epithelium", "NORM": "normal mucosa", "STR": "stroma", "LYM": "lymphocytes",
    "MUS": "muscle", "MUC": "mucus", "ADI": "adipose", "DEB": "debris and necrosis",
    "BACK": "empty glass",
}  # fmt: skip
ORDER = tuple(CLASSES)
TRAINING, HELD_OUT = "training", "held out"

SIDE = 448
WINDOW = 112  # pixels; windows are adjacent, and their edges are not those of the pieces
SMALLEST_SHARE = 0.05  # of a window that a piece must cover for its tags
BORDER = 32  # pixels by which borders are bent and shifted
KATHER_MPP, MPP = 0.495, 0.5
HELD_OUT_EVERY = 5


@dataclass(frozen=True)
class Tile:
    """Pixels (h, w, 3) of a picture, and its tissues as keys of `CLASSES`, main one first."""

    pixels: NDArray[np.uint8]
    tags: tuple[str, ...]


@dataclass(frozen=True)
class Mosaic:
    """A composed picture.

    `pieces` (SIDE, SIDE) is the index into `tiles` of each pixel.
    """

    pixels: NDArray[np.uint8]
    pieces: NDArray[np.uint8]
    tiles: tuple[Tile, ...]

    def windows(self) -> NDArray[np.int32]:
        """Return the windows (N, 4): y, x, height, width."""
        return window_grid(self.pieces.shape, WINDOW, WINDOW)

    def tags(self) -> list[list[str]]:
        """Return the tags of each window: those of all pieces that cover enough of it."""
        ids = (self.pieces + 1).astype(np.uint8)
        shares = class_fractions(ids, self.windows(), len(self.tiles))  # (N, tiles)
        shown = [[self.tiles[i] for i in np.flatnonzero(row >= SMALLEST_SHARE)] for row in shares]
        return [
            sorted({tag for tile in each for tag in tile.tags}, key=ORDER.index) for each in shown
        ]

    def truth(self) -> NDArray[np.uint8]:
        """Return mask ids of the pieces' main tissue."""
        ids = np.array([ORDER.index(tile.tags[0]) + 1 for tile in self.tiles], np.uint8)
        return ids[self.pieces]


def tiles(data: Path, *, lc25000: bool = False) -> tuple[list[Tile], list[Tile]]:
    """Return training tiles, and every fifth tile of each folder as held out for tuning."""
    training: list[Tile] = []
    held: list[Tile] = []
    folders = [(data / NCT_FOLDER / name, name) for name in NCT_CLASSES]
    kather = data / "kather2016-samples"
    folders += [(kather / folder, name) for folder, name in KATHER_2016.items()]
    for folder, name in folders:
        if name in CLASSES:  # "COMPLEX" is not a single tissue
            for number, path in enumerate(sorted(folder.iterdir())):
                pixels = read_rgb(path)
                if folder.parent == kather:
                    size = tuple(round(side * KATHER_MPP / MPP) for side in pixels.shape[1::-1])
                    pixels = np.asarray(Image.fromarray(pixels).resize(size))
                part = training if number % HELD_OUT_EVERY else held
                part.append(Tile(pixels, (name,)))
    training += [Tile(pixels, ("BACK",)) for pixels in blank_glass()]
    if lc25000:
        for folder_name in ("colon_aca", "colon_n"):
            tissue = LC25000[folder_name].removeprefix("COLON_")
            for path in sorted((data / "lc25000" / folder_name).iterdir()):
                if not is_held_out(path):
                    training.append(Tile(read_rgb(path), (tissue, "STR")))
    return training, held


def mosaic(tiles: Sequence[Tile], random: np.random.Generator) -> Mosaic:
    """Compose tiles, four large or sixteen small pieces, with equal odds for every class."""
    count = int(random.choice([2, 4]))  # pieces per side
    pieces = bent_grid(random, count)
    of_class = [[t for t in tiles if t.tags[0] == name] for name in ORDER]
    of_class = [group for group in of_class if group]
    pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
    chosen = []
    for piece in range(count * count):
        group = of_class[int(random.integers(len(of_class)))]
        tile = group[int(random.integers(len(group)))]
        chosen.append(tile)
        here = pieces == piece
        if here.any():
            ys, xs = (slice(int(a.min()), int(a.max()) + 1) for a in np.nonzero(here))
            shown = _shown(tile.pixels, (ys.stop - ys.start, xs.stop - xs.start), random)
            pixels[ys, xs][here[ys, xs]] = shown[here[ys, xs]]
    return Mosaic(pixels, pieces, tuple(chosen))


def bent_grid(random: np.random.Generator, count: int) -> NDArray[np.uint8]:
    """Return the index of each pixel's cell, (SIDE, SIDE), in a grid of count x count cells."""
    cell = SIDE // count
    moved = _moved(random, min(BORDER, cell // 4))  # (2, SIDE, SIDE)
    rows, columns = (moved // cell).astype(int).clip(0, count - 1)
    return (rows * count + columns).astype(np.uint8)


def _moved(random: np.random.Generator, reach: int) -> NDArray[np.float64]:
    """Return the source of each pixel, (2, SIDE, SIDE): shifted, and half the time bent."""
    places = np.indices((SIDE, SIDE)).astype(float)
    places += random.uniform(-reach, reach, (2, 1, 1))
    if random.random() < 0.5:
        noise = ndimage.gaussian_filter(random.normal(size=(2, SIDE, SIDE)), (0, 24, 24))
        places += noise * (reach / np.abs(noise).max())
    return places


def _shown(
    pixels: NDArray[np.uint8], size: tuple[int, int], random: np.random.Generator
) -> NDArray[np.uint8]:
    """Return a tile of a size, rotated and cropped at random, as if from another laboratory."""
    pixels = np.rot90(pixels, int(random.integers(4)))
    pixels = pixels[:, ::-1] if random.random() < 0.5 else pixels
    lacking = [max(0, wanted - had) for wanted, had in zip(size, pixels.shape, strict=False)]
    pixels = np.pad(pixels, ((0, lacking[0]), (0, lacking[1]), (0, 0)), mode="symmetric")
    y, x = (
        int(random.integers(0, had - wanted + 1))
        for wanted, had in zip(size, pixels.shape, strict=False)
    )
    cut = np.ascontiguousarray(pixels[y : y + size[0], x : x + size[1]])
    changed = stain_jitter(stain_jitter(to_unit(cut), random), random)
    shown: NDArray[np.uint8] = (changed * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    return shown


def write_folder(
    folder: Path, training: Sequence[Tile], held: Sequence[Tile], counts: tuple[int, int], seed: int
) -> None:
    """Write mosaics of both parts, and their tags as `tags.csv`.

    Parameters
    ----------
    folder : Path
    training, held : sequence of Tile
    counts : tuple of int
        Numbers of training and of held-out mosaics.
    seed : int
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "truth").mkdir(exist_ok=True)
    with (folder / "tags.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file", "group", "truth", "mpp", "y", "x", "height", "width", "tags"])
        for part, (group, source) in enumerate(((TRAINING, training), (HELD_OUT, held))):
            for number in range(counts[part]):
                made = mosaic(source, np.random.default_rng((seed, part, number)))
                name = f"{group.replace(' ', '-')}-{number:03d}.png"
                Image.fromarray(made.pixels).save(folder / name)
                truth = ""
                if group == HELD_OUT:
                    truth = f"truth/{name}"
                    Image.fromarray(made.truth()).save(folder / truth)
                for window, tags in zip(made.windows(), made.tags(), strict=True):
                    words = "+".join(CLASSES[tag] for tag in tags)
                    table.writerow([name, group, truth, MPP, *window, words])

"""Training fields of the colorectal segmentation model: composed pictures with class maps.

Pieces are tiles with one or two tags, crops of single glands with their outlines, and tiles with
outlined crypts. A field is a mosaic of pieces of all tissues, a group of glands on tissue without
glands, or colon tiles side by side. Class maps hold indices into `mosaics.ORDER`, or `IGNORED`.
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from bundled_model.mosaics import CLASSES, MPP, ORDER, SIDE, Tile, bent_grid, tiles
from bundled_model.sources import LC25000, is_held_out, read_rgb
from hint_model.crypts import OUTLINES
from PIL import Image, ImageDraw
from scipy import ndimage

from plimseg_training.stages import IGNORED, stain_jitter, to_unit, write_pseudo_mask

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

TUMOR, NORMAL, STROMA = (ORDER.index(name) for name in ("TUM", "NORM", "STR"))
OTHER = -2
"""Class of unlabeled pixels, until a network labels them; IGNORED in training."""

# what a pixel of a tile with a tag may be; tiles of all other tags show one tissue
ALLOWED = {
    "TUM": ("TUM", "STR", "BACK"), "NORM": ("NORM", "STR", "BACK"), "STR": ("STR",),
    "COLON_TUM": ("TUM", "STR", "MUC", "BACK"), "COLON_NORM": ("NORM", "STR", "BACK"),
}  # fmt: skip
PT1_SCALE = 0.86  # to 0.5 um/px, so that normal glands are as large as those of other sources
COLON_SCALE = 1.1  # likewise for LC25000
PT1_HELD_OUT = ("img4", "img12")
CRYPTS_HELD_OUT_EVERY = 5
RIM, BAND = 2, 20  # pixels around an outline: ignored, and then taken for stroma
SMALLEST_REGION = 1000  # pixels
KINDS = ("mosaic", "glands", "colon")


@dataclass(frozen=True)
class Piece:
    """Pixels and what is known about them.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (H, W, 3)
    classes : ndarray of int16, shape (H, W)
        Indices into `ORDER`, IGNORED, or OTHER where a network has to label.
    tag : str
        Main tissue, a key of `CLASSES`.
    allowed : tuple of str
        Keys of `CLASSES` that a network may assign.
    source : str
        Data set.
    group : str
        Stain group: pieces of one slide or data set.
    """

    pixels: NDArray[np.uint8]
    classes: NDArray[np.int16]
    tag: str
    allowed: tuple[str, ...]
    source: str
    group: str = ""


def scaled(pixels: NDArray[np.uint8], factor: float, *, nearest: bool = False) -> NDArray[np.uint8]:
    size = tuple(max(1, round(side * factor)) for side in pixels.shape[1::-1])
    how = Image.Resampling.NEAREST if nearest else Image.Resampling.LANCZOS
    return np.asarray(Image.fromarray(pixels).resize(size, how))


def tile_pieces(
    tiles: Sequence[Tile], words: Callable[[NDArray[np.uint8]], NDArray[np.float32]]
) -> Iterator[Piece]:
    """Yield tiles of one tag each; where two tissues are possible, words locate the main one.

    Parameters
    ----------
    tiles : sequence of Tile
    words : callable
        From pixels to the text model's probabilities (9, H, W).
    """
    for tile in tiles:
        tag = tile.tags[0]
        allowed = ALLOWED.get(tag, (tag,))
        classes = np.full(tile.pixels.shape[:2], ORDER.index(tag), np.int16)
        if len(allowed) > 1:
            chances = gated(words(tile.pixels), allowed)
            sure = chances.max(0) > (0.8 if tag == "NORM" else 0.6)
            # words do not separate crypts from the stroma between them
            known = sure & (chances.argmax(0) != STROMA) if tag == "NORM" else sure
            classes = np.where(known, chances.argmax(0), OTHER).astype(np.int16)
        elif tag in ("STR", "LYM", "MUS", "DEB"):
            classes[is_white(tile.pixels)] = IGNORED
        yield Piece(tile.pixels, classes, tag, allowed, "tiles")


def is_white(pixels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    smooth = ndimage.uniform_filter(pixels.astype(np.float32), (5, 5, 0))
    white: NDArray[np.bool_] = (smooth.min(2) > 205) & (np.ptp(smooth, axis=2) < 22)
    return white


def gated(chances: NDArray[np.float32], allowed: Sequence[str]) -> NDArray[np.float32]:
    """Return probabilities (9, H, W) with only some classes allowed."""
    left = np.zeros_like(chances)
    chosen = [ORDER.index(name) for name in allowed]
    left[chosen] = chances[chosen]
    shares: NDArray[np.float32] = left / left.sum(0).clip(1e-6)
    return shares


def outlined(inside: NDArray[np.bool_], tissue: int) -> NDArray[np.int16]:
    """Return classes: the gland, an ignored rim, stroma in a band around it, and unlabeled."""
    away = ndimage.distance_transform_edt(~inside) if inside.any() else np.full(inside.shape, 1e3)
    within = ndimage.distance_transform_edt(np.pad(inside, 1, mode="edge"))[1:-1, 1:-1]
    classes = np.full(inside.shape, OTHER, np.int16)
    classes[(away > 0) & (away <= BAND)] = STROMA
    classes[inside] = tissue
    classes[((away > 0) & (away <= RIM)) | (inside & (within <= RIM))] = IGNORED
    return classes


def pt1_pieces(data: Path, *, held_out: bool = False) -> Iterator[Piece]:
    """Yield crops of single glands, normal or dysplastic, of the pT1 set (MIT)."""
    for path in sorted((data / "pt1-glands").glob("img*/*-image.jpg")):
        if (path.parent.name in PT1_HELD_OUT) != held_out:
            continue
        tag = "TUM" if "abnormal" in path.name else "NORM"
        with Image.open(str(path).replace("-image.jpg", "-gt.png")) as opened:
            mask = scaled(np.asarray(opened.convert("L")), PT1_SCALE, nearest=True) > 0
        pixels = scaled(read_rgb(path), PT1_SCALE)
        classes = outlined(mask, ORDER.index(tag))
        classes[(classes == STROMA) & is_white(pixels)] = OTHER
        yield Piece(pixels, classes, tag, (tag, "STR", "BACK"), "pt1", f"{path.parent.name} {tag}")


def crypt_pieces(data: Path, *, held_out: bool = False) -> Iterator[Piece]:
    """Yield tiles of normal colon of LC25000 whose crypts the developers have outlined."""
    for number, (name, lines) in enumerate(json.loads(OUTLINES.read_text("utf-8")).items()):
        path = data / "lc25000" / "colon_n" / name
        if held_out != (number % CRYPTS_HELD_OUT_EVERY == 0):
            continue
        pixels = read_rgb(path)
        drawn = Image.new("L", pixels.shape[1::-1])
        for line in lines:
            ImageDraw.Draw(drawn).polygon([(x, y) for x, y in line], fill=255)
        inside = scaled(np.asarray(drawn), COLON_SCALE, nearest=True) > 0
        yield Piece(
            scaled(pixels, COLON_SCALE), outlined(inside, NORMAL), "NORM",
            ALLOWED["COLON_NORM"], "colon",
        )  # fmt: skip


def colon_pieces(data: Path, *, held_out: bool = False) -> Iterator[Piece]:
    """Yield unlabeled tiles of LC25000's colon: nothing is known but their tags."""
    outlines = json.loads(OUTLINES.read_text("utf-8"))
    for folder in ("colon_aca", "colon_n"):
        kind = LC25000[folder]
        for path in sorted((data / "lc25000" / folder).iterdir()):
            if is_held_out(path) == held_out and path.name not in outlines:
                pixels = scaled(read_rgb(path), COLON_SCALE)
                classes = np.full(pixels.shape[:2], OTHER, np.int16)
                yield Piece(pixels, classes, kind.removeprefix("COLON_"), ALLOWED[kind], "colon")


def relabeled(
    piece: Piece, seen: Callable[[NDArray[np.uint8]], NDArray[np.float32]], least: float
) -> Piece:
    """Return a piece whose unlabeled pixels have the class that a network sees, if it is sure.

    Small regions get the class around them, so that the next network learns no speckles.
    """
    if not (piece.classes == OTHER).any():
        return piece
    chances = gated(seen(piece.pixels), piece.allowed)
    best = without_small(chances.argmax(0))
    sure = np.take_along_axis(chances, best[None], 0)[0] >= least
    sure |= best != chances.argmax(0)
    found = np.where(sure, best, IGNORED).astype(np.int16)
    return replace(piece, classes=np.where(piece.classes == OTHER, found, piece.classes))


def without_small(classes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return classes (H, W) where regions below `SMALLEST_REGION` pixels are those around them."""
    small = np.zeros(classes.shape, bool)
    for index in np.unique(classes):
        labels, _ = ndimage.label(classes == index)
        sizes = np.bincount(labels.ravel())
        small |= (sizes < SMALLEST_REGION)[labels] & (labels > 0)
    if small.all() or not small.any():
        return classes
    nearest = ndimage.distance_transform_edt(small, return_distances=False, return_indices=True)
    return classes[tuple(nearest)]


Field = tuple["NDArray[np.uint8]", "NDArray[np.int16]"]


def _turned(piece: Piece, random: np.random.Generator) -> Field:
    turns, mirrored = int(random.integers(4)), random.random() < 0.5
    pixels, classes = np.rot90(piece.pixels, turns), np.rot90(piece.classes, turns)
    return (pixels[:, ::-1], classes[:, ::-1]) if mirrored else (pixels, classes)


def _stained(pixels: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    seed = int(random.integers(2**31))
    changed = to_unit(np.ascontiguousarray(pixels))
    for number in range(2):
        changed = stain_jitter(changed, np.random.default_rng((seed, number)))
    stained: NDArray[np.uint8] = (changed * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    return stained


def _cut(
    pixels: NDArray[np.uint8], classes: NDArray[np.int16], size: tuple[int, int],
    random: np.random.Generator,
) -> Field:  # fmt: skip
    """Return a random crop of a size; what is too small is mirrored."""
    lacking = [max(0, wanted - had) for wanted, had in zip(size, classes.shape, strict=True)]
    pad = ((0, lacking[0]), (0, lacking[1]))
    pixels = np.pad(pixels, (*pad, (0, 0)), mode="symmetric")
    classes = np.pad(classes, pad, mode="symmetric")
    y, x = (
        int(random.integers(0, had - wanted + 1))
        for wanted, had in zip(size, classes.shape, strict=True)
    )
    return pixels[y : y + size[0], x : x + size[1]], classes[y : y + size[0], x : x + size[1]]


def mosaic_field(pieces: Sequence[Piece], random: np.random.Generator) -> Field:
    """Compose pieces with bent borders: every class equally often, and every source of it."""
    indices = bent_grid(random, int(random.choice([2, 2, 4])))
    pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
    classes = np.full((SIDE, SIDE), IGNORED, np.int16)
    for index in np.unique(indices):
        tag = ORDER[int(random.integers(len(ORDER)))]
        of_tag = [piece for piece in pieces if piece.tag == tag]
        sources = sorted({piece.source for piece in of_tag})
        source = sources[int(random.integers(len(sources)))]
        group = [piece for piece in of_tag if piece.source == source]
        _place(pixels, classes, indices == index, group[int(random.integers(len(group)))], random)
    return pixels, classes


def _place(
    pixels: NDArray[np.uint8], classes: NDArray[np.int16], here: NDArray[np.bool_],
    piece: Piece, random: np.random.Generator, zoom: float = 1.0,
) -> None:  # fmt: skip
    ys, xs = (slice(int(a.min()), int(a.max()) + 1) for a in np.nonzero(here))
    shown, known = _turned(piece, random)
    if zoom != 1:
        shown = scaled(np.ascontiguousarray(shown), zoom)
        rows, columns = (
            ((np.arange(n) + 0.5) * had / n).astype(int)
            for n, had in zip(shown.shape[:2], known.shape, strict=True)
        )
        known = known[np.ix_(rows, columns)]
    shown, known = _cut(shown, known, (ys.stop - ys.start, xs.stop - xs.start), random)
    inside = here[ys, xs]
    pixels[ys, xs][inside] = _stained(shown, random)[inside]
    classes[ys, xs][inside] = known[inside]


def colon_field(pieces: Sequence[Piece], random: np.random.Generator) -> Field:
    """Compose four colon tiles, half of the time of one kind, at one of several scales."""
    tags = ("TUM", "NORM")
    one = tags[int(random.integers(2))] if random.random() < 0.5 else None
    indices = bent_grid(random, 2)
    pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
    classes = np.full((SIDE, SIDE), IGNORED, np.int16)
    zoom = float(random.choice([0.8, 1.0, 1.0, 1.3]))
    for index in np.unique(indices):
        tag = one or tags[int(random.integers(2))]
        group = [p for p in pieces if p.source == "colon" and p.tag == tag]
        group = group or [p for p in pieces if p.source == "colon"]
        piece = group[int(random.integers(len(group)))]
        _place(pixels, classes, indices == index, piece, random, zoom)
    return pixels, classes


def gland_field(pieces: Sequence[Piece], random: np.random.Generator) -> Field:
    """Compose glands of one slide, of one kind, on stroma that is stained as theirs."""
    groups = sorted({piece.group for piece in pieces if piece.source == "pt1"})
    group = groups[int(random.integers(len(groups)))]
    glands = [piece for piece in pieces if piece.group == group]
    # lymphocytes around glands are rarer than stroma
    wanted = ["LYM" if random.random() < 0.15 else "STR" for _ in pieces]
    of_tiles = [(p, tag) for p, tag in zip(pieces, wanted, strict=True) if p.source == "tiles"]
    beds = [p for p, tag in of_tiles if p.tag == tag] or [p for p, _ in of_tiles if p.tag == "STR"]
    bed = beds[int(random.integers(len(beds)))]
    pixels, classes = _cut(*_turned(bed, random), (SIDE, SIDE), random)
    pixels, classes = _matched(pixels, glands), classes.copy()
    taken = np.zeros((SIDE, SIDE), bool)
    for _ in range(40):
        gland = glands[int(random.integers(len(glands)))]
        shown, known = _turned(gland, random)
        y, x = (int(random.integers(-side // 2, SIDE - side // 2)) for side in known.shape)
        top, left = max(0, y), max(0, x)
        shown, known = (a[top - y : SIDE - y, left - x : SIDE - x] for a in (shown, known))
        away = ndimage.distance_transform_edt(known != ORDER.index(gland.tag))
        near = away <= 8
        area = (slice(top, top + known.shape[0]), slice(left, left + known.shape[1]))
        if not near.any() or (taken[area] & near).any():
            continue
        alpha = np.clip((9 - away) / 4, 0, 1)[..., None]
        pixels[area] = (alpha * shown + (1 - alpha) * pixels[area]).round()
        mixed = np.where(away <= 4, known, classes[area])
        classes[area] = np.where((away > 4) & (away <= 9), STROMA, mixed)
        taken[area] |= near
    return _stained(pixels, random), classes


def _matched(pixels: NDArray[np.uint8], glands: Sequence[Piece]) -> NDArray[np.uint8]:
    """Return pixels with the optical densities of the stroma around some glands."""
    around = np.concatenate([g.pixels[g.classes == STROMA] for g in glands])
    target = -np.log(around.astype(np.float32).clip(1) / 255)
    density = -np.log(pixels.astype(np.float32).clip(1) / 255)
    flat = density.reshape(-1, 3)
    moved = (density - flat.mean(0)) / flat.std(0).clip(1e-3) * target.std(0) + target.mean(0)
    matched: NDArray[np.uint8] = (255 * np.exp(-moved.clip(0))).round().astype(np.uint8)
    return matched


def field(pieces: Sequence[Piece], kind: str, random: np.random.Generator) -> Field:
    """Return one field of a kind: pixels and classes, IGNORED where unknown."""
    compose = {"mosaic": mosaic_field, "glands": gland_field, "colon": colon_field}[kind]
    pixels, classes = compose(pieces, random)
    return pixels, np.where(classes == OTHER, IGNORED, classes).astype(np.int16)


def write_fields(
    folder: Path, pieces: Sequence[Piece], counts: dict[str, int], seed: int, round_: int
) -> None:
    """Write fields, their tags as `tags.csv`, and their class maps into `classes`."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "tags.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file", "group", "mpp", "tags"])
        for part, (kind, count) in enumerate(counts.items()):
            for number in range(count):
                random = np.random.default_rng((seed, round_, part, number))
                pixels, classes = field(pieces, kind, random)
                name = f"{kind}-{number:03d}"
                Image.fromarray(pixels).save(folder / f"{name}.png", compress_level=1)
                (folder / "classes").mkdir(exist_ok=True)
                write_pseudo_mask(folder / "classes" / f"{name}.png", classes)
                found = np.unique(classes[classes >= 0])
                tags = "+".join(CLASSES[ORDER[int(i)]] for i in found)
                table.writerow([f"{name}.png", "training", MPP, tags])


def training_tiles(data: Path) -> list[Tile]:
    return tiles(data)[0]

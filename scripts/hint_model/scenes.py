"""Scenes of real tissue with exact outlines: the training data of the promptable model.

A scene is composed, at one pixel size, of tiles that each show one tissue: regions with curved
borders, and on them objects such as glands, follicles, vessels and pools, some with a lumen. The
pixels are real, and the outlines are known exactly. Real fields come from two slides whose terms
permit it, with connected regions of the bundled model's masks as objects.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from bundled_model.mosaics import ORDER, Tile
from PIL import Image
from scipy import ndimage

from napari_plimseg.inference import RunSettings, open_store, segment_slide
from napari_plimseg.models import load_model
from napari_plimseg.slides import open_slide
from plimseg_training.stages import stain_jitter

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

SIDE = 512  # pixels of a patch; a scene is twice as large, to contain the low-resolution field
TILE_MPP = 0.5
IDS_STEP = 2  # scene pixels per pixel of the ids
GLASS = ORDER.index("BACK")
GLASS_BRIGHTNESS = 205  # minimum mean of a glass tile, which excludes those with pen marks
# tissues of objects, and possible contents of their lumen
OBJECTS = {
    "TUM": ("BACK", "DEB", "MUC", "BACK"), "NORM": ("BACK", "MUC"), "LYM": (),
    "MUS": ("BACK", "DEB"), "ADI": (), "MUC": ("TUM",), "DEB": (), "STR": ("BACK",),
}  # fmt: skip
OBJECT_ODDS = (0.4, 0.2, 0.12, 0.06, 0.06, 0.06, 0.06, 0.04)


@dataclass(frozen=True)
class Scene:
    """A field at two resolutions, and the objects in it.

    Attributes
    ----------
    fine : ndarray of uint8, shape (SIDE, SIDE, 3)
        The center of the field.
    coarse : ndarray of uint8, shape (SIDE, SIDE, 3)
        The whole field at half the resolution.
    ids : ndarray of uint8, shape (layers, SIDE, SIDE)
        Objects of the whole field, 0 for none; objects of one layer don't overlap. A pixel covers
        `IDS_STEP` fine pixels per side, so that ids and `coarse` have the same size.
    source : str
        Name of its source.
    """

    fine: NDArray[np.uint8]
    coarse: NDArray[np.uint8]
    ids: NDArray[np.uint8]
    source: str


def scene_of(field: NDArray[np.uint8], ids: NDArray[np.uint8], source: str) -> Scene:
    """Return a scene from the pixels (2 * SIDE, 2 * SIDE, 3) of a field and its objects."""
    quarter = SIDE // 2
    fine = field[quarter : quarter + SIDE, quarter : quarter + SIDE]
    halved = field.reshape(SIDE, 2, SIDE, 2, 3).mean((1, 3))
    return Scene(np.ascontiguousarray(fine), halved.round().astype(np.uint8), ids, source)


def collage(tiles: Sequence[Tile], random: np.random.Generator) -> Scene:
    """Compose one scene."""
    side = 2 * SIDE
    mpp = float(random.choice([0.6, 1.0, 1.0, 1.0, 1.6]))
    tissues, layers = _layout(side, mpp, random)
    field = np.full((side, side, 3), 255, np.float32)
    of_tissue = [[tile for tile in tiles if tile.tags[0] == name] for name in ORDER]
    of_tissue[GLASS] = [tile for tile in of_tissue[GLASS] if tile.pixels.mean() > GLASS_BRIGHTNESS]
    for tissue in np.unique(tissues):
        field[tissues == tissue] = _texture(of_tissue[tissue], side, mpp, random)[tissues == tissue]
    soft = ndimage.gaussian_filter(field, (0.7, 0.7, 0))
    border = ndimage.morphological_gradient(tissues, size=3) > 0
    field[border] = soft[border]
    unit = torch.from_numpy(field / 255).permute(2, 0, 1).float().clamp(0, 1)
    pixels = (stain_jitter(unit, random) * 255).round().byte().permute(1, 2, 0).numpy()
    return scene_of(pixels, layers[:, ::IDS_STEP, ::IDS_STEP].copy(), "collage")


def _layout(
    side: int, mpp: float, random: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return the tissue of each pixel (index into `ORDER`) and the layers of objects."""
    regions, count = _regions(side, random)
    kinds = ("STR", "STR", "STR", "LYM", "MUS", "TUM", "NORM", "ADI", "BACK", "DEB")
    names = [str(random.choice(kinds)) for _ in range(count)]
    tissues = np.array([ORDER.index(name) for name in names], np.uint8)[regions]
    layers = np.zeros((3, side, side), np.uint8)
    layers[2] = np.array([0 if n == "BACK" else i + 1 for i, n in enumerate(names)])[regions]
    number = 0
    usual = float(random.uniform(18, 75))  # micrometers; objects of one field resemble each other
    for _ in range(int(random.integers(20, 160))):
        name = str(random.choice(list(OBJECTS), p=OBJECT_ODDS))
        radius = float(np.clip(usual * random.lognormal(0, 0.45), 10, 200)) / mpp
        blob, (y, x) = _blob(radius, random)
        top, left = (int(c) for c in random.integers(-len(blob) // 3, side - 2 * len(blob) // 3, 2))
        window, cut = _overlap(top, left, blob.shape, side)
        inside, here = blob[cut], layers[0][window]
        gap = ndimage.binary_dilation(inside, iterations=int(random.integers(1, 8)))
        under = tissues[window][inside]
        if not under.size or (here[gap] > 0).any() or (under == ORDER.index(name)).mean() > 0.3:
            continue
        number += 1
        if number > 250:
            break
        here[inside] = number
        tissues[window][inside] = ORDER.index(name)
        if OBJECTS[name] and radius * mpp > 20 and random.random() < 0.6:
            share = float(random.uniform(0.3, 0.7))
            depth = ndimage.distance_transform_edt(np.pad(blob, 1))[1:-1, 1:-1]
            lumen = (depth > (1 - share) * depth[y, x])[cut]
            tissues[window][lumen] = ORDER.index(str(random.choice(OBJECTS[name])))
            layers[1][window][lumen] = number
    return tissues, layers


def _regions(side: int, random: np.random.Generator) -> tuple[NDArray[np.intp], int]:
    """Return the index of each pixel's curved Voronoi cell, and the number of cells."""
    count = int(random.integers(1, 7))
    seeds = random.uniform(0, side, (count, 2))
    small = side // 4
    places = np.indices((small, small)).astype(float) * 4  # (2, small, small)
    bent = ndimage.gaussian_filter(random.normal(size=(2, small, small)), (0, 12, 12))
    places += bent * (random.uniform(10, 90) / np.abs(bent).max())
    away = ((places[:, None] - seeds.T[:, :, None, None]) ** 2).sum(0)  # (count, small, small)
    return away.argmin(0).repeat(4, 0).repeat(4, 1), count


def _blob(radius: float, random: np.random.Generator) -> tuple[NDArray[np.bool_], tuple[int, int]]:
    """Return a star-shaped outline, filled, and a pixel deep inside it."""
    stretch = float(random.lognormal(0, 0.3))
    turned = float(random.uniform(0, np.pi))
    half = int(radius * max(stretch, 1 / stretch) * 1.6) + 2
    y, x = np.mgrid[-half : half + 1, -half : half + 1].astype(np.float32)
    u = (x * np.cos(turned) + y * np.sin(turned)) / stretch
    v = (y * np.cos(turned) - x * np.sin(turned)) * stretch
    angle, edge = np.arctan2(v, u), np.ones_like(u)
    for wave in range(2, 8):
        size = float(random.normal(0, 0.22 / wave))
        edge += size * np.cos(wave * angle + float(random.uniform(0, 2 * np.pi)))
    filled = np.hypot(u, v) < radius * np.clip(edge, 0.4, 1.6)
    rows, columns = (np.flatnonzero(filled.any(axis)) for axis in (1, 0))
    cut = filled[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    depth = ndimage.distance_transform_edt(np.pad(cut, 1))[1:-1, 1:-1]
    deepest_y, deepest_x = np.unravel_index(depth.argmax(), depth.shape)
    return cut, (int(deepest_y), int(deepest_x))


def _overlap(
    top: int, left: int, shape: tuple[int, ...], side: int
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Return the slices of a field, and of an array at `top`, `left`, where both overlap."""
    window, cut = [], []
    for start, length in zip((top, left), shape, strict=True):
        first = max(start, 0)
        last = max(first, min(start + length, side))
        window.append(slice(first, last))
        cut.append(slice(first - start, last - start))
    return (window[0], window[1]), (cut[0], cut[1])


def _texture(
    tiles: Sequence[Tile], side: int, mpp: float, random: np.random.Generator
) -> NDArray[np.float32]:
    """Return (side, side, 3) pixels of one tissue: a tile and its mirror images, seamless."""
    tile = tiles[int(random.integers(len(tiles)))]
    piece = np.rot90(_shrunk(tile.pixels, TILE_MPP / mpp), int(random.integers(4)))
    whole = np.pad(piece, ((0, len(piece)), (0, len(piece)), (0, 0)), mode="symmetric")
    start = random.integers(len(whole), size=2)
    rows, columns = ((np.arange(side) + int(s)) % len(whole) for s in start)
    return whole[np.ix_(rows, columns)].astype(np.float32)


def _shrunk(pixels: NDArray[np.uint8], factor: float) -> NDArray[np.uint8]:
    height, width = (max(8, round(n * factor)) for n in pixels.shape[:2])
    side = min(height, width)
    return np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.BOX))


def fields(
    path: Path, mpp: float, work: Path, count: int, random: np.random.Generator
) -> Iterator[Scene]:
    """Yield fields of a real slide with connected regions of the bundled model's mask as objects.

    Parameters
    ----------
    path : Path
        Of the slide.
    mpp : float
        Its pixel size, where the file does not say.
    work : Path
        Folder for the mask.
    count : int
    random : Generator
    """
    with open_slide(path) as slide:
        slide.mpp = slide.mpp or mpp
        model, settings = load_model(), RunSettings()
        with open_store(slide, model, work / f"{path.name}.plimseg", settings=settings) as store:
            for _ in segment_slide(slide, model, store, settings=settings):
                pass
            mask, info = store.read_classes(), store.info
        ids = _connected(mask)
        for _ in range(count):
            downsample = float(random.choice([1.0, 1.0, 2.0])) / slide.mpp
            y, x = (int(random.uniform(0.1, 0.9) * n / downsample) - SIDE for n in slide.shape)
            pixels = slide.read_at(downsample, y, x, 2 * SIDE, 2 * SIDE)
            step = downsample * IDS_STEP / info.downsample
            rows, columns = (
                ((np.arange(SIDE) + start / IDS_STEP + 0.5) * step).astype(int) for start in (y, x)
            )
            known = np.outer(
                (rows >= 0) & (rows < ids.shape[0]), (columns >= 0) & (columns < ids.shape[1])
            )
            rows, columns = (
                np.clip(v, 0, n - 1) for v, n in zip((rows, columns), ids.shape, strict=True)
            )
            here = np.where(known, ids[np.ix_(rows, columns)], 0)
            present, small = np.unique(here, return_inverse=True)
            if 2 <= len(present) <= 250:
                layer = small.reshape(here.shape) + (present[0] != 0)
                yield scene_of(pixels, layer[None].astype(np.uint8), path.name)


def _connected(mask: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Return the connected regions of a mask's tissue classes, smoothed; 0 for none."""
    ids, number = np.zeros(mask.shape, np.int32), 0
    for tissue in range(1, GLASS + 1):
        smooth = ndimage.gaussian_filter((mask == tissue).astype(np.float32), 3) > 0.5
        labels, count = ndimage.label(smooth)
        sizes = ndimage.sum_labels(smooth, labels, range(1, count + 1))
        for label in np.flatnonzero(np.asarray(sizes) > 100) + 1:
            number += 1
            ids[labels == label] = number
    return ids

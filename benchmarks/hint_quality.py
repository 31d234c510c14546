"""Evaluate points and boxes on unseen glands; prints one table.

    PYTHONPATH=scripts python benchmarks/hint_quality.py --data DATA [--model NAME=FILE ...]

The glands are those of GlaS' train part of patients 3, 5 and 7 (docs/models.md describes DATA), of
at least 300 um2 and smaller than the picture. The score is the Dice of each gland in %, averaged
over glands: from its box, from the box with each side moved by up to 10 % and 20 % of its size, and
after 1, 2, 3 and 5 clicks, the first at its center and each further one at the center of the
largest error. The baselines are the box itself, and the largest ellipse in it. Several files with
the same NAME are seeds: the table shows mean and standard deviation.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from hint_model.outlined import GLAS_MPP, glas_pictures
from hint_model.training import correction, jittered
from PIL import Image
from scipy import ndimage

from napari_plimseg.inference import GRID, Hint, HintSession, PatchPair
from napari_plimseg.models import load_promptable_model
from napari_plimseg.slides import Region, open_slide

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

JITTERS = (0.0, 0.1, 0.2)
CLICKS = (1, 2, 3, 5)
COLUMNS = (*(f"box {100 * j:.0f} %" for j in JITTERS), *(f"{n} clicks" for n in CLICKS))
SMALLEST_UM2, LARGEST_SHARE = 300, 0.6


def dice(found: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    return 200 * float((found & truth).sum()) / max(1, int(found.sum() + truth.sum()))


def box_of(truth: NDArray[np.bool_]) -> tuple[float, float, float, float]:
    rows, columns = (np.flatnonzero(truth.any(axis)) for axis in (1, 0))
    return float(rows[0]), float(columns[0]), float(rows[-1]) + 1, float(columns[-1]) + 1


def region_of(box: tuple[float, float, float, float]) -> Region:
    return Region(box[0], box[1], box[2] - box[0], box[3] - box[1])


def filled(shape: tuple[int, int], box: Region, *, ellipse: bool) -> NDArray[np.bool_]:
    """Return the pixels of a box, or of the largest ellipse in it."""
    y, x = (np.arange(n) + 0.5 for n in shape)
    v = (y - box.y - box.height / 2) / (box.height / 2)
    u = (x - box.x - box.width / 2) / (box.width / 2)
    if ellipse:
        return np.add.outer(v**2, u**2) <= 1
    return np.logical_and.outer(np.abs(v) <= 1, np.abs(u) <= 1)


def glands_of(outlines: Path) -> list[NDArray[np.bool_]]:
    ids = np.asarray(Image.open(outlines))
    glands = [ids == number for number in np.unique(ids) if number]
    least = SMALLEST_UM2 / GLAS_MPP**2
    return [g for g in glands if least <= g.sum() <= LARGEST_SHARE * g.size]


def jittered_boxes(glands: list[NDArray[np.bool_]], amount: float, seed: int) -> list[Region]:
    random = np.random.default_rng(seed)
    boxes = []
    for gland in glands:
        boxes.append(region_of(jittered(box_of(gland), amount, random, gland.shape)))
    return boxes


def answers(session: HintSession, *, centered: bool) -> Callable[[list[Hint]], list[NDArray]]:
    """Return a function from prompts to masks, in pixels of the picture."""
    height, width = session.slide.shape
    rows, columns = np.arange(height) + 0.5, np.arange(width) + 0.5
    downsample = session.pair_for([Hint(points=((1, 1, True),))]).downsample
    side = session.model.side
    y, x = (round((n / downsample - side) / 2 / GRID) * GRID for n in (height, width))
    whole = PatchPair(y, x, downsample, side)

    def answer(hints: list[Hint]) -> list[NDArray[np.bool_]]:
        # one patch contains a picture of GlaS; encoding one per gland changes little
        masks = session.segment_each(hints) if centered else session._masks(whole, hints)
        return [mask.at(rows, columns) for mask in masks]

    return answer


def clicked(answer: Callable, glands: list[NDArray[np.bool_]]) -> dict[int, list[float]]:
    """Return the Dice of each gland after each number of clicks."""
    clicks: list[list[tuple[float, float, bool]]] = []
    for gland in glands:
        depth = ndimage.distance_transform_edt(np.pad(gland, 1))[1:-1, 1:-1]
        y, x = np.unravel_index(depth.argmax(), depth.shape)
        clicks.append([(y + 0.5, x + 0.5, True)])
    scores: dict[int, list[float]] = {}
    for count in range(1, max(CLICKS) + 1):
        masks = answer([Hint(points=tuple(own)) for own in clicks])
        scores[count] = [dice(mask, gland) for mask, gland in zip(masks, glands, strict=True)]
        for own, mask, gland in zip(clicks, masks, glands, strict=True):
            further = correction(gland & ~mask, mask & ~gland, 1)
            if further is not None:
                own.append(further)
    return scores


def measured(path: str, pictures: list[tuple[Path, Path]], *, centered: bool) -> dict[str, float]:
    """Return the mean Dice of a model in each column."""
    scores: dict[str, list[float]] = defaultdict(list)
    model = load_promptable_model(path)
    for picture, outlines in pictures:
        glands = glands_of(outlines)
        if not glands:
            continue
        with open_slide(picture) as slide:
            slide.mpp = GLAS_MPP
            answer = answers(HintSession(slide, model), centered=centered)
            for amount in JITTERS:
                boxes = jittered_boxes(glands, amount, seed=0)
                masks = answer([Hint(boxes=(box,)) for box in boxes])
                scores[f"box {100 * amount:.0f} %"] += map(dice, masks, glands)
            curve = clicked(answer, glands)
            for count in CLICKS:
                scores[f"{count} clicks"] += curve[count]
    return {name: float(np.mean(values)) for name, values in scores.items()}


def floor(pictures: list[tuple[Path, Path]], *, ellipse: bool) -> dict[str, float]:
    """Return the mean Dice of boxes, filled, or of the ellipses in them."""
    scores: dict[str, list[float]] = defaultdict(list)
    for _, outlines in pictures:
        glands = glands_of(outlines)
        for amount in JITTERS:
            for gland, box in zip(glands, jittered_boxes(glands, amount, 0), strict=True):
                found = filled(gland.shape, box, ellipse=ellipse)
                scores[f"box {100 * amount:.0f} %"].append(dice(found, gland))
    return {name: float(np.mean(values)) for name, values in scores.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", action="append", help="NAME=FILE; default: the shipped model")
    parser.add_argument("--pictures", type=int, help="number of pictures; default: all")
    parser.add_argument(
        "--centered", action="store_true", help="encode a separate patch for each gland"
    )
    parser.add_argument("--out", type=Path, help="append one JSON line per model to this file")
    options = parser.parse_args()
    pictures = glas_pictures(options.data / "glas", validation=True)[: options.pictures]
    count = sum(len(glands_of(outlines)) for _, outlines in pictures)
    print(f"{count} glands in {len(pictures)} pictures")
    print(f"{'':28s}" + "".join(f"{name:>13s}" for name in COLUMNS))
    rows: dict[str, list[dict[str, float]]] = {
        "floor: the box itself": [floor(pictures, ellipse=False)],
        "floor: the ellipse in the box": [floor(pictures, ellipse=True)],
    }
    for name, found in rows.items():
        show(name, found)
    for named in options.model or ["as shipped=bundled"]:
        name, _, path = named.partition("=")
        found = rows.setdefault(name, [])
        found.append(measured(path, pictures, centered=options.centered))
        if options.out:
            with options.out.open("a") as file:
                file.write(json.dumps({"name": name, "file": path, **found[-1]}) + "\n")
        show(name, found)


def show(name: str, found: list[dict[str, float]]) -> None:
    cells = []
    for column in COLUMNS:
        values = [scores[column] for scores in found if column in scores]
        spread = f" +- {np.std(values):.1f}" if len(values) > 1 else ""
        cells.append(f"{np.mean(values):.1f}{spread}" if values else "-")
    print(f"{name:28s}" + "".join(f"{cell:>13s}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()

"""How well a model tells other tissue, stains and sharpness from tissue like its training's.

    python benchmarks/familiarity.py DATA MODEL

Every set is judged in bags of up to six windows of 256 px: of one image where it has that many,
otherwise of images next to each other. Printed per set: number of bags, median distance, part that
is called unlike, and the area under the ROC curve against GlaS and CRC-VAL-HE-7K together.

GlaS and CRC-VAL are colon tissue of laboratories that the shipped model was not trained on. IHC,
blurred and fluorescence are made from the GlaS images.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tifffile
import torch
from PIL import Image
from scipy import ndimage
from scipy.stats import rankdata

import napari_plimseg
from napari_plimseg.models import load_model, shows_tissue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import NDArray

    Pixels = NDArray[np.uint8]

SIDE, BAG, MOST_BAGS = 256, 6, 80
GLAS_MPP, SCANNED_MPP, MPP = 0.62, 0.25, 0.5
SAMPLE = Path(napari_plimseg.__file__).parent / "sample" / "CMU-1-Small-Region.svs"
LIKE = ("GlaS", "CRC-VAL-HE-7K")
# optical density of hematoxylin, eosin and diaminobenzidine (Ruifrok and Johnston, 2001)
STAINS = np.array([[0.65, 0.704, 0.286], [0.072, 0.99, 0.105], [0.268, 0.57, 0.776]])


def scaled(image: Pixels, factor: float) -> Pixels:
    size = (round(image.shape[1] * factor), round(image.shape[0] * factor))
    return np.array(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))


def windows(image: Pixels) -> list[Pixels]:
    """Return the adjacent windows with tissue; a small image is one."""
    height, width = image.shape[:2]
    found = [
        image[y : y + SIDE, x : x + SIDE]
        for y in range(0, max(1, height - SIDE + 1), SIDE)
        for x in range(0, max(1, width - SIDE + 1), SIDE)
    ]
    return [window for window in found if shows_tissue(window)]


def read(paths: Iterable[Path]) -> Iterator[Pixels]:
    for path in paths:
        yield np.array(Image.open(path).convert("RGB"))


def files(folder: Path) -> list[Path]:
    endings = {".png", ".jpg", ".jpeg", ".tif", ".bmp", ".webp"}
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in endings)


def bags(images: Iterable[Pixels], *, each: bool) -> list[list[Pixels]]:
    """Return bags of `BAG` windows: one per image (`each`), or of neighboring images together."""
    found: list[list[Pixels]] = []
    rng, pool = np.random.default_rng(0), []
    for image in images:
        here = windows(image)
        if each:
            found.append([here[i] for i in rng.permutation(len(here))[:BAG]])
        else:
            pool += here
    if not each:
        pool = [pool[i] for i in rng.permutation(len(pool))]
        found = [pool[i : i + BAG] for i in range(0, len(pool) - BAG + 1, BAG)]
    return [bag for bag in found if bag][:MOST_BAGS]


def with_brown(image: Pixels) -> Pixels:
    """Return a picture with eosin's place taken by diaminobenzidine, as in IHC."""
    stains = STAINS / np.linalg.norm(STAINS, axis=1, keepdims=True)
    amounts = -np.log(np.clip(image / 255, 1 / 255, 1)) @ np.linalg.inv(stains)
    shown = np.exp(-(amounts @ stains[[0, 2, 2]])).clip(0, 1)
    return (255 * shown).astype(np.uint8)


def blurred(image: Pixels) -> Pixels:
    return ndimage.gaussian_filter(image, (4, 4, 0))


def as_fluorescence(image: Pixels) -> Pixels:
    """Return nuclei in blue on black."""
    blue = 255 - image.mean(2)
    return np.stack([0 * blue, 0 * blue, blue], -1).astype(np.uint8)


def changed(made: list[list[Pixels]], change: Callable[[Pixels], Pixels]) -> list[list[Pixels]]:
    return [[change(window) for window in bag] for bag in made]


def sets(data: Path) -> dict[str, list[list[Pixels]]]:
    glas = bags((scaled(i, GLAS_MPP / MPP) for i in read(files(data / "glas" / "img"))), each=True)
    validation = data / "nct-crc-samples" / "CRC-VAL-HE-7K"
    found = {"GlaS": glas, "CRC-VAL-HE-7K": bags(read(files(validation)), each=False)}
    skin = scaled(tifffile.imread(SAMPLE), 0.499 / MPP)
    found["skin (sample slide)"] = bags([skin], each=False)
    neck = tifffile.imread(data / "wsi" / "tcga-cr-7395-01a-01-ts1.svs")
    found["head and neck (TCGA)"] = bags([scaled(neck, SCANNED_MPP / MPP)], each=False)
    lung = [path for path in files(data / "lc25000") if "lung" in path.parent.name]
    found["lung (LC25000)"] = bags(read(lung[:: max(1, len(lung) // 240)]), each=False)
    found["osteosarcoma"] = bags(read(files(data / "osteosarcoma-sample")), each=False)
    found["GlaS, IHC colors"] = changed(glas, with_brown)
    found["GlaS, blurred"] = changed(glas, blurred)
    found["GlaS, fluorescence"] = changed(glas, as_fluorescence)
    return found


def roc_area(like: NDArray[np.float64], unlike: NDArray[np.float64]) -> float:
    ranks = rankdata(np.concatenate([like, unlike]))[len(like) :]
    return float((ranks.mean() - (len(unlike) + 1) / 2) / len(like))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("model", help="a name of `plimseg models`, or a file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = load_model(options.model)
    known = model.familiarity
    print(f"{model.name}: limit {known.limit:.2f}")
    judged = {
        name: np.array([d for bag in made if (d := model.distance(bag)) is not None])
        for name, made in sets(options.data).items()
    }
    like = np.concatenate([judged[name] for name in LIKE])
    print("| Set | Bags | Median distance | Called unlike | ROC area |\n|---|---|---|---|---|")
    for name, values in judged.items():
        area = "" if name in LIKE else f"{roc_area(like, values):.3f}"
        over = f"{(values > known.limit).sum()} ({100 * (values > known.limit).mean():.1f} %)"
        print(f"| {name} | {len(values)} | {np.median(values):.2f} | {over} | {area} |")


if __name__ == "__main__":
    main()

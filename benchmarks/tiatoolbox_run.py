"""Segment a slide with TIAToolbox and one of our networks; `speed.py` runs it in its environment.

    ENVIRONMENT/bin/python benchmarks/tiatoolbox_run.py SLIDE MODEL FOLDER

The network is ours, by torch in float32, in windows of the same side and step; reading, tissue
mask, batches, blending and writing are TIAToolbox's. Prints the seconds of the run as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from napari_plimseg.models import load_model
from napari_plimseg.models.torchvision_compat import make_torchvision_importable
from napari_plimseg.slides import open_slide

make_torchvision_importable()

from tiatoolbox.models.engine.io_config import IOSegmentorConfig  # noqa: E402
from tiatoolbox.models.engine.semantic_segmentor import SemanticSegmentor  # noqa: E402
from tiatoolbox.models.models_abc import ModelABC  # noqa: E402
from tiatoolbox.wsicore.wsireader import WSIReader  # noqa: E402

STEP = 256


class Ours(ModelABC):  # type: ignore[misc]
    """One of our models as TIAToolbox calls it: a batch of windows in, probabilities out."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.model: Any = load_model(name)

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        found = self.model.probabilities(windows)  # (N, C, h / 4, w / 4)
        return functional.interpolate(found, windows.shape[1:3], mode="bilinear")

    @staticmethod
    def infer_batch(model: Any, batch_data: Any, *, device: str) -> np.ndarray:
        with torch.inference_mode():
            found = model(torch.as_tensor(np.asarray(batch_data), device=device))
        return np.ascontiguousarray(found.permute(0, 2, 3, 1).float().cpu().numpy())

    def load_weights_from_file(self, weights: Path) -> None:
        """Do nothing: the weights are loaded."""


def main() -> None:
    slide, name, folder = sys.argv[1:4]
    network = Ours(name)
    side, size = network.model.window, {"units": "mpp", "resolution": network.model.mpp}
    config = IOSegmentorConfig(
        input_resolutions=[size], output_resolutions=[size],
        patch_input_shape=[side, side], patch_output_shape=[side, side],
        stride_shape=[STEP, STEP], save_resolution=size,
    )  # fmt: skip
    segmentor = SemanticSegmentor(network, batch_size=8, num_workers=0, device="cpu", verbose=False)
    with open_slide(slide) as opened:
        assert opened.mpp is not None
        reader = WSIReader.open(Path(slide), mpp=(opened.mpp, opened.mpp))
    begun = time.perf_counter()
    segmentor.run(
        [reader], ioconfig=config, patch_mode=False, save_dir=Path(folder) / "out",
        output_type="zarr", auto_get_mask=True, overwrite=True,
    )  # fmt: skip
    print(json.dumps({"run": time.perf_counter() - begun}))


if __name__ == "__main__":
    main()

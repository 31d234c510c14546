"""Load a model and run it on an image in memory, without a slide.

Usage: python examples/load_a_model.py
"""

from __future__ import annotations

from pathlib import Path

import torch

import napari_plimseg
from napari_plimseg import Region, load_model, open_slide

SAMPLE = Path(napari_plimseg.__file__).parent / "sample" / "CMU-1-Small-Region.svs"

model = load_model("bundled")
print(f"{model.name} wants {model.mpp} um per pixel")

with open_slide(SAMPLE) as slide:
    image = slide.read(Region(y=0, x=0, height=1024, width=1024), mpp=model.mpp)

# sides must be multiples of the model's alignment
side = image.shape[0] // model.alignment * model.alignment
batch = torch.from_numpy(image[None, :side, :side].copy())  # (1, y, x, 3) uint8
with torch.inference_mode():
    probabilities = model.probabilities(batch)  # (1, classes, y / stride, x / stride)
shares = probabilities.mean((0, 2, 3)).tolist()
for tissue_class, share in zip(model.classes, shares, strict=True):
    print(f"{tissue_class.name:24} {100 * share:5.1f} %")

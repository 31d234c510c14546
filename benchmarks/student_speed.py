"""Compare the speed of the fast student with that of its teacher.

    OMP_NUM_THREADS=1 python benchmarks/student_speed.py --rounds 6

Both run on the same batch of windows alternately, so that a busy machine slows both. Prints the
processor time per window, the best of all rounds.
"""

from __future__ import annotations

import argparse
import time

import torch

from napari_plimseg.models import WINDOW, SegNet, fresh_small_backbone, load_backbone
from plimseg_training.stages import STUDENT_WIDTH

WINDOWS = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="bundled", help="image encoder of the teacher")
    parser.add_argument("--width", type=int, default=96, help="width of the teacher's head")
    parser.add_argument("--classes", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=6)
    options = parser.parse_args()
    encoders = {
        "teacher": (load_backbone(options.backbone), options.width),
        "student": (fresh_small_backbone(0), STUDENT_WIDTH),
    }
    networks = {
        name: (encoder, SegNet(encoder.block_channels, encoder.strides, options.classes, width))
        for name, (encoder, width) in encoders.items()
    }
    images = torch.rand(WINDOWS, 3, WINDOW, WINDOW)
    best = dict.fromkeys(networks, float("inf"))
    with torch.inference_mode():
        for _ in range(options.rounds):
            for name, (encoder, head) in networks.items():
                begun = time.process_time()
                head.eval()(encoder(images))
                best[name] = min(best[name], (time.process_time() - begun) / WINDOWS)
    for name, (encoder, head) in networks.items():
        weights = sum(p.numel() for part in (encoder, head) for p in part.parameters())
        print(f"{name}  {weights / 1e6:5.2f} M weights  {1000 * best[name]:6.1f} ms per window")
    print(f"the student is {best['teacher'] / best['student']:.1f} times as fast")


if __name__ == "__main__":
    main()

"""Train on a user's folder of 200 tagged images, up to the list of models; prints one table.

    python benchmarks/own_folder.py GLAS

Cuts 200 patches of 224 px from GlaS images of all patients but three, writes them with only their
tags in the file names, as a user might have them, and runs `plimseg train FOLDER` with the default
recipe. Then evaluates the model on whole images of the other patients, without tags, and checks
that the dock lists it. Prints the time and writes a picture.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

from napari_plimseg.models import list_models, load_model
from plimseg_training.data import read_pixels, read_truth, scan_folder
from plimseg_training.evaluation import evaluate, predict_image
from plimseg_training.report import preview_sheet

HELD_OUT = {"patient 3", "patient 5", "patient 7"}
CLASSES = """\
classes:
  - {name: gland, color: [0, 64, 128], prompts: [colorectal adenocarcinoma epithelium, tumor,
     normal colonic crypts, mucus, mucin pool]}
  - {name: other tissue, color: [64, 128, 0], prompts: [stroma, lymphocytes]}
has_background: false
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("glas", type=Path)
    parser.add_argument("--out", type=Path, default=Path("own-folder"))
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--effort", default="balanced")
    options = parser.parse_args()
    out: Path = options.out.resolve()
    shutil.rmtree(out, ignore_errors=True)
    folder = scan_folder(options.glas).raise_if_fatal()
    held = folder.restricted(i for i in folder.images if i.group in HELD_OUT)
    counts = write_patches(folder, out / "patches", options.images)
    (out / "classes.yaml").write_text(CLASSES, "utf-8")
    os.environ["PLIMSEG_DATA_DIR"] = str(out / "user-data")

    begun = time.monotonic()
    command = [
        sys.executable, "-m", "napari_plimseg.cli", "train", str(out / "patches"),
        "--out", str(out / "run"), "--effort", options.effort,
        "--set", f"data.classes={out / 'classes.yaml'}", "--set", "data.mpp=0.62",
        "--set", "name=my glands",
    ]  # fmt: skip
    subprocess.run(command, check=True)
    minutes = (time.monotonic() - begun) / 60

    listed = [info for info in list_models() if info.title == "my glands"]
    model = load_model(listed[0].name)
    score = evaluate(model, held, protocol="oeem").results[0].score
    image = held.images[0]
    mask = predict_image(model, read_pixels(image), held.mpp).argmax(0).astype(np.uint8) + 1
    sheet = preview_sheet(
        read_pixels(image), classes=held.classes, tags=image.tags, prediction=mask,
        truth=read_truth(image, held), name=image.name, side=400,
    )  # fmt: skip
    Image.fromarray(sheet).save(out / "picture.png")
    rows = {
        "images": f"{sum(counts.values())} of 224 px: " + ", ".join(
            f"{n} [{t}]" for t, n in sorted(counts.items())),
        "cores": os.cpu_count(),
        "minutes from folder to model": f"{minutes:.1f}",
        "in the list of models": f"{listed[0].name} ({listed[0].size_bytes / 1e6:.1f} MB)",
        "mIoU on other patients": f"{100 * score.miou:.1f}",
        "gland Dice on other patients": f"{100 * score.dice[0]:.1f}",
        "picture": out / "picture.png",
    }  # fmt: skip
    for name, value in rows.items():
        print(f"{name:32s} {value}")


def write_patches(folder: object, out: Path, count: int) -> dict[str, int]:
    """Write patches with their tags in the names, a third for each of the three tag sets."""
    random, side, found = np.random.default_rng(0), 224, {}
    out.mkdir(parents=True)
    images = [i for i in folder.images if i.group not in HELD_OUT]  # type: ignore[attr-defined]
    wanted = {"1 0": count // 4, "0 1": count // 4, "1 1": count - 2 * (count // 4)}
    for number in range(200_000):
        if sum(found.values()) == count:
            break
        image = images[int(random.integers(len(images)))]
        y, x = (int(random.integers(0, length - side + 1)) for length in image.size)
        truth = read_truth(image, folder)[y : y + side, x : x + side]  # type: ignore[arg-type]
        tags = " ".join(str(int((truth == k).mean() > 0.05)) for k in (1, 2))
        # glands that fill a whole patch are rare, so patches of both replace them after a while
        if found.get(tags, 0) >= wanted.get(tags, 0) and (number < 20_000 or tags != "1 1"):
            continue
        found[tags] = found.get(tags, 0) + 1
        pixels = read_pixels(image)[y : y + side, x : x + side]
        group = image.group.replace(" ", "")
        Image.fromarray(pixels).save(out / f"{group}_{number}-[{tags}].png")
    return found


if __name__ == "__main__":
    main()

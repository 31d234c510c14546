"""Every recipe that comes along trains one step of both stages on a folder of its layout."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image

from plimseg_training.config.recipe import load_recipe
from plimseg_training.config.shipped import known_recipes
from plimseg_training.data.datasets import TrainingData
from plimseg_training.pipeline import matcher_name
from plimseg_training.stages.stage1 import Encoders, Stage1Task
from plimseg_training.stages.stage2 import Stage2Task
from tests.support.stages import backbone, matcher, tissue

if TYPE_CHECKING:
    from pathlib import Path

SIDE = 64


def write(path: Path, number: int, side: int = SIDE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    kinds = np.zeros((side, side), np.uint8)
    kinds[:, side // 2 :] = number % 2
    Image.fromarray(tissue(kinds, number)).save(path)


def luad(root: Path) -> None:
    for i, tags in enumerate(("1 0 0 1", "0 1 0 0", "0 0 1 0", "1 1 1 1")):
        write(root / "training" / f"10312{i}-2300-27920-[{tags}].png", i)


def bcss(root: Path) -> None:
    for i, tags in enumerate(("1101", "0010", "1000", "0111")):
        write(root / "training" / f"TCGA-A{i}-xmin1_ymin2_MPP-0.2500+{i}[{tags}].png", i)


def wsss4luad(root: Path) -> None:
    for i, tags in enumerate(("1, 0, 0", "0, 1, 0", "0, 0, 1", "1, 1, 0")):
        write(root / "1.training" / f"103120{i}-2300-27920-[{tags}].png", i)


def glas(root: Path) -> None:
    rows = ["name,patient_id"]
    for i, patient in enumerate((3, 5, 7, 9), 1):
        write(root / "img" / f"train_{i}.png", i, 128)
        (root / "masks").mkdir(exist_ok=True)
        truth = np.zeros((128, 128), np.uint8)
        truth[:, :64] = 1
        Image.fromarray(truth).save(root / "masks" / f"train_{i}.png")
        rows.append(f"train_{i},{patient}")
    (root / "Grade.csv").write_text("\n".join(rows) + "\n")


def own(root: Path) -> None:
    for kind in ("stroma", "fat"):
        for i in range(2):
            write(root / kind / f"{kind}{i}.png", 2 * i + (kind == "fat"))


def colorectal(root: Path) -> None:
    names = load_recipe(known_recipes()["bundled_colorectal"]).data.tissue_classes()
    assert names is not None
    rows = ["file,group," + ",".join(names.names)]
    for i in range(len(names)):
        write(root / f"{i}.png", i)
        group = "held out" if i < 2 else f"mosaic {i}"
        rows.append(f"{i}.png,{group}," + ",".join(str(int(i == k)) for k in range(len(names))))
    (root / "tags.csv").write_text("\n".join(rows) + "\n")


FOLDERS = {
    "luad_histoseg": luad, "bcss_wsss": bcss, "wsss4luad": wsss4luad, "glas_oeem": glas,
    "bundled": own, "bundled_colorectal": colorectal,
}  # fmt: skip


def test_every_recipe_is_tried() -> None:
    assert set(FOLDERS) == set(known_recipes())


@pytest.mark.parametrize("name", FOLDERS)
def test_a_recipe_trains_one_step(name: str, tmp_path: Path) -> None:
    FOLDERS[name](tmp_path)
    recipe = load_recipe(known_recipes()[name]).override(
        [f"data.train={tmp_path}", "matching.warm_up_epochs=0", "stage1.batch_size=2"]
    )
    if recipe.data.mpp is None:
        recipe = recipe.override("data.mpp=0.5")
    data = TrainingData.of(recipe)
    encoders = Encoders.of(
        backbone(recipe.model.backbone), matcher(matcher_name(recipe)), recipe,
        torch.device("cpu"),
    )  # fmt: skip
    first = Stage1Task(recipe, data.train, data.validation, encoders)
    classes = len(data.train.classes)
    tasks = [
        first,
        Stage2Task(
            recipe, data.train, data.validation, encoders.for_stage2(recipe),
            lambda image: np.random.default_rng(0).integers(-1, classes, image.size, np.int16),
        ),
    ]  # fmt: skip
    for task in tasks:
        optimizer = torch.optim.AdamW(task.parameter_groups())
        before = [p.detach().clone() for group in task.parameter_groups() for p in group["params"]]
        loss, parts = task.loss(task.batch(0, 1, [0]))
        loss.backward()
        optimizer.step()
        after = [p.detach() for group in task.parameter_groups() for p in group["params"]]
        assert np.isfinite(list(parts.values())).all()
        assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))

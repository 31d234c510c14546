"""Compare the matching losses with all controls; prints one table.

    python benchmarks/quality.py GLAS --recipe glas_oeem
    python benchmarks/quality.py WSSS4LUAD --recipe wsss4luad --folds 4 --more NORMAL_LUNG
    python benchmarks/quality.py GLAS --backbone timm:tf_efficientnet_lite0=lite0.safetensors

Trains both stages of each arm with three seeds on the training part (GlaS: by patient; WSSS4LUAD:
by image) and scores on the rest, which no arm sees. mIoU in %, pooled over pixels, mean and
standard deviation over seeds: of the CAMs (without tags), of the pseudo masks (training images,
with tags) on all pixels and on those that stage 2 uses, and of the segmentation network (no tags,
no test-time augmentation). All arms share the frozen encoder's features, epochs, order and learning
rates. Takes about an hour on two cores. With --backbone the arms use another encoder; the matcher
remains the bundled one.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_plimseg.models import load_backbone, load_matcher, load_model
from plimseg_training.config import chosen_recipe
from plimseg_training.data import TaggedFolder, TaggedImage, TrainingData, read_pixels, read_truth
from plimseg_training.evaluation import Score, confusion_matrix, predict_image
from plimseg_training.loop import learning_rate_factor
from plimseg_training.stages import (
    IGNORED,
    Encoders,
    Stage1Task,
    Stage2Task,
    allowed_classes,
    as_mask_ids,
    fitted_gate,
    gated_logits,
    probabilities_of,
    pseudo_mask,
)

if TYPE_CHECKING:
    from napari_plimseg.tissue import TissueClasses
    from plimseg_training.config import Recipe

NONE = {"ftm": 0.0, "btm": 0.0, "cbs": 0.0, "area": 0.0}
COLUMNS = ("cam", "pseudo", "sure", "final")


@dataclass(frozen=True)
class Arm:
    """One row of the table: its differences from the recipe."""

    name: str
    matching: dict[str, Any]
    pooling: str = "smooth_max"
    masks: str = "cams"
    gate: bool = False


def arms_of(weight: float) -> list[Arm]:
    """Return all arms; `weight` is that of each matching loss."""
    three = {**NONE, "ftm": weight, "btm": weight, "cbs": weight}
    clims = {"ftm": weight, "btm": 2.4 * weight, "cbs": 0.1 * weight, "area": 0.02 * weight}
    arms = []
    for pooling, label in (("mean", "mean"), ("smooth_max", "smooth max")):
        arms += [
            Arm(f"{label}: BCE only", NONE, pooling),
            Arm(f"{label}: + FTM", {**NONE, "ftm": weight}, pooling),
            Arm(f"{label}: + FTM + BTM", {**NONE, "ftm": weight, "btm": weight}, pooling),
            Arm(f"{label}: + all three", three, pooling),
            Arm(f"{label}: all three, CBS x 10", {**three, "cbs": 10 * weight}, pooling),
            Arm(f"{label}: BCE only + gate", NONE, pooling, gate=True),
            Arm(f"{label}: + all three + gate", three, pooling, gate=True),
            Arm(f"{label}: all three, CLIMS form", {**clims, "form": "clims"}, pooling),
            Arm(f"{label}: all three, sigmoid form", {**three, "form": "sigmoid"}, pooling),
            Arm(
                f"{label}: all three, images masked",
                {**three, "space": "image", "pairs_at_once": 4},
                pooling,
            ),
            Arm(f"{label}: control, random matcher", {**three, "matcher": "random"}, pooling),
            Arm(f"{label}: control, class means", {**three, "prototypes": "class_means"}, pooling),
            Arm(f"{label}: control, area alone", {**NONE, "area": weight}, pooling),
        ]
    return [
        *arms,
        Arm("control: single tags filled, no cam", NONE, masks="single tags"),
        Arm("control: tags alone, no image", NONE, masks="tags"),
        Arm("full supervision, same network", NONE, masks="truth"),
    ]


class Laboratory:
    """Data and cached features shared by all arms."""

    def __init__(self, recipe: Recipe, folds: int) -> None:
        self.recipe = recipe
        data = TrainingData.of(recipe)
        assert data.validation is not None
        self.folds = [data] if folds == 1 else folds_of(data, folds)
        self.classes = data.train.classes
        self.backbone = load_backbone(recipe.model.backbone)
        self.encoders: dict[str, Encoders] = {}

    def encoders_for(self, recipe: Recipe) -> Encoders:
        """Return the encoders of a recipe; their features are computed once."""
        matching = recipe.matching
        key = f"{matching.matcher} {matching.space} {matching.is_used}"
        if matching.matcher == "random":
            key += f" {recipe.seed}"
        if key not in self.encoders:
            name = "bundled" if matching.matcher == "backbone" else matching.matcher
            made = Encoders.of(
                self.backbone, load_matcher(name, seed=recipe.seed), recipe, torch.device("cpu")
            )
            if self.encoders:
                # the same encoder has the same features
                blocks = next(iter(self.encoders.values())).blocks
                matched = made.matched
                if hasattr(matched, "_source"):
                    matched._source = blocks
                made = replace(made, blocks=blocks, matched=matched)
            self.encoders[key] = made
        return self.encoders[key]

    def run(self, arm: Arm, seed: int) -> dict[str, float]:
        """Train both stages of an arm on every fold and return its scores."""
        recipe = replace(
            self.recipe,
            seed=seed,
            matching=replace(self.recipe.matching, **arm.matching),
            model=replace(self.recipe.model, pooling=arm.pooling),
            gate=replace(self.recipe.gate, by="tags" if arm.gate else "none"),
        )
        found: dict[str, list[np.ndarray]] = {name: [] for name in COLUMNS}
        for data in self.folds:
            self.run_fold(arm, recipe, data, found)
        # pixels of all folds are pooled
        return {
            name: 100 * score_of(sum(confusions), self.classes).miou
            for name, confusions in found.items()
            if confusions
        }

    def run_fold(
        self, arm: Arm, recipe: Recipe, data: TrainingData, found: dict[str, list[np.ndarray]]
    ) -> None:
        """Train both stages on one fold and add the confusion matrices."""
        encoders, seed, measured = self.encoders_for(recipe), recipe.seed, data.validation
        assert measured is not None
        task = None
        if arm.masks == "cams":
            task = Stage1Task(recipe, data.train, measured, encoders)
            fit(task, recipe.stage1, seed)
            found["cam"].append(
                confusion(
                    measured,
                    lambda image: strongest(task.averaged_cams(image, (1.0,), flips=False)),
                )
            )
        masks = {image.name: self.mask(arm, recipe, task, image) for image in data.train.images}
        if arm.masks != "truth":
            known = data.train.restricted(i for i in data.train.images if i.truth)
            found["sure"].append(confusion(known, lambda image: as_mask_ids(masks[image.name])))
        if arm.masks == "cams":
            whole = replace(recipe, pseudo_masks=replace(recipe.pseudo_masks, ignore_margin=0.0))
            found["pseudo"].append(
                confusion(known, lambda image: as_mask_ids(self.mask(arm, whole, task, image)))
            )
        second = Stage2Task(
            recipe, data.train, measured, encoders.for_stage2(recipe),
            lambda image: masks[image.name],
        )  # fmt: skip
        fit(second, recipe.stage2, seed)
        tissue = len(self.classes.tissue_ids)
        gate = fitted_gate(recipe.gate, second, data.mpp)
        found["final"].append(
            confusion(
                measured,
                lambda image: strongest(gated_logits(second, gate, image, data.mpp)[:tissue]),
            )
        )

    def mask(
        self, arm: Arm, recipe: Recipe, task: Stage1Task | None, image: TaggedImage
    ) -> np.ndarray:
        """Return an arm's labels for stage 2."""
        white, rgb = recipe.data.white_background, read_pixels(image)
        classes = len(self.classes.tissue_ids)
        if task is not None:
            cams = task.averaged_cams(image, (1.0,), flips=False)
            exclusive = not self.classes.has_background
            scores = probabilities_of(cams, exclusive=exclusive)
            return pseudo_mask(scores, image, rgb, recipe.pseudo_masks, white_background=white)
        if arm.masks == "truth":
            if image.truth is None:  # from a further folder: one tag for the whole image
                return np.full(image.size, image.tags[0].argmax(), np.int16)
            truth = read_truth(image, self.folds[0].train)
            return np.where(truth == 0, IGNORED, truth.astype(np.int16) - 1).astype(np.int16)
        flat = torch.zeros(classes, *image.size)
        found = pseudo_mask(flat, image, rgb, recipe.pseudo_masks, white_background=white)
        if arm.masks == "single tags":
            several = allowed_classes(image.windows, image.tags, image.size).sum(0) > 1
            found[several & (found < classes)] = IGNORED
        return found

    def shipped(self) -> float:
        """Return the score of the shipped model, given the classes' prompts, without training."""
        model = load_model("bundled", self.classes)
        tissue = len(self.classes.tissue_ids)
        total = np.zeros((tissue, tissue), np.int64)
        for data in self.folds:
            folder = data.validation
            assert folder is not None

            def mask(image: TaggedImage, mpp: float | None = folder.mpp) -> np.ndarray:
                found = predict_image(model, read_pixels(image), mpp)
                return (found[:tissue].argmax(0) + 1).astype(np.uint8)

            total += confusion(folder, mask)
        return 100 * score_of(total, self.classes).miou


def folds_of(data: TrainingData, count: int) -> list[TrainingData]:
    """Return folds by image, with tag sets spread evenly; further folders are for training."""
    assert data.validation is not None
    own = [i for i in (*data.train.images, *data.validation.images) if i.truth is not None]
    further = [i for i in data.train.images if i.truth is None]
    own.sort(key=lambda image: (tuple(image.tags.max(0)), image.name))
    return [
        replace(
            data,
            train=data.train.restricted(
                [i for n, i in enumerate(own) if n % count != fold] + further
            ),
            validation=data.train.restricted(own[fold::count]),
        )
        for fold in range(count)
    ]


def strongest(logits: torch.Tensor) -> np.ndarray:
    """Return the mask ids of logits (C, H, W)."""
    return (logits.argmax(0).numpy() + 1).astype(np.uint8)


def confusion(folder: TaggedFolder, mask: Any) -> np.ndarray:
    """Return the pooled confusion matrix, without pixels that have no class in mask or truth."""
    tissue = len(folder.classes.tissue_ids)
    total = np.zeros((tissue, tissue), np.int64)
    for image in folder.images:
        truth, found = read_truth(image, folder), mask(image)
        truth[(truth > tissue) | (found == 0) | (found > tissue)] = 0
        total += confusion_matrix(truth, np.where(truth == 0, 1, found), tissue)
    return total


def score_of(total: np.ndarray, classes: TissueClasses) -> Score:
    tissue = len(classes.tissue_ids)
    return Score(total, classes.names[:tissue], tuple(range(tissue)))


def fit(task: Any, stage: Any, seed: int) -> None:
    """Train a stage as the loop does, without checkpoints."""
    optimizer = torch.optim.AdamW(task.parameter_groups(), weight_decay=stage.weight_decay)
    rates = [group["lr"] for group in optimizer.param_groups]
    count, batch = task.epoch_items(0), stage.batch_size
    steps, step = stage.epochs * -(-count // batch), 0
    for epoch in range(stage.epochs):
        order = np.random.default_rng((seed, epoch)).permutation(count)
        task.network.train()
        for first in range(0, count, batch):
            factor = learning_rate_factor(
                step,
                steps,
                schedule=stage.schedule,
                warm_up_fraction=stage.warm_up_fraction,
            )
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * factor
            loss, _ = task.loss(task.batch(seed, epoch, order[first : first + batch].tolist()))
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(task.network.parameters(), stage.clip_norm)
            optimizer.step()
            step += 1
    task.network.eval()


def settings_of(recipe: Recipe) -> str:
    """Return the settings that rows must have in common to be comparable."""
    stages = (
        f"{name}: {stage.epochs} epochs at {stage.learning_rate:g}"
        for name, stage in (("stage 1", recipe.stage1), ("stage 2", recipe.stage2))
    )
    return f"{recipe.model.backbone}, width {recipe.model.width}; {'; '.join(stages)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--recipe", default="glas_oeem")
    parser.add_argument("--backbone", help="image encoder of all arms, instead of the recipe's")
    parser.add_argument("--weight", type=float, default=0.1, help="weight of each matching loss")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folds", type=int, default=1, help="cross-validation by image")
    parser.add_argument("--more", type=Path, action="append", help="further training folder")
    parser.add_argument(
        "--only",
        action="append",
        help="arms whose name contains this text, in this order; repeatable",
    )
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--out", type=Path, help="append one JSON line per run to this file")
    options = parser.parse_args()
    recipe = chosen_recipe(options.recipe).override(options.set)
    recipe = replace(recipe, data=replace(recipe.data, train=options.data))
    if options.backbone:
        recipe = replace(recipe, model=replace(recipe.model, backbone=options.backbone))
    if options.more:
        recipe = replace(recipe, data=replace(recipe.data, more=tuple(options.more)))
    laboratory = Laboratory(recipe, options.folds)
    settings = settings_of(recipe)
    print(settings)
    print(f"{'arm':44s} {' '.join(f'{name:>12s}' for name in COLUMNS)}   seconds per run")
    wanted = options.only or [""]
    arms = [arm for text in wanted for arm in arms_of(options.weight) if text in arm.name]
    for arm in arms:
        begun, runs = time.monotonic(), []
        for seed in range(options.seeds):
            runs.append(laboratory.run(arm, seed))
            if options.out:
                with options.out.open("a") as file:
                    told = {"arm": arm.name, "seed": seed, **runs[-1], "settings": settings}
                    file.write(json.dumps(told) + "\n")
        seconds = (time.monotonic() - begun) / options.seeds
        cells = []
        for name in COLUMNS:
            values = [run[name] for run in runs if name in run]
            spread = f"{np.mean(values):.1f} +- {np.std(values):.1f}" if values else "-"
            cells.append(f"{spread:>12s}")
        print(f"{arm.name:44s} {' '.join(cells)}   {seconds:.0f}", flush=True)
    if not options.only or "shipped" in options.only:
        print(f"{'shipped model, no training':44s} {laboratory.shipped():51.1f}")


if __name__ == "__main__":
    main()

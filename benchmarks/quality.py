"""Compare the matching losses, sources of pseudo masks and controls; prints one table.

    python benchmarks/quality.py WSSS4LUAD --recipe wsss4luad --folds 3 --rows rows.csv
    python benchmarks/quality.py GLAS --recipe glas_oeem --stage1-only
    python benchmarks/quality.py GLAS --backbone timm:tf_efficientnet_lite0=lite0.safetensors

Trains each arm with several seeds on the training part (GlaS: by patient; WSSS4LUAD: by image) and
scores on the rest, which no arm sees. mIoU in %, pooled over pixels, mean and standard deviation
over seeds: of the CAMs (without tags), of the pseudo masks (training images, with tags) on all
pixels and on those that stage 2 uses, and of the segmentation network (no tags, no test-time
augmentation) by protocols A and B. The last step of stage 2 is kept. All arms share the frozen
encoder's features, epochs, order and learning rates. `--stage1-only` leaves out stage 2, which
takes nearly all the time.

Each row is written to `--rows` as soon as it is measured, with its seed, settings and commit, and
is not measured again: a run that was stopped goes on with the next row.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from measured_rows import MeasuredRows, current_commit

from napari_plimseg.models import load_backbone, load_matcher, load_model
from plimseg_training.config import chosen_recipe
from plimseg_training.data import TaggedFolder, TaggedImage, TrainingData, read_pixels, read_truth
from plimseg_training.evaluation import Score, confusion_matrix, predict_image
from plimseg_training.loop import choose_precision, learning_rate_factor, train
from plimseg_training.stages import (
    IGNORED,
    Encoders,
    Stage1Task,
    Stage2Task,
    agreements,
    allowed_classes,
    as_mask_ids,
    fitted_gate,
    gated_logits,
    label_scores,
    opinions,
    pseudo_mask,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_plimseg.tissue import TissueClasses
    from plimseg_training.config import PseudoMaskConfig, Recipe

NONE = {"ftm": 0.0, "btm": 0.0, "cbs": 0.0, "area": 0.0}
COLUMNS = ("cam", "pseudo", "sure", "A", "B")
KEYS = ("data", "folds", "arm", "seed", "part", "settings")
HEADER = (*KEYS, *COLUMNS, "seconds", "commit")


@dataclass(frozen=True)
class Arm:
    """One row of the table: its differences from the recipe."""

    name: str
    matching: dict[str, Any]
    pooling: str = "smooth_max"
    masks: str = "cams"
    """A `pseudo_masks.source`, or a control."""
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
            Arm(f"{label}: learnt prototypes", {**NONE, "prototypes": "learnt"}, pooling),
            Arm(
                f"{label}: all three, learnt prototypes", {**three, "prototypes": "learnt"}, pooling
            ),
            Arm(f"{label}: all three, mean with words", three, pooling, masks="mean"),
            Arm(f"{label}: control, area alone", {**NONE, "area": weight}, pooling),
        ]
    return [
        *arms,
        Arm("words under the tags, no stage 1", NONE, masks="words"),
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
        self.words: dict[str, torch.Tensor] = {}

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

    def run(self, arm: Arm, seed: int, *, stage1_only: bool) -> dict[str, float]:
        """Train an arm on every fold and return its scores."""
        source = arm.masks if arm.masks in ("cams", "words", "mean", "model") else "cams"
        recipe = replace(
            self.recipe,
            seed=seed,
            matching=replace(self.recipe.matching, **arm.matching),
            model=replace(self.recipe.model, pooling=arm.pooling),
            gate=replace(self.recipe.gate, by="tags" if arm.gate else "none"),
            pseudo_masks=replace(self.recipe.pseudo_masks, source=source),
        )
        found: dict[str, list[np.ndarray]] = {name: [] for name in COLUMNS}
        for data in self.folds:
            self.run_fold(arm, recipe, data, found, stage1_only=stage1_only)
        # pixels of all folds are pooled
        return {
            name: 100 * score_of(sum(confusions), self.classes).miou
            for name, confusions in found.items()
            if confusions
        }

    def run_fold(
        self,
        arm: Arm,
        recipe: Recipe,
        data: TrainingData,
        found: dict[str, list[np.ndarray]],
        *,
        stage1_only: bool,
    ) -> None:
        """Train on one fold and add the confusion matrices."""
        encoders, seed, measured = self.encoders_for(recipe), recipe.seed, data.validation
        assert measured is not None
        task = None
        if arm.masks in ("cams", "mean"):
            task = Stage1Task(recipe, data.train, measured, encoders)
            fit(task, recipe.stage1, seed)
            found["cam"].append(
                confusion(
                    measured,
                    lambda image: strongest(task.averaged_cams(image, (1.0,), flips=False)),
                )
            )
        scores = self.scores(arm, recipe, data, encoders, task)
        masks = {i.name: self.mask(arm, recipe, scores, i) for i in data.train.images}
        if arm.masks != "truth":
            known = data.train.restricted(i for i in data.train.images if i.truth)
            found["sure"].append(confusion(known, lambda image: as_mask_ids(masks[image.name])))
            if scores is not None:
                whole = replace(
                    recipe, pseudo_masks=replace(recipe.pseudo_masks, ignore_margin=0.0)
                )
                found["pseudo"].append(
                    confusion(
                        known, lambda image: as_mask_ids(self.mask(arm, whole, scores, image))
                    )
                )
        if stage1_only:
            return
        second = Stage2Task(
            recipe, data.train, None, encoders.for_stage2(recipe), lambda image: masks[image.name]
        )
        with tempfile.TemporaryDirectory() as folder:
            train(second, recipe.stage2, Path(folder), seed=seed, device="cpu")
        tissue = len(self.classes.tissue_ids)
        gate = fitted_gate(recipe.gate, second, data.mpp)
        logits = {
            image.name: gated_logits(second, gate, image, data.mpp) for image in measured.images
        }
        found["A"].append(confusion(measured, lambda image: strongest(logits[image.name][:tissue])))
        if self.classes.has_background:
            found["B"].append(
                confusion(
                    measured,
                    lambda image: strongest(logits[image.name]),
                    classes=len(self.classes),
                )
            )

    def scores(
        self,
        arm: Arm,
        recipe: Recipe,
        data: TrainingData,
        encoders: Encoders,
        task: Stage1Task | None,
    ) -> Callable[[TaggedImage], torch.Tensor] | None:
        """Return the function from an image to its scores; None for controls without scores."""
        if arm.masks not in ("cams", "words", "mean", "model"):
            return None
        config, images = recipe.pseudo_masks, data.train.images
        seen = opinions(config, encoders, data.train, data.mpp, task and task.label_scores)

        def kept(image: TaggedImage, config: PseudoMaskConfig) -> torch.Tensor:
            # the same in all arms and seeds
            key = f"{image.path} {config.flips}"
            if key not in self.words:
                self.words[key] = model(image, config)
            return self.words[key]

        if "words" in seen:
            model, seen["words"] = seen["words"], kept
        weights = agreements(seen, config, images) if len(seen) > 1 else {}
        return label_scores(config, seen, weights)

    def mask(
        self,
        arm: Arm,
        recipe: Recipe,
        scores: Callable[[TaggedImage], torch.Tensor] | None,
        image: TaggedImage,
    ) -> np.ndarray:
        """Return an arm's labels for stage 2."""
        rgb, classes = read_pixels(image), len(self.classes.tissue_ids)

        def labels(of_classes: torch.Tensor) -> np.ndarray:
            return pseudo_mask(
                of_classes,
                image,
                rgb,
                recipe.pseudo_masks,
                white_background=recipe.data.white_background,
                mpp=self.folds[0].mpp,
            )

        if scores is not None:
            return labels(scores(image))
        if arm.masks == "truth":
            if image.truth is None:  # from a further folder: one tag for the whole image
                return np.full(image.size, image.tags[0].argmax(), np.int16)
            truth = read_truth(image, self.folds[0].train)
            return np.where(truth == 0, IGNORED, truth.astype(np.int16) - 1).astype(np.int16)
        found = labels(torch.zeros(classes, *image.size))
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


def confusion(folder: TaggedFolder, mask: Any, classes: int | None = None) -> np.ndarray:
    """Return the pooled confusion matrix, without pixels that have no class in mask or truth.

    `classes` is the number of classes that count; None counts the tissue classes.
    """
    counted = classes or len(folder.classes.tissue_ids)
    total = np.zeros((counted, counted), np.int64)
    for image in folder.images:
        truth, found = read_truth(image, folder), mask(image)
        truth[(truth > counted) | (found == 0) | (found > counted)] = 0
        total += confusion_matrix(truth, np.where(truth == 0, 1, found), counted)
    return total


def score_of(total: np.ndarray, classes: TissueClasses) -> Score:
    tissue = len(classes.tissue_ids)
    return Score(total, classes.names[: len(total)], tuple(range(tissue)))


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
    one, two, model = recipe.stage1, recipe.stage2, recipe.model
    dtype = choose_precision(two.precision, torch.device("cpu")).dtype
    return (
        f"{model.backbone}, width {model.width}; stage 1: {one.epochs} epochs at "
        f"{one.learning_rate:g}; stage 2: {model.segmenter} {model.decoder}, {two.epochs} epochs, "
        f"{two.steps} steps at {two.learning_rate:g}; margin {recipe.pseudo_masks.ignore_margin:g}"
    ) + ("" if dtype is torch.float32 else f"; {str(dtype).removeprefix('torch.')}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--recipe", default="glas_oeem")
    parser.add_argument("--backbone", help="image encoder of all arms, instead of the recipe's")
    parser.add_argument("--weight", type=float, default=0.1, help="weight of each matching loss")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folds", type=int, default=1, help="cross-validation by image")
    parser.add_argument("--more", type=Path, action="append", help="further training folder")
    parser.add_argument("--stage1-only", action="store_true", help="cams and pseudo masks only")
    parser.add_argument(
        "--only",
        action="append",
        help="the arm of this name, or arms whose names contain it, in this order; repeatable",
    )
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--rows", type=Path, help="CSV file of measured rows, to go on with")
    options = parser.parse_args()
    recipe = chosen_recipe(options.recipe).override(options.set)
    recipe = replace(recipe, data=replace(recipe.data, train=options.data))
    if options.backbone:
        recipe = replace(recipe, model=replace(recipe.model, backbone=options.backbone))
    if options.more:
        recipe = replace(recipe, data=replace(recipe.data, more=tuple(options.more)))
    laboratory = Laboratory(recipe, options.folds)
    rows, settings, commit = (
        MeasuredRows(options.rows, HEADER),
        settings_of(recipe),
        current_commit(),
    )
    part = "stage 1" if options.stage1_only else "both stages"
    print(settings)
    print(f"{'arm':48s} {' '.join(f'{name:>12s}' for name in COLUMNS)}   seconds per run")
    every = arms_of(options.weight)
    named = {arm.name: [arm] for arm in every}
    arms = [
        arm
        for text in options.only or [""]
        for arm in named.get(text, [arm for arm in every if text in arm.name])
    ]
    for arm in arms:
        runs = []
        for seed in range(options.seeds):
            values = (options.recipe, options.folds, arm.name, seed, part, settings)
            key = {name: str(value) for name, value in zip(KEYS, values, strict=True)}
            row = rows.found(key)
            if row is None:
                begun = time.monotonic()
                scores = laboratory.run(arm, seed, stage1_only=options.stage1_only)
                row = key | {
                    name: f"{scores[name]:.2f}" if name in scores else "" for name in COLUMNS
                }
                row |= {"seconds": f"{time.monotonic() - begun:.0f}", "commit": commit}
                rows.add(row)
            runs.append(row)
        cells = []
        for name in COLUMNS:
            measured = [float(run[name]) for run in runs if run[name]]
            told = f"{np.mean(measured):.1f} +- {np.std(measured):.1f}" if measured else "-"
            cells.append(f"{told:>12s}")
        seconds = np.mean([float(run["seconds"]) for run in runs])
        print(f"{arm.name:48s} {' '.join(cells)}   {seconds:.0f}", flush=True)
    if not options.only or "shipped" in options.only:
        print(f"{'shipped model, no training':48s} {laboratory.shipped():51.1f}")


if __name__ == "__main__":
    main()

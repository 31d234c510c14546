"""What stage 2's decoder, changed pixels, encoder and self-training are worth, by patient.

    python benchmarks/stage2_arms.py GLAS            # trains what is missing and prints the table
    python benchmarks/stage2_arms.py GLAS --only "end to end" --folds 2 --seeds 1
    python benchmarks/stage2_arms.py GLAS --table    # only prints it

Threefold cross-validation by patient within the training patients of the recipe `glas_oeem`: its
held-out patients take no part, so that settings may be chosen here. Stage 1 is trained once per
fold and seed on the patients of the other folds, and all arms learn from its pseudo masks. Scores
are mIoU in % on whole images, pooled over a fold's pixels, without tags and without test-time
augmentation, after the last epoch. Every row is written when it is done, with the commit that it
was measured on, and is not measured again.

A row of three folds takes about 15 minutes on one core with 400 steps, half as many with a frozen
encoder, twice as many with a round of self-training.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from measured_rows import MeasuredRows, current_commit

from napari_plimseg.models import load_backbone, load_matcher
from plimseg_training.config import chosen_recipe
from plimseg_training.data import TaggedFolder, TrainingData, read_pixels, read_truth
from plimseg_training.loop import train
from plimseg_training.stages import (
    IGNORED,
    Encoders,
    Stage1Task,
    Stage2Task,
    Targets,
    pseudo_mask,
    write_pseudo_mask,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

RESULTS = Path(__file__).with_name("results") / "stage2_arms.csv"
COLUMNS = ("arm", "steps", "fold", "seed", "miou", "labels_right", "labels_known", "by_epoch",
           "minutes", "commit")  # fmt: skip
FOLDS = 3
EPOCHS = 6
CAMS, TRUTH = "cams", "truth"
REFERENCE = "end to end"


@dataclass(frozen=True)
class Arm:
    """One row of the table: what it changes in the recipe, and whose labels it learns from."""

    name: str
    settings: tuple[str, ...] = ()
    labels: str = CAMS


FORMER = (
    "model.segmenter=backbone", "model.decoder=context", "stage2.epochs=18", "stage2.steps=0",
    "stage2.crop=0", "stage2.batch_size=4", "stage2.learning_rate=5e-4",
    "stage2.warm_up_fraction=0.1", "stage2.augment=flips", "stage2.ema=0", "stage2.tag_weight=0.3",
)  # fmt: skip
FROZEN, TAGS = ("model.segmenter_blocks=none",), ("stage2.tag_weight=0.2",)
ARMS = (
    Arm("former stage 2: frozen DenseNet121, stride 8", FORMER),
    Arm("pyramid on frozen small", (*FROZEN, "stage2.augment=flips")),
    Arm("pyramid on frozen small, changed pixels", FROZEN),
    Arm("end to end, turned crops only", ("stage2.augment=flips",)),
    Arm(REFERENCE),
    Arm("end to end, bootstrap", ("stage2.loss_form=bootstrap",)),
    Arm("end to end, symmetric", ("stage2.loss_form=symmetric",)),
    Arm("end to end, OEEM weights", ("stage2.hard_pixels=oeem",)),
    Arm("end to end, tags", TAGS),
    Arm("end to end, one round", labels=REFERENCE),
    Arm("end to end, tags, one round", TAGS, "end to end, tags"),
    Arm("end to end, true masks", labels=TRUTH),
)


class Bench:
    """The folds, their labels and the file of results.

    Parameters
    ----------
    data : Path
        Folder of GlaS.
    steps : int
        Steps of stage 2, in all arms but the former one.
    settings : sequence of str
        Settings of all arms, as `--set` has them.
    work, out : Path
        Folder of labels, and file of results.
    """

    def __init__(self, data: Path, steps: int, settings: list[str], work: Path, out: Path) -> None:
        self.steps, self.work, self.rows = steps, work, MeasuredRows(out, COLUMNS)
        schedule = [f"stage2.steps={steps}", f"stage2.epochs={EPOCHS}", "stage2.keep=last"]
        schedule.append("stage2.tag_weight=0")  # arms add the tags' loss
        self.recipe = chosen_recipe("glas_oeem").override(
            [f"data.train={data.resolve()}", *schedule, *settings]
        )
        self.data = TrainingData.of(self.recipe)
        self.groups = folds_by_patient(self.data.train)

    def is_done(self, arm: Arm, fold: int, seed: int) -> bool:
        return self.rows.found(self.key(arm, fold, seed)) is not None

    def key(self, arm: Arm, fold: int, seed: int) -> dict[str, str]:
        """Return what a row is known by."""
        values = (arm.name, str(self.steps), str(fold), str(seed))
        return dict(zip(COLUMNS[:4], values, strict=True))

    def split(self, fold: int) -> TrainingData:
        """Return the data with a fold's patients for validation."""
        held = set(self.groups[fold])
        images = self.data.train.images
        return replace(
            self.data,
            train=self.data.train.restricted(i for i in images if i.group not in held),
            validation=self.data.train.restricted(i for i in images if i.group in held),
        )

    def labels_of(self, name: str, fold: int, seed: int) -> Targets:
        steps = "" if name in (CAMS, TRUTH) else f" {self.steps}"
        return Targets(self.work / f"labels {name}{steps} {fold} {seed}")

    def stage1_labels(self, fold: int, seed: int) -> Targets:
        """Return the pseudo masks of stage 1, made at most once."""
        targets, recipe = self.labels_of(CAMS, fold, seed), replace(self.recipe, seed=seed)
        data, device = self.split(fold), torch.device("cpu")
        if all(targets.path(image).is_file() for image in data.train.images):
            return targets
        backbone = load_backbone(recipe.model.backbone, seed=seed)
        encoders = Encoders.of(backbone, load_matcher("bundled", seed=seed), recipe, device)
        task = Stage1Task(recipe, data.train, data.validation, encoders)
        train(task, recipe.stage1, self.folder(f"stage1 {fold} {seed}"), seed=seed, device=device)
        config = recipe.pseudo_masks
        for image in data.train.images:
            scores = task.label_scores(image, config)
            found = pseudo_mask(scores, image, read_pixels(image), config)
            write_pseudo_mask(targets.path(image), found)
        return targets

    def true_masks(self, fold: int, seed: int) -> Targets:
        targets, folder = self.labels_of(TRUTH, fold, seed), self.split(fold).train
        for image in folder.images:
            truth = read_truth(image, folder).astype(np.int16)
            write_pseudo_mask(targets.path(image), np.where(truth == 0, IGNORED, truth - 1))
        return targets

    def folder(self, name: str) -> Path:
        """Return a folder of the work folder, made if necessary."""
        path = self.work / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def targets_for(self, arm: Arm, fold: int, seed: int) -> Targets:
        """Return an arm's labels, training for them what is missing."""
        targets = self.labels_of(arm.labels, fold, seed)
        self.folder(targets.folder.name)
        if arm.labels == CAMS:
            return self.stage1_labels(fold, seed)
        if arm.labels == TRUTH:
            return self.true_masks(fold, seed)
        images = self.split(fold).train.images
        if not all(targets.path(image).is_file() for image in images):
            self.run(next(other for other in ARMS if other.name == arm.labels), fold, seed, True)
        return targets

    def run(self, arm: Arm, fold: int, seed: int, labels_wanted: bool) -> None:
        """Train an arm, write its row and, if wanted, its opinion of the training images."""
        begun = time.monotonic()
        targets, data = self.targets_for(arm, fold, seed), self.split(fold)
        recipe = replace(self.recipe.override(list(arm.settings)), seed=seed)
        device = torch.device("cpu")
        backbone = load_backbone(recipe.model.backbone, seed=seed)
        encoders = Encoders.of(backbone, load_matcher("bundled", seed=seed), recipe, device)
        own = encoders.for_stage2(recipe)
        task = Stage2Task(recipe, data.train, data.validation, own, targets)
        place = self.folder(f"run {arm.name} {self.steps} {fold} {seed}")
        result = train(task, recipe.stage2, place, seed=seed, device=device)
        scores = [100 * row["score"] for row in result.history]
        if not self.is_done(arm, fold, seed):
            right, known = agreement(targets, data.train)
            minutes = (time.monotonic() - begun) / 60
            values = (
                f"{scores[-1]:.2f}", f"{right:.1f}", f"{known:.1f}",
                " ".join(f"{s:.1f}" for s in scores), f"{minutes:.1f}", current_commit(),
            )  # fmt: skip
            measured = dict(zip(COLUMNS[4:], values, strict=True))
            row = self.key(arm, fold, seed) | measured
            self.rows.add(row)
            print(*row.values(), sep="  ", flush=True)
        if labels_wanted:
            opinion = self.labels_of(arm.name, fold, seed)
            self.folder(opinion.folder.name)
            margin = recipe.stage2.round_margin
            config = replace(recipe.pseudo_masks, refine="none", ignore_margin=margin)
            for image in data.train.images:
                seen = task.turned_probabilities(image)
                found = pseudo_mask(seen, image, read_pixels(image), config)
                write_pseudo_mask(opinion.path(image), found)


def folds_by_patient(folder: TaggedFolder) -> list[list[str]]:
    """Return the patients of each fold; the folds have about as many images."""
    counts = Counter(str(image.group) for image in folder.images)
    folds: list[list[str]] = [[] for _ in range(FOLDS)]
    for patient in sorted(counts, key=lambda name: (-counts[name], len(name), name)):
        min(folds, key=lambda fold: sum(counts[name] for name in fold)).append(patient)
    return folds


def agreement(targets: Targets, folder: TaggedFolder) -> tuple[float, float]:
    """Return the share of labels that are right, and of pixels that have one, in %."""
    right = known = pixels = 0
    for image in folder.images:
        truth, labels = read_truth(image, folder).astype(np.int16) - 1, targets(image)
        counted = (labels != IGNORED) & (truth >= 0)
        right += int((labels == truth)[counted].sum())
        known += int(counted.sum())
        pixels += int((truth >= 0).sum())
    return 100 * right / max(1, known), 100 * known / max(1, pixels)


def table(rows: Iterable[dict[str, str]], steps: int) -> str:
    """Return the table of all rows with a number of steps, as Markdown.

    The gain is the mean difference from "end to end" over the folds and seeds that both have,
    with its standard deviation.
    """
    scores: dict[str, dict[tuple[str, str], float]] = {}
    labels: dict[str, list[float]] = {}
    for row in rows:
        if row["steps"] == str(steps):
            scores.setdefault(row["arm"], {})[row["fold"], row["seed"]] = float(row["miou"])
            labels.setdefault(row["arm"], []).append(float(row["labels_right"]))
    lines = [
        f"| arm | labels right | {' | '.join(f'fold {n}' for n in range(FOLDS))} "
        f"| beside '{REFERENCE}' | runs |",
        "|---" * (FOLDS + 4) + "|",
    ]
    for arm in (arm.name for arm in ARMS if arm.name in scores):
        own = scores[arm]
        folds = [
            _with_spread([s for (fold, _), s in own.items() if fold == str(n)], "-")
            for n in range(FOLDS)
        ]
        other = scores.get(REFERENCE, {})
        gains = [score - other[key] for key, score in own.items() if key in other]
        gain = "" if arm == REFERENCE else _with_spread(gains, "-", sign="+")
        lines.append(
            f"| {arm} | {np.mean(labels[arm]):.1f} | {' | '.join(folds)} | {gain} | {len(own)} |"
        )
    return "\n".join(lines)


def _with_spread(values: list[float], missing: str, sign: str = "") -> str:
    if not values:
        return missing
    spread = f" +- {np.std(values, ddof=1):.1f}" if len(values) > 1 else ""
    return f"{np.mean(values):{sign}.1f}{spread}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--folds", type=int, nargs="+", default=list(range(FOLDS)))
    parser.add_argument("--only", action="append", help="an arm's name; repeatable")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--work", type=Path, default=Path("stage2-arms"), help="labels and runs")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--table", action="store_true", help="only print the table")
    options = parser.parse_args()
    unknown = set(options.only or ()) - {arm.name for arm in ARMS}
    if unknown:
        parser.error(f"no arm is named {', '.join(sorted(unknown))}")
    bench = Bench(options.data, options.steps, options.set, options.work, options.out)
    arms = [arm for arm in ARMS if not options.only or arm.name in options.only]
    if not options.table:
        for seed in options.seeds:
            for arm in arms:
                for fold in options.folds:
                    if not bench.is_done(arm, fold, seed):
                        wanted = any(other.labels == arm.name for other in arms)
                        bench.run(arm, fold, seed, wanted)
    print(table(bench.rows.rows, options.steps))


if __name__ == "__main__":
    main()

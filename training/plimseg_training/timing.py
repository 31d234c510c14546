"""How long a training would take, from a few steps of each stage timed on this computer."""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_plimseg.inference import describe_device, pick_device
from napari_plimseg.models import load_backbone, load_matcher
from plimseg_training.data import read_pixels
from plimseg_training.events import memory_mb
from plimseg_training.pipeline import PREVIEWS, matcher_name
from plimseg_training.stages import (
    BUDGET_BYTES,
    Encoders,
    Stage1Task,
    Stage2Task,
    label_scores,
    opinions,
    pseudo_mask,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from plimseg_training.config import Recipe, StageConfig
    from plimseg_training.data import TrainingData

_IN_WINDOWS = 3
"""Predictions of whole images that take as long as one in overlapping windows."""
_BLOCK = 64


@dataclass(frozen=True)
class Cost:
    """What the parts of a training take on this computer, in seconds.

    Parameters
    ----------
    images, held_out : int
        Numbers of images for training and for validation with truth.
    encode : float
        Cached features of an image, for both stages together; 0 if there are none.
    first, second : float
        A batch of stage 1 and of stage 2, forward and backward.
    cams, label, predict : float
        CAMs of an image, its pseudo mask, and its prediction by stage 2.
    memory_mb : float
        Roughly, on the device, or of the process when training on the CPU.
    device : str
        For people.
    """

    images: int
    held_out: int
    encode: float
    first: float
    second: float
    cams: float
    label: float
    predict: float
    memory_mb: float
    device: str

    def seconds(self, recipe: Recipe) -> float:
        """Return the duration of a recipe of the same networks and sizes."""
        one, two = recipe.stage1, recipe.stage2
        seen = self.held_out + PREVIEWS  # after every epoch
        total = (self.images + self.held_out) * self.encode + self.images * self.label
        # both are 0 where labels need no stage 1
        total += self._batches(one) * self.first + one.epochs * seen * self.cams
        stage = self._batches(two) * self.second + two.epochs * seen * self.predict
        total += stage + self.held_out * _IN_WINDOWS * self.predict
        again = stage + self.images * 8 * self.predict  # eight turned views of every image
        return total + two.self_training_rounds * again

    def _batches(self, stage: StageConfig) -> int:
        if stage.steps:
            return stage.steps * stage.accumulate
        return stage.epochs * -(-self.images // stage.batch_size)


def estimated_cost(recipe: Recipe, data: TrainingData) -> Cost:
    """Time three batches of each stage, and one image in every other part of a training.

    Two training images of middle size are used.
    """
    device, training = pick_device(recipe.device), data.train
    backbone = load_backbone(recipe.model.backbone, seed=recipe.seed)
    matcher = load_matcher(matcher_name(recipe), seed=recipe.seed)
    encoders = Encoders.of(backbone, matcher, recipe, device)
    validation = data.validation.images if data.validation else ()
    mpp = training.mpp or matcher.mpp
    by_size = sorted(training.images, key=lambda image: image.size[0] * image.size[1])
    middle = max(0, len(by_size) // 2 - 1)
    probe = training.restricted(by_size[middle : middle + 2])
    image, classes = probe.images[0], len(training.classes)
    second = encoders.for_stage2(recipe)
    # once before, because the first pass through a network takes longer
    small = torch.zeros(1, 3, 64, 64, device=encoders.device)
    with torch.inference_mode():
        encoders.backbone(small)
        second.backbone(small)
    caches = {id(c): c for c in (encoders.blocks, encoders.matched, second.blocks) if c}
    encode = 0.0
    for cache in caches.values():
        encode += _seconds(functools.partial(cache.of, image))
    config, one = recipe.pseudo_masks, None
    if config.source == "auto":  # to find out which it is would take a look at many images
        config = replace(config, source="mean")  # takes longest
    first = cams = 0.0
    if "cams" in config.sources:
        one = Stage1Task(recipe, probe, None, encoders)
        first = _seconds_of_batch(one, recipe.stage1)
        cams = _seconds(lambda: one.cams(image))
    seen = opinions(config, encoders, training, mpp, None if one is None else one.label_scores)
    scores = label_scores(config, seen, {})
    white = recipe.data.white_background
    label = _seconds(
        lambda: pseudo_mask(
            scores(image), image, read_pixels(image), config,
            white_background=white, mpp=mpp,
        )
    )  # fmt: skip
    # blocks of all classes, as a real mask has
    two = Stage2Task(
        recipe, probe, None, second,
        lambda image: (np.indices(image.size).sum(0) // _BLOCK % classes).astype(np.int16),
    )  # fmt: skip
    second_batch = _seconds_of_batch(two, recipe.stage2)
    predict = _seconds(lambda: two.logits(image))
    cached = 0.0
    if encoders.blocks is not None:
        of_image = sum(m.numel() * 2 for m in encoders.blocks.of(image))  # 2 bytes per value
        cached = min(of_image * len(training.images), BUDGET_BYTES) / 1e6
    return Cost(
        images=len(training.images),
        held_out=sum(each.truth is not None for each in validation),
        encode=encode,
        first=first,
        second=second_batch,
        cams=cams,
        label=label * (2 if len(seen) > 1 else 1),  # compared with the tags first
        predict=predict,
        memory_mb=memory_mb(device.type) + cached,
        device=describe_device(device),
    )


def _seconds(work: Callable[[], object]) -> float:
    begin = time.monotonic()
    work()
    return time.monotonic() - begin


def _seconds_of_batch(task: Stage1Task | Stage2Task, stage: StageConfig) -> float:
    """Return the time of a batch of a stage, without what is cached by the first one."""
    task.network.train()
    optimizer = torch.optim.AdamW(task.parameter_groups())
    # an epoch late enough for every loss
    epoch = max(0, stage.epochs - 1)
    indices = [i % task.epoch_items(epoch) for i in range(stage.batch_size)]

    def step() -> None:
        loss, _ = task.loss(task.batch(0, epoch, indices))  # type: ignore[arg-type]
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
        float(loss.detach())  # waits for the device

    return min(_seconds(step) for _ in range(3))

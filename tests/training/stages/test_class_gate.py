"""The class gate's thresholds, by the tags of training windows."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from napari_plimseg.models.class_gate import ALWAYS, ClassGate, log_odds
from plimseg_training.stages.class_gate import fitted_gate, gate_thresholds, gated_logits
from plimseg_training.stages.stage2 import Stage2Task
from tests.support.stages import WITH_BACKGROUND, encoders, recipe, windowed_tissue


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    folder = windowed_tissue(tmp_path_factory.mktemp("tissue"), 2, classes=WITH_BACKGROUND)
    chosen = recipe()
    return Stage2Task(chosen, folder, None, encoders(chosen).for_stage2(chosen), lambda image: None)


@pytest.mark.parametrize("keep", [0.5, 0.9, 0.98, 1.0])
def test_thresholds_keep_just_the_share_of_tagged_windows(keep):
    random = np.random.default_rng(0)
    scores = random.normal(size=(50, 2)).astype(np.float32)
    tags = random.integers(0, 2, (50, 2)).astype(np.uint8)
    for k, threshold in enumerate(gate_thresholds(scores, tags, keep)):
        own = scores[tags[:, k] == 1, k]
        assert (own >= threshold).mean() >= keep - 1e-9
        assert (own > threshold).mean() < keep


def test_a_class_without_tags_is_never_left_out():
    scores = np.array([[1.0, -5.0], [2.0, -9.0]], np.float32)
    found = gate_thresholds(scores, np.array([[1, 0], [1, 0]], np.uint8), 1.0)
    assert found == (1.0, ALWAYS)


def test_by_default_there_is_none(task):
    assert fitted_gate(recipe().gate, task, 0.5) is None


def test_even_odds_and_twice_the_windows_unless_said_otherwise(task):
    gate = fitted_gate(recipe(None, "gate.by=tags").gate, task, 0.5)
    sides = [math.sqrt(h * w) for i in task.folder.images for *_, h, w in i.windows.tolist()]
    assert gate == ClassGate(2 * float(np.median(sides)) * 0.5, (0.0, 0.0))


def test_thresholds_are_of_the_windows_own_scores(task):
    gate = fitted_gate(recipe(None, "gate={by: tags, keep: 1.0}").gate, task, 0.5)
    least = [math.inf, math.inf]
    stride = task.network.head.stride
    for image in task.folder.images:
        odds = log_odds(task.coarse_logits(image))[:2].double()
        fine = odds.repeat_interleave(stride, 1).repeat_interleave(stride, 2)
        for (y, x, h, w), tags in zip(image.windows.tolist(), image.tags.tolist(), strict=True):
            pooled = (4 * fine[:, y : y + h, x : x + w]).exp().mean((1, 2)).log() / 4
            least = [
                min(old, z) if tag else old
                for old, z, tag in zip(least, pooled.tolist(), tags, strict=True)
            ]
    assert gate.thresholds == pytest.approx(least, abs=1e-3)


def test_masks_lack_what_the_gate_leaves_out(task):
    image = task.folder.images[0]
    plain = gated_logits(task, None, image, 0.5)
    assert torch.equal(plain, task.logits(image))
    found = gated_logits(task, ClassGate(20, (99.0, ALWAYS)), image, 0.5)
    assert bool((found[0] == -math.inf).all())
    assert torch.equal(found[1:], plain[1:])

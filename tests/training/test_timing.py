"""The estimated duration counts every part of a training as often as it runs."""

from __future__ import annotations

from dataclasses import replace

from plimseg_training.config import DataConfig, Recipe, StageConfig
from plimseg_training.timing import Cost

COST = Cost(
    images=10,
    held_out=2,
    encode=5.0,
    first=1.0,
    second=10.0,
    cams=0.5,
    label=3.0,
    predict=0.25,
    memory_mb=100.0,
    device="CPU",
)


def recipe(**stage2: int) -> Recipe:
    one = StageConfig(epochs=4, batch_size=3, learning_rate=1e-3)
    two = StageConfig(epochs=2, batch_size=5, learning_rate=1e-3)
    return Recipe(name="a", data=DataConfig(), stage1=one, stage2=replace(two, **stage2))


def test_every_part_counts_as_often_as_it_runs() -> None:
    encode, label = 12 * 5.0, 10 * 3.0
    first = 4 * 4 * 1.0 + 4 * (2 + 6) * 0.5  # four batches an epoch; two images and six previews
    seen = 2 * (2 + 6) * 0.25 + 2 * 3 * 0.25
    plain = encode + label + first + 2 * 2 * 10.0 + seen
    assert COST.seconds(recipe()) == plain
    in_steps = encode + label + first + 7 * 10.0 + seen
    assert COST.seconds(recipe(steps=7)) == in_steps
    again = 7 * 10.0 + 2 * (2 + 6) * 0.25 + 10 * 8 * 0.25
    assert COST.seconds(recipe(steps=7, self_training_rounds=2)) == in_steps + 2 * again


def test_labels_without_stage_1_cost_none() -> None:
    without = replace(COST, first=0.0, cams=0.0)
    saved = 4 * 4 * 1.0 + 4 * (2 + 6) * 0.5
    assert COST.seconds(recipe()) - without.seconds(recipe()) == saved

"""Exercise: add a loss between regions and texts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from napari_plimseg.errors import ConfigError
from napari_plimseg.training_runs.run_folder import RunFolder
from plimseg_training.events import read_events
from plimseg_training.loop.task import Stopped
from plimseg_training.pipeline import train_recipe
from plimseg_training.stages.losses import LOSSES, Pairs, TextLoss
from plimseg_training.stages.stage1 import Stage1Task
from tests.support import stages
from tests.support.stages import encoders, named_tissue, recipe, windowed_tissue

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

WEIGHT = 0.1
SETTINGS = ("matching.form=contrastive", "stage1.augment=none")
TURN_ON = f"matching.other_losses.margin={WEIGHT}"


class Margin(TextLoss):
    """A region is more similar to its own text than to any other, by one half."""

    def forward(self, pairs: Pairs, texts: Tensor) -> Tensor:
        if not len(pairs):
            return pairs.foreground.sum() * 0
        found = self.similarity(pairs.foreground, texts)  # (E, L)
        own = found.gather(1, pairs.classes[:, None])  # (E, 1)
        others = found.scatter(1, pairs.classes[:, None], 0.0)
        return (0.5 - own + others).relu().amax(1).mean()


@pytest.fixture
def row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LOSSES, "margin", Margin)


@pytest.fixture(autouse=True)
def bundled_networks_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plimseg_training.pipeline.load_backbone", stages.backbone)
    monkeypatch.setattr("plimseg_training.pipeline.load_matcher", stages.matcher)


def test_without_the_row_its_key_is_refused(tmp_path: Path) -> None:
    chosen = recipe(named_tissue(tmp_path / "images", (32, 32)), *SETTINGS, TURN_ON)
    with pytest.raises(ConfigError, match="'margin', which is not a loss"):
        train_recipe(chosen, tmp_path / "run")


@pytest.mark.usefixtures("row")
def test_a_training_reports_it(tmp_path: Path) -> None:
    chosen = recipe(named_tissue(tmp_path / "images", (32, 32)), *SETTINGS, TURN_ON)
    run = RunFolder(tmp_path / "run")
    kinds: list[str] = []
    # the rest of the training has nothing to do with this loss
    with pytest.raises(Stopped):
        train_recipe(
            chosen,
            run.root,
            on_event=lambda event: kinds.append(event.kind),
            should_stop=lambda: "epoch" in kinds,
        )
    reported = [event for event in read_events(run.progress) if event.kind == "epoch"]
    assert [event.stage for event in reported] == ["stage1"]
    assert reported[0].losses["margin"] > 0
    assert {"tags", "ftm"} <= set(reported[0].losses)


def one_step(root: Path, *settings: str) -> tuple[float, dict[str, float], Tensor]:
    """Return loss, its terms and the gradient of the head on two images."""
    chosen = recipe(None, *SETTINGS, *settings)
    task = Stage1Task(chosen, windowed_tissue(root, 2), None, encoders(chosen))
    task.network.eval()
    loss, parts = task.loss(task.batch(0, 0, [0, 1]))
    loss.backward()
    gradients = [p.grad.flatten() for p in task.network.head.parameters() if p.grad is not None]
    return float(loss.detach()), parts, torch.cat(gradients)


@pytest.mark.usefixtures("row")
def test_it_changes_the_gradient_by_its_weight(tmp_path: Path) -> None:
    plain, parts, before = one_step(tmp_path)
    assert "margin" not in parts
    once, parts, after = one_step(tmp_path, TURN_ON)
    assert once == pytest.approx(plain + WEIGHT * parts["margin"], rel=1e-5)
    _, _, doubled = one_step(tmp_path, f"matching.other_losses.margin={2 * WEIGHT}")
    added = after - before
    assert float(added.norm()) > 1e-4 * float(before.norm())
    assert torch.allclose(doubled - before, 2 * added, atol=1e-3 * float(added.abs().max()))

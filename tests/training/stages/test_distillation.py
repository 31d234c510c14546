"""The fast student: it learns what the teacher predicts, and its file stands on its own."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from napari_plimseg.errors import ConfigError, ModelError
from napari_plimseg.models.library import list_models, models_folder
from napari_plimseg.models.loading import load_model
from napari_plimseg.training_runs.run_folder import RunFolder
from plimseg_training.commands.train import listed
from plimseg_training.loop.task import Stopped
from plimseg_training.pipeline import train_recipe
from plimseg_training.stages.distillation import (
    DistillTask,
    soft_loss,
    started_backbone,
    untagged_images,
)
from plimseg_training.stages.stage2 import Stage2Task
from tests.support.stages import (
    encoders,
    halves,
    named_tissue,
    recipe,
    same,
    tissue,
    windowed_tissue,
)

SETTINGS = (
    "distill.student=small", "distill.epochs=2", "distill.batch_size=4", "distill.crop=32",
)  # fmt: skip


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """A teacher that has seen a few steps."""
    folder = windowed_tissue(tmp_path_factory.mktemp("tissue"), 2)
    chosen = recipe(None, "stage2.augment=none", "stage2.learning_rate=0.01")
    task = Stage2Task(
        chosen, folder, None, encoders(chosen).for_stage2(chosen),
        lambda image: halves(image.size, (1, 1)).astype(np.int16),
    )  # fmt: skip
    optimizer = torch.optim.AdamW(task.parameter_groups())
    task.network.train()
    for _ in range(15):
        loss, _ = task.loss(task.batch(0, 0, [0, 1]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return task


def student_of(teacher, *settings, validation=None):
    return DistillTask(recipe(None, *SETTINGS, *settings), teacher.folder, validation, teacher)


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0])
def test_the_soft_loss_is_its_formula(temperature):
    logits, teacher = 2 * random(2, 3, 4, 5), random(2, 3, 4, 5, seed=1).log_softmax(1)

    def flattened(z):
        powers = [math.exp(v / temperature) for v in z.double().tolist()]
        return [p / sum(powers) for p in powers]

    terms = [
        sum(
            p * math.log(p / q)
            for p, q in zip(
                flattened(teacher[b, :, y, x]), flattened(logits[b, :, y, x]), strict=True
            )
        )
        for b in range(2)
        for y in range(4)
        for x in range(5)
    ]
    expected = temperature**2 * sum(terms) / len(terms)
    assert float(soft_loss(logits, teacher, temperature)) == pytest.approx(expected, rel=1e-4)
    assert float(soft_loss(teacher, teacher, temperature)) == pytest.approx(0, abs=1e-6)


def test_it_learns_what_the_teacher_predicts(teacher):
    task = student_of(teacher, "distill.augment=flips", validation=teacher.folder)
    optimizer = torch.optim.AdamW(task.parameter_groups(), lr=2e-3)
    task.network.train()
    losses = []
    for step in range(30):
        loss, parts = task.loss(task.batch(0, step, [0, 1]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(parts["soft"])
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])
    assert task.validate()["score"] > 0.6
    assert all(p.grad is None for p in teacher.network.backbone.parameters())


def test_only_the_student_sees_another_stain(teacher):
    task = student_of(teacher, "distill.crop=0")
    plain = student_of(teacher, "distill.crop=0", "distill.augment=none").batch(0, 0, [0])[0]
    epochs = [task.batch(0, epoch, [0])[0] for epoch in range(8)]
    pixels = [sample.pixels.mean((1, 2)) for sample in epochs]
    assert len({tuple(p.tolist()) for p in pixels}) == 8
    for sample in epochs:  # turned, and else the same
        found = sample.matched.flatten(1).sort(1).values
        assert torch.equal(found, plain.matched.flatten(1).sort(1).values)


@pytest.mark.parametrize("crop", [0, 32])
@pytest.mark.parametrize("size", [(64, 96), (50, 83)])
def test_targets_lie_on_the_pixels(tmp_path, teacher, crop, size):
    folder = windowed_tissue(tmp_path, 1, size)
    chosen = recipe(None, *SETTINGS, f"distill.crop={crop}")
    own = Stage2Task(chosen, folder, None, teacher.encoders, lambda image: None)
    own.network.load_state_dict(teacher.network.state_dict())
    task = DistillTask(chosen, folder, None, own)
    for epoch in range(6):
        (sample,) = task.batch(0, epoch, [0])
        assert sample.size == tuple(sample.pixels.shape[1:])
        assert [8 * side for side in sample.matched.shape[1:]] == list(sample.size)
        # the pale half is the second class
        pale = torch.nn.functional.avg_pool2d(sample.pixels.mean(0, keepdim=True), 8)[0]
        second = sample.matched[1] > sample.matched[0]
        if 0.2 < float(second.float().mean()) < 0.8 and min(size) == 64:
            assert float(pale[second].mean()) > float(pale[~second].mean())


def test_images_without_tags_teach_too_and_have_no_tag_loss(tmp_path, teacher):
    Image.fromarray(tissue(halves((64, 64), (1, 1)), 9)).save(tmp_path / "more.png")
    Image.fromarray(tissue(halves((16, 16), (1, 1)), 9)).save(tmp_path / "small.png")
    task = student_of(teacher, f"distill.unlabelled=[{tmp_path}]", "distill.crop=0")
    assert task.epoch_items(0) == 3
    assert task.names([2]) == ["more.png"]
    loss, parts = task.loss(task.batch(0, 0, [2]))
    assert parts["tags"] == 0
    assert float(loss.detach()) == pytest.approx(parts["soft"], rel=1e-5)
    assert task.digest() != student_of(teacher).digest()


def test_a_folder_without_images_is_told(tmp_path):
    with pytest.raises(ConfigError, match="without images"):
        untagged_images([tmp_path], 2)


# -- a whole training


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A training that nothing interrupted."""
    root = tmp_path_factory.mktemp("trained")
    named_tissue(root / "images", (32, 32))
    chosen = recipe(root / "images", *SETTINGS, "gate.by=tags")
    train_recipe(chosen, root / "run")
    return chosen, RunFolder(root / "run")


def test_its_file_stands_on_its_own(trained):
    _, run = trained
    tensors = load_file(run.fast_model_file)
    assert {name.partition(".")[0] for name in tensors} == {"head", "backbone"}
    assert run.fast_model_file.stat().st_size < 4e6
    model = load_model(run.fast_model_file)
    assert model.gate.thresholds == (0.0, 0.0)
    found = model.probabilities(torch.zeros(1, 320, 320, 3, dtype=torch.uint8))
    assert found.shape == (1, 2, 80, 80)
    assert load_model(run.model_file).classes == model.classes


def test_it_is_in_the_list_under_its_name(trained):
    chosen, run = trained
    listed(run.fast_model_file, f"{chosen.name} (fast)")
    info = {i.name: i for i in list_models()}["tiny (fast)"]
    assert (info.title, info.available) == ("tiny (fast)", True)
    assert info.description == "Your own fast model, distilled from a larger one."
    assert load_model("tiny (fast)").name == "tiny (fast)"
    assert (models_folder() / "tiny (fast).safetensors").exists()


def test_stopped_and_resumed_it_is_the_same_student(trained, tmp_path):
    chosen, expected = trained
    stop = []
    with pytest.raises(Stopped):
        train_recipe(
            chosen, tmp_path,
            on_event=lambda event: stop.append(event.stage == "distill"),
            should_stop=lambda: any(stop),
        )  # fmt: skip
    run = RunFolder(tmp_path)
    assert run.status() == "stopped"
    assert run.stage("distill").is_dir()
    train_recipe(chosen, tmp_path)
    assert same(load_file(run.fast_model_file), load_file(expected.fast_model_file))


def test_a_student_may_begin_where_another_ended(trained):
    _, run = trained
    fresh, warm = started_backbone(None, 0), started_backbone(run.fast_model_file, 0)
    kept = load_file(run.fast_model_file)
    name = "enter.0.0.weight"
    assert torch.equal(warm.state_dict()[name], kept["backbone." + name].float())
    assert not torch.equal(warm.state_dict()[name], fresh.state_dict()[name])
    assert warm.is_trainable
    with pytest.raises(ModelError, match="not of the kind 'small'"):
        started_backbone(run.model_file, 0)

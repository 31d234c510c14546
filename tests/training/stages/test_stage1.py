"""Stage 1 on small synthetic tissue: it learns, and only what it may."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from plimseg_training.data.tagged_folder import read_pixels
from plimseg_training.evaluation.metrics import confusion_matrix
from plimseg_training.stages.common import full_size
from plimseg_training.stages.features import DerivedFeatureCache, FeatureCache
from plimseg_training.stages.stage1 import Encoders, Stage1Batch, Stage1Task
from tests.support.stages import (
    CLASSES,
    WITH_BACKGROUND,
    encoders,
    recipe,
    same,
    weights,
    windowed_tissue,
)


def task_of(folder, *settings, given=None, validation=None):
    chosen = recipe(None, "stage1.augment=none", *settings)
    return Stage1Task(chosen, folder, validation, given or encoders(chosen))


def trained(task, steps, epoch=0):
    """Train on the first two images, always the same; return the losses."""
    optimizer = torch.optim.AdamW(task.parameter_groups())
    task.network.train()
    losses = []
    for _ in range(steps):
        loss, parts = task.loss(task.batch(0, epoch, [0, 1]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses, parts


@pytest.mark.parametrize("form", ["clims", "contrastive", "sigmoid"])
def test_a_few_steps_lower_the_loss_in_features(folder, frozen, form):
    before = weights(frozen.backbone), weights(frozen.matcher)
    task = task_of(folder, f"matching.form={form}", "stage1.learning_rate=0.01", given=frozen)
    losses, parts = trained(task, 12)
    assert losses[-1] < losses[0] - 0.1
    assert set(parts) == {"tags", "ftm", "btm", "cbs", "area"}
    assert same(before[0], weights(frozen.backbone))
    assert same(before[1], weights(frozen.matcher))
    for network in (frozen.backbone, frozen.matcher):
        assert all(p.grad is None and not p.requires_grad for p in network.parameters())


def test_a_few_steps_lower_the_loss_in_images(folder, frozen):
    settings = ("matching.space=image", "matching.pairs_at_once=2", "matching.temperature=0.5")
    given = replace(frozen, matched=None)
    task = task_of(folder, *settings, given=given)
    before = weights(given.backbone), weights(given.matcher)
    losses, _ = trained(task, 6)
    assert losses[-1] < losses[0]
    assert same(before[0], weights(given.backbone))
    assert same(before[1], weights(given.matcher))
    assert all(p.grad is None for p in given.matcher.parameters())


def test_the_sum_of_the_parts_is_the_loss(folder, frozen):
    settings = ("matching.ftm=2", "matching.btm=0.5", "matching.cbs=3", "matching.area=0.25")
    task = task_of(folder, *settings, given=frozen)
    with torch.no_grad():
        loss, parts = task.loss(task.batch(0, 0, [0, 1]))
    weighted = {"tags": 1, "ftm": 2, "btm": 0.5, "cbs": 3, "area": 0.25}
    assert float(loss) == pytest.approx(sum(weighted[k] * v for k, v in parts.items()), rel=1e-5)


@pytest.mark.parametrize("space", ["features", "image"])
def test_matching_reaches_the_head_in_both_spaces(folder, frozen, space):
    settings = (f"matching.space={space}", "matching.area=0", "matching.pairs_at_once=1")
    task = task_of(folder, *settings, given=frozen)
    sample = task.batch(0, 0, [0]).samples[0]
    cam = task.network(task.network.encoded([sample]))[0]
    pooling = task._pooling(sample, cam)
    loss, _ = task.matching(cam, sample, pooling, np.random.default_rng(0))
    loss.backward()
    reached = [p for p in task.network.head.parameters() if p.grad is not None]
    assert sum(float(p.grad.abs().sum()) for p in reached) > 0


def test_warm_up_epochs_have_no_matching(folder, frozen):
    task = task_of(folder, "matching.warm_up_epochs=2", given=frozen)
    for epoch, names in ((0, {"tags"}), (1, {"tags"}), (2, {"tags", "ftm", "btm", "cbs", "area"})):
        _, parts = task.loss(task.batch(0, epoch, [0]))
        assert set(parts) == names


def test_without_weights_there_is_no_matching(folder, frozen):
    off = [f"matching.{name}=0" for name in ("ftm", "btm", "cbs", "area")]
    task = task_of(folder, *off, given=reused(frozen, *off))
    assert task.matching is None
    assert task.encoders.matched is None
    assert set(task.loss(task.batch(0, 0, [0]))[1]) == {"tags"}


def test_a_batch_costs_the_mean_of_its_images(folder, frozen):
    task = task_of(folder, given=frozen)
    task.network.eval()
    with torch.no_grad():
        both, _ = task.loss(task.batch(0, 0, [0, 1]))
        single = [float(task.loss(task.batch(0, 0, [i]))[0]) for i in (0, 1)]
    assert float(both) == pytest.approx(sum(single) / 2, rel=1e-4)


def test_images_of_two_sizes_go_into_one_batch(tmp_path, frozen):
    first = windowed_tissue(tmp_path / "a", 1)
    second = windowed_tissue(tmp_path / "b", 1, (50, 83))
    images = (first.images[0], second.images[0])
    task = task_of(folder_with(first, images), given=frozen)
    loss, _ = task.loss(task.batch(0, 0, [0, 1]))
    assert bool(loss.isfinite())
    assert task.averaged_cams(images[1], (1.0, 1.5), flips=True).shape == (2, 50, 83)
    assert task.cams(images[1]).shape == (2, 4, 6)


def folder_with(folder, images):
    images = tuple(replace(image, given_name=f"n{i}") for i, image in enumerate(images))
    return replace(folder, images=images)


def test_a_crop_without_a_whole_window_is_no_accident(folder, frozen):
    task = task_of(folder, "stage1.crop=32", given=frozen)
    loss, parts = task.loss(task.batch(0, 0, [0, 1]))
    loss.backward()
    assert bool(loss.isfinite())
    assert parts["tags"] == 0


def test_the_same_numbers_give_the_same_batch_and_network(folder, frozen):
    first, second = (task_of(folder, "stage1.augment=flips", given=frozen) for _ in range(2))
    assert same(weights(first.network), weights(second.network))
    with torch.no_grad():
        losses = []
        for task in (first, second):
            task.network.eval()
            losses.append(task.loss(task.batch(0, 1, [0, 1]))[0])
    assert torch.equal(*losses)
    other = task_of(folder, "seed=1", given=frozen)
    assert not same(weights(first.network), weights(other.network))


def test_background_is_what_no_class_claims(tmp_path, frozen):
    folder = windowed_tissue(tmp_path, 1, classes=WITH_BACKGROUND)
    task = task_of(folder, given=frozen)
    assert not task.matching.exclusive
    assert task.cams(folder.images[0]).shape[0] == 2
    assert task_of(windowed_tissue(tmp_path / "b", 1), given=frozen).matching.exclusive


def reused(given, *settings):
    """What another recipe makes of networks that are loaded."""
    chosen = recipe(None, *settings)
    return Encoders.of(given.backbone, given.matcher, chosen, given.device)


def test_matcher_and_backbone_share_their_trunk_when_they_are_the_same(frozen):
    assert isinstance(reused(frozen).matched, DerivedFeatureCache)
    assert isinstance(reused(frozen, "stage1.augment=full").matched, FeatureCache)
    assert reused(frozen, "stage1.augment=full").blocks is None
    assert reused(frozen, "matching.space=image").matched is None
    own_name = frozen.matcher.name
    frozen.matcher.name = "random"
    try:
        assert isinstance(reused(frozen).matched, FeatureCache)
    finally:
        frozen.matcher.name = own_name


def test_maps_that_share_a_trunk_are_those_of_the_matcher(folder, frozen):
    own = reused(frozen)
    for image in folder.images:
        pixels = torch.tensor(read_pixels(image)).permute(2, 0, 1)[None] / 255
        expected = own.matcher.dense(pixels)[0]
        assert torch.allclose(own.matched.of(image)[0], expected, atol=5e-3)


def test_training_the_later_half_of_the_encoder(folder):
    task = task_of(
        folder,
        "model.train_blocks=last",
        "stage1.backbone_learning_rate=0.001",
        "stage1.learning_rate=0.01",
    )
    assert task.encoders.blocks is None
    backbone = task.encoders.backbone
    before, matcher = weights(backbone), weights(task.encoders.matcher)
    losses, _ = trained(task, 3)
    assert losses[-1] < losses[0]
    trainable = {name for name, p in backbone.named_parameters() if p.requires_grad}
    after = weights(backbone)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert changed <= trainable
    assert same(matcher, weights(task.encoders.matcher))


# -- cams


def test_cams_of_the_right_kind_grow(folder, frozen):
    """After some steps the dark half is the first class, the pale half the second."""
    task = task_of(folder, "stage1.learning_rate=0.01", given=frozen, validation=folder)
    trained(task, 15)
    scores = task.validate()
    assert scores["score"] == scores["cam_miou"] > 0.6
    confusion = np.zeros((2, 2), np.int64)
    for image in folder.images:
        truth = np.ones(image.size, np.uint8)
        truth[:, image.size[1] // 2 :] = 2
        cams = full_size(task.cams(image).float(), task.network.head.stride, image.size)
        mask = cams.argmax(0).numpy().astype(np.uint8) + 1
        confusion += confusion_matrix(truth, mask, 2)
    inter = np.diag(confusion)
    union = confusion.sum(0) + confusion.sum(1) - inter
    assert scores["cam_miou"] == pytest.approx((inter / union).mean())


def test_measuring_has_no_chance_in_it_and_leaves_none_behind(folder, frozen):
    """Dropout is for training: a resumed training must make the same pseudo masks."""
    task = task_of(folder, given=frozen, validation=folder)
    image, state = folder.images[0], torch.get_rng_state()
    asked = (
        lambda: task.cams(image),
        lambda: task.averaged_cams(image, (1.0,), flips=True),
        lambda: torch.tensor(task.validate()["score"]),
    )
    for ask in asked:
        task.network.train()
        first = ask()
        task.network.train()
        assert torch.equal(ask(), first)
    assert torch.equal(torch.get_rng_state(), state)


def test_without_truth_there_is_no_score(folder, frozen):
    blind = replace(folder, images=tuple(replace(i, truth=None) for i in folder.images))
    assert task_of(folder, given=frozen).validate() == {}
    assert task_of(folder, given=frozen, validation=blind).validate() == {}


def test_cams_without_flips_are_those_of_the_image(folder, frozen):
    task = task_of(folder, given=frozen)
    image = folder.images[0]
    plain = task.averaged_cams(image, (1.0,), flips=False)
    assert plain.shape == (2, *image.size)
    expected = full_size(task.cams(image), task.network.head.stride, image.size)
    # remembered maps have half precision
    assert torch.allclose(plain, expected, atol=0.05)


def test_averaged_cams_turn_with_the_image(tmp_path, frozen):
    """Averaged over mirror images, the cams of a mirrored image are the mirrored cams."""
    from PIL import Image

    folder = windowed_tissue(tmp_path, 2)
    mirrored = read_pixels(folder.images[0])[:, ::-1]
    Image.fromarray(np.ascontiguousarray(mirrored)).save(folder.images[1].path)
    task = task_of(folder, given=replace(frozen, blocks=None))
    first, second = (task.averaged_cams(image, (1.0,), flips=True) for image in folder.images)
    assert torch.allclose(first, second.flip(2), atol=1e-3)
    single = [task.averaged_cams(image, (1.0,), flips=False) for image in folder.images]
    assert not torch.allclose(single[0], single[1].flip(2), atol=1e-3)


def test_a_batch_knows_its_epoch(folder, frozen):
    batch = task_of(folder, given=frozen).batch(3, 5, [1, 0])
    assert isinstance(batch, Stage1Batch)
    assert batch.epoch == 5
    assert [sample.name for sample in batch.samples] == ["image1", "image0"]
    assert len(CLASSES) == batch.samples[0].tags.shape[1]


def test_learnt_prototypes_are_trained_with_the_tags(folder, frozen):
    settings = ("matching.prototypes=learnt", "matching.per_class=3", "stage1.learning_rate=0.01")
    task = task_of(folder, *settings, given=frozen)
    before = task.network.head.bank.detach().clone()
    losses, parts = trained(task, 8)
    assert losses[-1] < losses[0]
    assert parts["diversity"] >= 0
    moved = (task.network.head.bank - before).abs().amax((1, 2))
    assert (moved > 1e-3).all()

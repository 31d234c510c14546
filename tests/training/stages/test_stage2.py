"""Stage 2 on small synthetic tissue: its losses are their formulas, and it learns."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from napari_plimseg.models.class_gate import log_odds
from plimseg_training.stages.common import full_size
from plimseg_training.stages.pseudo_masks import IGNORED
from plimseg_training.stages.stage2 import PseudoMaskLoss, Stage2Task, drawn_images, image_weights
from tests.support.stages import (
    CLASSES,
    WITH_BACKGROUND,
    encoders,
    halves,
    recipe,
    same,
    weights,
    windowed_tissue,
)


def truth_of(image):
    return halves(image.size, (1, 1)).astype(np.int16)


def task_of(folder, *settings, given=None, validation=None, targets=truth_of):
    chosen = recipe(None, "stage1.augment=none", "stage2.augment=none", *settings)
    return Stage2Task(
        chosen, folder, validation, given or encoders(chosen).for_stage2(chosen), targets
    )


# -- the loss of pseudo masks


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def some_targets(ignored=True, seed=0):
    targets = torch.randint(0, 3, (4, 5, 6), generator=torch.Generator().manual_seed(seed))
    targets[2] = 1  # one class only
    if ignored:
        targets[:, :2, :3] = IGNORED
    return targets


def cross_entropies(logits, target):
    """Each pixel's cross-entropy, (H, W) as nested lists; None where ignored."""
    found = []
    for y in range(target.shape[0]):
        row = []
        for x in range(target.shape[1]):
            k = int(target[y, x])
            z = logits[:, y, x].double().tolist()
            total = math.log(sum(math.exp(v) for v in z))
            row.append(None if k == IGNORED else total - z[k])
        found.append(row)
    return found


def test_without_weights_it_is_the_mean_over_known_pixels():
    logits, targets = random(4, 3, 5, 6), some_targets()
    known = [
        value
        for one, target in zip(logits, targets, strict=True)
        for row in cross_entropies(one, target)
        for value in row
        if value is not None
    ]
    found = PseudoMaskLoss()(logits, targets)
    assert float(found) == pytest.approx(sum(known) / len(known), rel=1e-5)


@pytest.mark.parametrize("ignored", [False, True])
def test_oeem_is_its_formula(ignored):
    """w = softmax over an image's pixels of -l, divided by its mean; the loss is mean(w l).

    Ignored pixels take no part here. In the published code their loss of 0 takes a share of the
    softmax; without ignored pixels both are the same.
    """
    logits, targets = random(4, 3, 5, 6), some_targets(ignored)
    terms = []
    for one, target in zip(logits, targets, strict=True):
        losses = [v for row in cross_entropies(one, target) for v in row if v is not None]
        if len({int(v) for v in target.flatten() if v != IGNORED}) <= 1:
            terms += losses
            continue
        powers = [math.exp(-v) for v in losses]
        share = [p / sum(powers) for p in powers]
        mean = sum(share) / len(share)
        terms += [s / mean * v for s, v in zip(share, losses, strict=True)]
    found = PseudoMaskLoss("oeem")(logits, targets)
    assert float(found) == pytest.approx(sum(terms) / len(terms), rel=1e-5)


def test_oeem_learns_less_from_pixels_that_do_not_fit():
    logits = torch.zeros(1, 2, 1, 4)
    logits[0, 0] = 3.0  # all look like the first class; two are labelled as the second
    targets = torch.tensor([[[0, 0, 1, 1]]])
    gradients = []
    for how in ("none", "oeem"):
        z = logits.clone().requires_grad_()
        PseudoMaskLoss(how)(z, targets).backward()
        gradients.append(z.grad.abs()[0, 0, 0])
    assert gradients[1][3] < 0.2 * gradients[0][3]
    assert gradients[1][0] > gradients[0][0]


@pytest.mark.parametrize("how", ["none", "oeem"])
def test_nothing_known_costs_nothing(how):
    logits = random(2, 3, 4, 4).requires_grad_()
    loss = PseudoMaskLoss(how)(logits, torch.full((2, 4, 4), IGNORED))
    assert float(loss.detach()) == 0
    loss.backward()


@pytest.mark.parametrize("how", ["none", "oeem"])
def test_an_image_without_known_pixels_changes_nothing_for_the_other(how):
    logits, targets = random(2, 3, 5, 6), some_targets(ignored=False)[:2].clone()
    targets[1] = IGNORED
    both = PseudoMaskLoss(how)(logits, targets)
    alone = PseudoMaskLoss(how)(logits[:1], targets[:1])
    assert float(both) == pytest.approx(float(alone), rel=1e-6)


def test_half_precision_logits_are_compared_in_single_precision():
    logits = random(2, 3, 5, 6).half()
    targets = some_targets()[:2]
    expected = PseudoMaskLoss("oeem")(logits.float(), targets)
    assert torch.equal(PseudoMaskLoss("oeem")(logits, targets), expected)


# -- tags


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_log_odds_are_those_of_the_softmax(classes):
    logits = 3 * random(classes, 4, 5)
    p = logits.double().softmax(0)
    expected = (p / (1 - p)).log().float()
    assert torch.allclose(log_odds(logits), expected, atol=1e-4)


def test_log_odds_of_one_class_are_its_logit():
    logits = random(1, 4, 5)
    assert torch.equal(log_odds(logits), logits)


@pytest.mark.parametrize("classes", [CLASSES, WITH_BACKGROUND])
def test_the_tags_loss_is_of_tissue_classes_in_each_window(tmp_path, frozen, classes):
    folder = windowed_tissue(tmp_path, 1, classes=classes)
    task = task_of(folder, "stage2.tag_weight=0.5", given=frozen)
    task.network.eval()
    (sample,) = batch = task.batch(0, 0, [0])
    with torch.no_grad():
        loss, parts = task.loss(batch)
        coarse = task.network(batch)[0]
    assert coarse.shape[0] == len(classes)
    stride = task.network.head.stride
    odds = log_odds(coarse)[:2].double()
    fine = odds.repeat_interleave(stride, 1).repeat_interleave(stride, 2)
    terms = []
    for (y, x, h, w), tags in zip(sample.windows.tolist(), sample.tags.tolist(), strict=True):
        part = fine[:, y : y + h, x : x + w]
        pooled = (4 * part).exp().mean((1, 2)).log() / 4
        for z, tag in zip(pooled.tolist(), tags, strict=True):
            terms.append(math.log1p(math.exp(-z if tag else z)))
    assert parts["tags"] == pytest.approx(sum(terms) / len(terms), rel=1e-3)
    assert float(loss) == pytest.approx(parts["masks"] + 0.5 * parts["tags"], rel=1e-4)


def test_crops_without_a_whole_window_have_no_tags(folder, frozen):
    task = task_of(folder, "stage2.crop=32", given=frozen)
    loss, parts = task.loss(task.batch(0, 0, [0, 1]))
    assert parts["tags"] == 0
    assert parts["masks"] > 0
    assert bool(loss.isfinite())


# -- training


def trained(task, steps):
    optimizer = torch.optim.AdamW(task.parameter_groups())
    task.network.train()
    losses = []
    for _ in range(steps):
        loss, _ = task.loss(task.batch(0, 0, [0, 1]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


@pytest.mark.parametrize("hard_pixels", ["none", "oeem"])
def test_a_few_steps_lower_the_loss(folder, frozen, hard_pixels):
    before = weights(frozen.backbone)
    task = task_of(
        folder, f"stage2.hard_pixels={hard_pixels}", "stage2.learning_rate=0.01",
        given=frozen, validation=folder,
    )  # fmt: skip
    losses = trained(task, 15)
    assert losses[-1] < 0.6 * losses[0]
    assert task.validate()["score"] > 0.7
    assert same(before, weights(frozen.backbone))
    assert all(p.grad is None for p in frozen.backbone.parameters())


def test_the_encoder_learns_where_the_recipe_says_so(folder):
    task = task_of(
        folder, "model.train_blocks=last", "stage2.backbone_learning_rate=0.001",
        "stage2.augment=full", "stage2.crop=48",
    )  # fmt: skip
    backbone = task.encoders.backbone
    before = weights(backbone)
    trained(task, 2)
    after = weights(backbone)
    trainable = {name for name, p in backbone.named_parameters() if p.requires_grad}
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert changed <= trainable


@pytest.mark.parametrize("size", [(64, 96), (50, 83)])
def test_logits_cover_the_image(tmp_path, frozen, size):
    folder = windowed_tissue(tmp_path, 1, size, classes=WITH_BACKGROUND)
    task = task_of(folder, "stage2.augment=flips", given=frozen)
    assert task.logits(folder.images[0]).shape == (3, *size)
    for epoch in range(4):
        loss, _ = task.loss(task.batch(0, epoch, [0]))
        assert bool(loss.isfinite())


def test_measuring_has_no_chance_in_it_and_leaves_none_behind(folder, frozen):
    """Dropout is for training: scores choose the best weights, and masks are made again."""
    task = task_of(folder, given=frozen, validation=folder)
    task.network.train()
    state = torch.get_rng_state()
    image = folder.images[0]
    first = task.logits(image)
    scores = task.validate()
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(task.logits(image), first)
    assert task.validate() == scores


def test_targets_are_asked_for_by_image(folder, frozen):
    asked = []

    def targets(image):
        asked.append(image.name)
        return truth_of(image)

    task = task_of(folder, given=frozen, targets=targets)
    samples = task.batch(0, 0, [1, 0])
    assert asked == ["image1", "image0"] == task.names([1, 0])
    for sample in samples:
        assert torch.equal(sample.target, torch.from_numpy(truth_of(folder.images[0])))


def test_without_truth_there_is_no_score(folder, frozen):
    assert task_of(folder, given=frozen).validate() == {}


def test_logits_are_brought_to_the_image_by_the_stride():
    logits = torch.arange(12.0).view(1, 3, 4)
    found = full_size(logits, 8, (20, 30))
    assert found.shape == (1, 20, 30)
    # the centre of a cell has the cell's own value, between its four middle pixels
    assert float(found[0, 11:13, 11:13].mean()) == pytest.approx(float(logits[0, 1, 1]))


# -- which images, and how tolerant


def test_images_with_a_rare_tag_weigh_more(tmp_path):
    folder = windowed_tissue(tmp_path, 6)
    tags = [np.array([[1, 0]])] * 5 + [np.array([[0, 1]])]
    images = tuple(
        replace(image, windows=image.windows[:1], tags=own)
        for image, own in zip(folder.images, tags, strict=True)
    )
    weights = image_weights(replace(folder, images=images))
    np.testing.assert_allclose(weights, [1, 1, 1, 1, 1, 4])


@pytest.mark.parametrize("items", [7, 40, 400])
def test_images_are_drawn_as_often_as_they_weigh(items):
    weights = np.array([1.0, 1.0, 4.0, 2.0])
    found = drawn_images(weights, items, np.random.default_rng(0))
    assert len(found) == items
    counts = np.bincount(found, minlength=4)
    assert np.abs(counts - items * weights / weights.sum()).max() < 1.001


def test_steps_set_the_length_whatever_the_number_of_images(tmp_path):
    folder = windowed_tissue(tmp_path, 3)
    task = task_of(folder, "stage2.steps=10", "stage2.epochs=4", "stage2.batch_size=2")
    items = task.epoch_items(0)
    assert items == 5
    batch = task.batch(0, 1, range(items))
    assert {sample.name for sample in batch} == {"image0", "image1", "image2"}
    assert task.names([0]) == [batch[0].name + ".png"] or task.names([0]) == [batch[0].name]


def test_tolerant_losses_follow_the_network_more():
    logits = torch.tensor([[4.0], [0.0]]).reshape(1, 2, 1, 1)
    wrong, right = torch.ones(1, 1, 1), torch.zeros(1, 1, 1)

    def ratio(form):
        loss = PseudoMaskLoss(form=form)
        z = [logits.clone().requires_grad_() for _ in range(2)]
        for one, target in zip(z, (wrong, right), strict=True):
            loss(one, target).backward()
        return float(z[0].grad.abs().sum() / z[1].grad.abs().sum())

    plain = ratio("cross_entropy")
    assert ratio("bootstrap") < plain
    symmetric = PseudoMaskLoss(form="symmetric")
    assert float(symmetric(logits, wrong)) == pytest.approx(
        float(PseudoMaskLoss()(logits, wrong)) + 0.25 * 4 * float(logits.softmax(1)[0, 0, 0, 0]),
        rel=1e-5,
    )


def test_turned_views_agree_on_a_symmetric_answer(tmp_path):
    folder = windowed_tissue(tmp_path, 1, size=(64, 96))
    task = task_of(folder, "model.segmenter=small", "model.decoder=pyramid")
    found = task.turned_probabilities(folder.images[0])
    assert found.shape == (len(folder.classes), 64, 96)
    torch.testing.assert_close(found.sum(0), torch.ones(64, 96))
    image = Image.open(folder.images[0].path).transpose(Image.Transpose.ROTATE_180)
    image.save(folder.images[0].path)
    again = task.turned_probabilities(folder.images[0])
    torch.testing.assert_close(again.flip(1, 2), found, atol=2e-3, rtol=0)


def test_each_round_starts_from_the_pretrained_encoder(tmp_path):
    chosen = recipe(None, "model.segmenter=small", "stage2.backbone_learning_rate=1e-4")
    given = encoders(chosen)
    first, second = given.for_stage2(chosen), given.for_stage2(chosen)
    assert first.backbone is not second.backbone
    assert first.backbone.is_trainable
    assert same(weights(first.backbone), weights(second.backbone))


def test_features_of_stage1_go_where_stage2_has_an_encoder_of_its_own():
    alone, shared = recipe(None, "model.segmenter=small"), recipe(None, "model.segmenter=backbone")
    assert encoders(alone).blocks is not None
    assert encoders(alone).after_stage1(alone).blocks is None
    given = encoders(shared)
    assert given.after_stage1(shared) is given

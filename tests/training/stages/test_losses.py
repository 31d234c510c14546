"""Each loss is its formula, written out here once more with loops and plain numbers."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from napari_plimseg.errors import ConfigError
from plimseg_training.stages.losses import (
    AreaTerm,
    BackgroundTextMatching,
    Calibration,
    ClimsSimilarity,
    ContrastiveSimilarity,
    CooccurringBackgroundSuppression,
    ForegroundTextMatching,
    Pairs,
    SigmoidSimilarity,
    TagLoss,
    calibrate,
    similarity_of,
)

CLASSES, OTHERS, WIDTH = 4, 2, 6
FORMS = {
    "clims": ClimsSimilarity(),
    "contrastive": ContrastiveSimilarity(0.07),
    "sigmoid": SigmoidSimilarity(scale=20.0, center=0.1),
}
NO_MAPS = torch.zeros(CLASSES, 0, 0)
every_form = pytest.mark.parametrize("form", FORMS)


def unit(rows, seed):
    return F.normalize(torch.randn(rows, WIDTH, generator=torch.Generator().manual_seed(seed)))


def some_pairs(count=9, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed + 50)
    classes = torch.randint(0, CLASSES, (count,), generator=generator)
    present = torch.rand(count, CLASSES, generator=generator) < 0.3
    present[torch.arange(count), classes] = True
    return Pairs(
        unit(count, seed).to(dtype),
        unit(count, seed + 1).to(dtype),
        classes,
        present,
        NO_MAPS,
    )


def texts(seed=7):
    return unit(CLASSES + OTHERS, seed)


# -- the formulas, number by number


def clamped(value):
    return min(max(value, 1e-4), 1 - 1e-4)


def similarities(form, vector, all_texts):
    cosines = [sum(a * b for a, b in zip(vector, text, strict=True)) for text in all_texts.tolist()]
    if form == "clims":
        return [clamped(c) for c in cosines]
    if form == "contrastive":
        powers = [math.exp(c / 0.07) for c in cosines]
        return [clamped(p / sum(powers)) for p in powers]
    return [clamped(1 / (1 + math.exp(-20.0 * (c - 0.1)))) for c in cosines]


def ftm(form, pairs, all_texts):
    terms = []
    for vector, k in zip(pairs.foreground.tolist(), pairs.classes.tolist(), strict=True):
        terms.append(-math.log(similarities(form, vector, all_texts)[k]))
    return sum(terms) / len(terms)


def btm(form, pairs, all_texts, on):
    terms = []
    for vector, k, tags in zip(
        pairs.background.tolist(), pairs.classes.tolist(), pairs.present.tolist(), strict=True
    ):
        if on == "all" or sum(tags) >= 2:
            terms.append(-math.log(1 - similarities(form, vector, all_texts)[k]))
    return sum(terms) / len(terms)


def cbs(form, pairs, all_texts, threshold):
    total = 0.0
    for vector, k in zip(pairs.foreground.tolist(), pairs.classes.tolist(), strict=True):
        s = similarities(form, vector, all_texts)
        others = [s[b] for b in range(len(s)) if b != k]
        counted = [math.log(1 - value) for value in others if value > threshold]
        total -= sum(counted) / len(others)
    return total / len(pairs.classes)


# -- the losses


@every_form
@pytest.mark.parametrize("count", [1, 2, 9])
def test_ftm_is_its_formula(form, count):
    pairs = some_pairs(count)
    found = ForegroundTextMatching(FORMS[form])(pairs, texts())
    assert found.shape == ()
    assert float(found) == pytest.approx(ftm(form, pairs, texts()), rel=1e-4)


@every_form
@pytest.mark.parametrize("on", ["multi", "all"])
def test_btm_is_its_formula(form, on):
    pairs = some_pairs()
    assert 0 < int(pairs.many_tags.sum()) < len(pairs)
    found = BackgroundTextMatching(FORMS[form], on)(pairs, texts())
    assert found.shape == ()
    assert float(found) == pytest.approx(btm(form, pairs, texts(), on), rel=1e-4)


@every_form
@pytest.mark.parametrize("threshold", [0.0, 0.15])
@pytest.mark.parametrize("count", [1, 9])
def test_cbs_is_its_formula(form, threshold, count):
    pairs = some_pairs(count)
    found = CooccurringBackgroundSuppression(FORMS[form], threshold)(pairs, texts())
    assert found.shape == ()
    assert float(found) == pytest.approx(cbs(form, pairs, texts(), threshold), rel=1e-4)


def test_a_threshold_leaves_texts_below_it_alone():
    pairs = some_pairs(1)
    s = ClimsSimilarity()(pairs.foreground, texts())[0]
    others = [i for i in range(len(s)) if i != int(pairs.classes[0])]
    highest = float(s[others].max().detach())
    loss = CooccurringBackgroundSuppression(ClimsSimilarity(), highest)
    assert float(loss(pairs, texts())) == 0  # "above", not "at or above"
    loss = CooccurringBackgroundSuppression(ClimsSimilarity(), highest - 1e-4)
    expected = -math.log(1 - highest) / (CLASSES + OTHERS - 1)
    assert float(loss(pairs, texts())) == pytest.approx(expected, rel=1e-4)


@every_form
def test_no_pairs_cost_nothing_and_have_a_gradient(form):
    empty = torch.zeros(0, WIDTH, requires_grad=True)
    no_pairs = Pairs(
        empty,
        empty,
        torch.zeros(0, dtype=torch.long),
        torch.zeros(0, CLASSES, dtype=torch.bool),
        NO_MAPS,
    )
    for loss in (
        ForegroundTextMatching(FORMS[form]),
        BackgroundTextMatching(FORMS[form]),
        BackgroundTextMatching(FORMS[form], "all"),
        CooccurringBackgroundSuppression(FORMS[form]),
    ):
        found = loss(no_pairs, texts())
        assert found.shape == ()
        assert float(found) == 0
        found.backward()


def test_btm_on_windows_of_one_tag_only_costs_nothing():
    one = torch.eye(CLASSES, dtype=torch.bool)
    vectors = unit(CLASSES, 3).requires_grad_()
    pairs = Pairs(vectors, vectors, torch.arange(CLASSES), one, NO_MAPS)
    assert float(BackgroundTextMatching(ClimsSimilarity(), "multi")(pairs, texts())) == 0
    assert float(BackgroundTextMatching(ClimsSimilarity(), "all")(pairs, texts())) > 0


@every_form
def test_gradients_go_where_the_losses_want(form):
    """A small step down each loss moves the similarity that it speaks of."""
    # a clamped cosine has no gradient, so the vectors lie near their texts
    all_texts = texts()
    near = F.normalize(all_texts.mean(0, keepdim=True) + 0.1 * all_texts[:1])
    assert (near @ all_texts.T > 0).sum() >= 2
    classes, present = torch.tensor([0]), torch.tensor([[True, True, False, False]])
    similarity = FORMS[form]

    def moved(loss):
        vectors = near.clone().requires_grad_()
        loss(Pairs(vectors, vectors, classes, present, NO_MAPS), all_texts).backward()
        assert vectors.grad.abs().sum() > 0
        after = F.normalize(near - 1e-3 * F.normalize(vectors.grad))
        return similarity(after, all_texts)[0] - similarity(near, all_texts)[0]

    assert moved(ForegroundTextMatching(similarity))[0] > 0
    assert moved(BackgroundTextMatching(similarity))[0] < 0
    suppressed = CooccurringBackgroundSuppression(similarity)
    before = suppressed(Pairs(near, near, classes, present, NO_MAPS), all_texts)
    vectors = near.clone().requires_grad_()
    suppressed(Pairs(vectors, vectors, classes, present, NO_MAPS), all_texts).backward()
    after = F.normalize(near - 1e-3 * F.normalize(vectors.grad))
    assert suppressed(Pairs(after, after, classes, present, NO_MAPS), all_texts) < before


@every_form
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_perfect_and_opposite_matches_stay_finite(form, sign):
    all_texts = texts()
    vectors = (sign * all_texts[:CLASSES]).clone().requires_grad_()
    pairs = Pairs(
        vectors,
        vectors,
        torch.arange(CLASSES),
        torch.ones(CLASSES, CLASSES, dtype=torch.bool),
        NO_MAPS,
    )
    similarity = FORMS[form]
    total = (
        ForegroundTextMatching(similarity)(pairs, all_texts)
        + BackgroundTextMatching(similarity)(pairs, all_texts)
        + CooccurringBackgroundSuppression(similarity)(pairs, all_texts)
    )
    total.backward()
    assert bool(total.isfinite())
    assert bool(vectors.grad.isfinite().all())
    s = similarity(vectors.detach(), all_texts)
    assert float(s.min()) >= 0.99e-4
    assert float(s.max()) <= 1 - 0.99e-4


def all_losses(form, pairs, all_texts):
    similarity = FORMS[form]
    return torch.stack(
        [
            ForegroundTextMatching(similarity)(pairs, all_texts),
            BackgroundTextMatching(similarity)(pairs, all_texts),
            CooccurringBackgroundSuppression(similarity, 0.05)(pairs, all_texts),
        ]
    )


@every_form
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_vectors_are_compared_in_single_precision(form, dtype):
    half = some_pairs(dtype=dtype)
    single = Pairs(
        half.foreground.float(), half.background.float(), half.classes, half.present, NO_MAPS
    )
    found, expected = (all_losses(form, pairs, texts()) for pairs in (half, single))
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)


@every_form
def test_mixed_precision_does_not_reach_the_losses(form):
    """A temperature of 0.07 makes three digits of a cosine a fifteenth of a logit."""
    pairs = some_pairs()
    expected = all_losses(form, pairs, texts())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = all_losses(form, pairs, texts())
    assert torch.equal(found, expected)


# -- the other terms


def test_area_is_the_mean_over_all_classes():
    maps = torch.zeros(4, 3, 5)
    maps[1] = 1
    pairs = replace(some_pairs(), activations=maps)
    assert float(AreaTerm(ClimsSimilarity())(pairs, texts())) == pytest.approx(0.25)


def test_tag_loss_is_binary_cross_entropy():
    logits = torch.tensor([[0.5, -2.0], [30.0, 0.0], [-40.0, 3.0]])
    tags = torch.tensor([[1, 0], [1, 1], [1, 0]], dtype=torch.uint8)
    terms = []
    for row, known in zip(logits.double().tolist(), tags.tolist(), strict=True):
        for z, y in zip(row, known, strict=True):
            # log(1 - sigmoid(z)) = -z + log(sigmoid(z))
            log_p = -math.log1p(math.exp(-z))
            terms.append(-log_p if y else z - log_p)
    found = TagLoss()(logits, tags)
    assert float(found) == pytest.approx(sum(terms) / len(terms), rel=1e-5)
    assert float(TagLoss()(logits.half(), tags)) == pytest.approx(float(found), rel=1e-5)


def test_tag_loss_of_no_windows_is_nothing():
    logits = torch.zeros(0, 3, requires_grad=True)
    loss = TagLoss()(logits, torch.zeros(0, 3, dtype=torch.uint8))
    assert float(loss) == 0
    loss.backward()


# -- calibration


def test_calibration_is_read_off_the_cosines():
    class_texts = torch.eye(3)
    vectors = F.normalize(
        torch.tensor([[3.0, 1.0, 0.5], [1.0, 4.0, 0.0], [2.0, 2.0, 1.0], [0.0, 1.0, 5.0]]), dim=1
    )
    tags = torch.tensor([[1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 0, 1]])
    rows = vectors.tolist()
    single = [rows[0][0], rows[1][1], rows[3][2]]
    absent = sorted([*rows[0][1:], rows[1][0], rows[1][2], rows[2][2], *rows[3][:2]])
    found = calibrate(vectors, tags, class_texts)
    assert found.matched == pytest.approx(sum(single) / 3)
    assert found.mismatched == pytest.approx(sum(absent) / 7)
    assert found.threshold == pytest.approx(absent[3])
    assert found.center == pytest.approx((found.matched + found.mismatched) / 2)


def test_calibration_without_windows_of_one_tag_takes_all():
    vectors = torch.eye(3)[:2]
    found = calibrate(vectors, torch.tensor([[1, 1, 0], [1, 1, 0]]), torch.eye(3))
    assert found.matched == pytest.approx(0.5)
    assert found.mismatched == 0


def test_calibration_without_absent_classes():
    found = calibrate(torch.eye(2), torch.ones(2, 2), torch.eye(2))
    assert (found.mismatched, found.threshold) == (0.0, 0.0)


def test_forms_by_name():
    known = Calibration(0.4, 0.2, 0.25)
    assert similarity_of("clims", 0.07, known) == ClimsSimilarity()
    assert similarity_of("contrastive", 0.5, known) == ContrastiveSimilarity(0.5)
    assert similarity_of("sigmoid", 0.07, known) == SigmoidSimilarity(center=pytest.approx(0.3))
    with pytest.raises(ConfigError, match="cosine"):
        similarity_of("cosine", 0.07, known)
    with pytest.raises(ConfigError, match="temperature"):
        ContrastiveSimilarity(0.0)

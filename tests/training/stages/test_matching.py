"""Regions under cams, cut out in features and in images, against doing it pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from napari_plimseg.errors import ConfigError
from napari_plimseg.models.encoders.base import Matcher
from plimseg_training.stages.losses import LOSSES, Calibration, TextLoss
from plimseg_training.stages.matching import (
    NON_TISSUE,
    RegionMatching,
    class_means,
    class_texts,
    other_texts,
)
from plimseg_training.stages.samples import Sample
from plimseg_training.stages.window_pooling import WindowPooling
from tests.support.stages import CLASSES, WITH_BACKGROUND, recipe

WIDTH = 5
STRIDE = 8
SIZE = (32, 48)
WINDOWS = np.array([(0, 0, 32, 24), (3, 5, 20, 30), (0, 24, 32, 24)], np.int32)
TAGS = np.array([(1, 0), (1, 1), (0, 1)], np.uint8)


class MeanColor(Matcher):
    """Its vector of an image is the mean colour; it remembers what it was shown."""

    def __init__(self):
        super().__init__()
        self.name, self.embedding_size, self.logit_scale = "mean colour", 3, 1.0
        self.scale = torch.nn.Parameter(torch.ones(()), requires_grad=False)
        self.shown = []

    def dense(self, images):
        return F.normalize(self.scale * F.avg_pool2d(images, STRIDE), dim=1)

    def embed(self, images):
        self.shown.append(images.detach())
        return F.normalize(self.scale * images.mean((2, 3)), dim=1)

    def encode_text(self, texts):
        rows = [[len(t) % 7, len(t) % 5, 1.0 + t.count("a")] for t in texts]
        return F.normalize(torch.tensor(rows), dim=1)


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def region_matching(*settings, exclusive=False, width=WIDTH, matcher=None, fill=None):
    config = recipe(None, *(f"matching.{setting}" for setting in settings)).matching
    return RegionMatching(
        config,
        F.normalize(random(2, width, seed=8), dim=1),
        F.normalize(random(2, width, seed=9), dim=1),
        Calibration(0.3, 0.1, 0.1),
        exclusive=exclusive,
        matcher=matcher,
        fill=fill,
    )


def feature_sample(size=SIZE, stride=STRIDE, windows=WINDOWS, tags=TAGS):
    vectors = F.normalize(random(WIDTH, size[0] // stride, size[1] // stride, seed=3), dim=0)
    return Sample("a", size, windows, tags, matched=vectors)


def image_sample(size=SIZE, windows=WINDOWS[::2], tags=TAGS[::2]):
    return Sample("a", size, windows, tags, pixels=random(3, *size, seed=4).sigmoid())


def pooled(sample, stride=STRIDE):
    cells = -(-sample.size[0] // stride), -(-sample.size[1] // stride)
    return WindowPooling(sample.windows, cells, stride)


def fine(maps, stride=STRIDE):
    return maps.repeat_interleave(stride, 1).repeat_interleave(stride, 2)


def expected_pairs(activations, vectors, windows, tags):
    """Foreground and background vectors of every window and tag, over its pixels."""
    fronts, backs, classes = [], [], []
    for (y, x, h, w), row in zip(windows.tolist(), tags.tolist(), strict=True):
        inside = vectors[:, y : y + h, x : x + w]
        for k in (k for k, tag in enumerate(row) if tag):
            cam = activations[k, y : y + h, x : x + w]
            fronts.append(F.normalize((cam * inside).mean((1, 2)), dim=0))
            backs.append(F.normalize(((1 - cam) * inside).mean((1, 2)), dim=0))
            classes.append(k)
    return torch.stack(fronts), torch.stack(backs), classes


# -- in features


@pytest.mark.parametrize("exclusive", [True, False])
def test_regions_of_features_are_weighted_means(exclusive):
    matching, sample = region_matching(exclusive=exclusive), feature_sample()
    cams = random(2, 4, 6)
    found = matching._pairs_of_features(matching.activations(cams), sample, pooled(sample))
    activations = cams.softmax(0) if exclusive else 1 / (1 + (-cams).exp())
    fronts, backs, classes = expected_pairs(fine(activations), fine(sample.matched), WINDOWS, TAGS)
    assert torch.allclose(found.foreground, fronts, atol=1e-5)
    assert torch.allclose(found.background, backs, atol=1e-5)
    assert found.classes.tolist() == classes == [0, 0, 1, 1]
    assert found.present.tolist() == [[True, False], [True, True], [True, True], [False, True]]
    assert found.many_tags.tolist() == [False, True, True, False]


def test_vectors_may_be_coarser_than_cams():
    """An encoder with cells of 8 pixels and a matcher with cells of 16."""
    matching = region_matching()
    sample = feature_sample(stride=16)
    activations = torch.full((2, 4, 6), 0.25)
    activations[:, :, 4:] = 0.75
    found = matching._pairs_of_features(activations, sample, pooled(sample))
    coarse = F.avg_pool2d(activations[None], 2)[0]
    fronts, backs, _ = expected_pairs(fine(coarse, 16), fine(sample.matched, 16), WINDOWS, TAGS)
    assert torch.allclose(found.foreground, fronts, atol=1e-4)
    assert torch.allclose(found.background, backs, atol=1e-4)


def test_matching_only_windows_of_several_tags():
    matching, sample = region_matching("pairs_on=multi"), feature_sample()
    found = matching._pairs_of_features(torch.rand(2, 4, 6), sample, pooled(sample))
    assert found.classes.tolist() == [0, 1]
    assert found.many_tags.all()


def test_features_need_vectors():
    sample = image_sample()
    with pytest.raises(ValueError, match="vectors"):
        region_matching()(random(2, 4, 6), sample, pooled(sample), np.random.default_rng(0))


# -- in images


def shown_images(fill, cam_value, sample=None, **more):
    matcher = MeanColor()
    matching = region_matching(
        "space=image", f"fill={fill}", width=3, matcher=matcher, fill=torch.tensor([0.2, 0.4, 0.6])
    )
    sample = sample or image_sample()
    activations = torch.full((2, 4, 6), cam_value)
    found = matching._pairs_of_images(activations, sample, pooled(sample), np.random.default_rng(0))
    return sample, matcher.shown, found


@pytest.mark.parametrize("fill", ["mean", "zero", "blur"])
@pytest.mark.parametrize("cam", [0.0, 0.3, 1.0])
def test_masked_images_are_mixed_with_the_filling(fill, cam):
    sample, shown, found = shown_images(fill, cam)
    assert len(shown) == 1, "all masked windows go through the matcher in one call"
    fronts, backs = shown[0].chunk(2)
    assert len(fronts) == len(found.classes) == 2
    for front, back, k in zip(fronts, backs, found.classes.tolist(), strict=True):
        y, x, h, w = sample.windows[k]  # window 0 has class 0 alone, window 1 class 1
        pixels = sample.pixels[:, y : y + h, x : x + w]
        if fill == "mean":
            other = torch.tensor([0.2, 0.4, 0.6]).view(3, 1, 1).expand_as(pixels)
        elif fill == "zero":
            other = torch.zeros_like(pixels)
        else:
            other = (front - cam * pixels) / (1 - cam) if cam < 1 else back
            assert float(other.std()) < 0.5 * float(pixels.std())
            assert float(other.mean()) == pytest.approx(float(pixels.mean()), abs=0.02)
        assert torch.allclose(front, cam * pixels + (1 - cam) * other, atol=1e-5)
        assert torch.allclose(back, (1 - cam) * pixels + cam * other, atol=1e-5)


def test_so_many_windows_go_through_at_once():
    matcher = MeanColor()
    matching = region_matching("space=image", "pairs_at_once=3", width=3, matcher=matcher)
    windows = np.array([(0, x, 32, 16) for x in range(0, 33, 4)], np.int32)
    sample = image_sample(windows=windows, tags=np.ones((len(windows), 2), np.uint8))
    random_numbers = np.random.default_rng(0)
    chosen = []
    for _ in range(2):
        found = matching._pairs_of_images(
            torch.rand(2, 4, 6), sample, pooled(sample), random_numbers
        )
        assert len(found) == 3
        chosen.append(matcher.shown[-1])
    assert chosen[0].shape == (6, 3, 32, 16)
    assert not torch.equal(chosen[0], chosen[1])


@pytest.mark.parametrize("size", [(41, 41), (33, 49), (32, 48)])
def test_cams_lie_on_their_pixels_whatever_the_size(size):
    """Cams of 8 pixels a cell are brought to the image at 8 pixels a cell."""
    windows = np.array([(0, 0, *size)], np.int32)
    sample = image_sample(size, windows, np.array([(1, 0)], np.uint8))
    matcher = MeanColor()
    matching = region_matching("space=image", "fill=zero", width=3, matcher=matcher)
    cams = torch.zeros(2, -(-size[0] // STRIDE), -(-size[1] // STRIDE))
    cams[:, 3:] = 1
    matching._pairs_of_images(cams, sample, pooled(sample), np.random.default_rng(0))
    seen = (matcher.shown[0][0].sum(0) > 0.5 * sample.pixels.sum(0)).float().mean(1)
    assert int((seen < 0.5).sum()) == 24


def test_windows_that_differ_in_size():
    """A table may give windows of any size; each vector stays with its window."""
    windows = np.array([(0, 0, 32, 24), (0, 0, 16, 16), (0, 24, 32, 24)], np.int32)
    sample = image_sample(windows=windows, tags=np.array([(1, 0), (1, 1), (0, 1)], np.uint8))
    matcher = MeanColor()
    matching = region_matching("space=image", "fill=zero", width=3, matcher=matcher)
    ones = torch.ones(2, 4, 6)
    found = matching._pairs_of_images(ones, sample, pooled(sample), np.random.default_rng(0))
    assert len(matcher.shown) == 2
    colors = []
    for y, x, h, w in windows:
        colors.append(F.normalize(sample.pixels[:, y : y + h, x : x + w].mean((1, 2)), dim=0))
    for vector, k, tags in zip(found.foreground, found.classes, found.present, strict=True):
        window = 1 if bool(tags.all()) else (0, 2)[int(k)]
        assert torch.allclose(vector, colors[window], atol=1e-5)


def test_images_without_windows_cost_only_area():
    matching = region_matching("space=image", width=3, matcher=MeanColor())
    sample = image_sample(windows=np.zeros((0, 4), np.int32), tags=np.zeros((0, 2), np.uint8))
    cams = random(2, 4, 6).requires_grad_()
    loss, parts = matching(cams, sample, pooled(sample), np.random.default_rng(0))
    loss.backward()
    assert [float(parts[name].detach()) for name in ("ftm", "btm", "cbs")] == [0, 0, 0]
    assert bool(cams.grad.isfinite().all())


# -- both


def losses_of(space, *settings, exclusive=False, tags=TAGS[::2]):
    cams = random(2, 4, 6, seed=1).requires_grad_()
    if space == "image":
        matching = region_matching(
            "space=image", *settings, width=3, matcher=MeanColor(), exclusive=exclusive
        )
        sample = image_sample(tags=tags)
    else:
        matching = region_matching(*settings, exclusive=exclusive)
        sample = feature_sample(windows=WINDOWS[::2], tags=tags)
    loss, parts = matching(cams, sample, pooled(sample), np.random.default_rng(0))
    loss.backward()
    return cams.grad, float(loss.detach()), {name: float(p.detach()) for name, p in parts.items()}


@pytest.mark.parametrize("space", ["features", "image"])
@pytest.mark.parametrize("part", ["ftm", "btm", "cbs", "area"])
def test_each_part_reaches_the_cams_in_both_spaces(space, part):
    off = [f"{name}=0" for name in ("ftm", "btm", "cbs", "area") if name != part]
    gradient, loss, parts = losses_of(space, *off, f"{part}=2", "btm_on=all", "temperature=1")
    assert bool(gradient.isfinite().all())
    assert float(gradient.abs().sum()) > 0
    assert loss == pytest.approx(2 * parts[part], rel=1e-5)


@pytest.mark.parametrize("space", ["features", "image"])
def test_absent_classes_are_not_matched(space):
    """With a sigmoid a class, the cam of a class that no window has is left alone."""
    gradient, _, _ = losses_of(
        space, "area=0", "btm_on=all", "temperature=1", tags=np.array([(1, 0), (1, 0)])
    )
    assert float(gradient[0].abs().sum()) > 0
    assert float(gradient[1].abs().sum()) == 0


def test_a_tau_of_the_recipe_takes_the_place_of_the_measured_one():
    settings = ("form=clims", "ftm=0", "btm=0", "area=0")
    assert losses_of("features", *settings)[2]["cbs"] > 0
    assert losses_of("features", *settings, "threshold=1.0")[2]["cbs"] == 0
    assert region_matching("form=clims").losses["cbs"].threshold == 0.1
    assert region_matching("form=clims", "threshold=0.4").losses["cbs"].threshold == 0.4
    assert region_matching("form=contrastive").losses["cbs"].threshold == 0.0


class Overlap(TextLoss):
    """What a contributor would write: the CAMs of two classes do not overlap."""

    def forward(self, pairs, texts):
        return pairs.activations.prod(0).mean()


def test_a_loss_is_added_by_a_row_and_a_weight(monkeypatch):
    monkeypatch.setitem(LOSSES, "overlap", Overlap)
    off = [f"{name}=0" for name in ("ftm", "btm", "cbs", "area")]
    gradient, loss, parts = losses_of("features", *off, "other_losses.overlap=3")
    assert list(parts) == ["ftm", "btm", "cbs", "area", "overlap"]
    assert float(gradient.abs().sum()) > 0
    assert loss == pytest.approx(3 * parts["overlap"], rel=1e-5)
    # one without a weight is neither computed nor in the history
    assert "overlap" not in losses_of("features")[2]


def test_an_unknown_loss_is_refused_by_name():
    with pytest.raises(ConfigError, match="other_losses' names 'overlap'") as raised:
        region_matching("other_losses.overlap=3")
    assert "ftm, btm, cbs, area" in str(raised.value)


# -- texts


def test_a_text_vector_is_the_mean_of_prompts_in_all_templates():
    from napari_plimseg.models.segmentation.zero_shot import TEMPLATES

    matcher = MeanColor()
    found = class_texts(WITH_BACKGROUND, matcher)
    assert found.shape == (2, 3)
    for row, tissue_class in zip(found, CLASSES, strict=True):
        texts = [t.format(prompt) for prompt in tissue_class.texts for t in TEMPLATES]
        mean = sum(matcher.encode_text([text])[0] for text in texts) / len(texts)
        assert torch.allclose(row, mean / mean.norm(), atol=1e-6)


def test_a_tissue_class_is_not_non_tissue_too():
    """Fat is a class here, and must not be suppressed as background."""
    assert "adipose tissue" in NON_TISSUE
    assert len(other_texts(CLASSES, MeanColor())) == len(NON_TISSUE) - 1


def test_class_means_take_windows_of_one_tag_where_there_are_any():
    vectors = F.normalize(random(4, 3), dim=1)
    tags = torch.tensor([(1, 0, 0), (1, 1, 0), (1, 0, 0), (0, 1, 1)])
    found = class_means(vectors, tags)
    expected = [vectors[0] + vectors[2], vectors[1] + vectors[3], vectors[3]]
    for row, total in zip(found, expected, strict=True):
        assert torch.allclose(row, total / total.norm(), atol=1e-6)

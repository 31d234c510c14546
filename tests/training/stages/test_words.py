"""Scores of the text model: probabilities, times the tags, weighed against the CAMs by tags."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from napari_plimseg.tissue import TissueClass, TissueClasses
from plimseg_training.config.recipe import PseudoMaskConfig
from plimseg_training.stages.words import (
    ModelScores,
    WordScores,
    label_scores,
    opinions,
    under_tags,
)
from tests.support.stages import CLASSES, WITH_BACKGROUND, windowed_tissue

CPU = torch.device("cpu")


class ColorMatcher:
    """Sees tumour in blue, fat in red and background in nothing, in cells of 8 px."""

    logit_scale, mpp = 10.0, 0.5

    def dense(self, images):
        blue, red = (F.avg_pool2d(images[:, c : c + 1], 8) for c in (2, 0))
        return F.normalize(torch.cat([blue, red, 0 * red], 1), dim=1)

    def encode_text(self, texts):
        places = [0 if "adeno" in t else 1 if "adipose" in t else 2 for t in texts]
        return torch.eye(3)[places]


def reversed_scores(image, config):
    """Scores of CAMs that mix up the classes."""
    return words_of(CLASSES)(image, config).flip(0)


def words_of(classes, multiple=8, mpp=0.5):
    return WordScores(ColorMatcher(), SimpleNamespace(classes=classes), mpp, multiple, CPU)


PLAIN, TURNED = PseudoMaskConfig(flips=False), PseudoMaskConfig(flips=True)


def colored(folder):
    """The images of a folder with a blue left and a red right half."""
    for image in folder.images:
        rgb = np.zeros((*image.size, 3), np.uint8)
        rgb[:, : image.size[1] // 2, 2] = 255
        rgb[:, image.size[1] // 2 :, 0] = 255
        Image.fromarray(rgb).save(image.path)
    return folder


@pytest.fixture
def halves(tmp_path):
    return colored(windowed_tissue(tmp_path, 2))


@pytest.mark.parametrize("classes", [CLASSES, WITH_BACKGROUND])
@pytest.mark.parametrize("scales", [(1.0,), (0.5, 1.0, 1.7)])
def test_probabilities_of_the_tissue_classes_where_they_are(halves, classes, scales):
    image = halves.images[0]
    found = words_of(classes, 32)(image, replace(TURNED, scales=scales))
    assert found.shape == (2, *image.size)
    assert torch.allclose(found.sum(0), torch.ones(image.size), atol=1e-5)
    left, right = found[:, :, :30], found[:, :, -30:]
    assert (left[0] > 0.9).all()
    assert (right[1] > 0.9).all()


def test_images_are_resized_to_the_pixel_size_of_the_matcher(halves):
    class Watched(ColorMatcher):
        seen: ClassVar = []

        def dense(self, images):
            self.seen.append(tuple(images.shape[2:]))
            return super().dense(images)

    folder = SimpleNamespace(classes=CLASSES)
    found = WordScores(Watched(), folder, 1.0, 8, CPU)(halves.images[0], PLAIN)
    height, width = halves.images[0].size
    assert Watched.seen == [(2 * height, 2 * width)]
    assert found.shape == (2, height, width)


def test_turned_views_agree_with_the_one_that_is_not(halves):
    words = words_of(CLASSES, 32)
    one, all_views = (words(halves.images[0], config) for config in (PLAIN, TURNED))
    # this matcher sees the same in every view, up to the padding at two edges
    assert torch.allclose(one[:, :56, :88], all_views[:, :56, :88], atol=1e-5)


def test_tags_exclude_classes_and_the_rest_adds_up_to_one(halves):
    image = halves.images[0]
    found = under_tags(torch.full((2, *image.size), 0.5), image)
    assert torch.allclose(found.sum(0), torch.ones(image.size))
    assert (found[0, :, :20] == 1).all()  # the left window has the first tag alone
    assert (found[1, :, -20:] == 1).all()


def test_the_mean_trusts_the_source_that_predicts_the_tags(halves):
    image, words = halves.images[0], words_of(CLASSES)
    by_words = label_scores(replace(PLAIN, source="words"), {"words": words}, {})(image)
    mean, both = replace(PLAIN, source="mean"), {"cams": reversed_scores, "words": words}
    one_sided = label_scores(mean, both, {"cams": 0.0, "words": 0.8})(image)
    assert torch.allclose(one_sided, by_words)
    in_doubt = label_scores(mean, both, {"cams": 0.0, "words": 0.0})(image)
    middle = in_doubt[:, 20:44, 44:52]  # both tags: what one source says, the other denies
    assert torch.allclose(middle, torch.full_like(middle, 0.5), atol=1e-4)
    cams = label_scores(replace(PLAIN, source="cams"), {"cams": reversed_scores}, {})(image)
    assert torch.equal(cams, reversed_scores(image, PLAIN))


class ColorModel(ColorMatcher):
    """A trained model with a background class."""

    name = "Mine"
    classes = TissueClasses(
        (
            TissueClass("cancer", (1, 0, 0), ("adenocarcinoma",)),
            TissueClass("fat", (2, 0, 0), ("adipose tissue",)),
            TissueClass("background", (3, 0, 0), ("glass",)),
        )
    )


def test_a_model_with_other_classes_is_translated_by_their_texts(halves, monkeypatch):
    monkeypatch.setattr("plimseg_training.stages.words.load_model", lambda name: ColorModel())
    sure = np.array([0.7, 0.1, 0.2], np.float32)

    def seen(model, rgb, mpp, device):
        assert (type(model), mpp) == (ColorModel, 0.25)
        left = rgb[..., 2:] > 0
        return np.where(left, sure, sure[[1, 0, 2]]).transpose(2, 0, 1)

    monkeypatch.setattr("plimseg_training.stages.words.predict_image", seen)
    scores = ModelScores("mine", ColorMatcher(), SimpleNamespace(classes=CLASSES), 0.25, CPU)
    np.testing.assert_allclose(scores.shares, [[1, 0], [0, 1], [0.5, 0.5]], atol=1e-3)
    image = halves.images[0]
    found = scores(image, PLAIN)
    assert found.shape == (2, *image.size)
    np.testing.assert_allclose(found[:, 0, 0], [0.8, 0.2], atol=1e-3)
    np.testing.assert_allclose(found[:, 0, -1], [0.2, 0.8], atol=1e-3)


def test_without_gating_no_class_is_excluded(halves):
    image = halves.images[0]
    settings = replace(PLAIN, source="words", gate_by_tags=False)
    found = label_scores(settings, {"words": words_of(CLASSES)}, {})(image)
    assert torch.allclose(found, words_of(CLASSES)(image, PLAIN), atol=1e-4)


@pytest.mark.parametrize("source", ["cams", "mean"])
def test_cams_without_their_network_are_refused(source):
    encoders = SimpleNamespace(
        matcher=ColorMatcher(), backbone=SimpleNamespace(strides=(8,)), device=CPU
    )
    config, folder = PseudoMaskConfig(source=source), SimpleNamespace(classes=CLASSES)
    with pytest.raises(ValueError, match="stage 1"):
        opinions(config, encoders, folder, 0.5, None)

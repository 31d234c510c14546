"""Pseudo masks: what tags and cams say, what is left out, and their way to disk and back."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from napari_plimseg.errors import StoreError
from plimseg_training.config.recipe import PseudoMaskConfig
from plimseg_training.data.tagged_folder import TaggedImage
from plimseg_training.stages.pseudo_masks import (
    IGNORED,
    coverage,
    probabilities_of,
    pseudo_mask,
    read_pseudo_mask,
    white_pixels,
    write_pseudo_mask,
)

SIZE = (16, 24)
DARK = np.full((*SIZE, 3), 120, np.uint8)


def tagged(tmp_path, windows, tags):
    return TaggedImage(tmp_path / "a.png", SIZE, np.array(windows), np.array(tags), "slide")


def scores(*values):
    """Scores that are the same everywhere, one number a class."""
    return torch.tensor(values).view(-1, 1, 1).expand(-1, *SIZE).clone()


WHOLE = [(0, 0, *SIZE)]
BOTH_HALVES = [(0, 0, 16, 12), (0, 12, 16, 12)]


def test_a_class_without_a_tag_is_never_chosen(tmp_path):
    image = tagged(tmp_path, WHOLE, [(0, 1, 1)])
    found = pseudo_mask(scores(0.9, 0.3, 0.2), image, DARK, PseudoMaskConfig(ignore_margin=0.0))
    assert found.dtype == np.int16
    assert (found == 1).all()


def test_without_gating_the_strongest_class_wins(tmp_path):
    config = PseudoMaskConfig(gate_by_tags=False)
    image = tagged(tmp_path, WHOLE, [(0, 1, 1)])
    assert (pseudo_mask(scores(0.9, 0.3, 0.2), image, DARK, config) == 0).all()


@pytest.mark.parametrize(
    ("gate", "fill", "single", "several"),
    [
        (True, True, 1, 2),  # one tag: that class; two tags: the stronger one of them
        (False, True, 1, 0),
        (True, False, 0, 2),
        (False, False, 0, 0),
    ],
)
def test_gating_and_filling_by_themselves(tmp_path, gate, fill, single, several):
    image = tagged(tmp_path, BOTH_HALVES, [(0, 1, 0), (0, 1, 1)])
    config = PseudoMaskConfig(gate_by_tags=gate, fill_single_tag=fill, ignore_margin=0.0)
    found = pseudo_mask(scores(0.9, 0.3, 0.5), image, DARK, config)
    assert (found[:, :12] == single).all()
    assert (found[:, 12:] == several).all()


def test_pixels_of_several_windows_get_what_all_allow(tmp_path):
    image = tagged(tmp_path, [(0, 0, 16, 16), (0, 8, 16, 16)], [(1, 1, 0), (0, 1, 1)])
    found = pseudo_mask(scores(0.9, 0.1, 0.8), image, DARK, PseudoMaskConfig())
    assert (found[:, :8] == 0).all()
    assert (found[:, 8:16] == 1).all()
    assert (found[:, 16:] == 2).all()


def test_unsure_pixels_are_ignored(tmp_path):
    image = tagged(tmp_path, WHOLE, [(1, 1, 0)])
    values = scores(0.5, 0.45, 0.9)
    values[0, :, :6] = 0.8
    config = PseudoMaskConfig(ignore_margin=0.1)
    found = pseudo_mask(values, image, DARK, config)
    assert (found[:, :6] == 0).all()  # the third class is not allowed and does not count
    assert (found[:, 6:] == IGNORED).all()


def test_the_least_sure_pixels_of_each_class_are_ignored_alike(tmp_path):
    image = tagged(tmp_path, WHOLE, [(1, 1, 0)])
    values = scores(0.5, 0.5, 0.9)
    width = values.shape[2]
    values[0, :, : width // 2] += torch.linspace(0.3, 0.4, width // 2)  # sure of the first class
    values[0, :, width // 2 :] -= torch.linspace(0.01, 0.02, width - width // 2)
    config = PseudoMaskConfig(ignore_margin=0.0, ignore_share=0.25)
    found = pseudo_mask(values, image, DARK, config)
    for index, columns in ((0, found[:, : width // 2]), (1, found[:, width // 2 :])):
        assert set(np.unique(columns)) == {IGNORED, index}
        assert 0.1 < (columns == IGNORED).mean() < 0.4
    single = tagged(tmp_path, WHOLE, [(0, 1, 0)])
    assert (pseudo_mask(values, single, DARK, config) == 1).all()


def test_where_one_class_is_allowed_nothing_is_unsure(tmp_path):
    image = tagged(tmp_path, WHOLE, [(0, 1, 0)])
    config = PseudoMaskConfig(ignore_margin=1.0)
    assert (pseudo_mask(scores(0.5, 0.5, 0.5), image, DARK, config) == 1).all()


def test_one_class_alone_has_no_second(tmp_path):
    image = tagged(tmp_path, WHOLE, [(1,)])
    config = PseudoMaskConfig(ignore_margin=0.5)
    assert (pseudo_mask(scores(0.1), image, DARK, config) == 0).all()


def test_white_pixels_are_background_after_the_classes(tmp_path):
    rgb = DARK.copy()
    rgb[:, 18:] = 250
    image = tagged(tmp_path, WHOLE, [(1, 0)])
    config = PseudoMaskConfig(ignore_margin=0.9)
    found = pseudo_mask(scores(0.9, 0.8), image, rgb, config, white_background=True)
    assert (found[:, 18:] == 2).all()
    assert (found[:, :18] == 0).all()
    assert (pseudo_mask(scores(0.9, 0.8), image, rgb, config) == 0).all()


def test_small_white_pieces_are_no_background():
    rgb = np.full((40, 40, 3), 100, np.uint8)
    rgb[1:8, 1:8] = 255  # 49 pixels
    rgb[20:30, 20:25] = 255  # 50 pixels
    rgb[10:20, 30:40] = 200  # not above 200
    rgb[30:40, 0:10] = 201
    found = white_pixels(rgb, 1.0)
    assert not found[1:8, 1:8].any()
    assert found[20:30, 20:25].all()
    assert not found[10:20, 30:40].any()
    assert found[30:40, 0:10].all()
    assert found.sum() == 150
    # pieces are measured in square micrometers
    assert white_pixels(rgb, 2.0).sum() == 199
    assert white_pixels(rgb, 0.75).sum() == 100
    assert not white_pixels(rgb, 0.5).any()


def test_pale_eosin_is_not_white():
    rgb = np.full((20, 20, 3), 255, np.uint8)
    rgb[:, 10:] = (255, 180, 240)  # as light as white, but pink
    found = white_pixels(rgb, 1.0)
    assert found[:, :10].all()
    assert not found[:, 10:].any()


def test_refinement_follows_an_edge(tmp_path):
    rgb = np.full((32, 32, 3), 60, np.uint8)
    rgb[:, 16:] = 220
    rgb = (rgb + np.random.default_rng(0).integers(0, 4, rgb.shape)).astype(np.uint8)
    image = TaggedImage(tmp_path / "a.png", (32, 32), np.array([(0, 0, 32, 32)]), [(1, 1)], "s")
    values = torch.zeros(2, 32, 32)
    values[0, :, :19] = 0.9
    values[1, :, 19:] = 0.9
    plain = pseudo_mask(values, image, rgb, PseudoMaskConfig())
    followed = pseudo_mask(values, image, rgb, PseudoMaskConfig(refine="pamr"))
    assert (plain[:, 16:19] == 0).all()
    assert (followed[:, 16:19] == 1).mean() > 0.9
    assert (followed[:, :16] == 0).mean() > 0.95


def test_scores_given_are_not_changed(tmp_path):
    values = scores(0.9, 0.3, 0.2)
    before = values.clone()
    pseudo_mask(values, tagged(tmp_path, WHOLE, [(0, 1, 0)]), DARK, PseudoMaskConfig())
    assert torch.equal(values, before)


# -- scores


def test_exclusive_scores_are_a_softmax():
    cams = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0))
    powers = cams.double().exp()
    expected = (powers / powers.sum(0)).float()
    assert torch.allclose(probabilities_of(cams, exclusive=True), expected, atol=1e-6)


def test_other_scores_are_shares_of_the_largest_cam():
    cams = torch.tensor([[[-1.0, 2.0, 4.0]], [[-3.0, -2.0, -1.0]], [[0.0, 0.0, 0.5]]])
    found = probabilities_of(cams, exclusive=False)
    expected = torch.tensor([[[0.0, 0.5, 1.0]], [[0.0, 0.0, 0.0]], [[0.0, 0.0, 1.0]]])
    assert torch.allclose(found, expected)


# -- files


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 100), st.integers(0, 2**16))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_written_masks_are_read_back(tmp_path, height, width, classes, seed):
    mask = np.random.default_rng(seed).integers(-1, classes + 1, (height, width)).astype(np.int16)
    path = tmp_path / "masks" / "m.png"
    write_pseudo_mask(path, mask)
    found = read_pseudo_mask(path, mask.shape)
    assert found.dtype == np.int16
    assert (found == mask).all()


def test_a_mask_as_an_ordinary_picture(tmp_path):
    write_pseudo_mask(tmp_path / "m.png", np.array([[-1, 0, 1]], np.int16))
    assert np.array(Image.open(tmp_path / "m.png")).tolist() == [[255, 1, 2]]


@pytest.mark.parametrize("damage", ["missing", "empty", "text", "cut", "folder"])
def test_a_mask_that_cannot_be_read_says_what_to_do(tmp_path, damage):
    path = tmp_path / "m.png"
    write_pseudo_mask(path, np.random.default_rng(0).integers(0, 5, (64, 64)).astype(np.int16))
    whole = path.read_bytes()
    path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage != "missing":
        path.write_bytes({"empty": b"", "text": b"hello", "cut": whole[: len(whole) // 2]}[damage])
    with pytest.raises(StoreError, match=r"m\.png") as caught:
        read_pseudo_mask(path, (64, 64))
    assert "Delete it" in str(caught.value)


@given(st.integers(0, 400), st.integers(0, 255))
@example(11, 0)  # a header of no length, a ValueError of the decoder
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_byte_is_an_error_of_ours_or_none(tmp_path, place, value):
    path = tmp_path / "m.png"
    write_pseudo_mask(path, np.random.default_rng(0).integers(0, 5, (20, 20)).astype(np.int16))
    data = bytearray(path.read_bytes())
    data[place % len(data)] = value
    path.write_bytes(data)
    with contextlib.suppress(StoreError):
        assert read_pseudo_mask(path, (20, 20)).dtype == np.int16


@pytest.mark.parametrize("stored", [Image.new("L", (4, 6)), Image.new("RGB", (6, 4))])
def test_a_mask_of_another_image_is_refused(tmp_path, stored):
    stored.save(tmp_path / "m.png")
    with pytest.raises(StoreError, match="6 x 4 pixels should be here"):
        read_pseudo_mask(tmp_path / "m.png", (4, 6))


def test_a_mask_that_cannot_be_written_says_where(tmp_path):
    (tmp_path / "masks").write_text("a file where the folder should be")
    with pytest.raises(StoreError, match=r"m\.png"):
        write_pseudo_mask(tmp_path / "masks" / "m.png", np.zeros((4, 4), np.int16))


def test_coverage_counts_classes_and_ignored():
    masks = [np.array([[0, 0, 1, -1]], np.int16), np.array([[2, 2], [-1, -1]], np.int16)]
    assert coverage(masks, 3).tolist() == [2 / 8, 1 / 8, 2 / 8, 3 / 8]
    assert coverage([], 2).tolist() == [0, 0, 0]

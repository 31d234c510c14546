"""Samples are the same for the same numbers, and every window stays on its pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from plimseg_training.data.tagged_folder import TaggedImage
from plimseg_training.stages.features import DerivedFeatureCache, FeatureCache
from plimseg_training.stages.samples import Flip, Sample, SampleSource, alike, compressed

STRIDES = (4, 8, 16)


def painted(path, size, windows):
    """Write an image in which window n, and nothing else, has red n + 1; return it tagged."""
    rgb = np.zeros((*size, 3), np.uint8)
    rgb[..., 1] = np.random.default_rng(0).integers(0, 255, size)
    for n, (y, x, h, w) in enumerate(windows):
        rgb[y : y + h, x : x + w, 0] = 50 * (n + 1)
    Image.fromarray(rgb).save(path)
    tags = np.eye(len(windows), dtype=np.uint8)
    return TaggedImage(path, size, np.array(windows), tags, "slide")


def averages(images):
    """Frozen maps that show the image itself, at three strides, as an encoder would."""
    maps = []
    for stride in STRIDES:
        maps.append(torch.nn.functional.avg_pool2d(images, stride, ceil_mode=True))
    return maps


def frozen():
    return FeatureCache(averages, torch.device("cpu"))


def number_of(sample, n):
    """Return which painted window the sample's window n is, by its tags."""
    return int(sample.tags[n].argmax())


def red_under(maps, window, stride):
    y, x, h, w = (int(v) for v in window)
    assert y % stride == x % stride == h % stride == w % stride == 0
    return maps[0, y // stride : (y + h) // stride, x // stride : (x + w) // stride]


CASES = [(48, 48), (64, 96), (50, 83), (33, 40), (100, 100)]


@pytest.fixture(params=CASES, ids=str)
def image(request, tmp_path):
    windows = [(0, 0, 16, 16), (16, 16, 16, 16), (0, 16, 16, 16)]
    return painted(tmp_path / "painted.png", request.param, windows)


def drawn(source, target=None, seeds=range(12)):
    return [source.sample(0, np.random.default_rng(seed), target) for seed in seeds]


@pytest.mark.parametrize("augment", ["none", "flips"])
def test_windows_stay_on_their_pixels(image, augment):
    for sample in drawn(SampleSource((image,), augment)):
        assert sample.pixels.shape[1:] == sample.size
        for n, (y, x, h, w) in enumerate(sample.windows):
            red = sample.pixels[0, y : y + h, x : x + w]
            assert torch.allclose(red, torch.tensor(50 * (number_of(sample, n) + 1) / 255.0))


def test_turning_reaches_all_eight_ways_of_a_square(tmp_path):
    image = painted(tmp_path / "square.png", (48, 48), [(0, 0, 16, 32)])
    samples = drawn(SampleSource((image,), "flips"), seeds=range(60))
    assert len({tuple(sample.windows[0]) for sample in samples}) == 8


def test_images_that_are_not_square_are_not_transposed(tmp_path):
    image = painted(tmp_path / "oblong.png", (48, 64), [(0, 0, 16, 32)])
    samples = drawn(SampleSource((image,), "flips"), seeds=range(30))
    assert {sample.size for sample in samples} == {(48, 64)}
    assert {tuple(sample.windows[0, 2:]) for sample in samples} == {(16, 32)}


@pytest.mark.parametrize("crop", [0, 40])
@pytest.mark.parametrize("augment", ["none", "flips"])
def test_windows_stay_on_their_cells_in_frozen_maps(image, augment, crop):
    """Turned maps of all strides agree, also where the image is no multiple of the coarsest."""
    source = SampleSource((image,), augment, crop, frozen(), frozen(), with_pixels=True)
    seen = 0
    for sample in drawn(source):
        for n, window in enumerate(sample.windows):
            wanted = 50 * (number_of(sample, n) + 1) / 255
            y, x, h, w = window
            assert torch.allclose(sample.pixels[0, y : y + h, x : x + w], torch.tensor(wanted))
            for maps, stride in zip(sample.blocks, STRIDES, strict=True):
                assert torch.allclose(
                    red_under(maps, window, stride), torch.tensor(wanted), atol=2e-3
                )
            seen += 1
    assert seen


@pytest.mark.parametrize("augment", ["none", "flips"])
def test_blocks_of_a_sample_cover_the_same_pixels(image, augment):
    for crop in (0, 40):
        for sample in drawn(SampleSource((image,), augment, crop, frozen(), frozen())):
            covered = {
                (maps.shape[1] * stride, maps.shape[2] * stride)
                for maps, stride in zip(sample.blocks, STRIDES, strict=True)
            }
            assert len(covered) == 1
            assert all(c >= s for c, s in zip(covered.pop(), sample.size, strict=True))


@pytest.mark.parametrize("with_maps", [False, True])
@pytest.mark.parametrize("crop", [0, 40])
def test_targets_follow_their_pixels(image, crop, with_maps):
    height, width = image.size
    target = np.random.default_rng(3).integers(0, 200, image.size).astype(np.int16)
    rgb = np.array(Image.open(image.path))
    rgb[..., 2] = target
    Image.fromarray(rgb).save(image.path)
    maps = frozen() if with_maps else None
    source = SampleSource((image,), "flips", crop, maps, with_pixels=True)
    for sample in drawn(source, target):
        blue = (sample.pixels[2] * 255).round().long()
        known = sample.target >= 0
        assert sample.target.shape == sample.size
        assert torch.equal(blue[known], sample.target[known].long())
        if not crop:
            assert int(known.sum()) == height * width


@pytest.mark.parametrize("with_maps", [False, True])
def test_crops_hold_whole_windows_with_their_tags(tmp_path, with_maps):
    places = [(48, 48), (48, 16), (16, 48), (48, 80), (80, 48)]
    image = painted(tmp_path / "many.png", (128, 128), [(y, x, 32, 32) for y, x in places])
    source = SampleSource((image,), "none", 64, frozen() if with_maps else None, with_pixels=True)
    samples = drawn(source, seeds=range(20))
    assert {sample.size for sample in samples} == {(64, 64)}
    for sample in samples:
        for n, (y, x, h, w) in enumerate(sample.windows):
            assert y >= 0
            assert x >= 0
            assert y + h <= 64
            assert x + w <= 64
            red = sample.pixels[0, y : y + h, x : x + w]
            assert torch.allclose(red, torch.tensor(50 * (number_of(sample, n) + 1) / 255.0))
    assert sum(len(sample.windows) > 0 for sample in samples) > 15


def test_a_crop_larger_than_the_image_is_the_image(tmp_path):
    image = painted(tmp_path / "small.png", (40, 48), [(0, 0, 16, 16)])
    sample = SampleSource((image,), "none", 100).sample(0, np.random.default_rng(0))
    assert sample.size == (40, 48)
    assert sample.pixels.shape == (3, 40, 48)


@pytest.mark.parametrize("augment", ["flips", "full"])
def test_the_same_numbers_give_the_same_sample(image, augment):
    source = SampleSource((image, image), augment, 32)

    def at(*key):
        return source.sample(key[-1], np.random.default_rng(key))

    first, again = at(0, 3, 1), at(0, 3, 1)
    assert torch.equal(first.pixels, again.pixels)
    assert (first.windows == again.windows).all()
    others = [at(0, epoch, 1) for epoch in range(4, 10)] + [at(1, 3, 1), at(0, 3, 0)]
    assert not any(torch.equal(first.pixels, other.pixels) for other in others[:2] + others[6:])
    assert len({float(other.pixels.double().sum()) for other in others}) > 3


def test_frozen_maps_are_the_same_remembered_or_not(image):
    calls = []

    def compute(images):
        calls.append(1)
        return averages(images)

    remembering = FeatureCache(compute, torch.device("cpu"))
    first, second = remembering.of(image), remembering.of(image)
    assert len(calls) == 1
    forgetful = FeatureCache(compute, torch.device("cpu"), budget=0)
    third = forgetful.of(image)
    forgetful.of(image)
    assert len(calls) == 3
    for a, b, c in zip(first, second, third, strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a, c)


def test_maps_remembered_in_inference_mode_can_be_trained_on(image):
    """A validation may be the first to ask for an image."""
    maps = frozen()
    derived = DerivedFeatureCache(maps, lambda blocks: blocks[-1])
    with torch.inference_mode():
        maps.of(image)
        derived.of(image)
    weight = torch.ones(1, requires_grad=True)
    for found in (*maps.of(image), *derived.of(image)):
        (found * weight).sum().backward()
    assert float(weight.grad) > 0


def test_turns_of_maps_and_windows_agree():
    size = (6, 6)
    window = np.array([[1, 2, 2, 3]], np.int32)
    image = torch.zeros(1, *size)
    image[0, 1:3, 2:5] = 1
    for rows in (False, True):
        for columns in (False, True):
            for transposed in (False, True):
                turn = Flip(rows, columns, transposed)
                y, x, h, w = turn.windows(window, size)[0]
                turned = turn.maps(image)
                assert float(turned.sum()) == h * w
                assert bool(turned[0, y : y + h, x : x + w].all())


def test_samples_of_one_size_come_together():
    def of(size):
        return Sample(str(size), size, np.zeros((0, 4), np.int32), np.zeros((0, 2), np.uint8))

    sizes = [(8, 8), (8, 9), (8, 8), (9, 8)]
    groups = list(alike([of(size) for size in sizes]))
    assert sorted(len(group) for group in groups) == [1, 1, 2]
    assert all(len({sample.size for sample in group}) == 1 for group in groups)


@pytest.mark.parametrize("crop", [32, 48])
def test_crops_of_other_scales_keep_their_size_windows_and_targets(tmp_path, crop):
    """Red is the number of a window, so it tells where its pixels have gone."""
    places = [(y, x, 16, 16) for y in range(0, 96, 16) for x in range(0, 96, 16)]
    image = painted(tmp_path / "many.png", (96, 96), [*places[:4], (64, 64, 16, 16)])
    target = np.zeros((96, 96), np.int16)
    target[64:80, 64:80] = 1
    source = SampleSource((image,), "full", crop)
    sides = set()
    for sample in drawn(source, target, seeds=range(60)):
        assert sample.size == (crop, crop)
        assert sample.pixels.shape == (3, crop, crop)
        assert sample.target.shape == (crop, crop)
        for n, (y, x, h, w) in enumerate(sample.windows):
            if number_of(sample, n) == 4:
                sides |= {int(h), int(w)}
                inner = sample.target[y + 2 : y + h - 2, x + 2 : x + w - 2]
                assert float(inner.float().mean()) == 1
    assert min(sides) < 15
    assert max(sides) > 18


def test_small_images_are_only_enlarged(tmp_path):
    image = painted(tmp_path / "small.png", (48, 48), [(0, 0, 24, 24)])
    for sample in drawn(SampleSource((image,), "full", 48), seeds=range(20)):
        assert sample.size == (48, 48)
        assert not len(sample.windows) or sample.windows[:, 2:].min() >= 24


def test_a_flip_is_undone_exactly():
    maps = torch.rand(2, 5, 7)
    for number in range(8):
        flip = Flip(*(bool(number >> bit & 1) for bit in range(3)))
        assert torch.equal(flip.undone(flip.maps(maps)), maps)


def test_jpeg_changes_some_images_a_little():
    pixels = torch.rand(3, 40, 40, generator=torch.Generator().manual_seed(0))
    found = [compressed(pixels, np.random.default_rng(seed)) for seed in range(60)]
    changed = [one for one in found if not torch.equal(one, pixels)]
    assert 3 <= len(changed) <= 30
    assert all(0 < float((one - pixels).abs().mean()) < 0.3 for one in changed)

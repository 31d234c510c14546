"""Vectors of a network of fixed input size don't depend on the tiling."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from napari_plimseg.models.windows import WindowCache, WindowGrid


def encode_with_context(patch: int) -> object:
    """Stand for a transformer: every vector depends on the whole window and on its place in it."""

    def encode(windows: torch.Tensor) -> torch.Tensor:
        patches = F.avg_pool2d(windows, patch)
        side = patches.shape[-1]
        place = torch.arange(side * side, dtype=windows.dtype).reshape(side, side) / side**2
        return patches * windows.mean((1, 2, 3), keepdim=True) + place

    return encode


@pytest.mark.parametrize(
    ("window", "patch", "step", "margin"),
    [
        (64, 16, None, 0),
        (224, 32, None, 0),
        (224, 16, None, 0),
        (56, 14, None, 0),
        (96, 32, None, 0),
        (80, 8, 64, 16),
        (80, 8, 64, 64),
        (112, 8, 64, 16),
        (128, 16, 64, 32),
    ],
)
def test_two_tilings_agree_exactly(window: int, patch: int, step: int | None, margin: int) -> None:
    grid = WindowGrid(window, patch, step, margin=margin)
    assert grid.halo % (patch if margin else grid.alignment) == 0
    step, halo = grid.alignment, grid.halo
    generator = torch.Generator().manual_seed(0)
    side = 8 * step
    slide = torch.rand(1, 3, side + 2 * halo, side + 2 * halo, generator=generator)
    encode = encode_with_context(patch)

    def core(y: int, x: int, size: int) -> torch.Tensor:
        tile = slide[:, :, y : y + size + 2 * halo, x : x + size + 2 * halo]
        vectors = grid.dense(tile, encode, at_once=5)  # type: ignore[arg-type]
        # with one vector more on every side: interpolation to the mask reads it
        at = slice((halo - margin) // patch - 1, (halo + size + margin) // patch + 1)
        return vectors[:, :, at, at]

    whole = core(0, 0, side)
    for size in (2 * step, 4 * step):
        for y in range(0, side, size):
            for x in range(0, side, size):
                part = core(y, x, size)
                more = 2 + 2 * margin // patch
                at = [slice(z // patch, (z + size) // patch + more) for z in (y, x)]
                assert torch.allclose(part, whole[:, :, *at], atol=1e-5)


def test_an_image_of_one_window_is_encoded_as_it_is() -> None:
    grid = WindowGrid(64, 16)
    image = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    vectors = grid.dense(image, lambda x: F.avg_pool2d(x, 16))
    assert torch.allclose(vectors, F.avg_pool2d(image, 16), atol=1e-6)


def test_a_cache_spares_windows_and_changes_nothing() -> None:
    grid, cache, calls = WindowGrid(32, 8, 24), WindowCache(capacity=7), []

    def encode(windows: torch.Tensor) -> torch.Tensor:
        calls.append(len(windows))
        means = torch.nn.functional.avg_pool2d(windows, 8)
        return means * (1 + windows.std(dim=(1, 2, 3), keepdim=True))

    images = torch.rand(1, 3, 24 * 5, 24 * 4)
    plain = grid.dense(images, encode)
    without = sum(calls)
    calls.clear()
    assert torch.equal(grid.dense(images, encode, cache=cache), plain)
    assert sum(calls) == without
    small = images[..., : 24 * 3, : 24 * 3]
    expected = grid.dense(small, encode)
    first = grid.dense(small, encode, cache=WindowCache())
    warm = WindowCache()
    grid.dense(small, encode, cache=warm)
    calls.clear()
    assert torch.equal(grid.dense(small, encode, cache=warm), expected)
    assert torch.equal(first, expected)
    assert calls == []
    assert len(cache._known) <= 7


def test_pixels_of_eight_bits_are_scaled_a_window_at_a_time() -> None:
    grid, pixels = WindowGrid(32, 8, 24), torch.randint(0, 256, (1, 3, 104, 80), dtype=torch.uint8)
    counts: list[int] = []

    def encode(windows: torch.Tensor) -> torch.Tensor:
        assert windows.dtype is torch.float32
        counts.append(len(windows))
        return F.avg_pool2d(windows, 8)

    found = grid.dense(pixels, encode, cache=WindowCache())
    assert set(counts) == {1}
    assert torch.equal(found, grid.dense(pixels.float() / 255, encode))
    assert torch.allclose(found, grid.dense(pixels, encode, at_once=8))
    assert max(counts) > 1

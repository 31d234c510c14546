from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_plimseg.errors import ConfigError
from napari_plimseg.tiling import TileGrid, Window

grids = st.builds(
    lambda h, w, tile, halo, stride, times: TileGrid(
        (h, w), tile * stride * times, halo * stride, stride, stride * times
    ),
    st.integers(1, 700),
    st.integers(1, 700),
    st.integers(1, 6),
    st.integers(0, 24),
    st.sampled_from([1, 2, 4]),
    st.integers(1, 8),
)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(grids)
def test_tiles_cover_every_mask_pixel_once_and_keep_the_alignment(grid: TileGrid) -> None:
    count = np.zeros(grid.mask_shape, int)
    for tile in grid:
        window = grid.mask_window(tile)
        assert window.height > 0
        assert window.width > 0
        count[window.slices] += 1
        core, seen = grid.core(tile), grid.input(tile)
        assert core.y % grid.alignment == core.x % grid.alignment == 0
        assert core.height % grid.alignment == core.width % grid.alignment == 0
        assert seen == Window(
            core.y - grid.halo,
            core.x - grid.halo,
            core.height + 2 * grid.halo,
            core.width + 2 * grid.halo,
        )
        assert (window.y, window.x) == (core.y // grid.mask_stride, core.x // grid.mask_stride)
    assert (count == 1).all()
    assert len(list(grid)) == len(grid)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(grids, st.floats(-100, 900), st.floats(-100, 900))
def test_the_order_is_a_permutation_with_the_nearest_first(
    grid: TileGrid, y: float, x: float
) -> None:
    ordered = grid.ordered(list(grid), (y, x))
    assert sorted(ordered) == sorted(grid)
    height, width = grid.tile_shape
    away = [((r + 0.5) * height - y) ** 2 + ((c + 0.5) * width - x) ** 2 for r, c in ordered]
    assert away == sorted(away)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (((0, 5), 64, 0, 4, 32), "can't be tiled"),
        (((9, 5), 65, 0, 4, 32), "tile size 65"),
        (((9, 5), 16, 0, 4, 32), "tile size 16"),
        (((9, 5), 64, 33, 4, 32), "halo 33"),
        (((9, 5), 64, 32, 5, 32), "alignment 32"),
    ],
)
def test_what_can_not_be_is_refused(arguments: tuple, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        TileGrid(*arguments)

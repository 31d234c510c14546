from __future__ import annotations

import itertools

import numpy as np
import pytest

from napari_plimseg.palette import (
    CLEAR_DISTANCE,
    COLOR_BLIND,
    color_blind_colors,
    distance,
    distinct_color,
)
from napari_plimseg.tissue import PRESETS, TissueClass


def test_distance_is_of_what_is_seen_over_the_slide() -> None:
    assert distance((200, 30, 40), (200, 30, 40)) == 0
    # at half opacity over glass: white and black give (249, 248, 249) and (122, 121, 122)
    assert distance((255, 255, 255), (0, 0, 0)) == pytest.approx(45, abs=6)
    # red and green are far apart for most people, and hardly for those who see no green
    red, green = (205, 60, 50), (120, 110, 50)
    assert distance(red, green) > 1.5 * distance(red, green, color_blind=True)


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("color_blind", [False, True])
def test_new_classes_differ_from_all_others(name: str, color_blind: bool) -> None:
    classes = PRESETS[name]
    if color_blind:
        classes = classes.color_blind_safe()
        assert classes.names == PRESETS[name].names
    for number in range(6):
        color = classes.fresh_color(color_blind=color_blind)
        nearest = min(distance(color, c, color_blind=color_blind) for c in classes.colors)
        assert nearest >= (CLEAR_DISTANCE if not color_blind else CLEAR_DISTANCE / 2)
        classes = classes.with_class(TissueClass(f"new {number}", color))


def test_the_palette_for_color_blind_eyes_is_told_apart_by_all() -> None:
    colors = color_blind_colors(9)
    pairs = itertools.combinations(colors, 2)
    assert min(distance(a, b, color_blind=True) for a, b in pairs) >= CLEAR_DISTANCE
    assert colors[:3] == COLOR_BLIND[:3]


def test_preferred_colors_come_first_while_they_are_clear() -> None:
    assert distinct_color([], [(1, 2, 3)]) == (1, 2, 3)
    assert distinct_color([(0, 0, 255)], [(0, 0, 250), (255, 160, 0)]) == (255, 160, 0)
    far = distinct_color([(0, 0, 255)], [(0, 0, 250)])
    assert np.abs(np.subtract(far, (0, 0, 255))).max() > 100

"""The thin bar of colors and values."""

from __future__ import annotations

import pytest

from napari_plimseg._widgets.common.value_bar import ValueBar

pytestmark = pytest.mark.gui


def test_it_draws_colors_between_two_values(qtbot) -> None:  # type: ignore[no-untyped-def]
    bar = ValueBar()
    qtbot.addWidget(bar)
    assert not bar.isVisibleTo(bar.parentWidget())
    bar.resize(200, 20)
    bar.show_colors(([(0.0, 0.0, 0.0), (1.0, 1.0, 0.0)], -0.25, 0.5))
    assert bar.limits == ("-0.25", "0.5")
    assert "from -0.25 to 0.5" in bar.accessibleDescription()
    picture = bar.grab().toImage()
    middle = picture.height() // 2
    scale = picture.width() / 200
    dark, bright = (picture.pixelColor(int(x * scale), middle) for x in (60, 150))
    assert dark.red() < bright.red()
    assert bright.blue() < 40
    bar.show_colors(None)
    assert not bar.isVisible()

"""Icons that stand for something: the color of a class."""

from __future__ import annotations

import pytest
from qtpy.QtGui import QIcon

from napari_plimseg._widgets.common.icons import swatch


@pytest.mark.parametrize("mode", [QIcon.Mode.Normal, QIcon.Mode.Selected])
def test_a_swatch_has_the_color_of_its_class_also_in_a_selected_row(
    qtbot: object, mode: QIcon.Mode
) -> None:
    picture = swatch((128, 60, 190)).pixmap(32, 32, mode).toImage()
    middle = picture.pixelColor(picture.width() // 2, picture.height() // 2)
    assert middle.getRgb()[:3] == (128, 60, 190)

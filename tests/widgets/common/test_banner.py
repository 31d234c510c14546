"""The message at the top of a dock: long file names stay readable."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from napari_plimseg._widgets.common.banner import Banner, breakable

if TYPE_CHECKING:
    from typing import Any

BREAK = "\u200b"


@pytest.mark.parametrize("text", ["A short sentence, of 2 words.", "Press Continue…", "", "a b c"])
def test_short_words_stay_whole(text: str) -> None:
    assert breakable(text) == text


@pytest.mark.parametrize(
    "word", ["'open_clip_model.safetensors':", "x" * 200, "a_" * 60, "S20-1234_Ä.ome.tif" * 5]
)
def test_no_part_of_a_long_word_is_longer_than_a_line(word: str) -> None:
    shown = breakable(f"model {word} is damaged")
    assert shown.replace(BREAK, "") == f"model {word} is damaged"
    assert max(map(len, shown.replace(" ", BREAK).split(BREAK))) < 32


@pytest.mark.gui
def test_a_long_name_is_inside_the_banner_and_its_text_is_unchanged(qtbot: Any) -> None:
    banner = Banner()
    qtbot.addWidget(banner)
    text = "model 'open_clip_model_of_a_long_name_without_any_blank.safetensors': it is damaged."
    banner.show_message("error", text)
    banner.resize(320, 200)
    assert banner.text == text
    room = banner.label.contentsRect()
    used = banner.label.fontMetrics().boundingRect(
        room, banner.label.alignment() | 0x1000, banner.label.text()
    )
    assert used.width() <= room.width()

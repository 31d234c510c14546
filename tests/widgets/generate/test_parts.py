"""The dock's objects without a window: settings, regions, decimation, texts."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

from napari_plimseg._widgets.generate.options import device_title
from napari_plimseg._widgets.generate.run import duration, progress_line
from napari_plimseg._widgets.generate.slide_section import parse_mpp
from napari_plimseg._widgets.viewer.cursor_status import with_text, without
from napari_plimseg._widgets.viewer.mask_layer import decimation, label_colors, shown_part
from napari_plimseg._widgets.viewer.regions import _ellipse
from napari_plimseg.inference.engine import Progress
from napari_plimseg.settings import DockSettings, load_settings, save_settings, settings_path
from napari_plimseg.tiling import Window
from napari_plimseg.tissue import COLORECTAL


def test_settings_are_remembered() -> None:
    assert load_settings() == DockSettings()
    changed = DockSettings(model="x", tile_size=256, tissue_only=False, tissue_threshold=0.1)
    save_settings(changed)
    assert load_settings() == changed


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("not json", DockSettings()),
        ("[1, 2]", DockSettings()),
        ('{"tile_size": 999}', DockSettings()),
        ('{"tile_size": "512"}', DockSettings()),
        ('{"batch_size": -1}', DockSettings()),
        ('{"tissue_threshold": 7.0}', DockSettings()),
        ('{"of_a_newer_version": 1, "tile_size": 2048}', DockSettings(tile_size=2048)),
    ],
)
def test_wrong_settings_become_defaults(content: str, expected: DockSettings) -> None:
    settings_path().parent.mkdir(parents=True, exist_ok=True)
    settings_path().write_text(content, "utf-8")
    assert load_settings() == expected


def test_settings_file_holds_plain_json() -> None:
    save_settings(DockSettings(export_folder="/somewhere"))
    assert json.loads(settings_path().read_text("utf-8"))["export_folder"] == "/somewhere"


@pytest.mark.parametrize(
    ("text", "mpp"),
    [("0.25", 0.25), (" 0,5 ", 0.5), ("", None), ("x", None), ("0", None), ("30", None)],
)
def test_parse_mpp(text: str, mpp: float | None) -> None:
    assert parse_mpp(text) == mpp


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "1 s"), (59, "59 s"), (61, "1 min"), (3599, "1 h 00 min"), (7900, "2 h 12 min")],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def progress(**changes: object) -> Progress:
    facts = {
        "tiles_done": 3,
        "tiles_total": 1200,
        "window": None,
        "seconds": 1.0,
        "tiles_per_second": 2.5,
        "seconds_left": 480.0,
        "device": "CPU, 2 cores",
        "batch_size": 1,
        "unreadable_tiles": 0,
        "message": "Segmenting",
    }
    return Progress(**{**facts, **changes})


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "3 / 1,200 tiles · 2.5 tiles/s · 8 min left · CPU, 2 cores"),
        ({"tiles_total": 0, "message": "Finding tissue"}, "Finding tissue…"),
        (
            {"tiles_per_second": 0.0, "seconds_left": None},
            "3 / 1,200 tiles · CPU, 2 cores",
        ),
    ],
)
def test_progress_line(changes: dict[str, object], text: str) -> None:
    assert progress_line(progress(**changes)) == text


def test_out_of_memory_is_shown() -> None:
    line = progress_line(progress(message="Out of memory: 2 tiles at once from here"))
    assert line.endswith("Out of memory: 2 tiles at once from here")


@pytest.mark.parametrize(
    ("shape", "step"),
    [((10, 10), 1), ((16_384, 4), 1), ((16_385, 4), 2), ((4, 40_000), 3)],
)
def test_decimation(shape: tuple[int, int], step: int) -> None:
    assert decimation(shape) == step
    assert max(-(-side // step) for side in shape) <= 16_384


@pytest.mark.parametrize("step", [1, 2, 3, 5])
def test_tiles_of_a_decimated_mask_make_the_decimated_mask(step: int) -> None:
    mask = np.random.default_rng(0).integers(0, 200, (53, 71)).astype(np.uint8)
    shown = np.zeros_like(mask[::step, ::step])
    for y in range(0, 53, 16):
        for x in range(0, 71, 16):
            window = Window(y, x, min(16, 53 - y), min(16, 71 - x))
            rows, columns, block = shown_part(window, mask[window.slices], step)
            shown[rows, columns] = block
    np.testing.assert_array_equal(shown, mask[::step, ::step])


def test_label_colors() -> None:
    colors = label_colors(COLORECTAL, hidden={COLORECTAL[0].name})
    assert colors[None][3] == colors[0][3] == colors[1][3] == 0
    assert colors[2] == (*(c / 255 for c in COLORECTAL[1].color), 1.0)
    assert len(colors) == len(COLORECTAL) + 3


def test_ellipse_keeps_its_axes() -> None:
    outline = _ellipse(np.array([[0, 0], [0, 10], [4, 10], [4, 0]]))
    np.testing.assert_allclose(outline.min(0), [0, 0], atol=1e-2)
    np.testing.assert_allclose(outline.max(0), [4, 10], atol=1e-2)
    y, x = (outline - [2, 5]).T
    np.testing.assert_allclose((y / 2) ** 2 + (x / 5) ** 2, 1, atol=1e-9)


@pytest.mark.parametrize("status", ["[1, 2]: 3", {"coordinates": "[1, 2]: 3", "layer_name": "a"}])
def test_status_text_goes_in_once_and_comes_out(status: object) -> None:
    once = with_text(status, "stroma · 87 %")
    assert with_text(once, "stroma · 87 %") == once
    assert "stroma · 87 %" in str(once)
    assert without(once, "stroma · 87 %") == status


@pytest.mark.parametrize(
    ("name", "title"),
    [("cpu", "CPU"), ("cuda", "NVIDIA GPU"), ("cuda:1", "NVIDIA GPU 1"), ("mps", "Apple GPU")],
)
def test_device_title(name: str, title: str) -> None:
    assert device_title(name) == title


def test_full_mask_of_a_decimated_layer_takes_the_painting() -> None:
    from napari_plimseg._widgets.viewer.mask_layer import MaskView

    mask = np.repeat(np.arange(1, 11, dtype=np.uint8)[:, None], 7, 1)  # (10, 7)
    view = MaskView.__new__(MaskView)
    view.step = 3
    view.edits = SimpleNamespace(applied=lambda mask: mask)
    view.corrections = None
    view.store = SimpleNamespace(read_classes=lambda **_: mask.copy())
    shown = mask[::3, ::3].copy()
    np.testing.assert_array_equal(view.full_mask(shown), mask)
    shown[1, 2] = 99
    expected = mask.copy()
    expected[3:6, 6:7] = 99
    np.testing.assert_array_equal(view.full_mask(shown), expected)


def test_opening_an_open_slide_selects_it(dock, qtbot) -> None:  # type: ignore[no-untyped-def]
    dock.opener.open_sample()
    first = dock.slides.layer
    assert first is not None
    dock._viewer.add_image(np.zeros((4, 4)), name="another")
    dock.opener.open_sample()
    assert dock.slides.layers == [first]
    assert dock._viewer.layers.selection.active == first
    dock.open_slide(str(dock.slides.slide.path))
    assert dock.slides.layers == [first]

"""Exports write what the mask layer shows."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile
from qtpy.QtWidgets import QFileDialog

from napari_plimseg._widgets.generate.results import ResultsSection
from napari_plimseg.results.export import FORMATS

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_plimseg._widgets.generate.dock import PlimsegDock

pytestmark = pytest.mark.gui
WAIT = 60_000


@pytest.fixture
def masked(dock: PlimsegDock, add_slide: Callable, qtbot) -> PlimsegDock:  # type: ignore[no-untyped-def]
    add_slide()
    with qtbot.waitSignal(dock.controller.finished, timeout=WAIT):
        dock.start()
    return dock


def press(dock: PlimsegDock, key: str, qtbot) -> list[Path]:  # type: ignore[no-untyped-def]
    with qtbot.waitSignal(dock.tools.exported, timeout=WAIT) as blocker:
        dock.results.export_buttons[key].click()
    qtbot.waitUntil(lambda: not dock.tools.is_busy, timeout=WAIT)
    return blocker.args[0]


def test_the_buttons_are_the_table_of_exports(monkeypatch: pytest.MonkeyPatch, qtbot) -> None:  # type: ignore[no-untyped-def]
    row = dataclasses.replace(FORMATS["csv"], title="My export", about="What it holds.")
    monkeypatch.setitem(FORMATS, "mine", row)
    section = ResultsSection()
    qtbot.addWidget(section)
    assert list(section.export_buttons) == [*FORMATS, "all"]
    assert section.export_buttons["mine"].text() == "My export"


@pytest.mark.parametrize(
    ("key", "ending"),
    [
        ("ome-tiff", ".mask.ome.tif"),
        ("geojson", ".geojson"),
        ("csv", ".areas.csv"),
        ("png", ".overlay.png"),
    ],
)
def test_each_export(
    masked: PlimsegDock, key: str, ending: str, tmp_path: Path, monkeypatch, qtbot
) -> None:  # type: ignore[no-untyped-def]
    offered: list[str] = []

    def choose(parent: object, title: str, start: str, *rest: str) -> tuple[str, str]:
        offered.append(start)
        return str(tmp_path / "out" / Path(start).name), ""

    monkeypatch.setattr(QFileDialog, "getSaveFileName", choose)
    written = press(masked, key, qtbot)
    assert Path(offered[0]).name == f"slide{ending}"
    assert written == [tmp_path / "out" / f"slide{ending}"]
    assert written[0].stat().st_size > 0
    assert masked.banner.kind == "good"
    assert f"slide{ending}" in masked.banner.text
    assert masked.results.folder_button.isEnabled()


def test_everything_with_painted_corrections(
    masked: PlimsegDock, tmp_path: Path, monkeypatch, qtbot
) -> None:  # type: ignore[no-untyped-def]
    layer = masked.view.layer
    layer.data[10:30, 10:30] = 2
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: str(tmp_path / "all"))
    written = press(masked, "all", qtbot)
    assert len(written) == len(FORMATS)
    tiff = next(path for path in written if path.name.endswith(".ome.tif"))
    np.testing.assert_array_equal(tifffile.imread(tiff), layer.data)
    geojson = next(path for path in written if path.suffix == ".geojson")
    features = json.loads(geojson.read_text())
    features = features["features"] if isinstance(features, dict) else features
    names = {f["properties"]["classification"]["name"] for f in features}
    assert {"purple", "pink"} <= names


def test_a_folder_that_refuses_is_told(
    masked: PlimsegDock, tmp_path: Path, monkeypatch, qtbot
) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "taken").write_text("a file where a folder should be")
    monkeypatch.setattr(
        QFileDialog, "getSaveFileName", lambda *_: (str(tmp_path / "taken" / "x.csv"), "")
    )
    masked.results.export_buttons["csv"].click()
    qtbot.waitUntil(lambda: masked.banner.kind == "error", timeout=WAIT)
    qtbot.waitUntil(lambda: masked.results.export_buttons["csv"].isEnabled(), timeout=WAIT)


def test_cancelled_dialog_writes_nothing(masked: PlimsegDock, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: ("", ""))
    masked.results.export_buttons["csv"].click()
    assert not masked.tools.is_busy

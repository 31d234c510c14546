"""Exports write what the mask layer shows."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
import zarr
from qtpy.QtWidgets import QFileDialog, QMessageBox

from napari_plimseg._widgets.generate.results import ResultsSection
from napari_plimseg.fingerprints import fingerprint
from napari_plimseg.results.export import FORMATS
from napari_plimseg.results.store_damage import StoreDamage
from tests.support.slides import write_ome_zarr

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


def test_labels_into_the_slide_are_offered_for_ome_zarr_only(
    masked: PlimsegDock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, qtbot: Any
) -> None:
    button = masked.results.labels_button
    assert not button.isVisibleTo(masked)
    slide, view = masked.slides.slide, masked.view
    assert slide is not None
    assert view is not None
    side = slide.shape
    folder = write_ome_zarr(tmp_path / "s.zarr", [np.zeros((*side, 3), np.uint8)])
    monkeypatch.setattr(slide, "path", folder)
    monkeypatch.setattr(slide, "format_name", "OME-Zarr 0.4")
    view.info = dataclasses.replace(view.info, slide_fingerprint=fingerprint(folder))
    masked.refresh_state()
    assert button.isVisibleTo(masked)
    answers = [QMessageBox.StandardButton.No, *[QMessageBox.StandardButton.Yes] * 2]
    asked: list[str] = []

    def answer(*arguments: Any) -> Any:
        asked.append(arguments[2])
        return answers.pop(0)

    monkeypatch.setattr(QMessageBox, "question", answer)
    button.click()
    assert not (folder / "labels").exists()
    for _ in range(2):
        with qtbot.waitSignal(masked.tools.exported, timeout=WAIT):
            button.click()
        qtbot.waitUntil(lambda: not masked.tools.is_busy, timeout=WAIT)
        assert "Wrote labels 'plimseg'" in masked.banner.text
    assert "Write the mask as labels" in asked[1]
    assert "Replace its labels" in asked[2]
    stored = zarr.open_group(str(folder / "labels" / "plimseg"), mode="r")["0"]
    np.testing.assert_array_equal(np.asarray(stored).squeeze(), view.full_mask(view.layer.data))


def test_a_damaged_mask_is_exported_only_when_allowed(
    masked: PlimsegDock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, qtbot: Any
) -> None:
    assert masked.view is not None
    store = masked.view.store
    found = StoreDamage(store.info, store.layout, (("classes", ((0, 0),)),))
    monkeypatch.setattr(type(store), "found_damage", property(lambda _: found))
    target = tmp_path / "a.areas.csv"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(target), ""))
    answers = [QMessageBox.StandardButton.No, QMessageBox.StandardButton.Yes]
    asked: list[str] = []

    def answer(*arguments: Any) -> Any:
        asked.append(arguments[2])
        return answers.pop(0)

    monkeypatch.setattr(QMessageBox, "question", answer)
    masked.results.export_buttons["csv"].click()
    assert found.sentence in asked[0]
    assert not target.exists()
    assert press(masked, "csv", qtbot) == [target]
    assert len(asked) == 2

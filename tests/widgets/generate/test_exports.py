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


def answering(monkeypatch: pytest.MonkeyPatch, *answers: bool) -> list[str]:
    """Answer questions in this order; return what was asked."""
    asked: list[str] = []
    left = list(answers)
    yes, no = QMessageBox.StandardButton.Yes, QMessageBox.StandardButton.No

    def answer(*arguments: Any) -> Any:
        asked.append(arguments[2])
        return yes if left.pop(0) else no

    monkeypatch.setattr(QMessageBox, "question", answer)
    return asked


@pytest.mark.parametrize(
    ("key", "typed", "written"),
    [
        ("ome-tiff", "mask", "mask.ome.tif"),
        ("ome-tiff", "mask.TIF", "mask.TIF"),
        ("geojson", "outlines.", "outlines.geojson"),
        ("geojson", "outlines.json", "outlines.json"),
        ("csv", "areas.v2", "areas.v2.csv"),
        ("png", "picture", "picture.png"),
    ],
)
def test_the_extension_is_added(key: str, typed: str, written: str) -> None:
    assert FORMATS[key].named(Path("folder", typed)) == Path("folder", written)


def test_an_export_asks_before_it_replaces_a_file(
    masked: PlimsegDock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, qtbot: Any
) -> None:
    dialogs: list[tuple[Any, ...]] = []

    def choose(*arguments: Any) -> tuple[str, str]:
        dialogs.append(arguments[1:])
        return str(tmp_path / "kept"), ""  # typed without an extension

    monkeypatch.setattr(QFileDialog, "getSaveFileName", choose)
    (tmp_path / "kept").write_text("another file")
    kept = tmp_path / "kept.csv"
    kept.write_text("earlier")
    asked = answering(monkeypatch, False, True)
    masked.results.export_buttons["csv"].click()
    assert not masked.tools.is_busy
    assert kept.read_text() == "earlier"
    assert "kept.csv exists already" in asked[0]
    assert masked.banner.text == "Nothing was exported."
    assert press(masked, "csv", qtbot) == [kept]
    assert "purple" in kept.read_text()
    assert (tmp_path / "kept").read_text() == "another file"
    assert len(asked) == 2
    title, start, file_filter = dialogs[0][:3]
    assert title == "Export Areas CSV"
    assert file_filter == "Areas CSV (*.csv)"
    assert Path(start).name == "slide.areas.csv"
    assert Path(dialogs[1][1]).parent == tmp_path  # the folder is remembered


def test_exporting_all_asks_once_for_what_exists(
    masked: PlimsegDock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, qtbot: Any
) -> None:
    folder = tmp_path / "all"
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: str(folder))
    asked = answering(monkeypatch, False, True)
    first = press(masked, "all", qtbot)
    assert not asked
    for path in first[1:]:
        path.write_text("kept")
    first[0].unlink()
    masked.results.export_buttons["all"].click()
    assert not masked.tools.is_busy
    assert [path.exists() for path in first] == [False, True, True, True]
    assert all(path.read_text() == "kept" for path in first[1:])
    for path in first[1:]:
        assert path.name in asked[0]
    assert first[0].name not in asked[0]
    press(masked, "all", qtbot)
    assert all(path.read_bytes() != b"kept" for path in first)


def test_beside_the_slide_nothing_is_asked_but_replacing(
    masked: PlimsegDock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, qtbot: Any
) -> None:
    def fail(*_: Any) -> Any:
        raise AssertionError("a dialog was opened")

    monkeypatch.setattr(QFileDialog, "getSaveFileName", fail)
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", fail)
    asked = answering(monkeypatch, False)
    masked.results.beside.click()
    slide = masked.slides.slide
    assert slide is not None
    folder = slide.path.parent
    assert press(masked, "csv", qtbot) == [folder / "slide.areas.csv"]
    masked.results.export_buttons["all"].click()
    assert "slide.areas.csv exists already" in asked[0]
    assert not (folder / "slide.geojson").exists()
    again = ResultsSection()
    qtbot.addWidget(again)
    assert again.beside.isChecked()  # remembered


def test_the_slide_is_never_replaced(
    masked: PlimsegDock, monkeypatch: pytest.MonkeyPatch, qtbot: Any
) -> None:
    slide = masked.slides.slide
    assert slide is not None
    before = slide.path.read_bytes()
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(slide.path), ""))
    masked.results.export_buttons["ome-tiff"].click()
    assert not masked.tools.is_busy
    assert "is the slide" in masked.banner.text
    assert slide.path.read_bytes() == before


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

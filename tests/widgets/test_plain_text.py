"""Names from files are shown as they are: no widget takes them for HTML."""

from __future__ import annotations

import ast
import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image
from qtpy.QtCore import Qt
from qtpy.QtGui import QAction
from qtpy.QtWidgets import (
    QComboBox,
    QLabel,
    QTableWidget,
    QTextEdit,
    QTreeWidget,
    QTreeWidgetItemIterator,
    QWidget,
)

from napari_plimseg import models
from napari_plimseg._widgets.common.tooltips import FlowText, PlainLabel, plain
from napari_plimseg._widgets.viewer import cursor_status
from napari_plimseg.errors import ModelError
from napari_plimseg.tissue import TissueClass, TissueClasses
from napari_plimseg.training_runs import TagTable
from tests.support import widgets as fakes
from tests.support.masks import info_for
from tests.support.paths import ROOT
from tests.widgets import test_every_button as docks

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.gui,
    pytest.mark.skipif(os.name == "nt", reason="file names can't hold < there"),
]
EVIL = "<img src='http://x.example/a.png'> <b>bold</b> &lt;i&gt;"
EVIL_FILE = "<b>case<i>7.png"
CLASSES = TissueClasses(
    (
        TissueClass(EVIL, (120, 40, 140), (EVIL,)),
        TissueClass("<b>pink</b>", (240, 120, 160), ("<h1>stroma</h1>",)),
        TissueClass("<s>third</s>", (40, 120, 160), ("third",)),
        TissueClass("background", (240, 240, 240)),
    )
)
house = docks.house
WIDGETS = ROOT / "src" / "napari_plimseg" / "_widgets"


def tooltips(widget: QWidget) -> Iterator[str]:
    """Yield the tooltips of a widget and of its items."""
    yield widget.toolTip()
    role = Qt.ItemDataRole.ToolTipRole
    if isinstance(widget, QComboBox):
        yield from (str(widget.itemData(row, role) or "") for row in range(widget.count()))
    if isinstance(widget, QTableWidget):
        for row in range(widget.rowCount()):
            for column in range(widget.columnCount()):
                item = widget.item(row, column)
                yield item.toolTip() if item is not None else ""
    if isinstance(widget, QTreeWidget):
        rows = QTreeWidgetItemIterator(widget)
        while (row := rows.value()) is not None:
            yield from (row.toolTip(column) for column in range(widget.columnCount()))
            rows += 1


def is_evil(html: str) -> bool:
    """Whether HTML would be rendered with what a name says, and not with the name itself."""
    lower = html.lower()
    marks = ("<img", "<b>bold", "<h1>stroma", "<s>third", "<b>pink", "<b>case", "<i>7")
    return any(mark in lower for mark in marks)


def rendered_as_html(dock: QWidget) -> list[str]:
    """Return what widgets of a dock would render of evil names."""
    wrong = []
    for widget in (dock, *dock.findChildren(QWidget)):
        name = type(widget).__name__
        if isinstance(widget, QLabel):
            kind, text = widget.textFormat(), widget.text()
            rich = kind == Qt.TextFormat.RichText or (
                kind == Qt.TextFormat.AutoText and Qt.mightBeRichText(text)
            )
            if rich and is_evil(text):
                wrong.append(f"{name}: {text}")
        if isinstance(widget, QTextEdit) and is_evil(widget.toHtml()):
            wrong.append(f"{name}: {widget.toHtml()}")
        tips = [*tooltips(widget), *(a.toolTip() for a in widget.findChildren(QAction))]
        wrong += [f"tip: {t}" for t in tips if Qt.mightBeRichText(t) and is_evil(t)]
    return wrong


def texts(dock: QWidget) -> str:
    """Return everything that a dock shows."""
    found = []
    for widget in (dock, *dock.findChildren(QWidget)):
        for name in ("text", "toPlainText", "currentText"):
            read = getattr(widget, name, None)
            if callable(read):
                found.append(str(read()))
        found += tooltips(widget)
        if isinstance(widget, QTableWidget | QTreeWidget):
            model = widget.model()
            found += [
                str(model.index(row, column).data())
                for row in range(model.rowCount())
                for column in range(model.columnCount())
            ]
    return "\n".join(found)


@pytest.fixture
def evil(house: docks.House, monkeypatch: pytest.MonkeyPatch) -> docks.House:
    """Docks whose classes, models, slides and errors have names like HTML."""
    (entry,) = models.list_models()
    entry = dataclasses.replace(
        entry, title=EVIL, description=EVIL, license=EVIL, source=EVIL, classes=CLASSES
    )
    monkeypatch.setattr(models, "list_models", lambda: [entry])
    monkeypatch.setattr(fakes, "CLASSES", CLASSES)

    def info(mask: Any, **options: Any) -> Any:
        return info_for(mask, **{**options, "classes": CLASSES, "name": EVIL_FILE})

    monkeypatch.setattr(docks, "info_for", info)
    return house


def main_failed(house: docks.House) -> QWidget:
    def refuse(*_: Any, **__: Any) -> None:
        raise ModelError(EVIL, path=EVIL_FILE, remedy=EVIL)

    dock = docks.main_with_slide(house)
    with house.patch.context() as patch:
        patch.setattr(models, "load_model", refuse)
        dock.controller.keeper.forget()  # it was loaded when the slide opened
        dock.start()
        house.wait(lambda: dock.banner.kind == "error")
    return dock


def train_with_everything(house: docks.House) -> QWidget:
    from napari_plimseg.training_runs.folder_facts import FolderFacts, FolderProblem

    dock = docks.train_finished(house)
    dock.folder_section.show_folder(Path(EVIL_FILE))
    problems = (FolderProblem(EVIL_FILE, EVIL, fatal=True),)
    facts = FolderFacts(True, problems, layout=EVIL, images=1, tags={EVIL: 1}, classes=CLASSES)
    dock.folder_section.show_facts(facts)
    dock.result.show_scores(EVIL, {EVIL: 50.0})
    dock.show_error_message(EVIL)
    return dock


def models_own(house: docks.House) -> QWidget:
    dock = docks.models_own(house)
    for key, entry in dock._entries.items():
        dock._entries[key] = dataclasses.replace(
            entry, title=EVIL, description=EVIL, license=EVIL, source=EVIL, history={EVIL: EVIL},
            scores={EVIL: 0.5}, classes=CLASSES,
        )  # fmt: skip
    dock.refresh_state()
    dock.banner.show_message("error", EVIL)
    return dock


def batch_failed(house: docks.House) -> QWidget:
    dock = docks.batch_failed(house)
    item = dock._cohort.items[0]
    dock._cohort._change(item.path, problem=EVIL)
    dock.table.show_item(dock._cohort.item(item.path))
    dock.banner.show_message("error", EVIL)
    return dock


def gallery(house: docks.House) -> QWidget:
    from napari_plimseg._widgets.train.tag_gallery import TagGallery

    images = house.folder / "images"
    images.mkdir()
    Image.new("RGB", (40, 40)).save(images / EVIL_FILE)
    window = TagGallery(TagTable(images, ["<b>pink<b>"]))
    window.show()
    return window


@pytest.mark.parametrize(
    "reach",
    [
        docks.main_finished, main_failed, docks.review_painted, docks.review_compared,
        train_with_everything, models_own, batch_failed, gallery,
    ],
)  # fmt: skip
def test_no_dock_takes_a_name_for_html(reach: Any, evil: docks.House) -> None:
    dock = reach(evil)
    assert "<" in texts(dock), "the dock shows no such name"
    assert not rendered_as_html(dock)
    evil.clear(dock)


def test_what_would_be_rendered_is_found(qtbot: Any) -> None:
    dock = QWidget()
    qtbot.addWidget(dock)
    QLabel(EVIL, dock)
    rich = PlainLabel(EVIL, dock)
    PlainLabel(EVIL, dock)
    assert len(rendered_as_html(dock)) == 1
    rich.setTextFormat(Qt.TextFormat.RichText)
    dock.setToolTip(EVIL)
    assert len(rendered_as_html(dock)) == 3
    dock.setToolTip(plain(EVIL))
    assert len(rendered_as_html(dock)) == 2


@pytest.mark.parametrize("text", [EVIL, "a &lt; b", "<!DOCTYPE html>", "<?xml?><b>x</b>", "\n<p>"])
def test_plain_text_is_no_html_and_looks_the_same(text: str) -> None:
    assert not Qt.mightBeRichText(plain(text))
    assert plain(text).replace("\u200b", "") == text
    assert plain(plain(text)) == plain(text)
    assert plain("tumour > 5 µm & stroma") == "tumour > 5 µm & stroma"


def test_the_status_bar_and_notifications_show_names_as_they_are(
    evil: docks.House, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = evil.add_mask()
    assert not Qt.mightBeRichText(view.layer.name)
    status = cursor_status.CursorStatus(evil.viewer, lambda: view)
    evil.viewer.cursor.position = tuple(view.layer.extent.world.mean(0))
    assert "third" in status.text
    assert not Qt.mightBeRichText(status.text)
    status.disconnect()
    shown: list[str] = []
    dock = docks.main_dock(evil)
    monkeypatch.setattr("napari_plimseg._widgets.generate.dock.show_error", shown.append)
    dock.show_error_message(EVIL)
    assert shown == [plain(EVIL)]
    evil.clear(dock)


def test_labels_and_tooltips_are_made_by_what_keeps_text_plain() -> None:
    """Every label is a `PlainLabel`, and each tooltip is a constant, `plain(...)` or escaped."""
    wrong = []
    for path in WIDGETS.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func).rpartition(".")[2]
            if called == "QLabel" and path.name != "tooltips.py":
                wrong.append(f"{path.name}:{node.lineno}: QLabel")
            if called == "setToolTip" and not _is_safe(node.args[-1]):
                wrong.append(f"{path.name}:{node.lineno}: {ast.unparse(node)}")
    assert not wrong, "\n".join(wrong)
    assert issubclass(FlowText, PlainLabel)


def _is_safe(node: ast.expr) -> bool:
    if isinstance(node, ast.BoolOp):
        return all(map(_is_safe, node.values))
    if isinstance(node, ast.IfExp):
        return _is_safe(node.body) and _is_safe(node.orelse)
    if isinstance(node, ast.Call):
        return ast.unparse(node.func) == "plain"
    if isinstance(node, ast.Name):
        return node.id.isupper() or node.id == "usual"
    if isinstance(node, ast.Subscript):
        return ast.unparse(node.value) == "TOOLTIPS"
    return isinstance(node, ast.Constant)

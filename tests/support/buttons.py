"""Finds and presses everything in a dock that can be pressed."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from qtpy.QtGui import QColor, QDesktopServices
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractSpinBox,
    QApplication,
    QColorDialog,
    QComboBox,
    QFileDialog,
    QInputDialog,
    QLineEdit,
    QMessageBox,
    QScrollBar,
    QSlider,
    QTableWidget,
    QWidget,
)

from napari_plimseg._widgets.common.actions import ActionButton
from napari_plimseg._widgets.common.background_job import BackgroundJob
from napari_plimseg._widgets.common.collapsible import CollapsibleSection
from napari_plimseg._widgets.common.tooltips import TOOLTIPS
from napari_plimseg.settings import DockSettings, TrainSettings, options_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

_PRESSED_SECONDS = 3.0
"""What a press begins may end before the next one."""
_ORDER = (
    r"Banner\.|reviewed_button",
    r"",
    r"discard|close|done|stop|cancel|reset|resume|ComparePanel\.background",
    r"ClassEditor\.",
    r"RunPanel\.button|start_button|run_button|compare_button|EarlierTrainings.show|ComparePanel\.button",
    r"remove_button|sample|SHAPES|draw_button|tissue_only",
)
"""What takes away what others need is pressed later; the last that fits decides."""
USUAL = {
    *TOOLTIPS.values(),
    *(
        option.tooltip
        for kind in (DockSettings, TrainSettings)
        for option in options_of(kind).values()
    ),
}
"""What controls say when they can be used."""
KINDS = (QAbstractButton, QComboBox, QAbstractSpinBox, QLineEdit, QSlider)


def cancel_dialogs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every dialog be cancelled at once."""
    for name, answer in (
        ("getOpenFileName", ("", "")),
        ("getOpenFileNames", ([], "")),
        ("getSaveFileName", ("", "")),
        ("getExistingDirectory", ""),
    ):
        monkeypatch.setattr(QFileDialog, name, lambda *_, answer=answer, **__: answer)
    monkeypatch.setattr(QColorDialog, "getColor", lambda *_, **__: QColor())
    monkeypatch.setattr(QInputDialog, "getText", lambda *_, **__: ("", False))
    no = QMessageBox.StandardButton.No
    monkeypatch.setattr(QMessageBox, "question", lambda *_, **__: no)
    monkeypatch.setattr(QDesktopServices, "openUrl", lambda *_: True)


def controls(dock: QWidget) -> Iterator[QWidget]:
    """Yield what a person can press, choose or type into now, in the order of the dock."""
    for widget in dock.findChildren(QWidget):
        inner = widget.objectName().startswith("qt_") or isinstance(
            widget.parent(), QComboBox | QAbstractSpinBox
        )
        # a table's own corner is a button without a name of its class
        corner = isinstance(widget, QAbstractButton) and isinstance(widget.parent(), QTableWidget)
        wanted = isinstance(widget, KINDS) and not isinstance(widget, QScrollBar)
        if wanted and not inner and not corner and widget.isVisibleTo(dock):
            yield widget


def label(dock: QWidget, control: QWidget) -> str:
    """Return what tells a control from the others of its dock in every state."""
    text = control.text() if isinstance(control, QAbstractButton) else ""
    return f"{type(control).__name__} {_owner_of(dock, control) or text}"


def _owner_of(dock: QWidget, control: QWidget) -> str:
    """Return "section.name" of the attribute that holds a control, "" for those in lists."""
    for owner in (dock, *dock.findChildren(QWidget)):
        for name, value in getattr(owner, "__dict__", {}).items():
            if value is control:
                return f"{type(owner).__name__}.{name}"
            if isinstance(value, dict) and any(one is control for one in value.values()):
                key = next(k for k, one in value.items() if one is control)
                return f"{type(owner).__name__}.{name}[{key}]"
    return ""


def open_folds(dock: QWidget) -> None:
    """Show what is folded."""
    for fold in dock.findChildren(CollapsibleSection):
        fold.expand(animate=False)


def missing_words(dock: QWidget) -> list[str]:
    """Return the controls without a tooltip, and the disabled ones that don't say why."""
    open_folds(dock)
    wrong = []
    for control in controls(dock):
        tip = control.toolTip().strip()
        if not tip:
            wrong.append(f"no tooltip: {label(dock, control)}")
        elif not control.isEnabled() and tip in USUAL:
            wrong.append(f"no reason: {label(dock, control)}: {tip}")
    return wrong


def _usual_tooltip(control: QWidget) -> str | None:
    return control.usual_tooltip if isinstance(control, ActionButton) else None


def press(control: QWidget) -> None:
    """Do with a control what a hand can do."""
    if isinstance(control, QAbstractButton):
        menu = getattr(control, "menu", lambda: None)()
        if menu is None:
            control.click()
            return
        menu.aboutToShow.emit()
        for action in menu.actions():
            action.trigger()
    elif isinstance(control, QComboBox):
        for row in sorted({0, min(control.count(), 3) - 1} - {-1}):
            control.setCurrentIndex(row)
            control.activated.emit(row)
            control.textActivated.emit(control.currentText())
    elif isinstance(control, QAbstractSpinBox):
        control.stepUp()
        control.stepDown()
    elif isinstance(control, QSlider):
        control.setValue(control.minimum())
        control.setValue((control.minimum() + control.maximum()) // 2)
    elif isinstance(control, QLineEdit):
        before = control.text()
        for text in ("much", "", before):
            control.setText(text)
            control.textEdited.emit(text)
            control.editingFinished.emit()
            control.returnPressed.emit()


def press_all(dock: QWidget, first: str = "") -> set[str]:
    """Press all that is enabled when its turn comes; return the labels of what was pressed.

    What has `first` in its label comes first.
    """
    open_folds(dock)
    pressed = set()
    found = [(control, label(dock, control)) for control in controls(dock)]
    for control, name in sorted(found, key=lambda one: _turn(one[1], first)):
        if alive(dock) and alive(control) and not control.isVisibleTo(dock):
            open_folds(dock)  # a press may have folded it
        if alive(control) and control.isEnabled() and control.isVisibleTo(dock):
            before = _working(dock)
            press(control)
            pressed.add(name)
            QApplication.processEvents()
            end = time.monotonic() + _PRESSED_SECONDS
            while _working(dock) - before and time.monotonic() < end:
                QApplication.processEvents()
    return pressed


def _working(dock: QWidget) -> set[BackgroundJob]:
    if not alive(dock):
        return set()
    return {job for job in dock.findChildren(BackgroundJob) if job.is_running}


def _turn(name: str, first: str) -> int:
    if first and first in name:
        return -1
    if re.search(_ORDER[0], name):
        return 0
    fits = [turn for turn, words in enumerate(_ORDER) if turn and re.search(words, name)]
    return fits[-1]


def alive(widget: QWidget) -> bool:
    """Whether Qt has not taken a widget away yet."""
    try:
        widget.objectName()
    except RuntimeError:
        return False
    return True

"""The images to train on: a bar per tag with examples, and the problems of the folder."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from qtpy.QtCore import QRectF, QSize, Qt, Signal
from qtpy.QtGui import QColor, QPainter
from qtpy.QtWidgets import (
    QHBoxLayout,
    QLineEdit,
    QProgressBar,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_plimseg._widgets.common import (
    TOOLTIPS,
    ActionButton,
    FlowText,
    labeled,
    plain,
    show_actions,
)
from napari_plimseg._widgets.generate import PixelSizeRow
from napari_plimseg._widgets.train.pictures import PictureLoader, Wanted

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from qtpy.QtGui import QPaintEvent

    from napari_plimseg._widgets.train.state import TrainDockState
    from napari_plimseg.tissue import Color
    from napari_plimseg.training_runs import FolderFacts, FolderProblem


_ROW = 40
_THUMB = 34
_NAME_WIDTH = 128
_COUNT_WIDTH = 34
_PROBLEMS_SHOWN = 12
_MASKS_WIDTH = 86


class TagBars(QWidget):
    """One row per tag: name, bar of its frequency, and some of its images."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.loader = PictureLoader(self)
        self.loader.loaded.connect(lambda _: self.update())
        self._rows: list[tuple[str, int, Color, tuple[Path, ...]]] = []
        self._ink = QColor(160, 160, 160)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def set_ink(self, color: str) -> None:
        """Draw in the text color of the theme."""
        self._ink = QColor(color)
        self.update()

    def show_facts(self, facts: FolderFacts | None) -> None:
        """Show the tags of a folder."""
        self._rows = []
        if facts is not None and facts.classes is not None:
            colors = {c.name: c.color for c in facts.classes}
            self._rows = [
                (name, count, colors[name], facts.samples.get(name, ()))
                for name, count in facts.tags.items()
            ]
        self.setFixedHeight(len(self._rows) * _ROW)
        self.loader.want(Wanted(path, 2 * _THUMB) for row in self._rows for path in row[3])
        self.setToolTip(plain("\n".join(f"{name}: {count:,}" for name, count, _, _ in self._rows)))
        self.update()

    def recolor(self, shown: list[tuple[str, Color]]) -> None:
        """Show other names and colors for the same tags."""
        self._rows = [
            (name, row[1], color, row[3])
            for row, (name, color) in zip(self._rows, shown, strict=False)
        ]
        self.update()

    def sizeHint(self) -> QSize:
        """Return a size that fits a dock."""
        return QSize(300, len(self._rows) * _ROW)

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw the rows."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        most = max((count for _, count, _, _ in self._rows), default=1) or 1
        metrics = painter.fontMetrics()
        thumbs = max(0, min(6, (self.width() - _NAME_WIDTH - _COUNT_WIDTH - 60) // (_THUMB + 3)))
        room = self.width() - _NAME_WIDTH - _COUNT_WIDTH - thumbs * (_THUMB + 3) - 8
        left_aligned, right_aligned = (
            int((flag | Qt.AlignmentFlag.AlignVCenter).value)
            for flag in (Qt.AlignmentFlag.AlignLeft, Qt.AlignmentFlag.AlignRight)
        )
        for number, (name, count, color, paths) in enumerate(self._rows):
            top = number * _ROW
            painter.setPen(self._ink)
            shown = metrics.elidedText(name, Qt.TextElideMode.ElideRight, _NAME_WIDTH - 6)
            painter.drawText(QRectF(0, top, _NAME_WIDTH, _ROW), left_aligned, shown)
            painter.setPen(QColor(128, 128, 128))
            painter.setBrush(QColor(*color))
            bar = QRectF(_NAME_WIDTH, top + _ROW / 2 - 7, max(2.0, room * count / most), 14)
            painter.drawRoundedRect(bar, 2, 2)
            painter.setPen(self._ink)
            box = QRectF(_NAME_WIDTH + room, top, _COUNT_WIDTH, _ROW)
            painter.drawText(box, right_aligned, f"{count:,}")
            for place, path in enumerate(paths[:thumbs]):
                image = self.loader.picture(Wanted(path, 2 * _THUMB))
                x = self.width() - (thumbs - place) * (_THUMB + 3)
                if image is not None:
                    painter.drawImage(QRectF(x, top + 3, _THUMB, _THUMB), image)
        painter.end()


class FolderSection(QWidget):
    """Chooses the images to train on and shows what they contain.

    Attributes
    ----------
    folderRequested, slidesRequested, tagRequested : Signal()
        A button was pressed.
    masksDescribed : Signal()
        Something else was typed about the values of masks.
    """

    folderRequested = Signal()
    slidesRequested = Signal()
    tagRequested = Signal()
    masksDescribed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.path_label = FlowText()
        self.path_label.setTextFormat(Qt.TextFormat.RichText)
        self.folder_button, self.slides_button, self.tag_button = (
            ActionButton(text, control, TOOLTIPS[f"train_{control}"], signal.emit)
            for text, control, signal in (
                ("Choose folder…", "folder", self.folderRequested),
                ("Use open slides", "slides", self.slidesRequested),
                ("Tag images…", "tag", self.tagRequested),
            )
        )
        self.bar = QProgressBar()
        self.summary = FlowText()
        self.bars = TagBars()
        self.problems = FlowText()
        self.problems.setTextFormat(Qt.TextFormat.RichText)
        self.mpp_row = PixelSizeRow("train_mpp", "0.5", "µm per pixel (20x: 0.5)")
        self.mpp_edit = self.mpp_row.edit
        self.notes = FlowText()
        self.notes.hide()
        self.masks_edit = QLineEdit()
        self.masks_edit.setPlaceholderText("3=stroma, 7=-")
        self.masks_edit.editingFinished.connect(self._on_masks)
        self.masks_row = labeled("Mask values", self.masks_edit, _MASKS_WIDTH)
        self._described = ""
        buttons = QHBoxLayout()
        buttons.setContentsMargins(0, 0, 0, 0)
        for button in (self.folder_button, self.slides_button, self.tag_button):
            buttons.addWidget(button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addLayout(buttons)
        for widget in (
            self.path_label, self.bar, self.summary, self.bars, self.problems, self.masks_row,
            self.mpp_row, self.notes,
        ):  # fmt: skip
            layout.addWidget(widget)
        self.show_facts(None)
        self.bar.hide()

    def show_state(self, state: TrainDockState) -> None:
        """Enable what can be used now; the tooltips of the rest say why not."""
        show_actions(self, state)
        why_not = state.why_not("setup")
        self.mpp_edit.setEnabled(not why_not)
        self.mpp_edit.setToolTip(plain(why_not or TOOLTIPS["train_mpp"]))
        self.masks_edit.setEnabled(not why_not)
        self.masks_edit.setToolTip(plain(why_not or TOOLTIPS["train_masks"]))
        self.bar.setVisible(state.checking)

    def show_folder(self, path: Path | None) -> None:
        """Show the name of the chosen folder."""
        name = "No folder selected." if path is None else f"<b>{escape(path.name)}</b>"
        self.path_label.setText(name)
        self.path_label.setToolTip(plain("" if path is None else str(path)))

    def show_counted(self, what: str, done: int, total: int) -> None:
        """Show the progress of the check; a total of 0 means unknown."""
        self.bar.setRange(0, total)
        self.bar.setValue(done)
        self.bar.setFormat(f"{done:,} of {total:,} {what}" if total else what)

    def show_facts(self, facts: FolderFacts | None) -> None:
        """Show the contents of the folder; None while another one is looked through."""
        if facts is None:
            self.show_notes(())
        self.bars.show_facts(facts)
        self.summary.setText("" if facts is None else facts.summary)
        self.summary.setVisible(facts is not None)
        self.bars.setVisible(facts is not None and facts.usable)
        problems = () if facts is None else facts.problems
        self.problems.setText(_problem_text(problems))
        self.problems.setVisible(bool(problems))
        self.mpp_row.setVisible(facts is not None and facts.usable and facts.mpp is None)
        asks = facts is not None and facts.asks_about_masks
        self.masks_row.setVisible(asks or bool(facts is not None and self._described))

    @property
    def mask_values(self) -> str:
        """What was typed about the values of masks."""
        return self.masks_edit.text().strip()

    def forget_masks(self) -> None:
        """Empty the line about the values of masks, for another folder."""
        self._described = ""
        self.masks_edit.clear()

    def show_notes(self, notes: Sequence[str]) -> None:
        """Show what cutting slides left out or changed."""
        self.notes.setText("\n".join(f"Note: {note}" for note in notes))
        self.notes.setVisible(bool(notes))

    def _on_masks(self) -> None:
        if self.mask_values != self._described:
            self._described = self.mask_values
            self.masksDescribed.emit()


def _problem_text(problems: Sequence[FolderProblem]) -> str:
    """Return the problems as rich text, one row for all files with the same problem."""
    files: dict[tuple[bool, str], list[str]] = {}
    for problem in problems:
        files.setdefault((problem.fatal, problem.text), []).append(problem.file)
    rows = []
    for (fatal, text), names in list(files.items())[:_PROBLEMS_SHOWN]:
        word, color = ("Error:", "#d9534f") if fatal else ("Note:", "#c08a2a")
        more = f" and {len(names) - 1:,} more" if len(names) > 1 else ""
        rows.append(
            f"<p style='margin: 3px 0'><b style='color: {color}'>{word}</b> "
            f"{escape(names[0])}{more}: {escape(text)}</p>"
        )
    if len(files) > _PROBLEMS_SHOWN:
        rows.append(f"<p>… and {len(files) - _PROBLEMS_SHOWN} more problems.</p>")
    return "".join(rows)

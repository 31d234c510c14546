"""The dock *PLIMSeg Models*: lists, imports, downloads and removes models and encoders."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtGui import QBrush, QColor
from qtpy.QtWidgets import (
    QFileDialog,
    QHBoxLayout,
    QHeaderView,
    QMenu,
    QMessageBox,
    QProgressBar,
    QPushButton,
    QSplitter,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
)

from napari_plimseg._widgets.common import (
    NARROWEST,
    TOOLTIPS,
    ActionButton,
    BackgroundJob,
    Banner,
    FlowText,
    LinkBrowser,
    TabOrdered,
    link_color,
    plain,
    show_actions,
)
from napari_plimseg._widgets.docks import NOT_CHOSEN, main_dock
from napari_plimseg._widgets.generate import duration
from napari_plimseg._widgets.model_manager.state import ModelsState, Work
from napari_plimseg.models import (
    EntryState,
    ModelEntry,
    ModelLibrary,
    Offer,
    Task,
    import_model,
    import_weights,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from napari.viewer import Viewer

    from napari_plimseg.models import DownloadProgress


def size_text(size: int) -> str:
    """Return a size as text, such as "52 MB"; empty for 0."""
    if not size:
        return ""
    if size < 1_000_000:
        return f"{max(1, round(size / 1e3))} kB"
    return f"{size / 1e6:.0f} MB" if size < 1_000_000_000 else f"{size / 1e9:.1f} GB"


def details_html(entry: ModelEntry) -> str:
    """Return the details of an entry as rich text."""
    parts = [f"<p><b>{escape(entry.title)}</b><br>{escape(entry.description)}</p>"]
    if entry.reason:
        parts.append(f"<p><b>{entry.state.label.capitalize()}.</b> {escape(entry.reason)}</p>")
    rows = [("License", escape(entry.license)), ("Source", _source(entry))]
    if entry.gated:
        rows.append(("Access", "gated: accept the terms of its authors first"))
    if entry.task is not Task.TRAINING:
        rows.append(("Works at", f"{entry.mpp:g} µm/px"))
    if entry.size_bytes:
        rows.append(("Size on disk", size_text(entry.size_bytes)))
    rows += [(escape(name), f"{value:.3g}") for name, value in entry.scores.items()]
    rows += [(escape(name), escape(text)) for name, text in entry.history.items()]
    if entry.path is not None:
        rows.append(("File", _file(entry.path)))
    lines = "".join(
        f"<tr><td style='padding-right: 8px;'>{name}</td><td>{text}</td></tr>"
        for name, text in rows
        if text
    )
    parts.append(f"<table>{lines}</table>")
    if entry.classes is not None:
        swatches = (
            f"<span style='color: rgb{c.color};'>■</span>&nbsp;{escape(c.name)}"
            for c in entry.classes
        )
        parts.append(f"<p>{' &nbsp; '.join(swatches)}</p>")
    return "".join(parts)


def question_html(offer: Offer, link: str) -> str:
    """Return the question before a download, with size and license; `link` is a color."""
    entry = offer.entry
    files = ", ".join(f"{escape(f.name)} ({size_text(f.size)})" for f in offer.files)
    gated = " Accept the terms of its authors on that page first." if entry.gated else ""
    return (
        f"<p>Download <b>{escape(entry.title)}</b>, {size_text(offer.size_bytes)}?</p>"
        f"<p>License: <b>{escape(entry.license)}</b>. Read it on {_source(entry, link)} before you "
        f"use the model.{gated}</p><p>Files: {files}</p>"
    )


def progress_text(progress: DownloadProgress, left: str) -> str:
    """Return the progress of a download in one line; `left` is the remaining time as text."""
    done, total = size_text(progress.bytes_done) or "0 MB", size_text(progress.bytes_total)
    parts = [f"{progress.message} {progress.name}", f"{done} of {total}"]
    if left:
        parts.append(f"{left} left")
    return " · ".join(parts)


def _file(path: Path) -> str:
    """Return the file name as a link to its folder.

    Only the tooltip shows the path, since it may hold the name of a person.
    """
    folder = path if path.is_dir() else path.parent
    where, address = escape(str(path)), escape(folder.absolute().as_uri())
    return f"<a href='{address}' title='{where}'>{escape(path.name)}</a>"


def _source(entry: ModelEntry, link: str = "") -> str:
    if not entry.page:
        return escape(entry.source)
    style = f" style='color: {link};'" if link else ""
    return f"<a href='{escape(entry.page)}'{style}>{escape(entry.source)}</a>"


MODEL_FILES = "Models (*.safetensors);;All files (*)"
WEIGHT_FILES = "Weights (*.safetensors *.bin *.pt *.pth);;All files (*)"
_KEY = Qt.ItemDataRole.UserRole
_STATE_COLORS = {
    EntryState.DAMAGED: "#d05050",
    EntryState.PARTIAL: "#c08020",
    EntryState.NOT_HERE: "#909090",
}


@dataclass(frozen=True)
class _Key:
    """The key of the entry that an import created."""

    key: str


def _button(text: str, control: str, slot: Callable[[], None]) -> ActionButton:
    return ActionButton(text, control, TOOLTIPS[f"models_{control}"], slot)


class ModelsDock(TabOrdered):
    """Lists, imports, downloads and removes models.

    Parameters
    ----------
    napari_viewer : napari.Viewer
        The viewer whose main dock uses a model.
    library : ModelLibrary, optional
        The user's by default.
    """

    def __init__(self, napari_viewer: Viewer, library: ModelLibrary | None = None) -> None:
        super().__init__()
        self._viewer = napari_viewer
        self._library = library or ModelLibrary()
        self._entries: dict[str, ModelEntry] = {}
        self._work = Work.NONE
        self._wanted = ""
        self._completing = False
        self._offer: Offer | None = None
        self._build()
        self._job = BackgroundJob(self)
        self._job.yielded.connect(self._on_step)
        self._job.failed.connect(self._on_failed)
        self._job.finished.connect(self._on_finished)
        self.reload()

    def _build(self) -> None:
        self.banner = Banner()
        self.table = QTreeWidget()
        self.table.setHeaderLabels(["Model", "Kind", "Size", "State"])
        self.table.setRootIsDecorated(False)
        self.table.setUniformRowHeights(True)
        header = self.table.header()
        header.setStretchLastSection(False)
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        header.setMinimumSectionSize(40)
        self.table.currentItemChanged.connect(lambda *_: self.refresh_state())
        self.details = LinkBrowser()
        self.bar = QProgressBar()
        self.cancel_button = _button("Cancel", "cancel", self.cancel)
        self.line = FlowText()
        self.import_button = QPushButton("Import")
        menu = QMenu(self.import_button)
        self.file_action = menu.addAction("Model file…", self._on_import_file)
        self.folder_action = menu.addAction("Folder…", self._on_import_folder)
        self.weights_action = menu.addAction("Weights of the selected encoder…", self._on_weights)
        menu.setToolTipsVisible(True)
        self.import_button.setMenu(menu)
        self.download_button = _button("Download", "download", self.download)
        self.remove_button = _button("Remove", "remove", self.remove)
        self.use_button = _button("Use", "use", self.use)

        splitter = QSplitter(Qt.Orientation.Vertical)
        splitter.addWidget(self.table)
        splitter.addWidget(self.details)
        splitter.setStretchFactor(0, 3)
        splitter.setStretchFactor(1, 2)
        splitter.setChildrenCollapsible(False)
        progress = QHBoxLayout()
        progress.addWidget(self.bar, 1)
        progress.addWidget(self.cancel_button)
        buttons = QHBoxLayout()
        for button in (
            self.import_button, self.download_button, self.remove_button, self.use_button,
        ):  # fmt: skip
            buttons.addWidget(button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 4, 4, 4)
        layout.setSpacing(4)
        layout.addStrut(NARROWEST)
        self.banner.float_over(self.table)
        layout.addWidget(splitter, 1)
        layout.addLayout(progress)
        layout.addWidget(self.line)
        layout.addLayout(buttons)

    @property
    def entry(self) -> ModelEntry | None:
        """The selected model; None when there is none."""
        item = self.table.currentItem()
        return None if item is None else self._entries.get(item.data(0, _KEY))

    @property
    def state(self) -> ModelsState:
        """The current situation, which decides what can be used."""
        dock = main_dock(self._viewer)
        return ModelsState(
            entry=self.entry,
            work=self._work,
            dock_is_open=dock is not None,
            dock_is_running=dock is not None and dock.is_running,
        )

    def refresh_state(self) -> None:
        """Show the selected model and enable what can be used now."""
        state = self.state
        self.details.show_html("" if state.entry is None else details_html(state.entry))
        show_actions(self, state)
        why_not = state.why_not("import")
        self.import_button.setEnabled(not why_not)
        self.import_button.setToolTip(plain(why_not or TOOLTIPS["models_import"]))
        why_not = state.why_not("weights")
        self.weights_action.setEnabled(not why_not)
        self.weights_action.setToolTip(plain(why_not or TOOLTIPS["models_weights"]))
        busy = state.work not in (Work.NONE, Work.LISTING)
        self.bar.setVisible(busy)
        self.line.setVisible(busy)
        self.cancel_button.setVisible(busy and state.work not in (Work.REMOVING, Work.ASKING))
        begun = state.entry is not None and state.entry.state is EntryState.PARTIAL
        self.download_button.setText("Continue" if begun else "Download")

    def select(self, key: str) -> bool:
        """Select a model by its key; return whether it is in the list."""
        for row in range(self.table.topLevelItemCount()):
            item = self.table.topLevelItem(row)
            if item is not None and item.data(0, _KEY) == key:
                self.table.setCurrentItem(item)
                return True
        return False

    def reload(self) -> None:
        """List the models again, without asking the network."""
        self._start(Work.LISTING, self._library.entries)

    def import_from(self, path: str | Path) -> None:
        """Import a model file or a folder."""
        self._completing = False
        self._start(Work.IMPORTING, lambda: _with_key(import_model(path)))

    def import_weights_from(self, path: str | Path) -> None:
        """Import the weights of the selected encoder, or name those that a model needs."""
        entry = self.entry
        if entry is not None and not self.state.why_not("weights"):
            key = entry.key
            self._completing = bool(entry.needs_place)
            self._start(Work.IMPORTING, lambda: _with_key(import_weights(key, path)))

    def download(self) -> None:
        """Ask the hub for files and size, ask the user, then download."""
        entry = self.entry
        if entry is not None and not self.state.why_not("download"):
            key, offer = entry.key, self._library.offer
            self._start(Work.ASKING, lambda: offer(key))

    def cancel(self) -> None:
        """Stop the download, whose downloaded part is kept, or the import."""
        if not self.state.why_not("cancel"):
            self._work = Work.ABORTING if self._work is Work.IMPORTING else Work.STOPPING
            self._job.stop()
            self.line.setText("Stopping…")
            self.refresh_state()

    def remove(self) -> None:
        """Remove the selected model after the user has confirmed it."""
        entry = self.entry
        if entry is None or self.state.why_not("remove"):
            return
        what = size_text(entry.size_bytes) or "an empty folder"
        text = f"<p>Remove <b>{escape(entry.title)}</b> ({what}) from this computer?</p>"
        if entry.kind.value.startswith("own"):
            text += "<p>This can't be undone.</p>"
        if self.ask("Remove model", text):
            key, library = entry.key, self._library
            self._start(Work.REMOVING, lambda: library.remove(key))

    def use(self) -> None:
        """Choose the selected model in the main dock."""
        entry, dock = self.entry, main_dock(self._viewer)
        if entry is None or dock is None or self.state.why_not("use"):
            return
        if dock.choose_model(entry.name):
            self.banner.show_message("good", f"{entry.title} is selected in the PLIMSeg dock.")
        else:
            self.banner.show_message("warning", NOT_CHOSEN.format(name=entry.title))

    def ask(self, title: str, text: str) -> bool:
        """Ask the user a question; return whether the answer is yes."""
        yes, no = QMessageBox.StandardButton.Yes, QMessageBox.StandardButton.No
        return QMessageBox.question(self, title, text, yes | no, no) == yes

    def _start(self, work: Work, steps: Callable[[], object]) -> None:
        if self._job.is_running:
            return
        self._work = work
        if work is not Work.LISTING:
            self.banner.hide()
        self.bar.setRange(0, 0)
        self.line.setText(work.value)
        self._job.start(steps)
        self.refresh_state()

    def _on_step(self, step: list[ModelEntry] | str | Offer | DownloadProgress | _Key) -> None:
        if isinstance(step, list):
            self._show(step)
        elif isinstance(step, str):
            self.line.setText(step)
        elif isinstance(step, _Key):
            self._wanted = step.key
        elif isinstance(step, Offer):
            self._offer = step
        elif step is not None:
            # in thousandths, since the range of Qt's bar has 32 bits and files are larger
            self.bar.setRange(0, 1000)
            self.bar.setValue(round(1000 * step.bytes_done / max(1, step.bytes_total)))
            left = "" if step.seconds_left is None else duration(step.seconds_left)
            self.line.setText(progress_text(step, left))

    def _on_failed(self, text: str) -> None:
        self.banner.show_message("error", text)

    def _on_finished(self, complete: bool) -> None:
        work, self._work = self._work, Work.NONE
        if work is Work.LISTING:
            self.refresh_state()
            return
        if work is Work.ASKING and complete and self._offer is not None:
            offer, self._offer = self._offer, None
            if self.ask("Download model", question_html(offer, link_color(self))):
                library = self._library
                self._start(Work.DOWNLOADING, lambda: library.download(offer))
                return
        if work is Work.STOPPING:
            self.banner.show_message(
                "info", "Cancelled. The downloaded part is kept; press Continue to finish."
            )
        elif work is Work.DOWNLOADING and complete:
            self.banner.show_message("good", "Downloaded and verified.")
        elif work is Work.ABORTING and not complete and self.banner.isHidden():
            self.banner.show_message("info", "Cancelled. What is not in the list was not imported.")
        elif work in (Work.IMPORTING, Work.ABORTING) and complete:
            text = f"Imported as '{self._wanted}'."
            if self._completing:  # the encoder stays where it is
                text = f"The encoder of '{self._wanted}' is known now."
            self.banner.show_message("good", text)
        elif work is Work.REMOVING and complete:
            self.banner.show_message("good", "Removed.")
        dock = main_dock(self._viewer)
        if dock is not None:
            dock.reload_models()
        self.reload()

    def _show(self, entries: list[ModelEntry]) -> None:
        entry = self.entry
        chosen = self._wanted or ("" if entry is None else entry.key)
        self._wanted = ""
        self._entries = {e.key: e for e in entries}
        self.table.clear()
        for e in entries:
            item = QTreeWidgetItem([e.title, e.kind.value, size_text(e.size_bytes), e.state.label])
            item.setData(0, _KEY, e.key)
            item.setToolTip(0, plain(e.title))
            item.setToolTip(3, plain(e.reason))
            item.setTextAlignment(2, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
            if e.state in _STATE_COLORS:
                item.setForeground(3, QBrush(QColor(_STATE_COLORS[e.state])))
            self.table.addTopLevelItem(item)
        if not self.select(chosen):
            self.select(entries[0].key)

    def _on_import_file(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Import model", "", MODEL_FILES)
        if path:
            self.import_from(path)

    def _on_import_folder(self) -> None:
        path = QFileDialog.getExistingDirectory(self, "Import all models of a folder")
        if path:
            self.import_from(path)

    def _on_weights(self) -> None:
        title = "Weights of the encoder"
        if self.entry is not None and self.entry.needs_place == "FOLDER":
            path = QFileDialog.getExistingDirectory(self, title)
        else:
            path, _ = QFileDialog.getOpenFileName(self, title, "", WEIGHT_FILES)
        if path:
            self.import_weights_from(path)


def _with_key(steps: Generator[str, None, str]) -> Generator[str | _Key, None, None]:
    yield _Key((yield from steps))

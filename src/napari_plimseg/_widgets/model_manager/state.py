"""What the models dock allows now, and why not the rest. Without Qt and napari."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from napari_plimseg.models import EntryState, Kind, Task, why_not_remove

if TYPE_CHECKING:
    from napari_plimseg.models import ModelEntry


class Work(Enum):
    """What the dock is doing in the background."""

    NONE = ""
    LISTING = "The models are being listed."
    IMPORTING = "A model is being imported."
    REMOVING = "A model is being removed."
    ASKING = "The hub is being asked for the files."
    DOWNLOADING = "A download is in progress."
    STOPPING = "The download is stopping."
    ABORTING = "The import is stopping."


@dataclass(frozen=True)
class ModelsState:
    """Everything that decides which controls can be used.

    Parameters
    ----------
    entry : ModelEntry or None
        The selected model.
    work : Work
        What the dock is doing.
    dock_is_open : bool
        Whether the main dock, which uses a model, is open.
    dock_is_running : bool
        Whether the main dock is segmenting a slide.
    """

    entry: ModelEntry | None = None
    work: Work = Work.NONE
    dock_is_open: bool = True
    dock_is_running: bool = False

    def why_not(self, control: str) -> str:
        """Return why a control can't be used now, in one sentence; empty when it can.

        Parameters
        ----------
        control : {"import", "weights", "download", "cancel", "remove", "use"}
        """
        if control == "cancel":
            if self.work in (Work.DOWNLOADING, Work.IMPORTING):
                return ""
            stopping = self.work in (Work.STOPPING, Work.ABORTING)
            return self.work.value if stopping else "Nothing is downloading or being imported."
        if control not in ("import", "weights", "download", "remove", "use"):
            raise ValueError(f"there is no control {control!r}")
        if self.work is not Work.NONE and control != "use":
            return self.work.value
        if control == "import":
            return ""
        if self.entry is None:
            return "Select a model in the list first."
        return getattr(self, f"_why_not_{control}")(self.entry)

    def _why_not_weights(self, entry: ModelEntry) -> str:
        if entry.needs_place:
            return ""
        if entry.kind is not Kind.ENCODER:
            return "Select the encoder that the weights belong to first."
        return "It is already on this computer." if entry.state is EntryState.READY else ""

    def _why_not_download(self, entry: ModelEntry) -> str:
        if entry.downloadable:
            return ""
        if entry.state is EntryState.READY:
            return "It is already on this computer."
        return f"It can't be downloaded. {entry.reason}"

    def _why_not_remove(self, entry: ModelEntry) -> str:
        return why_not_remove(entry)

    def _why_not_use(self, entry: ModelEntry) -> str:
        if entry.state is not EntryState.READY:
            return entry.reason
        if entry.task is Task.TRAINING:
            return "Vision-only encoder: train a model with it to get masks."
        if entry.task is Task.PROMPTS:
            return "This model is for points and boxes: choose it in Smart select."
        if not self.dock_is_open:
            return "Open the dock PLIMSeg first (Plugins > PLIMSeg)."
        return "A run is in progress: wait or cancel it first." if self.dock_is_running else ""

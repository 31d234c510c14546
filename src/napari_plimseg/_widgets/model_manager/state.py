"""What the models dock allows, and why not: no Qt, no napari."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from napari_plimseg.models.library import EntryState, Kind, Task, why_not_remove

if TYPE_CHECKING:
    from napari_plimseg.models.library import ModelEntry


class Work(Enum):
    """What goes on in the background."""

    NONE = ""
    LISTING = "The models are being looked up."
    IMPORTING = "A model is being imported."
    REMOVING = "A model is being removed."
    ASKING = "The hub is being asked."
    DOWNLOADING = "A download is going on."
    STOPPING = "The download is stopping."


@dataclass(frozen=True)
class ModelsState:
    """Everything that decides which controls can be used.

    Parameters
    ----------
    entry : ModelEntry or None
        The selected one.
    work : Work
        What goes on.
    dock_is_open : bool
        Whether the main dock is there to use a model in.
    dock_is_running : bool
        Whether the main dock is in a run.
    """

    entry: ModelEntry | None = None
    work: Work = Work.NONE
    dock_is_open: bool = True
    dock_is_running: bool = False

    def why_not(self, control: str) -> str:
        """Return why a control can't be used now, as a sentence; empty when it can.

        Parameters
        ----------
        control : {"import", "weights", "download", "cancel", "remove", "use"}
        """
        if control == "cancel":
            if self.work is Work.DOWNLOADING:
                return ""
            return self.work.value if self.work is Work.STOPPING else "Nothing is downloading."
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
        if entry.kind is not Kind.ENCODER:
            return "Select an encoder in the list first: weights alone belong to one."
        return "It is here already." if entry.state is EntryState.READY else ""

    def _why_not_download(self, entry: ModelEntry) -> str:
        if entry.downloadable:
            return ""
        if entry.state is EntryState.READY:
            return "It is on this computer already."
        return f"It can't be downloaded. {entry.reason}"

    def _why_not_remove(self, entry: ModelEntry) -> str:
        return why_not_remove(entry)

    def _why_not_use(self, entry: ModelEntry) -> str:
        if entry.state is not EntryState.READY:
            return entry.reason
        if entry.task is Task.TRAINING:
            return "It is a vision-only encoder: train a model with it first."
        if entry.task is Task.PROMPTS:
            return "It answers points and boxes: choose it under Smart select."
        if not self.dock_is_open:
            return "Open the dock PLIMSeg first (Plugins > PLIMSeg)."
        return "A run is going on: wait or cancel it first." if self.dock_is_running else ""

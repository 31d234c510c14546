"""What the batch dock allows now, and why not the rest. Without Qt and napari."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_plimseg._widgets.generate import Phase
from napari_plimseg.inference import RUNNABLE, ItemState

if TYPE_CHECKING:
    from napari_plimseg.inference import CohortItem


@dataclass(frozen=True)
class BatchState:
    """Everything that decides which controls can be used.

    Parameters
    ----------
    items : tuple of CohortItem
        All slides.
    selected : tuple of CohortItem
    phase : Phase
        Whether the batch is running.
    looking : bool
        Whether slides are being added.
    list_problem : str
        Why the list of slides can't be used; empty when it can.
    model_problem : str
        Why the chosen model can't be used; empty when it can.
    engine_owner : str
        What else uses the engine; empty when it is free.
    """

    items: tuple[CohortItem, ...] = ()
    selected: tuple[CohortItem, ...] = ()
    phase: Phase = Phase.IDLE
    looking: bool = False
    list_problem: str = ""
    model_problem: str = ""
    engine_owner: str = ""

    def why_not(self, control: str) -> str:
        """Return why a control can't be used now, in one sentence; empty when it can.

        Parameters
        ----------
        control : {"add", "run", "stop", "remove", "retry", "open", "mpp", "setup"}
            "setup" means model, exports and results folder.
        """
        if control not in ("add", "run", "stop", "remove", "retry", "open", "mpp", "setup"):
            raise ValueError(f"there is no control {control!r}")
        if control == "stop":
            if self.phase is Phase.STOPPING:
                return "Stopping after the current tiles."
            return "" if self.phase is Phase.RUNNING else "Nothing is running."
        if control == "setup":
            return (
                "" if self.phase is Phase.IDLE else "The batch is running: wait or stop it first."
            )
        if self.list_problem:
            return self.list_problem
        if control == "add":
            return "Slides are being added." if self.looking else ""
        if not self.items:
            return "Add slides first."
        return getattr(self, f"_why_not_{control}")()

    def _why_not_run(self) -> str:
        if self.phase is not Phase.IDLE:
            return "The batch is running."
        if self.engine_owner:
            return f"Only one run at a time: wait for {self.engine_owner} or cancel it."
        if self.model_problem:
            return self.model_problem
        if any(item.state in RUNNABLE for item in self.items):
            return ""
        if any(item.state is ItemState.NEEDS_MPP for item in self.items):
            return "Pixel size unknown: select the slides and enter it."
        if any(item.state is ItemState.FAILED for item in self.items):
            return "The remaining slides have failed: press Retry failed."
        return "All slides are done."

    def _why_not_remove(self) -> str:
        if not self.selected:
            return "Select slides in the list first."
        if all(item.state is ItemState.RUNNING for item in self.selected):
            return "This slide is being segmented: stop the batch first."
        return ""

    def _why_not_retry(self) -> str:
        failed = any(item.state is ItemState.FAILED for item in self.items)
        return "" if failed else "No slide has failed."

    def _why_not_open(self) -> str:
        if len(self.selected) != 1:
            return "Select one slide in the list first."
        item = self.selected[0]
        if item.store or item.state is ItemState.DONE:
            return ""
        return f"No result yet ({item.state.value})."

    def _why_not_mpp(self) -> str:
        asks = any(item.state is ItemState.NEEDS_MPP for item in self.selected)
        return "" if asks else "The pixel size of the selected slides is known."

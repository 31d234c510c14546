"""What the main dock allows now, and why not the rest. Without Qt and napari."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from napari_plimseg._widgets.viewer import RunOn

_WAIT_OR_CANCEL = "A run is in progress: wait or cancel it first."


class Phase(Enum):
    """What a run is doing."""

    IDLE = "idle"
    RUNNING = "running"
    STOPPING = "stopping"


@dataclass(frozen=True)
class DockState:
    """Everything that decides which controls can be used.

    Parameters
    ----------
    has_slide : bool
        Whether a slide is shown in the viewer.
    mpp_known : bool
        Whether its pixel size is known.
    phase : Phase
        Whether a run is in progress.
    model_problem : str
        Why the chosen model can't be used; empty when it can.
    class_count : int
        Number of tissue classes, including background.
    run_on : RunOn
        The part to segment.
    shape_count : int
        Number of closed shapes on the region layer.
    has_mask : bool
        Whether a mask of this slide is shown.
    has_probabilities : bool
        Whether its class probabilities were saved.
    stopped : bool
        Whether the last run of the same slide, model and classes is unfinished.
    exporting : bool
        Whether an export is being written.
    engine_owner : str
        What else uses the engine; empty when it is free.
    holds_labels : bool
        Whether labels can be written into the slide itself: it is an OME-Zarr.
    """

    has_slide: bool = False
    mpp_known: bool = False
    phase: Phase = Phase.IDLE
    model_problem: str = ""
    class_count: int = 0
    run_on: RunOn = RunOn.WHOLE
    shape_count: int = 0
    has_mask: bool = False
    has_probabilities: bool = False
    stopped: bool = False
    exporting: bool = False
    engine_owner: str = ""
    holds_labels: bool = False

    @property
    def generate_text(self) -> str:
        """The text on the big button."""
        return "Continue" if self.stopped else "Generate pseudo masks"

    def why_not(self, control: str) -> str:
        """Return why a control can't be used now, in one sentence; empty when it can.

        Parameters
        ----------
        control : {"generate", "cancel", "setup", "tissue", "overlay", "class_overlay", "export"}
            "setup" stands for every control that changes what a run does.
        """
        running = self.phase is not Phase.IDLE
        if control == "setup":
            return _WAIT_OR_CANCEL if running else ""
        if control == "generate":
            return self._why_not_generate(running)
        if control == "cancel":
            if self.phase is Phase.STOPPING:
                return "Stopping after the current tiles."
            return "" if running else "Nothing is running."
        if control == "tissue":
            if not self.has_slide:
                return "Open a slide first."
            return _WAIT_OR_CANCEL if running else ""
        if control in ("overlay", "class_overlay", "export"):
            if not self.has_mask:
                return "There is no mask yet: press Generate pseudo masks."
            if control == "class_overlay" and not self.has_probabilities:
                return "The class probabilities were not saved (see Settings)."
            if control == "export" and running:
                return "The mask is incomplete: wait or cancel the run first."
            if control == "export" and self.exporting:
                return "An export is in progress."
            return ""
        raise ValueError(f"there is no control {control!r}")

    def _why_not_generate(self, running: bool) -> str:
        if running:
            return "A run is in progress."
        if self.engine_owner:
            return f"Only one run at a time: wait for {self.engine_owner} or cancel it."
        if not self.has_slide:
            return "Open a slide first."
        if not self.mpp_known:
            return "Pixel size unknown. Enter it above in µm per pixel."
        if self.model_problem:
            return self.model_problem
        if self.class_count < 2:
            return "At least two classes are needed: add one more."
        if self.run_on is RunOn.SHAPES and self.shape_count == 0:
            return "No regions drawn: press Draw and outline part of the slide."
        return ""

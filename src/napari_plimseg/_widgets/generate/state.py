"""What the dock allows, and why not: no Qt, no napari."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from napari_plimseg._widgets.viewer.regions import RunOn


class Phase(Enum):
    """What is going on."""

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
        Whether a run is going on.
    model_problem : str
        Why the chosen model can't be used; empty when it can.
    class_count : int
        Tissue classes, background included.
    run_on : RunOn
        The part to segment.
    shape_count : int
        Closed shapes on the region layer.
    has_mask : bool
        Whether a mask of this slide is shown.
    has_probabilities : bool
        Whether its per-class probabilities were kept.
    stopped : bool
        Whether the last run of the same slide, model and classes ended before it was done.
    exporting : bool
        Whether an export is being written.
    engine_owner : str
        Who else runs the engine; empty when nobody does.
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

    @property
    def generate_text(self) -> str:
        """The text on the big button."""
        return "Continue" if self.stopped else "Generate pseudo masks"

    def why_not(self, control: str) -> str:
        """Return why a control can't be used now, as a sentence; empty when it can.

        Parameters
        ----------
        control : {"generate", "cancel", "setup", "tissue", "overlay", "class_overlay", "export"}
            "setup" stands for everything that decides a run.
        """
        running = self.phase is not Phase.IDLE
        if control == "setup":
            return "A run is going on: wait or cancel it first." if running else ""
        if control == "generate":
            return self._why_not_generate(running)
        if control == "cancel":
            if self.phase is Phase.STOPPING:
                return "Stopping after the tiles in work."
            return "" if running else "Nothing is running."
        if control == "tissue":
            if not self.has_slide:
                return "Open a slide first."
            return "A run is going on: wait or cancel it first." if running else ""
        if control in ("overlay", "class_overlay", "export"):
            if not self.has_mask:
                return "There is no mask yet: generate one first."
            if control == "class_overlay" and not self.has_probabilities:
                return "The probabilities of this mask were not kept (see Settings)."
            if control == "export" and running:
                return "The mask is still growing: wait or cancel the run first."
            if control == "export" and self.exporting:
                return "An export is being written."
            return ""
        raise ValueError(f"there is no control {control!r}")

    def _why_not_generate(self, running: bool) -> str:
        if running:
            return "A run is going on."
        if self.engine_owner:
            return f"Only one run at a time: wait for {self.engine_owner} or stop it."
        if not self.has_slide:
            return "Open a slide first."
        if not self.mpp_known:
            return "The file does not say how large a pixel is: type the pixel size above."
        if self.model_problem:
            return self.model_problem
        if self.class_count < 2:
            return "One class alone tells nothing apart: add at least one more."
        if self.run_on is RunOn.SHAPES and self.shape_count == 0:
            return "There are no shapes: press Draw and outline a part of the slide."
        return ""

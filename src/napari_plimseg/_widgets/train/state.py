"""What the training dock allows now, and why not the rest. Without Qt and napari."""

from __future__ import annotations

from dataclasses import dataclass

from napari_plimseg.training_runs import TrainingState

CONTROLS = (
    "folder", "slides", "tag", "setup", "start", "stop", "resume", "report", "use", "compare",
    "cancel_compare", "earlier",
)  # fmt: skip

_CHECKING = "The images are being checked."
_WAIT_OR_STOP = "A training is running: wait or stop it first."


@dataclass(frozen=True)
class TrainDockState:
    """Everything that decides which controls can be used.

    Parameters
    ----------
    has_folder : bool
        Whether a folder was chosen.
    checking : bool
        Whether the images are being checked, or patches are being cut.
    usable : bool
        Whether the folder can be trained on.
    mpp_known : bool
        Whether the pixel size is known from the folder or the user.
    name_problem : str
        Why the name of the model can't be used; empty when it can.
    masks : int
        Number of slides with a mask in the viewer.
    training : TrainingState or None
        Of the training that is shown; None when there is none.
    stop_asked_twice_helps : bool
        Whether stopping again ends the process at once: only if this viewer started it.
    can_resume : bool
        Whether the training that is shown can be resumed.
    has_report : bool
        Whether it has a report.
    has_model : bool
        Whether its model is in the list of models.
    has_slide : bool
        Whether a slide with a known pixel size is open.
    comparing : bool
        Whether two models are being compared.
    shown_name : str
        Name of the training that is shown.
    """

    has_folder: bool = False
    checking: bool = False
    usable: bool = False
    mpp_known: bool = False
    name_problem: str = ""
    masks: int = 0
    training: TrainingState | None = None
    stop_asked_twice_helps: bool = True
    can_resume: bool = False
    has_report: bool = False
    has_model: bool = False
    has_slide: bool = False
    comparing: bool = False
    shown_name: str = ""

    @property
    def is_training(self) -> bool:
        """Whether a training process is running."""
        return self.training is not None and self.training.is_alive

    @property
    def resume_text(self) -> str:
        """The text on the button that resumes; what is typed as a name is for a new training."""
        return f"Resume '{self.shown_name}'" if self.shown_name else "Resume"

    @property
    def stop_text(self) -> str:
        """The text on the button that stops."""
        return "Stop now" if self.training is TrainingState.STOPPING else "Stop and save"

    def why_not(self, control: str) -> str:
        """Return why a control can't be used now, in one sentence; empty when it can.

        Parameters
        ----------
        control : str
            One of `CONTROLS`; "setup" means classes, pixel size, name, backbone and effort.
        """
        if control not in CONTROLS:
            raise ValueError(f"there is no control {control!r}")
        answers = {
            "folder": self._why_not_prepare,
            "slides": self._why_not_slides,
            "tag": self._why_not_tag,
            "setup": self._why_not_prepare,
            "start": self._why_not_start,
            "stop": self._why_not_stop,
            "resume": self._why_not_resume,
            "report": lambda: "" if self.has_report else "There is no report yet.",
            "use": lambda: "" if self.has_model else "There is no trained model yet.",
            "compare": self._why_not_compare,
            "cancel_compare": lambda: "" if self.comparing else "No comparison is running.",
            "earlier": lambda: _WAIT_OR_STOP if self.is_training else "",
        }
        return answers[control]()

    def _why_not_prepare(self) -> str:
        if self.is_training:
            return _WAIT_OR_STOP
        return _CHECKING if self.checking else ""

    def _why_not_slides(self) -> str:
        if not self.masks and not (self.is_training or self.checking):
            return "No slide with a mask is open: generate a mask first."
        return self._why_not_prepare()

    def _why_not_tag(self) -> str:
        return _CHECKING if self.checking else ""

    def _why_not_start(self) -> str:
        if self.is_training:
            return "A training is running."
        if not self.has_folder:
            return "Choose a folder of images first."
        if self.checking:
            return _CHECKING
        if not self.usable:
            return "The folder has errors: see above."
        if not self.mpp_known:
            return "Pixel size unknown. Enter it in µm per pixel."
        return self.name_problem

    def _why_not_stop(self) -> str:
        if not self.is_training:
            return "No training is running."
        if self.training is TrainingState.STOPPING and not self.stop_asked_twice_helps:
            return "It is finishing the current step and saving."
        return ""

    def _why_not_resume(self) -> str:
        if self.is_training:
            return "A training is running."
        return "" if self.can_resume else "There is no training to resume."

    def _why_not_compare(self) -> str:
        if not self.has_model:
            return "There is no trained model yet."
        if not self.has_slide:
            return "Open a slide with a known pixel size first."
        if self.is_training:
            return _WAIT_OR_STOP
        return "A comparison is in progress." if self.comparing else ""

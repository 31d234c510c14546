"""Which models show CAMs, of what, and why not. Without Qt and napari."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from napari_plimseg._widgets.common import Stage
from napari_plimseg.errors import PlimsegError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

    from napari_plimseg.inference import CamFrame, CamTile
    from napari_plimseg.models import CamSource, CamTarget
    from napari_plimseg.tissue import TissueClass, TissueClasses


@dataclass(frozen=True)
class CamModel:
    """A model whose CAMs can be shown, or a training that has none.

    Parameters
    ----------
    key : str
        Identifies it among the others.
    title : str
        For people.
    place : str or Path
        Name of an image-text model, or the file of a stage 1.
    changed : float
        When its file was changed, in seconds; another file of this name is another model.
    classes : TissueClasses or None
        What a stage 1 was trained for; None for an image-text model, which reads any text.
    problem : str
        Why it has no CAMs, as a sentence; empty when it has.
    """

    key: str
    title: str
    place: str | Path
    changed: float = 0.0
    classes: TissueClasses | None = None
    problem: str = ""


_NO_STAGE_1 = "It has no CAMs: it was trained without stage 1, or by an earlier version."


def find_cam_models() -> list[CamModel]:
    """Return the image-text models on this computer, then the trainings, newest first."""
    from napari_plimseg.models import BUNDLED, Kind, list_models
    from napari_plimseg.training_runs import list_runs

    texts = (Kind.ENCODER, Kind.OWN_ENCODER)
    found = [
        CamModel(f"text:{entry.key}", entry.title, entry.name)
        for entry in list_models()
        if entry.available and (entry.name == BUNDLED or entry.kind in texts)
    ]
    return [*found, *(_training(run.name, run.files.cams_file) for run in list_runs())]


def _training(name: str, file: Path) -> CamModel:
    from napari_plimseg.models import read_header

    key, title = f"training:{name}", f"Stage 1 of {name}"
    if not file.is_file():
        return CamModel(key, title, file, problem=_NO_STAGE_1)
    try:
        header = read_header(file)
        return CamModel(key, title, file, file.stat().st_mtime, header.classes)
    except (PlimsegError, OSError) as error:
        return CamModel(key, title, file, problem=str(error))


@dataclass(frozen=True)
class CamOffer:
    """What a CAM can be of: the classes of the mask, and the word typed last.

    Parameters
    ----------
    classes : TissueClasses or None
    word : str
    """

    classes: TissueClasses | None = None
    word: str = ""

    def rows(self) -> list[tuple[str, tuple[int, int, int] | None]]:
        """Return names and colors of the classes, then the word without a color."""
        found: list[tuple[str, tuple[int, int, int] | None]] = [
            (c.name, c.color) for c in self.classes or ()
        ]
        if self.word and self.class_called(self.word) is None:
            found.append((self.word, None))
        return found

    def class_called(self, name: str) -> TissueClass | None:
        """Return the class of a name, in any case of letters; None when it is a word."""
        return next((c for c in self.classes or () if c.name.casefold() == name.casefold()), None)


@dataclass(frozen=True)
class CamState:
    """Everything that decides whether a CAM can be shown.

    Parameters
    ----------
    has_slide : bool
    mpp_known : bool
        Whether its pixel size is known.
    what : str
        The class or word.
    tissue_class : TissueClass or None
        The class of that name; None for a word.
    model : CamModel or None
        None when there is none on this computer.
    engine_owner : str
        What else uses the engine; empty when it is free.
    """

    has_slide: bool = False
    mpp_known: bool = False
    what: str = ""
    tissue_class: TissueClass | None = None
    model: CamModel | None = None
    engine_owner: str = ""

    def why_not(self) -> str:
        """Return why there is no CAM, and what to do, as sentences; empty when there is one."""
        if not self.has_slide:
            return "Open a slide first."
        if not self.mpp_known:
            return "Pixel size unknown. Enter it above in µm per pixel."
        if self.model is None:
            return "No image-text model is on this computer. See Models."
        if self.model.problem:
            return self.model.problem
        if not self.what:
            return "Choose a class or type a word."
        if self.tissue_class is not None and self.model.classes is not None:
            from napari_plimseg.models import no_cam_of

            found = no_cam_of(self.tissue_class.name, self.model.classes)
            if found is not None:
                problem, remedy = found
                return f"{problem[0].upper()}{problem[1:]}. {remedy}"
        if self.engine_owner:
            return f"Only one run at a time: wait for {self.engine_owner} or cancel it."
        return ""


class CamSources:
    """Loads the models of CAMs and keeps the last one."""

    def __init__(self) -> None:
        self._model: CamModel | None = None
        self._source: CamSource | None = None

    def of(self, model: CamModel) -> CamSource:
        """Return a loaded model; slow unless it is the last one."""
        if self._source is None or self._model != model:
            from napari_plimseg.models import TextCams, load_cam_model

            if isinstance(model.place, Path):
                self._source = load_cam_model(model.place)
            else:
                self._source = TextCams(model.place)
            self._model = model
        return self._source


def target_of(source: CamSource, what: str, tissue_class: TissueClass | None) -> CamTarget:
    """Return the target of a class or a word; a PlimsegError says why there is none."""
    if tissue_class is None:
        return source.word_target(what)
    return source.class_target(tissue_class)


def cam_steps(
    state: CamState,
    sources: CamSources,
    run: Callable[[CamSource, CamTarget], Iterable[CamFrame | CamTile]],
) -> Generator[Stage | CamFrame | CamTile, None, None]:
    """Load the model and compute a CAM; closing the generator stops it between two tiles.

    Parameters
    ----------
    state : CamState
        What is to be shown, by which model; there is nothing against it.
    sources : CamSources
    run : callable
        Computes the CAM, from source and target: `CamMaps.run` of the slide and the view.

    Raises
    ------
    PlimsegError
        When the model can't be used, another run uses the engine, or the slide can't be read.
    """
    assert state.model is not None  # noqa: S101 - `why_not` asks for one
    yield Stage("Loading model…")
    source = sources.of(state.model)
    target = target_of(source, state.what, state.tissue_class)
    yield Stage("Finding tissue…")
    yield from run(source, target)

"""The JSON output of `plimseg scan` and `plimseg train --dry-run`, as objects."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_plimseg.errors import ConfigError
from napari_plimseg.tissue import TissueClasses

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

LAYOUTS = {
    "names": "tags in the file names",
    "csv": "a table of tags",
    "folders": "one folder per class",
    "glas": "the GlaS data set",
    "wsss4luad": "the WSSS4LUAD data set",
    "luad_histoseg": "the LUAD-HistoSeg data set",
    "bcss_wsss": "the BCSS-WSSS data set",
}
"""Names of the folder layouts for people."""
_HANDLED = ("unknown mpp",)
"""Problems that the dock solves itself: it asks for the pixel size."""

_OF_MASKS = ("mask values", "not annotated")
"""Problems that a user solves by telling what values of masks mean."""


@dataclass(frozen=True)
class FolderProblem:
    """One mistake in a folder.

    Parameters
    ----------
    file : str
        Name of the file or folder.
    text : str
        The mistake and how to correct it.
    fatal : bool
        Whether training can't start.
    kind : str
        A short name of the mistake.
    """

    file: str
    text: str
    fatal: bool
    kind: str = ""


@dataclass(frozen=True)
class FolderFacts:
    """What the check of a folder of tagged images found.

    Parameters
    ----------
    usable : bool
        Whether training can start.
    problems : tuple of FolderProblem
        Fatal ones first.
    layout : str
        Where the tags come from, for people.
    images, windows, groups, with_truth : int
        Images, tagged windows in them, slides or patients, and images with an expert mask.
    mpp : float or None
        Pixel size in um where the folder states it.
    tags : mapping of str to int
        Windows per tag.
    samples : mapping of str to tuple of Path
        Some images per tag.
    classes : TissueClasses or None
        The folder's tags.
    """

    usable: bool
    problems: tuple[FolderProblem, ...] = ()
    layout: str = ""
    images: int = 0
    windows: int = 0
    groups: int = 0
    with_truth: int = 0
    mpp: float | None = None
    tags: Mapping[str, int] = field(default_factory=dict)
    samples: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)
    classes: TissueClasses | None = None

    def __post_init__(self) -> None:
        ordered = sorted(self.problems, key=lambda problem: not problem.fatal)
        object.__setattr__(self, "problems", tuple(ordered))

    @property
    def summary(self) -> str:
        """One line for people."""
        if not self.usable:
            count = sum(problem.fatal for problem in self.problems)
            return (
                "1 error must be fixed first."
                if count == 1
                else f"{count} errors must be fixed first."
            )
        of = f"{self.groups} slides or patients" if self.groups > 1 else "one slide or patient"
        if self.groups == self.images:
            of = "slides unknown"
        parts = [f"{self.images:,} images", of]
        if self.windows != self.images:
            parts.insert(1, f"{self.windows:,} tagged windows")
        parts.append(self.layout)
        return " · ".join(parts)

    @property
    def asks_about_masks(self) -> bool:
        """Whether masks have values that are no class, or count as not annotated."""
        return any(problem.kind in _OF_MASKS for problem in self.problems)

    @classmethod
    def of(cls, printed: Iterable[Mapping[str, Any]]) -> FolderFacts:
        """Build from the JSON objects of `plimseg scan --json`.

        Raises
        ------
        ConfigError
            When they do not describe a folder.
        """
        problems: list[FolderProblem] = []
        facts: Mapping[str, Any] = {}
        try:
            for one in printed:
                if one["kind"] == "problem" and one["problem"] not in _HANDLED:
                    problems.append(
                        FolderProblem(one["file"], one["text"], one["fatal"], one["problem"])
                    )
                elif one["kind"] == "folder":
                    facts = one
            if not facts.get("usable"):
                return cls(usable=False, problems=tuple(problems))
            return cls(
                usable=True,
                problems=tuple(problems),
                layout=LAYOUTS.get(facts["layout"], facts["layout"]),
                images=int(facts["images"]),
                windows=int(facts["windows"]),
                groups=int(facts["groups"]),
                with_truth=int(facts["with_truth"]),
                mpp=None if facts["mpp"] is None else float(facts["mpp"]),
                tags={str(name): int(count) for name, count in facts["tags"].items()},
                samples={
                    str(name): tuple(Path(path) for path in paths)
                    for name, paths in facts["samples"].items()
                },
                classes=TissueClasses.from_dict(facts["classes"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ConfigError(
                f"the check of the folder returned something else ({type(error).__name__})",
                remedy="Install napari-plimseg again: its two packages do not match.",
            ) from error


@dataclass(frozen=True)
class TrainingPlan:
    """The size, duration and memory of a training on this computer.

    Parameters
    ----------
    training, validation, measured : int
        Training images, validation images, and validation images with an expert mask.
    seconds : mapping of str to float
        Rough duration by effort.
    memory_mb : float
    device : str
    """

    training: int
    validation: int
    measured: int
    seconds: Mapping[str, float]
    memory_mb: float
    device: str

    @classmethod
    def of(cls, printed: Sequence[Mapping[str, Any]]) -> TrainingPlan | None:
        """Build from the JSON objects of `plimseg train --dry-run --json`; None without a plan."""
        for one in printed:
            if one.get("kind") == "plan":
                return cls(
                    int(one["training_images"]),
                    int(one["validation_images"]),
                    int(one["measured"]),
                    {str(effort): float(s) for effort, s in one["efforts"].items()},
                    float(one["memory_mb"]),
                    str(one["device"]),
                )
        return None


def following(before: TissueClasses, after: TissueClasses) -> TissueClasses:
    """Return edited classes that still match the folder's tags.

    A renamed class keeps its old name as its last prompt, because the files still use it.

    Parameters
    ----------
    before : TissueClasses
        As the folder has them.
    after : TissueClasses
        As the user edited them, in the same order.
    """
    for old, new in zip(before, after, strict=True):
        known = {text.casefold() for text in (new.name, *new.prompts)}
        if old.name.casefold() not in known:
            named = type(new)(new.name, new.color, (*new.texts, old.name))
            after = after.replaced(new.name, named)
    return after

"""One slide of a cohort: where it lies and how far it is."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_plimseg.errors import ConfigError
from napari_plimseg.slides.slide import usable_mpp

if TYPE_CHECKING:
    from collections.abc import Mapping


class ItemState(Enum):
    """What is the matter with a slide of a cohort."""

    WAITING = "waiting"
    NEEDS_MPP = "needs pixel size"
    RUNNING = "running"
    STOPPED = "stopped"
    DONE = "done"
    FAILED = "failed"


RUNNABLE = (ItemState.WAITING, ItemState.STOPPED)
"""What *Run all* takes up."""


@dataclass(frozen=True)
class CohortItem:
    """A slide of a cohort.

    Parameters
    ----------
    path : Path
        The slide, absolute.
    stem : str
        Name of its results.
    state : ItemState
    mpp : float or None
        What a person typed; None takes the file's.
    area : float
        Level-0 pixels in millions, for weighing slides against each other; 0 when unknown.
    fingerprint : str
        Identifies the content, so that a copy is noticed; empty when it can't be read.
    tiles_done, tiles_total : int
        Of the last run.
    seconds : float
        That the last run took.
    problem : str
        The sentence of a failure.
    store : str
        Name of its mask store in the results folder; empty before the first run.
    files : tuple of str
        Names of its exports in the results folder.
    """

    path: Path
    stem: str
    state: ItemState = ItemState.WAITING
    mpp: float | None = None
    area: float = 0.0
    fingerprint: str = ""
    tiles_done: int = 0
    tiles_total: int = 0
    seconds: float = 0.0
    problem: str = ""
    store: str = ""
    files: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.stem or Path(self.stem).name != self.stem:
            raise ConfigError(f"'{self.stem}' is no name for results")
        if self.mpp is not None and usable_mpp(self.mpp) is None:
            raise ConfigError(f"{self.mpp} um/px is no pixel size", path=self.path)
        for name in (self.store, *self.files):
            if Path(name).name != name:
                raise ConfigError(f"'{name}' does not lie in the results folder", path=self.path)

    @property
    def fraction(self) -> float:
        """How much is done, 0 to 1."""
        if self.state is ItemState.DONE:
            return 1.0
        return self.tiles_done / self.tiles_total if self.tiles_total else 0.0

    @property
    def state_text(self) -> str:
        """The state for people."""
        if self.state in (ItemState.RUNNING, ItemState.STOPPED) and self.tiles_done:
            return f"{self.state.value}, {100 * self.fraction:.0f} %"
        return self.state.value

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            **asdict(self),
            "path": str(self.path),
            "state": self.state.value,
            "files": list(self.files),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> CohortItem:
        """Build from plain data; raises KeyError, TypeError, ValueError or ConfigError.

        A slide that was running when the program ended is stopped.
        """
        state = ItemState(data["state"])
        mpp = data["mpp"]
        return cls(
            path=Path(str(data["path"])),
            stem=str(data["stem"]),
            state=ItemState.STOPPED if state is ItemState.RUNNING else state,
            mpp=None if mpp is None else float(mpp),
            area=float(data["area"]),
            fingerprint=str(data["fingerprint"]),
            tiles_done=int(data["tiles_done"]),
            tiles_total=int(data["tiles_total"]),
            seconds=float(data["seconds"]),
            problem=str(data["problem"]),
            store=str(data["store"]),
            files=tuple(str(name) for name in data["files"]),
        )


def distinct_stem(path: Path, taken: set[str]) -> str:
    """Return a name for a slide's results that no other slide has (letter case ignored)."""
    stem = path.name.split(".ome.")[0] if ".ome." in path.name else path.stem
    used = {name.casefold() for name in taken}
    for name in (stem, f"{stem}-{path.parent.name}-{path.suffix[1:]}"):
        if name.casefold() not in used:
            return name
    number = 2
    while f"{stem}-{number}".casefold() in used:
        number += 1
    return f"{stem}-{number}"

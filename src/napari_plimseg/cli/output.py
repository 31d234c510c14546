"""What `plimseg` prints about slides, runs and models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_plimseg.cli.console import Console
from napari_plimseg.inference.progress import ProgressBar

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari_plimseg.inference.progress import Progress
    from napari_plimseg.models.library import ModelEntry
    from napari_plimseg.results.mask_info import MaskInfo
    from napari_plimseg.results.measure import ClassArea


class Output(Console):
    """Prints slides, runs, masks and models.

    Parameters
    ----------
    as_json, quiet : bool
        As of `Console`.
    """

    def __init__(self, *, as_json: bool = False, quiet: bool = False) -> None:
        super().__init__(as_json=as_json, quiet=quiet)
        self._bar = ProgressBar(only_on_terminal=True)

    def slide(self, facts: dict[str, Any]) -> None:
        """Print what a slide is, for programs; `plimseg info` has the text for people."""
        if self.as_json:
            self._event("slide", **facts)

    def start(self, slide: str, model: str) -> None:
        """Print that a slide's run starts."""
        if self.as_json:
            self._event("start", slide=slide, model=model)
        else:
            self.say(f"{slide}: segmenting with {model}")

    def progress(self, slide: str, progress: Progress) -> None:
        """Show a run's progress: a bar on a terminal, or JSON lines."""
        if self.quiet:
            return
        if self.as_json:
            self._event(
                "progress",
                slide=slide,
                tiles_done=progress.tiles_done,
                tiles_total=progress.tiles_total,
                tiles_per_second=round(progress.tiles_per_second, 3),
                seconds_left=None
                if progress.seconds_left is None
                else round(progress.seconds_left, 1),
                unreadable_tiles=progress.unreadable_tiles,
                device=progress.device,
                message=progress.message,
            )
            return
        self._bar.show(progress)

    def end_progress(self) -> None:
        """Remove the progress bar."""
        self._bar.close()

    def result(
        self,
        info: MaskInfo,
        areas: Sequence[ClassArea],
        files: Sequence[Path],
        seconds: float,
        unreadable: int,
    ) -> None:
        """Print the areas of a finished mask and the files written."""
        self.end_progress()
        if self.as_json:
            self._event(
                "finished",
                slide=info.slide_name,
                seconds=round(seconds, 2),
                unreadable_tiles=unreadable,
                areas=[
                    {
                        "class": area.name,
                        "mask_id": area.mask_id,
                        "pixels": area.pixels,
                        "mm2": area.mm2,
                        "percent_of_tissue": area.percent_of_tissue,
                    }
                    for area in areas
                ],
                files=[str(file) for file in files],
            )
            return
        self._line(f"{info.slide_name}: {seconds:.1f} s")
        if unreadable:
            self._line(f"  {unreadable} tiles could not be read; they count as unreadable")
        for area in areas:
            size = f"{area.pixels} px" if area.mm2 is None else f"{area.mm2:.4f} mm2"
            part = (
                ""
                if area.percent_of_tissue is None
                else f"{area.percent_of_tissue:6.1f} % of tissue"
            )
            self._line(f"  {area.name:<24} {size:>14} {part}")
        self.files(files)

    def files(self, files: Sequence[Path]) -> None:
        """Print the files that were written."""
        if self.as_json:
            if files:
                self._event("files", files=[str(file) for file in files])
            return
        for file in files:
            self._line(f"  wrote {file}")

    def model(self, model: ModelEntry) -> None:
        """Print one line of the list of models."""
        if self.as_json:
            self._event(
                "model",
                name=model.name,
                title=model.title,
                description=model.description,
                classes=list(model.default_classes.names),
                mpp=model.mpp,
                licence=model.license,
                source=model.source,
                size_bytes=model.size_bytes,
                available=model.available,
                reason=model.reason,
            )
            return
        state = "" if model.available else f"  (not available: {model.reason})"
        self._line(f"{model.name:<20} {model.title}{state}")
        self._line(f"  classes  {', '.join(model.default_classes.names)}")
        self._line(f"  license  {model.license}")
        if model.description:
            self._line(f"  about    {model.description}")

    def library_entry(self, entry: ModelEntry) -> None:
        """Print one line of the library: a model or an encoder, installed or not."""
        if self.as_json:
            self._event(
                "library_entry",
                key=entry.key,
                name=entry.name if entry.available else "",
                title=entry.title,
                kind=entry.kind.value,
                task=entry.task.value,
                state=entry.state.value,
                reason=entry.reason,
                licence=entry.license,
                gated=entry.gated,
                page=entry.page,
                size_bytes=entry.size_bytes,
                scores=dict(entry.scores),
            )
            return
        self._line(f"{entry.key:<24} {entry.kind.value:<12} {entry.state.label}")
        if entry.reason:
            self._line(f"  {entry.reason}")

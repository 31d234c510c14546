"""Tagged patches cut from open slides, by their masks with the user's corrections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_plimseg.errors import ConfigError, TagError
from napari_plimseg.files import scratch_folder
from napari_plimseg.results import export_geojson
from napari_plimseg.training_runs.process import run_command

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

    from napari_plimseg.results import MaskArray, MaskInfo

PATCH = 224
DEFAULT_MPP = 0.5


@dataclass(frozen=True, eq=False)
class SlideMask:
    """A slide and its mask, to cut into patches.

    Parameters
    ----------
    path : Path
        The slide.
    mask : array of uint8, shape (h, w)
        Mask ids, corrections included.
    info : MaskInfo
        Describes the mask; its mpp is the slide's.
    mpp_is_given : bool
        Whether the user entered the slide's pixel size.
    """

    path: Path
    mask: MaskArray
    info: MaskInfo
    mpp_is_given: bool = False

    def __post_init__(self) -> None:
        if self.info.mpp is None:
            raise ConfigError(
                "its pixel size is unknown",
                path=self.path,
                remedy="Enter it in the PLIMSeg dock first.",
            )


def cut_slides(
    slides: Sequence[SlideMask], out: Path, *, mpp: float = DEFAULT_MPP, patch: int = PATCH
) -> Generator[dict[str, Any] | None, None, None]:
    """Cut slides into tagged patches in one folder.

    Parameters
    ----------
    slides : sequence of SlideMask
        With the same tissue classes.
    out : Path
        Receives the patches and their `tags.csv`.
    mpp : float
        Pixel size of the patches in um; a coarser slide's own where it is larger.
    patch : int
        Side in pixels.

    Yields
    ------
    dict or None
        As `run_command`; the last object of each slide is "cut", with the path of the table.

    Raises
    ------
    ConfigError
        When there are no slides, or their classes differ.
    TagError
        When no patch has a tag.
    """
    if not slides:
        raise ConfigError("there is no slide with a mask", remedy="Generate a mask first.")
    classes = slides[0].info.classes
    if any(slide.info.classes.names != classes.names for slide in slides):
        raise ConfigError(
            "the masks have different classes",
            remedy="Close the slides with other classes.",
        )
    finest = max(mpp, *(slide.info.mpp or 0.0 for slide in slides))
    patches = 0
    with scratch_folder() as folder:
        class_file = folder / "classes.yaml"
        classes.to_yaml(class_file)
        for number, slide in enumerate(slides):
            outlines = folder / f"{number}.geojson"
            export_geojson(outlines, slide.mask, slide.info)
            yield None
            arguments = [
                *("cut", str(slide.path), str(outlines), "--out", str(out)),
                *("--classes", str(class_file), "--patch", str(patch), "--mpp", f"{finest:g}"),
            ]
            if slide.mpp_is_given:
                arguments += ["--source-mpp", f"{slide.info.mpp:g}", "--override-mpp"]
            for found in run_command(arguments):
                if found is not None and found["kind"] == "cut":
                    patches += int(found["patches"])
                yield found
    if not patches:
        raise TagError(
            "no patch has a tag", path=out, remedy="Segment or paint more of the slide first."
        )

"""Tagged patches from the masks of open slides: the model's, with the person's corrections."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_plimseg.errors import ConfigError, TagError
from napari_plimseg.results.export.geojson import export_geojson
from napari_plimseg.training_runs.process import run_command

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from napari_plimseg.results.mask_info import MaskInfo
    from napari_plimseg.results.measure import MaskArray

PATCH = 224
DEFAULT_MPP = 0.5


@dataclass(frozen=True, eq=False)
class SlideMask:
    """A slide and its mask, to be cut into patches.

    Parameters
    ----------
    path : Path
        The slide.
    mask : array of uint8, shape (h, w)
        Mask ids, what a person painted included.
    info : MaskInfo
        What the mask is a mask of; its mpp is that of the slide.
    mpp_is_given : bool
        Whether a person typed the slide's pixel size.
    """

    path: Path
    mask: MaskArray
    info: MaskInfo
    mpp_is_given: bool = False

    def __post_init__(self) -> None:
        if self.info.mpp is None:
            raise ConfigError(
                "its pixel size is not known",
                path=self.path,
                remedy="Type it in the PLIMSeg dock first.",
            )


def cut_slides(
    slides: Sequence[SlideMask], out: Path, *, mpp: float = DEFAULT_MPP, patch: int = PATCH
) -> Generator[dict[str, Any] | None, None, None]:
    """Cut slides into tagged patches of one folder.

    Parameters
    ----------
    slides : sequence of SlideMask
        Of the same tissue classes.
    out : Path
        Takes the patches and their `tags.csv`.
    mpp : float
        Pixel size of the patches in um; a coarser slide's own where it is larger.
    patch : int
        Side in pixels.

    Yields
    ------
    dict or None
        What the command tells, as `run_command` does; at the end "cut" with the folder's table.

    Raises
    ------
    ConfigError
        When there are no slides, or they have other classes.
    TagError
        When a slide gives no patch.
    """
    if not slides:
        raise ConfigError("there is no slide with a mask", remedy="Generate a mask first.")
    classes = slides[0].info.classes
    if any(slide.info.classes.names != classes.names for slide in slides):
        raise ConfigError(
            "the masks have different classes",
            remedy="Close those that are of another set of classes.",
        )
    finest = max(mpp, *(slide.info.mpp or 0.0 for slide in slides))
    patches = 0
    with tempfile.TemporaryDirectory(prefix="plimseg-") as folder:
        class_file = Path(folder) / "classes.yaml"
        classes.to_yaml(class_file)
        for number, slide in enumerate(slides):
            outlines = Path(folder) / f"{number}.geojson"
            export_geojson(outlines, slide.mask, slide.info)
            yield None
            arguments = [
                *("cut", str(slide.path), str(outlines), "--out", str(out)),
                *("--classes", str(class_file), "--patch", str(patch), "--mpp", f"{finest:g}"),
            ]
            if slide.mpp_is_given:
                arguments += ["--source-mpp", f"{slide.info.mpp:g}"]
            for told in run_command(arguments):
                if told is not None and told["kind"] == "cut":
                    patches += int(told["patches"])
                yield told
    if not patches:
        raise TagError(
            "no patch has a tag", path=out, remedy="Segment or paint more of the slide first."
        )

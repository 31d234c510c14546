"""npe2 sample data: slides that ship with the package, and the models that know their tissue."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_plimseg._reader import LayerData

MODEL_KEY = "plimseg_model"
"""Key of a sample layer's metadata that holds the name of the model that knows its tissue."""
_FOLDER = Path(__file__).parent / "sample"


@dataclass(frozen=True)
class Sample:
    """A slide that ships with the package.

    Parameters
    ----------
    path : Path
    model : str
        Name of the shipped model that knows its tissue.
    """

    path: Path
    model: str

    def layers(self) -> list[LayerData]:
        """Return the slide as a layer; needs no network."""
        from napari_plimseg._reader import read_slides

        layers = read_slides(self.path)
        for _, facts, _ in layers:
            facts["metadata"][MODEL_KEY] = self.model
        return layers


@dataclass(frozen=True)
class KnownTile:
    """A square part of a sample with a known class.

    Parameters
    ----------
    y, x, side : int
        In pixels of the slide.
    tissue : str
        Name of its class.
    """

    y: int
    x: int
    side: int
    tissue: str


SKIN = Sample(_FOLDER / "CMU-1-Small-Region.svs", "bundled-skin")
"""H&E, 2220 x 2967 pixels at 0.499 um/px, Carnegie Mellon University through OpenSlide, CC0."""
COLORECTAL_TILES = Sample(_FOLDER / "colorectal_tiles.tif", "bundled-tissue")
"""H&E, 1120 x 1568 pixels at 0.5 um/px: five tiles of each of seven classes of CRC-VAL-HE-7K
(Kather et al.), CC BY 4.0. No shipped model was trained on them."""
SAMPLE_PATH = SKIN.path


def known_tiles() -> tuple[KnownTile, ...]:
    """Return the tiles of the colorectal sample with their classes, by row and column."""
    table = (_FOLDER / "colorectal_tiles.csv").read_text("utf-8").splitlines()
    return tuple(
        KnownTile(int(row["y"]), int(row["x"]), int(row["side"]), row["class"])
        for row in csv.DictReader(table)
    )


def cmu_1_small_region() -> list[LayerData]:
    """Return the skin sample as a layer."""
    return SKIN.layers()


def colorectal_tiles() -> list[LayerData]:
    """Return the slide of colorectal tiles as a layer."""
    return COLORECTAL_TILES.layers()

"""The description of a mask: its slide, its pixels, its classes and its model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_plimseg._version import __version__
from napari_plimseg.errors import ConfigError, SlideError, StoreError
from napari_plimseg.slides import Region
from napari_plimseg.tissue import TissueClasses

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


_LONGEST_SIDE = 2**31
_LONGEST_NOTE, _LONGEST_NAME = 1000, 40
_ENGINES = {"torch": "torch", "openvino": "OpenVINO"}


SOFTWARE = f"napari-plimseg {__version__}"
"""What wrote a file, in every file of results."""
SLIDE_KEY = "slide_fingerprint"
"""What the fingerprint of the slide is called in every file of results."""


@dataclass(frozen=True)
class Computation:
    """What computed the network of a mask.

    Parameters
    ----------
    engine : {"torch", "openvino"}
    precision : {"float32", "bfloat16"}
        Of the numbers inside the network.
    agreement : float or None
        Share of checked tissue pixels that have the same class as by torch in float32; None when
        nothing was checked.
    reason : str
        Why a faster engine was not used, as a sentence; may be empty.
    """

    engine: str = "torch"
    precision: str = "float32"
    agreement: float | None = None
    reason: str = ""

    def __str__(self) -> str:
        return f"{_ENGINES.get(self.engine, self.engine)} in {self.precision}"

    @property
    def sentence(self) -> str:
        """Engine, precision and agreement, for people."""
        if self.agreement is None:
            return str(self)
        share = f"{100 * self.agreement:.2f} % of the checked pixels"
        return f"{self}; {share} as by torch in float32"

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        data: dict[str, Any] = {"engine": self.engine, "precision": self.precision}
        if self.agreement is not None:
            data["agreement"] = self.agreement
        return data | ({"reason": self.reason} if self.reason else {})

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Computation:
        """Build from plain data; raises KeyError, TypeError or ValueError when it is not that."""
        agreement = data.get("agreement")
        return cls(
            str(data["engine"])[:_LONGEST_NAME],
            str(data["precision"])[:_LONGEST_NAME],
            None if agreement is None else float(agreement),
            str(data.get("reason", ""))[:_LONGEST_NOTE],
        )


@dataclass(frozen=True)
class MaskInfo:
    """The description of a mask: the only metadata that exports contain, so nothing private leaks.

    Mask pixel `(i, j)` covers level-0 pixels `[i * downsample, (i + 1) * downsample)` in y and
    likewise in x. Mask ids are those of `napari_plimseg.tissue`.

    Parameters
    ----------
    slide_name : str
        File name of the slide, without folders.
    slide_fingerprint : str
        Hex digest of the slide's content (`napari_plimseg.files.fingerprint`).
    slide_shape : tuple of int
        Level-0 pixels (y, x).
    bounds : Region
        The scanned part in level-0 pixels; QuPath's coordinates start at its corner.
    mpp : float or None
        Micrometers per level-0 pixel; None when unknown: then areas have no mm2.
    shape : tuple of int
        Mask pixels (y, x).
    downsample : float
        Level-0 pixels per mask pixel and side.
    classes : TissueClasses
        Names, colors and prompts in mask-id order.
    model_name, model_identity : str
        The model that made it.
    damage : str
        Which parts were damaged when it was read, as a sentence; empty when none were.
    unlike : str
        That the slide looks unlike the model's training tissue, as a sentence; empty when it
        does not, or the model can't tell.
    fill : str
        "white" where black parts that were not scanned counted as white; empty where there are
        none, or an early version took them for tissue.
    computation : Computation or None
        What computed it; None where an early version did, with torch in float32.
    stored_names : tuple of tuple of str
        Of each class, the names under which its corrections are stored, the one to write first.
        Empty for the class names themselves. Not part of files.
    """

    slide_name: str
    slide_fingerprint: str
    slide_shape: tuple[int, int]
    bounds: Region
    mpp: float | None
    shape: tuple[int, int]
    downsample: float
    classes: TissueClasses
    model_name: str = ""
    model_identity: str = ""
    damage: str = ""
    unlike: str = ""
    fill: str = ""
    computation: Computation | None = None
    stored_names: tuple[tuple[str, ...], ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "slide_shape", tuple(int(n) for n in self.slide_shape))
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))
        sides = (*self.shape, *self.slide_shape)
        if not all(1 <= side < _LONGEST_SIDE for side in sides) or not self.downsample > 0:
            raise StoreError(f"a mask of {self.shape} pixels at downsample {self.downsample}")

    @property
    def notes(self) -> dict[str, str]:
        """What people should know about the mask, by name: the texts that are not empty."""
        left_out = ", ".join(c.name for c in self.classes if c.ignored)
        texts = {"damage": self.damage, "unlike": self.unlike, "left_out": left_out}
        return {name: text for name, text in texts.items() if text}

    @property
    def mask_mpp(self) -> float | None:
        """Micrometers per mask pixel, or None when unknown."""
        return None if self.mpp is None else self.mpp * self.downsample

    @property
    def pixel_area_mm2(self) -> float | None:
        """Square millimeters of one mask pixel, or None when unknown."""
        return None if self.mask_mpp is None else (self.mask_mpp / 1000) ** 2

    @property
    def napari_scale(self) -> tuple[float, float]:
        """Scale of a napari layer of this mask: um per mask pixel, level-0 pixels when unknown."""
        size = self.downsample * (self.mpp or 1.0)
        return size, size

    @property
    def napari_translate(self) -> tuple[float, float]:
        """Translation of a napari layer of this mask.

        napari puts the *center* of pixel 0 at the origin, so a coarser layer whose corner
        coincides with the slide's corner is shifted by half the difference of the pixel sizes.
        """
        shift = (self.downsample - 1) / 2 * (self.mpp or 1.0)
        return shift, shift

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON, the same before and after it was stored."""
        bounds = self.bounds
        data = {
            "slide_name": self.slide_name,
            SLIDE_KEY: self.slide_fingerprint,
            "slide_shape": list(self.slide_shape),
            # `from_dict` reads floats: with integers, exports of a resumed run would differ
            "bounds": [float(v) for v in (bounds.y, bounds.x, bounds.height, bounds.width)],
            "mpp": None if self.mpp is None else float(self.mpp),
            "shape": list(self.shape),
            "downsample": float(self.downsample),
            "tissue": self.classes.to_dict(),
            "model_name": self.model_name,
            "model_identity": self.model_identity,
        }
        notes = {name: text for name, text in self.notes.items() if name != "left_out"}
        if self.computation is not None:
            data["computation"] = self.computation.to_dict()
        return data | notes | ({"fill": self.fill} if self.fill else {})

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], *, path: Path | None = None) -> MaskInfo:
        """Build from plain data.

        Raises
        ------
        StoreError
            When something is missing or of the wrong type.
        """
        try:
            return cls(
                slide_name=str(data["slide_name"]),
                slide_fingerprint=str(data["slide_fingerprint"]),
                slide_shape=(int(data["slide_shape"][0]), int(data["slide_shape"][1])),
                bounds=Region(*(float(v) for v in data["bounds"])),
                mpp=None if data["mpp"] is None else float(data["mpp"]),
                shape=(int(data["shape"][0]), int(data["shape"][1])),
                downsample=float(data["downsample"]),
                classes=TissueClasses.from_dict(data["tissue"], path=path),
                model_name=str(data.get("model_name", "")),
                model_identity=str(data.get("model_identity", "")),
                damage=str(data.get("damage", "")),
                unlike=str(data.get("unlike", ""))[:_LONGEST_NOTE],
                fill="white" if data.get("fill") == "white" else "",
                computation=Computation.from_dict(data["computation"])
                if "computation" in data
                else None,
            )
        except (
            *(KeyError, TypeError, ValueError, IndexError, OverflowError, AttributeError),
            *(ConfigError, SlideError),
        ) as error:
            raise StoreError(
                f"its description is incomplete ({type(error).__name__}: {error})",
                path=path,
                remedy="Run the segmentation of this slide again.",
            ) from error

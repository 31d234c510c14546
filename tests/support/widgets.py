"""A slide and a model that answer at once, for tests of the dock."""

from __future__ import annotations

import dataclasses
import hashlib
import threading
from typing import TYPE_CHECKING

import numpy as np

from napari_plimseg import models
from napari_plimseg.models.library import EntryState, Kind, ModelEntry
from napari_plimseg.slides.slide import Level, Slide
from napari_plimseg.tissue import TissueClass, TissueClasses

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import ModuleType

CLASSES = TissueClasses(
    (
        TissueClass("purple", (120, 40, 140), ("nuclei",)),
        TissueClass("pink", (240, 120, 160), ("stroma",)),
        TissueClass("background", (240, 240, 240)),
    )
)


class ArraySlide(Slide):
    """A slide of an array in memory; reading can be made to fail or to wait."""

    def __init__(self, path: Path, pixels: np.ndarray, mpp: float | None) -> None:
        path.write_bytes(hashlib.sha256(pixels.tobytes()).digest())  # for the fingerprint
        super().__init__(path, (Level(pixels.shape[:2], 1.0),), mpp=mpp, format_name="array")
        self.pixels = pixels
        self.broken = False

    def _read_level(self, level: int, y: int, x: int, height: int, width: int) -> np.ndarray:
        if self.broken:
            raise OSError("the disk is gone")
        return self.pixels[y : y + height, x : x + width]

    def _close(self) -> None:
        pass


def tissue_pixels(height: int, width: int) -> np.ndarray:
    """Purple on the left, pink on the right, glass on the lowest quarter."""
    pixels = np.full((height, width, 3), (120, 40, 140), np.uint8)
    pixels[:, width // 2 :] = (235, 110, 160)
    pixels[3 * height // 4 :] = 244
    return pixels


@dataclasses.dataclass
class ColorModel:
    """Tells the classes of `tissue_pixels` apart by colour."""

    classes: TissueClasses = CLASSES
    name: str = "color"
    mpp: float = 1.0
    mask_stride: int = 4
    alignment: int = 32
    halo: int = 32
    gate: threading.Event = dataclasses.field(default_factory=threading.Event)
    tiles_before_gate: int = 1_000_000
    seen: int = 0

    def __post_init__(self) -> None:
        self.set_classes(self.classes)

    def set_classes(self, classes: TissueClasses) -> None:
        """Answer for other classes; other words make another model."""
        self.classes = classes
        words = repr([(c.name, c.prompts) for c in self.classes])
        self.identity = hashlib.sha256(words.encode()).hexdigest()

    def to(self, device: object) -> ColorModel:
        return self

    def adapted_to(self, tissue_pixels: np.ndarray) -> ColorModel:
        return self

    def probabilities(self, images):  # type: ignore[no-untyped-def]
        """Return one-hot probabilities, softened; waits at the gate when there is one."""
        import torch

        self.seen += 1
        if self.seen > self.tiles_before_gate:
            assert self.gate.wait(30), "nobody opened the gate"
        small = images[:, ::4, ::4].float()  # (B, h, w, 3)
        red, green = small[..., 0], small[..., 1]
        index = torch.where(green > 200, len(self.classes) - 1, torch.where(red > 180, 1, 0))
        hot = torch.nn.functional.one_hot(index, len(self.classes)).permute(0, 3, 1, 2)
        return hot.float() * 0.8 + 0.2 / len(self.classes)


def only_model(model: ColorModel) -> list[tuple[ModuleType, str, Callable]]:
    """Return what to replace (module, name, function) so that one model is all there is."""

    def load_model(name: str, classes: TissueClasses | None = None) -> ColorModel:
        model.set_classes(classes or CLASSES)
        return model

    info = ModelEntry(
        key="color",
        name="color",
        title="Colour model",
        description="Tells purple from pink.",
        kind=Kind.OWN,
        state=EntryState.READY,
        license="none",
        source="tests",
        classes=CLASSES,
        mpp=1.0,
    )
    return [(models, "list_models", lambda: [info]), (models, "load_model", load_model)]

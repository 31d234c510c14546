"""A model for points and boxes that answers at once, or when it is let, for tests of the docks."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from napari_plimseg.models import library, loading
from napari_plimseg.models.library import ModelInfo
from tests.support import widgets as fakes
from tests.support.prompt_sessions import DarkModel

if TYPE_CHECKING:
    import pytest

PATIENCE = 60.0


class GatedModel(DarkModel):
    """A model whose encoder waits until it is let through."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.gate.set()

    def encode(self, images: Any) -> Any:
        assert self.gate.wait(PATIENCE), "nobody opened the gate"
        return super().encode(images)


def hint_info(name: str = "bundled", *, reason: str = "") -> ModelInfo:
    """Return what the catalogue says about a model for hints; with a reason it is not there."""
    return ModelInfo(
        name, "Finds what is dark", "", fakes.CLASSES, 1.0, "none", "tests", 0, not reason, reason
    )


def offer_hints(monkeypatch: pytest.MonkeyPatch, model: GatedModel, *infos: ModelInfo) -> None:
    """Let the catalogue offer a model, under one name or several."""
    offered = list(infos) or [hint_info()]
    monkeypatch.setattr(library, "list_hint_models", lambda: offered)
    monkeypatch.setattr(loading, "load_hints", lambda name: model)

"""A Smart select model that answers immediately or when its gate opens, for tests of docks."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from napari_plimseg import models
from napari_plimseg.models.library import EntryState, Kind, ModelEntry, Task
from tests.support import widgets as fakes
from tests.support.prompt_sessions import DarkModel

if TYPE_CHECKING:
    import pytest

PATIENCE = 60.0


class GatedModel(DarkModel):
    """A model whose encoder waits until its gate is open."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.gate.set()

    def encode(self, images: Any) -> Any:
        assert self.gate.wait(PATIENCE), "nobody opened the gate"
        return super().encode(images)


def hint_info(name: str = "bundled", *, reason: str = "") -> ModelEntry:
    """Return what the library says about a model for hints; with a reason it is not there."""
    return ModelEntry(
        name, name, "Finds what is dark", "", Kind.OWN,
        EntryState.DAMAGED if reason else EntryState.READY, reason, task=Task.PROMPTS,
        classes=fakes.CLASSES, mpp=1.0,
    )  # fmt: skip


def offer_hints(monkeypatch: pytest.MonkeyPatch, model: GatedModel, *infos: ModelEntry) -> None:
    """Let the library offer a model, under one name or several."""
    offered = list(infos) or [hint_info()]
    monkeypatch.setattr(models, "list_promptable_models", lambda: offered)
    monkeypatch.setattr(models, "load_promptable_model", lambda name: model)

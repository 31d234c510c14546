"""A hub of files in memory, and model files of one's own."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file

from napari_plimseg.errors import ModelError
from napari_plimseg.models import trial
from napari_plimseg.models.downloads import RemoteFile
from napari_plimseg.models.encoders.cards import (
    CARDS,
    folder_of,
)
from napari_plimseg.models.encoders.loading import load_encoder
from napari_plimseg.models.model_file import ModelHeader, current_versions, save_model
from napari_plimseg.tissue import TissueClass, TissueClasses

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

CLASSES = TissueClasses((TissueClass("gland", (1, 2, 3), ("gland", "crypt")),
                         TissueClass("rest", (4, 5, 6))), has_background=False)  # fmt: skip


def header(**changes: Any) -> ModelHeader:
    plain = ModelHeader(
        kind="prototypes", classes=CLASSES, encoder="bundled", encoder_identity="0" * 64, mpp=0.5,
        patch_size=224, title="Glands", license="CC0-1.0", scores={"miou": 0.5},
        versions=current_versions(),
    )  # fmt: skip
    return replace(plain, **changes)


def unit_vectors(rows: int, width: int = 256) -> torch.Tensor:
    vectors = torch.randn(rows, width, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.normalize(vectors, dim=1)


WEIGHTS = bytes(range(256)) * 4000
CONFIG = b'{"model_cfg": {}}'


@dataclass
class FakeRemote:
    """Serves files from a table; can lose the connection, lie about content or be offline."""

    files: dict[str, bytes] = field(default_factory=dict)
    break_after: int | None = None
    lie: bool = False
    offline: bool = False
    asked: list[tuple[str, int]] = field(default_factory=list)

    def find(self, repository: str, name: str) -> RemoteFile | None:
        if self.offline:
            raise ModelError("the hub can't be reached: this computer seems to be offline")
        content = self.files.get(name)
        if content is None:
            return None
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        return RemoteFile(repository, name, f"file:///{name}", len(content), digest)

    def read(self, file: RemoteFile, start: int) -> Iterator[bytes]:
        self.asked.append((file.name, start))
        content = self.files[file.name]
        if self.lie:
            content = bytes(len(content))
        for at in range(start, len(content), 1000):
            if self.break_after is not None and at >= self.break_after:
                raise ModelError("the connection was lost")
            yield content[at : at + 1000]


QUILT = "QuiltNet B-16"


def card(title: str) -> Any:
    return next(c for c in CARDS if c.title == title)


def take(steps: Generator[Any, None, Any]) -> Any:
    try:
        while True:
            next(steps)
    except StopIteration as stop:
        return stop.value


def own(path: Path, **changes: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    changes.setdefault("encoder_identity", load_encoder("bundled").identity)
    save_model(path, header(**changes), {"prototypes": unit_vectors(2)})
    return path


def try_here(name: str, kind: str, place: Path) -> Iterator[None]:
    """Try a model in this process, where that is faster than in one of its own."""
    yield
    try:
        trial.load(name, kind)
    except ModelError as error:
        raise ModelError(error.problem, path=place, remedy=error.remedy) from error


def put_files(title: str, content: bytes = b"PK") -> None:
    folder = folder_of(card(title))
    folder.mkdir(parents=True)
    for names in card(title).needed:
        (folder / names[0]).write_bytes(CONFIG if names[0].endswith(".json") else content)


def safetensors_bytes(tmp_path: Path) -> bytes:
    save_file({"w": torch.zeros(3)}, tmp_path / "w.safetensors")
    return (tmp_path / "w.safetensors").read_bytes()

"""Flip single bits of model files, and see whether any changes a result unnoticed.

    python -m tests.support.bit_flips [--count 1000] [--seed 0]

Each flip is refused with our error, or the model is the same as the sound one; anything else is
CHANGED. `GUARDS` names the functions that the campaigns switch off one at a time.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import re
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from napari_plimseg.errors import PlimsegError
from napari_plimseg.models.encoders.cards import bundled_folder
from napari_plimseg.models.encoders.small import SmallBackbone
from napari_plimseg.models.model_file import load_model_file
from napari_plimseg.models.promptable.model_file import load_hint_model, save_hint_model
from napari_plimseg.models.segmentation.seg_model import (
    save_segmentation_model,
    segmentation_header,
)
from napari_plimseg.models.segmentation.seg_net import SegNet
from tests.support.library import CLASSES, own

if TYPE_CHECKING:
    from collections.abc import Iterator

REFUSED, SAME, CHANGED = "refused", "same", "CHANGED"
_MODELS = "napari_plimseg.models"
GUARDS = {
    "checksum": (f"{_MODELS}.tensor_file", "seals_match", lambda stored, found: True),
    "checksum is needed": (f"{_MODELS}.model_file", "must_be_sealed", lambda header, table: False),
    "layout of tensors": (f"{_MODELS}.tensor_file", "check_layout", lambda entries, size: None),
    "size of the header": (f"{_MODELS}.tensor_file", "check_header_size", lambda length: None),
    "size of all tensors": (f"{_MODELS}.tensor_file", "check_total_size", lambda size, path: None),
    "typed header": (f"{_MODELS}.model_file", "check_header", lambda header: None),
    "parts of a kind": (f"{_MODELS}.model_file", "check_parts", lambda *_: None),
    "finite values": (f"{_MODELS}.model_file", "check_values", lambda *_: None),
    "names in a pickle": (f"{_MODELS}.pickled_file", "check_global", lambda module, name: None),
    "members of a zip": (f"{_MODELS}.pickled_file", "check_members", lambda members, size: None),
    "values in the file": (f"{_MODELS}.pickled_file", "check_storage", lambda *_: None),
    "answer of a trial": (f"{_MODELS}.trial", "check_answer", lambda *_: None),
    "shipped model": (f"{_MODELS}.encoders.bundled", "check_shipped", lambda identity: None),
}
"""Module, function, and what replaces it when the guard is switched off."""


def seal(path: Path) -> None:
    """Write the right checksum into a changed file, for the guards behind it."""
    content = path.read_bytes()
    found = re.search(rb'"plimseg_sha256":"([0-9a-f]{64})"', content)
    if found is not None:
        zeros = content[: found.start(1)] + b"0" * 64 + content[found.end(1) :]
        digits = hashlib.sha256(zeros).hexdigest().encode()
        path.write_bytes(content[: found.start(1)] + digits + content[found.end(1) :])


def digest_of(path: Path) -> str:
    """Return a digest of all that a model file says and of every weight that it gives."""
    header, tensors = load_model_file(path)
    digest = hashlib.sha256(header.to_json().encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


@dataclass(frozen=True)
class SoundModel:
    """A sound model file, for the flips.

    Parameters
    ----------
    name : str
    content : bytes
    digest : str
        From `digest_of`.
    """

    name: str
    content: bytes
    digest: str

    @classmethod
    def of(cls, path: Path) -> SoundModel:
        """Read a sound file."""
        return cls(path.name, path.read_bytes(), digest_of(path))

    @property
    def bits(self) -> int:
        """How many bits can be flipped."""
        return 8 * len(self.content)

    @property
    def header_bits(self) -> int:
        """How many of them are before the tensors."""
        return 8 * (8 + int.from_bytes(self.content[:8], "little"))

    def outcome(self, bit: int, folder: Path) -> str:
        """Return what happens when one bit is flipped: `REFUSED`, `SAME` or `CHANGED`."""
        changed = bytearray(self.content)
        changed[bit // 8] ^= 1 << bit % 8
        path = folder / self.name
        path.write_bytes(changed)
        try:
            found = digest_of(path)
        except PlimsegError as error:
            return REFUSED if self.name in str(error) else CHANGED
        return SAME if found == self.digest else CHANGED


def make_models(folder: Path, *, shipped: bool = True) -> list[SoundModel]:
    """Write a model of each kind; with `shipped`, also add those of the package."""
    paths = [own(folder / "prototypes.safetensors")]
    backbone = SmallBackbone((8, 8, 8), (2, 2, 2))
    head = SegNet(backbone.block_channels, backbone.strides, len(CLASSES), 16)
    header = segmentation_header(
        backbone, CLASSES, width=16, mpp=0.5, patch_size=224, backbone_inside=True
    )
    paths.append(folder / "segmentation.safetensors")
    save_segmentation_model(paths[-1], header, backbone, head)
    inside = folder / "hints.safetensors"
    save_hint_model(
        inside,
        load_hint_model(bundled_folder() / "hints.safetensors"),
        title="",
        frozen_inside=True,
    )
    paths.append(inside)
    if shipped:
        paths += [bundled_folder() / f"{name}.safetensors" for name in ("tissue", "hints")]
    return [SoundModel.of(path) for path in paths]


def flips(count: int, models: list[SoundModel], seed: int) -> Iterator[tuple[SoundModel, int]]:
    """Yield models in turn, each with a random bit; half of the bits are in the header."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    for number in range(count):
        model = models[number % len(models)]
        yield model, chance.randrange(model.header_bits if number % 2 else model.bits)


def run(count: int, seed: int) -> dict[str, int]:
    """Flip bits, print each that changes a result unnoticed, and return how many did what."""
    counts = dict.fromkeys((REFUSED, SAME, CHANGED), 0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for model, bit in flips(count, make_models(folder), seed):
            outcome = model.outcome(bit, folder)
            counts[outcome] += 1
            if outcome == CHANGED:
                sys.stdout.write(f"CHANGED: bit {bit} of {model.name}\n")
    return counts


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    counts = run(options.count, options.seed)
    outcomes = ", ".join(f"{number} {what}" for what, number in counts.items())
    sys.stdout.write(f"{options.count} flips: {outcomes}\n")
    sys.stdout.write(f"{counts[REFUSED] + counts[SAME]} passed, {counts[CHANGED]} failed\n")
    return 1 if counts[CHANGED] else 0


if __name__ == "__main__":
    raise SystemExit(main())

"""Single flipped bits in the files of a mask store, and whether they are noticed.

Used by the tests of the store and by the campaigns. An outcome is one of

refused
    The store does not open.
damage told
    It opens and says what is damaged.
same
    Everything that it holds is as before: the bit carries nothing.
CHANGED
    Something that it holds is different, and nobody was told.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_plimseg.errors import DamagedStoreError, PlimsegError
from napari_plimseg.results.mask_store import MaskStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

Outcome = Literal["refused", "damage told", "same", "CHANGED"]


@dataclass(frozen=True, eq=False)
class Contents:
    """Everything that a store gives to its users."""

    facts: dict[str, Any]
    arrays: dict[str, NDArray[np.uint8]]

    def equals(self, other: Contents) -> bool:
        """Whether both hold the same."""
        return self.facts == other.facts and all(
            np.array_equal(values, other.arrays[name]) for name, values in self.arrays.items()
        )


def read_everything(store: MaskStore) -> Contents:
    """Read all that a store holds; DamagedStoreError when a part is damaged."""
    rows, columns = (slice(0, side) for side in store.info.shape)
    names = ["classes", "confidence"]
    if store.layout.has_probabilities:
        names.append("probabilities")
    grid = [-(-s // t) for s, t in zip(store.info.shape, store.layout.tile_shape, strict=True)]
    facts = {
        "info": store.info.to_dict(),
        "layout": store.layout.to_dict(),
        "created": store.created,
        "done": store.done_fraction,
        "states": [store.state((r, c)) for r in range(grid[0]) for c in range(grid[1])],
    }
    return Contents(facts, {name: store.read(name, rows, columns) for name in names})


def outcome(path: Path, expected: Contents) -> Outcome:
    """Open a store, read everything, and compare it with what it held before."""
    try:
        store = MaskStore.open(path)
    except PlimsegError:
        return "refused"
    with store:
        damage = store.damage()
        try:
            found = read_everything(store)
        except DamagedStoreError:
            return "damage told"
    if damage:
        return "damage told"
    return "same" if found.equals(expected) else "CHANGED"


def files_of(path: Path) -> tuple[list[Path], list[Path]]:
    """Return the files of metadata of a store, and its chunks."""
    files = sorted(f for f in path.rglob("*") if f.is_file() and f.stat().st_size)
    metadata = [f for f in files if f.suffix == ".json"]
    return metadata, [f for f in files if f.suffix != ".json"]


def every_bit(files: list[Path]) -> list[tuple[Path, int]]:
    """Return each bit of each file."""
    return [(file, bit) for file in files for bit in range(8 * file.stat().st_size)]


def some_bits(files: list[Path], count: int, rng: np.random.Generator) -> list[tuple[Path, int]]:
    """Return `count` random bits, each file being as likely as any other."""
    chosen = [files[int(i)] for i in rng.integers(0, len(files), count)]
    return [(file, int(rng.integers(0, 8 * file.stat().st_size))) for file in chosen]


@contextlib.contextmanager
def flipped(file: Path, bit: int) -> Iterator[None]:
    """Flip a bit of a file during a block."""
    good = file.read_bytes()
    bad = bytearray(good)
    bad[bit // 8] ^= 1 << (bit % 8)
    file.write_bytes(bad)
    try:
        yield
    finally:
        file.write_bytes(good)

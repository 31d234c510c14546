"""Single flipped bits in model files and mask stores: none may change a result unnoticed.

A part of `make fuzz`. It runs in a child of its own, which prints one JSON object:
`python -m tests.campaigns.fuzz_flips models 1000 0`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING
from unittest.mock import patch

import numpy as np

from tests.campaigns.report import Guard, Outcomes, Report, Settings, guards_switched_off
from tests.support.paths import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager


def flip_models(count: int, seed: int, outcomes: Outcomes) -> None:
    """Flip bits of a model file of each kind."""
    from tests.support.bit_flips import CHANGED, flips, make_models

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number, (model, bit) in enumerate(flips(count, make_models(folder), seed)):
            found = model.outcome(bit, folder)
            _count(outcomes, number, seed, found == CHANGED, f"bit {bit} of {model.name}")


def flip_stores(count: int, seed: int, outcomes: Outcomes) -> None:
    """Flip bits of a mask store, half of them in its metadata."""
    from napari_plimseg.results import MaskStore
    from tests.support import store_flips
    from tests.support.masks import blobs, info_for
    from tests.support.stores import written_store

    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "a.plimseg"
        mask = blobs((96, 112))
        written_store(path, info_for(mask), mask, mask * 25).close()
        with MaskStore.open(path) as store:
            sound = store_flips.read_everything(store)
        metadata, chunks = store_flips.files_of(path)
        bits = store_flips.some_bits(metadata, count // 2, rng)
        bits += store_flips.some_bits(chunks, count - count // 2, rng)
        for number, (file, bit) in enumerate(bits):
            with store_flips.flipped(file, bit):
                found = store_flips.outcome(path, sound)
            where = f"bit {bit} of {file.relative_to(path)}"
            _count(outcomes, number, seed, found == "CHANGED", where)


def _count(outcomes: Outcomes, number: int, seed: int, changed: bool, where: str) -> None:
    how = f"flip {number} of --seed {seed}: {where}"
    outcomes.check(not changed, how, "what is read changed unnoticed")


KINDS: dict[str, Callable[[int, int, Outcomes], None]] = {
    "models": flip_models,
    "stores": flip_stores,
}


def flip(kind: str, count: int, settings: Settings, report: Report) -> None:
    """Flip bits in a child and add the row."""
    with report.row(f"flipped bits: {kind}") as row:
        done = subprocess.run(
            [sys.executable, "-m", __name__, kind, str(count), str(settings.seed)],
            cwd=ROOT, text=True, capture_output=True, check=False, env=child_environment(),
        )  # fmt: skip
        if done.returncode:
            row.fail(f"python -m tests.campaigns.fuzz_flips {kind} {count}", done.stderr[-1500:])
            return
        found = json.loads(done.stdout.splitlines()[-1])
        row.passed = found["passed"]
        row.failures += [tuple(failure) for failure in found["failures"]]


def child_environment() -> dict[str, str]:
    """Return the environment of a child that imports this checkout."""
    parts = [str(ROOT / part) for part in ("src", "training", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(parts), "OMP_NUM_THREADS": "1"}


def _model_guard(name: str) -> Callable[[], AbstractContextManager[object]]:
    def off() -> AbstractContextManager[object]:
        from tests.support.bit_flips import GUARDS as MODEL_GUARDS

        module, function, new = MODEL_GUARDS[name]
        return patch(f"{module}.{function}", new)

    return off


def _reduced(kind: str, count: int) -> Callable[[Settings, Report], None]:
    return lambda settings, report: flip(kind, count, settings, report)


class _Loose(bytes):
    """A checksum that equals every other."""

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = bytes.__hash__


def _chunks_are_not_compared() -> AbstractContextManager[object]:
    from napari_plimseg.results import store_arrays

    real = store_arrays._crc32c
    return patch.object(store_arrays, "_crc32c", lambda data: _Loose(real(data)))


GUARDS = [
    Guard("checksum of chunks", _chunks_are_not_compared, _reduced("stores", 60)),
    Guard("checksum of model files", _model_guard("checksum"), _reduced("models", 60)),
]


def main(arguments: list[str]) -> None:
    """Flip bits of a kind and print what came of it."""
    kind, count, seed = arguments
    outcomes = Outcomes()
    with guards_switched_off(GUARDS):
        KINDS[kind](int(count), int(seed), outcomes)
    print(json.dumps({"passed": outcomes.passed, "failures": outcomes.failures}))  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1:])

"""Single bits that flip on the disk: none changes a result without being noticed."""

from __future__ import annotations

import bisect
import hashlib
import itertools
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_plimseg.errors import PlimsegError
from tests.campaigns import writers
from tests.campaigns.forks import in_fork, spread
from tests.campaigns.kills import scratch
from tests.support.store_flips import read_everything

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.campaigns.report import Report, Settings

COMMAND = "python -m tests.campaigns.faults --only"
NOTICED = "noticed"
SMALL = 1500
"""Files up to so many bytes have each of their bits flipped when the whole campaign runs."""


@dataclass(frozen=True)
class Protected:
    """Files with a checksum.

    Parameters
    ----------
    name : str
    write : callable
        Writes them into a folder.
    read : callable
        Returns what the program reads, as JSON; raises our error or returns `NOTICED` when the
        program says that something is wrong.
    pattern : str
        The files whose bits flip.
    """

    name: str
    write: Callable[[Path], object]
    read: Callable[[Path], Any]
    pattern: str


def _model(folder: Path) -> Any:
    from napari_plimseg.models import load_model_file

    header, tensors = load_model_file(folder / "model.safetensors")
    return [header.to_json(), _digest(tensors)]


def _digest(tensors: Any) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode() + tensors[name].numpy().tobytes())
    return digest.hexdigest()


def _checkpoint(folder: Path) -> Any:
    from plimseg_training.loop.state import read_state

    found = read_state(folder)
    if found is None or found[1]:
        return NOTICED  # it resumes from the previous one, and says so
    state = found[0]
    return [_digest(state.tensors), repr(state.position), state.config, state.digest]


def _weights(folder: Path) -> Any:
    from plimseg_training.loop.state import read_weights_of_run

    tensors, about = read_weights_of_run(folder / "best.safetensors")
    return [_digest(tensors), about]


def _corrections(folder: Path) -> Any:
    corrections = writers._corrections(folder)
    if corrections.note():
        return NOTICED
    pixels = corrections.read(slice(0, 96), slice(0, 130))
    return hashlib.sha256(pixels.tobytes()).hexdigest()


def _cohort(folder: Path) -> Any:
    from napari_plimseg.inference import Cohort

    with Cohort.open(folder) as cohort:
        return [[repr(item) for item in cohort.items], cohort.model, list(cohort.formats)]


def _reviewed(folder: Path) -> Any:
    from napari_plimseg.results import MaskStore, ReviewLog

    with MaskStore.open(folder / "case.plimseg") as store:
        return [repr(region) for region in ReviewLog(store).regions]


def _store(folder: Path) -> Any:
    from napari_plimseg.results import MaskStore

    with MaskStore.open(folder / "case.plimseg") as store:
        found = read_everything(store)
        if store.damage():
            return NOTICED
    return [repr(found.facts), {n: _bytes(values) for n, values in found.arrays.items()}]


def _bytes(values: Any) -> str:
    return hashlib.sha256(values.tobytes()).hexdigest()


def all_protected() -> list[Protected]:
    """Return everything with a checksum."""
    states = {writer.name: writer for writer in writers.all_writers()}

    def both(name: str) -> Callable[[Path], object]:
        def write(folder: Path) -> None:
            states[name].old(folder)
            states[name].new(folder)

        return write

    return [
        Protected("mask store", both("tiles and journal of a store"), _store, "case.plimseg/**/*"),
        Protected("model file", both("model file"), _model, "model.safetensors"),
        Protected("checkpoint", both("checkpoint"), _checkpoint, "last.ckpt"),
        Protected("best weights", both("best weights"), _weights, "best.safetensors"),
        Protected(
            "journal of corrections", both("corrections, appended"), _corrections, "*/journal.bin"
        ),
        Protected("list of slides", both("list of slides"), _cohort, "cohort.json"),
        Protected(
            "list of reviewed regions",
            both("list of reviewed regions"),
            _reviewed,
            "case.plimseg/reviewed.json",
        ),
    ]


def outcome(protected: Protected, folder: Path, good: Any) -> str:
    """Return "same", "noticed", or what went wrong."""
    try:
        found = protected.read(folder)
    except PlimsegError:
        return NOTICED
    except BaseException as error:  # noqa: BLE001 - that is what is counted
        return f"{type(error).__name__}: {error}"
    if found == NOTICED:
        return NOTICED
    return "same" if found == good else "another result, unnoticed"


def flip(protected: Protected, bits: int, seed: int) -> tuple[int, int, list[str]]:
    """Flip so many single bits; return flips, those noticed, and the problems."""
    rng = random.Random(seed)  # noqa: S311

    def work(folder: Path) -> Any:
        protected.write(folder)
        good = protected.read(folder)
        if good == NOTICED:
            raise RuntimeError("it is damaged before any bit flips")
        files = (p for p in sorted(folder.glob(protected.pattern)) if p.is_file())
        paths = [p for p in files if p.stat().st_size and p.suffix != ".lock"]
        contents = [path.read_bytes() for path in paths]
        ends = list(itertools.accumulate(8 * len(content) for content in contents))
        total = ends[-1]
        chosen = range(total) if total <= bits else sorted(rng.sample(range(total), bits))
        noticed, problems = 0, []
        for place in chosen:
            number = bisect.bisect_right(ends, place)
            bit = place - (ends[number - 1] if number else 0)
            damaged = bytearray(contents[number])
            damaged[bit // 8] ^= 1 << bit % 8
            paths[number].write_bytes(damaged)
            found = outcome(protected, folder, good)
            paths[number].write_bytes(contents[number])
            noticed += found == NOTICED
            if found not in ("same", NOTICED):
                problems.append(f"{paths[number].name}, bit {bit}: {found}")
            for other in folder.rglob("*.damaged*"):
                other.unlink()  # set aside by the program
        return [len(chosen), noticed, problems[:50]]

    with scratch() as folder:
        place = folder / "place"
        place.mkdir()
        ended = in_fork(lambda: work(place), patience=900)
    if not ended.is_good:
        return 1, 0, [ended.told()]
    count, noticed, problems = ended.value
    return count, noticed, problems


def run(settings: Settings, report: Report, bits: int = 8 * SMALL) -> None:
    """Flip bits of everything with a checksum."""
    chosen = [p for p in all_protected() if settings.wants(f"flipped bits: {p.name}")]

    def one(index: int) -> list[Any]:
        begin = time.monotonic()
        found = flip(chosen[index], bits, settings.seed)
        return [*found, time.monotonic() - begin]

    for index, (count, noticed, problems, seconds) in spread(
        one, range(len(chosen)), settings.processes
    ):
        name = f"flipped bits: {chosen[index].name}"
        report.add(
            name,
            count - len(problems),
            [(f"{COMMAND} '{name}' --seed {settings.seed}", problem) for problem in problems],
            seconds=seconds,
            note=f"{noticed:,} noticed, the others change nothing",
        )

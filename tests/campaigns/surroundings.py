"""What else goes wrong around a program: power, clock, open files, memory, other programs."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import io
import os
import random
import shutil
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_plimseg.results import MaskStore
from tests.campaigns.forks import Ended, in_fork, leftovers, spread, tree
from tests.campaigns.kills import (
    export_version,
    look_at_store,
    make_recipe,
    make_slide,
    scratch,
    segment,
    segment_result,
    train_program,
    train_result,
)
from tests.campaigns.writers import Writer, all_writers, fresh

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.campaigns.report import Outcomes, Report, Settings

COMMAND = "python -m tests.campaigns.faults --only"
YEAR = 365 * 24 * 3600.0


# -- power: what is renamed must be on the disk before, and what the journal lists too


class DiskOrder:
    """Watches what a power failure would leave: content counts only after its fsync.

    Attributes
    ----------
    problems : list of str
        Renames of content that is not on the disk, journals that list such content, and renames
        that are not on the disk at the end.
    renames : int
        Number of renames seen.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = os.path.realpath(folder)
        self.problems: list[str] = []
        self.renames = 0
        self._on_disk: dict[tuple[int, int], str] = {}
        self._unsynced_folders: dict[str, str] = {}
        self._is_looking = False
        self._fsync = os.fsync

    def watch(self) -> None:
        """Watch this process until it ends."""
        os.fsync = self._synced
        sys.addaudithook(self._seen)

    def finish(self) -> list[str]:
        """Return the problems, those of unsynced folders included."""
        late = [f"the rename of {name} is not durable" for name in self._unsynced_folders.values()]
        return self.problems + late

    def _synced(self, descriptor: int) -> None:
        self._fsync(descriptor)
        number = descriptor if isinstance(descriptor, int) else descriptor.fileno()
        about = os.fstat(number)
        place = os.path.realpath(f"/proc/self/fd/{number}")
        if Path(place).is_dir():
            self._unsynced_folders.pop(place, None)
        elif Path(place).is_file():
            self._on_disk[about.st_dev, about.st_ino] = _digest(Path(place))

    def _seen(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event != "os.rename" or self._is_looking:
            return
        source, target = (Path(os.fsdecode(a)) for a in arguments[:2])
        if not str(target.absolute()).startswith(self.folder):
            return
        self._is_looking = True
        try:
            self._renamed(source, target)
        finally:
            self._is_looking = False

    def _renamed(self, source: Path, target: Path) -> None:
        if "/c/" in str(target):
            return  # a chunk: the journal waits for its fsync
        self.renames += 1
        content = [p for p in source.rglob("*") if p.is_file()] if source.is_dir() else [source]
        for path in content:
            if path.name != ".lock" and not self._is_on_disk(path):
                self.problems.append(f"{path.name} is renamed before its content is on the disk")
        if target.name == "journal.json":
            for chunk in target.parent.glob("**/c/**/*"):
                if chunk.is_file() and "partial" not in chunk.name and not self._is_on_disk(chunk):
                    self.problems.append(
                        f"the journal is written before {chunk.relative_to(target.parent)}"
                    )
        self._unsynced_folders[os.path.realpath(target.parent)] = target.name

    def _is_on_disk(self, path: Path) -> bool:
        about = path.stat()
        return self._on_disk.get((about.st_dev, about.st_ino)) == _digest(path)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def order_of(work: Callable[[], object], folder: Path) -> tuple[int, list[str]]:
    """Do work in a fork; return the renames and the problems of their order."""

    def watched() -> Any:
        order = DiskOrder(folder)
        order.watch()
        work()
        return [order.renames, order.finish()]

    ended = in_fork(watched)
    if not ended.is_good:
        return 1, [ended.told()]
    renames, problems = ended.value
    return renames, problems


REBUILT = {"settings of docks", "cache of embeddings"}
"""Files that nothing depends on."""


def power(settings: Settings, outcomes: Outcomes) -> None:
    """After a power failure, every renamed file and every listed tile has its content."""
    row = "power failure: order on disk"
    with scratch() as folder:
        works: list[tuple[str, Callable[[Path], object]]] = []
        for writer in all_writers()[:: 3 if settings.short else 1]:
            works.append((writer.name, _old_then_new(writer)))
        slide = make_slide(folder)
        works.append(("segment", lambda out: segment(slide, out)))
        if not settings.short:
            recipe = make_recipe(folder)
            works.append(("train", lambda out: train_program(recipe, out)))
        for number, (name, work) in enumerate(works):
            place = folder / f"work-{number}" / "place"
            place.mkdir(parents=True)
            renames, problems = order_of(lambda w=work, p=place: w(p), place)
            outcomes.passed += max(0, renames - len(problems))
            for problem in sorted(set(problems)):
                outcomes.fail(f"{COMMAND} '{row}'", f"{name}: {problem}")


def _old_then_new(writer: Writer) -> Callable[[Path], object]:
    def work(place: Path) -> None:
        writer.old(place)
        writer.new(place)

    return work


# -- the clock


def jump_clock(seconds: float, after: float) -> None:
    """Let the wall clock jump, some time from now; the monotonic clock goes on."""
    real, begin = time.time, time.monotonic()
    real_ns, date_time = time.time_ns, datetime.datetime

    def shift() -> float:
        return seconds if time.monotonic() - begin >= after else 0.0

    class Jumping(date_time):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return date_time.fromtimestamp(real() + shift(), tz)

    time.time = lambda: real() + shift()
    time.time_ns = lambda: real_ns() + int(shift() * 1e9)
    datetime.datetime = Jumping


def clock(settings: Settings, outcomes: Outcomes) -> None:
    """A clock that jumps by a year, and files from the future or the past, change no result."""
    row = "clock: jumps of a year"
    with scratch() as folder:
        slide = make_slide(folder)
        straight = folder / "straight"
        straight.mkdir()
        in_fork(lambda: segment(slide, straight))
        expected = in_fork(lambda: segment_result(straight)).value
        rng = random.Random(settings.seed)  # noqa: S311
        for number, years in enumerate((-1, 1, -30, 5)[: 1 if settings.short else 4]):
            out = folder / f"jump-{number}"
            out.mkdir()
            problem = _segment_through_jump(slide, out, years * YEAR, rng.uniform(0.1, 0.6))
            if not problem and in_fork(lambda out=out: segment_result(out)).value != expected:
                problem = "the result is not the same"
            outcomes.check(not problem, f"{COMMAND} '{row}'", f"segment, {years} years: {problem}")
        if not settings.short:
            recipe = make_recipe(folder)
            good = folder / "trained"
            good.mkdir()
            in_fork(lambda: train_program(recipe, good))
            wanted = in_fork(lambda: train_result(good)).value
            for years in (-1, 1):
                out = folder / f"trained-{years}"
                out.mkdir()
                ended = in_fork(
                    lambda out=out: train_program(recipe, out),
                    before=lambda years=years: jump_clock(years * YEAR, 0.3),
                )
                same = in_fork(lambda out=out: train_result(out)).value == wanted
                outcomes.check(
                    ended.is_good and same,
                    f"{COMMAND} '{row}'",
                    f"train, {years} years: {ended.told()}, same: {same}",
                )
        for writer in all_writers()[:: 6 if settings.short else 1]:
            for years in (-2, 2):
                place = folder / f"writer-{years}" / "place"
                shutil.rmtree(place.parent, ignore_errors=True)
                place.mkdir(parents=True)
                problem = _write_through_jump(writer, place, years * YEAR)
                outcomes.check(
                    not problem, f"{COMMAND} '{row}'", f"{writer.name}, {years} years: {problem}"
                )


def _set_times(folder: Path, when: float) -> None:
    for path in [folder, *folder.rglob("*")]:
        os.utime(path, (when, when))


def _segment_through_jump(slide: Path, out: Path, seconds: float, after: float) -> str:
    """Kill a run in which the clock jumps, move its files in time, and resume."""
    ended = in_fork(
        lambda: segment(slide, out),
        before=lambda: jump_clock(seconds, 0.1),
        kill_after=after,
    )
    if ended.error:
        return ended.told()
    _set_times(out, time.time() - seconds)
    ended = in_fork(lambda: segment(slide, out), before=lambda: jump_clock(-seconds, 0.05))
    if not ended.is_good:
        return ended.told()
    return in_fork(lambda: look_at_store(out / "slide.plimseg")).value or ""


def _write_through_jump(writer: Writer, place: Path, seconds: float) -> str:
    ended = in_fork(lambda: writer.old(place) and None)
    if not ended.is_good:
        return ended.told()
    _set_times(place, time.time() + seconds)
    ended = in_fork(lambda: writer.new(place) and None, before=lambda: jump_clock(-seconds, 0.0))
    return "" if ended.is_good else ended.told()


# -- open files and memory


def works_or_says(ended: Ended, read: Callable[[], Any], allowed: list[Any]) -> str:
    """Return what is wrong: it must work, or end with our error and leave old or new."""
    if ended.signal:
        return ended.told()
    if ended.error and not ended.is_ours:
        return f"not our error, or without a remedy: {ended.told()}"
    looked = in_fork(read)
    if not looked.is_good:
        return f"afterwards it can't be read: {looked.told()}"
    if looked.value not in (allowed[-1:] if not ended.error else allowed):
        return f"what is left is neither old nor new ({ended.told()})"
    return ""


def limit_open_files(more: int) -> Callable[[], None]:
    """Return what permits so many open files more than there are."""
    import resource

    def prepare() -> None:
        highest = max(int(path.name) for path in Path("/proc/self/fd").iterdir())
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + more, highest + more))

    return prepare


def limit_memory(more: int) -> Callable[[], None]:
    """Return what permits so many bytes of memory more than there are."""
    import resource

    def prepare() -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + more
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    return prepare


def _exports(folder: Path) -> tuple[Path, list[Any]]:
    """Return a folder with old exports, and both versions of all of them."""
    versions = []
    for version in (0, 1):
        place = folder / f"version-{version}"
        place.mkdir()
        in_fork(lambda v=version, p=place: export_version(p, v))
        versions.append(tree(place))
    return folder / "version-0", versions


OF_THE_TRAINER = {"checkpoint", "best weights"}


def _limited_writers(
    row: str, outcomes: Outcomes, limits: list[tuple[str, Callable[[], None]]], short: bool
) -> None:
    """Run every writer under each limit."""
    chosen = [w for w in all_writers() if w.raises and not w.appends]
    for writer in chosen[:: 8 if short else 1]:
        with scratch() as folder:
            old, place = folder / "old", folder / "place"
            old.mkdir()
            in_fork(lambda w=writer: w.old(old) and None)
            in_fork(lambda w=writer: w.new(fresh(place, old)) and None)
            values = [in_fork(lambda p=p, w=writer: w.read(p)).value for p in (old, place)]
            for name, limit in limits:
                fresh(place, old)
                ended = in_fork(lambda w=writer: w.new(place) and None, before=limit)
                allowed = values
                found = in_fork(lambda w=writer: w.read(place))
                if ended.signal == signal.SIGABRT and writer.name in OF_THE_TRAINER:
                    # safetensors' allocator ends the process; the trainer is one of its own, and
                    # its next start resumes
                    ended = Ended(error="death", is_ours=True)
                problem = works_or_says(ended, lambda: found.value, allowed)
                if problem.startswith("what is left") and isinstance(found.value, dict):
                    between = all(
                        digest in (values[0].get(n), values[1].get(n))
                        for n, digest in found.value.items()
                    )
                    problem = "" if between and ended.error else problem
                outcomes.check(
                    not problem, f"{COMMAND} '{row}'", f"{writer.name}, {name}: {problem}"
                )


def _limited_segment(
    row: str, outcomes: Outcomes, limits: list[tuple[str, Callable[[], None]]]
) -> None:
    """Segment under each limit, then finish without it: the result is that of a free run."""
    with scratch() as folder:
        slide = make_slide(folder)
        straight = folder / "straight"
        straight.mkdir()
        in_fork(lambda: segment(slide, straight))
        expected = in_fork(lambda: segment_result(straight)).value
        works = 0
        for number, (name, limit) in enumerate(limits):
            out = folder / f"limited-{number}"
            out.mkdir()
            ended = in_fork(lambda out=out: segment(slide, out), before=limit)
            problem = ""
            if ended.signal:
                problem = ended.told()
            elif ended.error and not ended.is_ours:
                problem = f"not our error, or without a remedy: {ended.told()}"
            works += ended.is_good
            if not problem:
                again = in_fork(lambda out=out: segment(slide, out))
                result = in_fork(lambda out=out: segment_result(out)).value
                if not again.is_good or result != expected:
                    problem = f"then, without the limit: {again.told()}, another result"
            outcomes.check(not problem, f"{COMMAND} '{row}'", f"segment, {name}: {problem}")
            shutil.rmtree(out, ignore_errors=True)
        outcomes.note = f"segment works under {works} of {len(limits)} limits"


def _limited_train(
    row: str, outcomes: Outcomes, limits: list[tuple[str, Callable[[], None]]]
) -> None:
    """Train under each limit, then finish without it: the model is that of a free run."""
    with scratch() as folder:
        recipe = make_recipe(folder)
        straight = folder / "straight"
        straight.mkdir()
        in_fork(lambda: train_program(recipe, straight))
        expected = in_fork(lambda: train_result(straight)).value
        for number, (name, limit) in enumerate(limits):
            out = folder / f"limited-{number}"
            out.mkdir()
            ended = in_fork(lambda out=out: _train_quietly(recipe, out), before=limit)
            problem = ""
            if ended.signal or ended.error:
                problem = ended.told()
            elif "unexpected error" in ended.value[1] or ended.value[0] not in range(7):
                problem = f"exit code {ended.value[0]}: {ended.value[1]}"
            if not problem:
                again = in_fork(lambda out=out: train_program(recipe, out))
                result = in_fork(lambda out=out: train_result(out)).value
                if not again.is_good or result != expected:
                    problem = f"then, without the limit: {again.told()}, another result"
            outcomes.check(not problem, f"{COMMAND} '{row}'", f"train, {name}: {problem}")
            shutil.rmtree(out, ignore_errors=True)


def _train_quietly(recipe: Path, out: Path) -> list[Any]:
    """Train as the command line does; return its exit code and what it prints as errors."""
    from plimseg_training.__main__ import main

    os.environ["PLIMSEG_DATA_DIR"] = str(out / "user")
    printed = io.StringIO()
    with contextlib.redirect_stderr(printed):
        code = main(["train", str(recipe), "--out", str(out / "run"), "--resume"])
    return [code, printed.getvalue()[-2000:]]


def open_files(settings: Settings, outcomes: Outcomes) -> None:
    """With too few files, each writer works or says so; nothing is half written."""
    row = "open files: a low limit"
    numbers = (1, 6) if settings.short else (1, 2, 3, 4, 5, 6, 8, 12, 20)
    limits = [(f"{n} more", limit_open_files(n)) for n in numbers]
    _limited_writers(row, outcomes, limits, settings.short)
    _limited_segment(row, outcomes, limits)
    if not settings.short:
        _limited_train(row, outcomes, limits[1::2])


def memory(settings: Settings, outcomes: Outcomes) -> None:
    """With too little memory, each writer works or says so, and what is finished stays."""
    row = "memory: a low limit"
    sizes = (2, 16) if settings.short else (0, 1, 2, 4, 6, 8, 12, 16, 24, 32, 48, 64, 128)
    limits = [(f"{n} MB more", limit_memory(n << 20)) for n in sizes]
    _limited_writers(row, outcomes, limits[::2], settings.short)
    _limited_segment(row, outcomes, limits)
    if not settings.short:
        _limited_train(row, outcomes, limits[1::2])


# -- other programs


def two_writers(settings: Settings, outcomes: Outcomes) -> None:
    """Of two programs that write the same, one is refused or waits; nothing is mixed."""
    row = "two writers at once"

    def check(good: bool, problem: str) -> None:
        outcomes.check(good, f"{COMMAND} '{row}'", problem)

    rounds = 1 if settings.short else 10
    with scratch() as folder:
        slide = make_slide(folder)
        straight = folder / "straight"
        straight.mkdir()
        in_fork(lambda: segment(slide, straight))
        expected = in_fork(lambda: segment_result(straight)).value
        for number in range(rounds):
            out = folder / f"both-{number}"
            out.mkdir()
            ended = _both(lambda out=out: segment(slide, out))
            done = sum(each.is_good for each in ended)
            bad = [each.told() for each in ended if not each.is_good and not each.is_ours]
            check(done >= 1 and not bad, f"segment: {done} done, {bad}")
            result = in_fork(lambda out=out: segment_result(out)).value
            check(result == expected, "segment: the result of two programs is another one")
        names = ["corrections, appended", "list of slides", "checkpoint", "export png"]
        names += ["model file", "list of classes", "history of a training"]
        for writer in [w for w in all_writers() if w.name in names[:: 3 if settings.short else 1]]:
            place = folder / "writers" / "place"
            for _ in range(rounds):
                shutil.rmtree(place.parent, ignore_errors=True)
                place.mkdir(parents=True)
                in_fork(lambda w=writer: w.old(place) and None)
                single = folder / "writers" / "single"
                fresh(single, place)
                in_fork(lambda w=writer: w.new(single) and None)
                wanted = in_fork(lambda w=writer: w.read(single)).value
                ended = _both(lambda w=writer: w.new(place) and None)
                bad = [each.told() for each in ended if not each.is_good and not each.is_ours]
                found = in_fork(lambda w=writer: w.read(place))
                good = found.is_good and found.value == wanted
                check(good and not bad, f"{writer.name}: {found.told()}, {bad}")
                left = leftovers(place)
                check(not left, f"{writer.name}: {left} is left")
    _locks(check)


def _both(work: Callable[[], object]) -> list[Ended]:
    """Do work in two processes at once."""
    return [Ended(**found) for _, found in spread(lambda _: _as_dict(in_fork(work)), [0, 1], 2)]


def _as_dict(ended: Ended) -> dict[str, Any]:
    return {name: getattr(ended, name) for name in Ended.__dataclass_fields__}


def _locks(check: Callable[[bool, str], None]) -> None:
    """While one program holds a thing open for writing, another one gets our error."""
    from napari_plimseg.inference import Cohort
    from napari_plimseg.training_runs import RunFolder
    from plimseg_training.run_folder import locked

    states = {writer.name: writer for writer in all_writers()}
    with scratch() as folder:

        def hold_store() -> object:
            return MaskStore.open(folder / "case.plimseg", writable=True)

        def hold_cohort() -> object:
            return Cohort.open(folder / "cohort")

        def hold_run() -> object:
            manager = locked(RunFolder(folder / "run"))
            manager.__enter__()
            return manager

        def hold_corrections() -> object:
            from tests.campaigns import writers

            corrections = writers._corrections(folder)
            corrections.write(0, 0, np.full((3, 3), 2, np.uint8))
            corrections.flush()
            return corrections

        in_fork(lambda: states["tiles and journal of a store"].old(folder) and None)
        holders: dict[str, Callable[[], object]] = {
            "store": hold_store,
            "list of slides": hold_cohort,
            "training run": hold_run,
            "corrections": hold_corrections,
        }
        for name, hold in holders.items():
            reading, writing = os.pipe()
            child = os.fork()
            if not child:
                held = None
                try:
                    held = hold()
                finally:
                    os.write(writing, b"x" if held is not None else b"-")
                    time.sleep(60)
                    os._exit(0)
            os.close(writing)
            said = os.read(reading, 1)
            ended = in_fork(lambda hold=hold: hold() and None)
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            os.close(reading)
            check(
                said == b"x" and bool(ended.error) and ended.is_ours,
                f"{name}: the second program was told: {ended.told()}",
            )
            ended = in_fork(lambda hold=hold: hold() and None)
            check(ended.is_good, f"{name}: after the first one died: {ended.told()}")


def as_nobody() -> None:
    """Give up the rights of the administrator, who may write everywhere."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)


def read_only(settings: Settings, outcomes: Outcomes) -> None:
    """In a folder that may not be written, each writer says so and the old state stays."""
    row = "folder that may not be written"
    for writer in all_writers()[:: 4 if settings.short else 1]:
        with scratch() as folder:
            place = folder / "place"
            place.mkdir()
            in_fork(lambda w=writer: w.old(place) and None)
            in_fork(lambda w=writer: w.new(fresh(folder / "sources", place)) and None)
            before = tree(place)
            for path in [folder, *folder.rglob("*")]:
                path.chmod(0o555 if path.is_dir() else 0o444)
            ended = in_fork(lambda w=writer: w.new(place) and None, before=as_nobody)
            problem = ""
            if ended.signal or (ended.error and not ended.is_ours):
                problem = ended.told()
            elif writer.raises and not ended.error:
                problem = "nothing was said"
            elif tree(place) != before:
                problem = "the old state changed"
            for path in [folder, *folder.rglob("*")]:
                path.chmod(0o755 if path.is_dir() else 0o644)
            outcomes.check(not problem, f"{COMMAND} '{row}'", f"{writer.name}: {problem}")


def vanished(settings: Settings, outcomes: Outcomes) -> None:
    """Slides and results on a network drive that goes away: our error, and a later run resumes."""
    row = "network file that vanishes"
    with scratch() as folder:
        slide = make_slide(folder)
        straight = folder / "straight"
        straight.mkdir()
        seconds = in_fork(lambda: segment(slide, straight)).seconds
        expected = in_fork(lambda: segment_result(straight)).value
        rng = random.Random(settings.seed)  # noqa: S311
        for number in range(2 if settings.short else 24):
            kind = ("slide cut", "slide unreadable", "results removed")[number % 3]
            moment = rng.uniform(0.0, seconds)
            case = folder / f"case-{number}"
            case.mkdir()
            copy = Path(shutil.copy(slide, case / "slide.svs"))
            out = case / "out"
            out.mkdir()
            ended = in_fork(
                lambda kind=kind, moment=moment, copy=copy, out=out: segment(copy, out),
                before=lambda kind=kind, moment=moment, copy=copy, out=out: _vanish(
                    kind, moment, copy, out
                ),
            )
            problem = ""
            if ended.signal or (ended.error and not ended.is_ours):
                problem = ended.told()
            shutil.copy(slide, copy)
            out.mkdir(exist_ok=True)
            if not problem:
                again = in_fork(lambda copy=copy, out=out: segment(copy, out))
                if kind == "results removed" and again.is_ours:
                    # half of a store is refused, and the message says to delete it
                    shutil.rmtree(out / "slide.plimseg")
                    again = in_fork(lambda copy=copy, out=out: segment(copy, out))
                result = in_fork(lambda out=out: segment_result(out)).value
                if not again.is_good or result != expected:
                    problem = f"then, with the file back: {again.told()}, another result"
            outcomes.check(
                not problem,
                f"{COMMAND} '{row}' --seed {settings.seed}",
                f"{kind} after {moment:.2f} s: {problem}",
            )
            shutil.rmtree(case, ignore_errors=True)


def _vanish(kind: str, after: float, slide: Path, out: Path) -> None:
    """Let a file go away some time from now, in a thread of this process."""

    def act() -> None:
        if kind == "slide cut":
            os.truncate(slide, 2000)
        elif kind == "results removed":
            shutil.rmtree(out, ignore_errors=True)
        else:
            slide.unlink(missing_ok=True)
            _close_descriptors_of(slide)

    timer = threading.Timer(after, act)
    timer.daemon = True
    timer.start()


def _close_descriptors_of(path: Path) -> None:
    """Make reads from an open file fail as those of a network drive that is gone."""
    for open_file in list(Path("/proc/self/fd").iterdir()):
        try:
            if str(open_file.readlink()).startswith(str(path)):
                nowhere = os.open("/", os.O_RDONLY)
                os.dup2(nowhere, int(open_file.name))
                os.close(nowhere)
        except OSError:
            continue


SURROUNDINGS: dict[str, Callable[[Settings, Outcomes], None]] = {
    "power failure: order on disk": power,
    "clock: jumps of a year": clock,
    "open files: a low limit": open_files,
    "memory: a low limit": memory,
    "two writers at once": two_writers,
    "folder that may not be written": read_only,
    "network file that vanishes": vanished,
}


def run(settings: Settings, report: Report) -> None:
    """Try everything that goes wrong around the program."""
    for name, row in SURROUNDINGS.items():
        if settings.wants(name):
            with report.row(name) as outcomes:
                row(settings, outcomes)

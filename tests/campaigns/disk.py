"""Full disks: every writer, cut at byte n, at page n, at file n and at change n."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.campaigns.forks import count_changes, in_fork, leftovers, on_change, spread
from tests.campaigns.kills import scratch
from tests.campaigns.writers import Writer, all_writers, fresh

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.campaigns.report import Report, Settings

PAGE = 4096
_CLONE_NEWNS, _CLONE_NEWUSER = 0x00020000, 0x10000000
_DISK_BYTES = 32 << 20
COMMAND = "python -m tests.campaigns.faults --only"


def plenty_of_room() -> None:
    """Let the program believe that there is room: the disk fills up after it looked."""
    import shutil

    usage = shutil.disk_usage(Path.cwd())
    shutil.disk_usage = lambda path: usage._replace(free=1 << 44)


def limit_files(size: int) -> Callable[[], None]:
    """Return what limits the size of every file, so that byte `size` can't be written."""
    import resource

    def prepare() -> None:
        plenty_of_room()
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    return prepare


def fail_at_change(folder: Path, number: int, code: int) -> Callable[[], None]:
    """Return what makes one change of a file fail; what is removed or cut off never fails."""

    def prepare() -> None:
        plenty_of_room()

        def fail(now: int) -> None:
            if now == number:
                raise OSError(code, os.strerror(code))

        on_change(folder, fail)

    return prepare


def fail_at_sync(number: int, code: int) -> Callable[[], None]:
    """Return what makes one fsync fail, as a delayed write does."""

    def prepare() -> None:
        plenty_of_room()
        sync, calls = os.fsync, 0

        def fsync(descriptor: Any) -> None:
            nonlocal calls
            calls += 1
            if calls - 1 == number:
                raise OSError(code, os.strerror(code))
            sync(descriptor)

        os.fsync = fsync

    return prepare


def count_syncs(work: Callable[[], object]) -> int:
    """Return how often some work calls fsync."""

    def counted() -> int:
        sync, calls = os.fsync, 0

        def fsync(descriptor: Any) -> None:
            nonlocal calls
            calls += 1
            sync(descriptor)

        os.fsync = fsync
        work()
        return calls

    return int(in_fork(counted).value or 0)


# -- a disk of a given size


def own_disk(folder: Path) -> bool:
    """Mount a small disk on a folder, for this process and its forks; False where forbidden."""
    libc = ctypes.CDLL(None, use_errno=True)
    user, group = os.getuid(), os.getgid()
    flags = _CLONE_NEWNS if user == 0 else _CLONE_NEWNS | _CLONE_NEWUSER
    if libc.unshare(flags) != 0:
        return False
    with suppress(OSError):
        if user != 0:
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"0 {user} 1")
            Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    # nothing of what follows is seen by others
    libc.mount(b"none", b"/", None, (1 << 18) | (1 << 14), None)  # private, recursively
    options = f"size={_DISK_BYTES}".encode()
    return bool(libc.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", 0, options) == 0)


def fill_disk(folder: Path, pages: int) -> Callable[[], None]:
    """Return what fills the disk of a folder so that so many pages are free."""

    def prepare() -> None:
        about = os.statvfs(folder)
        size = about.f_bavail * about.f_frsize - pages * PAGE
        descriptor = os.open(folder / "ballast", os.O_WRONLY | os.O_CREAT)
        os.posix_fallocate(descriptor, 0, size)
        os.close(descriptor)
        plenty_of_room()

    return prepare


def used_pages(folder: Path) -> int:
    about = os.statvfs(folder)
    return (about.f_blocks - about.f_bfree) * about.f_frsize // PAGE


# -- one writer


class Attack:
    """A writer with its old and new state on disk, attacked again and again.

    Parameters
    ----------
    writer : Writer
    folder : Path
        An empty folder.
    """

    def __init__(self, writer: Writer, folder: Path) -> None:
        self.writer, self.folder = writer, folder
        self.old, self.place = folder / "old", folder / "place"
        self.old.mkdir()
        self._must(lambda: self.writer.old(self.old))
        # sources that writers copy from are made before the disk is full
        self._must(lambda: self.writer.new(fresh(self.place, self.old)))
        self.old_value, self.new_value = self._read(self.old), self._read(self.place)
        if self.old_value == self.new_value:
            raise RuntimeError(f"{writer.name}: old and new are the same")

    def _must(self, work: Callable[[], object]) -> None:
        ended = in_fork(lambda: work() and None, before=plenty_of_room)
        if not ended.is_good:
            raise RuntimeError(f"{self.writer.name} fails without a fault: {ended.told()}")

    def _read(self, folder: Path) -> Any:
        ended = in_fork(lambda: self.writer.read(folder))
        if not ended.is_good:
            raise RuntimeError(f"{self.writer.name} can't be read: {ended.told()}")
        return ended.value

    def problem(self, before: Callable[[], None]) -> str:
        """Write under a fault, look, and write again without it; return what is wrong."""
        fresh(self.place, self.old)
        ended = in_fork(lambda: self.writer.new(self.place) and None, before=before)
        for path in self.folder.glob("ballast"):
            path.unlink()
        if ended.signal:
            return ended.told()
        if ended.error and not (ended.is_ours and self.writer.raises):
            return f"not our error, or without a remedy: {ended.told()}"
        read = in_fork(lambda: self.writer.read(self.place))
        if not read.is_good:
            return f"afterwards it can't be read: {read.told()}"
        allowed = (self.old_value, self.new_value)
        if self.writer.raises and not ended.error:
            allowed = (self.new_value,)
        if not self._is_between(read.value, allowed):
            return f"what is left is neither old nor new ({ended.told()[:300]})"
        left = leftovers(self.place)
        if left:
            return f"temporary files are left: {', '.join(left)}"
        ended = in_fork(lambda: self.writer.new(self.place) and None, before=plenty_of_room)
        if not ended.is_good:
            return f"it does not work again with room: {ended.told()}"
        if self._read(self.place) != self.new_value:
            return "the second attempt, with room, gives something else"
        return ""

    def _is_between(self, found: Any, allowed: tuple[Any, ...]) -> bool:
        if found in allowed:
            return True
        if len(allowed) == 1:
            return False
        if self.writer.appends:
            return bool(found == self.new_value[: len(found)] and len(found) >= len(self.old_value))
        if not isinstance(found, dict):
            return False
        # several files: each is the old one or the new one
        return all(name in found for name in self.old_value) and all(
            digest in (self.old_value.get(name), self.new_value.get(name))
            for name, digest in found.items()
        )


def sampled(last: int, count: int) -> list[int]:
    """Return at most so many numbers from 0 to `last`, the ends among them."""
    if last < count:
        return list(range(last + 1))
    return sorted({round(i * last / (count - 1)) for i in range(count)})


def attack(writer: Writer, points: int) -> tuple[int, list[str], str]:
    """Attack a writer in all ways; return the attacks, the problems, and a note."""
    problems: list[str] = []
    count = 0

    def note(kind: str, number: int, problem: str) -> None:
        nonlocal count
        count += 1
        if problem:
            problems.append(f"{kind} {number}: {problem}")

    with scratch() as folder:
        attacked = Attack(writer, folder)

        def write() -> None:
            writer.new(fresh(attacked.place, attacked.old))

        largest = max(
            (p.stat().st_size for p in attacked.place.rglob("*") if p.is_file()), default=0
        )
        for size in sampled(largest, points):
            note("byte", size, attacked.problem(limit_files(size)))
        fresh(attacked.place, attacked.old)
        changes = count_changes(lambda: writer.new(attacked.place) and None, attacked.place)
        for number in sampled(changes - 1, points):
            code = (errno.ENOSPC, errno.EDQUOT)[number % 2]
            note("change", number, attacked.problem(fail_at_change(attacked.place, number, code)))
        for number in sampled(count_syncs(write) - 1, points):
            code = (errno.ENOSPC, errno.EIO)[number % 2]
            note("fsync", number, attacked.problem(fail_at_sync(number, code)))

    def on_a_full_disk() -> list[list[Any]]:
        with scratch() as small:
            if not own_disk(small):
                return []
            here = Attack(writer, small)
            at_rest = used_pages(small)
            fresh(here.place, here.old)
            filled = used_pages(small)
            # temporary files take room too
            most = 2 * max(4, at_rest - filled) + 8
            return [
                [pages, here.problem(fill_disk(small, pages))] for pages in sampled(most, points)
            ]

    ended = in_fork(on_a_full_disk, patience=600)
    if not ended.is_good:
        raise RuntimeError(ended.told())
    for pages, problem in ended.value:
        note("page", pages, problem)
    return count, problems, "" if ended.value else "no disk of its own here"


def run(settings: Settings, report: Report, points: int = 16) -> None:
    """Attack every writer; in the short form, unless rows are named, a quarter of them."""
    chosen = [w for w in all_writers() if settings.wants(f"full disk: {w.name}")]
    if settings.short and not settings.only:
        chosen = chosen[::4]

    def one(index: int) -> list[Any]:
        import time

        begin = time.monotonic()
        try:
            found: tuple[int, list[str], str] = attack(chosen[index], points)
        except Exception as error:  # noqa: BLE001 - counted as a failure
            found = 1, [f"{type(error).__name__}: {error}"], ""
        return [*found, time.monotonic() - begin]

    for index, (count, problems, note, seconds) in spread(
        one, range(len(chosen)), settings.processes
    ):
        name = f"full disk: {chosen[index].name}"
        report.add(
            name,
            count - len(problems),
            [(f"{COMMAND} '{name}'", problem) for problem in problems],
            seconds=seconds,
            note=note,
        )

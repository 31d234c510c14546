"""Everything that can go wrong around the program's files: `make faults`.

Kills at random moments, full disks at byte n, flipped bits, power failures, clocks, limits of open
files and memory, other programs, and files that vanish. `--self-test` takes out one guard at a
time, in the forks that do the work.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from typing import TYPE_CHECKING, Any
from unittest import mock

from tests.campaigns import disk, flips, forks, kills, surroundings
from tests.campaigns.report import Guard, Settings, exit_with, guards_switched_off, main

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from tests.campaigns.report import Report

KILLS, SHORT_KILLS = 100, 2


def campaign(settings: Settings, report: Report) -> None:
    """Run all parts; `settings.count` is the number of kills of each kind of work."""
    warm()
    kills.run(settings, report)
    disk.run(settings, report, points=3 if settings.short else 12)
    flips.run(settings, report, bits=200 if settings.short else 8 * flips.SMALL)
    surroundings.run(settings, report)


@functools.cache
def warm() -> None:
    """Import what the forks use, and take out the guard that the environment names in them."""
    kills.warm()
    forks.at_start(lambda: guards_switched_off(GUARDS))


# -- guards, one after another taken out in the forks


def _everywhere(old: Any, new: Any) -> AbstractContextManager[object]:
    """Replace a function under every name that a module of ours has for it."""
    stack = contextlib.ExitStack()
    for name, module in list(sys.modules.items()):
        if name.startswith(("napari_plimseg", "plimseg_training")) and module is not None:
            for key, value in list(vars(module).items()):
                if value is old:
                    stack.enter_context(mock.patch.object(module, key, new))
    return stack


def _no_sync() -> AbstractContextManager[object]:
    import os
    import types

    from napari_plimseg import files

    # the watcher of the disk's order replaces `os.fsync` itself
    lazy = types.SimpleNamespace(**{**vars(os), "fsync": lambda descriptor: None})
    return mock.patch.object(files, "os", lazy)


def _no_chunk_sync() -> AbstractContextManager[object]:
    from napari_plimseg import files

    return _everywhere(files.sync_files, lambda paths: None)


def _no_folder_sync() -> AbstractContextManager[object]:
    from napari_plimseg import files

    return _everywhere(files.sync_folder, lambda folder: None)


@contextlib.contextmanager
def _write_in_place(path: Any) -> Iterator[Any]:
    from pathlib import Path

    Path(path).parent.mkdir(parents=True, exist_ok=True)
    yield Path(path)


def _no_replace() -> AbstractContextManager[object]:
    from napari_plimseg import files

    return _everywhere(files.atomic_write, _write_in_place)


def _no_sweep() -> AbstractContextManager[object]:
    from napari_plimseg import files

    return _everywhere(files.sweep, lambda folder, **how: None)


def _no_disk_errors() -> AbstractContextManager[object]:
    from napari_plimseg import files

    return _everywhere(files.disk_errors, lambda path: contextlib.nullcontext())


def _no_store_errors() -> AbstractContextManager[object]:
    from napari_plimseg.results import store_manifest

    return _everywhere(store_manifest.disk_error, lambda error, path: error)


def _no_json_checksum() -> AbstractContextManager[object]:
    import json

    from napari_plimseg.results import store_manifest

    def read(path: Any, store: Any, **_: Any) -> Any:
        return json.loads(path.read_text("utf-8"))["content"]

    return _everywhere(store_manifest.read_checked, read)


def _no_record_checksum() -> AbstractContextManager[object]:
    import types
    import zlib

    from napari_plimseg.results.corrections import journal_file

    loose = types.SimpleNamespace(**{**vars(zlib), "crc32": lambda data: 0})
    return mock.patch.object(journal_file, "zlib", loose)


def _no_checkpoint_checksum() -> AbstractContextManager[object]:
    from plimseg_training.loop import state

    return mock.patch.object(state, "_digest", lambda tensors, text: "")


def _no_model_checksum() -> AbstractContextManager[object]:
    from napari_plimseg.models import model_file

    return mock.patch.object(model_file, "must_be_sealed", lambda header, table: False)


def _no_random_states() -> AbstractContextManager[object]:
    from plimseg_training.loop import state

    return _everywhere(state.set_random_states, lambda states, device: None)


def _no_lock() -> AbstractContextManager[object]:
    import filelock

    return mock.patch.object(
        filelock.FileLock, "acquire", lambda self, *_, **__: contextlib.nullcontext()
    )


def _no_corrections_flush() -> AbstractContextManager[object]:
    from napari_plimseg.results.corrections.journal import CorrectionsJournal

    return mock.patch.object(CorrectionsJournal, "flush", lambda self: None)


def _late_recorder() -> AbstractContextManager[object]:
    from napari_plimseg._widgets.viewer.correction_recorder import CorrectionRecorder

    return mock.patch.object(CorrectionRecorder, "_work", lambda self: None)


def _kills_of(row: str, count: int) -> Callable[[Settings, Report], None]:
    def run(settings: Settings, report: Report) -> None:
        warm()
        kills.run(Settings(count, settings.seed, True, row, settings.processes), report)

    return run


def _disk_of(row: str) -> Callable[[Settings, Report], None]:
    def run(settings: Settings, report: Report) -> None:
        warm()
        only = Settings(1, settings.seed, True, f"full disk: {row}", settings.processes)
        disk.run(only, report, points=4)

    return run


def _flips_of(row: str, bits: int = 150) -> Callable[[Settings, Report], None]:
    def run(settings: Settings, report: Report) -> None:
        warm()
        only = Settings(1, settings.seed, True, f"flipped bits: {row}", settings.processes)
        flips.run(only, report, bits=bits)

    return run


def _around(row: str) -> Callable[[Settings, Report], None]:
    def run(settings: Settings, report: Report) -> None:
        warm()
        only = Settings(1, settings.seed, True, row, settings.processes)
        surroundings.run(only, report)

    return run


GUARDS = (
    Guard("fsync before a rename", _no_sync, _around("power failure")),
    Guard("fsync of chunks before the journal", _no_chunk_sync, _around("power failure")),
    Guard("fsync of folders after a rename", _no_folder_sync, _around("power failure")),
    Guard("files are replaced as a whole", _no_replace, _kills_of("kill export", 12)),
    Guard("left-over files are swept", _no_sweep, _kills_of("kill export", 12)),
    Guard("a full disk is our error", _no_disk_errors, _disk_of("recipe")),
    Guard("a full disk is a store's error", _no_store_errors, _disk_of("tiles")),
    Guard("checksum of JSON", _no_json_checksum, _flips_of("list of reviewed regions")),
    Guard(
        "checksum of corrections", _no_record_checksum, _flips_of("journal of corrections", 3000)
    ),
    Guard("checksum of checkpoints", _no_checkpoint_checksum, _flips_of("checkpoint")),
    Guard("checksum of model files", _no_model_checksum, _flips_of("model file")),
    Guard("random states resume", _no_random_states, _kills_of("kill train", 6)),
    Guard("locks", _no_lock, _around("two writers")),
    Guard("flush writes corrections", _no_corrections_flush, _kills_of("kill paint, flushed", 4)),
    Guard("painting is saved as it goes on", _late_recorder, _kills_of("kill painting", 6)),
)


if __name__ == "__main__":
    exit_with(main("faults", campaign, GUARDS, count=KILLS, short=SHORT_KILLS))

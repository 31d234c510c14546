"""`make fuzz`: 10,000 seeded mutants of every kind of file that the program reads.

Each is read under limits. It must be fine or refused with a `PlimsegError`: no death, no hang, no
other exception, no name looked up, no code of the file run; and where files carry checksums, no
accidental damage may change what is read. The index of a mutant alone determines it:

    python -m tests.campaigns.fuzz --seed 4711 --count 1
"""

from __future__ import annotations

import collections
import contextlib
import hashlib
import itertools
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np
import yaml

from tests.campaigns import damage as damages
from tests.campaigns import fuzz_flips, sandbox
from tests.campaigns.doors import Door, doors, spread
from tests.campaigns.report import (
    Guard,
    Report,
    Settings,
    exit_with,
    guards_switched_off,
    main,
)
from tests.support.paths import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

COUNT, SHORT = 10_000, 400
LIGHT = ("slide", "classes", "prompts", "cohort", "settings")
"""Doors that need no torch: servers that read nothing else start faster."""
CYCLE = 10_000
"""Mutants of one round through the doors; the door of index i is that of i modulo it."""


class Mutants:
    """Reads the mutants of a campaign; lives in the server process.

    Parameters
    ----------
    bases : Path
        Folder of the sound bases, one folder for each door.
    """

    def __init__(self, bases: Path) -> None:
        self.bases = bases
        self.doors = {door.name: door for door in doors()}
        self.order = order()
        self.attempts: list[str] = []
        self.sound = json.loads((bases / "sound.json").read_text())
        sandbox.forbid_connections(self.attempts.append)

    def name_of(self, index: int) -> str:
        """Return the name of the door of a mutant."""
        return self.order[index % CYCLE]

    def read(self, index: int, tell: Callable[[str], None]) -> str:
        """Damage a copy of a base, tell how, and read it; return the result."""
        door = self.doors[self.name_of(index)]
        rng = np.random.default_rng([index, 1])
        self.attempts.clear()
        with sandbox.quiet_folder() as place:
            folder = place / "base"
            damages.copy(self.bases / folder_name(door), folder)
            done = damages.damage(folder, list(door.targets), rng)
            is_fit = done.with_intent and door.sign is not None and rng.random() < 0.75
            if is_fit and door.sign is not None and (folder / done.file).is_file():
                door.sign(folder / done.file)
            tell(f"{done.file}: {done.kind}{' with its checksum' if is_fit else ''}")
            os.environ["PLIMSEG_DATA_DIR"] = str(place / "data")
            os.environ["PLIMSEG_CACHE_DIR"] = str(place / "cache")
            os.chdir(place)
            result, found = read_guarded(door, folder)
            must_be_same = door.exact and not done.with_intent
            if result == "fine" and must_be_same and found != self.sound[door.name]:
                result = "changed unnoticed"
            if self.attempts:
                result = f"reached out: {self.attempts[0]}"
            if (place / "ran").exists() or (folder / "ran").exists():
                result = "ran code of the file"
            os.chdir(self.bases)
        return result


def read_guarded(door: Door, folder: Path) -> tuple[str, Any]:
    """Read a folder; return "fine" and the digest, "refused", or what was raised."""
    from napari_plimseg.errors import PlimsegError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return "fine", door.read(folder)
    except PlimsegError as error:
        if memory := _ran_out(error):
            return f"memory: {memory}", None
        return "refused", None
    except BaseException as error:  # noqa: BLE001 - that is what is counted
        return f"{type(error).__name__}: {error}"[:300] + _where(error), None


def _ran_out(error: BaseException | None) -> str:
    """Return what says that memory ran out, although a refusal was made of it."""
    seen = 0
    while error is not None and seen < 10:
        text = str(error)
        if isinstance(error, MemoryError) or "can't allocate memory" in text:
            return f"more than {sandbox.HEADROOM >> 30} GiB asked for ({text[:100]})"
        error, seen = error.__cause__ or error.__context__, seen + 1
    return ""


def _where(error: BaseException) -> str:
    trace, own = error.__traceback__, ""
    while trace is not None:
        path = Path(trace.tb_frame.f_code.co_filename)
        if {"napari_plimseg", "plimseg_training"} & set(path.parts):
            own = f" [{path.name}:{trace.tb_lineno}]"
        trace = trace.tb_next
    return own


def folder_name(door: Door) -> str:
    """Return the name of the folder of a door's base."""
    return door.name.replace(" ", "-").replace(":", "").replace(".", "-")


def order() -> list[str]:
    """Return the name of the door of each index of a cycle."""
    return spread(doors(), CYCLE)


def write_bases(folder: Path, names: Sequence[str]) -> list[str]:
    """Write the sound bases of doors and what is read of them; return which can't be read."""
    wrong, sound = [], {}
    for door in doors():
        if door.name not in names or door.write is None:
            continue
        base = folder / folder_name(door)
        base.mkdir(parents=True)
        door.write(base)
        with sandbox.quiet_folder() as place:
            damages.copy(base, place / "base")
            os.environ["PLIMSEG_DATA_DIR"] = str(place / "data")
            os.environ["PLIMSEG_CACHE_DIR"] = str(place / "cache")
            result, sound[door.name] = read_guarded(door, place / "base")
        if result != "fine":
            wrong.append(f"{door.name}: {result}")
    (folder / "sound.json").write_text(json.dumps(sound))
    return wrong


def warm_up() -> None:
    """Import what the doors need, so that forks need not; start no threads."""
    from napari_plimseg.models import bundled_encoder, load_backbone, make_torchvision_importable

    make_torchvision_importable()
    import imagecodecs  # noqa: F401
    import open_clip  # noqa: F401
    import openslide  # noqa: F401
    import rasterio.features  # noqa: F401
    import shapely  # noqa: F401
    import timm  # noqa: F401
    import tokenizers  # noqa: F401
    import torch
    import zarr  # noqa: F401

    import napari_plimseg.api
    import napari_plimseg.cli
    import napari_plimseg.settings  # noqa: F401
    import plimseg_training.commands.train
    import plimseg_training.promptable.config  # noqa: F401

    torch.set_num_threads(1)
    bundled_encoder()
    load_backbone("bundled")


def serve(bases: Path) -> None:
    """Read the mutants whose indices come from standard input."""
    indices = json.load(sys.stdin)
    with contextlib.redirect_stdout(sys.stderr):
        mutants = Mutants(bases)
        if not all(mutants.name_of(index).startswith(LIGHT) for index in indices):
            warm_up()
    with guards_switched_off(GUARDS):
        sandbox.serve(mutants.read, indices)


def start(bases: Path, indices: Sequence[int]) -> subprocess.Popen[str]:
    """Start a server; its standard output is one JSON object for each mutant."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.campaigns.fuzz", "--serve", str(bases)],
        cwd=ROOT, env=fuzz_flips.child_environment(), text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    process.stdin.write(json.dumps([int(index) for index in indices]))
    process.stdin.close()
    return process


def run(bases: Path, indices: Sequence[int], processes: int = 2) -> Iterator[sandbox.Outcome]:
    """Read mutants in several servers at once."""
    servers = [start(bases, indices[n::processes]) for n in range(min(processes, len(indices)))]
    lines: collections.deque[str] = collections.deque()
    errors: list[str] = [""] * len(servers)

    def listen(number: int, server: subprocess.Popen[str]) -> None:
        assert server.stdout is not None
        for line in server.stdout:
            lines.append(line)

    def keep_errors(number: int, server: subprocess.Popen[str]) -> None:
        assert server.stderr is not None
        for line in server.stderr:
            errors[number] = (errors[number] + line)[-4000:]

    threads = [
        threading.Thread(target=task, args=pair, daemon=True)
        for pair in enumerate(servers)
        for task in (listen, keep_errors)
    ]
    try:
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads) or lines:
            while lines:
                yield sandbox.Outcome(**json.loads(lines.popleft()))
            time.sleep(0.02)
        for server, error in zip(servers, errors, strict=True):
            if server.wait() != 0:
                raise RuntimeError(f"a server of mutants ended early: {error}")
    finally:
        for server in servers:
            server.kill()
            server.wait()


def campaign(settings: Settings, report: Report, names: Sequence[str] = ()) -> None:
    """Read `settings.count` mutants, of the named doors or of all, and report them by door."""
    cycle = order()
    present = {door.name for door in doors() if door.write is not None}
    wanted = {name for name in present & set(names or present) if settings.wants(name)}
    fitting = (i for i in itertools.count(settings.seed) if cycle[i % CYCLE] in wanted)
    indices = list(itertools.islice(fitting, settings.count)) if wanted else []
    needed = {cycle[index % CYCLE] for index in indices}
    with tempfile.TemporaryDirectory(prefix="fuzz-", ignore_cleanup_errors=True) as name:
        bases = Path(name)
        start_time = time.perf_counter()
        wrong = _write_bases_apart(bases, needed)
        report.add(
            "sound bases", len(needed) - len(wrong),
            [("the base itself", text) for text in wrong],
            seconds=time.perf_counter() - start_time,
        )  # fmt: skip
        rows: dict[str, list[sandbox.Outcome]] = collections.defaultdict(list)
        for number, outcome in enumerate(run(bases, indices, settings.processes), 1):
            rows[cycle[outcome.index % CYCLE]].append(outcome)
            if number % 1000 == 0:
                print(f"  {number:,} of {len(indices):,} mutants", flush=True)  # noqa: T201
        missing = set(indices) - {o.index for outcomes in rows.values() for o in outcomes}
        for row in sorted(rows):
            _add_row(report, row, rows[row])
        if not names:
            flip_count = 100 if settings.short else 1000
            for kind in fuzz_flips.KINDS:
                if settings.wants(f"flipped bits: {kind}"):
                    fuzz_flips.flip(kind, flip_count, settings, report)
        if missing:
            text = f"{len(missing)} mutants have no outcome"
            report.add("mutants without an outcome", 0, [(f"--seed {min(missing)}", text)])


def _add_row(report: Report, row: str, outcomes: list[sandbox.Outcome]) -> None:
    kinds = collections.Counter(o.result for o in outcomes if o.is_good)
    slowest = max(outcome.seconds for outcome in outcomes)
    peak = max(outcome.memory for outcome in outcomes)
    report.add(
        row,
        sum(o.is_good for o in outcomes),
        [
            (f"python -m tests.campaigns.fuzz --seed {o.index} --count 1",
             f"{o.result} ({o.damage or 'unknown damage'})")
            for o in outcomes
            if not o.is_good
        ],
        seconds=sum(outcome.seconds for outcome in outcomes),
        note=f"{kinds['fine']:5} fine {kinds['refused']:5} refused, slowest {slowest:4.1f} s, "
        f"{peak / 2**20:5,.0f} MiB",
    )  # fmt: skip


def _write_bases_apart(folder: Path, names: set[str]) -> list[str]:
    """Write the bases in a child: what they need may start threads, and servers fork."""
    code = (
        "from tests.campaigns import fuzz; from pathlib import Path; import json; "
        f"print(json.dumps(fuzz.write_bases(Path({str(folder)!r}), {sorted(names)!r})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, text=True, capture_output=True, check=False,
        env=fuzz_flips.child_environment(),
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:])
    wrong: list[str] = json.loads(done.stdout.splitlines()[-1])
    return wrong


# -- guards


class _Equal:
    """Equal to everything: a checksum that nobody compares."""

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False

    __hash__ = None  # type: ignore[assignment]


def _slides_raise_what_they_like() -> AbstractContextManager[object]:
    from napari_plimseg.slides.opening import find_reader

    def read_over_white(
        self: Any, level: int, y: int, x: int, height: int, width: int
    ) -> Any:  # windows of the campaign are inside of the slide
        return self._read_level(level, y, x, height, width)

    stack = contextlib.ExitStack()
    stack.enter_context(
        patch("napari_plimseg.slides.slide.Slide._read_over_white", read_over_white)
    )
    stack.enter_context(
        patch(
            "napari_plimseg.slides.open_slide",
            lambda path: find_reader(Path(path)).load(Path(path)),
            create=True,
        )
    )
    return stack


def _yaml_is_not_checked() -> AbstractContextManager[object]:
    return patch("napari_plimseg.reading.parse_yaml", lambda text, *_, **__: yaml.safe_load(text))


def _checkpoints_are_not_compared() -> AbstractContextManager[object]:
    return patch("plimseg_training.loop.state._digest", lambda *_: _Equal())


def _embeddings_are_not_compared() -> AbstractContextManager[object]:
    def sha256(content: bytes) -> SimpleNamespace:
        real = hashlib.sha256(content)
        return SimpleNamespace(digest=_Equal, hexdigest=real.hexdigest)

    module = "napari_plimseg.inference.promptable.embedding_cache"
    return patch(f"{module}.hashlib", SimpleNamespace(sha256=sha256))


def _anything_is_opened() -> AbstractContextManager[object]:
    return patch(
        "napari_plimseg.reading.open_regular", lambda path, *_, **__: Path(path).open("rb")
    )


def _reduced(count: int, *names: str) -> Callable[[Settings, Report], None]:
    """Return a campaign of a few mutants of the named doors."""

    def reduced(settings: Settings, report: Report) -> None:
        os.environ[sandbox.WAIT] = "12"
        try:
            campaign(replace(settings, count=count, only=""), report, names)
        finally:
            del os.environ[sandbox.WAIT]

    return reduced


GUARDS = [
    Guard("readers' exceptions become slide errors", _slides_raise_what_they_like,
          _reduced(80, "slide JPEG TIFF", "slide LZW TIFF", "slide png picture")),
    *fuzz_flips.GUARDS,
    Guard("YAML is checked", _yaml_is_not_checked, _reduced(40, "classes YAML", "prompts YAML")),
    Guard("checkpoints have checksums", _checkpoints_are_not_compared, _reduced(60, "checkpoints")),
    Guard("cached embeddings have checksums", _embeddings_are_not_compared,
          _reduced(60, "embedding cache")),
    Guard("only regular files are opened", _anything_is_opened,
          _reduced(60, "classes YAML", "cohort.json", "recipe YAML")),
]  # fmt: skip

if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(Path(sys.argv[2]))
    else:
        exit_with(main("fuzz", campaign, GUARDS, count=COUNT, short=SHORT))

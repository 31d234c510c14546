"""What every campaign shares: its options, its table, and the check that its guards matter.

A campaign is a function that takes :class:`Settings` and fills a :class:`Report`. `main` runs it,
prints the table and ends with ``N passed, 0 failed``; the exit code is 1 if anything failed.

``--self-test`` asks whether the campaign would notice a missing guard of the program. Each
:class:`Guard` names one, how to switch it off, and a reduced campaign that needs it. The reduced
campaign must pass with the guard and fail without it. The guard is switched off inside the
processes that do the work: they call :func:`guards_switched_off` at their start, which reads the
guard's name from the environment.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

WITHOUT = "PLIMSEG_CAMPAIGN_WITHOUT"
"""The environment variable that names the guard to switch off, for children."""


@dataclass(frozen=True)
class Settings:
    """The options of a campaign.

    Parameters
    ----------
    count : int
        How many attacks; each campaign says of what.
    seed : int
        The first seed.
    short : bool
        Whether the short form runs, that of the test suite.
    only : str
        Run only rows whose name holds this text; empty for all.
    processes : int
        How many child processes work at once.
    """

    count: int
    seed: int = 0
    short: bool = False
    only: str = ""
    processes: int = 2

    def wants(self, what: str) -> bool:
        """Return whether the row of this name is to run."""
        return self.only in what


@dataclass(frozen=True)
class Failure:
    """One attack that did harm.

    Parameters
    ----------
    what : str
        The row that it belongs to.
    reproduce : str
        What runs this attack again: the seed, index and base, or a command.
    problem : str
        What happened.
    """

    what: str
    reproduce: str
    problem: str


@dataclass(frozen=True)
class Row:
    """A line of the table; `note` holds figures such as memory or a count of outcomes."""

    what: str
    passed: int
    failed: int
    seconds: float
    note: str = ""


@dataclass
class Report:
    """The outcome of a campaign, filled row by row.

    Parameters
    ----------
    title : str
        The name of the campaign.
    """

    title: str
    rows: list[Row] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)

    @property
    def passed(self) -> int:
        return sum(row.passed for row in self.rows)

    @property
    def failed(self) -> int:
        return sum(row.failed for row in self.rows)

    def add(
        self,
        what: str,
        passed: int,
        failures: Sequence[tuple[str, str]] = (),
        *,
        seconds: float = 0.0,
        note: str = "",
    ) -> None:
        """Add a row; `failures` holds (what reproduces it, what happened) of each failure."""
        self.rows.append(Row(what, passed, len(failures), seconds, note))
        self.failures += [Failure(what, *failure) for failure in failures]

    @contextlib.contextmanager
    def row(self, what: str) -> Iterator[Outcomes]:
        """Time a block that counts outcomes, then add its row.

        An exception of the block is a failure of the row: a campaign always ends with its table.
        """
        outcomes = Outcomes()
        start = time.perf_counter()
        try:
            yield outcomes
        except Exception as error:  # noqa: BLE001 - counted
            outcomes.fail("the whole row", f"{type(error).__name__}: {error}")
        seconds = time.perf_counter() - start
        self.add(what, outcomes.passed, outcomes.failures, seconds=seconds, note=outcomes.note)

    def table(self) -> str:
        """Return the rows as text, then the failures."""
        width = max([len(row.what) for row in self.rows] + [len(self.title), 20])
        lines = [f"{self.title:{width}}  {'passed':>7} {'failed':>7} {'seconds':>8}"]
        lines += [
            f"{row.what:{width}}  {row.passed:7,} {row.failed:7,} {row.seconds:8.1f}  {row.note}"
            for row in self.rows
        ]
        for failure in self.failures:
            lines.append(f"FAILED {failure.what}: {failure.problem}")
            lines.append(f"       again with: {failure.reproduce}")
        return "\n".join(line.rstrip() for line in lines)

    def show(self) -> int:
        """Print the table and the last line; return the exit code."""
        print(self.table())  # noqa: T201 - a command
        print(f"{self.passed:,} passed, {self.failed:,} failed", flush=True)  # noqa: T201
        return int(self.failed > 0 or self.passed == 0)


@dataclass
class Outcomes:
    """Counts the outcomes of one row."""

    passed: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)
    note: str = ""

    def fail(self, reproduce: str, problem: str) -> None:
        """Count a failure."""
        self.failures.append((reproduce, problem))

    def check(self, good: bool, reproduce: str, problem: str) -> None:
        """Count an attack as passed, or as a failure with what reproduces it."""
        if good:
            self.passed += 1
        else:
            self.fail(reproduce, problem)


Campaign = Callable[[Settings, Report], None]


@dataclass(frozen=True)
class Guard:
    """A guard of the program that a campaign must miss when it is gone.

    Parameters
    ----------
    name : str
        What it prevents, in a few words.
    off : callable
        Returns a context manager that takes the guard out of this process (usually a patch of a
        function of the program).
    campaign : callable
        The reduced campaign that needs this guard.
    """

    name: str
    off: Callable[[], AbstractContextManager[object]]
    campaign: Campaign


def guards_switched_off(guards: Sequence[Guard]) -> contextlib.ExitStack:
    """Take out the guard that the environment names; for children, at their start.

    The guard stays out until the returned stack is closed. Without such a name nothing happens.
    """
    stack = contextlib.ExitStack()
    if name := os.environ.get(WITHOUT):
        [guard] = [guard for guard in guards if guard.name == name]
        stack.enter_context(guard.off())
    return stack


def self_test(title: str, guards: Sequence[Guard], settings: Settings) -> Report:
    """Run each guard's reduced campaign with the guard and without it.

    It passes if the campaign is sound with the guard and fails without it. Prints one line per
    guard.
    """
    report = Report(f"{title} --self-test")
    for guard in guards:
        if not settings.wants(guard.name):
            continue
        start = time.perf_counter()
        sound = Report(title)
        guard.campaign(settings, sound)
        missing = Report(title)
        os.environ[WITHOUT] = guard.name
        try:
            guard.campaign(settings, missing)
        except Exception as error:  # noqa: BLE001 - a campaign that can't run has noticed nothing
            missing = Report(title)
            problem = f"the campaign itself broke: {type(error).__name__}: {error}"
        else:
            problem = "nothing failed without it"
        finally:
            del os.environ[WITHOUT]
        if sound.failed or not sound.passed:
            problem = f"the campaign fails with the guard in place:\n{sound.table()}"
            noticed = False
        else:
            noticed = missing.failed > 0
        print(f"guard {guard.name}: {'noticed' if noticed else 'NOT NOTICED'}", flush=True)  # noqa: T201
        report.add(
            guard.name,
            int(noticed),
            [] if noticed else [(f"--self-test --only '{guard.name}'", problem)],
            seconds=time.perf_counter() - start,
            note=f"{missing.failed} of {missing.failed + missing.passed} failed without it",
        )
    return report


def main(
    title: str,
    campaign: Campaign,
    guards: Sequence[Guard],
    *,
    count: int,
    short: int,
    arguments: Sequence[str] | None = None,
) -> int:
    """Run a campaign from the command line; return the exit code.

    Parameters
    ----------
    title : str
        The campaign's name.
    campaign : callable
        Fills a report.
    guards : sequence of Guard
        What ``--self-test`` switches off.
    count, short : int
        How many attacks the whole campaign and its short form run unless ``--count`` says.
    arguments : sequence of str, optional
        The command line; by default that of the process.
    """
    parser = argparse.ArgumentParser(prog=f"python -m tests.campaigns.{title}")
    parser.add_argument("--count", type=int, help=f"how many attacks (default {count:,})")
    parser.add_argument("--seed", type=int, default=0, help="the first seed (default 0)")
    parser.add_argument("--short", action="store_true", help=f"the short form: {short:,} attacks")
    parser.add_argument("--only", default="", help="only rows or guards whose name holds this")
    parser.add_argument("--processes", type=int, default=2, help="children at once (default 2)")
    parser.add_argument(
        "--self-test", action="store_true", help="switch off one guard at a time: each must be seen"
    )
    options = parser.parse_args(arguments)
    settings = Settings(
        options.count or (short if options.short else count),
        options.seed,
        options.short,
        options.only,
        options.processes,
    )
    if options.self_test:
        return self_test(title, guards, settings).show()
    report = Report(title)
    campaign(settings, report)
    return report.show()


def exit_with(code: int) -> None:
    """Leave the process with the campaign's exit code, its output written."""
    sys.stdout.flush()
    sys.exit(code)

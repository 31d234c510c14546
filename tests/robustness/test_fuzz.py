"""The short form of `make fuzz`, and that its sandbox and its damage do what they say."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import TYPE_CHECKING

import numpy as np
import psutil
import pytest

from tests.campaigns import damage, doors, fuzz, sandbox
from tests.support.campaigns import campaign

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="forks, and memory is read from /proc"
)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_no_mutant_does_harm() -> None:
    printed = campaign("fuzz", "--short")
    *rows, last = printed.splitlines()
    assert last.endswith(", 0 failed")
    assert int(last.split()[0].replace(",", "")) >= fuzz.SHORT
    # the damage is real: many mutants are refused
    refused = sum(int(row.split(" fine ")[1].split()[0]) for row in rows if " fine " in row)
    assert refused > fuzz.SHORT / 4


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("guard", ["checksum of model files", "YAML is checked"])
def test_a_missing_guard_is_noticed(guard: str) -> None:
    assert f"guard {guard}: noticed" in campaign("fuzz", "--self-test", "--only", guard)


def test_a_mutant_is_determined_by_its_index(tmp_path: Path) -> None:
    door = next(door for door in doors.doors() if door.name == "classes YAML")
    base = tmp_path / "base"
    base.mkdir()
    assert door.write is not None
    door.write(base)
    contents = []
    for name in "ab":
        damage.copy(base, tmp_path / name)
        damage.damage(tmp_path / name, ["**/*"], np.random.default_rng([5, 1]))
        contents.append((tmp_path / name / "classes.yaml").read_bytes())
    assert contents[0] == contents[1] != (base / "classes.yaml").read_bytes()


def test_every_door_gets_mutants() -> None:
    order = fuzz.order()
    assert set(order) == {door.name for door in doors.doors()}
    assert len(set(order[: fuzz.SHORT])) == len(set(order)), "in the short form too"


def outcomes(read: Callable[[int, Callable[[str], None]], str], count: int = 3) -> list[str]:
    """Serve mutants 0, 1, ... from a child of this process; return their results in order."""
    receiving, sending = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(receiving)
        os.dup2(sending, 1)
        sys.stdout = os.fdopen(1, "w")
        sandbox.serve(read, list(range(count)))
        sys.stdout.flush()
        os._exit(0)
    os.close(sending)
    with os.fdopen(receiving) as lines:
        found = {line["index"]: line["result"] for line in map(json.loads, lines)}
    os.waitpid(child, 0)
    return [found[index] for index in range(count)]


def second_only(act: Callable[[], object]) -> Callable[[int, Callable[[str], None]], str]:
    def read(index: int, tell: Callable[[str], None]) -> str:
        tell("a damage")
        if index == 1:
            act()
        return "fine"

    return read


@pytest.mark.parametrize(
    ("act", "result"),
    [
        (os.abort, "death: SIGABRT"),
        (lambda: os._exit(3), "death: exit code 3"),
        (lambda: np.ones(1 << 30, np.uint8), "memory: "),
        (lambda: [0][1], "the campaign broke: IndexError"),
    ],
)
def test_harm_costs_only_the_mutant_that_does_it(
    act: Callable[[], object], result: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # a fork begins with the memory of the process that runs the tests
    monkeypatch.setattr(sandbox, "MEMORY", psutil.Process().memory_info().rss + (1 << 29))
    first, second, third = outcomes(second_only(act))
    assert first == third == "fine"
    assert second.startswith(result)


def test_hangs_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "SECONDS", 1)

    def compute() -> None:
        while True:
            pass

    assert outcomes(second_only(compute))[1].startswith("hang: more than 1 s of work")
    monkeypatch.setattr(sandbox, "WAITING", 1)
    assert outcomes(second_only(lambda: time.sleep(60)))[1] == "hang: more than 1 s of waiting"

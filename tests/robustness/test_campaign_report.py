"""The campaigns' own bookkeeping: what fails is shown, and a guard nobody misses is a failure."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from tests.campaigns.report import WITHOUT, Guard, Report, Settings, guards_switched_off, main

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

LIMIT = {"value": 3}


@contextlib.contextmanager
def limit_lifted() -> Iterator[None]:
    LIMIT["value"] = 100
    try:
        yield
    finally:
        LIMIT["value"] = 3


def campaign(settings: Settings, report: Report) -> None:
    with guards_switched_off(GUARDS), report.row("values") as outcomes:
        for seed in range(settings.seed, settings.seed + settings.count):
            outcomes.check(LIMIT["value"] < 10, f"--seed {seed} --count 1", "too large")


GUARDS = [Guard("limit", limit_lifted, campaign)]


def run(*arguments: str, guards: list[Guard] | None = None) -> int:
    return main("values", campaign, guards or GUARDS, count=4, short=2, arguments=arguments)


def test_a_campaign_ends_with_its_figures(capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    assert capsys.readouterr().out.splitlines()[-1] == "4 passed, 0 failed"
    assert run("--short") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "2 passed, 0 failed"


def test_a_failure_says_how_to_run_it_again(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(LIMIT, "value", 50)
    assert run("--count", "2", "--seed", "7") == 1
    out = capsys.readouterr().out
    assert "again with: --seed 8 --count 1" in out
    assert out.splitlines()[-1] == "0 passed, 2 failed"


def test_an_exception_is_a_failure_and_nothing_done_is_no_success() -> None:
    report = Report("broken")
    with report.row("first"):
        raise ValueError("unforeseen")
    assert report.failures[0].problem == "ValueError: unforeseen"
    assert report.show() == 1
    assert Report("empty").show() == 1


def test_self_test_switches_guards_off_and_on_again(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--self-test") == 0
    assert "guard limit: noticed" in capsys.readouterr().out
    assert LIMIT["value"] == 3
    assert WITHOUT not in os.environ


def test_a_guard_that_nothing_misses_is_a_failure(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    useless = Guard("useless", contextlib.nullcontext, campaign)
    monkeypatch.setitem(globals(), "GUARDS", [useless])
    assert run("--self-test", guards=[useless]) == 1
    out = capsys.readouterr().out
    assert "guard useless: NOT NOTICED" in out
    assert "nothing failed without it" in out

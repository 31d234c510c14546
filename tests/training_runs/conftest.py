"""A program that stands for the training package."""

from __future__ import annotations

import sys

import pytest

from tests.support.paths import ROOT

PROGRAM = (sys.executable, str(ROOT / "tests" / "support" / "fake_training.py"))


@pytest.fixture
def program() -> tuple[str, ...]:
    """What is started in place of the training package."""
    return PROGRAM

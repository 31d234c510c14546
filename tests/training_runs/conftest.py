"""A program that stands for the training package."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

PROGRAM = (sys.executable, str(Path(__file__).parent / "fake_training.py"))


@pytest.fixture
def program() -> tuple[str, ...]:
    """What is started in place of the training package."""
    return PROGRAM

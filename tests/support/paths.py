"""Where the tests' own files are."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""Of the repository: programs that tests start run here, so that they can import `tests`."""
DATA = ROOT / "tests" / "data"

"""`kill -9` in the middle of painting: every stroke that was flushed is there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.paths import ROOT

if TYPE_CHECKING:
    from pathlib import Path

KILLS = 20


@pytest.mark.skipif(not hasattr(os, "fork"), reason="painters are forks")
def test_twenty_kills_lose_nothing_that_was_flushed(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.killed_painting", str(tmp_path), str(KILLS)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    kills = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(kills) == KILLS
    for kill in kills:
        assert kill["saved"] > 0
        assert kill["there"] is not None, f"what is left is no beginning of the strokes: {kill}"
        assert kill["there"] >= kill["saved"]

"""Run a campaign as `make` does."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.support.paths import ROOT


def campaign(name: str, *options: str, seconds: float = 600) -> str:
    """Run a campaign as a process, check that nothing failed, and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", f"tests.campaigns.{name}", *options],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert done.stdout.rstrip().endswith(" passed, 0 failed")
    return done.stdout

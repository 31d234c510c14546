#!/usr/bin/env python3
"""Play what must never go wrong without a word on three screens, and print what passed.

Usage: python scripts/play_trust.py [--out FOLDER] [--screens WIDTHxHEIGHT@FONTS ...]

Runs `play_story.py --trust` for a small screen, a large one and large fonts, each in a napari of
its own on a virtual screen of that size. Pictures and logs are left in `--out`. The exit code is 1
when a step failed anywhere.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SCREENS = ("1366x768@1", "1920x1080@1", "1366x768@1.5")
_PASSED = re.compile(r"^(\S.*?) +([\d.]+) s(?:  |$)")
_FAILED = re.compile(r"^FAILED  (.*?): (.*)")
_TOTAL = ("all", "until then")


def play(screen: str, out: Path) -> dict[str, str]:
    """Play the story on a screen; return what became of each step."""
    size, _, fonts = screen.partition("@")
    folder = out / screen.replace("@", "_fonts_")
    folder.mkdir(parents=True, exist_ok=True)
    command = [
        ROOT / "scripts" / "with_screen.sh", sys.executable, ROOT / "scripts" / "play_story.py",
        "--trust", "--screen", size, "--font-scale", fonts or "1", "--out", folder,
    ]  # fmt: skip
    environment = os.environ | {"PLIMSEG_VIRTUAL_SCREEN": "1", "PLIMSEG_SCREEN_SIZE": size}
    found: dict[str, str] = {}
    with (folder / "log.txt").open("w") as log:
        playing = subprocess.Popen(
            [*map(str, command)], env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        for line in playing.stdout or ():
            log.write(line)
            log.flush()
            if passed := _PASSED.match(line):
                found[passed[1]] = f"{passed[2]} s"
            elif failed := _FAILED.match(line):
                found[failed[1]] = "FAILED"
                print(f"{screen}: {line.strip()}", flush=True)
        if playing.wait() and "FAILED" not in found.values():
            found["(the program)"] = "FAILED"
    return {step: result for step, result in found.items() if step not in _TOTAL}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("trust"), help="folder for the pictures")
    parser.add_argument("--screens", nargs="+", default=SCREENS, metavar="WIDTHxHEIGHT@FONTS")
    options = parser.parse_args()
    results = {screen: play(screen, options.out) for screen in options.screens}
    steps = [*dict.fromkeys(step for found in results.values() for step in found)]
    width = max(map(len, steps), default=0)
    print(" " * width, *(f"{screen:>14}" for screen in results))
    for step in steps:
        cells = (found.get(step, "not played") for found in results.values())
        print(f"{step:<{width}}", *(f"{cell:>14}" for cell in cells))
    failed = sum(result == "FAILED" for found in results.values() for result in found.values())
    print(f"{failed} failed" if failed else "all passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Take the pictures of the user guide from the running program.

Usage: python scripts/make_screenshots.py [options of play_story.py]

Plays the whole story and keeps the pictures that README and docs show, when all of it went well.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs" / "images"
DOCUMENTS = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))


def shown_pictures() -> set[str]:
    """Return the names, without ending, of the pictures that the documents show."""
    text = "\n".join(path.read_text("utf-8") for path in DOCUMENTS)
    return set(re.findall(r"images/(\w+)\.png", text))


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="plimseg-pictures-") as name:
        story = [sys.executable, ROOT / "scripts" / "play_story.py", "--out", name, *sys.argv[1:]]
        code = subprocess.run(story, check=False).returncode
        if code:
            return code
        IMAGES.mkdir(parents=True, exist_ok=True)
        wanted = shown_pictures()
        for taken in sorted(Path(name).glob("*.png")):
            plain = taken.stem.partition("_")[2]
            if plain in wanted:
                shutil.copy(taken, IMAGES / f"{plain}.png")
                print(IMAGES / f"{plain}.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Play what a user does in napari from the first slide to a model of her own, and check each step.

Usage: python scripts/play_story.py [--slide SLIDE --mpp MPP] [--data FOLDER] [--out FOLDER]

Mouse and keys press the real buttons and paint on the real canvas; each step checks what must be
true after it (files on the disk, pixels, messages, scores) and prints a line with its seconds. The
first step that fails ends the story with exit code 1; --trust plays the other steps, too. The
pictures of the user guide are the ones that it leaves in `--out`. Results, models and settings go
to a folder that is deleted.

Without a screen: scripts/with_screen.sh python scripts/play_story.py
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TILES = ROOT / "tests" / "data" / "nct_crc"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slide", type=Path, help="another slide than the sample")
    parser.add_argument("--mpp", type=float, help="pixel size to type when the slide has none")
    parser.add_argument(
        "--data", type=Path, help="folder of tiles, one sub-folder a class of NCT-CRC-HE"
    )
    parser.add_argument("--out", type=Path, default=Path("story"), help="folder for the pictures")
    parser.add_argument("--theme", choices=("dark", "light"), default="dark")
    parser.add_argument(
        "--trust", action="store_true", help="play what must never go wrong without a word instead"
    )
    parser.add_argument("--font-scale", type=float, default=1.0, help="1.5 for fonts of 150 %%")
    parser.add_argument(
        "--screen", type=_size, default="1366x768", metavar="WIDTHxHEIGHT", help="of the window"
    )
    parser.add_argument("--begin", metavar="STEP", help="leave out what comes before, but opening")
    parser.add_argument("--until", metavar="STEP", help="end after this step")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="plimseg-story-", ignore_cleanup_errors=True) as folder:
        os.environ["PLIMSEG_DATA_DIR"] = str(Path(folder) / "data")
        os.environ["PLIMSEG_CACHE_DIR"] = str(Path(folder) / "cache")
        os.environ["NAPARI_CONFIG"] = str(Path(folder) / "napari.yaml")
        return play(options, Path(folder))


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    return int(width), int(height)


def play(options: argparse.Namespace, folder: Path) -> int:
    """Play all steps; return the exit code."""
    import napari
    from napari.settings import get_settings
    from story.managing import MANAGING_STEPS
    from story.on_the_slide import SLIDE_STEPS, Story
    from story.screen import Screen
    from story.trust import TRUST_STEPS
    from story.with_models import MODEL_STEPS
    from story.with_prompts import PROMPT_STEPS

    appearance = get_settings().appearance
    appearance.font_size = round(appearance.font_size * options.font_scale)
    viewer = napari.Viewer(show=True)
    viewer.theme = options.theme
    screen = Screen(viewer, options.out, options.screen)
    story = Story(screen, folder, options.slide, options.mpp, options.data or TILES)
    began = time.monotonic()
    code = 0
    steps = SLIDE_STEPS | PROMPT_STEPS | MANAGING_STEPS | MODEL_STEPS
    if options.trust:
        steps = TRUST_STEPS
    names = list(steps)
    begin = names.index(options.begin) if options.begin else 1
    for name in [names[0], *names[begin:]]:
        start = time.monotonic()
        try:
            told = steps[name](story)
        except Exception as error:  # noqa: BLE001 - whatever it is, the story ends here
            traceback.print_exc()
            print(f"FAILED  {name}: {error}", flush=True)
            code = 1
            if not options.trust:
                screen.picture("failed")
                break
            screen.picture(f"failed_{name.replace(' ', '_')}")
        else:
            print(f"{name:<22} {time.monotonic() - start:6.1f} s  {told}", flush=True)
        if name == options.until:
            break
    print(
        f"{'all' if not code else 'until then':<22} {time.monotonic() - began:6.1f} s", flush=True
    )
    viewer.close()
    return code


if __name__ == "__main__":
    sys.exit(main())

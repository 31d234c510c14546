#!/usr/bin/env python3
"""Take the pictures of the user guide from the running program.

Usage: python scripts/make_screenshots.py [--slide SLIDE] [--mpp MPP] [--out FOLDER]

Without a screen: scripts/with_screen.sh python scripts/make_screenshots.py
Every picture shows the whole window at 1366 x 768. Results and settings go to a folder that is
deleted, so that the pictures do not depend on earlier runs.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parent.parent
WINDOW = 1366, 768
PATIENCE_SECONDS = 1800


class Photographer:
    """Drives the window and takes pictures of it."""

    def __init__(self, viewer: Any, folder: Path) -> None:
        self.viewer = viewer
        self.folder = folder

    def wait(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        """Keep the window alive for some time, or until something has happened."""
        from qtpy.QtWidgets import QApplication

        end = time.monotonic() + seconds
        while time.monotonic() < end and not until():
            QApplication.processEvents()
            time.sleep(0.01)

    def take(self, name: str) -> None:
        """Save the window as it is after a second of rest."""
        self.wait(1.0)
        path = self.folder / f"{name}.png"
        self.viewer.screenshot(str(path), canvas_only=False, flash=False)
        print(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slide", help="another slide than the sample")
    parser.add_argument("--mpp", type=float, help="pixel size to type when the slide has none")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images")
    parser.add_argument("--theme", choices=("dark", "light"), default="dark")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PLIMSEG_DATA_DIR"] = folder
        take_pictures(options)


def take_pictures(options: argparse.Namespace) -> None:
    import napari

    from napari_plimseg._widgets.main_dock import PlimsegDock

    viewer = napari.Viewer()
    viewer.theme = options.theme
    viewer.window.resize(*WINDOW)
    dock = PlimsegDock(viewer)
    viewer.window.add_dock_widget(dock, name="PLIMSeg", area="right")
    camera = Photographer(viewer, options.out)
    camera.wait(PATIENCE_SECONDS, lambda: dock.device.count() > 1)
    if options.slide:
        dock.open_slide(options.slide)
    else:
        dock.open_sample()
    if options.mpp:
        dock.slide_section.mppTyped.emit(options.mpp)
    viewer.reset_view()
    camera.take("dock_before")

    dock.settings_form.tile_size.setCurrentIndex(0)  # many small tiles show the growth
    start = time.monotonic()
    dock.start()

    def half_done() -> bool:
        progress = dock.controller.last_progress
        return progress is not None and progress.tiles_done * 2 > max(1, progress.tiles_total)

    camera.wait(PATIENCE_SECONDS, half_done)
    camera.take("dock_running")
    camera.wait(PATIENCE_SECONDS, lambda: not dock.controller.is_running)
    print(f"run: {time.monotonic() - start:.1f} s; {dock.banner.text}")
    camera.wait(30, lambda: dock.results.areas.rowCount() > 0)
    camera.wait(1.0)
    camera.take("dock_after")

    overlay = dock.results.overlay
    overlay.setCurrentIndex(2)
    overlay.activated.emit(2)
    view = dock.view
    if view is not None:
        view.layer.visible = False
    dock.show_results()
    camera.take("dock_probability")
    viewer.close()


if __name__ == "__main__":
    main()

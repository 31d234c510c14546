"""After the first mask: classes, exports again, a second slide, a run that is ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

from story.on_the_slide import check
from story.trust import export_twice
from story.trust_classes import check_names, export_everything, rename_and_merge
from story.trust_slides import two_slides

from napari_plimseg.cli.stopping import exit_code_of
from napari_plimseg.results import MaskStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from story.on_the_slide import Story

_COMMAND = "import sys; from napari_plimseg.cli import main; sys.exit(main())"
_SMALL_TILES = 256
_MODEL = "bundled-skin"  # the fastest


def edit_classes(story: Story) -> str:
    """Rename a class and merge two; the exports have the new names; then undo."""
    done = rename_and_merge(story)
    story.picture("classes")
    view, box = story.view, story.review.class_editor
    folder = export_everything(story, "renamed")
    check_names(folder, view.info.classes, [c.name for c in view.info.classes if not c.ignored])
    while box.buttons["class_undo"].isEnabled():
        story.screen.press(story.review.class_editor.buttons["class_undo"])
    check("undo restores the names", view.info.classes.names == done["before"])
    return f"{done['merged']} merged into {done['old']}, renamed, exported, and undone"


def resume_after_sigterm(story: Story) -> str:
    """End a run on the command line as a scheduler does; run it again, and open the result."""
    screen, slide = story.screen, story.dock.slides.slide
    folder = story.folder / "ended"
    command = [
        *(sys.executable, "-c", _COMMAND, "segment", str(slide.path), "--out", str(folder)),
        *("--model", _MODEL, "--tile-size", str(_SMALL_TILES), "--batch-size", "1"),
        *("--format", "csv"),
    ]
    if slide.mpp_is_given:
        command += ["--mpp", f"{slide.mpp:g}"]
    store = folder / f"{slide.path.stem}.plimseg"

    def kept() -> float:
        return MaskStore.open(store).done_fraction if (store / "journal.json").exists() else 0.0

    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    screen.wait("some tiles are kept", lambda: running.poll() is not None or kept() > 0)
    running.send_signal(signal.SIGTERM)
    said, _ = running.communicate(timeout=120)
    code = running.returncode
    if os.name != "nt":
        check(f"exit code {code}", code == exit_code_of(signal.SIGTERM))
        check(f"it says how to go on: {said[-300:]}", "run it again to continue" in said)
    part = kept()
    check(f"a part is kept: {part}", 0 < part < 1)
    check("no export of a part", not list(folder.glob("*.csv")))
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    check(f"the second run ends well: {again.stderr[-300:]}", again.returncode == 0)
    check("all is done", kept() == 1)
    check("now there are areas", len(list(folder.glob("*.csv"))) == 1)
    story.dock.open_result(store)
    screen.wait("the result is shown", lambda: story.dock.view.store.path == store, 60)
    story.picture("resumed")
    return f"{100 * part:.0f} % were kept; the second run did the rest"


MANAGING_STEPS: dict[str, Callable[[Story], str]] = {
    "rename and merge": edit_classes,
    "export twice": export_twice,
    "two slides": two_slides,
    "resume after SIGTERM": resume_after_sigterm,
}
"""In the order in which they are played."""

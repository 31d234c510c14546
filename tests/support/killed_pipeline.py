"""A whole training, killed and resumed as a process: RECIPE FOLDER MOMENTS; prints JSON.

MOMENTS is a list of [kind and stage of an event, seconds]: each training is killed that long after
the event. Every training is a fork, so that torch is imported once.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from plimseg_training.config.recipe import Recipe, load_recipe
from plimseg_training.pipeline import train_recipe
from plimseg_training.run_folder import RunFolder

if TYPE_CHECKING:
    from plimseg_training.events import Event


def forked(recipe: Recipe, folder: Path, moment: str, delay: float) -> dict[str, object]:
    """Train in a fork, killed at the moment; return how it ended and what it left."""

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def watch(event: Event) -> None:
        if moment == f"{event.kind} {event.stage}":
            threading.Timer(delay, die).start() if delay else die()

    child = os.fork()
    if not child:
        status = 1
        try:
            train_recipe(recipe, folder, on_event=watch)
            status = 0
        finally:
            if status:
                traceback.print_exc()
            os._exit(status)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    run = RunFolder(folder)
    masks = len(list(run.pseudo_masks.glob("*.png")))
    return {"moment": moment, "code": code, "status": run.status(), "pseudo_masks": masks}


if __name__ == "__main__":
    torch.set_num_threads(1)
    # what an optimizer imports is imported before the forks
    torch.optim.AdamW([torch.zeros(1, requires_grad=True)]).zero_grad()
    chosen = load_recipe(sys.argv[1])
    moments = [*json.loads(sys.argv[3]), ["never", 0.0]]
    found = [forked(chosen, Path(sys.argv[2]), *moment) for moment in moments]
    sys.stdout.write(json.dumps(found))

"""Trainings in their own processes, killed and stopped; prints what came of them as JSON.

    python killed_training.py FOLDER RUNS

Every training is a fork, so that torch is imported once. `RUNS` trainings are killed three times
each at random points and compared with one that was not.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
import traceback
from pathlib import Path

import torch

from napari_plimseg.training_runs.run_folder import RunFolder
from plimseg_training.events import ProgressLog, read_events
from plimseg_training.loop.loop import LoopOptions, train
from plimseg_training.loop.state import read_state, read_weights_of_run
from plimseg_training.run_folder import StopRequest, locked
from tests.support.tiny_task import TinyTask, stage


class SlowTask(TinyTask):
    """Long enough in a step that kills hit every part of it."""

    def loss(self, batch: object) -> object:
        time.sleep(0.002)
        return super().loss(batch)  # type: ignore[arg-type]


def train_once(folder: Path, save_seconds: float) -> None:
    """Train to the end or a stop."""
    run = RunFolder(folder)
    with locked(run), StopRequest(folder) as should_stop:
        train(
            SlowTask(),
            stage(),
            folder,
            seed=11,
            device="cpu",
            on_event=ProgressLog(run.progress),
            should_stop=should_stop,
            options=LoopOptions(save_seconds=save_seconds, report_seconds=0),
        )


def forked(folder: Path, save_seconds: float) -> int:
    """Start a training as a fork; return its process id."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        train_once(folder, save_seconds)
        status = 0
    finally:
        if status:
            traceback.print_exc()
        os._exit(status)


def wait_for(child: int, folder: Path, lines: int) -> bool:
    """Return when the run has so many lines of progress; False when the child ends first."""
    while count(folder) < lines:
        if os.waitpid(child, os.WNOHANG)[0]:
            return False
        time.sleep(0.0005)
    return True


def count(folder: Path) -> int:
    """Return the lines of progress."""
    path = RunFolder(folder).progress
    return path.read_bytes().count(b"\n") if path.exists() else 0


def killed(folder: Path, save_seconds: float, *, lines: int, delay: float) -> bool:
    """Start a training, kill it after so many more lines of progress; return whether it was hit."""
    before = count(folder)
    child = forked(folder, save_seconds)
    if not wait_for(child, folder, before + lines):
        return False
    time.sleep(delay)
    os.kill(child, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def stopped(folder: Path, how: str) -> dict[str, object]:
    """Start a training, ask it to stop at its second step or so; return how it ended."""
    child = forked(folder, 300)
    wait_for(child, folder, 4)
    if how == "file":
        RunFolder(folder).stop_file.touch()
    else:
        os.kill(child, signal.Signals[how])
    status = os.waitpid(child, 0)[1]
    last = [event.kind for event in read_events(RunFolder(folder).progress)][-2:]
    return {"status": status, "last": last, "run": RunFolder(folder).status()}


def outcome(folder: Path) -> dict[str, object]:
    """Return everything that must be the same, in plain data."""
    state = read_state(folder / "stage1")
    assert state is not None
    best, about = read_weights_of_run(folder / "stage1" / "best.safetensors")
    tensors = {**state[0].tensors, **{f"best.{name}": tensor for name, tensor in best.items()}}
    position = state[0].position
    history = [{k: v for k, v in row.items() if k != "seconds"} for row in position.history]
    return {
        "tensors": {
            name: bytes(tensor.contiguous().flatten().view(torch.uint8)).hex()
            for name, tensor in sorted(tensors.items())
        },
        "history": history,
        "about": about,
        "steps": position.step_total,
    }


def experiment(folder: Path, runs: int) -> dict[str, object]:
    """Train once straight, and several times with three kills at random points."""
    rng = random.Random(runs)  # noqa: S311
    straight = folder / "straight"
    os.waitpid(forked(straight, 300), 0)
    wanted = outcome(straight)
    broken = []
    for number in range(runs):
        run = folder / f"broken{number}"
        hits = [
            killed(
                run,
                rng.choice([0.0, 0.01, 300]),
                lines=rng.randint(1, 9),
                delay=rng.random() * 0.006,
            )
            for _ in range(3)
        ]
        status = os.waitpid(forked(run, 300), 0)[1]
        found = outcome(run)
        differs = [part for part, value in wanted.items() if found[part] != value]
        broken.append({"kills": sum(hits), "status": status, "differs": differs})
    stops = {how: stopped(folder / how, how) for how in ("SIGTERM", "SIGINT", "file")}
    return {"straight": wanted, "broken": broken, "stops": stops}


if __name__ == "__main__":
    torch.set_num_threads(1)
    # what an optimizer imports is imported before the forks
    torch.optim.AdamW([torch.zeros(1, requires_grad=True)]).zero_grad()
    sys.stdout.write(json.dumps(experiment(Path(sys.argv[1]), int(sys.argv[2]))))

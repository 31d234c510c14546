"""Stands for `python -m plimseg_training`: prints and writes what that would, in a moment."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

STEP_SECONDS = float(os.environ.get("FAKE_STEP", "0.01"))
BEHAVIOUR = os.environ.get("FAKE_TRAINING", "good")


def tell(event: dict, log: Path | None = None) -> None:
    line = json.dumps(event)
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
    if log is not None:
        with log.open("a", encoding="utf-8") as file:
            file.write(line + "\n")


def train(arguments: list[str]) -> int:
    run = Path(arguments[arguments.index("--out") + 1])
    run.mkdir(parents=True, exist_ok=True)
    (run / "pid").write_text(str(os.getpid()))
    log = run / "progress.jsonl"
    if BEHAVIOUR == "refuses":
        tell({"kind": "failed", "message": "the folder is wrong. Correct it.", "data": {"code": 5}})
        return 5
    if BEHAVIOUR == "crashes at once":
        sys.stdout.write("ImportError: no such thing\n")
        return 1
    (run / "stop").unlink(missing_ok=True)
    tell({"kind": "start", "message": "Training", "data": {"device": "CPU, 2 cores"}}, log)
    tell({"kind": "scan", "message": "4 images", "data": {"tags": {"tumour": 3}}}, log)
    (run / "recipe.yaml").write_text("name: fake\n")
    picture = run / "0.ppm"
    picture.write_bytes(b"P6 64 48 255\n" + bytes(range(256)) * 36)
    tell({"kind": "preview", "data": {"file": str(picture)}}, log)
    for stage, epochs in (("stage1", 2), ("stage2", 3)):
        tell({"kind": "stage", "stage": stage, "epoch": 1, "epochs": epochs}, log)
        for epoch in range(1, epochs + 1):
            for step in range(1, 5):
                facts = {"stage": stage, "epoch": epoch, "epochs": epochs, "steps": 4}
                losses = {"loss": 2.0 / (epoch + step)}
                tell(
                    {"kind": "step", **facts, "step": step, "losses": losses, "seconds_left": 9.0,
                     "memory_mb": 900.0},
                    log,
                )  # fmt: skip
                time.sleep(STEP_SECONDS)
                if (run / "stop").exists():
                    tell({"kind": "stopped", "stage": stage}, log)
                    return 130
                if BEHAVIOUR == "fails" and stage == "stage2":
                    tell({"kind": "failed", "message": "the disk is full. Free some."}, log)
                    return 6
            tell({"kind": "epoch", **facts, "scores": {"miou": 0.1 * epoch}}, log)
    (run / "model.safetensors").write_bytes(b"a model")
    (run / "report.html").write_text("<html></html>")
    tell({"kind": "done", "message": "Wrote it.", "scores": {"mIoU (A)": 51.5}}, log)
    tell({"kind": "files", "model": str(run / "model.safetensors"),
          "listed": str(Path("models") / "fake.safetensors")})  # fmt: skip
    return 0


def plan() -> int:
    seconds = {"quick": 30, "balanced": 90, "best": 300}
    tell({"kind": "plan", "training_images": 40, "validation_images": 5, "measured": 0,
          "efforts": seconds, "memory_mb": 950, "device": "CPU, 2 cores"})  # fmt: skip
    return 0


def scan(folder: Path, masks: str = "") -> int:
    if BEHAVIOUR == "odd masks" and masks != "3=stroma":
        text = "the mask has the value 3 (25 %), which is not a class."
        facts = {"file": "a.png", "problem": "mask values", "text": text, "fatal": True}
        tell({"kind": "problem", **facts})
        tell({"kind": "folder", "usable": False})
        return 5
    if not folder.is_dir() or not any(folder.iterdir()):
        tell({"kind": "problem", "file": folder.name, "problem": "no images",
              "text": "there are no images. Choose another folder.", "fatal": True})  # fmt: skip
        tell({"kind": "folder", "usable": False})
        return 5
    tell({"kind": "counted", "what": "files", "done": 1, "total": 4})
    tell({"kind": "problem", "file": folder.name, "problem": "unknown mpp",
          "text": "nothing tells how large a pixel is.", "fatal": False})  # fmt: skip
    classes = [{"name": "tumour", "color": [200, 0, 0]}, {"name": "stroma", "color": [0, 200, 0]},
               {"name": "background", "color": [240, 240, 240]}]  # fmt: skip
    tell({"kind": "folder", "usable": True, "layout": "csv", "images": 4, "windows": 4, "groups": 2,
          "mpp": None, "tags": {"tumour": 3, "stroma": 2}, "with_truth": 0,
          "classes": {"classes": classes, "has_background": True},
          "samples": {"tumour": [str(p) for p in sorted(folder.glob("*.png"))[:3]],
                      "stroma": []}})  # fmt: skip
    return 0


def main(arguments: list[str]) -> int:
    if BEHAVIOUR == "sleeps":
        time.sleep(60)
    if arguments[0] == "scan":
        masks = arguments[arguments.index("--map") + 1] if "--map" in arguments else ""
        return scan(Path(arguments[1]), masks)
    return plan() if "--dry-run" in arguments else train(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""`plimseg train | evaluate | scan | cut`, in this process and in the one that `plimseg` starts."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from napari_plimseg import cli, models
from napari_plimseg.cli import program, train
from napari_plimseg.cli.console import TRAINING_COMMANDS
from napari_plimseg.models import library
from napari_plimseg.tissue import TissueClasses
from napari_plimseg.training_runs.events import Event
from napari_plimseg.training_runs.run_folder import RunFolder
from plimseg_training.__main__ import build_parser, main
from plimseg_training.config import shipped
from plimseg_training.config.recipe import DataConfig, Recipe, StageConfig, load_recipe
from plimseg_training.console import TrainingConsole, time_left
from plimseg_training.evaluation import EvaluationProgress
from plimseg_training.events import ProgressLog
from plimseg_training.loop.task import Stopped
from tests.support.trained_models import RGB_CLASSES, ChannelModel

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def patches(tmp_path: Path) -> Path:
    """Eight patches of four slides with tags in their names."""
    folder = tmp_path / "patches"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(8):
        pixels = rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"slide{i // 2}-{i}-[{i % 2} 1].png")
    RGB_CLASSES.to_yaml(tmp_path / "classes.yaml")
    return folder


@pytest.fixture
def recipe_file(tmp_path: Path, patches: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The default recipe, in a folder of recipes of its own."""
    folder = tmp_path / "recipes"
    folder.mkdir()
    stage = StageConfig(epochs=10, batch_size=4, learning_rate=1e-3)
    data = DataConfig(train=patches, classes=str(tmp_path / "classes.yaml"))
    Recipe(name="bundled", data=data, stage1=stage, stage2=stage).to_yaml(folder / "bundled.yaml")
    monkeypatch.setattr(shipped, "recipes_folder", lambda: folder)
    monkeypatch.chdir(tmp_path)
    return folder / "bundled.yaml"


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the pipeline was asked for, in place of training."""
    calls: list[dict[str, Any]] = []

    def train_recipe(recipe: Recipe, run_folder: Path, **options: Any) -> Path:
        calls.append({"recipe": recipe, "run_folder": run_folder, **options})
        log = ProgressLog(RunFolder(run_folder).progress)
        for event in (
            Event("start", "Training on CPU"),
            Event("epoch", stage="stage1", epoch=1, epochs=10, losses={"bce": 0.25},
                  scores={"miou": 0.5}),
            Event("done", "Wrote it."),
        ):  # fmt: skip
            log(event)
            options["on_event"](event)
        recipe.to_yaml(RunFolder(run_folder).recipe)
        RunFolder(run_folder).model_file.write_bytes(b"a model")
        return RunFolder(run_folder).model_file

    fake = SimpleNamespace(train_recipe=train_recipe)
    monkeypatch.setitem(sys.modules, "plimseg_training.pipeline", fake)
    return calls


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_the_guide_s_recipe_classes_and_commands_are_real(tmp_path: Path) -> None:
    guide = (Path(__file__).parents[2] / "docs" / "training.md").read_text("utf-8")
    classes, recipe = re.findall(r"```yaml\n(.*?)```", guide, re.DOTALL)
    (tmp_path / "classes.yaml").write_text(classes)
    assert TissueClasses.from_yaml(tmp_path / "classes.yaml").background_id == 3
    (tmp_path / "recipe.yaml").write_text(recipe)
    assert load_recipe(tmp_path / "recipe.yaml").data.train == tmp_path / "patches"
    commands = re.findall(r"^plimseg (.*?)(?:\s+#.*)?$", guide, re.MULTILINE)
    assert len(commands) >= 7
    for command in commands:
        words = shlex.split(command)
        parser = build_parser() if words[0] in TRAINING_COMMANDS else program.build_parser()
        parser.parse_args(words)


def test_a_folder_is_trained_with_the_default_recipe(
    recipe_file: Path,
    patches: Path,
    trained: list[dict[str, Any]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ["train", str(patches), "--set", "stage2.epochs=7", "--effort", "quick"]
    assert main(arguments) == 0
    (call,) = trained
    recipe = call["recipe"]
    assert (recipe.name, recipe.data.train) == ("patches", patches)
    assert (recipe.stage1.epochs, recipe.stage2.epochs) == (3, 7)
    assert call["run_folder"].resolve() == tmp_path / "runs" / "patches"
    printed = capsys.readouterr().out
    assert "stage1  epoch 1/10  bce 0.25  miou 50.0 %" in printed
    assert "in the list of models as 'patches'" in printed
    assert (library.models_folder() / "patches.safetensors").read_bytes() == b"a model"


def test_a_recipe_by_file_and_by_name(
    recipe_file: Path, trained: list[dict[str, Any]], tmp_path: Path
) -> None:
    for source in (str(recipe_file), "bundled"):
        out = tmp_path / f"run{len(trained)}"
        assert main(["train", source, "--out", str(out), "--no-list", "--quiet"]) == 0
        assert trained[-1]["recipe"] == load_recipe(recipe_file)
        assert trained[-1]["run_folder"] == out
    assert not library.models_folder().exists()


def test_json_lines_are_the_training_s_events(
    recipe_file: Path, trained: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", str(recipe_file), "--json"]) == 0
    seen = lines(capsys.readouterr().out)
    assert [e["kind"] for e in seen] == ["start", "epoch", "done", "files"]
    assert seen[1]["losses"] == {"bce": 0.25}
    assert seen[-1]["listed"].endswith("bundled.safetensors")


def test_a_run_folder_is_not_trained_in_twice_by_accident(
    recipe_file: Path, trained: list[dict[str, Any]], tmp_path: Path, capsys: Any
) -> None:
    out = str(tmp_path / "run")
    assert main(["train", str(recipe_file), "--out", out]) == 0
    assert main(["train", str(recipe_file), "--out", out]) == 6
    assert "--resume" in capsys.readouterr().err
    assert main(["train", "--resume", "--out", out]) == 0
    assert trained[-1]["resume"] is True
    assert trained[-1]["recipe"] == load_recipe(recipe_file)
    assert main(["train", "--resume", "--out", str(tmp_path / "none")]) == 6
    assert len(trained) == 2


def test_stopping_says_how_to_go_on(
    recipe_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def train_recipe(*args: Any, should_stop: Callable[[], bool], **options: Any) -> Path:
        assert not should_stop()
        os.kill(os.getpid(), signal.SIGTERM)
        assert should_stop()
        raise Stopped

    fake = SimpleNamespace(train_recipe=train_recipe)
    monkeypatch.setitem(sys.modules, "plimseg_training.pipeline", fake)
    assert main(["train", str(recipe_file), "--out", "run"]) == 143
    assert "plimseg train --resume --out run" in capsys.readouterr().out


def test_a_crash_is_one_sentence(
    recipe_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def train_recipe(*args: Any, **options: Any) -> Path:
        raise KeyError("a bug")

    fake = SimpleNamespace(train_recipe=train_recipe)
    monkeypatch.setitem(sys.modules, "plimseg_training.pipeline", fake)
    assert main(["train", str(recipe_file)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("plimseg: unexpected error: 'a bug' (KeyError).")
    assert "Traceback" not in error
    with pytest.raises(KeyError):
        main(["train", str(recipe_file), "--verbose"])


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["train"], 2, "there is nothing to train on"),
        (["train", "nowhere"], 2, "neither a recipe nor a folder"),
        (["train", "missing.yaml"], 2, "missing.yaml"),
        (["train", "bundled", "--set", "stage1.epoch=2"], 2, "did you mean 'epochs'"),
        (["train", "bundled", "--set", "stage1.epochs"], 2, "not key=value"),
        (["scan", "nowhere"], 5, "nowhere"),
        (["scan", "patches", "--classes", "lung"], 2, "neither a preset nor a YAML file"),
        (["scan", "patches", "--mpp", "900"], 2, "mpp"),
        (["evaluate", "bundled", "nowhere"], 5, "nowhere"),
        (["evaluate", "bundled", "patches", "--map", "gland"], 2, "does not match two classes"),
        (["cut", "a.svs", "b.geojson", "--out", "o", "--classes", "auto"], 2, "without classes"),
        (["cut", "a.svs", "b.geojson", "--out", "o", "--classes", "glas"], 3, "a.svs"),
    ],
)
def test_mistakes_have_their_exit_code_and_sentence(
    arguments: list[str],
    code: int,
    says: str,
    recipe_file: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(arguments) == code
    captured = capsys.readouterr()
    assert says in captured.err + captured.out
    assert "Traceback" not in captured.err
    assert main([*arguments, "--json"]) == code
    last = lines(capsys.readouterr().out)[-1]
    if arguments[0] == "scan" and code == 5:
        assert last == {"kind": "folder", "usable": False}
    else:
        assert (last["kind"], last["data"]) == ("failed", {"code": code})


def test_scan_prints_problems_and_tags(
    patches: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["scan", str(patches), "--classes", str(tmp_path / "classes.yaml")]
    assert main([*arguments, "--mpp", "0.5"]) == 0
    printed = capsys.readouterr().out
    assert "8 images" in printed
    assert "0.5 um/px" in printed
    assert [line.split() for line in printed.splitlines()[-2:]] == [
        ["red", "4", "windows"], ["green", "8", "windows"],
    ]  # fmt: skip
    capsys.readouterr()
    assert main([*arguments, "--json"]) == 0
    facts = lines(capsys.readouterr().out)[-1]
    assert [c["name"] for c in facts["classes"]["classes"]][:2] == ["red", "green"]
    assert len(facts["samples"]["red"]) == 4
    assert all(Path(path).is_file() for path in facts["samples"]["green"])
    (patches / "slide9-9-[1 1 0].png").write_bytes(next(patches.iterdir()).read_bytes())
    assert main(arguments) == 5
    assert "slide9-9-[1 1 0].png" in capsys.readouterr().out
    assert main([*arguments, "--json"]) == 5
    seen = lines(capsys.readouterr().out)
    assert any(e["kind"] == "problem" and e["fatal"] for e in seen)
    assert seen[-1] == {"kind": "folder", "usable": False}


def test_programs_are_told_how_far_a_pass_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    console = TrainingConsole(as_json=True)
    console.counted("files", 1, 9)
    assert capsys.readouterr().out == ""  # too soon
    now = time.monotonic() + 1
    monkeypatch.setattr("plimseg_training.console.time.monotonic", lambda: now)
    console.counted("files", 2, 9)
    console.counted("files", 3, 9)
    (told,) = lines(capsys.readouterr().out)
    assert told == {"kind": "counted", "what": "files", "done": 2, "total": 9}


def test_training_on_a_wrong_folder_shows_every_mistake(
    recipe_file: Path, patches: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("slide8-8-[1 1 0].png", "slide9-9-[1].png"):
        (patches / name).write_bytes(next(patches.iterdir()).read_bytes())
    assert main(["train", str(recipe_file), "--dry-run"]) == 5
    captured = capsys.readouterr()
    assert "slide8-8-[1 1 0].png" in captured.out
    assert "slide9-9-[1].png" in captured.out
    assert captured.err.startswith("plimseg: ")


def test_a_dry_run_says_what_would_be_trained(
    recipe_file: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["train", str(recipe_file), "--dry-run", "--json"]) == 0
    plan = lines(capsys.readouterr().out)[-1]
    assert plan["kind"] == "plan"
    assert plan["training_images"] + plan["validation_images"] == 8
    assert plan["validation_images"] > 0
    assert plan["recipe"]["stage1"]["epochs"] == 10
    assert plan["seconds"] >= 0
    quick, balanced, best = (plan["efforts"][name] for name in ("quick", "balanced", "best"))
    assert quick <= balanced <= best
    assert plan["memory_mb"] > 100
    assert plan["device"]
    assert plan["measured"] == 0
    assert main(["train", str(recipe_file), "--dry-run"]) == 0
    assert "stage 1  10 epochs, 4 images per step" in capsys.readouterr().out
    assert not (tmp_path / "runs").exists()


@pytest.fixture
def with_masks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two images whose colours are their truth, in the layout of published test parts."""
    truth = np.array([[0, 1], [0, 0]], np.uint8).repeat(32, 0).repeat(32, 1)
    for part in ("img", "mask"):
        (tmp_path / "data" / "test" / part).mkdir(parents=True)
    for name in ("a", "b"):
        rgb = np.zeros((64, 64, 3), np.uint8)
        rgb[truth == 0, 0] = rgb[truth == 1, 1] = 200
        Image.fromarray(rgb).save(tmp_path / "data" / "test" / "img" / f"{name}.png")
        Image.fromarray(truth + 1).save(tmp_path / "data" / "test" / "mask" / f"{name}.png")
    RGB_CLASSES.to_yaml(tmp_path / "classes.yaml")
    monkeypatch.setattr(models, "load_model", lambda name, classes=None: ChannelModel())
    return tmp_path / "data"


def test_evaluate_prints_and_writes_scores(
    with_masks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        *("evaluate", "model", str(with_masks), "--layout", "names", "--mpp", "0.5"),
        *("--classes", str(tmp_path / "classes.yaml"), "--device", "cpu"),
    ]
    files = ["--out", str(tmp_path / "s.json"), "--per-image", str(tmp_path / "s.csv")]
    assert main([*arguments, *files, "--tta"]) == 0
    printed = capsys.readouterr().out
    assert "channels on" in printed
    assert "A: tissue only, TTA" in printed
    written = json.loads((tmp_path / "s.json").read_text())
    assert written["results"][0]["miou"] > 0.99
    assert (tmp_path / "s.csv").read_text().count("\n") == 1 + 2 * 6
    assert main([*arguments, "--json", "--protocol", "A"]) == 0
    seen = lines(capsys.readouterr().out)
    assert [e["kind"] for e in seen] == ["progress", "progress", "evaluation"]
    assert len(seen[-1]["results"]) == 1


def test_test_images_need_no_option(
    with_masks: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    # one class is enough to be scored, and the model's classes are those of the masks
    folder = with_masks / "test"
    Image.fromarray(np.ones((64, 64), np.uint8)).save(folder / "mask" / "a.png")
    for name in ("img", "mask"):
        (folder / name / "b.png").unlink()
    assert main(["evaluate", "model", str(folder), "--mpp", "0.5", "--device", "cpu"]) == 0
    printed = capsys.readouterr().out
    assert "Classes of the masks, from the model: red, green, background." in printed
    assert "channels on test: 1 images" in printed
    # a model that reads text has no classes of its own
    assert main(["evaluate", "bundled", str(folder), "--device", "cpu"]) == 5
    assert "classes are unknown" in capsys.readouterr().err
    (tmp_path / "plain").mkdir()
    (folder / "img" / "a.png").rename(tmp_path / "plain" / "a.png")
    assert main(["evaluate", "model", str(tmp_path / "plain")]) == 5
    assert "there are no images with masks" in capsys.readouterr().err


def test_the_line_that_changes_is_for_terminals_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    step = Event("step", stage="stage1", epoch=2, epochs=9, step=3, steps=7, seconds_left=200.0)
    TrainingConsole().event(step)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    console = TrainingConsole()
    console.event(step)
    console.say("next")
    captured = capsys.readouterr()
    assert "stage1  epoch 2/9  step 3/7  3 min left" in captured.err
    assert captured.err.endswith("\r")
    assert captured.out == "next\n"
    monkeypatch.setenv("RANK", "1")
    TrainingConsole().event(Event("start", "hello"))
    assert capsys.readouterr().out == ""
    assert [time_left(s) for s in (5, 90, 9000)] == ["under a minute", "2 min", "2.5 h"]


def test_a_file_gets_a_line_of_progress_from_time_to_time(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = [0.0]
    monkeypatch.setattr("plimseg_training.console.time.monotonic", lambda: clock[0])
    console = TrainingConsole()
    for second in range(0, 60, 5):
        clock[0] = float(second)
        console.evaluated(EvaluationProgress(second, 60, "a", 300.0 - second))
    assert capsys.readouterr().err.splitlines() == [
        "20/60 images  a  5 min left",
        "40/60 images  a  4 min left",
    ]
    quiet = TrainingConsole(quiet=True)
    clock[0] = 99.0
    quiet.evaluated(EvaluationProgress(1, 60, "a", 300.0))
    assert capsys.readouterr().err == ""
    TrainingConsole(as_json=True).evaluated(EvaluationProgress(1, 60, "a", 300.0))
    assert json.loads(capsys.readouterr().out)["seconds_left"] == 300.0


def test_the_command_says_when_the_training_package_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert cli.main(["train", "x"]) == 2
    assert "'train' needs the training package" in capsys.readouterr().err


def test_arguments_output_and_exit_code_pass_through(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "napari_plimseg.cli", "scan", "no where", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 5
    assert "no where" in done.stdout
    # called from Python, the command runs beside this process
    assert cli.main(["scan", str(tmp_path / "no where"), "--quiet"]) == 5


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_reach_the_training_once(number: int, tmp_path: Path) -> None:
    child = (
        "import signal, sys, time\n"
        "seen = []\n"
        "for n in (signal.SIGINT, signal.SIGTERM):\n"
        "    signal.signal(n, lambda n, f: seen.append(n))\n"
        f"open({str(tmp_path / 'ready')!r}, 'w').close()\n"
        "while not seen: time.sleep(0.01)\n"
        "time.sleep(0.3)\n"
        "sys.exit(40 + len(seen))\n"
    )
    parent = (
        "import sys\n"
        "from napari_plimseg.cli.train import _supervised\n"
        f"sys.exit(_supervised([sys.executable, '-c', {child!r}]))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", parent])
    while not (tmp_path / "ready").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(number)
    assert process.wait(30) == 41


def test_a_killed_training_has_the_shell_s_exit_code() -> None:
    code = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    assert train._supervised([sys.executable, "-c", code]) == 128 + signal.SIGKILL

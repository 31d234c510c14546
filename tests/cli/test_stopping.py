"""SIGINT and SIGTERM end every long command alike: finish, keep, say how to resume."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from napari_plimseg import models
from napari_plimseg.cli import main
from napari_plimseg.cli.stopping import Finishing, Terminated
from napari_plimseg.results import MaskStore
from napari_plimseg.results.export.formats import FORMATS
from plimseg_training.__main__ import main as training_main
from tests.support.models import RED_GREEN, ColorModel, painted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import torch

    from napari_plimseg.tissue import TissueClasses

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
SIGNALS = [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]


@pytest.fixture(autouse=True)
def heard() -> Iterator[None]:
    """Hear SIGINT, which shells let jobs in their background ignore."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class SignalledModel(ColorModel):
    """Sends signals to its own process in the prediction of a given number."""

    def __init__(self, at: int, *numbers: int) -> None:
        super().__init__()
        self.at, self.numbers, self.predictions = at, numbers, 0

    def probabilities(self, images: torch.Tensor) -> torch.Tensor:
        self.predictions += 1
        if self.predictions == self.at:
            for number in self.numbers:
                os.kill(os.getpid(), number)
        return super().probabilities(images)


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Callable[[ColorModel], None]:
    def use(model: ColorModel) -> None:
        def load(name: str, classes: TissueClasses | None = None) -> ColorModel:
            return model

        monkeypatch.setattr(models, "load_model", load)

    return use


def picture(path: Path) -> str:
    Image.fromarray(painted(300, 600)).save(path)
    return str(path)


@pytest.mark.parametrize(("number", "code", "word"), SIGNALS)
def test_segment_finishes_the_tile_and_says_what_is_kept(
    number: int,
    code: int,
    word: str,
    use: Callable[[ColorModel], None],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    slides = [picture(tmp_path / name) for name in ("a.png", "b.png")]
    command = ["segment", *slides, "--mpp", "0.5", "--out", str(tmp_path / "o"), "--no-tissue"]
    command += ["--tile-size", "256", "--format", "csv", "--batch-size", "1"]
    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    use(SignalledModel(2, number))
    assert main(command) == code
    assert {n: signal.getsignal(n) for n in before} == before
    error = capfd.readouterr().err
    assert "stopping after this tile; a second signal stops at once" in error
    assert (
        f"plimseg: {word}; 0 of 2 slides are done and 2 of 6 tiles of 'a.png' are kept; run it "
        "again to continue"
    ) in error
    store = MaskStore.open(tmp_path / "o" / "a.plimseg")
    assert store.done_fraction == pytest.approx(2 / 6)
    again = SignalledModel(0)
    use(again)
    assert main(command) == 0
    assert again.predictions == 4 + 6
    assert (tmp_path / "o" / "b.areas.csv").is_file()


def test_a_signal_in_the_last_tile_of_all_changes_nothing(
    use: Callable[[ColorModel], None], tmp_path: Path
) -> None:
    command = ["segment", picture(tmp_path / "a.png"), "--mpp", "0.5", "--out", str(tmp_path)]
    use(SignalledModel(1, signal.SIGTERM))
    assert main([*command, "--format", "none", "--no-tissue"]) in (0, 143)
    assert MaskStore.open(tmp_path / "a.plimseg").done_fraction == 1


def test_a_second_signal_stops_at_once(
    use: Callable[[ColorModel], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["segment", picture(tmp_path / "a.png"), "--mpp", "0.5", "--out", str(tmp_path)]
    use(SignalledModel(1, signal.SIGINT, signal.SIGTERM))
    assert main([*command, "--no-tissue", "--format", "none"]) == 143
    assert "plimseg: terminated" in capsys.readouterr().err
    assert MaskStore.open(tmp_path / "a.plimseg").done_fraction == 0


@pytest.mark.parametrize(("number", "code", "word"), SIGNALS)
def test_export_keeps_the_files_that_are_written(
    number: int,
    code: int,
    word: str,
    use: Callable[[ColorModel], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    use(ColorModel())
    slide = picture(tmp_path / "a.png")
    assert main(["segment", slide, "--mpp", "0.5", "--out", str(tmp_path), "--format", "none"]) == 0
    write = FORMATS["csv"].write

    def signalled(path: Path, *others: object) -> Path:
        os.kill(os.getpid(), number)
        return write(path, *others)

    capsys.readouterr()
    object.__setattr__(FORMATS["csv"], "write", signalled)
    try:
        code_now = main(["export", str(tmp_path / "a.plimseg"), "--format", "geojson,csv"])
    finally:
        object.__setattr__(FORMATS["csv"], "write", write)
    assert code_now == code
    expected = f"plimseg: {word}; 1 of 2 files are written (a.geojson); run it again\n"
    assert capsys.readouterr().err == expected
    assert (tmp_path / "a.geojson").is_file()
    assert not (tmp_path / "a.areas.csv").exists()


@pytest.mark.parametrize(("number", "code", "word"), SIGNALS)
def test_evaluate_keeps_the_scores_of_finished_images(
    number: int,
    code: int,
    word: str,
    use: Callable[[ColorModel], None],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    for part in ("img", "mask"):
        (tmp_path / "data" / part).mkdir(parents=True)
    for i in range(3):
        pixels = painted(64, 64, i)
        Image.fromarray(pixels).save(tmp_path / "data" / "img" / f"{i}.png")
        truth = np.where(pixels[..., 0] > pixels[..., 1], 1, 2).astype(np.uint8)
        Image.fromarray(truth).save(tmp_path / "data" / "mask" / f"{i}.png")
    RED_GREEN.to_yaml(tmp_path / "classes.yaml")
    (tmp_path / "s.json").write_text("of all images")
    command = ["evaluate", "m", str(tmp_path / "data"), "--mpp", "0.5", "--device", "cpu"]
    command += ["--classes", str(tmp_path / "classes.yaml"), "--out", str(tmp_path / "s.json")]
    use(SignalledModel(2, number))
    assert training_main(command) == code
    captured = capfd.readouterr()
    assert "stopping after this image" in captured.err
    kept = "the scores of 2 of 3 images are above and in s.partial.json; run it again to score all"
    assert f"plimseg: {word}; {kept}" in captured.err
    assert "2.png  stopped before" in captured.out
    assert (tmp_path / "s.json").read_text() == "of all images"
    assert '"images": 2' in (tmp_path / "s.partial.json").read_text()


@pytest.mark.parametrize(("number", "code", "word"), SIGNALS)
def test_other_commands_end_in_one_sentence(
    number: int,
    code: int,
    word: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def load(name: str, classes: TissueClasses | None = None) -> ColorModel:
        os.kill(os.getpid(), number)
        return ColorModel()

    monkeypatch.setattr(models, "load_model", load)
    assert main(["segment", picture(tmp_path / "a.png"), "--mpp", "0.5"]) == code
    assert capsys.readouterr().err.startswith(f"plimseg: {word}; ")


def test_what_the_shell_lets_a_job_ignore_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Finishing("tile") as stop:
            os.kill(os.getpid(), signal.SIGINT)
            assert not stop()
            os.kill(os.getpid(), signal.SIGTERM)
            assert stop()
        with pytest.raises(Terminated):
            stop.raise_if_asked()
    finally:
        signal.signal(signal.SIGINT, before)

"""The report: whole HTML that needs nothing from outside and says what the run folder holds."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from napari_plimseg.errors import ConfigError
from napari_plimseg.tissue import COLORECTAL, GLAS
from napari_plimseg.training_runs import RunFolder
from napari_plimseg.training_runs.events import Event
from plimseg_training.evaluation.protocols import PROTOCOLS
from plimseg_training.evaluation.scoring import Evaluation, ImageScore, ProtocolResult, Skipped
from plimseg_training.events import ProgressLog, without_folders
from plimseg_training.report.html import heat_table, line_chart
from plimseg_training.report.previews import encoded, painted, preview_sheet
from plimseg_training.report.report import duration, seconds_of, write_report

VOID = {"meta", "img"}


class Checker(HTMLParser):
    """Fails on tags that do not close, and collects text, tags and addresses."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.text = ""
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        self.addresses += [v or "" for k, v in attrs if k in {"src", "href"}]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.text += data + "\n"


def checked(path: Path) -> Checker:
    html = path.read_text("utf-8")
    found = Checker()
    found.feed(html)
    assert not found.open
    assert all(address.startswith("data:image/") for address in found.addresses)
    # nothing is loaded from anywhere
    assert not re.search(r"https?://|@import|url\(|<script", html)
    return found


def evaluation() -> Evaluation:
    rng = np.random.default_rng(0)
    truth = rng.integers(1, 3, (40, 40), dtype=np.uint8)
    results = []
    for key in ("A", "C", "oeem"):
        score = PROTOCOLS[key].score(truth, np.roll(truth, 1, 0), GLAS)
        results.append(ProtocolResult(PROTOCOLS[key], False, score, (ImageScore("one", score),)))
    return Evaluation(
        "my model", "0" * 8, "glas", GLAS.names, tuple(results), 1,
        (Skipped("bad<file>.png", "it can't be decoded"),), ("A note.",), 1.5, "CPU, 2 cores",
    )  # fmt: skip


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    log = ProgressLog(tmp_path / "progress.jsonl")
    times = iter(range(1000, 2000, 10))
    log(Event("start", data={"device": "CPU"}, time=next(times)))
    for epoch in range(1, 4):
        log(
            Event(
                "epoch", stage="stage1", epoch=epoch, epochs=3, learning_rate=1e-3 / epoch,
                losses={"bce": 1 / epoch, "ftm": 2 / epoch}, scores={"miou": 0.5 + epoch / 10},
                memory_mb=123.0, time=next(times),
            )
        )  # fmt: skip
        if epoch == 2:
            log(Event("stopped", time=next(times)))
            log(Event("start", time=5000))
            times = iter(range(5010, 6000, 10))
    log(Event("warning", message="a batch had <no> finite loss", time=next(times)))
    log(Event("done", time=next(times)))
    (tmp_path / "recipe.yaml").write_text("name: 'my <run>'\nseed: 7\ndata:\n  train: x & y\n")
    (tmp_path / "folder.json").write_text(
        json.dumps(
            {
                "name": "patches", "layout": "names", "mpp": 0.5, "digest": "abc",
                "parts": {"training": {"images": 1200, "windows": 1200, "groups": 3,
                                       "with_truth": 0, "tags": {"gland": 7, "other": 9}}},
                "problems": [{"file": "x.png", "kind": "unreadable", "text": "It is empty.",
                              "fatal": False}],
                "problem_count": 1,
            }
        )
    )  # fmt: skip
    (tmp_path / "previews").mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (500, 700, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "previews" / "stage1_a.png")
    (tmp_path / "previews" / "broken.png").write_bytes(b"no picture")
    return tmp_path


def test_the_report_holds_everything_and_needs_nothing(run_folder: Path) -> None:
    path = write_report(run_folder, evaluations=[evaluation()], notes=["Look at the validation."])
    found = checked(path)
    for said in (
        "my <run>", "finished", "research use only", "Seed", "7", "x & y", "1,200", "unreadable",
        "It is empty.", "a batch had <no> finite loss", "OEEM-Dice", "C: oracle tags",
        "my model on glas: 1 images, 1 not scored", "Note: A note.", "stage1 a", "0.5 um",
        "Stage 1: CAM network", "Look at the validation.", "123 MB",
    ):  # fmt: skip
        assert said in found.text, said
    assert found.seen.count("svg") == 3
    assert found.seen.count("img") == 2
    assert path.stat().st_size < 1_000_000


def test_scores_come_from_files_too_and_equal_those_given(run_folder: Path) -> None:
    given = checked(write_report(run_folder, evaluations=[evaluation()])).text
    (run_folder / "evaluation-validation.json").write_text(json.dumps(evaluation().to_dict()))
    read = checked(write_report(run_folder)).text
    assert read == given
    miou = evaluation().result("A").score.miou
    assert f"{100 * miou:.2f}" in read


def test_an_empty_or_damaged_run_folder_still_gives_a_report(tmp_path: Path) -> None:
    assert "not started" in checked(write_report(tmp_path)).text
    (tmp_path / "folder.json").write_text("{")
    (tmp_path / "progress.jsonl").write_text('{"kind": "start", "time": 1}\n{"kind": "fail')
    (tmp_path / "evaluation.json").write_text("[]")
    assert "not finished" in checked(write_report(tmp_path)).text
    ProgressLog(tmp_path / "progress.jsonl")(Event("failed", message="no <memory>"))
    assert "failed: no <memory>" in checked(write_report(tmp_path)).text


def test_time_between_stopping_and_going_on_does_not_count() -> None:
    events = [
        Event("start", time=0), Event("epoch", time=30), Event("stopped", time=40),
        Event("start", time=1000), Event("done", time=1005),
    ]  # fmt: skip
    assert seconds_of(events) == 45
    assert [duration(s) for s in (45, 125, 3900)] == ["45 s", "2 min 05 s", "1 h 05 min"]


def test_charts_lie_where_their_numbers_are() -> None:
    svg = line_chart("Loss", {"a": [(1, 0.0), (2, 10.0)], "b": [(1, float("nan"))]})
    (points,) = re.findall(r'points="([^"]*)"', svg)
    (x0, y0), (x1, y1) = (map(float, p.split(",")) for p in points.split())
    assert x0 < x1
    ticks = {
        float(t): float(y) - 4
        for y, t in re.findall(r'y="([\d.]+)" text-anchor="end">([^<]+)', svg)
    }
    assert ticks[0] == pytest.approx(y0, abs=0.2)
    assert ticks[10] == pytest.approx(y1, abs=0.2)
    assert "</i>b" not in svg
    assert line_chart("Nothing", {"a": [], "b": [(1, float("inf"))]}) == ""
    rates = line_chart("Rates", {"a": [(1, 1e-3), (2, 2.5e-4)]})
    assert ">2.5e-4<" in rates
    assert "circle" in line_chart("One point", {"a": [(3, 5.0)]})
    assert "polyline" in line_chart("Flat", {"a": [(1, 0.0), (2, 0.0)]})


def test_heat_follows_the_share_of_the_row() -> None:
    html = heat_table(["a", "b"], [[3, 1], [0, 0]])
    assert "0.750" in html
    assert "75.0" in html
    assert html.count("–") == 2


def test_a_sheet_shows_every_panel_it_is_given() -> None:
    rgb = np.full((90, 120, 3), 180, np.uint8)
    cams = np.zeros((2, 10, 12))
    cams[0, :, :6] = 0.7
    mask = np.array([[1, 2], [0, 255]], np.uint8)
    small = preview_sheet(rgb, classes=GLAS, tags=[1, 0], name="a")
    full = preview_sheet(
        rgb, classes=GLAS, tags=[[1, 0], [0, 0]], cams=cams, pseudo_mask=mask, prediction=mask,
        truth=mask, name="a",
    )  # fmt: skip
    assert full.dtype == np.uint8
    assert full.shape[1] > small.shape[1]
    nine = preview_sheet(
        rgb, classes=COLORECTAL, tags=np.ones(8), cams=np.zeros((8, 4, 4)), truth=mask
    )
    assert nine.shape[1] <= 1366
    assert nine.shape[0] > full.shape[0]
    with pytest.raises(ConfigError, match="3 tags for 2"):
        preview_sheet(rgb, classes=GLAS, tags=[1, 0, 1])
    with pytest.raises(ConfigError, match="1 cams for 2"):
        preview_sheet(rgb, classes=GLAS, tags=[1, 0], cams=cams[:1])
    # the cam of the second class says nothing, so its panel is dark
    assert full[60:120, 390:510].mean() + 40 < small[60:120, 20:100].mean()
    assert encoded(full)[:2] == b"\xff\xd8"


def test_masks_are_painted_in_their_classes_colours() -> None:
    gray = np.full((8, 8, 3), 100, np.uint8)
    mask = np.array([[1, 2], [0, 255]], np.uint8)
    drawn = painted(gray, mask, [(200, 0, 0), (0, 200, 0)])
    assert drawn[0, 0].tolist() == [150, 50, 50]
    assert drawn[0, 7].tolist() == [50, 150, 50]
    # what nothing is said of looks like no class and like no tissue
    unknown = {tuple(p) for p in drawn[4:].reshape(-1, 3).tolist()}
    assert unknown == {(193, 193, 193), (128, 128, 128)}


PRIVATE = "/home/mrs o'brien/slides of smith"


@pytest.mark.parametrize(
    "folder", [PRIVATE, r"C:\Users\mrs o'brien\smith", r"\\server\smith", "~smith/x"]
)
def test_the_report_names_files_but_no_folders(tmp_path: Path, folder: str) -> None:
    between = "\\" if "\\" in folder else "/"
    file = f"{folder}{between}naïve patches of a study with a long name, twice as long as a line"
    recipe = {
        "name": "glands",
        "data": {"train": file, "more": [file], "validation": None},
        "model": {"backbone": f"local-dir:{file}"},
        "prompts": ["benign/normal", "1/2 of it"],
    }
    run = RunFolder(tmp_path)
    run.recipe.write_text(yaml.safe_dump(recipe), "utf-8")
    quoted = f"it can't be read: '{file}'" if "'" not in file else "it can't be read"
    log = ProgressLog(run.progress)
    log(Event("start"))
    log(Event("warning", quoted))
    log(Event("failed", quoted))
    page = checked(write_report(tmp_path, notes=[quoted]))
    for private in ("smith", "brien", "Users", "home", "server"):
        assert private not in page.text, page.text
    assert page.text.count("naïve patches of a study") >= 3
    assert "benign/normal" in page.text
    assert "local-dir:naïve" in page.text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("'/data/smith/a b.png' is damaged", "'a b.png' is damaged"),
        ("C:\\Users\\smith\\a.png: no", "a.png: no"),
        ("local-dir:/home/smith/encoder", "local-dir:encoder"),
        ("tumour/stroma, 1/2, and/or", "tumour/stroma, 1/2, and/or"),
        ("see https://example.org/a/b", "see https://example.org/a/b"),
    ],
)
def test_paths_in_a_text_are_shortened(text: str, shown: str) -> None:
    assert without_folders(text) == shown
    assert without_folders(f"{Path.home()}/a.png is damaged") == "a.png is damaged"

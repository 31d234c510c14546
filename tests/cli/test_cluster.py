"""`plimseg segment --cluster`: a scheduler and workers that were started by hand."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from napari_plimseg import models
from napari_plimseg.cli import main
from napari_plimseg.cli.cluster import state_table
from napari_plimseg.errors import SlideError
from napari_plimseg.inference import Cohort
from tests.support import worker_models
from tests.support.certificates import make_certificate
from tests.support.models import painted
from tests.support.paths import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


@contextlib.contextmanager
def started(folder: Path, tls: Sequence[str], count: int) -> Iterator[str]:
    """Start a scheduler and workers on ports of this computer; yield the scheduler's address."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT / "src"), str(ROOT)))}
    file = folder / "scheduler.json"

    def start(kind: str, *options: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", f"distributed.cli.dask_{kind}", "--host", "127.0.0.1"]
        command += ["--scheduler-file", str(file), "--dashboard-address", "127.0.0.1:0", *options]
        log = (folder / f"{kind}.log").open("ab")
        return subprocess.Popen([*command, *tls], env=environment, stdout=log, stderr=log)

    port = ("--port", "0", *(("--protocol", "tls") if tls else ()))
    processes = [start("scheduler", *port)]
    try:
        until = time.monotonic() + 60
        while not file.exists() and time.monotonic() < until:
            time.sleep(0.1)
        own = ("--no-nanny", "--nthreads", "2", "--local-directory", str(folder / "dask"))
        preload = ("--preload", "tests.support.worker_models")
        processes += [start("worker", *own, *preload) for _ in range(count)]
        yield json.loads(file.read_text())["address"]
    finally:
        for process in reversed(processes):
            process.kill()
            process.wait()


@pytest.mark.slow
@pytest.mark.loopback
@pytest.mark.skipif(os.name == "nt", reason="compares file names of POSIX")
@pytest.mark.parametrize("encrypted", [False, True])
def test_a_scheduler_and_workers_that_run_already(
    encrypted: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setenv(worker_models.LOG, str(tmp_path / "tiles"))
    monkeypatch.setattr(models, "load_model", worker_models.load)
    slides = tmp_path / "slides"
    slides.mkdir()
    for seed in range(3):
        Image.fromarray(painted(700, 700, seed)).save(slides / f"{seed}.png")
    (slides / "bad.png").write_bytes(b"no picture")
    command = ["segment", str(slides / "*.png"), "--mpp", "0.5", "--no-tissue", "--json"]
    command += ["--tile-size", "256", "--format", "csv,geojson", "--device", "cpu", "--out"]
    assert main([*command, str(tmp_path / "straight")]) == 8
    tls: list[str] = []
    if encrypted:
        certificate, key = make_certificate(tmp_path)
        tls = ["--tls-cert", str(certificate), "--tls-key", str(key)]
    authority = "--tls-ca"
    dask_tls = [*tls, "--tls-ca-file", tls[1]] if tls else []
    capsys.readouterr()
    with started(tmp_path, dask_tls, 1 if encrypted else 2) as address:
        assert address.startswith("tls://127" if encrypted else "tcp://127")
        own_tls = [*tls, authority, tls[1]] if tls else []
        cluster = ["--cluster", address, *own_tls]
        assert main([*command, str(tmp_path / "out"), *cluster]) == 8
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert told[0] == {"event": "cluster", "scheduler": address, "dashboard": None}
    names = {"0.png", "1.png", "2.png"}
    workers = {event["worker"] for event in told if event["event"] == "start"}
    assert len(workers) == (1 if encrypted else 2)
    assert {event["slide"] for event in told if event["event"] == "finished"} == names
    (error,) = (event for event in told if event["event"] == "error")
    assert (error["slide"], error["code"]) == ("bad.png", SlideError.exit_code)
    for path in (tmp_path / "straight").glob("*.*"):
        other = tmp_path / "out" / path.name
        assert other.is_dir() if path.is_dir() else other.read_bytes() == path.read_bytes()
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        p.name for p in (tmp_path / "straight").iterdir()
    }


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--cluster", "tcp://10.0.0.7:8786"], "can be reached by other computers without TLS"),
        (["--cluster", "tls://10.0.0.7:8786"], "needs certificates"),
        (["--cluster", "everywhere"], "'everywhere' is not a cluster"),
        (["--workers", "2"], "--workers is for --cluster"),
        (["--insecure"], "--insecure is for --cluster"),
        (["--cluster", "local", "--tls-ca", "a.pem"], "a file for TLS is missing"),
    ],
)
def test_refused_options(
    options: list[str],
    text: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(models, "load_model", worker_models.load)
    Image.fromarray(painted(64, 64)).save(tmp_path / "a.png")
    command = ["segment", str(tmp_path / "a.png"), "--out", str(tmp_path / "out")]
    assert main([*command, *options]) == 2
    error = capsys.readouterr().err
    assert text in error
    assert str(tmp_path) not in error


def test_the_table_counts_all_slides_and_names_those_at_work_and_failed(tmp_path: Path) -> None:
    cohort = Cohort()
    for number in range(60):
        cohort.add(tmp_path / f"slide-{number}.svs", look=False)
    paths = [item.path for item in cohort.items]
    assert state_table(cohort) == ["60 slides: 60 waiting"]
    cohort.start(paths[0], "worker-0")
    cohort.fail(paths[1], "slide 'slide-1.svs': it is damaged.")
    table = state_table(cohort)
    assert table[0] == "60 slides: 58 waiting, 1 running, 1 failed"
    assert [line.split() for line in table[1:]] == [
        ["slide-0.svs", "running", "on", "worker-0"],
        ["slide-1.svs", "failed", "slide", "'slide-1.svs':", "it", "is", "damaged."],
    ]
    for path in paths[2:]:
        cohort.fail(path, "broken")
    assert len(state_table(cohort)) == 22
    assert state_table(cohort)[-1] == "  and 40 more"


def test_the_table_is_drawn_again_in_place_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from napari_plimseg.cli.console import Output

    output: Any = Output()
    output.table(lambda: ["one"])
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    output.table(lambda: ["one", "two"])
    output.table(lambda: ["too soon"])
    output.say("a slide is done")
    output.table(lambda: ["three"])
    captured = capsys.readouterr()
    assert captured.err == "one\ntwo\n\033[2F\033[Jthree\n"
    assert captured.out == "a slide is done\n"

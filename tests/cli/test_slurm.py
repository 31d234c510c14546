"""`plimseg segment --cluster slurm` with a SLURM of one node, where it is installed.

`apt-get install --no-install-recommends slurmctld slurmd slurm-client munge`, and root.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from napari_plimseg import models
from napari_plimseg.cli import main
from tests.support import worker_models
from tests.support.models import painted
from tests.support.paths import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scancel", "sinfo")
PATH = f"{os.environ.get('PATH', '')}{os.pathsep}/usr/sbin"
CONFIGURATION = """
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
CredType=cred/munge
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
ReturnToService=2
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


@pytest.fixture
def slurm(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Start a SLURM of one node in a folder of its own; yield that folder."""
    if any(shutil.which(name, path=PATH) is None for name in PROGRAMS) or os.geteuid() != 0:
        pytest.skip("SLURM and munge are not installed here, or we are not root")
    dask = pytest.importorskip("dask")
    pytest.importorskip("dask_jobqueue")
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="slurm-")))
        folder.chmod(0o755)  # munge wants its socket to be reachable
        for name in ("state", "spool", "jobs"):
            (folder / name).mkdir()
        (folder / "key").write_bytes(os.urandom(1024))
        (folder / "key").chmod(0o400)
        ports = []
        for _ in range(2):
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                ports.append(free.getsockname()[1])
        text = CONFIGURATION.format(
            host=socket.gethostname().partition(".")[0],
            folder=folder,
            ports=ports,
            cpus=os.cpu_count(),
        )
        (folder / "slurm.conf").write_text(text)
        monkeypatch.setenv("PATH", PATH)
        monkeypatch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(ROOT / "src"), str(ROOT))))
        munge = [
            f"--{option}={folder}/munge.{option}"
            for option in ("pid-file", "log-file", "seed-file")
        ]
        munge += [f"--socket={folder}/munge.sock", f"--key-file={folder}/key"]
        for command in (
            ["munged", "--foreground", "--force", *munge],
            ["slurmctld", "-D"],
            ["slurmd", "-D"],
        ):
            log = stack.enter_context((folder / f"{command[0]}.log").open("wb"))
            process = subprocess.Popen(command, stdout=log, stderr=log)
            stack.callback(process.wait)
            stack.callback(process.terminate)
            time.sleep(0.5)
        until = time.monotonic() + 20
        while b"idle" not in told("sinfo", "-h") and time.monotonic() < until:
            time.sleep(0.5)
        if b"idle" not in told("sinfo", "-h"):
            pytest.skip("SLURM does not start here")
        options = {
            "cores": 1, "memory": "1GB", "job-directives-skip": ["--mem"], "interface": "lo",
            "log-directory": str(folder / "jobs"),
        }  # fmt: skip
        config = {f"jobqueue.slurm.{key}": value for key, value in options.items()}
        preload = {"jobqueue.slurm.worker-extra-args": ["--preload", "tests.support.worker_models"]}
        with dask.config.set({**config, **preload}):
            yield folder


def told(*command: str) -> bytes:
    return subprocess.run(command, capture_output=True, check=False).stdout


@pytest.mark.slow
@pytest.mark.loopback
def test_slides_are_jobs_of_slurm_and_a_cancelled_job_costs_nothing(
    slurm: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(models, "load_model", worker_models.load)
    monkeypatch.setenv(worker_models.LOG, str(tmp_path / "tiles"))
    slides = tmp_path / "slides"
    slides.mkdir()
    for seed in range(3):
        Image.fromarray(painted(900, 900, seed)).save(slides / f"{seed}.png")
    command = ["segment", str(slides / "*.png"), "--mpp", "0.5", "--no-tissue", "--json"]
    command += ["--tile-size", "256", "--format", "csv,geojson", "--device", "cpu", "--out"]
    assert main([*command, str(tmp_path / "straight")]) == 0
    capsys.readouterr()
    monkeypatch.setenv(worker_models.SECONDS, "0.15")
    # cancels one of the two jobs when the first tiles are there
    watch = 'while [ "$(wc -l < "$0")" -lt "$1" ]; do sleep 0.2; done; '
    watch += "scancel $(squeue -h -o %i | head -n 1)"
    before = len((tmp_path / "tiles").read_text().splitlines())
    watcher = subprocess.Popen(["sh", "-c", watch, str(tmp_path / "tiles"), str(before + 4)])
    try:
        assert main([*command, str(tmp_path / "out"), "--cluster", "slurm", "--workers", "2"]) == 0
        assert watcher.wait(5) == 0
    finally:
        watcher.kill()
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert sum(event["event"] == "finished" for event in events) == 3
    (note,) = (event["text"] for event in events if event["event"] == "note")
    assert "was lost; another one continues" in note
    for path in (tmp_path / "straight").glob("*.*"):
        other = tmp_path / "out" / path.name
        assert other.is_dir() if path.is_dir() else other.read_bytes() == path.read_bytes()
    until = time.monotonic() + 10
    while told("squeue", "-h") and time.monotonic() < until:
        time.sleep(0.5)  # cancelled jobs are ending
    assert told("squeue", "-h") == b""

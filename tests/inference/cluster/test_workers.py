"""Workers that are started or found: who can reach them, and which are refused."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from napari_plimseg._version import __version__
from napari_plimseg.errors import ConfigError, PlimsegError
from napari_plimseg.inference import ClusterChoice, Workers
from napari_plimseg.inference.cluster import workers as module
from napari_plimseg.inference.cluster.workers import slurm_cluster
from tests.support.certificates import make_certificate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.loopback


def listening(process: psutil.Process) -> set[str]:
    found = [process, *process.children(recursive=True)]
    return {
        c.laddr.ip
        for p in found
        for c in p.net_connections("tcp")
        if c.status == psutil.CONN_LISTEN
    }


@pytest.mark.slow
def test_only_this_computer_reaches_local_workers(tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    own = psutil.Process()
    before = set(own.children(recursive=True))
    folder = tmp_path / "out"
    with Workers(ClusterChoice("local", workers=1), device="cpu", folder=folder) as workers:
        workers.refresh()
        assert listening(own) == {"127.0.0.1"}
        assert workers.address.startswith(("tcp://127.0.0.1:", "tls://127.0.0.1:"))
        assert [info.name for info in workers.usable.values()] == ["worker-0"]
        assert workers.refused == []
    assert set(own.children(recursive=True)) - before <= {
        p for p in own.children(recursive=True) if "resource_tracker" in " ".join(p.cmdline())
    }
    assert list(folder.iterdir()) == []


@pytest.fixture
def sbatch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """A command of that name, and a usual configuration of dask."""
    dask = pytest.importorskip("dask")
    pytest.importorskip("dask_jobqueue")
    if os.name == "nt":
        pytest.skip("SLURM is not for Windows")
    command = tmp_path / "bin" / "sbatch"
    command.parent.mkdir()
    command.write_text("#!/bin/sh\nexit 1\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}{os.pathsep}{os.environ['PATH']}")
    config = {
        "cores": 8, "memory": "24GB", "queue": "gpu", "account": "path", "walltime": "08:00:00",
        "job-extra-directives": ["--gres=gpu:1"], "scheduler-options": {"host": "127.0.0.1"},
    }  # fmt: skip
    with dask.config.set({f"jobqueue.slurm.{key}": value for key, value in config.items()}):
        yield config


def test_the_job_that_slurm_gets(sbatch: dict[str, Any], tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    choice = ClusterChoice("slurm", tls_ca=certificate, tls_cert=certificate, tls_key=key)
    with slurm_cluster(choice, needs_gpu=True, shared=tmp_path) as cluster:
        script = cluster.job_script()
    for line in (
        "#SBATCH -p gpu", "#SBATCH -A path", "#SBATCH -n 1", "#SBATCH --cpus-per-task=8",
        "#SBATCH --mem=23G", "#SBATCH -t 08:00:00", "#SBATCH --gres=gpu:1",
    ):  # fmt: skip
        assert line in script.splitlines()
    command = script.splitlines()[-1]
    assert " -m distributed.cli.dask_worker tls://127.0.0.1:" in command
    assert " --nthreads 8 " in command  # one slide at a time, with all cores of the job
    assert " --no-dashboard --resources GPU=1 " in command
    assert f" --tls-ca-file {certificate} " in command
    assert f" --tls-key {key}" in command
    assert "--nworkers" not in command


def test_a_job_without_certificates_on_this_computer(sbatch: dict[str, Any]) -> None:
    with slurm_cluster(ClusterChoice("slurm", insecure=True)) as cluster:
        command = cluster.job_script().splitlines()[-1]
    assert " -m distributed.cli.dask_worker tcp://127.0.0.1:" in command
    assert "tls" not in command
    assert "GPU" not in command


def test_what_a_job_may_use_has_to_be_configured(sbatch: dict[str, Any]) -> None:
    import dask

    with (
        dask.config.set({"jobqueue.slurm.cores": None}),
        pytest.raises(
            ConfigError, match=r"Set cores and memory .* in ~/.config/dask/jobqueue.yaml"
        ),
    ):
        slurm_cluster(ClusterChoice("slurm", insecure=True))


def test_jobs_are_sent_where_slurm_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("dask_jobqueue")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="no command 'sbatch'"):
        slurm_cluster(ClusterChoice("slurm", insecure=True))


def test_a_device_of_one_worker_is_no_choice_for_all(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="workers can't use the device 'cuda:1'"):
        Workers(ClusterChoice("local"), device="cuda:1", folder=tmp_path)


def test_no_scheduler_at_an_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr(module, "_CONNECT_SECONDS", 0.5)
    with pytest.raises(PlimsegError, match=r"no dask scheduler answers at 'tcp://127.0.0.1:9'"):
        Workers(ClusterChoice("tcp://127.0.0.1:9"), device="auto", folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


class FakeClient:
    """Knows workers by what they say, and who can reach them."""

    def __init__(self, found: dict[str, Any], scheduler: str = "tcp://127.0.0.1:1") -> None:
        self.found, self.address = found, scheduler

    def nthreads(self) -> dict[str, int]:
        return dict.fromkeys(self.found, 1)

    def run(self, *_: object, workers: list[str], on_error: str) -> dict[str, Any]:
        return {address: self.found[address] for address in workers}

    def scheduler_info(self) -> dict[str, Any]:
        return {"address": self.address}


def found(tmp_path: Path, *facts: Any, device: str = "auto") -> Workers:
    """Return workers as if the scheduler had those that answer with these facts."""
    workers = Workers.__new__(Workers)
    workers.choice = ClusterChoice("tcp://127.0.0.1:1")
    workers.needs_gpu = device == "cuda"
    workers.usable, workers.refused, workers._known, workers._jobs = {}, [], set(), None
    workers._probe = tmp_path / "probe"
    workers.client = FakeClient({f"tcp://10.0.0.1:{n}": fact for n, fact in enumerate(facts)})
    return workers


FACTS = {"id": "a", "name": "n", "version": __version__, "threads": 2, "gpus": 0,
         "sees_results": True}  # fmt: skip


@pytest.mark.parametrize(
    ("facts", "device", "text"),
    [
        (
            {**FACTS, "version": "0.0.1"},
            "auto",
            rf"worker n has .* 0\.0\.1, this program is {__version__}",
        ),
        (ModuleNotFoundError("No module named 'napari_plimseg'"), "auto", "has no napari-plimseg"),
        (AttributeError("no worker_facts"), "auto", "Install the same version for all"),
        ({**FACTS, "sees_results": False}, "auto", "does not see the folder for results"),
        (FACTS, "cuda", "worker n has no GPU.*--resources GPU=1"),
        (ValueError("odd"), "auto", r"can't be used \(odd\)"),
    ],
)
def test_a_worker_that_can_t_be_used_is_refused_with_the_reason(
    facts: Any, device: str, text: str, tmp_path: Path
) -> None:
    workers = found(tmp_path, facts, {**FACTS, "id": "b", "gpus": 1}, device=device)
    workers.refresh()
    workers.refresh()
    assert [info.id for info in workers.usable.values()] == ["b"]
    (reason,) = workers.refused
    assert str(tmp_path) not in reason
    assert re.search(text, reason)


def test_a_worker_that_goes_is_no_longer_usable(tmp_path: Path) -> None:
    workers = found(tmp_path, FACTS, OSError("gone"))
    workers.refresh()
    assert [info.name for info in workers.usable.values()] == ["n"]
    workers.client.found = {"tcp://10.0.0.1:7": {**FACTS, "name": "tcp://10.0.0.1:7"}}
    workers.refresh()
    assert [info.name for info in workers.usable.values()] == ["10.0.0.1:7"]


def test_a_scheduler_or_worker_that_others_reach_is_refused(tmp_path: Path) -> None:
    workers = found(tmp_path, FACTS)
    with pytest.raises(ConfigError, match=r"the worker 10.0.0.1:0 can be reached by other"):
        workers._check_exposure()
    workers.client.found = {}
    workers._check_exposure()
    workers.client.address = "tcp://192.168.1.2:8786"
    with pytest.raises(ConfigError, match="the scheduler can be reached by other"):
        workers._check_exposure()
    workers.client.address = "tls://192.168.1.2:8786"
    workers._check_exposure()

"""Which workers may be used: without TLS only those of this computer."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from napari_plimseg.errors import ConfigError
from napari_plimseg.inference import ClusterChoice
from napari_plimseg.inference.cluster.choice import is_exposed, require
from tests.support.certificates import make_certificate

if TYPE_CHECKING:
    from pathlib import Path

OWN = ["tcp://127.0.0.1:8786", "tcp://127.1.2.3:1", "tcp://localhost:8786", "tcp://[::1]:8786"]
OTHERS = [
    "tcp://10.0.0.7:8786", "tcp://0.0.0.0:8786", "tcp://node7.example.org:8786",
    "tcp://localhost.example.org:8786", "tcp://[2001:db8::1]:8786", "tcp://127.0.0.1.example:1",
]  # fmt: skip
NO_PLACE = [
    "", "Local", "here", "8786", "127.0.0.1:8786", "http://127.0.0.1:8786", "tcp://127.0.0.1",
    "tcp://127.0.0.1@evil:8786", "tcp://127.0.0.1:8786/x", "inproc://127.0.0.1/1/1", "tcp://:8786",
    "tcp://127.0.0.1:8786\n", "ucx://127.0.0.1:8786", "tcp://a b:1",
]  # fmt: skip


@pytest.mark.parametrize("where", ["local", "slurm", *OWN])
def test_workers_of_this_computer_need_no_certificate(where: str) -> None:
    choice = ClusterChoice(where)
    assert choice.is_address == where.startswith("tcp")


@pytest.mark.parametrize("where", OTHERS)
def test_another_computer_needs_tls_or_the_word_insecure(where: str) -> None:
    with pytest.raises(ConfigError, match=r"can be reached by other computers without TLS.*--ins"):
        ClusterChoice(where)
    assert ClusterChoice(where, insecure=True).security() is None
    assert is_exposed(where)
    assert not is_exposed(where.replace("tcp", "tls"))


@pytest.mark.parametrize("where", NO_PLACE)
def test_anything_else_is_no_cluster(where: str) -> None:
    with pytest.raises(ConfigError, match="is not a cluster"):
        ClusterChoice(where, insecure=True)


@pytest.mark.parametrize(
    ("facts", "text"),
    [
        ({"where": "local", "workers": -1}, "not a number of workers"),
        ({"where": OWN[0], "workers": 2}, "started on their computers"),
        ({"where": "tls://a:1", "tls_ca": "ca"}, "a file for TLS is missing"),
        ({"where": "tls://a:1", "tls_key": "ca"}, "a file for TLS is missing"),
        (
            {"where": "tls://a:1", "tls_ca": "none.pem", "tls_cert": "ca"},
            "'none.pem': .* not exist",
        ),
        ({"where": OWN[0], "tls_ca": "ca", "tls_cert": "ca"}, "an address without TLS"),
    ],
)
def test_contradicting_choices(facts: dict[str, Any], text: str, tmp_path: Path) -> None:
    (tmp_path / "ca").touch()
    named = {key: tmp_path / v if key.startswith("tls") else v for key, v in facts.items()}
    with pytest.raises(ConfigError, match=text):
        ClusterChoice(**named)


def test_certificates_from_options_and_from_dask_s_configuration(tmp_path: Path) -> None:
    dask = pytest.importorskip("dask")
    pytest.importorskip("distributed")
    with pytest.raises(ConfigError, match="needs certificates"):
        ClusterChoice("tls://node7:8786").security()
    certificate, key = make_certificate(tmp_path)
    given = ClusterChoice("tls://node7:8786", tls_ca=certificate, tls_cert=certificate, tls_key=key)
    found = given.security()
    assert found is not None
    assert found.require_encryption
    assert found.get_tls_config_for_role("worker")["key"] == str(key)
    tls = {"ca-file": str(certificate)}
    for role in ("client", "scheduler", "worker"):
        tls |= {f"{role}.cert": str(certificate), f"{role}.key": str(key)}
    with dask.config.set({f"distributed.comm.tls.{name}": value for name, value in tls.items()}):
        for where in ("tls://node7:8786", "slurm", "local"):
            configured = ClusterChoice(where).security()
            assert configured is not None
            assert configured.tls_client_cert == str(certificate)
    key.write_text("damaged")
    with pytest.raises(ConfigError, match="files for TLS can't be used"):
        given.security()


def test_jobs_of_slurm_need_certificates_unless_they_are_on_this_computer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dask = pytest.importorskip("dask")
    pytest.importorskip("dask_jobqueue")
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "cryptography" else find(name)
    )
    with pytest.raises(ConfigError, match=r"over the network.*cryptography.*--insecure"):
        ClusterChoice("slurm").security()
    assert ClusterChoice("slurm", insecure=True).security() is None
    assert ClusterChoice("local").security() is None
    with dask.config.set({"jobqueue.slurm.scheduler-options": {"host": "127.0.0.1"}}):
        assert ClusterChoice("slurm").security() is None
    with (
        dask.config.set({"jobqueue.slurm.interface": "none7"}),
        pytest.raises(ConfigError, match="no network interface 'none7'"),
    ):
        ClusterChoice("slurm").security()
    if sys.platform == "linux":
        with dask.config.set({"jobqueue.slurm.interface": "lo"}):
            assert ClusterChoice("slurm").security() is None


def test_temporary_certificates_where_they_can_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    distributed = pytest.importorskip("distributed")
    pytest.importorskip("dask_jobqueue")
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: find("json" if name == "cryptography" else name)
    )
    made = object()
    monkeypatch.setattr(distributed.Security, "temporary", lambda: made)
    for where in ("slurm", "local"):
        assert ClusterChoice(where).security() is made


def test_ctrl_c_is_what_it_was_when_slurm_is_used() -> None:
    pytest.importorskip("distributed")
    code = (
        "import signal, threading; from napari_plimseg.inference.cluster.choice import jobqueue; "
        "before = signal.getsignal(signal.SIGINT); found = []; "
        "thread = threading.Thread(target=lambda: found.append(jobqueue())); "
        "thread.start(); thread.join(); "
        "print(signal.getsignal(signal.SIGINT) is before, found[0].SLURMCluster.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True SLURMCluster\n"


def test_a_missing_package_is_named_with_its_remedy() -> None:
    with pytest.raises(ConfigError, match=r"'no-such-package'.*napari-plimseg\[cluster\]"):
        require("no_such_package")

"""Starts workers, or connects to those of a scheduler, and knows which can be used."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import shutil
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from napari_plimseg._version import __version__
from napari_plimseg.errors import ConfigError, PlimsegError
from napari_plimseg.files import scratch_folder, temporary_prefix
from napari_plimseg.inference.cluster.choice import (
    LOCAL,
    LOOPBACK,
    SLURM,
    ClusterChoice,
    cpu_count,
    exposed,
    is_exposed,
    jobqueue,
)
from napari_plimseg.inference.cluster.slide_task import SHARED, other_version, worker_facts
from napari_plimseg.inference.devices import available_devices

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType

    from dask_jobqueue import SLURMCluster
    from distributed import Client, SpecCluster
    from distributed.deploy.cluster import Cluster


GPU = "GPU"
"""The resource of workers that have a GPU: `dask worker --resources GPU=1`."""
_CONNECT_SECONDS = 20
_LOGS = logging.CRITICAL
_HTTP = f"{LOOPBACK}:0"
"""Where dask's pages are shown: they have no password."""


@dataclass(frozen=True)
class WorkerInfo:
    """A worker that can be used.

    Parameters
    ----------
    address : str
        As dask names it.
    id : str
        Of this process: a worker that is started again has another.
    name : str
        For people.
    threads : int
        CPU threads of its model.
    """

    address: str
    id: str
    name: str
    threads: int


class Workers:
    """The workers of a run.

    Use it as a context manager. Leaving it ends workers that it started, but not those of a
    scheduler that was running before.

    Attributes
    ----------
    client : distributed.Client
    dashboard : str
        Address of dask's own pages; empty when the scheduler can't show them.
    usable : dict of str to WorkerInfo
        By address, as of the last `refresh`.
    refused : list of str
        Why workers can't be used, each once.
    """

    def __init__(self, choice: ClusterChoice, *, device: str, folder: Path) -> None:
        """Start workers, or connect to a scheduler.

        Parameters
        ----------
        choice : ClusterChoice
        device : str
            As of `RunSettings`. "cuda" takes only workers with the resource GPU.
        folder : Path
            For results; every worker must see it.

        Raises
        ------
        PlimsegError
            When a package is missing, no scheduler answers, or connections are not protected.
        """
        if device.startswith("cuda:"):
            raise ConfigError(
                f"workers can't use the device '{device}'",
                remedy="Each worker has its own GPU: give --device cuda, and choose GPUs with "
                "CUDA_VISIBLE_DEVICES where workers are started.",
            )
        self.choice = choice
        self.needs_gpu = device == "cuda"
        self.usable: dict[str, WorkerInfo] = {}
        self.refused: list[str] = []
        self._known: set[str] = set()
        self._jobs: SLURMCluster | None = None
        self._stack = contextlib.ExitStack()
        security = choice.security()
        from distributed import Client

        for name in ("distributed", "tornado"):
            # lost workers and connections are reported by the run
            logging.getLogger(name).setLevel(_LOGS)
        try:
            self._probe = self._stack.enter_context(_probe(folder))
            target: str | Cluster = choice.where
            if choice.where == LOCAL:
                target = local_cluster(choice, device, self._stack.enter_context(scratch_folder()))
            elif choice.where == SLURM:
                target = slurm_cluster(choice, needs_gpu=self.needs_gpu, shared=folder)
                self._jobs = target
            if not isinstance(target, str):
                self._stack.callback(target.close, timeout=30)
            self.client: Client = self._stack.enter_context(
                Client(
                    target,
                    security=security if isinstance(target, str) else None,
                    set_as_default=False,
                    timeout=_CONNECT_SECONDS,
                    direct_to_workers=False,
                )
            )
            if not choice.insecure:
                self._check_exposure()
            self.dashboard = self._dashboard()
        except OSError as error:
            self._stack.close()
            raise PlimsegError(
                f"no dask scheduler answers at '{choice.where}'"
                if choice.is_address
                else f"no workers could be started ({error})",
                remedy="Check its address, that it runs, and its certificates."
                if choice.is_address
                else None,
            ) from error
        except BaseException:
            self._stack.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    @property
    def address(self) -> str:
        """The scheduler's address."""
        return str(self.client.scheduler.address)

    def refresh(self) -> None:
        """Update `usable` and `refused`.

        Raises
        ------
        PlimsegError
            When the scheduler is lost.
        """
        try:
            present = set(self.client.nthreads())
            new = sorted(present - self._known)
            facts = self._facts(new) if new else {}
        except (OSError, RuntimeError) as error:
            raise PlimsegError(
                "the connection to the scheduler is lost",
                remedy="Finished tiles are kept; run it again to continue.",
            ) from error
        self._known = present
        if self._jobs is not None:
            # also sends jobs in place of those that reached their time limit
            self._jobs.scale(jobs=self.choice.workers or 1)
        self.usable = {address: i for address, i in self.usable.items() if address in present}
        for address, found in facts.items():
            try:
                info = self._checked(address, found)
            except PlimsegError as error:
                if str(error) not in self.refused:
                    self.refused.append(str(error))
            else:
                if info is not None:
                    self.usable[address] = info

    def _facts(self, addresses: list[str]) -> dict[str, Any]:
        own = self.choice.where == LOCAL
        self._probe.touch()  # where other computers write, a file of yesterday counts as left over
        found: dict[str, Any] = self.client.run(
            worker_facts, str(self._probe), own, workers=addresses, on_error="return"
        )
        return found

    def _checked(self, address: str, found: Any) -> WorkerInfo | None:
        """Return what is known of a usable worker; None of one that is gone already."""
        name = address.partition("://")[2]
        if isinstance(found, OSError):
            self._known.discard(address)
            return None
        if isinstance(found, ModuleNotFoundError) and "plimseg" in str(found):
            raise ConfigError(
                f"the worker {name} has no napari-plimseg", remedy="Install it where workers run."
            )
        if isinstance(found, AttributeError | ImportError | TypeError):
            raise other_version(name, "of another version", __version__)
        if isinstance(found, Exception):
            raise PlimsegError(f"the worker {name} can't be used ({found})")
        if "://" not in found["name"]:
            name = found["name"]
        if found["version"] != __version__:
            raise other_version(name, found["version"], __version__)
        if not found["sees_results"]:
            raise ConfigError(
                f"the worker {name} does not see the folder for results",
                path=self._probe.parent,
                remedy=SHARED,
            )
        if self.needs_gpu and not found["gpus"]:
            raise ConfigError(
                f"the worker {name} has no GPU",
                remedy=f"Start it with --resources {GPU}=1, or leave out --device cuda.",
            )
        return WorkerInfo(address, found["id"], name, found["threads"])

    def _check_exposure(self) -> None:
        if is_exposed(str(self.client.scheduler_info()["address"])):
            raise exposed("the scheduler")
        for address in self.client.nthreads():
            if is_exposed(address):
                raise exposed(f"the worker {address.partition('://')[2]}")

    def _dashboard(self) -> str:
        """Return the address of dask's pages, which the scheduler shows only if it has bokeh."""
        if self.choice.is_address:
            versions = self.client.get_versions(packages=["bokeh"])
            has = bool(versions["scheduler"]["packages"].get("bokeh"))
        else:
            has = importlib.util.find_spec("bokeh") is not None
        return str(self.client.dashboard_link) if has else ""


def local_cluster(choice: ClusterChoice, device: str, scratch: Path) -> SpecCluster:
    """Start processes of this computer: one per GPU, else one per two CPUs.

    Parameters
    ----------
    choice : ClusterChoice
    device : str
        As of `RunSettings`.
    scratch : Path
        Folder for dask's own files.
    """
    from distributed import Nanny, Scheduler, SpecCluster

    gpus = _gpus() if device in ("auto", "cuda") else []
    count = choice.workers or len(gpus) or max(1, cpu_count() // 2)
    security = choice.security()
    common: dict[str, Any] = {
        "host": LOOPBACK,
        "protocol": "tls" if security else "tcp",
        "security": security,
        "dashboard_address": _HTTP,
    }
    worker = {
        **common,
        "nthreads": max(1, cpu_count() // count),
        "memory_limit": None,  # dask would kill a worker that needs more than its share
        "local_directory": str(scratch),
        "silence_logs": _LOGS,
    }
    workers = {}
    for number in range(count):
        options = dict(worker)
        if gpus:
            options["env"] = {"CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)]}
            options["resources"] = {GPU: 1}
        workers[f"worker-{number}"] = {"cls": Nanny, "options": options}
    return SpecCluster(
        workers=workers,
        scheduler={"cls": Scheduler, "options": {**common, "port": 0}},
        security=security,
        silence_logs=_LOGS,
    )


def slurm_cluster(
    choice: ClusterChoice, *, needs_gpu: bool = False, shared: Path | None = None
) -> SLURMCluster:
    """Return a scheduler whose workers will be jobs of SLURM; no job is sent yet.

    What a job is like is in dask's configuration, under `jobqueue.slurm`: cores, memory, walltime,
    queue, account, interface.

    Parameters
    ----------
    choice : ClusterChoice
    needs_gpu : bool
        Whether the workers have the resource GPU. The configuration has to ask SLURM for it.
    shared : Path, optional
        A folder that jobs see, for temporary certificates.
    """
    package = jobqueue()
    import dask

    if shutil.which("sbatch") is None:
        raise ConfigError(
            "this computer has no command 'sbatch'", remedy="Run it where jobs are sent from."
        )
    security = choice.security()
    config = dask.config.get("jobqueue.slurm")
    if not (config.get("cores") and config.get("memory")):
        raise ConfigError(
            "dask's configuration does not say what a job may use",
            remedy="Set cores and memory under 'jobqueue: slurm:' in ~/.config/dask/jobqueue.yaml.",
        )
    extra = [*config["worker-extra-args"], "--no-dashboard"]
    if needs_gpu and "--resources" not in extra:
        extra += ["--resources", f"{GPU}=1"]
    places = config["shared-temp-directory"] or (None if shared is None else str(shared.resolve()))
    return package.SLURMCluster(
        processes=config["processes"] or 1,
        protocol="tls://" if security else "tcp://",
        security=security,
        shared_temp_directory=places,
        worker_extra_args=extra,
        scheduler_options={"dashboard_address": _HTTP, **config["scheduler-options"]},
        silence_logs=_LOGS,
    )


def _gpus() -> list[str]:
    """Return what CUDA_VISIBLE_DEVICES is for each GPU; one empty text for that of a Mac."""
    import torch

    if torch.cuda.is_available():
        chosen = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        named = [part.strip() for part in chosen.split(",") if part.strip()]
        count = torch.cuda.device_count()
        return named[:count] if named else [str(number) for number in range(count)]
    return [""] if "mps" in available_devices() else []


@contextlib.contextmanager
def _probe(folder: Path) -> Iterator[Path]:
    """Yield a file in the folder for results, which workers look for."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder.resolve() / f"{temporary_prefix('partial')}{uuid.uuid4().hex}"
    path.touch()
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)

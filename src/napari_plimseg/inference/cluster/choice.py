"""Which workers segment the slides of a run, and how connections to them are protected.

A dask scheduler runs whatever anyone who reaches it sends, and so does a worker. So both listen to
this computer only, unless their connections are encrypted and authenticated (TLS), or the user
insists.
"""

from __future__ import annotations

import importlib.util
import ipaddress
import os
import re
import signal
import ssl
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_plimseg.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from distributed import Security


LOCAL, SLURM = "local", "slurm"
LOOPBACK = "127.0.0.1"
REMEDY = 'Install it with: pip install "napari-plimseg[cluster]"'
_ADDRESS = re.compile(r"(tcp|tls)://(\[[0-9a-fA-F:.]+\]|[\w.-]+):(\d{1,5})", re.ASCII)
_importing = threading.Lock()
_TLS_OPTIONS = "--tls-ca, --tls-cert and --tls-key"
_IN_CONFIG = "distributed.comm.tls in dask's configuration"


def require(package: str) -> None:
    """Check that an optional package is installed, without importing it.

    Raises
    ------
    ConfigError
        When it is not; the remedy is the extra to install.
    """
    if importlib.util.find_spec(package) is None:
        name = package.replace("_", "-")
        raise ConfigError(f"workers need the package '{name}', which is missing", remedy=REMEDY)


def jobqueue() -> Any:
    """Return the package dask_jobqueue, without what it does to Ctrl-C.

    When it is imported it lets SIGINT exit the process, which would lose what is kept and said, and
    fails in a thread of the docks, where no signal can be handled.
    """
    require("distributed")
    require("dask_jobqueue")
    with _importing:
        handle = signal.signal
        signal.signal = lambda *_: None
        try:
            import dask_jobqueue
        finally:
            signal.signal = handle
    return dask_jobqueue


def is_loopback(host: str) -> bool:
    """Whether only this computer reaches a host: a number such as 127.0.0.1, or localhost."""
    host = host.strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_exposed(address: str) -> bool:
    """Whether other computers may reach an address of dask without TLS."""
    found = _ADDRESS.fullmatch(address)
    return found is None or (found[1] == "tcp" and not is_loopback(found[2]))


@dataclass(frozen=True)
class ClusterChoice:
    """Where slides are segmented.

    Parameters
    ----------
    where : str
        "local": processes of this computer; "slurm": jobs; or the address of a dask scheduler,
        "tcp://127.0.0.1:8786" or "tls://node7:8786".
    workers : int
        How many workers to start: processes, or jobs of SLURM. 0 chooses: one per GPU, else one
        per two CPUs; one job.
    tls_ca, tls_cert, tls_key : Path or None
        Files in PEM format: the authority that signed all certificates, a certificate, and its key
        unless the certificate's file holds it.
    insecure : bool
        Whether connections that other computers can reach may be without TLS.
    """

    where: str = LOCAL
    workers: int = 0
    tls_ca: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    insecure: bool = False

    def __post_init__(self) -> None:
        if self.workers < 0:
            raise ConfigError(f"{self.workers} is not a number of workers")
        if (self.tls_ca is None) != (self.tls_cert is None) or (
            self.tls_key is not None and self.tls_cert is None
        ):
            raise ConfigError("a file for TLS is missing", remedy=f"Give {_TLS_OPTIONS}.")
        for path in filter(None, (self.tls_ca, self.tls_cert, self.tls_key)):
            if not path.is_file():
                raise ConfigError("the file for TLS does not exist", path=path)
        if self.where in (LOCAL, SLURM):
            return
        found = _ADDRESS.fullmatch(self.where)
        if found is None:
            raise ConfigError(
                f"'{self.where}' is not a cluster",
                remedy="Write local, slurm, or the address of a dask scheduler, such as "
                "tcp://127.0.0.1:8786 or tls://host:8786.",
            )
        if self.workers:
            raise ConfigError(
                "the workers of a scheduler are started on their computers",
                remedy="Leave out the number of workers; start them with 'dask worker'.",
            )
        if found[1] == "tcp" and self.tls_ca is not None:
            raise ConfigError(
                f"'{self.where}' is an address without TLS",
                remedy=f"Write tls://{found[2]}:{found[3]}.",
            )
        if is_exposed(self.where) and not self.insecure:
            raise exposed(f"the scheduler at '{found[2]}'")

    @property
    def is_address(self) -> bool:
        """Whether workers are those of a scheduler that runs already."""
        return self.where not in (LOCAL, SLURM)

    def security(self) -> Security | None:
        """Return how connections are protected; None leaves them without TLS.

        Raises
        ------
        ConfigError
            When TLS is needed and there is no usable certificate.
        """
        require("distributed")
        from distributed import Security

        if self.tls_ca is not None and self.tls_cert is not None:
            names = ("tls_client", "tls_scheduler", "tls_worker")
            parts: dict[str, Any] = {"tls_ca_file": str(self.tls_ca)}
            parts |= {f"{name}_cert": str(self.tls_cert) for name in names}
            parts |= {f"{name}_key": self.tls_key and str(self.tls_key) for name in names}
            return _usable(Security(require_encryption=True, **parts))
        configured = Security()
        if self.is_address:
            if self.where.startswith("tcp:"):
                return None
            if not (configured.tls_ca_file and configured.tls_client_cert):
                raise ConfigError(
                    f"'{self.where}' needs certificates",
                    remedy=f"Give {_TLS_OPTIONS}, or set {_IN_CONFIG}.",
                )
            return _usable(configured)
        if configured.tls_ca_file and configured.tls_scheduler_cert and configured.tls_worker_cert:
            configured.require_encryption = True
            return _usable(configured)
        if self.where == SLURM and (self.insecure or _slurm_is_loopback()):
            return None
        if importlib.util.find_spec("cryptography") is not None:
            return Security.temporary()
        if self.where == LOCAL:
            return None
        raise ConfigError(
            "jobs of SLURM connect to this computer over the network, which needs certificates",
            remedy="Install the package cryptography, which makes temporary ones, or give "
            f"{_TLS_OPTIONS}, or set {_IN_CONFIG}. In a network where you trust everyone: "
            "--insecure.",
        )


def exposed(what: str) -> ConfigError:
    """Return the error for a scheduler or a worker that others can reach without TLS."""
    return ConfigError(
        f"{what} can be reached by other computers without TLS: whoever reaches it can run "
        "anything there",
        remedy="Use tls:// with certificates, or start it with --host 127.0.0.1 and reach it "
        "through 'ssh -L'. In a network where you trust everyone: plimseg segment --insecure.",
    )


def cpu_count() -> int:
    """Return how many CPUs this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # of Linux
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _slurm_is_loopback() -> bool:
    """Whether dask's configuration has the scheduler for SLURM listen to this computer only."""
    jobqueue()  # adds its part of the configuration
    import dask
    from distributed.utils import get_ip_interface

    options = dask.config.get("jobqueue.slurm.scheduler-options") or {}
    if host := options.get("host"):
        return is_loopback(str(host))
    interface = options.get("interface") or dask.config.get("jobqueue.slurm.interface")
    try:
        return interface is not None and is_loopback(get_ip_interface(interface))
    except ValueError as error:
        raise ConfigError(
            f"this computer has no network interface '{interface}'",
            remedy="Correct jobqueue.slurm.interface in dask's configuration.",
        ) from error


def _usable(security: Security) -> Security:
    """Check that the certificates of a client can be loaded."""
    try:
        context = security.get_connection_args("client")["ssl_context"]
    except (OSError, ssl.SSLError) as error:
        reason = getattr(error, "strerror", None) or getattr(error, "reason", None) or error
        raise ConfigError(
            f"the files for TLS can't be used ({reason})",
            remedy="They must be in PEM format, and key and certificate belong together.",
        ) from error
    if context is None:
        raise ConfigError("the files for TLS can't be used", remedy=f"Give {_TLS_OPTIONS}.")
    return security

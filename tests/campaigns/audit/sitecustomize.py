"""Runs at the start of every Python child of the privacy campaign: counts what leaves the machine.

The environment gives the log, the host name to pretend, and the guard to take out.
"""

from __future__ import annotations

import os
import platform
import socket
import sys

LOG = os.environ.get("PLIMSEG_AUDIT_LOG", "")
HOST = os.environ.get("PLIMSEG_AUDIT_HOST", "")
WATCHED = {
    "socket.connect", "socket.sendto", "socket.sendmsg", "socket.bind", "socket.getaddrinfo",
    "socket.gethostbyname", "socket.gethostbyaddr", "socket.getnameinfo", "urllib.Request",
    "http.client.connect", "ftplib.connect", "smtplib.connect",
}  # fmt: skip


def watch(event: str, arguments: tuple[object, ...]) -> None:
    """Note an event of the network; local sockets of the window system are none."""
    if event not in WATCHED:
        return
    first = arguments[0] if arguments else None
    if isinstance(first, socket.socket) and first.family == getattr(socket, "AF_UNIX", -1):
        return
    line = f"{event} {[a for a in arguments if not isinstance(a, socket.socket)]!r}\n"
    descriptor = os.open(LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(descriptor, line.encode("utf-8", "replace"))
    os.close(descriptor)


if LOG:
    sys.addaudithook(watch)
if HOST:
    socket.gethostname = lambda: HOST
    socket.getfqdn = lambda name="": HOST
    platform.node = lambda: HOST
if os.environ.get("PLIMSEG_CAMPAIGN_WITHOUT"):
    from tests.campaigns.privacy import GUARDS
    from tests.campaigns.report import guards_switched_off

    _guards = guards_switched_off(GUARDS)

"""systemd's notification protocol and socket activation (sd_notify(3), sd_listen_fds(3))."""

import asyncio
import os
import socket
import time
from collections.abc import Callable, Mapping

_FIRST_PASSED = 3


class Systemd:
    """Says to systemd how the service is, if it was started by it."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        usec = environment.get("WATCHDOG_USEC", "")
        mine = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self._watchdog = int(usec) / 1_000_000 if usec.isdigit() and mine else None

    def notify(self, *lines: str) -> None:
        """Send lines like READY=1 or STATUS=text; nothing without systemd."""
        if not self._address:
            return
        # An address that begins with @ is in the abstract namespace.
        target = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.connect(target)
            sender.sendall("\n".join(lines).encode())

    def reloading(self) -> None:
        """Say that the configuration is being read again; READY=1 ends it."""
        self.notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    async def beat(self, status: Callable[[], str]) -> None:
        """Ping the watchdog from the event loop and tell the status until cancelled.

        A loop that is stuck does not ping, and the service is started again.
        """
        told = ""
        while True:
            lines = ["WATCHDOG=1"] if self._watchdog else []
            if status() != told:
                told = status()
                lines.append(f"STATUS={told}")
            if lines:
                self.notify(*lines)
            await asyncio.sleep(min(5.0, self._watchdog / 3) if self._watchdog else 5.0)


def passed_sockets(environment: Mapping[str, str]) -> list[socket.socket]:
    """Return the listening sockets that systemd passed on."""
    if environment.get("LISTEN_PID") != str(os.getpid()):
        return []
    number = int(environment.get("LISTEN_FDS", "0"))
    return [socket.socket(fileno=fd) for fd in range(_FIRST_PASSED, _FIRST_PASSED + number)]

"""Notifies a service manager of our state, by systemd's protocol (sd_notify(3)). Standard library only."""

from __future__ import annotations

import contextlib
import os
import socket


class ServiceNotify:
    """Sends nothing without NOTIFY_SOCKET. Removes that variable from the environment: children must not send."""

    def __init__(self) -> None:
        address = os.environ.pop("NOTIFY_SOCKET", None)
        # A leading @ stands for the abstract namespace.
        self._address = None if address is None else address.replace("@", "\0", 1)

    def send(self, **facts: str) -> None:
        """Send facts such as READY="1", STATUS="...", STOPPING="1", WATCHDOG="1".

        Errors are ignored. A datagram is dropped if the manager's queue is full: the daemon never waits for it.
        """
        if self._address is None:
            return
        message = "\n".join(f"{key}={value}" for key, value in facts.items()).encode()
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.setblocking(False)
            channel.sendto(message, self._address)

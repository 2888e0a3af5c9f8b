"""Tells a service manager how we are, by systemd's datagram protocol (sd_notify(3)). Standard library only."""

from __future__ import annotations

import contextlib
import os
import socket


class ServiceNotify:
    """Silent where there is no NOTIFY_SOCKET. The variable is taken out of the environment: children must not speak."""

    def __init__(self) -> None:
        address = os.environ.pop("NOTIFY_SOCKET", None)
        # A leading @ stands for the abstract namespace.
        self._address = None if address is None else address.replace("@", "\0", 1)

    def send(self, **facts: str) -> None:
        """READY="1", STATUS="...", STOPPING="1", WATCHDOG="1". A manager that does not listen is no trouble of ours.

        Nor is one that has stopped reading: a datagram for which its queue has no room is dropped, never waited for.
        """
        if self._address is None:
            return
        message = "\n".join(f"{key}={value}" for key, value in facts.items()).encode()
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.setblocking(False)
            channel.sendto(message, self._address)

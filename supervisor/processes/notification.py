"""Sends a message to the Apprise addresses in state/notify (https://github.com/caronc/apprise/wiki).

The file has one address a line; # starts a comment. Addresses hold passwords: the file must be private to its owner,
and texts name an address by its scheme and position only.

A child process sends (`python -P -m supervisor.processes.notification`): Apprise takes 0.2 s to load, services are
slow, and the daemon's loop must not wait.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import stat
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from supervisor.errors import UnsafeFile, UsageError, WorkerFailed
from supervisor.processes.environment import passed_environment
from supervisor.processes.json_worker import JsonWorker, python_module

MAX_BYTES = 64 * 1024
MAX_ADDRESSES = 20
SEND_WITHIN_S = 30.0
PROXIES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")


@dataclass(frozen=True)
class Outcome:
    """Says whether at least one address was reached, and why the others failed."""

    reached: bool
    problem: str | None = None


async def send_message(addresses: list[str], title: str, body: str, within_s: float) -> Outcome:
    """Send one message by a child process that is killed after `within_s` seconds."""
    sender = JsonWorker(python_module(__name__), passed_environment(PROXIES), within_s)
    try:
        failures = dict(await sender.ask({"addresses": addresses, "title": title, "body": body}))
    except WorkerFailed as error:
        # Without its last words: a service's plug-in may have printed the address.
        return Outcome(False, f"the sender {error.problem}")
    except (ValueError, TypeError):
        return Outcome(False, "the sender answered with something other than a JSON object")
    problem = "; ".join(f"{address}: {why}" for address, why in failures.items())
    return Outcome(len(failures) < len(addresses), problem or None)


def read_addresses(path: Path) -> list[str]:
    """Return the addresses in the file `path`; empty if there is no file. Raises UnsafeFile, UsageError."""
    try:
        return _parsed(path, _content(path))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UnsafeFile(f"{path} cannot be read: {error.strerror}", remedy=f"make {path} a plain file") from error


def _content(path: Path) -> bytes:
    """Return the first MAX_BYTES + 1 bytes. Raises OSError; UnsafeFile if others than the owner have access."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
            raise UnsafeFile(f"{path} is not private to you", remedy=f"chown it to yourself and `chmod 600 {path}`")
        return os.read(descriptor, MAX_BYTES + 1)
    finally:
        os.close(descriptor)


def _parsed(path: Path, data: bytes) -> list[str]:
    lines = [line.strip() for line in data.decode(errors="replace").splitlines()]
    addresses = [line for line in lines if line and not line.startswith("#")]
    cure = f"write one address a line into {path}, such as ntfy://my-topic; Apprise's wiki lists the services"
    for number, line in enumerate(lines, start=1):
        if line in addresses and "://" not in line:
            raise UsageError(f"{path}, line {number}: expected SERVICE://..., found no ://", remedy=cure)
    if len(addresses) > MAX_ADDRESSES or len(data) > MAX_BYTES:
        raise UsageError(f"{path} holds more than {MAX_ADDRESSES} addresses or {MAX_BYTES} bytes", remedy=cure)
    return addresses


# --- in the child process ---


def deliver(addresses: Sequence[str], title: str, body: str) -> dict[str, str]:
    """Send the message to each address; return the failures, by scheme and position of the address."""
    failures = {}
    for number, address in enumerate(addresses, start=1):
        if (problem := _deliver_to(address, title, body)) is not None:
            failures[f"{address.partition('://')[0][:20]} (address {number})"] = problem
    return failures


def _deliver_to(address: str, title: str, body: str) -> str | None:
    try:
        import apprise
    except ImportError:
        return "the package apprise is not installed: `pip install apprise`"
    service = apprise.Apprise()
    if not service.add(address):
        return "Apprise does not know this kind of address"
    return None if service.notify(title=title, body=body) else "the service did not accept the message"


def main() -> None:
    """Read the message from standard input, send it, and write the failures to standard output."""
    logging.getLogger("apprise").setLevel(logging.CRITICAL)
    json.dump(deliver(**json.load(sys.stdin)), sys.stdout)


if __name__ == "__main__":
    main()

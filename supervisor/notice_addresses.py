"""state/notify: where messages go, one Apprise address a line (https://github.com/caronc/apprise/wiki); # is a comment.

Addresses hold passwords, so the file must be its owner's alone, and what is said of one is its scheme only.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from supervisor.errors import UnsafeFile, UsageError

MAX_BYTES = 64 * 1024
MAX_ADDRESSES = 20


def read_addresses(path: Path) -> list[str]:
    """The addresses; none for a file that is not there. Raises UnsafeFile, UsageError for what is no address."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UnsafeFile(f"{path} cannot be read: {error.strerror}", remedy=f"make {path} a plain file") from error
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
            raise UnsafeFile(f"{path} is not yours alone", remedy=f"chown it to yourself and `chmod 600 {path}`")
        return _parsed(path, file.read(MAX_BYTES + 1))


def _parsed(path: Path, data: bytes) -> list[str]:
    lines = [line.strip() for line in data.decode(errors="replace").splitlines()]
    addresses = [line for line in lines if line and not line.startswith("#")]
    cure = f"one address a line in {path}, such as ntfy://my-topic; Apprise's wiki lists the services"
    for number, line in enumerate(lines, start=1):
        if line in addresses and "://" not in line:
            raise UsageError(f"{path}, line {number} is no address", remedy=cure)
    if len(addresses) > MAX_ADDRESSES or len(data) > MAX_BYTES:
        raise UsageError(f"{path} holds more than {MAX_ADDRESSES} addresses or {MAX_BYTES} bytes", remedy=cure)
    return addresses


def scheme(address: str) -> str:
    """What may be said of an address: never its user, password or topic."""
    return address.partition("://")[0][:20]

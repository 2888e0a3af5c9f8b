"""state/notify: where messages go, one Apprise address a line (https://github.com/caronc/apprise/wiki); # is a comment.

Addresses hold passwords, so the file must be its owner's alone, and what is said of one is its scheme only.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from supervisor.errors import UnsafeFile, UsageError

MAX_BYTES = 64 * 1024
MAX_ADDRESSES = 20


def read_addresses(path: Path) -> list[str]:
    """The addresses; none for a file that is not there. Raises UnsafeFile, UsageError for what is no address."""
    try:
        return _parsed(path, _content(path))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UnsafeFile(f"{path} cannot be read: {error.strerror}", remedy=f"make {path} a plain file") from error


def _content(path: Path) -> bytes:
    """Its first MAX_BYTES + 1. Raises OSError, also for a folder; UnsafeFile for what is not its owner's alone."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
            raise UnsafeFile(f"{path} is not yours alone", remedy=f"chown it to yourself and `chmod 600 {path}`")
        return os.read(descriptor, MAX_BYTES + 1)
    finally:
        os.close(descriptor)


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

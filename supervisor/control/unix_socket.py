"""Makes the unix socket of the control API: bound beside its path, then renamed; only for its owner.

asyncio's own server would unlink a live socket of another process (cpython #121252), and aiohttp's UnixSite leaves the
mode to the umask; so the socket is made here.
"""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path

from supervisor.errors import UnsafeFolder
from supervisor.home import SOCKET_PATH_MAX_BYTES

BACKLOG = 64


def bind(path: Path) -> socket.socket:
    """Return a listening socket at `path`, 0600. The caller holds the home's lock, so a file there is stale.

    Raises UnsafeFolder for a path over the platform's limit, OSError otherwise.
    """
    beside = path.with_suffix(f".{os.getpid()}")
    if len(os.fsencode(beside)) > SOCKET_PATH_MAX_BYTES:
        raise UnsafeFolder(f"{path} is too long for a unix socket", remedy="use a shorter runtime folder")
    beside.unlink(missing_ok=True)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        made.bind(str(beside))
        beside.chmod(0o600)
        made.listen(BACKLOG)
        made.setblocking(False)
        beside.rename(path)
    except OSError:
        made.close()
        beside.unlink(missing_ok=True)
        raise
    return made


def inode(path: Path) -> int | None:
    """Return the inode at `path`; None when a cleaner of /tmp has removed it."""
    try:
        return path.lstat().st_ino
    except FileNotFoundError:
        return None


_UCRED = struct.Struct("3i")
"""pid, uid, gid (unix(7))."""
_XUCRED = struct.Struct("2Ihxx16I")
"""version, uid, number of groups, groups (sys/ucred.h of macOS)."""
_SOL_LOCAL, _LOCAL_PEERCRED = 0, 1
"""sys/un.h of macOS; Python's socket module does not name them."""


def peer_uid(connection: socket.socket) -> int | None:
    """Return the user id at the other end; None where the platform has none (then the file's mode protects)."""
    # Not sys.platform: the type checker would call one of the branches unreachable.
    option = getattr(socket, "SO_PEERCRED", None)
    try:
        if option is not None:
            return int(_UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, option, _UCRED.size))[1])
        return uid_of_xucred(connection.getsockopt(_SOL_LOCAL, _LOCAL_PEERCRED, _XUCRED.size))
    except OSError:
        return None


def uid_of_xucred(raw: bytes) -> int | None:
    """Return the user id in LOCAL_PEERCRED's structure (unix(4) of macOS); None for another version or size."""
    if len(raw) != _XUCRED.size:
        return None
    version, uid, *_ = _XUCRED.unpack(raw)
    return int(uid) if version == 0 else None

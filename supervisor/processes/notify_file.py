"""Reads state/notify: the addresses for messages, the dead-man ping's address, the time of the daily digest.

    ntfy://my-topic                  an address of Apprise's (https://github.com/caronc/apprise/wiki), one a line
    ping = https://hc-ping.com/...   asked for every few minutes while the daemon lives
    digest = 08:00                   the daily digest's local time, or off

# starts a comment, behind an address after a blank. Addresses hold passwords: the file must be private to its owner,
and texts name an address by its scheme and position only.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from dataclasses import dataclass, replace
from datetime import time
from pathlib import Path

from supervisor.errors import SweepError, UnsafeFile, UsageError
from supervisor.formatting import nearest

MAX_BYTES = 64 * 1024
MAX_ADDRESSES = 20
DIGEST_AT = time(8)
"""The time of the digest when the file names none."""
_SETTING = re.compile(r"([A-Za-z_]+)\s*=\s*(.*?)(?:\s+#.*)?")
_COMMENT = re.compile(r"\s+#.*")
_TIME = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")
KNOWN = ("ping", "digest")


@dataclass(frozen=True)
class NotifySettings:
    """Holds what state/notify asks for; without a file nothing is sent."""

    addresses: tuple[str, ...] = ()
    ping: str | None = None
    digest_at: time | None = DIGEST_AT


def read_settings(path: Path) -> NotifySettings:
    """Return the settings in the file `path`, the defaults if there is none. Raises UnsafeFile, UsageError."""
    try:
        return _parsed(path, _content(path))
    except FileNotFoundError:
        return NotifySettings()
    except OSError as error:
        raise UnsafeFile(f"{path} cannot be read: {error.strerror}", remedy=f"make {path} a plain file") from error


def label(number: int, address: str) -> str:
    """Return the name of an address in texts: its scheme and its position in the file, from 1."""
    return f"{address.partition('://')[0][:20]} (address {number})"


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


def _parsed(path: Path, data: bytes) -> NotifySettings:
    found = NotifySettings()
    # An editor may begin the file with a byte order mark.
    for number, raw in enumerate(data.decode("utf-8-sig", errors="replace").splitlines(), start=1):
        line, place = raw.strip(), f"{path}, line {number}"
        if not line or line.startswith("#"):
            continue
        setting = _SETTING.fullmatch(line)
        if setting is not None:
            found = _with_setting(found, place, setting[1].lower(), setting[2].strip())
        elif "://" in line:
            address = _COMMENT.sub("", line)
            found = replace(found, addresses=tuple(dict.fromkeys([*found.addresses, address])))
        else:
            raise _wrong(f"{place}: expected SERVICE://..., found no ://")
    if len(found.addresses) > MAX_ADDRESSES or len(data) > MAX_BYTES:
        raise _wrong(f"{path} holds more than {MAX_ADDRESSES} addresses or {MAX_BYTES} bytes")
    return found


def _with_setting(found: NotifySettings, place: str, name: str, value: str) -> NotifySettings:
    """Return the settings with one more line. Its value is not quoted: it may be secret."""
    if name == "ping":
        if not value.startswith(("https://", "http://")):
            expected = f"{place}: expected ping = https://..., found no http address"
            raise UsageError(expected, remedy="copy the URL of the check")
        return replace(found, ping=value)
    if name == "digest":
        clock = _TIME.fullmatch(value)
        if clock is None and value.lower() != "off":
            raise UsageError(f"{place}: expected digest = HH:MM or off", remedy="write digest = 08:00")
        return replace(found, digest_at=None if clock is None else time(int(clock[1]), int(clock[2])))
    known = f"expected an address or one of {', '.join(KNOWN)}"
    raise UsageError(f"{place}: {known}, found the name {name[:20]}", remedy=nearest(name, KNOWN) or "remove the line")


def _wrong(message: str) -> SweepError:
    return UsageError(
        message, remedy="write one address a line, such as ntfy://my-topic; Apprise's wiki lists the services"
    )

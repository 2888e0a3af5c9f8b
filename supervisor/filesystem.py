"""Which kind of file system a folder lies on, and whether its locks and shared memory can be trusted by SQLite's WAL.

Standard library only.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

NETWORK = frozenset(
    {"nfs", "nfs4", "cifs", "smbfs", "smb3", "afpfs", "webdav", "davfs", "ncpfs", "glusterfs", "ceph", "lustre", "gpfs",
     "beegfs", "fuse.sshfs", "fuse.glusterfs", "fuse.rclone", "fuse.s3fs", "fuse.davfs2"}
)  # fmt: skip
"""WAL needs one machine's shared memory (https://sqlite.org/wal.html, "all processes must be on the same host")."""
PROC_MOUNTS = Path("/proc/self/mounts")
_OCTAL = re.compile(r"\\([0-7]{3})")
"""How proc(5) writes a space in a path: \\040."""
_BSD = re.compile(r"^.+? on (?P<place>.+) \((?P<kind>[^,)]+)", re.MULTILINE)
"""A line of mount(8) on macOS: `/dev/disk3s1 on / (apfs, local, journaled)`."""


def kind_of(folder: Path, mounts: str) -> str | None:
    """The type of the file system that holds `folder`, an absolute path without links; None when no mount does.

    `mounts` is the text of /proc/self/mounts, or what mount(8) says on macOS.
    """
    found: tuple[int, str] | None = None
    for place, kind in _mounts(mounts):
        # The later of two on one place hides the other.
        if folder.is_relative_to(place) and (found is None or len(place.parts) >= found[0]):
            found = len(place.parts), kind
    return None if found is None else found[1]


def _mounts(text: str) -> Iterator[tuple[Path, str]]:
    for line in text.splitlines():
        words = line.split(" ")
        if (bsd := _BSD.match(line)) is not None:
            yield Path(bsd["place"]), bsd["kind"]
        elif len(words) >= 4:
            yield Path(_OCTAL.sub(lambda octal: chr(int(octal[1], 8)), words[1])), words[2]


def network_kind(folder: Path, mounts: str | None = None) -> str | None:
    """The type of the network file system that `folder` lies on; None for a local disk, or where nobody can say."""
    kind = kind_of(folder.resolve(), _told() if mounts is None else mounts)
    return kind if kind in NETWORK else None


def _told() -> str:
    try:
        return PROC_MOUNTS.read_text(errors="replace")
    except OSError:
        pass  # no Linux
    try:
        return subprocess.run(["mount"], capture_output=True, text=True, timeout=5.0, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""

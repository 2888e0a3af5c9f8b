"""Replaces files whole, and reports the space and kind of file systems. Standard library at import."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

NETWORK = frozenset(
    {"nfs", "nfs4", "cifs", "smbfs", "smb3", "afpfs", "webdav", "davfs", "ncpfs", "glusterfs", "ceph", "lustre", "gpfs",
     "beegfs", "fuse.sshfs", "fuse.glusterfs", "fuse.rclone", "fuse.s3fs", "fuse.davfs2"}
)  # fmt: skip
"""WAL needs one machine's shared memory (https://sqlite.org/wal.html, "all processes must be on the same host")."""


def write_atomically(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Write `content` to `path`, 0600: a reader finds the old file or the new one, never a part.

    `durable`: also after a power cut. Raises OSError; then the old file is as it was.
    """
    with replacing(path, durable=durable) as partial:
        partial.write_bytes(content)


@contextlib.contextmanager
def replacing(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Yield an empty temporary file beside `path` to write to; then give it that name.

    Its mode is 0600. `durable`: file and folder are synced. When the block or the renaming fails, the temporary file is
    removed and `path` is as it was.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        os.close(os.open(partial, flags, 0o600))
        yield partial
        if durable:
            sync(partial)
        partial.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(path.parent)


def is_open_at(path: Path, fd: int) -> bool:
    """Return whether `path` is the name of the open file `fd`: another program may have renamed or removed it."""
    try:
        there = path.lstat()
    except OSError:
        return False
    here = os.fstat(fd)
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)


def sync(path: Path) -> None:
    """Put a file's content on the disk (fsync(2)). Raises OSError."""
    _fsync(path, os.O_RDONLY)


def sync_folder(folder: Path) -> None:
    """Put a folder's names on the disk: until then a power cut can undo a renaming (fsync(2)). Raises OSError."""
    _fsync(folder, os.O_RDONLY | os.O_DIRECTORY)


def _fsync(path: Path, flags: int) -> None:
    fd = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def free_bytes(folder: Path) -> int:
    """Return the bytes that a user who is not root may still fill (statvfs(3)). Raises OSError."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def kind_of(folder: Path) -> str | None:
    """Return the type of the file system that holds `folder`; None when no mount does."""
    import psutil  # slow to import; only a start pays for it

    folder = folder.resolve()
    found: tuple[int, str] | None = None
    for mount in psutil.disk_partitions(all=True):
        place = Path(mount.mountpoint)
        # The later of two mounts on one place hides the other.
        if folder.is_relative_to(place) and (found is None or len(place.parts) >= found[0]):
            found = len(place.parts), mount.fstype
    return None if found is None else found[1]


def network_kind(folder: Path) -> str | None:
    """Return the type of the network file system that holds `folder`; None for a local or unknown one."""
    kind = kind_of(folder)
    return kind if kind in NETWORK else None

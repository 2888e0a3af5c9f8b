"""Test atomic writing of files, and the refusal of network disks."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from supervisor.errors import UnsafeFolder
from supervisor.filesystem import free_bytes, kind_of, network_kind, replacing, write_atomically
from supervisor.home import Home
from supervisor.preflight.machine import Level, check_file_system

Mounts = Callable[..., None]

LINUX = {
    "/": "ext4",
    "/tmp": "tmpfs",
    "/home": "nfs4",
    "/home/ann/local": "xfs",
    "/mnt/my share": "cifs",
    "/mnt/ssh": "fuse.sshfs",
}
MACOS = {"/": "apfs", "/Volumes/vol on nas": "smbfs"}


@pytest.fixture
def mounts(monkeypatch: pytest.MonkeyPatch) -> Mounts:
    """Let the kernel report these mounts: place and kind."""

    def report(*found: tuple[str, str]) -> None:
        partitions = [SimpleNamespace(mountpoint=place, fstype=kind) for place, kind in found]
        monkeypatch.setattr(psutil, "disk_partitions", lambda **_: partitions)

    return report


@pytest.mark.parametrize(
    ("folder", "found", "kind", "network"),
    [
        ("/srv/x", LINUX, "ext4", None),
        ("/tmp/x", LINUX, "tmpfs", None),
        ("/home/ann/sweeps", LINUX, "nfs4", "nfs4"),
        ("/home/ann/local/sweeps", LINUX, "xfs", None),
        ("/home2/ann", LINUX, "ext4", None),
        ("/mnt/my share/x", LINUX, "cifs", "cifs"),
        ("/mnt/ssh", LINUX, "fuse.sshfs", "fuse.sshfs"),
        ("/Users/ann", MACOS, "apfs", None),
        ("/Volumes/vol on nas/x", MACOS, "smbfs", "smbfs"),
        ("/anywhere", {}, None, None),
    ],
)
def test_the_nearest_mount_above_a_folder_gives_its_kind(
    mounts: Mounts, folder: str, found: dict[str, str], kind: str | None, network: str | None
) -> None:
    mounts(*found.items())
    assert kind_of(Path(folder)) == kind
    assert network_kind(Path(folder)) == network


def test_the_later_of_two_mounts_on_one_place_hides_the_other(mounts: Mounts) -> None:
    mounts(("/srv", "ext4"), ("/srv", "nfs4"))
    assert kind_of(Path("/srv/x")) == "nfs4"


def test_this_machines_own_mounts_can_be_read(tmp_path: Path) -> None:
    assert kind_of(tmp_path) is not None
    assert network_kind(tmp_path) is None


def test_a_home_on_a_network_disk_is_an_error_of_the_check_and_of_the_start(tmp_path: Path, mounts: Mounts) -> None:
    mounts(("/", "nfs4"))
    check = check_file_system(Home(tmp_path))
    assert (check.level, "nfs4" in check.detail, "local disk" in str(check.remedy)) == (Level.ERROR, True, True)
    with pytest.raises(UnsafeFolder, match="nfs4") as refusal:
        Home(tmp_path).refuse_network_disk()
    assert "local disk" in str(refusal.value.remedy)


def test_a_local_disk_is_accepted(tmp_path: Path) -> None:
    assert check_file_system(Home(tmp_path)).level is Level.OK
    Home(tmp_path).refuse_network_disk()


@pytest.mark.parametrize("durable", [True, False])
def test_a_file_is_replaced_whole_and_private(tmp_path: Path, durable: bool) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    write_atomically(path, b"new", durable=durable)
    assert (path.read_bytes(), list(tmp_path.iterdir())) == (b"new", [path])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_failed_replacement_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(IsADirectoryError), replacing(path) as partial:
        partial.write_bytes(tmp_path.read_bytes())
    assert (path.read_bytes(), list(tmp_path.iterdir())) == (b"old", [path])


def test_the_old_file_stays_readable_until_the_new_one_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with replacing(path) as partial:
        partial.write_bytes(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"


def test_file_and_folder_reach_the_disk_before_a_durable_write_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    real = os.fsync

    def noted(fd: int) -> None:
        synced.append("folder" if stat.S_ISDIR(os.fstat(fd).st_mode) else "file")
        real(fd)

    monkeypatch.setattr(os, "fsync", noted)
    write_atomically(tmp_path / "file", b"new")
    assert synced == ["file", "folder"]
    write_atomically(tmp_path / "file", b"newer", durable=False)
    assert synced == ["file", "folder"]


def test_free_bytes_are_those_of_the_folders_disk(tmp_path: Path) -> None:
    found = os.statvfs(tmp_path)
    assert 0 <= free_bytes(tmp_path) <= found.f_blocks * found.f_frsize

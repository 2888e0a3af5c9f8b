"""A home on a network disk is refused before anything is written there: neither locks nor WAL can be trusted on it."""

from __future__ import annotations

from pathlib import Path

import pytest

from supervisor import filesystem
from supervisor.errors import UnsafeFolder
from supervisor.filesystem import kind_of, network_kind
from supervisor.home import Home
from supervisor.preflight.machine import Level, check_file_system

LINUX = """\
/dev/sda1 / ext4 rw,relatime 0 0
tmpfs /tmp tmpfs rw 0 0
nas:/vol /home nfs4 rw,vers=4.2 0 0
/dev/sdb1 /home/ann/local xfs rw 0 0
//nas/share /mnt/my\\040share cifs rw 0 0
ann@host:/ /mnt/ssh fuse.sshfs rw 0 0
"""
MACOS = """\
/dev/disk3s1s1 on / (apfs, sealed, local, read-only, journaled)
//ann@nas/vol on /Volumes/vol on nas (smbfs, nodev, nosuid, mounted by ann)
"""


@pytest.mark.parametrize(
    ("folder", "mounts", "kind", "network"),
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
        ("/anywhere", "", None, None),
        ("/anywhere", "rubbish\n\n x", None, None),
    ],
)
def test_the_nearest_mount_above_a_folder_says_its_kind(
    folder: str, mounts: str, kind: str | None, network: str | None
) -> None:
    assert kind_of(Path(folder), mounts) == kind
    assert network_kind(Path(folder), mounts) == network


def test_this_machines_own_mounts_can_be_read(tmp_path: Path) -> None:
    assert kind_of(tmp_path.resolve(), filesystem._told()) is not None
    assert network_kind(tmp_path) is None


def test_a_home_on_a_network_disk_is_an_error_of_the_check_and_of_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filesystem, "_told", lambda: "nas:/vol / nfs4 rw 0 0\n")
    check = check_file_system(tmp_path)
    assert (check.level, "nfs4" in check.detail, "local disk" in str(check.remedy)) == (Level.ERROR, True, True)
    with pytest.raises(UnsafeFolder, match="nfs4") as refusal:
        Home(tmp_path).refuse_network_disk()
    assert "local disk" in str(refusal.value.remedy)


def test_a_local_disk_is_well(tmp_path: Path) -> None:
    assert check_file_system(tmp_path).level is Level.OK
    Home(tmp_path).refuse_network_disk()

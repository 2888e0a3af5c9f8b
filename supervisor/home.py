"""Names the files and folders of one supervisor. Light: `supervisorctl status` loads it before anything else."""

from __future__ import annotations

import os
import stat
from binascii import crc32
from pathlib import Path

from supervisor.errors import UnsafeFolder

SOCKET_PATH_MAX_BYTES = 103
"""sun_path less its final NUL: 108 bytes on Linux (unix(7)), 104 on macOS (sys/un.h)."""


class Home:
    """Holds the paths of one supervisor; two homes share no file."""

    # Not a dataclass: importing dataclasses takes longer than all of this module.

    def __init__(self, root: Path) -> None:
        self.root = root
        self.logs, self.runs, self.data, self.state = root / "logs", root / "runs", root / "data", root / "state"
        self.store, self.lock, self.ray_token = (self.state / name for name in ("sweep.db", "lock", "ray_token"))
        self.dashboard_port = self.state / "dashboard_port"
        """The file of the port that Ray's dashboard had first in this home (processes.ray_head)."""
        self.page = self.state / "page.json"
        """The live page's token and port (daemon.live_page)."""
        self.notify = self.state / "notify"
        """The file of addresses for messages (processes.notification)."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Home) and self.root == other.root

    def __hash__(self) -> int:
        return hash(self.root)

    def __repr__(self) -> str:
        return f"Home({str(self.root)!r})"

    @property
    def key(self) -> str:
        """Eight hex digits that tell this home's socket and Ray folder from another's."""
        return _short_name(str(self.root))

    def audit_log(self, plan: str) -> Path:
        return self.logs / f"{plan}.jsonl"

    def run_folder(self, run_id: str) -> Path:
        return self.runs / run_id

    def runtime(self) -> Path:
        """Return the folder of the socket, the gate files and Ray's session. It is short: both have length limits.

        Not $TMPDIR: on macOS it is 50 bytes long, and Ray's own sockets below it would not fit.
        """
        return Path("/tmp") / f"sweep-{os.geteuid()}" / self.key  # noqa: S108 - 0700 and owner are checked on use

    @property
    def socket(self) -> Path:
        return self.runtime() / "ctl.sock"

    @property
    def ray_temp(self) -> Path:
        return self.runtime() / "ray"

    def gate(self, run_id: str) -> Path:
        return self.runtime() / f"{_short_name(run_id)}.gate"

    def refuse_network_disk(self) -> None:
        """Raise UnsafeFolder when the state lies on a network disk: its lock and its store would not be safe there."""
        from supervisor.filesystem import network_kind  # only a start needs it

        kind = network_kind(self.state)
        if kind is not None:
            raise UnsafeFolder(
                f"{self.state} lies on a network disk ({kind}), where locks and the store are not safe",
                remedy="set SWEEP_HOME to a folder on a local disk; data may stay on the network disk",
            )

    def prepare(self) -> None:
        """Make the folders, 0700. Raises UnsafeFolder for one that is a link, another user's, or cannot be made."""
        os.umask(0o077)
        try:
            for folder in (self.root, self.state, self.logs, self.runs, self.data):
                folder.mkdir(parents=True, exist_ok=True)
            for folder in (self.state, self.runs, self.runtime().parent, self.runtime()):
                make_private(folder)
        except OSError as error:
            raise UnsafeFolder(
                f"{error.filename} cannot be made: {error.strerror}", remedy="set SWEEP_HOME to a folder of your own"
            ) from error


def _short_name(text: str) -> str:
    """Return eight hex digits of `text`. A checksum is enough here, and hashlib loads OpenSSL."""
    return f"{crc32(text.encode()):08x}"


def make_private(folder: Path) -> None:
    """Make `folder` with mode 0700, or check that only this user can use it. Raises UnsafeFolder."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise UnsafeFolder(f"expected a folder at {folder}, found a link or a file", remedy=f"remove {folder}")
    if found.st_uid != os.geteuid():
        raise UnsafeFolder(f"{folder} belongs to user id {found.st_uid}", remedy="use a SWEEP_HOME of your own")
    if found.st_mode & stat.S_ISVTX:
        raise UnsafeFolder(f"{folder} is shared by all users (sticky)", remedy="use a SWEEP_HOME of your own")
    if stat.S_IMODE(found.st_mode) != 0o700:
        folder.chmod(0o700)


def find_home() -> Home:
    """Return SWEEP_HOME; else the checkout of an editable install; else the platform's user state folder."""
    named = os.environ.get("SWEEP_HOME")
    if named:
        return Home(Path(named).expanduser().resolve())
    checkout = Path(__file__).resolve().parent.parent
    if (checkout / "pyproject.toml").is_file():
        return Home(checkout)
    import platformdirs  # only an installed copy needs it

    return Home(Path(platformdirs.user_state_dir("sweep-supervisor", appauthor=False)))

"""Where everything lies. Standard library only, so that `supervisorctl status` starts at once."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from supervisor.errors import UnsafeFolder

SOCKET_PATH_MAX_BYTES = 103
"""sun_path less its final NUL: 108 bytes on Linux (unix(7)), 104 on macOS (sys/un.h)."""


@dataclass(frozen=True)
class Home:
    """The folders and files of one supervisor; two homes never meet."""

    root: Path

    @property
    def state(self) -> Path:
        return self.root / "state"

    @property
    def store(self) -> Path:
        return self.state / "sweep.db"

    @property
    def lock(self) -> Path:
        return self.state / "lock"

    @property
    def ray_token(self) -> Path:
        return self.state / "ray_token"

    @property
    def notify(self) -> Path:
        """Where messages go: notice_addresses."""
        return self.state / "notify"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def key(self) -> str:
        """Eight hex digits that tell this home's socket and Ray folder from another's."""
        return hashlib.sha256(str(self.root).encode()).hexdigest()[:8]

    def audit_log(self, plan: str) -> Path:
        return self.logs / f"{plan}.jsonl"

    def run_folder(self, run_id: str) -> Path:
        return self.runs / run_id

    def runtime(self) -> Path:
        """The folder of the socket, the gate files and Ray's session. Short on purpose: both have length limits.

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
        return self.runtime() / f"{hashlib.sha256(run_id.encode()).hexdigest()[:8]}.gate"

    def refuse_network_disk(self) -> None:
        """Raises UnsafeFolder when the state would lie where neither its lock nor its store can be trusted."""
        kind = _on_network(self.state)
        if kind is not None:
            raise UnsafeFolder(
                f"{self.state} lies on a network disk ({kind}), where its lock and its store cannot be trusted",
                remedy="set SWEEP_HOME to a folder on a local disk; data may stay where they are",
            )

    def prepare(self) -> None:
        """Makes the folders, 0700. Raises UnsafeFolder when one cannot be made, is a link, or another user's."""
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


def _on_network(folder: Path) -> str | None:
    from supervisor.filesystem import network_kind  # only a start pays for it

    return network_kind(folder)


def make_private(folder: Path) -> None:
    """Makes `folder` with mode 0700, or proves that it is ours alone. Raises UnsafeFolder."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise UnsafeFolder(f"{folder} is not a folder (a link?)", remedy=f"remove {folder}")
    if found.st_uid != os.geteuid():
        raise UnsafeFolder(f"{folder} belongs to user id {found.st_uid}", remedy="use a SWEEP_HOME of your own")
    if found.st_mode & stat.S_ISVTX:
        raise UnsafeFolder(f"{folder} is shared by all users (sticky)", remedy="use a SWEEP_HOME of your own")
    if stat.S_IMODE(found.st_mode) != 0o700:
        folder.chmod(0o700)


def find_home() -> Home:
    """SWEEP_HOME; else the checkout of an editable install; else the platform's user state folder."""
    told = os.environ.get("SWEEP_HOME")
    if told:
        return Home(Path(told).expanduser().resolve())
    checkout = Path(__file__).resolve().parent.parent
    if (checkout / "pyproject.toml").is_file():
        return Home(checkout)
    import platformdirs  # only an installed copy pays for it

    return Home(Path(platformdirs.user_state_dir("sweep-supervisor", appauthor=False)))

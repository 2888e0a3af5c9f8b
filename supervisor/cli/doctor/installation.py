"""Checks the installation for `doctor`: versions, the commands' owner, the limits of this user's processes."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import sys
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path

from supervisor import __product__, __version__
from supervisor.filesystem import free_bytes
from supervisor.formatting import human
from supervisor.home import Home
from supervisor.preflight.machine import Check, Level, ok
from supervisor.processes.ray_head import OBJECT_STORE_BYTES

COMMANDS = {"supervisord": "sweepd", "supervisorctl": "sweepctl"}
"""Each command, and the name that no other package has."""
MARK = b"_sweep_launcher"
"""Stands in each console script of this project, and in none of another's."""
SCRIPT_BYTES = 65_536
EXTRAS = ("apprise", "optuna-dashboard", "yfinance")
MIN_FILES = 1024
"""Linux's usual limit; Ray's head and the daemon keep some hundred files and sockets open."""
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - only its size is asked


def check_versions() -> Check:
    """Say which program, Python and system these are."""
    extras = [f"{name} {version}" for name in EXTRAS if (version := _version(name)) is not None]
    parts = [f"{__product__} {__version__}", f"Python {platform.python_version()}", platform.platform(terse=True)]
    return ok("versions", ", ".join([*parts, *extras]))


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def check_environment(home: Home) -> Check:
    """Say where Python and the home are, and warn without a virtual environment."""
    where = "SWEEP_HOME" if os.environ.get("SWEEP_HOME") else "the default"
    detail = f"{sys.executable}; home {home.root} ({where})"
    if sys.prefix == sys.base_prefix:
        return Check(
            "environment", Level.WARNING, f"{detail}; no virtual environment of its own",
            "make one with `make install`: the commands' names are also another package's",
        )  # fmt: skip
    return ok("environment", detail)


def check_commands(folder: Path | None = None, which: Callable[[str], str | None] = shutil.which) -> list[Check]:
    """Check that each command, as typed, is this installation's; `folder` has this installation's commands."""
    own = Path(sys.prefix, "bin") if folder is None else folder
    return [_check_command(name, own, which(name)) for name in COMMANDS]


def _check_command(name: str, own: Path, found: str | None) -> Check:
    what = f"command {name}"
    if not (own / name).is_file():
        return Check(what, Level.ERROR, f"expected it at {own / name}, found none", "install it with `make install`")
    if found is None:
        return ok(what, f"not on PATH; call it as {own / name}")
    # A link to ours is ours: pipx and uv put links on PATH.
    if Path(found).resolve() == (own / name).resolve():
        return ok(what, f"{found} is this installation's")
    cure = f"type {COMMANDS[name]} or {own / name} instead; or run `. {own / 'activate'}` first"
    if MARK in _head(Path(found)):
        return Check(what, Level.WARNING, f"{found} is of another copy of this program", cure)
    return Check(what, Level.WARNING, f"{found} belongs to another program (as a rule PyPI's `supervisor`)", cure)


def _head(script: Path) -> bytes:
    try:
        with script.open("rb") as file:
            return file.read(SCRIPT_BYTES)
    except OSError:
        return b""


def check_open_files(soft: int | None = None) -> Check:
    """Check how many files a process of this user may open."""
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0] if soft is None else soft
    if allowed == resource.RLIM_INFINITY or allowed >= MIN_FILES:
        return ok("open files", "no limit" if allowed == resource.RLIM_INFINITY else f"up to {allowed}")
    detail = f"a process may open {allowed} files, Ray wants {MIN_FILES} or more"
    return Check("open files", Level.WARNING, detail, f"run `ulimit -n {4 * MIN_FILES}` in the shell that starts")


def check_shared_memory(folder: Path = SHARED_MEMORY) -> list[Check]:
    """Check the space for Ray's object store; without such a folder (macOS) there is no check."""
    try:
        free = free_bytes(folder)
    except OSError:
        return []
    if free >= OBJECT_STORE_BYTES:
        return [ok("shared memory", f"{human(free)} free in {folder}")]
    detail = f"{human(free)} free in {folder}, Ray's object store takes {human(OBJECT_STORE_BYTES)}"
    return [Check("shared memory", Level.WARNING, detail, "give the container more, such as --shm-size=512m")]


def check_encoding(encodings: Sequence[str | None] | None = None) -> Check:
    """Check that the terminal's encoding has the signs that tables show."""
    found = [stream.encoding for stream in (sys.stdout, sys.stderr)] if encodings is None else encodings
    bad = [name for name in found if name is not None and name.lower().replace("-", "") != "utf8"]
    if bad:
        return Check("encoding", Level.WARNING, f"{bad[0]}, not UTF-8: some signs cannot be shown", "set LANG=C.UTF-8")
    return ok("encoding", "UTF-8")

"""Writes the bug report of `doctor`: a tar.gz of bounded size, without secrets and without data.

Its texts are ends of logs, redacted (supervisor.redaction). Datasets, checkpoints, the store itself and trials' own
output are never in it, but for the last lines of failed trials, which log and status have.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import stat
import tarfile
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from supervisor.cli.watch import last_view
from supervisor.control.client import ask
from supervisor.errors import NotRunning, SweepError, UsageError
from supervisor.formatting import human
from supervisor.home import Home
from supervisor.processes.environment import PASSED, PASSED_PREFIXES
from supervisor.redaction import HIDDEN, MIN_VALUE_CHARACTERS, SECRET_NAME, redact

FOLDER = "sweep-doctor"
PIECE_BYTES = 256 * 1024
"""The most of one file: its end."""
MAX_BYTES = 8 * 1024 * 1024
"""The most of all texts together, before they are compressed."""
MAX_FILES = 100
SHOWN_PREFIXES = (*PASSED_PREFIXES, "SWEEP_", "RAY_")
"""Variables whose values are shown, beside those that children get; of the others not even the names."""
PERSONAL = {"HOME", "USER", "LOGNAME"}
ASK_WITHIN_S = 10.0
_SIGNS = re.compile(r"[\s/:@?&=#\"']+")
"""Stands between the parts of an address."""
_PAGE_TOKEN = re.compile(r"[0-9a-f]{32,}")
"""The live page's token (daemon.live_page), without the run's name beside it."""
_NAMED = r"[\w-]{0,64}(?:token|secret|passw(?:or)?d|credential|api[_-]?key)"
_SETTING = re.compile(
    rf"(^[ \t]{{0,64}}(?:- )?{_NAMED}(?:_\w{{0,64}})?:[ \t]+)\S.*$"
    rf"|([{{,][ \t]{{0,8}}{_NAMED}(?:_\w{{0,64}})?:[ \t]+)[^\s,}}]+"
    rf"|(?<=\s)(--{_NAMED}[ \t]+)\S+",
    re.IGNORECASE | re.MULTILINE,
)
"""Lines of YAML, as in a plan (api_key: abc, also in braces), and options of a command (--token abc)."""


@dataclass(frozen=True)
class Written:
    """Describes a bundle: the number of its files and its size."""

    files: int
    size: int

    def text(self) -> str:
        return human(self.size)


def refuse_existing(file: Path) -> None:
    """Raise UsageError for a file that exists, or whose folder does not."""
    if file.exists() or file.is_symlink():
        raise UsageError(f"{file} exists already", remedy="give the name of a new file, such as sweep-report.tar.gz")
    if not file.absolute().parent.is_dir():
        raise UsageError(f"{file.absolute().parent} is no folder", remedy="give a file in a folder that exists")


def write(home: Home, checks: Mapping[str, Any], file: Path) -> Written:
    """Write the bundle to the new file `file`, 0600. Raises UsageError when it exists, OSError."""
    cleaner = Cleaner.of(home)
    content = archive({name: cleaner.clean(text) for name, text in bounded(texts(home, checks))})
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise UsageError(f"{file} exists already", remedy="give the name of a new file") from None
    try:
        with os.fdopen(descriptor, "wb") as out:
            out.write(content)
    except OSError:
        file.unlink(missing_ok=True)  # a full disk leaves no half of an archive
        raise
    with tarfile.open(fileobj=io.BytesIO(content)) as made:
        return Written(len(made.getnames()), len(content))


def bounded(found: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Yield texts until MAX_FILES or MAX_BYTES are reached."""
    left = MAX_BYTES
    for count, (name, text) in enumerate(found):
        size = len(text.encode(errors="replace"))
        if count >= MAX_FILES or size > left:
            yield "LEFT-OUT.txt", f"{name} and later files: this bundle holds {MAX_FILES} files, {human(MAX_BYTES)}\n"
            return
        left -= size
        yield name, text


def texts(home: Home, checks: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield name and text of each part, the most useful first."""
    yield "checks.json", _json(checks)
    yield "environment.json", _json(environment(os.environ))
    yield "packages.txt", "\n".join(packages())
    view = status(home)
    yield "status.json", _json(view)
    for path in logs(home, view):
        text = end_of(path)
        if text:
            yield _name(home, path), text


def _json(value: Mapping[str, Any]) -> str:
    """Return `value` as JSON with every letter as it is: a secret that is escaped would not be known as one."""
    return json.dumps(value, indent=1, ensure_ascii=False)


def _name(home: Home, path: Path) -> str:
    """Return the name of a log in the bundle: without the folders above the home, which may name a person."""
    below = next((place for place in (home.root, home.runtime()) if path.is_relative_to(place)), path.parent)
    return path.relative_to(below).as_posix()


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that steer this program, Ray or a device; a value with a secret's name is hidden."""
    listed = {*PASSED} - PERSONAL
    shown = {name: value for name, value in variables.items() if name in listed or name.startswith(SHOWN_PREFIXES)}
    return {name: HIDDEN if SECRET_NAME.search(name) else value for name, value in sorted(shown.items())}


def packages() -> list[str]:
    """Return name and version of each installed package."""
    from importlib import metadata

    return sorted({f"{one.metadata['Name']}=={one.version}" for one in metadata.distributions()}, key=str.lower)


def status(home: Home) -> dict[str, Any]:
    """Return the run's status, without trials; where it cannot be had, why."""
    try:
        return ask(home, "status", deadline_s=ASK_WITHIN_S)
    except NotRunning:
        try:
            return last_view(home, trials=False)
        except (SweepError, OSError) as error:
            return {"problem": str(error)}
    except (SweepError, OSError) as error:
        return {"problem": str(error)}


def logs(home: Home, view: Mapping[str, Any]) -> Iterator[Path]:
    """Yield the logs of the daemon, of the run in `view` and of its Ray session."""
    yield from (home.logs / "daemon.log", home.logs / "daemon.log.1", home.logs / "debug.jsonl")
    run = view.get("run")
    if run is None:
        yield from _newest(home.logs.glob("*.jsonl"))
    else:
        folder = home.run_folder(str(run["id"]))
        yield from (home.audit_log(str(run["plan"])), folder / "plan.yaml", folder / "ray.log")
        yield from _newest(folder.glob("*/driver.log"))
    session = home.ray_temp / "session_latest" / "logs"
    yield from _newest(path for path in session.glob("*") if path.suffix in (".out", ".err", ".log") and _system(path))


def _system(path: Path) -> bool:
    """Return whether a log of Ray's is of its own processes: a worker's holds the prints of trials."""
    return not path.name.startswith(("worker-", "python-core-worker", "job-driver"))


def _newest(paths: Iterable[Path], most: int = 20) -> list[Path]:
    """Return the newest of `paths`, newest first; those that cannot be looked at are left out."""
    found: list[tuple[float, Path]] = []
    try:
        for path in paths:
            found.append((path.lstat().st_mtime, path))  # noqa: PERF401 - what was found before an error counts
    except OSError:
        pass
    return [path for _, path in sorted(found, reverse=True)[:most]]


def end_of(path: Path, size: int = PIECE_BYTES) -> str:
    """Return the last whole lines of a file, `size` bytes at most; "" for one that cannot be read or is no file.

    Only whole lines: the name before a secret could have been cut off, and then the secret would not be known as one.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        found = os.fstat(descriptor)
        piece = os.pread(descriptor, size, max(0, found.st_size - size)) if stat.S_ISREG(found.st_mode) else b""
    except OSError:
        piece = b""
    finally:
        os.close(descriptor)
    if found.st_size > size:
        piece = piece.partition(b"\n")[2]
    return piece.decode(errors="replace")


@dataclass(frozen=True)
class Cleaner:
    """Removes secrets from a text: known patterns, this user's secret variables, both tokens, addresses of messages."""

    secrets: Mapping[str, str]
    user_home: str

    @classmethod
    def of(cls, home: Home) -> Cleaner:
        """Return the cleaner for a home; a file of secrets that cannot be read has none to give away."""
        found = [line.strip() for path in (home.ray_token, home.notify) for line in end_of(path).splitlines()]
        lines = [line for line in found if not line.startswith("#") or "://" in line]
        # Of "ping = https://..." and of ntfy://topic each part is secret by itself: a library shows another form.
        own = [part for line in lines for part in (line, *_SIGNS.split(line)) if len(part) >= MIN_VALUE_CHARACTERS]
        own += _PAGE_TOKEN.findall(end_of(home.page))
        named = {f"SECRET_{number}": value for number, value in enumerate(sorted(own, key=len, reverse=True))}
        return cls({**os.environ, **named}, str(Path.home()))

    def clean(self, text: str) -> str:
        """Return `text` without secrets; this user's folder becomes "~"."""
        cleaned = _SETTING.sub(rf"\1\2\3{HIDDEN}", redact(text, self.secrets))
        return cleaned.replace(self.user_home, "~") if len(self.user_home) > 1 else cleaned


def archive(files: Mapping[str, str]) -> bytes:
    """Return a tar.gz with `files` by name."""
    raw = io.BytesIO()
    with gzip.GzipFile(fileobj=raw, mode="wb") as packed, tarfile.open(fileobj=packed, mode="w") as made:
        for name, text in files.items():
            content = text.encode(errors="replace")
            entry = tarfile.TarInfo(f"{FOLDER}/{name}")
            entry.size, entry.mode, entry.mtime = len(content), 0o600, int(time.time())
            made.addfile(entry, io.BytesIO(content))
    return raw.getvalue()

"""Is this machine ready for a plan? Each check is a value; nothing is started and nothing is changed.

Standard library at import, so that `supervisord check` works on an installation that is broken.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from supervisor.filesystem import network_kind
from supervisor.formatting import human

if TYPE_CHECKING:
    from supervisor.plan.experiment import ExperimentSpec
    from supervisor.plan.schema import Data

DISTRIBUTION = "sweep-supervisor"
LIBRARIES = ("ray", "optuna", "torch", "pydantic", "aiohttp", "structlog")
OLDEST_PYTHON, NEWEST_PYTHON = (3, 11), (3, 13)
MEMORY_FLOOR_BYTES = 2 * 2**30
"""Ray's head and daemons take about 0.7 GB, a driver and a worker 0.4 GB each."""
BUILT_AT_S = 1_735_689_600.0
"""2025-01-01 UTC: this program is younger, so a clock that shows less was never set."""
LONGEST_JUMP_S = 86_400.0
_CLAUSE = re.compile(r"(>=|<=|==|<|>)\s*([0-9]+(?:\.[0-9]+)*)")


class Level(StrEnum):
    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True)
class Check:
    """One thing looked at. `remedy` says what to do unless all is well."""

    name: str
    level: Level
    detail: str
    remedy: str | None = None


def ok(name: str, detail: str) -> Check:
    return Check(name, Level.OK, detail)


def worst(checks: Iterable[Check]) -> Level:
    order = (Level.OK, Level.WARNING, Level.ERROR)
    return max((check.level for check in checks), key=order.index, default=Level.OK)


def render(checks: Sequence[Check]) -> str:
    """A line per check for people, the cure below what is not well."""
    lines = []
    for check in checks:
        lines.append(f"{check.level.value:<8}{check.name}: {check.detail}")
        if check.remedy is not None:
            lines.append(f"        cure: {check.remedy}")
    return "\n".join(lines)


def check_python(version: tuple[int, int] = sys.version_info[:2]) -> Check:
    shown = ".".join(str(part) for part in version)
    if OLDEST_PYTHON <= version <= NEWEST_PYTHON:
        return ok("python", shown)
    return Check("python", Level.ERROR, f"{shown} is not supported", "use Python 3.11, 3.12 or 3.13")


def check_libraries(names: Sequence[str] = LIBRARIES) -> list[Check]:
    """Whether the libraries are installed in the versions that this distribution asks for; none is imported."""
    try:
        wanted = {_project(line): line for line in metadata.requires(DISTRIBUTION) or ()}
    except metadata.PackageNotFoundError:
        return [Check("libraries", Level.WARNING, f"{DISTRIBUTION} itself is not installed", "run `make install`")]
    return [_check_library(name, wanted.get(name, name)) for name in names]


def _check_library(name: str, requirement: str) -> Check:
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return Check(name, Level.ERROR, "is not installed", "run `make install`")
    bounds = requirement.partition(";")[0]
    if satisfies(version, bounds):
        return ok(name, version)
    detail = f"{version} is installed, tested with {bounds.removeprefix(name).strip()}"
    return Check(name, Level.WARNING, detail, "run `make install` for the tested versions")


def satisfies(version: str, requirement: str) -> bool:
    """Whether a version's release numbers meet every `>=`, `<` ... of a requirement. Local and pre-release parts of
    a version (`+cpu`, `rc1`) are left out of the comparison."""
    release = re.match(r"[0-9]+(?:\.[0-9]+)*", version)
    have = _numbers(release[0]) if release else ()
    return all(_compare(have, sign, _numbers(bound)) for sign, bound in _CLAUSE.findall(requirement))


def _compare(have: tuple[int, ...], sign: str, bound: tuple[int, ...]) -> bool:
    width = max(len(have), len(bound))
    left, right = (numbers + (0,) * (width - len(numbers)) for numbers in (have, bound))
    return {">=": left >= right, "<=": left <= right, "==": left == right, "<": left < right, ">": left > right}[sign]


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))


def _project(requirement: str) -> str:
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    return found[0].lower() if found else requirement


def check_folder(name: str, folder: Path) -> Check:
    """Whether a file can be made in `folder`, or in its nearest parent that exists when it does not exist yet."""
    place = _existing(folder)
    try:
        with tempfile.TemporaryFile(dir=place):
            return ok(name, f"{folder} is writable")
    except OSError as error:
        detail = f"{place} is not writable: {error.strerror}"
        return Check(name, Level.ERROR, detail, "change its owner or mode, or set SWEEP_HOME to a folder of yours")


def check_file_system(folder: Path) -> Check:
    """Whether the state's disk is this machine's own: the daemon refuses to start on another."""
    kind = network_kind(_existing(folder))
    if kind is None:
        return ok("file system", "a local disk")
    detail = f"{folder} lies on a network disk ({kind}), where its lock and its store cannot be trusted"
    return Check("file system", Level.ERROR, detail, "set SWEEP_HOME to a folder on a local disk")


def check_disk(folder: Path, hold_bytes: float, pause_bytes: float, free_bytes: int | None = None) -> Check:
    """Free space against the hardware policy's two floors: below the lower one nothing could run."""
    free = shutil.disk_usage(_existing(folder)).free if free_bytes is None else free_bytes
    detail = f"{human(free)} free for {folder}"
    cure = "free some space, or put SWEEP_HOME on a larger disk"
    if free < pause_bytes:
        return Check("disk", Level.ERROR, f"{detail}, {human(pause_bytes)} needed at least", cure)
    if free < hold_bytes:
        return Check("disk", Level.WARNING, f"{detail}, no new trial starts below {human(hold_bytes)}", cure)
    return ok("disk", detail)


def check_memory(available_bytes: int) -> Check:
    detail = f"{human(available_bytes)} available"
    if available_bytes >= MEMORY_FLOOR_BYTES:
        return ok("memory", detail)
    cure = "close other programs, or give the container more"
    return Check("memory", Level.WARNING, f"{detail}, Ray and one trial need {human(MEMORY_FLOOR_BYTES)}", cure)


def check_clock(wall_s: float, last_seen_s: float | None = None) -> Check:
    """`last_seen_s` is the wall time of the newest event in the store: the clock should not be far behind it."""
    if wall_s < BUILT_AT_S:
        return Check("clock", Level.ERROR, "the clock is years behind", "set the clock, or all is misdated")
    if last_seen_s is not None and wall_s < last_seen_s - LONGEST_JUMP_S:
        days = (last_seen_s - wall_s) / 86_400
        return Check("clock", Level.WARNING, f"the clock is {days:.1f} days behind the last event", "set the clock")
    return ok("clock", "plausible")


def check_data(data: Data | None, data_dir: Path) -> Check:
    """Whether the plan's market data are there, built or at least imported."""
    if data is None:
        return ok("data", "the plan needs none")
    from supervisor.plan.dataset import SAMPLE_TICKER
    from training.data.manifest import dataset_path, raw_path

    if dataset_path(data_dir, data.ticker, data.tier).is_file():
        return ok("data", f"{data.ticker} {data.tier} is built")
    if raw_path(data_dir, data.ticker).is_file():
        return ok("data", f"{data.ticker} is imported; {data.tier} will be built from it")
    cure = f"import a file with `supervisord data import FILE --ticker {data.ticker}`"
    if data.ticker == SAMPLE_TICKER:
        return ok("data", f"{data.ticker} is the embedded sample; {data.tier} will be built from it")
    if data.fallback == "sample":
        return Check("data", Level.WARNING, f"no {data.ticker}: the embedded S&P 500 sample stands in", cure)
    return Check("data", Level.ERROR, f"no {data.ticker} in {data_dir}", cure)


def check_cores(specs: Sequence[ExperimentSpec], cores: int) -> Check:
    """Whether the hungriest trial could ever be placed on this machine."""
    hungriest = max((spec.resources.cpu for spec in specs), default=0.0)
    if hungriest > cores:
        detail = f"a trial asks for {hungriest:g} cores, {cores} are here"
        return Check("cores", Level.ERROR, detail, f"add --set resources.cpu={cores}, or join a cluster")
    return ok("cores", f"{cores}, a trial takes up to {hungriest:g}")


def check_user(uid: int | None = None) -> Check:
    user = os.geteuid() if uid is None else uid
    if user == 0:
        return Check("user", Level.WARNING, "running as root", "use an account of its own outside containers")
    return ok("user", f"uid {user}")


def _existing(folder: Path) -> Path:
    return next((place for place in (folder, *folder.parents) if place.is_dir()), Path("/"))

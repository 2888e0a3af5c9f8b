"""Checks whether this machine is ready for a plan. Each check is a value; nothing is started or changed.

Standard library at import, so that `supervisord check` works on a broken installation.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from supervisor.errors import UnsafeFolder
from supervisor.filesystem import free_bytes
from supervisor.formatting import human
from supervisor.home import Home

if TYPE_CHECKING:
    from packaging.specifiers import SpecifierSet

    from supervisor.plan.expansion import ExperimentSpec
    from supervisor.plan.schema import Data

DISTRIBUTION = "sweep-supervisor"
LIBRARIES = ("ray", "optuna", "torch", "pydantic", "aiohttp", "structlog")
OLDEST_PYTHON, NEWEST_PYTHON = (3, 11), (3, 13)
MEMORY_FLOOR_BYTES = 2 * 2**30
"""Ray's head and daemons take about 0.7 GB, a driver and a worker 0.4 GB each."""
MACHINE_SHARE = 0.85
"""A trial's share of a machine's memory; the rest is for the system, Ray and the daemon."""
BUILT_AT_S = 1_735_689_600.0
"""2025-01-01 UTC: this program is younger, so a clock before it was never set."""


class Level(StrEnum):
    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True)
class Check:
    """The result of one check. `remedy` is None if all is well."""

    name: str
    level: Level
    detail: str
    remedy: str | None = None


def ok(name: str, detail: str) -> Check:
    """Make a check that found nothing wrong."""
    return Check(name, Level.OK, detail)


def worst(checks: Iterable[Check]) -> Level:
    """Return the highest level of `checks`."""
    order = (Level.OK, Level.WARNING, Level.ERROR)
    return max((check.level for check in checks), key=order.index, default=Level.OK)


def render(checks: Sequence[Check]) -> str:
    """Write a line for each check, with the remedy below where there is one."""
    lines = []
    for check in checks:
        lines.append(f"{check.level.value:<8}{check.name}: {check.detail}")
        if check.remedy is not None:
            lines.append(f"        cure: {check.remedy}")
    return "\n".join(lines)


def verdict(checks: Sequence[Check], plan: str) -> str:
    """Say in one line whether `plan` can start here, and what forbids it or is worth a look."""
    errors, warnings = (
        [check.name for check in checks if check.level is level] for level in (Level.ERROR, Level.WARNING)
    )
    if errors:
        return f"NOT READY: {plan} cannot start here: {', '.join(errors)}"
    look = f"; worth a look: {', '.join(warnings)}" if warnings else ""
    return f"READY: {plan} can start here{look}"


def usable_cores() -> int:
    """Return the number of cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def usable_gpus() -> int:
    """Return the number of NVIDIA GPUs that this process may use; 1 where it is unknown."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return max(1, sum(bool(part.strip()) and part.strip() != "-1" for part in visible.split(",")))
    return max(1, len(list(Path("/proc/driver/nvidia/gpus").glob("*"))))


def available_memory_bytes() -> int:
    """Return the memory that is free here now: the host's, or less where a control group limits it."""
    from supervisor.sensors.cgroup import memory_groups
    from supervisor.sensors.host import HostFigures

    host = HostFigures().memory().available_bytes
    return min([host, *(group.available_bytes for group in memory_groups())])


def machine_memory_bytes() -> int:
    """Return the memory that a trial could have here at best; unlike the free memory it is always the same."""
    from supervisor.sensors.cgroup import memory_groups
    from supervisor.sensors.host import HostFigures

    host = HostFigures().memory().total_bytes
    return int(MACHINE_SHARE * min([host, *(group.limit_bytes for group in memory_groups())]))


def check_python(version: tuple[int, int] = sys.version_info[:2]) -> Check:
    """Check that this Python is a supported one."""
    shown = ".".join(str(part) for part in version)
    if OLDEST_PYTHON <= version <= NEWEST_PYTHON:
        return ok("python", shown)
    return Check("python", Level.ERROR, f"{shown} is not supported", "use Python 3.11, 3.12 or 3.13")


def check_libraries(names: Sequence[str] = LIBRARIES) -> list[Check]:
    """Check that the libraries `names` are installed in the tested versions; none of them is imported."""
    try:
        from packaging.requirements import Requirement

        wanted = [Requirement(line) for line in metadata.requires(DISTRIBUTION) or ()]
    except ImportError:
        return [Check("packaging", Level.ERROR, "is not installed", "run `make install`")]
    except metadata.PackageNotFoundError:
        return [Check("libraries", Level.WARNING, f"{DISTRIBUTION} itself is not installed", "run `make install`")]
    specifiers = {requirement.name.lower(): requirement.specifier for requirement in wanted}
    return [_check_library(name, specifiers.get(name)) for name in names]


def _check_library(name: str, specifier: SpecifierSet | None) -> Check:
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return Check(name, Level.ERROR, "is not installed", "run `make install`")
    if specifier is None or specifier.contains(version, prereleases=True):
        return ok(name, version)
    detail = f"{version} is installed, tested with {specifier}"
    return Check(name, Level.WARNING, detail, "run `make install` for the tested versions")


def check_folder(name: str, folder: Path) -> Check:
    """Check that a file can be created in `folder`, or in its nearest parent that exists."""
    place = _existing(folder)
    try:
        with tempfile.TemporaryFile(dir=place):
            return ok(name, f"{folder} is writable")
    except OSError as error:
        detail = f"{place} is not writable: {error.strerror}"
        return Check(name, Level.ERROR, detail, "change its owner or mode, or set SWEEP_HOME to a folder of yours")


def check_file_system(home: Home) -> Check:
    """Check that the home is on a local disk: the daemon refuses to start on a network disk."""
    try:
        home.refuse_network_disk()
    except UnsafeFolder as error:
        return Check("file system", Level.ERROR, error.message, error.remedy)
    return ok("file system", "a local disk")


def check_disk(folder: Path, hold_bytes: float, pause_bytes: float, free: int | None = None) -> Check:
    """Check the free space by the hardware policy's two limits: below `pause_bytes` no trial could run."""
    free = free_bytes(_existing(folder)) if free is None else free
    detail = f"{human(free)} free for {folder}"
    remedy = "free some space, or put SWEEP_HOME on a larger disk"
    if free < pause_bytes:
        return Check("disk", Level.ERROR, f"{detail}, at least {human(pause_bytes)} needed", remedy)
    if free < hold_bytes:
        return Check("disk", Level.WARNING, f"{detail}, no new trial starts below {human(hold_bytes)}", remedy)
    return ok("disk", detail)


def check_memory(available_bytes: int) -> Check:
    """Check that Ray and one trial have memory."""
    detail = f"{human(available_bytes)} available"
    if available_bytes >= MEMORY_FLOOR_BYTES:
        return ok("memory", detail)
    remedy = "close other programs, or give the container more"
    return Check("memory", Level.WARNING, f"{detail}, Ray and one trial need {human(MEMORY_FLOOR_BYTES)}", remedy)


def check_clock(wall_s: float) -> Check:
    """Check that the clock is set."""
    if wall_s < BUILT_AT_S:
        return Check("clock", Level.ERROR, "the clock is years behind", "set the clock: it dates every event")
    return ok("clock", "plausible")


def check_data(data: Data | None, data_dir: Path) -> Check:
    """Check that the plan's market data are built or at least imported."""
    if data is None:
        return ok("data", "the plan needs none")
    from supervisor.plan.dataset import SAMPLE_TICKER
    from training.data.manifest import dataset_path, raw_path

    if dataset_path(data_dir, data.ticker, data.tier).is_file():
        return ok("data", f"{data.ticker} {data.tier} is built")
    if raw_path(data_dir, data.ticker).is_file():
        return ok("data", f"{data.ticker} is imported; {data.tier} will be built from it")
    remedy = f"import a file with `supervisord data import FILE --ticker {data.ticker}`"
    if data.ticker == SAMPLE_TICKER:
        return ok("data", f"{data.ticker} is the embedded sample; {data.tier} will be built from it")
    if data.fallback == "sample":
        return Check("data", Level.WARNING, f"no {data.ticker}: the embedded S&P 500 sample is used instead", remedy)
    return Check("data", Level.ERROR, f"no {data.ticker} in {data_dir}", remedy)


def check_cores(specs: Sequence[ExperimentSpec], cores: int) -> Check:
    """Check that this machine has the cores of the largest trial."""
    needed = max((spec.resources.all_cpu for spec in specs), default=0.0)
    if needed > cores:
        detail = f"a trial and its own tasks need {needed:g} cores, this machine has {cores}"
        return Check(
            "cores",
            Level.ERROR,
            detail,
            f"lower resources.cpu and resources.nested to {cores} cores in all (--set resources.cpu=N)",
        )
    return ok("cores", f"{cores}, a trial needs up to {needed:g}")


def check_user(uid: int | None = None) -> Check:
    """Warn about root."""
    user = os.geteuid() if uid is None else uid
    if user == 0:
        return Check("user", Level.WARNING, "running as root", "use an account of its own outside containers")
    return ok("user", f"uid {user}")


def _existing(folder: Path) -> Path:
    return next((place for place in (folder, *folder.parents) if place.is_dir()), Path("/"))

"""Times a few steps of a plan's trials on this machine, in child processes, and keeps the times in a file.

A plan's trials run at the same time, so as many children are timed at once as trials will be. The file is a cache: it
can be deleted at any time. Standard library at import; only the children load torch.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from supervisor.filesystem import write_atomically
from supervisor.home import Home
from supervisor.plan.dimensions import CategoricalDimension
from supervisor.preflight import training_time
from supervisor.preflight.step_processes import START_S, Case, time_together
from supervisor.preflight.step_times import TimedStep, rule_seconds

if TYPE_CHECKING:
    from supervisor.plan.expansion import ExperimentSpec
    from training.grid import Architecture

log = logging.getLogger("supervisor")

TIME_WITHIN_S = 60.0
"""All timing of a plan."""
BUSY_SHARE = 0.5
"""With a load average above such a share of the cores, other programs slow the steps."""
MAX_KEPT = 1_000
ANNOUNCED = f"timing steps on this machine, at most {TIME_WITHIN_S:.0f} s; the times are kept"
LIBRARIES = ("torch", "sweep-supervisor")


@dataclass(frozen=True)
class Times:
    """The steps that are known; `notes` say for people why others are not. `fresh`: something was timed now."""

    steps: tuple[TimedStep, ...]
    notes: tuple[str, ...] = ()
    fresh: bool = False


def times_of_plan(home: Home, specs: Sequence[ExperimentSpec], say: Callable[[str], object] | None = None) -> Times:
    """Return the times of a plan's steps; while a daemon works here only those of the cache.

    `say` is told before anything is timed; by default standard error is.
    """
    from supervisor.home_lock import is_held
    from supervisor.preflight import machine
    from supervisor.preflight.estimate import fitting_architectures

    memory, busy = machine.machine_memory_bytes(), is_held(home)
    cores, load = machine.usable_cores(), os.getloadavg()[0]
    loaded = load > BUSY_SHARE * cores
    found = timed_steps(
        home, specs, lambda spec: fitting_architectures(spec, memory), cores, machine.available_memory_bytes(),
        within_s=0.0 if busy else TIME_WITHIN_S, keep=not loaded, announce=lambda: (say or _to_stderr)(ANNOUNCED),
    )  # fmt: skip
    if busy:
        return replace(found, notes=("a daemon works here now, so nothing more was timed",))
    said = f"the load was {load:.1f} on {cores} cores: times measured now are too long, and not kept"
    return replace(found, notes=(*found.notes, said)) if loaded and found.fresh else found


def _to_stderr(text: str) -> None:
    print(text, file=sys.stderr)


def kept_times(home: Home, spec: ExperimentSpec) -> Sequence[TimedStep]:
    """Return what the cache knows of an experiment: of its own share, and of the rule's before one was chosen."""
    from supervisor.preflight import estimate, machine

    cores, memory = machine.usable_cores(), machine.machine_memory_bytes()
    (by_rule,) = estimate.planned([spec.model_copy(update={"chosen": None})], cores, memory)
    return timed_steps(
        home, [spec, by_rule], lambda one: estimate.fitting_architectures(one, memory), cores, memory, within_s=0.0
    ).steps


def timed_steps(
    home: Home,
    specs: Sequence[ExperimentSpec],
    fitting: Callable[[ExperimentSpec], Sequence[Architecture]],
    cores: int,
    memory_bytes: int,
    *,
    within_s: float = TIME_WITHIN_S,
    keep: bool = True,
    announce: Callable[[], object] = int,
    clock: Callable[[], float] = time.monotonic,
) -> Times:
    """Return the steps of `specs` that are in the cache, or that can be timed now.

    `fitting` gives the architectures of an experiment that fit into memory: none of the others is timed. `memory_bytes`
    is free now; `keep` False leaves the cache as it is. `announce` is called before anything is timed. A failure to
    time leaves steps out and is noted; nothing is raised.
    """
    path, end = home.state / "step_times.json", clock() + within_s
    kept = _read(path)
    cases = {_key(case): case for case in cases_of(specs, fitting, cores)}
    # What needs more than all the time is not tried again.
    missing = [case for key, case in cases.items() if kept.get(key, {}).get("needs_s", 0.0) <= within_s - START_S
               and "seconds" not in kept.get(key, {})]  # fmt: skip
    notes: list[str] = []
    if missing:
        announce()
    groups = list(dict.fromkeys((case.threads, case.at_once) for case in missing))
    for number, (threads, at_once) in enumerate(groups):
        share_s = (end - clock()) / (len(groups) - number)
        if share_s < START_S:
            break
        group = [case for case in missing if (case.threads, case.at_once) == (threads, at_once)]
        found = asyncio.run(time_together(group, threads, at_once, share_s - START_S, memory_bytes))
        kept |= {_key(case): {"needs_s": needs_s} for case, needs_s in found.needs_s}
        kept |= {_key(case): {"seconds": step.seconds, "device": step.device} for case, step in found.steps}
        notes += found.notes
    if missing and keep:
        _write(path, kept)
    known = [case.step(**one) for key, case in cases.items() if "seconds" in (one := kept.get(key, {}))]
    return Times(tuple(known), tuple(notes), fresh=bool(missing))


def cases_of(
    specs: Sequence[ExperimentSpec], fitting: Callable[[ExperimentSpec], Sequence[Architecture]], cores: int
) -> Iterator[Case]:
    """Yield the trials to time: of each budget the fastest and the slowest architecture, by two batch sizes.

    The cheap ones come first, so that the rate is known before a trial that might take too long.
    """
    from training.settings import parse_budget

    found: list[Case] = []
    seen: set[tuple[int, int, int]] = set()
    for spec in specs:
        if spec.trainable != "patchtst":
            continue
        place = (
            parse_budget(str(spec.config["budget"])),
            training_time.threads_of(spec),
            training_time.at_once(spec, cores),
        )
        architectures = [] if place in seen else fitting(spec)
        if architectures:
            seen.add(place)
            found += _of_budget(spec, *place, architectures)
    yield from sorted(found, key=lambda case: case.operations)


def _of_budget(
    spec: ExperimentSpec, budget: int, threads: int, at_once: int, architectures: Sequence[Architecture]
) -> Iterator[Case]:
    sizes = list(training_time.batch_sizes(spec))

    ordered = sorted(architectures, key=lambda shape: rule_seconds(shape, min(sizes), threads))
    for shape in dict.fromkeys((ordered[0], ordered[-1])):
        for batch in dict.fromkeys((min(sizes), max(sizes))):
            yield _case(spec, budget, shape, batch, threads, at_once)


def middle_case(spec: ExperimentSpec, architectures: Sequence[Architecture], threads: int, at_once: int) -> Case:
    """Return the trial with an architecture and a batch size from the middle of an experiment's."""
    from training.settings import parse_budget

    sizes = sorted(training_time.batch_sizes(spec))
    batch = sizes[(len(sizes) - 1) // 2]
    shape = sorted(architectures, key=lambda shape: rule_seconds(shape, batch, threads))[len(architectures) // 2]
    return _case(spec, parse_budget(str(spec.config["budget"])), shape, batch, threads, at_once)


def _case(spec: ExperimentSpec, budget: int, shape: Architecture, batch: int, threads: int, at_once: int) -> Case:
    # A grid of this one shape: its ordinals are then both known without the plan's grid.
    grid = {
        "d_model": [shape.d_model], "n_layers": [shape.n_layers], "n_heads": [shape.n_heads],
        "d_ff_ratio": [shape.d_ff // shape.d_model], "tolerance": 1.0,
    }  # fmt: skip
    middle = {name: _middle(dimension) for name, dimension in spec.space.items()}
    config = {
        **spec.config, **middle, "grid": grid, "shape_rank": 0, "heads_log2": shape.n_heads.bit_length() - 1,
        "batch_size": batch, "threads": threads, "seed": 0,
    }  # fmt: skip
    return Case(budget, config, shape, threads, at_once, spec.resources.all_gpu)


def _middle(dimension: Any) -> Any:
    """Return a value of a dimension that is not at its ends: a dropout of 0 would cost less than any other."""
    if isinstance(dimension, CategoricalDimension):
        return dimension.choices[len(dimension.choices) // 2]
    return dimension.low if isinstance(dimension.low, int) else (dimension.low + dimension.high) / 2


def _key(case: Case) -> str:
    """Name a case by all that its time depends on: machine, versions, config, and the trials beside it."""
    facts = {"machine": _machine(), "config": dict(case.config), "at_once": case.at_once}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _machine() -> dict[str, Any]:
    from supervisor.preflight.machine import usable_cores

    processor = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = (line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line)
        processor = next(names, processor)
    cards = sorted(path.read_text() for path in Path("/proc/driver/nvidia/gpus").glob("*/information"))
    return {
        "processor": processor, "cores": usable_cores(), "system": platform.platform(), "python": sys.version,
        "cards": [cards, os.environ.get("CUDA_VISIBLE_DEVICES")],
        "libraries": {name: _version(name) for name in LIBRARIES},
    }  # fmt: skip


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _read(path: Path) -> dict[str, dict[str, Any]]:
    """Return the kept times, by key: seconds and device of a step, or the seconds that timing it would take."""
    try:
        kept = json.loads(path.read_bytes())
        return {
            key: {"needs_s": float(one["needs_s"])} if "needs_s" in one
            else {"seconds": float(one["seconds"]), "device": str(one["device"])}
            for key, one in kept.items()
        }  # fmt: skip
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("%s cannot be read, so steps are timed again: %s", path, error)
        return {}


def _write(path: Path, kept: Mapping[str, Any]) -> None:
    newest = dict(list(kept.items())[-MAX_KEPT:])
    try:
        write_atomically(path, json.dumps(newest).encode(), durable=False)
    except OSError as error:
        log.warning("%s cannot be written: %s", path, error)

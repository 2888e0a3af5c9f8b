"""Rebuilds what a driver rebuilds at its start from the lines of a begin, and prints its times and memory as JSON.

    python -m benchmarks.growth.driver_start LINES FOLDER

A process of its own, as a driver is, so that its memory is its own.
"""

from __future__ import annotations

import json
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil

from actors.driver.pruner import pruner, replay
from actors.driver.search import Space
from actors.driver.study import SamplerPerTrial, build_study, open_storage, sampler_factory
from actors.driver.trial_registry import TrialRegistry
from supervisor.domain.codec import decode
from supervisor.domain.messages import Begin, TrialsBefore
from supervisor.domain.trials.begin_parts import whole

DRAWS = 5


def begin_of(lines: Path) -> Begin:
    """Return the begin of a file's lines. Raises ValueError for lines that end without one."""
    before: list[dict[str, Any]] = []
    with lines.open("rb") as stream:
        for line in stream:
            message, _ = decode(line)
            if isinstance(message, TrialsBefore):
                before += message.trials
            elif isinstance(message, Begin):
                return whole(before, message)
    raise ValueError(f"expected a Begin in {lines}, found none")


def measure(lines: Path, folder: Path) -> dict[str, float]:
    """Return the seconds of each step and the bytes that they took."""
    process, marks = psutil.Process(), [time.perf_counter()]
    before_bytes = process.memory_info().rss
    begin = begin_of(lines)
    marks.append(time.perf_counter())
    spec, space = begin.experiment, Space(begin.experiment["space"])
    TrialRegistry(spec["metric"], spec["mode"], begin.trials)
    study = build_study(open_storage(folder), spec["name"], spec["mode"], space.distributions, begin.trials, [])
    marks.append(time.perf_counter())
    inner = pruner(spec["pruner"], spec["metric"], spec["mode"])
    replay(inner, begin.trials, spec["metric"])
    marks.append(time.perf_counter())
    sampler = spec["sampler"]
    study.sampler = SamplerPerTrial(sampler_factory(sampler["kind"], sampler["startup_trials"], spec["seed"]))
    draws = []
    for _ in range(DRAWS):
        begun_s = time.perf_counter()
        trial = study.ask()
        space(trial)
        study.tell(trial, 0.5)
        draws.append(time.perf_counter() - begun_s)
    steps = [later - earlier for earlier, later in pairwise(marks)]
    return {
        "read_s": steps[0], "study_s": steps[1], "pruner_s": steps[2], "first_draw_s": draws[0], "draw_s": min(draws),
        "bytes": process.memory_info().rss - before_bytes,
    }  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]), Path(sys.argv[2]))))

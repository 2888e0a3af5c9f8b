"""Times steps of trials in child processes (training.timing) that work side by side, as the trials of a run will."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import TYPE_CHECKING, Any

from supervisor.errors import WorkerFailed
from supervisor.formatting import one_line
from supervisor.preflight.checkpoint_space import CHECKPOINT_BYTES_PER_PARAMETER
from supervisor.preflight.machine import usable_gpus
from supervisor.preflight.step_times import TimedStep, operations
from supervisor.processes.environment import passed_environment, thread_environment
from supervisor.processes.json_worker import JsonWorker, python_module

if TYPE_CHECKING:
    from training.grid import Architecture

START_S = 10.0
"""Importing torch and reading the data."""


@dataclass(frozen=True)
class Case:
    """A trial whose steps are timed: its config, its architecture, and how many of them run at once."""

    budget: int
    config: Mapping[str, Any]
    architecture: Architecture
    threads: int
    at_once: int
    gpu: float = 0.0
    """The share of a GPU that the plan reserves for a trial."""

    @property
    def batch(self) -> int:
        """Return the windows of a step."""
        return int(self.config["batch_size"])

    @property
    def operations(self) -> float:
        """Return the operations of a step."""
        return 3 * operations(self.architecture, self.batch)

    def step(self, seconds: float, device: str) -> TimedStep:
        """Return this trial's step with its time."""
        return TimedStep(self.budget, self.architecture, self.batch, self.threads, self.at_once, device, seconds)


@dataclass(frozen=True)
class Together:
    """Holds the findings of processes that worked side by side; `needs_s` are seconds of trials that are too slow."""

    steps: list[tuple[Case, TimedStep]]
    needs_s: list[tuple[Case, float]]
    notes: list[str]


async def time_together(
    cases: Sequence[Case], threads: int, at_once: int, seconds: float, memory_bytes: int
) -> Together:
    """Time `cases` in `at_once` processes of `threads` threads at the same time; return the means.

    `seconds` begin when a process has started; `memory_bytes` is for all processes together. A case that only some of
    the processes could time is left out: the others were not beside it.
    """
    request = {
        "trials": [
            {
                "config": {**case.config, "memory_limit_bytes": _share(case, memory_bytes)},
                "operations": case.operations,
                "bytes": CHECKPOINT_BYTES_PER_PARAMETER * case.budget,
            }
            for case in cases
        ],
        "seconds": seconds,
    }
    workers = [
        JsonWorker(python_module("training.timing"), environment, seconds + START_S)
        for environment in _environments(threads, at_once, max(case.gpu for case in cases))
    ]
    answers = await asyncio.gather(*(worker.run(request) for worker in workers), return_exceptions=True)
    found: dict[int, list[dict[str, Any]]] = {}
    notes: dict[str, None] = {}
    for answer in answers:
        if isinstance(answer, WorkerFailed):
            notes[f"steps could not be timed: their process {one_line(answer.message)}"] = None
        elif isinstance(answer, BaseException):
            raise answer
        else:
            for one in map(json.loads, answer.splitlines()):
                found.setdefault(int(one["trial"]), []).append(one)
    steps, needs_s = [], []
    for index, ones in sorted(found.items()):
        case, timed = cases[index], [one for one in ones if "step_s" in one]
        slow = [float(one["needs_s"]) for one in ones if "needs_s" in one]
        if len(timed) == at_once:
            steps.append((case, case.step(mean(one["step_s"] for one in timed), timed[0]["device"])))
        elif slow:
            needs_s.append((case, max(slow)))
        for one in ones:
            if "error" in one:
                notes[f"a step of {case.config['budget']} could not be timed: {one_line(one['error'])}"] = None
    return Together(steps, needs_s, list(notes))


def _environments(threads: int, at_once: int, gpu: float) -> list[dict[str, str]]:
    """Return the environment of each process: as Ray does in a run, trials that ask for GPUs share them out."""
    base = {**passed_environment(), **thread_environment(threads)}
    if gpu <= 0:
        return [base] * at_once
    asked = base.get("CUDA_VISIBLE_DEVICES")
    cards = asked.split(",") if asked else [str(card) for card in range(max(1, usable_gpus()))]
    return [{**base, "CUDA_VISIBLE_DEVICES": cards[int(place * gpu) % len(cards)]} for place in range(at_once)]


def _share(case: Case, memory_bytes: int) -> int:
    own = case.config.get("memory_limit_bytes")
    share = memory_bytes // case.at_once
    return share if own is None else min(share, int(own))

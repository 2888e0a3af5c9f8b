"""Evaluates an experiment's answer on the test days, once the last of its trials has ended.

The opening of the test is committed first; then a child process (training.evaluation) computes the result, and the
store keeps it.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Sequence
from pathlib import Path
from typing import Any

from supervisor.daemon.stop_request import StopRequest
from supervisor.domain import finalists
from supervisor.domain.answer import TESTED
from supervisor.errors import (
    DiskFailed,
    DiskFull,
    EvaluationFailed,
    EvaluationRefused,
    SweepError,
    TestRefused,
    WorkerFailed,
)
from supervisor.preflight.machine import usable_cores
from supervisor.processes.environment import passed_environment, thread_environment
from supervisor.processes.json_worker import JsonWorker, WaitingWorker, python_module
from supervisor.store.evaluation_writer import EvaluationWriter

log = logging.getLogger("supervisor")

WEIGHTS = "best.pt"
"""The file of a finalisation trial's best weights, in its folder (training.best_weights)."""
REFUSED = "refused"
"""The key of an answer that is a refusal (training.evaluation)."""
DEADLINE_S = 3600.0
"""A 2B model reads a few thousand windows in minutes; the baselines take seconds."""
HOLD_POLL_S = 1.0


class Evaluator:
    """Evaluates the answers of one run.

    `mark` goes into the child's environment: by it the next daemon finds and ends an orphan.
    """

    def __init__(self, writer: EvaluationWriter, mark: dict[str, str]) -> None:
        self._writer, self._mark = writer, mark
        self._waiting: tuple[str, int, WaitingWorker] | None = None
        """An experiment, threads, and the process that was started for its test before its turn."""

    async def start_ahead(self, name: str) -> None:
        """Start the process of an experiment's test, if it has one: it imports, and reads nothing without a request.

        One that fails costs only its head start.
        """
        spec = self._writer.spec(name)
        if not _has_test(spec) or self._writer.scored(name):
            return
        await self.end_ahead()
        threads = _threads(spec)
        try:
            self._waiting = name, threads, await worker(threads, DEADLINE_S, self._mark).start()
        except WorkerFailed as error:
            log.warning("the process of the test of %s cannot be started before its turn: %s", name, error.message)

    async def end_ahead(self) -> None:
        """End the process that waits, if there is one."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            await waiting[2].end()

    async def _taken(self, name: str, threads: int) -> WaitingWorker | None:
        """Return the living process that waits for this test; None without one. Another one is ended."""
        if self._waiting is not None:
            kept, its_threads, waiting = self._waiting
            if (kept, its_threads) == (name, threads) and waiting.lives:
                self._waiting = None
                return waiting
        await self.end_ahead()
        return None

    async def _compute(self, name: str, request: dict[str, Any]) -> dict[str, Any]:
        waiting = await self._taken(name, request["threads"])
        if waiting is None:
            return await compute(request, DEADLINE_S, self._mark)
        return await _result(waiting.ask(request))

    async def evaluate(self, name: str, folder: Path, stop: StopRequest) -> bool:
        """Evaluate the experiment's answer, if it has one; return False if it is left out or the run stops before.

        One that is to choose anew has none. An error is recorded and does not fail the experiment: its search stands.
        """
        spec = self._writer.spec(name)
        if not _has_test(spec) or self._writer.scored(name):
            return True
        if not await self._released(name, stop):
            return False
        # Chosen after the wait, in which a person may have asked for another try of a trial, or for another choice.
        aside, spec = finalists.set_aside_trials(spec), self._writer.spec(name)
        if finalists.set_aside_trials(spec) > aside:
            return True
        trials = self._writer.trials(name)
        choice = finalists.chosen(spec, trials)
        if choice is None:
            self._writer.record_failure(name, "no configuration was finalised on all its seeds", outside=False)
            return True
        tested = finalists.tested_trials(spec, trials)
        if not tested:
            self._writer.record_failure(name, "no seed of the winner was trained on every fold", outside=False)
            return True
        record_of = {int(trial["number"]): trial["record"] for trial in trials}
        records = [record_of[number] for number in choice.finalist.numbers]
        record = records[0]
        try:
            opening = self._writer.open_test(name, opening_of(spec, choice, tested, records))
            request = request_of(spec, trials, opening, record, folder)
            computed = await stop.unless_asked(self._compute(name, request))
            if computed is None:
                return False
            result = computed.result()
        except (DiskFull, DiskFailed):
            # Not a failed test: the experiment runs again once the store can be written.
            raise
        except TestRefused:
            return True
        except SweepError as error:
            self._writer.record_failure(name, error.message, outside=not isinstance(error, EvaluationRefused))
            return True
        chosen, left = finalists.outcome_json(choice, record), len(choice.values) - len(tested)
        self._writer.keep_result(name, {**result, "chosen": chosen, "seeds_left_out": left})
        return True

    async def _released(self, name: str, stop: StopRequest) -> bool:
        """Wait while operator or schedule hold work back; return False if the run is to stop, or this is left out."""
        while self._writer.is_held() and not self._left_out(name) and not await stop.within(HOLD_POLL_S):
            pass
        return not (stop.asked() or self._left_out(name))

    def _left_out(self, name: str) -> bool:
        return bool(self._writer.spec(name).get("left_out"))


def _has_test(spec: dict[str, Any]) -> bool:
    return spec.get("finalize") is not None and spec["trainable"] == TESTED


def opening_of(
    spec: dict[str, Any],
    choice: finalists.Outcome,
    tested: Sequence[Sequence[int]],
    records: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    """Return the facts of a test's opening that do not depend on its time: by, reason, days, trials.

    `tested` are the trials of finalists.tested_trials, `records` those of the finalist's trials. `folds` is how many
    blocks are opened.
    """
    config, days = spec["config"], [record["sealed_days"] for record in records if "sealed_days" in record]
    return {
        "by": "the daemon",
        "reason": f"trial {choice.finalist.from_trial} has the best mean of {len(choice.values)} seeds",
        "dataset": Path(str(config["dataset"])).name,
        "dataset_sha256": records[0].get("dataset_sha256"),
        "split": config.get("split", {}),
        "horizon": config.get("horizon"),
        "trials": sorted(number for numbers in tested for number in numbers),
        "folds": finalists.folds_of(spec),
        "sealed_days": [each for place, each in enumerate(days) if each not in days[:place]],
    }


def request_of(
    spec: dict[str, Any], trials: list[dict[str, Any]], opening: dict[str, Any], record: dict[str, Any], folder: Path
) -> dict[str, Any]:
    """Return the request that training.evaluation.Request.from_json takes."""
    params = {number: params for number, (_, params) in finalists.after_search(spec, trials).items()}
    device = (record.get("device") or {}).get("chosen") or "cpu"
    return {
        "trials": [
            {
                "number": number,
                "config": {**spec["config"], **params[number]},
                "weights": str(folder / str(number) / WEIGHTS),
            }
            for number in opening["trials"]
        ],
        "folder": str(folder),
        "device": device,
        "threads": _threads(spec),
        "opening": {
            "record": f"test-opened-{opening['openings']}.json",
            "by": opening["by"],
            "reason": opening["reason"],
            "at": opening["at"],
        },
    }


def _threads(spec: dict[str, Any]) -> int:
    """Return the threads of a test: all cores where the machine's share was its own to choose, since no trial runs."""
    if spec.get("chosen"):
        return usable_cores()
    return max(1, math.floor(float(spec["resources"]["cpu"]) * int(spec["concurrency"])))


async def compute(request: dict[str, Any], deadline_s: float, mark: dict[str, str]) -> dict[str, Any]:
    """Return the answer of a training.evaluation process.

    Raises EvaluationRefused when it found the request at fault, EvaluationFailed for every other end without a result.
    """
    return await _result(worker(request["threads"], deadline_s, mark).ask(request))


def worker(threads: int, deadline_s: float, mark: dict[str, str]) -> JsonWorker:
    """Describe the process of a test that computes with `threads`."""
    environment = {**passed_environment(), **thread_environment(threads), **mark}
    return JsonWorker(python_module("training.evaluation"), environment, deadline_s)


async def _result(answer: Awaitable[dict[str, Any]]) -> dict[str, Any]:
    try:
        result = await answer
    except WorkerFailed as error:
        raise EvaluationFailed(f"the evaluation's process {error.message}") from error
    if REFUSED in result:
        raise EvaluationRefused(str(result[REFUSED]))
    return result

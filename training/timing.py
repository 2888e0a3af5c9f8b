"""Time a few steps of trials, in a process of its own: a JSON request in, one JSON line out for each timed trial.

A trial is built and trained by the session that trains it in a run. Its gate, called between batches, takes the times
and then ends it. By the rate of the trials before it, a trial may take longer than the time that is left: it is not
timed, and neither is one that does not fit into memory.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from statistics import median
from typing import Any

import torch

from training.errors import TrainingError
from training.session import TrainingSession

WARM_UP_STEPS = 2
"""Steps that are not timed: they allocate, and choose kernels."""
MOST_STEPS, ENOUGH_S = 50, 1.0
"""Steps are timed until so many are done, or so many seconds are over."""
SETUP_BYTES_A_SECOND = 1e9
"""A trial's weights and moments are drawn and written at about this rate on one core."""

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Timed:
    """The seconds of a step of one trial of the request, and the device that it was timed on."""

    trial: int
    device: str
    step_s: float


@dataclass(frozen=True, slots=True)
class TooSlow:
    """A trial of the request that needs about ``needs_s`` to be timed: more than was left."""

    trial: int
    needs_s: float


@dataclass(frozen=True, slots=True)
class Failed:
    """A trial of the request that could not be timed."""

    trial: int
    error: str


class _Enough(Exception):
    """Enough steps were timed."""


class _Stopwatch:
    """A gate that notes the time and the batches done before it, and raises _Enough after the last one that is timed.

    On an accelerator the gate is called before each queue of batches, not before each batch.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock, self.batches = clock, 0
        self.session: TrainingSession | None = None
        self._moments: list[tuple[float, int]] = []

    def wait(self) -> float:
        assert self.session is not None, "a session calls its gate only when it trains"
        if torch.accelerator.is_available():
            torch.accelerator.synchronize()  # a step is only queued there
        cursor = self.session.cursor
        # In the validation all batches of the epoch are done: a small dataset may have no more than one.
        self._moments.append((self._clock(), self.batches if cursor is None else cursor[1]))
        timed = self._timed()
        done, seconds = timed[-1][1] - timed[0][1], timed[-1][0] - timed[0][0]
        if cursor is None or (done > 0 and seconds >= ENOUGH_S) or done >= MOST_STEPS:
            raise _Enough
        return 0.0

    def _timed(self) -> list[tuple[float, int]]:
        """Return the moments from the end of the warm-up on; at least the last batch is timed."""
        warm = min(WARM_UP_STEPS, self.batches - 1)
        return [one for one in self._moments if one[1] >= warm] or self._moments[-1:]

    def step_s(self) -> float:
        """Return the median seconds of a timed step."""
        return median(
            (after[0] - before[0]) / (after[1] - before[1])
            for before, after in pairwise(self._timed())
            if after[1] > before[1]
        )


def time_trials(
    trials: Sequence[Mapping[str, Any]], seconds: float, clock: Clock, begun: Callable[[int], object] = int
) -> Iterator[Timed | TooSlow | Failed]:
    """Time those ``trials`` that can be timed within ``seconds``, in order; ``begun`` is called before each of them.

    A trial has ``config``, ``operations`` (of a step) and ``bytes`` (of weights and moments).
    """
    end, rate = clock() + seconds, None
    for index, trial in enumerate(trials):
        steps = WARM_UP_STEPS + 1
        expected = trial["bytes"] / SETUP_BYTES_A_SECOND + steps * (trial["operations"] / rate if rate else 0.0)
        if clock() + expected > end:
            yield TooSlow(index, expected)
            continue
        begun(index)
        try:
            found = _time_one(index, trial["config"], clock)
        except (TrainingError, MemoryError, RuntimeError) as error:  # torch's allocators raise RuntimeError
            yield Failed(index, f"{type(error).__name__}: {error}"[:300])
            continue
        rate = trial["operations"] / found.step_s
        yield found


def _time_one(index: int, config: Mapping[str, Any], clock: Clock) -> Timed:
    stopwatch = _Stopwatch(clock)
    session = stopwatch.session = TrainingSession(config, gate=stopwatch.wait, clock=clock)
    try:
        stopwatch.batches = -(-session.record()["train_windows"] // session.settings.batch_size)
        session.step()
    except _Enough:
        pass
    finally:
        session.close()
    return Timed(index, session.choice.device, stopwatch.step_s())


def main() -> None:
    """Answer the request on standard input."""
    request = json.load(sys.stdin)
    at_work: list[int] = []

    def give_up() -> None:
        # A step may take far longer than expected: what was timed before it must not be lost with it.
        if at_work:
            os.write(1, f"{json.dumps(asdict(TooSlow(at_work[-1], 2 * request['seconds'])))}\n".encode())
        os._exit(0)

    limit = threading.Timer(request["seconds"], give_up)
    limit.daemon = True
    limit.start()
    for found in time_trials(request["trials"], request["seconds"], time.monotonic, at_work.append):
        print(json.dumps(asdict(found)), flush=True)


if __name__ == "__main__":
    main()

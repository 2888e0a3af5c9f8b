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


class _Enough(Exception):
    """Enough steps were timed."""


class _Stopwatch:
    """A gate that notes the time before each batch, and raises _Enough after the last one that is timed."""

    def __init__(self, clock: Clock) -> None:
        self._clock, self.batches = clock, 0
        self.moments: list[float] = []

    def wait(self) -> float:
        if torch.accelerator.is_available():
            torch.accelerator.synchronize()  # a step is only queued there
        self.moments.append(self._clock())
        # The batches after those of an epoch are validation: a small dataset may have no more than one of training.
        skipped = min(WARM_UP_STEPS, self.batches - 1)
        timed = len(self.moments) - 1 - skipped
        enough = timed > 0 and self.moments[-1] - self.moments[skipped] >= ENOUGH_S
        if enough or timed >= min(MOST_STEPS, self.batches - skipped):
            raise _Enough
        return 0.0

    def step_s(self) -> float:
        """Return the median seconds of a timed step."""
        kept = self.moments[min(WARM_UP_STEPS, self.batches - 1) :]
        return median(after - before for before, after in pairwise(kept))


def time_trials(trials: Sequence[Mapping[str, Any]], seconds: float, clock: Clock) -> Iterator[Timed]:
    """Yield the times of those `trials` that can be timed within `seconds`, in order.

    A trial has `config`, `operations` (of a step) and `bytes` (of weights and moments).
    """
    end, rate = clock() + seconds, None
    for index, trial in enumerate(trials):
        steps = WARM_UP_STEPS + 1
        expected = trial["bytes"] / SETUP_BYTES_A_SECOND + steps * (trial["operations"] / rate if rate else 0.0)
        if clock() + expected > end:
            continue
        try:
            found = _time_one(index, trial["config"], clock)
        except (TrainingError, MemoryError, RuntimeError) as error:  # torch's allocators raise RuntimeError
            print(f"trial {index} of the request cannot be timed: {error}", file=sys.stderr)
            continue
        rate = trial["operations"] / found.step_s
        yield found


def _time_one(index: int, config: Mapping[str, Any], clock: Clock) -> Timed:
    stopwatch = _Stopwatch(clock)
    session = TrainingSession(config, gate=stopwatch.wait, clock=clock)
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
    # A step may take far longer than expected: what was timed before it must not be lost with it.
    limit = threading.Timer(request["seconds"], os._exit, (0,))
    limit.daemon = True
    limit.start()
    for timed in time_trials(request["trials"], request["seconds"], time.monotonic):
        print(json.dumps(asdict(timed)), flush=True)


if __name__ == "__main__":
    main()

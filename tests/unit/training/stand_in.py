"""A stand-in for an accelerator: its queue takes work at once and does it later; its tensors lie in ordinary memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

from training.devices.accelerator import Accelerator
from training.loop import Learner


class Generator:
    """A random generator of its own, beside the CPU's."""

    def __init__(self) -> None:
        self.state = torch.zeros(4, dtype=torch.uint8)

    def draw(self) -> int:
        """Return the next number, which the state determines."""
        self.state = self.state + 1
        return int(self.state[0])


def stand_in(generator: Generator, kind: str = "mps", **changes: Any) -> Accelerator:
    def set_state(state: torch.Tensor) -> None:
        generator.state = state.clone()

    calls: dict[str, Any] = {
        "shares_memory": True,
        "rng_state": lambda: generator.state.clone(),
        "set_rng_state": set_state,
        "free_bytes": lambda: 2**40,
        "held_bytes": lambda: 0,
        "empty_cache": lambda: None,
    }
    return Seeded(kind, **{**calls, **changes})


class Seeded(Accelerator):
    """One whose generator begins with the seed's lowest byte: torch has no generator for a device that is not here."""

    __slots__ = ()

    def first_rng_state(self, seed: int) -> torch.Tensor:
        return torch.full((4,), seed % 256, dtype=torch.uint8)


@dataclass
class Queue:
    """Batches that take ``queue_s`` to queue and ``work_s`` to do; a loss that is read waits for all of them.

    ``while_it_waits`` is called when the last of them is about to end.
    """

    sleep: Callable[[float], object]
    queue_s: float
    work_s: float
    while_it_waits: Callable[[], object] = lambda: None
    lengths: list[int] = field(default_factory=list)
    """The number of batches at each wait."""
    _queued: int = 0

    def train_batch(self, learner: Learner, windows: object, samples: torch.Tensor) -> torch.Tensor:
        self.sleep(self.queue_s)
        self._queued += 1
        return torch.ones(()).as_subclass(_Loss)

    def finish(self) -> None:
        done_s = self._queued * self.work_s - (self._queued - 1) * self.queue_s
        self.sleep(max(0.0, done_s - 1e-3))
        self.while_it_waits()
        self.sleep(1e-3)
        self.lengths.append(self._queued)
        self._queued = 0

    def attach(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let the loop train by this queue."""
        monkeypatch.setattr("training.loop.train_batch", self.train_batch)
        monkeypatch.setattr(_Loss, "queue", self)


class _Loss(torch.Tensor):
    queue: Any = None

    def tolist(self) -> Any:
        self.queue.finish()
        return self.as_subclass(torch.Tensor).tolist()

"""Decides when a checkpoint of a trial is due: by time, because an epoch takes a second or a day. Pure."""

from __future__ import annotations

from dataclasses import dataclass

CHECKPOINT_EVERY_S = 600.0
"""The default of a plan's `checkpoint_every_s`."""

WRITING_SHARE = 0.01
"""Checkpoints are written sooner while all writing stays under this share of the time since the attempt began."""

ASSUMED_BYTES_S = 200e6
"""The speed at which a first checkpoint is expected to be written: that of a slow disk."""


def likely_count(every_s: float, trained_s: float | None, epochs: float, size_bytes: float) -> float:
    """Return how many checkpoints a trial of so many seconds and epochs writes, each of `size_bytes`.

    One every `every_s`, or as many as the share of writing allows, but those at the ends of epochs. A trial of unknown
    length counts one an epoch.
    """
    if every_s == 0.0 or trained_s is None:
        return epochs
    allowed = WRITING_SHARE * trained_s * ASSUMED_BYTES_S / max(size_bytes, 1.0)
    return max(trained_s / every_s, min(epochs, allowed))


@dataclass
class Schedule:
    """The checkpoints of one attempt, on its own clock: seconds since it began, without pauses.

    `cost_s` is what the next one will take: what the last one took. `last_s` is when the last one was taken, and
    `written_s` the seconds that all took.
    """

    every_s: float = CHECKPOINT_EVERY_S
    cost_s: float = 0.0
    last_s: float = 0.0
    written_s: float = 0.0

    def expect(self, size_bytes: int) -> None:
        """Take the size of a checkpoint that was never written before."""
        self.cost_s = size_bytes / ASSUMED_BYTES_S

    def is_over(self, now_s: float) -> bool:
        """Return whether one is due wherever the trial is; with `every_s` 0 only the end of an epoch counts."""
        return self.every_s > 0.0 and self._age_s(now_s) >= self.every_s

    def is_due(self, now_s: float, next_s: float) -> bool:
        """Return whether one is due at the end of an epoch; `next_s` is when work can be saved again, at best.

        Work may be `every_s` old, or one epoch where an epoch takes longer.
        """
        too_late = self.every_s == 0.0 or self._age_s(now_s) + next_s > self.every_s
        return too_late or self.written_s + self.cost_s <= WRITING_SHARE * now_s

    def _age_s(self, now_s: float) -> float:
        """Return how old the last checkpoint will be when the next is written; where writing takes long, half of it.

        So a disk that is slower than `every_s` is not written to all the time.
        """
        return now_s - self.last_s + min(self.cost_s, self.every_s / 2)

    def wrote(self, taken_s: float, took_s: float) -> None:
        """Note a checkpoint that was taken at `taken_s`, and that writing it took `took_s`.

        Where that is long, the next one counts from the end of the writing, or it would be due at once.
        """
        slow = took_s > self.every_s / 3
        self.last_s, self.cost_s = max(self.last_s, taken_s + (took_s if slow else 0.0)), took_s
        self.written_s += took_s

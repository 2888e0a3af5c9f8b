"""Decides how much work a trial may train again after a fault. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from supervisor.domain.answer import TESTED
from supervisor.domain.checkpoint_name import checkpoint_step


@dataclass
class Work:
    """The epochs of a trial that count: the seconds of each, and the steps of its last two checkpoints."""

    seconds: dict[int, float] = field(default_factory=dict)
    saved: list[int] = field(default_factory=list)

    def report(self, fields: Mapping[str, Any]) -> None:
        """Take an epoch that was reported or repeated."""
        self.seconds[fields["step"]] = float((fields.get("metrics") or {}).get("time_this_iter_s") or 0.0)
        if fields["checkpoint"] is not None:
            step = checkpoint_step(fields["checkpoint"])
            saved = fields["step"] if step is None else step
            self.saved = [*(one for one in self.saved if one < saved), saved][-2:]

    def fault(self, begins: int, every_s: float) -> str | None:
        """Return why an attempt may not begin after epoch `begins`; None when it may.

        It resumes from the newest checkpoint or the one before it. A checkpoint in the middle of an epoch does not show
        here, so the longest epoch is allowed beside `every_s`.
        """
        if self.saved and begins < self.saved[0]:
            return f"resumes from epoch {begins}, was saved at {self.saved[-1]}"
        again = [seconds for step, seconds in self.seconds.items() if step > begins]
        if sum(again) > every_s + max(again, default=0.0):
            return f"trains {sum(again):.0f} s of work again from epoch {begins}, and is saved every {every_s:.0f} s"
        return None

    def begin(self, begins: int) -> None:
        """Take the start of an attempt: what is beyond `begins` counts once it was trained again."""
        self.seconds = {step: seconds for step, seconds in self.seconds.items() if step <= begins}
        self.saved = [step for step in self.saved if step <= begins]


def seconds_between(spec: Mapping[str, Any]) -> float:
    """Return the seconds between two checkpoints of a trial; infinity for code of a user, which may choose them."""
    if spec.get("trainable") != TESTED:
        return math.inf
    return float(spec.get("checkpoint_every_s", math.inf))

"""Ends a search whose first trials all fail by the same error: no other configuration would help. Pure.

A wrong path or a missing package must not cost the start of every trial. Only trials that this driver begins count:
those that a person lets try again say whether what failed was mended, and a search goes on after one that ended well.
"""

from __future__ import annotations

import re

from supervisor.domain.lifecycle import SUCCEEDED, EndReason
from supervisor.formatting import error_sentence, shortened

AT_LEAST, TIMES_AT_ONCE = 5, 3
"""So many trials must agree, and so many for each that runs at once: those that began together say little more."""
MAX_SAID_CHARACTERS = 100
_VARIES = re.compile(r"""(['"])[^'"]*/[^'"]*\1|0x[0-9a-fA-F]+|[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?""")
"""The parts that may differ between two texts of one error: paths in quotes, addresses, numbers."""
_WORKS = SUCCEEDED | {EndReason.DIVERGED}
"""The ends that show that trials can work. Memory, hangs and a person say nothing for or against it."""


class FailureCheck:
    """Counts the first trials that fail; `problem` is the reason to end the search, None while there is none."""

    def __init__(self, at_once: int, *, works: bool = False) -> None:
        """`at_once` is the plan's concurrency; `works` says that a trial under an earlier driver has worked."""
        self._enough = max(AT_LEAST, TIMES_AT_ONCE * at_once)
        self._works, self._same, self._failed = works, "", 0
        self.problem: str | None = None
        self.trial = 0
        """The trial that failed last."""

    @staticmethod
    def shows_work(end_reason: str | None) -> bool:
        """Return whether a trial of that end shows that trials can work."""
        return end_reason is not None and EndReason(end_reason) in _WORKS

    def look(self, number: int, reason: EndReason, error: str | None, *, again: bool = False) -> None:
        """Take note of the end of a trial of the search; `again` is one that an earlier driver began."""
        if self._works or self.problem is not None:
            return
        if reason in _WORKS:
            self._works = True
        elif reason is EndReason.ERROR and not again:
            self.trial = number
            self._count(error_sentence(error or "no text"))

    def _count(self, said: str) -> None:
        same = _VARIES.sub("#", said)
        if self._failed and same != self._same:
            # They fail for reasons of their own: a configuration may matter.
            self._works = True
            return
        self._same, self._failed = same, self._failed + 1
        if self._failed >= self._enough:
            text = shortened(said, MAX_SAID_CHARACTERS)
            self.problem = f"trial {self.trial}, as each of the first {self._failed}, failed by the same error: {text}"

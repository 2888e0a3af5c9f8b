"""Splits a driver's begin into lines: a message has a bound, and an experiment may have any number of trials. Pure.

Standard library only.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from supervisor.domain.messages import Begin, TrialsBefore

PART_BYTES = 4 * 1024 * 1024
"""About the size of a part: a quarter of the bound of a line, since sizes are guessed."""
TRIAL_BYTES, RESULT_BYTES, CAUSE_BYTES = 500, 32, 20
"""About the size of a trial without its params, of one result and of one cause of an attempt's end."""


def in_parts(begin: Begin, part_bytes: int = PART_BYTES) -> Iterator[TrialsBefore | Begin]:
    """Yield `begin` as the driver gets it: parts of about `part_bytes` with its first trials, then it with the last.

    Each part has one trial at least. `whole` puts them together again.
    """
    part: list[dict[str, Any]] = []
    size = 0
    for trial in begin.trials:
        own = about_bytes(trial)
        if part and size + own > part_bytes:
            yield TrialsBefore(part)
            part, size = [], 0
        part.append(trial)
        size += own
    yield replace(begin, trials=part)


def whole(before: list[dict[str, Any]], begin: Begin) -> Begin:
    """Return the begin that `in_parts` has split; `before` are the trials of the parts, in order."""
    return replace(begin, trials=[*before, *begin.trials])


def about_bytes(trial: Mapping[str, Any]) -> int:
    """Return about how many bytes one of the trials of a Begin takes in its line."""
    params = len(json.dumps(trial["params"]))
    return TRIAL_BYTES + params + RESULT_BYTES * len(trial["results"]) + CAUSE_BYTES * len(trial.get("lost") or ())

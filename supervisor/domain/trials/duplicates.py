"""Says which trials were not trained, since an earlier one of their search had the same params. Pure.

Such a trial has the end and the value of that one, and no epochs of its own. Standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from supervisor.domain.finalists import is_discarded
from supervisor.domain.lifecycle import SUCCEEDED
from supervisor.domain.trials.extension import extension_of

DUPLICATE_OF = "duplicate_of"
"""The key of a trial's record with the number of the trial that it repeats."""


def duplicate_of(record: Mapping[str, Any] | None) -> int | None:
    """Return the number of the trial that a trial repeats, by its record; None of one that was trained."""
    found = (record or {}).get(DUPLICATE_OF)
    return found if isinstance(found, int) else None


def may_be_repeated(spec: Mapping[str, Any], trial: Mapping[str, Any], params: Mapping[str, Any]) -> bool:
    """Return whether the end of `trial` holds for another one with these params."""
    number = int(trial["number"])
    known = trial["end_reason"] in SUCCEEDED and trial["value"] is not None
    return known and trial["params"] == params and not is_discarded(spec, number) and extension_of(spec, number) is None

"""Says how long a trial that was extended trains on, and how it had ended. Pure; `status` loads it.

An extended trial is PENDING again. Neither sampler nor pruner sees its extension: to them it stays as it had ended,
until the next driver learns its new value. If the extension fails, the trial keeps its end.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from supervisor.domain.lifecycle import SUCCEEDED, EndReason, TrialState

Spec = Mapping[str, Any]
Trial = Mapping[str, Any]


def extension_of(spec: Spec, number: int) -> Mapping[str, Any] | None:
    """Return what a person asked of trial `number`, as with_extension keeps it; None if it was never extended."""
    found: Mapping[str, Any] | None = spec.get("extended", {}).get(str(number))
    return found


def last_epoch(spec: Spec, number: int) -> int | None:
    """Return the epoch at which trial `number` ends at the latest; None where that is not known.

    It is not after an extension that failed: the trial has the end of before it.
    """
    extension = extension_of(spec, number)
    last = spec.get("max_epochs") if extension is None else extension["last_step"]
    return None if last is None or (extension is not None and extension["failed"]) else int(last)


def more_epochs(spec: Spec, number: int) -> int | None:
    """Return by how many epochs a person has extended trial `number` in all; None without an extension that holds."""
    extension = extension_of(spec, number)
    return None if extension is None else int(extension["more"]) or None


def with_extension(spec: Spec, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the spec of an experiment whose trial `fields["trial"]` trains on, from the fields of `trial.extended`."""
    number, before = str(fields["trial"]), spec.get("extended", {}).get(str(fields["trial"]), {})
    extension = {
        **{key: fields[key] for key in ("epochs", "last_step", "anew", "end_reason", "value")},
        "more": before.get("more", 0) + fields["epochs"],
        "failed": False,
        # A search that was asked to finish has done so: this wish is newer.
        "finishing": bool(spec.get("finish_asked")),
        # A pruner judges no epoch of an extension, also of an earlier one.
        "judged": before.get("judged", fields["after"]),
    }
    ending = {key: who for key, who in spec.get("ending", {}).items() if key != number}
    return {**spec, "extended": {**spec.get("extended", {}), number: extension}, "ending": ending}


def with_failed_extension(spec: Spec, number: int) -> dict[str, Any]:
    """Return the spec of an experiment whose trial `number` could not train on: it keeps the end that it had."""
    extension = spec["extended"][str(number)]
    failed = {**extension, "more": extension["more"] - extension["epochs"], "failed": True}
    return {**spec, "extended": {**spec["extended"], str(number): failed}}


def as_it_had_ended(spec: Spec, trial: Trial) -> Trial:
    """Return a trial that trains on as it had ended before; any other one as it is."""
    extension = None if trial["end_reason"] is not None else extension_of(spec, int(trial["number"]))
    return trial if extension is None else {**trial, **end_before(extension)}


def end_before(extension: Mapping[str, Any]) -> dict[str, Any]:
    """Return the end of an extended trial before its extension: state, end reason and value."""
    good = EndReason(extension["end_reason"]) in SUCCEEDED
    state = TrialState.TERMINATED if good else TrialState.ERROR
    return {"state": state, "end_reason": extension["end_reason"], "value": extension["value"]}


def as_searched(spec: Spec, trial: Trial) -> Trial:
    """Return a trial as sampler and pruner know it: its end, and its `results` without those of an extension."""
    extension = extension_of(spec, int(trial["number"]))
    if extension is None:
        return trial
    judged = 0 if extension["anew"] else extension["judged"]
    return {
        **as_it_had_ended(spec, trial),
        "results": [result for result in trial["results"] if result[0] <= judged],
    }

"""Changes the spec of an experiment by events: every later driver, and a rebuild, works by the changed one.

Pure; standard library only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from supervisor.domain.trials.extension import with_extension

Spec = Mapping[str, Any]


def with_search_ended(spec: Spec, reason: str, trials: int, top: int | None, seeds: int | None) -> dict[str, Any]:
    """Return the spec of an experiment whose search has ended after `trials` trials."""
    finalize = spec.get("finalize")
    if finalize is not None and top is not None and seeds is not None:
        finalize = {**finalize, "top": top, "seeds": seeds}
    return {**spec, "searched": trials, "search_end": reason, "finalize": finalize}


def with_hours(spec: Spec, hours: float) -> dict[str, Any]:
    """Return the spec of an experiment that got `hours` more."""
    return {**spec, "max_hours": float(spec["max_hours"]) + hours}


def with_ranks(spec: Spec, low: int, high: int) -> dict[str, Any]:
    """Return the spec of an experiment that tries the shapes from rank `low` to `high` only."""
    ranks = {**spec["space"]["shape_rank"], "low": low, "high": high}
    enqueue = [
        {**point, "shape_rank": min(max(point["shape_rank"], low), high)} if "shape_rank" in point else point
        for point in spec["enqueue"]
    ]
    unlike = [point for place, point in enumerate(enqueue) if point not in enqueue[:place]]
    return {**spec, "space": {**spec["space"], "shape_rank": ranks}, "enqueue": unlike}


def _with_points(spec: Spec, points: list[dict[str, Any]]) -> dict[str, Any]:
    return {**spec, "enqueue": [*spec["enqueue"], *points]}


def with_share(spec: Spec, trials: int, threads: int, most: int, reason: str) -> dict[str, Any]:
    """Return the spec of an experiment for which the machine chose `trials` at once, each with so many threads.

    At most `most` such trials have room.
    """
    config, resources = spec["config"], spec["resources"]
    if resources["auto"]:
        resources = {**resources, "cpu": float(threads)}
        config = {**config, **({"threads": threads} if "threads" in config else {})}
    return {**spec, "concurrency": trials, "resources": resources, "config": config, "most_at_once": most,
            "chosen": reason}  # fmt: skip


def with_more(spec: Spec, max_trials: int, hours: float) -> dict[str, Any]:
    """Return the spec of an experiment whose search goes on to `max_trials`, with `hours` more where it has a limit."""
    max_hours = spec.get("max_hours")
    return {
        **spec, "max_trials": max_trials, "max_hours": None if max_hours is None else float(max_hours) + hours,
        "searched": None, "search_end": None, "finish_asked": False,
    }  # fmt: skip


def with_set_aside(spec: Spec, trials: Sequence[int], finalize: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the spec of an experiment whose begun finalisation, its `trials`, was set aside.

    They keep their numbers as trials of the search that left no value, so the search has so many more; it has not
    ended, and `finalize` is the plan's again. A point of the plan whose number they took is tried after them.
    """
    tried, enqueue = min(trials), list(spec.get("enqueue", ()))
    points = {"enqueue": enqueue[:tried], "asked": [*enqueue[tried:], *spec.get("asked", ())]}
    return {
        **spec, "max_trials": int(spec["max_trials"]) + len(trials), "finalize": finalize, "searched": None,
        "search_end": None, "set_aside": [*spec.get("set_aside", ()), *trials],
        **(points if len(enqueue) > tried else {}),
    }  # fmt: skip


LISTS = ("ending", "discarded")
"""The keys of a spec that list trials: those that end at their next report, and those that the search knows no more."""


def _put(spec: dict[str, Any], name: str, fields: Mapping[str, Any]) -> None:
    """Put the trial of an event into a list of the spec."""
    spec.setdefault(name, {})[str(fields["trial"])] = fields["who"]


def _take(spec: dict[str, Any], fields: Mapping[str, Any], *lists: str) -> None:
    """Take the trial of an event out of lists of the spec: what a person asked of it is over."""
    for name in lists:
        spec.get(name, {}).pop(str(fields["trial"]), None)


LIST_CHANGES: dict[str, Callable[[dict[str, Any], Mapping[str, Any]], None]] = {
    "trial.end_asked": lambda spec, fields: _put(spec, "ending", fields),
    "trial.discarded": lambda spec, fields: _put(spec, "discarded", fields),
    "trial.restored": lambda spec, fields: _take(spec, fields, "discarded"),
    "trial.retried": lambda spec, fields: _take(spec, fields, *LISTS),
}
"""Changes a spec by each of these events in place, but for its LISTS nothing: there may be thousands of them."""


def changed(spec: Spec, events: Iterable[tuple[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """Return the spec after events in their order, each its name and its fields; `spec` stays as it is."""
    found = {**spec, **{name: dict(spec[name]) for name in LISTS if name in spec}}
    for name, fields in events:
        if name in LIST_CHANGES:
            LIST_CHANGES[name](found, fields)
        else:
            found = SPEC_CHANGES[name](found, fields)
    return found


def _one(name: str) -> Callable[[Spec, Mapping[str, Any]], dict[str, Any]]:
    return lambda spec, fields: changed(spec, [(name, fields)])


SPEC_CHANGES: dict[str, Callable[[Spec, Mapping[str, Any]], dict[str, Any]]] = {
    "experiment.warmed": lambda spec, fields: _with_points(spec, fields["points"]),
    "experiment.resources_chosen": lambda spec, fields: with_share(
        spec, fields["trials"], fields["threads"], fields["most"], fields["reason"]
    ),
    "experiment.concurrency_moved": lambda spec, fields: {
        **spec,
        "concurrency": fields["trials"],
        "chosen": fields["reason"],
    },
    "experiment.extended": lambda spec, fields: with_hours(spec, fields["hours"]),
    "experiment.narrowed": lambda spec, fields: with_ranks(spec, fields["low"], fields["high"]),
    "experiment.finish_asked": lambda spec, _: {**spec, "finish_asked": True},
    "experiment.search_ended": lambda spec, fields: with_search_ended(
        spec, fields["reason"], fields["trials"], fields["top"], fields["seeds"]
    ),
    "experiment.skip_asked": lambda spec, fields: {**spec, "left_out": fields["who"]},
    "experiment.skip_revoked": lambda spec, _: {**spec, "left_out": None},
    "experiment.advanced": lambda spec, fields: {**spec, "put_next": fields["seq"]},
    "experiment.point_enqueued": lambda spec, fields: {**spec, "asked": [*spec.get("asked", ()), fields["point"]]},
    "experiment.enlarged": lambda spec, fields: with_more(spec, fields["max_trials"], fields["hours"]),
    "finalisation.set_aside": lambda spec, fields: with_set_aside(spec, fields["trials"], fields["finalize"]),
    "trial.extended": with_extension,
    **{name: _one(name) for name in LIST_CHANGES},
}
"""The spec after each of these events, from the spec before and the event's fields.

Beside them stand `trial` and `seq`: the event's trial and its number.
"""

"""Chooses the run that a start means. Standard library only."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from supervisor.clock import Clock
from supervisor.control.handshake import StartRequest
from supervisor.domain.early_ends import Named
from supervisor.domain.lifecycle import Desired
from supervisor.domain.retry import Retry, asked_again
from supervisor.domain.run_words import start_command, way_on
from supervisor.errors import Conflict, NotFound, PlanChanged, UsageError
from supervisor.store import lookups, queries
from supervisor.store.database import Store
from supervisor.store.removal_queries import removal_asked
from supervisor.store.run_writer import RunWriter, create_run
from supervisor.store.steering.extended_trials import ExtendedTrials
from supervisor.store.steering.retry_writer import RetryWriter
from supervisor.store.steering.steer_writer import SteerWriter

STARTED_BY = "supervisord start"
MAX_REASONS = 5
"""Reasons that one refusal quotes."""


def choose_run(store: Store, request: StartRequest, clock: Clock) -> str:
    """Return the id of the run to work on: an unfinished run of the same fingerprint, else a new one.

    A run that has ended counts as unfinished while a test of it repeats itself (domain.answer).

    Raises PlanChanged if an unfinished run of the plan has another fingerprint and neither `new` nor `resume` is set;
    NotFound if no plan is named and no run is unfinished, or none of the plan with `resume`; UsageError for a plan
    without experiments; with `retry` also Conflict if nothing failed.
    """
    if request.extend:
        return _extended(store, request)
    if request.retry:
        return _retried(store, request)
    unfinished = queries.unfinished_run(store.connection, request.plan, stopped_too=request.plan is not None)
    if not request.new:
        unfinished = _with_due_tests(store, request, unfinished)
    if request.plan is None:
        if unfinished is None:
            raise _nothing_to_resume(store)
        return str(unfinished["id"])
    if not request.specs:
        raise UsageError(f"plan {request.plan} has no experiments")
    if unfinished is not None and not request.new:
        if unfinished["fingerprint"] != request.fingerprint and not request.resume:
            raise _changed(unfinished, request)
        return _gone_on_with(store, request, unfinished, clock)
    if request.resume and not request.new:
        raise NotFound(f"there is no unfinished run of {request.plan} to resume", remedy="start without --resume")
    if unfinished is not None:
        _give_up(store, str(unfinished["id"]))
    run_id = _new_id(store, request.plan, clock)
    create_run(
        store, run_id, plan=request.plan, fingerprint=request.fingerprint, source=request.source,
        plan_text=request.plan_text, hardware=request.hardware, data=request.data, specs=request.specs,
        queued=None if request.queued is None else _advanced(request.queued, clock),
    )  # fmt: skip
    return run_id


def _gone_on_with(store: Store, request: StartRequest, unfinished: sqlite3.Row, clock: Clock) -> str:
    run_id = str(unfinished["id"])
    # In one transaction: a queued plan that has advanced is dropped, so its run must be wanted by then.
    with store.change(run_id) as change:
        if request.queued is not None:
            change.record("queue.advanced", **_advanced(request.queued, clock))
        if unfinished["desired"] == Desired.STOP:
            change.record("run.wanted", who=STARTED_BY)
    return run_id


def _advanced(queued: Mapping[str, Any], clock: Clock) -> dict[str, Any]:
    """Return the fields of the event of a run that waited in the queue."""
    waited_s = max(0.0, round(clock.wall_s() - float(queued["queued_wall"]), 1))
    return {"id": queued["id"], "who": queued["who"], "waited_s": waited_s}


def _nothing_to_resume(store: Store) -> NotFound:
    """Return why a start without a plan has nothing to do: a stopped run goes on by its own command only."""
    stopped = queries.unfinished_run(store.connection)
    if stopped is None:
        return NotFound("there is no unfinished run to resume", remedy="name a plan: `supervisord start smoke`")
    return NotFound(
        f"run {stopped['id']} is stopped: a start without its plan does not resume it", remedy=way_on(stopped)
    )


def _changed(run: sqlite3.Row, request: StartRequest) -> PlanChanged:
    """Return why `request` does not resume its plan's unfinished run: other options, or a plan that was edited."""
    command, asked = start_command(run), start_command({**asdict(request), "source": run["source"]})
    if command != asked:
        return PlanChanged(
            f"run {run['id']} of {request.plan} is unfinished and was begun by `{command}`",
            remedy=f"{way_on(run)}; --new gives it up and begins another run",
        )
    resume = f"`{command} --resume` resumes it" if run["desired"] == Desired.STOP else way_on(run)
    return PlanChanged(
        f"run {run['id']} of {request.plan} is unfinished, and the plan has changed since it began",
        remedy=f"{resume} with its own copy of the plan, and `supervisorctl reread --apply` then takes over what can"
        " change; --new gives it up and begins another run",
    )


def _retried(store: Store, request: StartRequest) -> str:
    run_id = _last_run(store, request, "--retry")
    try_again(RetryWriter(store, run_id), STARTED_BY, left_out_too=True)
    return run_id


def _extended(store: Store, request: StartRequest) -> str:
    """Give experiments of the last run more trials, or trials more epochs.

    Raises NotFound for an unknown one, Conflict where it cannot be.
    """
    run_id = _last_run(store, request, "--extend")
    known = [str(row["name"]) for row in lookups.experiments(store, run_id)]
    more = {_named(target): count for target, count in request.extend.items()}
    for one in more:
        if one.experiment not in known:
            raise NotFound(f"no experiment {one.experiment!r} in run {run_id}; there are {', '.join(known)}")
    if all(one.trial is None for one in more):
        SteerWriter(store, run_id).extend(more, 0.0, STARTED_BY)
    else:
        ExtendedTrials(store, run_id).extend(more, STARTED_BY, anew=request.anew)
    return run_id


def _named(target: str) -> Named:
    """Return the experiment or the trial that a target of --extend names."""
    experiment, slash, number = target.rpartition("/")
    return Named(experiment, int(number)) if slash and number.isdecimal() else Named(target)


def _last_run(store: Store, request: StartRequest, option: str) -> str:
    """Return the last run (of the plan, where one is named), which `option` opens again."""
    last = queries.last_run_of(store.connection, request.plan)
    if last is None:
        raise NotFound("there is no run to go on with", remedy=f"start without {option}")
    run_id = str(last["id"])
    if request.plan is not None and last["fingerprint"] != request.fingerprint:
        raise PlanChanged(
            f"the plan has changed since run {run_id}", remedy=f"restore the plan, or start a new run without {option}"
        )
    if removal_asked(store.connection, run_id):
        raise Conflict(
            f"the files of run {run_id} were deleted: nothing of it can go on", remedy=f"start without {option}"
        )
    return run_id


def try_again(
    writer: RetryWriter, who: str, only: str | None = None, number: int | None = None, *, left_out_too: bool = False
) -> list[Retry]:
    """Record that what failed in a run is tried again: all, what failed in experiment `only`, or its trial `number`.

    With `left_out_too`, where nothing failed, experiments that a person left out are taken in again.
    Return the decisions. Raises Conflict, and changes nothing, when there is nothing to try; it says why.
    """
    retries = writer.decided(lambda experiment: asked_again(experiment, number, named=only is not None), only)
    if left_out_too and all(retry.empty for retry in retries):
        retries = writer.decided(lambda experiment: asked_again(experiment, named=True))
    if all(retry.empty for retry in retries):
        reasons = "; ".join([reason for retry in retries for reason in retry.refused][:MAX_REASONS])
        raise Conflict(
            f"nothing is tried again in run {writer.run_id}: {reasons}"
            if reasons
            else f"nothing failed in run {writer.run_id}",
            remedy="without --retry, `supervisord start` goes on with an unfinished run; --new begins another",
        )
    writer.record([retry for retry in retries if not retry.empty], who)
    return retries


def _with_due_tests(store: Store, request: StartRequest, unfinished: sqlite3.Row | None) -> sqlite3.Row | None:
    """Open each test again that repeats itself; return the unfinished run, or the ended one that this opens again."""
    run = unfinished or queries.last_run_of(store.connection, request.plan)
    changed = run is not None and request.plan is not None and run["fingerprint"] != request.fingerprint
    if run is None or changed or (request.plan is None and run["desired"] == Desired.STOP):
        return unfinished
    if removal_asked(store.connection, str(run["id"])):
        return unfinished
    writer = RetryWriter(store, str(run["id"]))
    due = writer.due()
    if due:
        writer.record(due, STARTED_BY)
    return lookups.run(store, writer.run_id) if due else unfinished


def _give_up(store: Store, run_id: str) -> None:
    writer = RunWriter(store, run_id)
    writer.recover()
    writer.record("run.abandoned")


def _new_id(store: Store, plan: str, clock: Clock) -> str:
    stamp = datetime.fromtimestamp(clock.wall_s(), UTC).strftime("%Y%m%d-%H%M%S")
    for suffix in ("", *(f"-{number}" for number in range(2, 100))):
        if queries.latest_run(store.connection, f"{plan}-{stamp}{suffix}") is None:
            return f"{plan}-{stamp}{suffix}"
    raise UsageError("a hundred runs were started in one second")

"""Runs the verbs of supervisord about plans: start, check, plans. Each returns the exit code.

Standard library at import; a verb imports what it needs.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from supervisor.cli.guide.progress import working
from supervisor.control.handshake import StartRequest, page_wish
from supervisor.domain.plan_changes import MAX_TRIALS
from supervisor.errors import SweepError, UsageError
from supervisor.home import Home

if TYPE_CHECKING:
    from supervisor.plan.dataset import DatasetChoice
    from supervisor.plan.expansion import ExperimentSpec
    from supervisor.plan.loader import LoadedPlan
    from supervisor.preflight.machine import Check
    from supervisor.preflight.timing import Times

    Resolved = tuple[LoadedPlan, DatasetChoice | None, list[ExperimentSpec]]


def start(home: Home, arguments: argparse.Namespace) -> int:
    from supervisor.cli import launch
    from supervisor.plan.dataset import with_training_errors

    home.prepare()
    http = None if arguments.http is None else page_wish(arguments.http)
    by_service = arguments.foreground or "NOTIFY_SOCKET" in os.environ
    if arguments.plan is None:
        _refuse_options(arguments)
        request = StartRequest(
            plan=None, retry=arguments.retry, extend=_extensions(arguments.extend, arguments.anew),
            anew=arguments.anew, by_service=by_service, http=http,
        )  # fmt: skip
        return launch.launch(home, request, arguments.timeout, foreground=by_service)
    # Also a check; here with the exit code that it has without a plan.
    home.refuse_network_disk()
    with working("reading the plan and its data", quick=True):
        resolved = with_training_errors(lambda: _resolve(home, arguments))
    if arguments.dry_run:
        _refuse([_check_trainable(home, resolved[0])])
        return _dry_run(home, *resolved)
    _preflight(home, *resolved)
    _, chosen, _ = resolved
    if chosen is not None:
        print(chosen.sentence())
    request = _request(arguments, *resolved)
    if arguments.queue and (code := _queued(home, request, arguments.timeout)) is not None:
        return code
    return launch.launch(home, request, arguments.timeout, foreground=by_service)


def _queued(home: Home, request: StartRequest, timeout_s: float) -> int | None:
    """Put `request` into the queue; return the exit code, None when it can begin at once."""
    from supervisor.cli import launch, plan_queue

    place = plan_queue.add(home, request)
    if place is None:
        return None
    print(f"{request.plan} waits in the queue, place {place}; `supervisorctl queue` lists it")
    if not plan_queue.is_looked_at(home):
        # No daemon is at work any more: the unfinished run goes on, or the first plan of the queue begins.
        return launch.launch(home, StartRequest(plan=None), timeout_s, foreground=False)
    return 0


def _extensions(given: Sequence[str], anew: bool = False) -> dict[str, int]:
    """Return the trials that each experiment, or the epochs that each trial gets more. Raises UsageError."""
    found = {}
    for text in given:
        name, _, count = text.partition("=")
        a_number = count.isascii() and count.isdecimal() and len(count) < 8
        if not (name and a_number and 0 < int(count) <= MAX_TRIALS):
            raise UsageError(
                f"--extend {text}: expected EXPERIMENT=TRIALS or EXPERIMENT/TRIAL=EPOCHS, up to {MAX_TRIALS}",
                remedy="write such as 2M-h1=20, or 2M-h1/17=10",
            )
        found[name] = int(count)
    of_trials = [name for name in found if name.rpartition("/")[2].isdecimal() and "/" in name]
    if of_trials and len(of_trials) < len(found):
        raise UsageError("--extend: expected experiments or trials, found both", remedy="extend one after the other")
    if anew and not of_trials:
        raise UsageError("--anew needs --extend EXPERIMENT/TRIAL=EPOCHS, found none", remedy="name the trial")
    return found


def _refuse_options(arguments: argparse.Namespace) -> None:
    """Raise UsageError for an option that means nothing without a plan: the last run keeps its own."""
    given = [
        *_options(arguments)[:1],
        *(["--new"] if arguments.new else []),
        *(["--resume"] if arguments.resume else []),
        *(["--queue"] if arguments.queue else []),
        *(["--dry-run"] if arguments.dry_run else []),
    ]
    if given:
        raise UsageError(f"{given[0]} needs a plan, found none", remedy="name it: `supervisord start PLAN`")


def plans(_: Home, __: argparse.Namespace) -> int:
    from supervisor.plan.loader import load_plan, plan_names
    from supervisor.plan.matrix import cells

    for plan in [load_plan(name).plan for name in plan_names()]:
        trials = [cell.plan.max_trials for cell in cells(plan)]
        print(f"{plan.name:<14} {len(trials):>3} experiments, {sum(trials):>4} trials  {plan.description}")
    return 0


def check(home: Home, arguments: argparse.Namespace) -> int:
    from supervisor.plan.dataset import with_training_errors
    from supervisor.preflight import machine
    from supervisor.preflight import start as start_checks
    from supervisor.preflight.coming_week import week_lines

    if arguments.accelerator:
        from supervisor.cli.accelerator import check_accelerator

        return check_accelerator(arguments)
    if arguments.plan is None:
        raise UsageError("check needs a plan, found none", remedy="name it: `supervisord check PLAN`, or --accelerator")
    home.prepare()
    with working("reading the plan and its data", quick=True):
        loaded, chosen, specs = with_training_errors(lambda: _resolve(home, arguments))
    timed = _timed(home, specs)
    with working("checking this machine", quick=True):
        checks = start_checks.run_checks(home, loaded.plan, specs, chosen, timed.steps)
        checks += [_check_trainable(home, loaded), start_checks.check_script(loaded.sensor_script)]
        checks += [start_checks.check_accelerator(loaded.plan), start_checks.check_temperature()]
    if arguments.try_one and machine.worst(checks) is not machine.Level.ERROR:
        from supervisor.cli.try_out import try_one

        with working("training one epoch of one trial"):
            checks.append(try_one(_request(arguments, loaded, chosen, specs)))
    if arguments.json:
        print(json.dumps({"checks": [asdict(check) for check in checks], "costs": _costs(specs, timed)}, indent=1))
    else:
        print(f"{machine.render(checks)}\n{_budgets(specs, timed)}")
        for line in [*week_lines(loaded.plan.schedule, time.time()), "", machine.verdict(checks, loaded.plan.name)]:
            print(line)
    return int(machine.worst(checks) is machine.Level.ERROR)


def _resolve(home: Home, arguments: argparse.Namespace) -> Resolved:
    """Return the plan, its dataset and its experiments. Raises PlanError, and the training room's errors."""
    from supervisor.plan.dataset import blocks_of, choose_dataset
    from supervisor.plan.expansion import expand
    from supervisor.plan.loader import load_plan

    loaded = load_plan(arguments.plan, arguments.sets)
    chosen = choose_dataset(loaded.plan.data, home.data) if loaded.plan.data is not None else None
    specs = expand(
        loaded.plan,
        num_features=chosen.num_features if chosen else None,
        dataset=chosen.path if chosen else None,
        only=arguments.only,
        globs=arguments.experiments,
        hours=arguments.hours,
    )
    if chosen is not None and loaded.plan.trainable == "patchtst":
        for spec in specs:
            blocks_of(spec, chosen.rows)  # a history that is too short is an error before anything starts
    return loaded, chosen, specs


def _request(
    arguments: argparse.Namespace, loaded: LoadedPlan, chosen: DatasetChoice | None, specs: list[ExperimentSpec]
) -> StartRequest:
    from supervisor.plan.drift import sha256_of
    from supervisor.plan.expansion import fingerprint
    from supervisor.preflight.checkpoint_space import policy_of

    return StartRequest(
        plan=loaded.plan.name,
        fingerprint=fingerprint(loaded.plan, specs, chosen.sha256 if chosen else None),
        source="built-in" if loaded.source_path is None else str(Path(loaded.source_path).resolve()),
        plan_text=loaded.text,
        hardware={
            "policy": policy_of(loaded.plan, specs),
            "script": loaded.sensor_script,
            "schedule": loaded.plan.schedule,
            "wake_lock": loaded.plan.wake_lock,
            "pass_environment": list(loaded.plan.pass_environment),
            "options": _options(arguments),
            "source_sha256": None if loaded.source_path is None else sha256_of(loaded.source_path),
        },
        data={} if chosen is None else asdict(chosen),
        specs=[spec.model_dump(mode="json") for spec in specs],
        new=getattr(arguments, "new", False),
        resume=getattr(arguments, "resume", False),
        extend=_extensions(getattr(arguments, "extend", ()), getattr(arguments, "anew", False)),
        anew=getattr(arguments, "anew", False),
        retry=getattr(arguments, "retry", False),
        http=getattr(arguments, "http", None),
    )


def _options(arguments: argparse.Namespace) -> list[str]:
    """Return the options that choose what a run consists of, as they were typed: they belong to its start command."""
    sets = [word for value in arguments.sets for word in ("--set", value)]
    only = [] if arguments.only is None else ["--only", arguments.only]
    hours = [] if arguments.hours is None else ["--hours", repr(arguments.hours)]
    return [*sets, *hours, *only, *(word for glob in arguments.experiments for word in ("--experiments", glob))]


def _dry_run(home: Home, loaded: LoadedPlan, chosen: DatasetChoice | None, specs: list[ExperimentSpec]) -> int:
    from supervisor.preflight.coming_week import week_lines
    from supervisor.preflight.estimate import dry_run_table, planned
    from supervisor.preflight.hours import outlook_lines
    from supervisor.preflight.machine import machine_memory_bytes, usable_cores
    from supervisor.report.scaling.resolution import scaling_resolution

    print(f"plan {loaded.plan.name}: {loaded.plan.description}")
    if chosen is not None:
        print(chosen.sentence())
    timed = _timed(home, specs)
    specs = planned(specs, usable_cores(), machine_memory_bytes())
    print(dry_run_table(specs, timed=timed.steps))
    for line in outlook_lines(specs, usable_cores(), machine_memory_bytes(), timed.steps):
        print(line)
    print(_budgets(specs, timed))
    sentence = scaling_resolution([spec.cell for spec in specs if spec.mode == "min"])
    if sentence is not None:
        print(sentence)
    for line in week_lines(loaded.plan.schedule, time.time()):
        print(line)
    return 0


def _timed(home: Home, specs: list[ExperimentSpec]) -> Times:
    """Return the times of steps on this machine, timed now where they are not known yet."""
    from supervisor.preflight.estimate import planned
    from supervisor.preflight.machine import machine_memory_bytes, usable_cores
    from supervisor.preflight.timing import times_of_plan

    with working("estimating the costs", quick=True) as say:
        return times_of_plan(home, planned(specs, usable_cores(), machine_memory_bytes()), say)


def _costs(specs: list[ExperimentSpec], timed: Times) -> list[dict[str, Any]]:
    from supervisor.preflight.budget_table import costs_of
    from supervisor.preflight.estimate import planned
    from supervisor.preflight.machine import machine_memory_bytes, usable_cores

    cores, memory = usable_cores(), machine_memory_bytes()
    return [asdict(cost) for cost in costs_of(planned(specs, cores, memory), memory, cores, timed.steps)]


def _budgets(specs: list[ExperimentSpec], timed: Times) -> str:
    """Return the table of costs by budget, and why steps were not timed."""
    from supervisor.preflight.budget_table import budget_table
    from supervisor.preflight.estimate import planned
    from supervisor.preflight.machine import machine_memory_bytes, usable_cores

    cores, memory = usable_cores(), machine_memory_bytes()
    costs = budget_table(planned(specs, cores, memory), memory, cores, timed.steps)
    return "\n".join(["", costs, *timed.notes]) if costs else ""


def _preflight(home: Home, loaded: LoadedPlan, chosen: DatasetChoice | None, specs: list[ExperimentSpec]) -> None:
    """Print the warnings of the checks. Raises SweepError as `_refuse` does."""
    from supervisor.preflight.machine import Level
    from supervisor.preflight.start import check_hardware, check_script, run_checks

    # Only hours decide by time what runs; other plans start without the minute that timing may take.
    timed = _timed(home, specs).steps if any(spec.max_hours is not None for spec in specs) else ()
    with working("checking this machine", quick=True) as say:
        checks = [*run_checks(home, loaded.plan, specs, chosen, timed), check_script(loaded.sensor_script)]
        say("checking trainable, accelerator and temperature")
        checks.append(_check_trainable(home, loaded))
        checks += check_hardware(loaded.plan)
    for found in checks:
        if found.level is Level.WARNING:
            print(f"warning: {found.name}: {found.detail}", file=sys.stderr)
    _refuse(checks)


def _check_trainable(home: Home, loaded: LoadedPlan) -> Check:
    from supervisor.preflight.trainable import check_trainable

    return check_trainable(home, loaded)


def _refuse(checks: Sequence[Check]) -> None:
    """Raise SweepError with all errors among the checks together."""
    from supervisor.preflight.machine import Level

    bad = [found for found in checks if found.level is Level.ERROR]
    if bad:
        raise SweepError(
            "; ".join(f"{found.name}: {found.detail}" for found in bad),
            remedy="; ".join(found.remedy for found in bad if found.remedy) or None,
        )

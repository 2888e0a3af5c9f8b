"""supervisord: starts plans, lists them, and keeps the data they need. What a verb needs is imported when it runs."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from supervisor import __product__, __version__
from supervisor.cli.dispatch import run_verb
from supervisor.errors import AlreadyRunning, NotRunning, SweepError
from supervisor.home import Home

if TYPE_CHECKING:
    from supervisor.plan.dataset import DatasetChoice
    from supervisor.plan.experiment import ExperimentSpec
    from supervisor.plan.loader import LoadedPlan

READY_TIMEOUT_S = 120.0
HELD_POLL_S = 0.1
ENDING = ("STOPPING", "STOPPED", "EXITED", "FATAL")
"""States of a run that its daemon leaves alone from then on."""


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code. Never raises for what a user can do wrong."""
    return run_verb(build_parser(), argv, "nothing of it is left running")


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="supervisord", description="Runs long searches unattended: plans, their data, the daemon."
    )
    parser.add_argument("--version", action="version", version=f"{__product__} {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB")

    start = verbs.add_parser("start", help="run a plan; goes on with an unfinished run of it")
    start.add_argument("plan", nargs="?", help="a built-in plan's name or the path of a YAML file; none: the last run")
    start.add_argument("--set", dest="sets", action="append", default=[], metavar="KEY=VALUE", help="change the plan")
    start.add_argument("--only", metavar="VALUE", help="only experiments with this value on an axis, such as 2M")
    start.add_argument("--experiments", action="append", default=[], metavar="GLOB", help="only experiments so named")
    start.add_argument("--new", action="store_true", help="give up an unfinished run of this plan, begin another")
    start.add_argument("--retry", action="store_true", help="go on with the last run, try what failed in it again")
    start.add_argument("--dry-run", action="store_true", help="print what would run and what it would take; no more")
    start.add_argument("--foreground", action="store_true", help="do not detach (service managers set this up)")
    start.add_argument("--timeout", type=float, default=READY_TIMEOUT_S, help="seconds to wait for the daemon")
    start.set_defaults(run=_start)

    check = verbs.add_parser("check", help="is this machine ready for a plan? Exit code 1 when something stops it")
    check.add_argument("plan", help="as for start")
    check.add_argument("--set", dest="sets", action="append", default=[], metavar="KEY=VALUE", help="as for start")
    check.add_argument("--json", action="store_true", help="the checks as a JSON list")
    check.set_defaults(run=_check, only=None, experiments=[])

    service = verbs.add_parser("install-service", help="have systemd or launchd start the daemon, also after a reboot")
    service.add_argument("--dry-run", action="store_true", help="print the file and where it would go; write nothing")
    service.set_defaults(run=_install_service)

    plans = verbs.add_parser("plans", help="list the built-in plans")
    plans.set_defaults(run=_plans)

    data = verbs.add_parser("data", help="import, fetch, list and verify market data")
    from supervisor.cli import data as data_verbs

    data_verbs.add_arguments(data)
    data.set_defaults(run=_data)
    return parser


def _install_service(home: Home, arguments: argparse.Namespace) -> int:
    from supervisor.cli import service_files

    file = service_files.service_file(home)
    if arguments.dry_run:
        print(file.text, end="")
        print(f"it would be written to {file.path}", file=sys.stderr)
        return 0
    home.prepare()
    print(f"{file.path}: {'written' if service_files.install(file) else 'is there already, the same'}")
    print("then:")
    for step in file.next_steps:
        print(f"  {step}")
    return 0


def _plans(_: Home, __: argparse.Namespace) -> int:
    from supervisor.plan.loader import list_plans

    for plan in list_plans():
        print(f"{plan.name:<14} {plan.experiments:>3} experiments, {plan.trials:>4} trials  {plan.description}")
    return 0


def _data(home: Home, arguments: argparse.Namespace) -> int:
    from supervisor.cli import data as data_verbs
    from supervisor.plan.dataset import with_training_errors

    home.prepare()
    return int(with_training_errors(lambda: data_verbs.run(arguments, home.data)))


def _start(home: Home, arguments: argparse.Namespace) -> int:
    from supervisor.control.handshake import StartRequest
    from supervisor.plan.dataset import with_training_errors

    home.prepare()
    if arguments.plan is None:
        by_service = arguments.foreground or "NOTIFY_SOCKET" in os.environ
        return _launch(home, arguments, StartRequest(plan=None, retry=arguments.retry, by_service=by_service))
    loaded, chosen, specs = with_training_errors(lambda: _resolve(home, arguments))
    if arguments.dry_run:
        return _dry_run(loaded, chosen, specs)
    _preflight(home, loaded, specs, chosen)
    if chosen is not None:
        print(chosen.sentence())
    return _launch(home, arguments, _request(arguments, loaded, chosen, specs))


def _resolve(
    home: Home, arguments: argparse.Namespace
) -> tuple[LoadedPlan, DatasetChoice | None, list[ExperimentSpec]]:
    from supervisor.plan.dataset import choose_dataset
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
    )
    return loaded, chosen, specs


def _request(
    arguments: argparse.Namespace, loaded: LoadedPlan, chosen: DatasetChoice | None, specs: list[ExperimentSpec]
) -> Any:
    from supervisor.control.handshake import StartRequest
    from supervisor.plan.drift import sha256_of
    from supervisor.plan.expansion import fingerprint

    return StartRequest(
        plan=loaded.plan.name,
        fingerprint=fingerprint(loaded.plan, specs, chosen.sha256 if chosen else None),
        source="built-in" if loaded.source_path is None else str(Path(loaded.source_path).resolve()),
        plan_text=loaded.text,
        hardware={
            "policy": loaded.plan.policy,
            "script": loaded.sensor_script,
            "wake_lock": loaded.plan.wake_lock,
            "pass_environment": list(loaded.plan.pass_environment),
            "source_sha256": None if loaded.source_path is None else sha256_of(loaded.source_path),
        },
        data={} if chosen is None else chosen.to_json(),
        specs=[spec.model_dump(mode="json") for spec in specs],
        new=arguments.new,
        retry=arguments.retry,
    )


def _dry_run(loaded: LoadedPlan, chosen: DatasetChoice | None, specs: list[ExperimentSpec]) -> int:
    from supervisor.preflight.estimate import dry_run_table

    print(f"plan {loaded.plan.name}: {loaded.plan.description}")
    if chosen is not None:
        print(chosen.sentence())
    print(dry_run_table(specs))
    return 0


def _check(home: Home, arguments: argparse.Namespace) -> int:
    from dataclasses import asdict

    from supervisor.plan.dataset import with_training_errors
    from supervisor.preflight import machine
    from supervisor.preflight import start as start_checks

    home.prepare()
    loaded, chosen, specs = with_training_errors(lambda: _resolve(home, arguments))
    checks = start_checks.run_checks(home, loaded.plan, specs, chosen)
    checks += [start_checks.check_script(loaded.sensor_script), *start_checks.run_slow_checks(loaded.plan)]
    print(json.dumps([asdict(check) for check in checks], indent=1) if arguments.json else machine.render(checks))
    return int(machine.worst(checks) is machine.Level.ERROR)


def _preflight(home: Home, loaded: LoadedPlan, specs: list[ExperimentSpec], chosen: DatasetChoice | None) -> None:
    """Prints warnings. Raises SweepError with every error that stands in the way."""
    from supervisor.preflight import machine
    from supervisor.preflight.start import check_script, run_checks

    checks = [*run_checks(home, loaded.plan, specs, chosen), check_script(loaded.sensor_script)]
    for check in checks:
        if check.level is machine.Level.WARNING:
            print(f"warning: {check.name}: {check.detail}", file=sys.stderr)
    bad = [check for check in checks if check.level is machine.Level.ERROR]
    if bad:
        raise SweepError(
            "; ".join(f"{check.name}: {check.detail}" for check in bad),
            remedy="; ".join(check.remedy for check in bad if check.remedy) or None,
        )


def _launch(home: Home, arguments: argparse.Namespace, request: Any) -> int:
    from supervisor.cli import launch
    from supervisor.home_lock import is_held

    if is_held(home) and _is_it_running(home, request, arguments.timeout):
        return 0
    if arguments.foreground or "NOTIFY_SOCKET" in os.environ:
        launch.become_daemon(request)
    try:
        _print_facts(launch.start_daemon(home, request, arguments.timeout))
    except AlreadyRunning:
        # Another start was a moment quicker; what matters is whether it is the same.
        if not _is_it_running(home, request, arguments.timeout):
            raise
    return 0


def _is_it_running(home: Home, request: Any, timeout_s: float) -> bool:
    """Waits for a daemon that is starting or ending; False when the home has become free.

    Raises AlreadyRunning when it works on something else, or neither answers nor ends within `timeout_s`, HomeHeld
    when there is no daemon to wait for.
    """
    from supervisor.home_lock import check_no_orphan, holder, is_held

    end_s = time.monotonic() + timeout_s
    while is_held(home):
        try:
            return _already_running(home, request)
        except NotRunning as absent:
            check_no_orphan(home)
            if time.monotonic() > end_s:
                raise AlreadyRunning(
                    f"a daemon ({holder(home)}) is starting or ending in this home, for more than {timeout_s:.0f} s",
                    remedy="try again in a few seconds",
                ) from absent
            time.sleep(HELD_POLL_S)
    return False


def _already_running(home: Home, request: Any) -> bool:
    """True when it works on what was asked for. Raises AlreadyRunning when on something else.

    NotRunning when nobody answers, or one that is about to end: a run that is over has the report to write yet.
    """
    from supervisor.control.client import ask, greet

    greet(home)
    view = ask(home, "status")
    if view["daemon"].get("stopping") or view["run"]["state"] in ENDING:
        raise NotRunning(f"daemon {view['daemon']['pid']} is ending")
    same = request.plan is None or request.fingerprint == view["run"]["fingerprint"]
    if not same or request.new:
        raise AlreadyRunning(f"daemon {view['daemon']['pid']} works on {view['run']['id']}")
    print("already running:")
    _print_facts(view["daemon"])
    return True


def _print_facts(facts: dict[str, Any]) -> None:
    if facts.get("rebuilt"):
        print(f"ATTENTION: {facts['rebuilt']}")
    print(f"run        {facts['run']}")
    print(f"daemon     pid {facts['pid']}, socket {facts['socket']}")
    print(f"log        {facts['log']}")
    print(f"dashboard  {facts['dashboard']} (its token: {facts['token_file']})")
    print("follow it with `supervisorctl wait`, `supervisorctl status` or `supervisorctl tail -f`")


if __name__ == "__main__":
    sys.exit(main())

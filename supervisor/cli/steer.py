"""Runs the verbs that steer a run: pause, resume, retry, finish, stop, shutdown, drill. Each returns the exit code.

Standard library at import.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

from supervisor.cli.guide.progress import working
from supervisor.control.client import MAX_OVERRULE_S, MIN_OVERRULE_S, ask
from supervisor.domain.command_text import scope as scope_text
from supervisor.domain.scope import trial_of
from supervisor.errors import NotRunning, SweepError, UsageError
from supervisor.formatting import duration
from supervisor.home import Home
from supervisor.home_lock import is_held

END_WITHIN_S = 60.0
POLL_S = 0.1


def pause(home: Home, arguments: argparse.Namespace) -> int:
    body = {"target": arguments.target, "now": arguments.now, "reason": arguments.reason, "node": arguments.node}
    scope = ask(home, "pause", body)["command"]["scope"]
    trial = trial_of(scope) is not None
    if arguments.now:
        effect = "it stops at its next batch" if trial else "trials stop at their next batch"
    else:
        effect = "it stops at its next report" if trial else "no new trials; running ones finish"
    print(f"paused{scope_text(scope)}: {effect}")
    return 0


def resume(home: Home, arguments: argparse.Namespace) -> int:
    body = {"target": arguments.target, "node": arguments.node, "force": arguments.force}
    overrule = {}
    if arguments.duration is not None:
        overrule["for_s"] = parse_duration(arguments.duration, MAX_OVERRULE_S, MIN_OVERRULE_S)
    answer = ask(home, "resume", body | overrule)
    if overrule:
        print(f"the schedule is overruled for {duration(overrule['for_s'])}; the governor is not")
    if arguments.force:
        print("FORCED: the governor is overruled for 10 minutes; only a critical reading pauses the work now")
        print("  sensors that are hot or unknown do not; watch `supervisorctl status`")
    elif not answer["lifted"] and not overrule:
        print("nothing to resume: no operator's pause was in force there")
    if answer["lifted"]:
        print("resumed")
    for command in answer.get("commands", []):
        trial = trial_of(command["scope"])
        if trial is not None:
            name = command["scope"]
            print(f"still paused: trial {trial[1]} of {trial[0]}; `supervisorctl resume {name}` lifts that")
    force = answer["in_force"]
    if force["action"] != "RUN" and not (arguments.force and force["origin"] == "governor"):
        if force["origin"] == "schedule":
            print(f"still {force['action']} {force['reason']}\n  `supervisorctl resume --for 2h` overrules it")
        else:
            print(f"still {force['action']} by the {force['origin']}: {force['reason']}")
    return 0


def retry(home: Home, arguments: argparse.Namespace) -> int:
    try:
        print_retries(ask(home, "retry", {"target": arguments.target})["retries"])
    except NotRunning as absent:
        if not is_held(home):
            absent.remedy = "`supervisord start --retry` opens the last run again and tries again all that failed in it"
        raise
    return 0


def print_retries(retries: list[dict[str, Any]]) -> None:
    """Print what is tried again, and why the rest is not."""
    for found in retries:
        trials = ", ".join(map(str, found["trials"]))
        parts = [f"trial{'s' * (len(found['trials']) > 1)} {trials}"] if trials else []
        parts += ["its test"] if found["test"] else []
        if parts or found["reopened"]:
            print(f"{found['experiment']}: tried again: {' and '.join(parts) or 'what is left of it'}")
        for reason in found["refused"]:
            print(f"not tried again: {reason}")


def finish(home: Home, arguments: argparse.Namespace) -> int:
    answer = ask(home, "finish", {"target": arguments.target})
    running = f"; {answer['running']} running stop at their next epoch" if answer["running"] else ""
    print(f"{answer['experiment']}: its search ends with {answer['trials']} trials{running}")
    return 0


def stop(home: Home, _: argparse.Namespace) -> int:
    answer = ask(home, "stop", {})
    print(f"{answer['run']}: stopping; {answer['way_on']}")
    return _await_end(home)


def shutdown(home: Home, _: argparse.Namespace) -> int:
    answer = ask(home, "shutdown", {})
    print(f"{answer['run']}: the daemon ends; {answer['way_on']}")
    return _await_end(home)


def _await_end(home: Home) -> int:
    """Wait until the daemon has freed the home. Raises SweepError after END_WITHIN_S."""
    end = time.monotonic() + END_WITHIN_S
    with working("waiting until trials have saved and the daemon has ended", quick=True):
        while is_held(home):
            if time.monotonic() > end:
                raise SweepError(
                    f"the daemon has not ended within {END_WITHIN_S:.0f} s", remedy=f"read {home.logs / 'debug.jsonl'}"
                )
            time.sleep(POLL_S)
    return 0


def drill(home: Home, arguments: argparse.Namespace) -> int:
    from supervisor.sensors.drills import DRILLS

    duration_s = parse_duration(arguments.duration)
    answer = ask(home, "drill", {"name": arguments.name, "duration_s": duration_s, "node": arguments.node})
    plays = (DRILLS[arguments.name].__doc__ or "").removeprefix("Play ").rstrip(".")
    begins = "" if answer["begun"] else ": it begins with the watchdog of the next experiment"
    print(f"drill {arguments.name} for {duration(duration_s)}{begins}")
    print(f"  it plays {plays}; the governor judges it like real readings, dwell times included")
    return 0


def parse_duration(text: str, most_s: float = 3600.0, least_s: float = 1.0) -> float:
    """Return the seconds of "45s", "2m", "1h", "1d" or "45", from `least_s` to `most_s`. Raises UsageError."""
    units = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
    digits, unit = (text[:-1], units[text[-1]]) if text and text[-1] in units else (text, 1.0)
    try:
        seconds = float(digits) * unit
    except ValueError:
        raise UsageError(f"expected a duration, found {text!r}", remedy="write 45s, 2m or 1h") from None
    if not least_s <= seconds <= most_s:
        bounds = f"{least_s:g}s to {most_s / 3600:g}h"
        raise UsageError(f"expected a duration from {bounds}, found {text!r}")
    return seconds

"""The verbs of supervisorctl that steer a run: pause, resume, stop, shutdown, drill. Each returns the exit code.

Standard library at import.
"""

from __future__ import annotations

import argparse
import time

from supervisor.control.client import ask, greet
from supervisor.domain.command import Command
from supervisor.domain.command_text import scope as words
from supervisor.errors import SweepError, UsageError
from supervisor.formatting import duration
from supervisor.home import Home


def pause(home: Home, arguments: argparse.Namespace) -> int:
    greet(home)
    body = {"target": arguments.target, "now": arguments.now, "reason": arguments.reason, "node": arguments.node}
    scope = ask(home, "pause", body)["command"]["scope"]
    trial = Command.scope_of_trial(scope) is not None
    if arguments.now:
        what = "it stops at its next batch" if trial else "trials stop at their next batch"
    else:
        what = "it stops at its next report" if trial else "no new trials; running ones finish"
    print(f"paused{words(scope)}: {what}")
    return 0


def resume(home: Home, arguments: argparse.Namespace) -> int:
    greet(home)
    body = {"target": arguments.target, "node": arguments.node, "force": arguments.force}
    answer = ask(home, "resume", body)
    if arguments.force:
        print("FORCED: the governor is overruled for 10 minutes; only a critical reading pauses the work now")
        print("  sensors that are hot or unknown do not; watch `supervisorctl status`")
    elif not answer["lifted"]:
        print("nothing to resume: no operator's pause was in force there")
    if answer["lifted"]:
        print("resumed")
    force = answer["in_force"]
    if force["action"] != "RUN" and not (arguments.force and force["origin"] == "governor"):
        print(f"still {force['action']} by the {force['origin']}: {force['reason']}")
    return 0


def stop(home: Home, _: argparse.Namespace) -> int:
    greet(home)
    run = ask(home, "stop", {})["run"]
    print(f"{run}: stopping; `supervisord start` with its plan goes on with it")
    return _await_end(home, 60.0)


def shutdown(home: Home, _: argparse.Namespace) -> int:
    greet(home)
    run = ask(home, "shutdown", {})["run"]
    print(f"{run}: the daemon ends; `supervisord start` goes on with the run")
    return _await_end(home, 60.0)


def _await_end(home: Home, deadline_s: float) -> int:
    """Waits until the daemon has let go of the home."""
    from supervisor.home_lock import is_held

    end = time.monotonic() + deadline_s
    while is_held(home):
        if time.monotonic() > end:
            raise SweepError(f"the daemon has not ended within {deadline_s:.0f} s")
        time.sleep(0.1)
    return 0


def drill(home: Home, arguments: argparse.Namespace) -> int:
    greet(home)
    duration_s = parse_duration(arguments.duration)
    answer = ask(home, "drill", {"name": arguments.name, "duration_s": duration_s, "node": arguments.node})
    begins = "" if answer["begun"] else ": it begins when the next experiment's watchdog is up"
    print(f"drill {arguments.name} for {duration(duration_s)}{begins}")
    return 0


def parse_duration(text: str) -> float:
    """Seconds of "45s", "2m", "1h" or "45". Raises UsageError; from 1 s to 1 h."""
    units = {"s": 1.0, "m": 60.0, "h": 3600.0}
    digits, unit = (text[:-1], units[text[-1]]) if text and text[-1] in units else (text, 1.0)
    try:
        seconds = float(digits) * unit
    except ValueError:
        raise UsageError(f"{text!r} is not a duration", remedy="write 45s, 2m or 1h") from None
    if not 1.0 <= seconds <= 3600.0:
        raise UsageError(f"{text!r} is not between 1s and 1h")
    return seconds

"""Run one search of each contender, timed from its command; each in processes and a folder of its own."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.contender import CHECKOUT, Contender, home_of_a_run
from benchmarks.time_to_answer import profile
from benchmarks.time_to_answer.problem import PLAN, Problem, Settings
from benchmarks.time_to_answer.reach import Measured, Report

SEQUENTIAL, PLAIN, OURS = "sequential loop", "plain Ray Tune", "this system"
WORKERS = 2
REPORT_WITHIN_S = 120.0
LOOK_EVERY_S = 0.5
LOG_CHARACTERS = 4_000


def tale_of(text: str, typed_s: float) -> tuple[tuple[Report, ...], float | None]:
    """Return the epochs that a contender told of, each once, and when its last trial ended; None before the first."""
    lines = [json.loads(line) for line in text.splitlines() if line.endswith("}")]
    reports: dict[tuple[int, int], Report] = {}
    for line in lines:
        if "epoch" in line:
            place = line["trial"], line["epoch"]
            reports.setdefault(place, Report(line["at"] - typed_s, *place, line["loss"], line["train_s"]))
    ends = [line["at"] - typed_s for line in lines if "epoch" not in line]
    return tuple(reports.values()), max(ends, default=None)


def _script(module: str, name: str, problem: Problem, settings: Settings, seed: int, within_s: float) -> Measured:
    """Run a contender's script until it ends or `within_s` are over. Raises SystemExit when it fails."""
    # In /tmp: the names of Ray's sockets may not be long.
    folder = Path(tempfile.mkdtemp(prefix="swa", dir="/tmp"))
    try:
        posed, told, log = folder / "problem.json", folder / "tale.jsonl", folder / "log"
        posed.write_text(json.dumps({**problem.spec, "max_trials": settings.trials}))
        told.touch()
        with log.open("wb") as stream:
            typed_s = time.time()
            child = subprocess.Popen(
                [sys.executable, "-m", module, posed, told],
                env=_environment(folder), cwd=CHECKOUT, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream,
                start_new_session=True,
            )  # fmt: skip
            status = _end_of(child, within_s)
        whole_s = time.time() - typed_s
        if status not in (0, None):
            raise SystemExit(f"{name}, seed {seed}: expected status 0, found {status}\n{_tail(log)}")
        reports, search_s = tale_of(told.read_text(), typed_s)
        cut = status is None
        if search_s is None and not cut:
            raise SystemExit(f"{name}, seed {seed}: expected the end of a trial, found none\n{_tail(log)}")
        return Measured(seed, name, reports, whole_s if cut or search_s is None else search_s, whole_s, cut)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _end_of(child: subprocess.Popen[bytes], within_s: float) -> int | None:
    """Return a child's status; None if it had to be ended after `within_s`. Its whole group is ended in any case."""
    try:
        return child.wait(within_s)
    except subprocess.TimeoutExpired:
        return None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def _environment(folder: Path) -> dict[str, str]:
    """Return the environment of a script: without this system's and Ray's settings, Ray's files below `folder`."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("SWEEP_", "RAY_", "PYTHONPATH"))}
    token = folder / "token"
    token.touch(0o600)
    token.write_text(secrets.token_hex(16))
    return {
        **kept,
        "PYTHONPATH": str(CHECKOUT),
        "RAY_TMPDIR": str(folder),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_USAGE_STATS_ENABLED": "0",
    }


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-LOG_CHARACTERS:]


def sequential(problem: Problem, settings: Settings, seed: int, within_s: float) -> Measured:
    """Measure the sequential loop."""
    return _script("benchmarks.time_to_answer.sequential", SEQUENTIAL, problem, settings, seed, within_s)


def plain_ray(problem: Problem, settings: Settings, seed: int, within_s: float) -> Measured:
    """Measure plain Ray Tune."""
    return _script("benchmarks.time_to_answer.plain_ray", PLAIN, problem, settings, seed, within_s)


def this_system(problem: Problem, settings: Settings, seed: int, within_s: float) -> Measured:
    """Measure this system by its commands. Raises SystemExit when its experiment fails."""
    contender = Contender("now", CHECKOUT)
    sets = [word for one in problem.sets for word in ("--set", one)]
    arguments = ["start", PLAN, "--experiments", settings.experiment, *sets]
    with home_of_a_run() as home:
        # Builds the dataset, too.
        contender.succeed(home.root, "supervisord", *arguments, "--dry-run")
        log = home.audit_log(PLAN)
        typed_s = time.time()
        contender.succeed(home.root, "supervisord", *arguments)
        try:
            _wait_for(log, ("run.finished", "run.failed"), within_s)
            _wait_for(log, ("report.written", "report.failed"), REPORT_WITHIN_S)
        finally:
            waited_s = time.time() - typed_s
            contender.command(home.root, "supervisorctl", "stop")
        events = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    try:
        return profile.measured(seed, OURS, typed_s, waited_s, events, WORKERS)
    except ValueError as error:
        raise SystemExit(str(error)) from error


def _wait_for(log: Path, names: Sequence[str], within_s: float) -> None:
    """Wait until one of the events `names` stands in the log, or `within_s` are over."""
    until = time.monotonic() + within_s
    marks = [f'"{name}"'.encode() for name in names]
    while time.monotonic() < until:
        if log.exists() and any(mark in log.read_bytes() for mark in marks):
            return
        time.sleep(LOOK_EVERY_S)


CONTENDERS: dict[str, Callable[[Problem, Settings, int, float], Measured]] = {
    SEQUENTIAL: sequential,
    PLAIN: plain_ray,
    OURS: this_system,
}


def order(seed_place: int) -> list[str]:
    """Return the order of the contenders for the seed at this place: each in turn begins."""
    names = list(CONTENDERS)
    first = seed_place % len(names)
    return names[first:] + names[:first]

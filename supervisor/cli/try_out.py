"""Tries a plan before its run: one epoch of one trial, by a daemon in a home of its own."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from supervisor.cli.launch import start_daemon
from supervisor.control.handshake import StartRequest
from supervisor.home import Home
from supervisor.home_lock import is_held
from supervisor.preflight.machine import Check, Level, ok
from supervisor.store import queries
from supervisor.store.database import read_only

READY_WITHIN_S, TRY_WITHIN_S, END_WITHIN_S = 120.0, 900.0, 100.0
POLL_S = 0.2
ERROR_CHARACTERS = 600
CURE = "mend the trainable or the plan, then `supervisord check PLAN --try` again"


def try_one(request: StartRequest) -> Check:
    """Run one epoch of the first experiment's first trial. Raises the errors of `start_daemon`."""
    with tempfile.TemporaryDirectory(prefix="sweep-try-") as folder:
        home = Home(Path(folder).resolve())
        home.prepare()
        try:
            facts = start_daemon(home, one_trial(request), READY_WITHIN_S)
            in_time = False
            try:
                in_time = _wait_until_free(home, TRY_WITHIN_S)
            finally:
                # After Ctrl-C, too: the daemon is in a session of its own.
                if not in_time:
                    os.kill(int(facts["pid"]), signal.SIGTERM)
                    _wait_until_free(home, END_WITHIN_S)
            return _verdict(home, in_time=in_time)
        finally:
            shutil.rmtree(home.runtime(), ignore_errors=True)


def one_trial(request: StartRequest) -> StartRequest:
    """Return the request for one epoch of one trial of the first experiment."""
    first = request.specs[0]
    spec = {
        **first, "max_trials": 1, "max_epochs": 1, "concurrency": 1, "enqueue": first["enqueue"][:1],
        "pruner": {"kind": "none"}, "finalize": None, "warm_start": None,
    }  # fmt: skip
    hardware = {**request.hardware, "wake_lock": False, "schedule": None}
    return replace(request, fingerprint="one trial", specs=[spec], hardware=hardware, new=False, retry=False)


def _wait_until_free(home: Home, within_s: float) -> bool:
    """Wait until the home's daemon has ended; return whether it did in time."""
    end = time.monotonic() + within_s
    while is_held(home):
        if time.monotonic() > end:
            return False
        time.sleep(POLL_S)
    return True


def _verdict(home: Home, *, in_time: bool) -> Check:
    with read_only(home.store) as connection:
        run = queries.run_named(connection, None)
        experiment = queries.experiment_rows(connection, run)[0]
        trial: Any = next(iter(queries.trials_of(connection, run, experiment["name"])), None)
        reason = experiment["reason"]
    if trial is not None and trial["value"] is not None:
        return ok("one trial", f"its first epoch ended with {trial['value']:g}")
    if not in_time:
        return Check("one trial", Level.WARNING, f"its first epoch took longer than {TRY_WITHIN_S:.0f} s",
                     "make epochs shorter, or `supervisord start PLAN` all the same")  # fmt: skip
    error = (trial["error"] or trial["end_reason"] if trial is not None else None) or reason or "it was not started"
    return Check("one trial", Level.ERROR, str(error).strip()[-ERROR_CHARACTERS:], CURE)

"""Runs the verbs that show a run: status, tail, wait, report. Each returns the exit code.

Standard library at import, and little of it: `status` must start at once.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from typing import Any

from supervisor.cli import status_text
from supervisor.control.client import ask
from supervisor.domain.lifecycle import ENDED, Desired, ProcessState, run_exit_code
from supervisor.errors import NotFound, NotRunning, SlowAnswer, StoreDamaged, SweepError
from supervisor.home import Home

STATUS_UNKNOWN = 4
WAIT_POLL_S = 0.5
PRINT_PERIOD_S = 10.0


def status(home: Home, arguments: argparse.Namespace) -> int:
    try:
        view = ask(home, "status", query="?trials=1" if arguments.json else "")
    except NotRunning as absent:
        return _status_without_daemon(home, arguments, absent)
    _print_status(view, as_json=arguments.json)
    return 0


def _print_status(view: dict[str, Any], *, as_json: bool) -> None:
    print(json.dumps(view, indent=1) if as_json else status_text.status(view))


def _status_without_daemon(home: Home, arguments: argparse.Namespace, absent: NotRunning) -> int:
    """Print the last run from the store; return 4 all the same: LSB's code for the status of a dead program."""
    try:
        view = last_view(home, trials=arguments.json)
    except NotRunning as silent:
        silent.exit_code = STATUS_UNKNOWN
        raise
    except NotFound:
        absent.exit_code = STATUS_UNKNOWN
        raise absent from None
    _print_status(view, as_json=arguments.json)
    print(_why_no_daemon(view["run"]["state"], view["run"]["desired"]), file=sys.stderr)
    return STATUS_UNKNOWN


def last_view(home: Home, run_or_plan: str | None = None, *, trials: bool = True) -> dict[str, Any]:
    """Return the snapshot of the newest run, or of `run_or_plan`, from the store.

    Raises NotRunning when a daemon holds the home (only it may read the store), NotFound when there is no such run.
    """
    from supervisor.home_lock import is_held
    from supervisor.store import queries
    from supervisor.store.database import read_only
    from supervisor.store.status_cache import StatusView

    if is_held(home):
        raise NotRunning("a daemon holds this home but does not answer", remedy="try again in a moment")
    if not home.store.exists():
        raise NotFound("this home has no run yet", remedy="start one with `supervisord start smoke`")
    with read_only(home.store) as connection:
        found = queries.latest_run(connection, run_or_plan) if run_or_plan else queries.latest_run(connection)
        if found is None and run_or_plan is not None:
            found = queries.latest_run(connection, plan=run_or_plan)
        if found is None:
            raise NotFound(f"no run or plan {run_or_plan!r} in this home")
        try:
            return queries.run_snapshot(connection, found) if trials else StatusView(connection, found).now()
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            # SQLite found every page sound, but a value on one is none that a store writes.
            raise StoreDamaged(f"{home.store} has a value that no store writes: {error}") from error


def _why_no_daemon(state: str, desired: str) -> str:
    if state in (ProcessState.EXITED, ProcessState.FATAL):
        return "no daemon is running: the run has ended"
    if state == ProcessState.STOPPED:
        return "no daemon is running: the run is stopped; `supervisord start` with its plan resumes it"
    if desired == Desired.STOP:
        return "no daemon is running: it ended while it was stopping; `supervisord start` with its plan resumes the run"
    return "no daemon is running: it ended without recording why; `supervisord start` resumes the run"


def tail_log(home: Home, arguments: argparse.Namespace) -> int:
    from supervisor.cli import tail

    path = home.audit_log(arguments.plan or str(_view(home)["run"]["plan"]))
    if not path.exists():
        raise NotFound(f"no log at {path}")
    as_json = arguments.json or not sys.stdout.isatty()

    def show(line: bytes) -> None:
        record = tail.parse(line)
        if record is not None and tail.wanted(record, arguments.event, arguments.experiment, arguments.trial):
            print(line.decode().rstrip("\n") if as_json else tail.pretty(record), flush=True)

    with path.open("rb") as file:
        for line in tail.last_lines(file, arguments.lines):
            show(line)
        if not arguments.follow:
            return 0
        print("==> Press Ctrl-C to exit <==", file=sys.stderr)
        try:
            # From the same open file: a line that is added between two opens would be missed.
            for line in tail.follow(path, file):
                show(line)
                if (tail.parse(line) or {}).get("event") == "daemon.stopped":
                    break
        except FileNotFoundError as error:
            raise NotFound(f"the log {path} was removed") from error
    return 0


def _view(home: Home) -> dict[str, Any]:
    """Return the daemon's view of its run, or the store's of the last one."""
    try:
        return ask(home, "status")
    except NotRunning:
        return last_view(home, trials=False)


def wait(home: Home, arguments: argparse.Namespace) -> int:
    from supervisor.home_lock import is_held

    end = None if arguments.timeout is None else time.monotonic() + arguments.timeout
    line = _ProgressLine(sys.stderr)
    while is_held(home):
        # A daemon holds the lock a little longer than its socket, at either end of its life; and one late answer of a
        # busy machine is no reason to stop waiting.
        with contextlib.suppress(NotRunning, SlowAnswer):
            line.show(status_text.progress(ask(home, "status")))
        if end is not None and time.monotonic() > end:
            line.close()
            raise SweepError(f"the run has not ended within {arguments.timeout:.0f} s")
        time.sleep(WAIT_POLL_S)
    line.close()
    return _print_end(home)


def _print_end(home: Home) -> int:
    """Print the table and the report's path; return the exit code of the run."""
    view = last_view(home)
    print(status_text.text_table(view))
    report = home.run_folder(view["run"]["id"]) / "report.html"
    print(f"report: {report}" if report.exists() else "no report was written; `supervisorctl report` tries again")
    states = [ProcessState(experiment["state"]) for experiment in view["experiments"]]
    if not all(state in ENDED for state in states):
        print("the run has not ended: `supervisord start` resumes it", file=sys.stderr)
        return 1
    return run_exit_code(states)


class _ProgressLine:
    """Rewrites one line on a terminal; elsewhere prints it when it changes, at most every PRINT_PERIOD_S."""

    def __init__(self, stream: Any) -> None:
        self._stream, self._tty = stream, stream.isatty()
        self._last, self._shown_s = "", -PRINT_PERIOD_S

    def show(self, text: str) -> None:
        now = time.monotonic()
        if self._tty:
            self._stream.write(f"\r\x1b[2K{text}")
        elif text != self._last and now - self._shown_s >= PRINT_PERIOD_S:
            self._stream.write(f"{text}\n")
            self._last, self._shown_s = text, now
        self._stream.flush()

    def close(self) -> None:
        if self._tty:
            self._stream.write("\n")


def report(home: Home, arguments: argparse.Namespace) -> int:
    from supervisor.report.process import write_report_now

    view = _report_view(home, arguments.run_or_plan)
    path = write_report_now(view, home.run_folder(view["run"]["id"]))
    print(status_text.text_table(view))
    print(f"report: {path}")
    return 0


def _report_view(home: Home, run_or_plan: str | None) -> dict[str, Any]:
    try:
        view = ask(home, "status", query="?trials=1")
    except NotRunning:
        return last_view(home, run_or_plan)
    if run_or_plan in (None, view["run"]["id"], view["run"]["plan"]):
        return view
    raise NotFound(
        f"the daemon works on {view['run']['id']}, not on {run_or_plan!r}",
        remedy="its report is in its run folder; a new one can be written once the daemon has ended",
    )

"""The verbs of supervisorctl that show a run: status, tail, wait, report. Each returns the exit code.

Standard library at import: `status` must start at once.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from typing import Any

from supervisor.cli import status_text
from supervisor.cli.local_view import last_view
from supervisor.control.client import ask
from supervisor.domain.lifecycle import ENDED, Desired, ProcessState, run_exit_code
from supervisor.errors import NotFound, NotRunning, SlowAnswer, SweepError
from supervisor.home import Home

STATUS_UNKNOWN = 4
WAIT_POLL_S = 0.5


def status(home: Home, arguments: argparse.Namespace) -> int:
    try:
        view = ask(home, "status", query="?trials=1" if arguments.json else "")
    except NotRunning as absent:
        return _status_without_daemon(home, arguments, absent)
    print(json.dumps(view, indent=1) if arguments.json else status_text.status(view))
    return 0


def _status_without_daemon(home: Home, arguments: argparse.Namespace, absent: NotRunning) -> int:
    """The last run as the store knows it; exit code 4 all the same, as LSB has it for a program that is not there."""
    try:
        view = last_view(home, trials=arguments.json)
    except NotRunning as silent:
        silent.exit_code = STATUS_UNKNOWN
        raise
    except NotFound:
        absent.exit_code = STATUS_UNKNOWN
        raise absent from None
    print(json.dumps(view, indent=1) if arguments.json else status_text.status(view))
    print(_why_no_daemon(view["run"]["state"], view["run"]["desired"]), file=sys.stderr)
    return STATUS_UNKNOWN


def _why_no_daemon(state: str, desired: str) -> str:
    if state in (ProcessState.EXITED, ProcessState.FATAL):
        return "no daemon is running: the run has ended"
    if state == ProcessState.STOPPED:
        return "no daemon is running: the run is stopped; `supervisord start` with its plan goes on with it"
    if desired == Desired.STOP:
        return "no daemon is running: it ended while it was stopping; `supervisord start` with its plan goes on with it"
    return "no daemon is running: it ended without a word; `supervisord start` goes on with the run"


def tail_log(home: Home, arguments: argparse.Namespace) -> int:
    from supervisor.cli import tail

    path = home.audit_log(arguments.plan or _last_plan(home))
    if not path.exists():
        raise NotFound(f"there is no log {path}")
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
            # From the same open file, or what is added between two opens would be lost.
            for line in tail.follow(path, file):
                show(line)
                if (tail.parse(line) or {}).get("event") == "daemon.stopped":
                    break
        except FileNotFoundError as error:
            raise NotFound(f"the log {path} has gone") from error
    return 0


def _last_plan(home: Home) -> str:
    try:
        return str(ask(home, "status")["run"]["plan"])
    except NotRunning:
        return str(last_view(home, trials=False)["run"]["plan"])


def _view(home: Home) -> dict[str, Any]:
    try:
        return ask(home, "status")
    except NotRunning:
        return last_view(home, trials=False)


def wait(home: Home, arguments: argparse.Namespace) -> int:
    from supervisor.home_lock import is_held

    end = None if arguments.timeout is None else time.monotonic() + arguments.timeout
    line = _ProgressLine(sys.stderr)
    while is_held(home):
        # A daemon holds the lock a little longer than its socket, at either end of its life, and one answer that
        # comes late on a busy machine is no reason to stop waiting.
        with contextlib.suppress(NotRunning, SlowAnswer):
            line.show(status_text.progress(ask(home, "status")))
        if end is not None and time.monotonic() > end:
            line.close()
            raise SweepError(f"the run has not ended within {arguments.timeout:.0f} s")
        time.sleep(WAIT_POLL_S)
    line.close()
    return _print_end(home)


def _print_end(home: Home) -> int:
    """The table, the report's path, and the exit code of the run."""
    from supervisor.cli.results_table import text_table

    view = last_view(home)
    print(text_table(view))
    report = home.run_folder(view["run"]["id"]) / "report.html"
    print(f"report: {report}" if report.exists() else "no report was written; `supervisorctl report` tries again")
    states = [ProcessState(experiment["state"]) for experiment in view["experiments"]]
    if not all(state in ENDED for state in states):
        print("the run has not ended: `supervisord start` goes on with it", file=sys.stderr)
        return 1
    return run_exit_code(states)


class _ProgressLine:
    """Rewrites one line on a terminal; elsewhere prints it when it changes, at most every ten seconds."""

    def __init__(self, stream: Any) -> None:
        self._stream, self._tty = stream, stream.isatty()
        self._last, self._shown_s = "", -10.0

    def show(self, text: str) -> None:
        now = time.monotonic()
        if self._tty:
            self._stream.write(f"\r\x1b[2K{text}")
        elif text != self._last and now - self._shown_s >= 10.0:
            self._stream.write(f"{text}\n")
            self._last, self._shown_s = text, now
        self._stream.flush()

    def close(self) -> None:
        if self._tty:
            self._stream.write("\n")


def report(home: Home, arguments: argparse.Namespace) -> int:
    from supervisor.cli.results_table import text_table
    from supervisor.report.process import write_report_now

    view = _report_view(home, arguments.run_or_plan)
    path = write_report_now(view, home.run_folder(view["run"]["id"]))
    print(text_table(view))
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

"""Runs the verbs that show a run: status, wait, report. Each returns the exit code.

Standard library at import, and little of it: `status` must start at once.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
from typing import Any

from supervisor.cli import status_text
from supervisor.control.client import ask
from supervisor.domain import answer
from supervisor.domain.lifecycle import ENDED
from supervisor.domain.run_words import start_command, without_daemon
from supervisor.errors import NotFound, NotRunning, SlowAnswer, StoreDamaged, SweepError
from supervisor.formatting import fitted
from supervisor.home import Home

STATUS_UNKNOWN = 4
STATUS_SCHEMA = 1
"""The version of `status --json` (docs/status.schema.json): it rises when a key goes or changes its meaning."""
NO_RUN_REMEDY = "start one with `supervisord start smoke`, or set SWEEP_HOME to the home of your run"
WAIT_POLL_S = 0.5
PRINT_PERIOD_S = 10.0
DUMB_COLUMNS = 80
"""For a terminal that does not know its size."""


def status(home: Home, arguments: argparse.Namespace) -> int:
    if arguments.watch:
        from supervisor.cli.show import live

        return live.watch(home)
    try:
        view = ask(home, "status", query="?trials=1" if arguments.json else "")
    except NotRunning as absent:
        return _status_without_daemon(home, arguments, absent)
    _print_status(view, as_json=arguments.json)
    return 0


def _print_status(view: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"schema": STATUS_SCHEMA, **view}, indent=1))
    else:
        print(status_text.status(view, columns_of(sys.stdout), colour=coloured(sys.stdout)))


def columns_of(stream: Any) -> int | None:
    """Return the width of the terminal that `stream` writes to; None for a file or a pipe."""
    return (os.get_terminal_size(stream.fileno()).columns or DUMB_COLUMNS) if stream.isatty() else None


def coloured(stream: Any) -> bool:
    """Return whether `stream` is a terminal with colours whose user wants them (https://no-color.org)."""
    return bool(stream.isatty()) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


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
    print(f"{view['why_no_daemon']} (home {home.root})", file=sys.stderr)
    return STATUS_UNKNOWN


def last_view(home: Home, run_or_plan: str | None = None, *, trials: bool = True) -> dict[str, Any]:
    """Return the snapshot of the newest run, or of `run_or_plan`, from the store, as a run without a daemon.

    Raises NotRunning when a daemon holds the home (only it may read the store), NotFound when there is no such run.
    """
    from supervisor.domain.eta.forecast import with_eta
    from supervisor.home_lock import is_held
    from supervisor.store import queries
    from supervisor.store.database import read_only
    from supervisor.store.status_cache import StatusView

    if is_held(home):
        raise NotRunning(f"a daemon holds the home {home.root} but does not answer", remedy="try again in a moment")
    if not home.store.exists():
        raise NotFound(f"the home {home.root} has no run yet", remedy=NO_RUN_REMEDY)
    with read_only(home.store) as connection:
        found = queries.run_named(connection, run_or_plan)
        try:
            view = queries.run_snapshot(connection, found) if trials else StatusView(connection, found).now()
            return with_eta(without_daemon(view), None)
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            # SQLite found every page sound, but a value on one is none that a store writes.
            raise StoreDamaged(f"{home.store} has a value that no store writes: {error}") from error


def view_of(home: Home) -> dict[str, Any]:
    """Return the daemon's view of its run, or the store's of the last one."""
    try:
        return ask(home, "status")
    except NotRunning:
        return last_view(home, trials=False)


def wait(home: Home, arguments: argparse.Namespace) -> int:
    from supervisor.cli.show.output_reader import check_reader
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
        try:
            check_reader(sys.stderr)
        except BrokenPipeError:
            return 1  # the run has not ended
        time.sleep(WAIT_POLL_S)
    line.close()
    return _print_end(home)


def _print_end(home: Home) -> int:
    """Print the table and the report's path; return the exit code of the run."""
    from supervisor.cli.end_table import text_table

    view = last_view(home)
    print(text_table(view))
    report = home.run_folder(view["run"]["id"]) / "report.html"
    print(f"report: {report}" if report.exists() else "no report was written; `supervisorctl report` tries again")
    if not all(experiment["state"] in ENDED for experiment in view["experiments"]):
        print(view["why_no_daemon"], file=sys.stderr)
        return 1
    code = answer.exit_code(view["experiments"])
    if code:
        print(f"`{start_command(view['run'])} --retry` tries again what failed", file=sys.stderr)
    return code


class _ProgressLine:
    """Rewrites one line, cut to the terminal's width; elsewhere prints a changed one, at most every PRINT_PERIOD_S."""

    def __init__(self, stream: Any) -> None:
        self._stream, self._tty = stream, stream.isatty()
        self._last, self._shown_s, self._used = "", -PRINT_PERIOD_S, 0

    def show(self, text: str) -> None:
        now = time.monotonic()
        if self._tty:
            # One column stays free: a full line would move the cursor to the next one.
            columns = (columns_of(self._stream) or DUMB_COLUMNS) - 1
            line = fitted(text, columns)
            self._stream.write(f"\r{line}{' ' * max(0, min(self._used, columns) - len(line))}")
            self._used = len(line)
        elif text != self._last and now - self._shown_s >= PRINT_PERIOD_S:
            self._stream.write(f"{text}\n")
            self._last, self._shown_s = text, now
        self._stream.flush()

    def close(self) -> None:
        if self._tty:
            self._stream.write("\n")


def report(home: Home, arguments: argparse.Namespace) -> int:
    from supervisor.cli.end_table import text_table
    from supervisor.cli.guide.progress import working
    from supervisor.report.process import write_report_now

    view = _report_view(home, arguments.run_or_plan)
    with working("writing the report"):
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

"""supervisorctl: shows and steers. What `status` needs is the standard library; a verb imports the rest when it runs.

Exit codes are LSB's: 0, 1 generic, 2 bad arguments, 4 `status` without a daemon, 5 not ours, 7 not running.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from supervisor import __product__, __version__, status_text
from supervisor.client import ask, greet
from supervisor.command import Command
from supervisor.errors import NotFound, NotRunning, SlowAnswer, SweepError, SystemRefused, UsageError
from supervisor.home import Home, find_home
from supervisor.lifecycle import ENDED, ProcessState, run_exit_code
from supervisor.local_view import last_view

STATUS_UNKNOWN = 4
WAIT_POLL_S = 0.5
BACKUP_DEADLINE_S = 300.0


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code. Never raises for what a user can do wrong."""
    parser = build_parser()
    arguments = parser.parse_args(argv)
    if arguments.verb is None:
        parser.print_help()
        return 2
    try:
        return int(arguments.run(find_home(), arguments))
    except SweepError as error:
        print(f"supervisorctl: {error.render()}", file=sys.stderr)
        return STATUS_UNKNOWN if arguments.verb == "status" and isinstance(error, NotRunning) else error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader (`| head`) has seen enough; the interpreter's last flush must not complain of it (exit code 120).
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        refused = SystemRefused.because(error)
        print(f"supervisorctl: {refused.render()}", file=sys.stderr)
        return refused.exit_code


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="supervisorctl", description="Shows and steers the sweep that supervisord runs."
    )
    parser.add_argument("--version", action="version", version=f"{__product__} {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB")

    status = verbs.add_parser("status", help="what the run does now")
    status.add_argument("--json", action="store_true", help="everything, as one JSON object")
    status.set_defaults(run=_status)

    pause = verbs.add_parser("pause", help="start no new trials; running ones finish (--now: all stop at once)")
    pause.add_argument(
        "target", nargs="?", metavar="EXPERIMENT|TRIAL",
        help="the experiment at work, or one trial (NUMBER or EXPERIMENT/NUMBER), which stops at its next report; "
        "the run when left out",
    )  # fmt: skip
    pause.add_argument("--node", help="one node only, by its id or the beginning of it")
    pause.add_argument(
        "--now", action="store_true", help="running trials stop at their next batch and keep their place"
    )
    pause.add_argument("--reason", default="", help="shown in status and written to the log")
    pause.set_defaults(run=_pause)

    resume = verbs.add_parser("resume", help="lift the operator's pause; the governor's only with --force")
    resume.add_argument("target", nargs="?", metavar="EXPERIMENT|TRIAL", help="as for pause")
    resume.add_argument("--node", help="as for pause")
    resume.add_argument(
        "--force", action="store_true",
        help="overrule the governor for 10 minutes: work goes on although sensors are hot or unknown; only a critical "
        "reading still pauses",
    )  # fmt: skip
    resume.set_defaults(run=_resume)

    stop = verbs.add_parser("stop", help="checkpoint and end the run; it stays stopped until it is started again")
    stop.set_defaults(run=_stop)

    shutdown = verbs.add_parser("shutdown", help="end the daemon; the run goes on with the next `supervisord start`")
    shutdown.set_defaults(run=_shutdown)

    drill = verbs.add_parser("drill", help="play a hardware fault through the scripted sensors of the live run")
    drill.add_argument("name", help="heat, spike, flap, sensor-lost, memory, ...; an unknown name lists them")
    drill.add_argument("--for", dest="duration", default="60s", help="how long, such as 45s or 2m (default 60s)")
    drill.add_argument("--node", help="one node only")
    drill.set_defaults(run=_drill)

    tail = verbs.add_parser("tail", help="the last events, and with -f those to come")
    tail.add_argument("plan", nargs="?", help="whose log; the last run's plan when left out")
    tail.add_argument("-f", "--follow", action="store_true", help="go on until Ctrl-C or the end of the run")
    tail.add_argument("-n", "--lines", type=_count, default=20, help="how many lines first (default 20)")
    tail.add_argument("--event", help="only events whose name matches this glob, such as 'trial.*'")
    tail.add_argument("--experiment", help="only experiments that match this glob")
    tail.add_argument("--trial", type=int, help="only this trial's")
    tail.add_argument("--json", action="store_true", help="the lines as they are (the default when piped)")
    tail.set_defaults(run=_tail)

    wait = verbs.add_parser("wait", help="show the progress until the run has ended; its exit code says how")
    wait.add_argument("--timeout", type=float, default=None, help="give up after so many seconds, exit code 1")
    wait.set_defaults(run=_wait)

    report = verbs.add_parser("report", help="write the report of a run, finished or not, and print its path")
    report.add_argument("run_or_plan", nargs="?", metavar="RUN|PLAN", help="the last run when left out")
    report.set_defaults(run=_report)

    sensors = verbs.add_parser("sensors", help="every sensor of this machine: value, limits, quality, source")
    sensors.add_argument("--json", action="store_true")
    sensors.set_defaults(run=_sensors)

    doctor = verbs.add_parser("doctor", help="record every sensor into one file to send, or play such a file")
    mode = doctor.add_mutually_exclusive_group(required=True)
    mode.add_argument(
        "--record", metavar="SECONDS", type=float, help="how long, such as 120: idle first, then under load"
    )
    mode.add_argument("--replay", metavar="FILE", help="what the governor would have done")
    doctor.add_argument("--to", metavar="FILE", default=None, help="the recording; sensors-TIME.jsonl when left out")
    doctor.set_defaults(run=_doctor)

    backup = verbs.add_parser("backup", help="copy the store into one new file, while the run goes on")
    backup.add_argument("file", type=Path, help="a file that is not there yet")
    backup.set_defaults(run=_backup)

    repair = verbs.add_parser("repair", help="what is wrong with store and logs, and what can be done")
    repair.add_argument("--apply", action="store_true", help="do it; what is replaced is kept beside it")
    repair.set_defaults(run=_repair)

    audit = verbs.add_parser("audit", help="prove from log, store and checkpoints that a run lost nothing")
    audit.add_argument("run_or_plan", nargs="?", metavar="RUN|PLAN", help="the last run when left out")
    audit.add_argument("--json", action="store_true", help="each promise with its faults")
    audit.set_defaults(run=_audit)

    version = verbs.add_parser("version", help="this program, its path and its socket")
    version.set_defaults(run=_version)
    return parser


def _count(text: str) -> int:
    value = int(text)
    if not 0 <= value <= 1_000_000:
        raise argparse.ArgumentTypeError("from 0 to 1000000")
    return value


def _status(home: Home, arguments: argparse.Namespace) -> int:
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
    except NotFound:
        raise absent from None
    print(json.dumps(view, indent=1) if arguments.json else status_text.status(view))
    print("no daemon is running; this is how the last run stands", file=sys.stderr)
    return STATUS_UNKNOWN


def _pause(home: Home, arguments: argparse.Namespace) -> int:
    greet(home)
    body = {"target": arguments.target, "now": arguments.now, "reason": arguments.reason, "node": arguments.node}
    scope = ask(home, "pause", body)["command"]["scope"]
    trial = Command.scope_of_trial(scope) is not None
    if arguments.now:
        what = "it stops at its next batch" if trial else "trials stop at their next batch"
    else:
        what = "it stops at its next report" if trial else "no new trials; running ones finish"
    print(f"paused{status_text.scope(scope)}: {what}")
    return 0


def _resume(home: Home, arguments: argparse.Namespace) -> int:
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
    if force["rung"] != "RUN" and not (arguments.force and force["origin"] == "governor"):
        print(f"still {force['rung']} by the {force['origin']}: {force['reason']}")
    return 0


def _stop(home: Home, _: argparse.Namespace) -> int:
    greet(home)
    run = ask(home, "stop", {})["run"]
    print(f"{run}: stopping; `supervisord start` with its plan goes on with it")
    return _await_end(home, 60.0)


def _shutdown(home: Home, _: argparse.Namespace) -> int:
    greet(home)
    run = ask(home, "shutdown", {})["run"]
    print(f"{run}: the daemon ends; `supervisord start` goes on with the run")
    return _await_end(home, 60.0)


def _await_end(home: Home, deadline_s: float) -> int:
    """Waits until the daemon has let go of the home."""
    from supervisor.single_instance import is_held

    end = time.monotonic() + deadline_s
    while is_held(home):
        if time.monotonic() > end:
            raise SweepError(f"the daemon has not ended within {deadline_s:.0f} s")
        time.sleep(0.1)
    return 0


def _drill(home: Home, arguments: argparse.Namespace) -> int:
    greet(home)
    duration_s = parse_duration(arguments.duration)
    ask(home, "drill", {"name": arguments.name, "duration_s": duration_s, "node": arguments.node})
    print(f"drill {arguments.name} for {status_text.duration(duration_s)}")
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


def _tail(home: Home, arguments: argparse.Namespace) -> int:
    from supervisor import tail

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


def _wait(home: Home, arguments: argparse.Namespace) -> int:
    from supervisor.single_instance import is_held

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
    from supervisor.report_text import text_table

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


def _report(home: Home, arguments: argparse.Namespace) -> int:
    from supervisor.report_process import write_report_now
    from supervisor.report_text import text_table

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


def _backup(home: Home, arguments: argparse.Namespace) -> int:
    path = arguments.file.absolute()
    try:
        size = ask(home, "backup", {"path": str(path)}, deadline_s=BACKUP_DEADLINE_S)["bytes"]
    except NotRunning:
        from supervisor.backup import back_up_without_daemon

        size = back_up_without_daemon(home, path)
    print(
        f"{path}: {size} bytes; to use it, end the daemon and put it in the place of {home.store};"
        " what the logs know beyond it is added at the next start"
    )
    return 0


def _repair(home: Home, arguments: argparse.Namespace) -> int:
    from supervisor.clock import Clock
    from supervisor.repair import examine
    from supervisor.single_instance import take_lock

    if not home.state.is_dir():
        raise NotFound("this home has no store and no logs yet")
    lock = take_lock(home)
    try:
        findings = examine(home, Clock())
        for finding in findings:
            print(finding.what)
            print(f"  {'done' if arguments.apply else 'cure'}: {finding.apply() if arguments.apply else finding.cure}")
    finally:
        os.close(lock)
    if not findings:
        print("store and logs are sound and tell one story")
    elif not arguments.apply:
        print("nothing was changed: `supervisorctl repair --apply` does what stands under `cure`")
    return int(bool(findings) and not arguments.apply)


def _audit(home: Home, arguments: argparse.Namespace) -> int:
    import tempfile
    from dataclasses import asdict

    from supervisor import audit_checks, audit_evidence
    from supervisor.store import read_only

    with tempfile.TemporaryDirectory(prefix="sweep-audit-") as folder:
        copy = Path(folder) / "store.db"
        try:
            # Only the daemon opens its store; everyone else reads a copy.
            ask(home, "backup", {"path": str(copy)}, deadline_s=BACKUP_DEADLINE_S)
        except NotRunning:
            if not home.store.exists():
                raise NotFound("this home has no run yet", remedy="start one with `supervisord start smoke`") from None
            copy = home.store
        with read_only(copy) as connection:
            evidence = audit_evidence.gather(home, connection, arguments.run_or_plan)
    verdicts = audit_checks.check(evidence)
    if arguments.json:
        print(
            json.dumps({"run": evidence.run, "verdicts": [asdict(v) | {"holds": v.holds} for v in verdicts]}, indent=1)
        )
    else:
        print(audit_checks.render(evidence, verdicts))
    return int(not all(verdict.holds for verdict in verdicts))


def _sensors(_: Home, arguments: argparse.Namespace) -> int:
    from supervisor import sensors_verb

    found = sensors_verb.collect()
    print(json.dumps(found, indent=1) if arguments.json else sensors_verb.render(found))
    return 0


def _doctor(_: Home, arguments: argparse.Namespace) -> int:
    return _replay(Path(arguments.replay)) if arguments.replay else _record(arguments)


def _record(arguments: argparse.Namespace) -> int:
    from supervisor.sensors_record import record

    file = Path(arguments.to or time.strftime("sensors-%Y%m%d-%H%M%S.jsonl"))
    print(f"recording every sensor for {arguments.record:g} s into {file}", file=sys.stderr)
    try:
        passes = record(file, arguments.record)
    except ValueError as error:
        raise UsageError(str(error)) from error
    print(f"{passes} passes in {file}; play it with `supervisorctl doctor --replay {file}`")
    return 0


def _replay(file: Path) -> int:
    from supervisor import doctor
    from supervisor.policy import Policy

    steps = 0
    for step in doctor.replay(file, Policy()):
        print(doctor.render(step))
        steps += 1
    print(f"{steps} changes with the default policy" if steps else "nothing to act on: RUN throughout")
    return 0


def _version(home: Home, _: argparse.Namespace) -> int:
    print(f"{__product__} {__version__}, {Path(__file__).resolve().parent}, socket {home.socket}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

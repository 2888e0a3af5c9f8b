"""supervisorctl: shows and steers. What `status` needs is the standard library; a verb imports the rest when it runs.

Exit codes are LSB's: 0, 1 generic, 2 bad arguments, 4 `status` without a daemon, 5 not ours, 7 not running.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from supervisor import __product__, __version__
from supervisor.cli import maintenance, sensors, steer, watch
from supervisor.cli.dispatch import run_verb


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code. Never raises for what a user can do wrong."""
    return run_verb(build_parser(), argv, "the run goes on")


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="supervisorctl", description="Shows and steers the sweep that supervisord runs."
    )
    parser.add_argument("--version", action="version", version=f"{__product__} {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB")

    status = verbs.add_parser("status", help="what the run does now")
    status.add_argument("--json", action="store_true", help="everything, as one JSON object")
    status.set_defaults(run=watch.status)

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
    pause.set_defaults(run=steer.pause)

    resume = verbs.add_parser("resume", help="lift the operator's pause; the governor's only with --force")
    resume.add_argument("target", nargs="?", metavar="EXPERIMENT|TRIAL", help="as for pause")
    resume.add_argument("--node", help="as for pause")
    resume.add_argument(
        "--force", action="store_true",
        help="overrule the governor for 10 minutes: work goes on although sensors are hot or unknown; only a critical "
        "reading still pauses",
    )  # fmt: skip
    resume.set_defaults(run=steer.resume)

    stop = verbs.add_parser("stop", help="checkpoint and end the run; it stays stopped until it is started again")
    stop.set_defaults(run=steer.stop)

    shutdown = verbs.add_parser("shutdown", help="end the daemon; the run goes on with the next `supervisord start`")
    shutdown.set_defaults(run=steer.shutdown)

    drill = verbs.add_parser("drill", help="play a hardware fault through the scripted sensors of the live run")
    drill.add_argument("name", help="heat, spike, flap, sensor-lost, memory, ...; an unknown name lists them")
    drill.add_argument("--for", dest="duration", default="60s", help="how long, such as 45s or 2m (default 60s)")
    drill.add_argument("--node", help="one node only")
    drill.set_defaults(run=steer.drill)

    tail = verbs.add_parser("tail", help="the last events, and with -f those to come")
    tail.add_argument("plan", nargs="?", help="whose log; the last run's plan when left out")
    tail.add_argument("-f", "--follow", action="store_true", help="go on until Ctrl-C or the end of the run")
    tail.add_argument("-n", "--lines", type=_count, default=20, help="how many lines first (default 20)")
    tail.add_argument("--event", help="only events whose name matches this glob, such as 'trial.*'")
    tail.add_argument("--experiment", help="only experiments that match this glob")
    tail.add_argument("--trial", type=int, help="only this trial's")
    tail.add_argument("--json", action="store_true", help="the lines as they are (the default when piped)")
    tail.set_defaults(run=watch.tail_log)

    wait = verbs.add_parser("wait", help="show the progress until the run has ended; its exit code says how")
    wait.add_argument("--timeout", type=float, default=None, help="give up after so many seconds, exit code 1")
    wait.set_defaults(run=watch.wait)

    report = verbs.add_parser("report", help="write the report of a run, finished or not, and print its path")
    report.add_argument("run_or_plan", nargs="?", metavar="RUN|PLAN", help="the last run when left out")
    report.set_defaults(run=watch.report)

    every_sensor = verbs.add_parser("sensors", help="every sensor of this machine: value, limits, quality, source")
    every_sensor.add_argument("--json", action="store_true")
    every_sensor.set_defaults(run=sensors.sensors)

    doctor = verbs.add_parser("doctor", help="record every sensor into one file to send, or play such a file")
    mode = doctor.add_mutually_exclusive_group(required=True)
    mode.add_argument(
        "--record", metavar="SECONDS", type=float, help="how long, such as 120: idle first, then under load"
    )
    mode.add_argument("--replay", metavar="FILE", help="what the governor would have done")
    doctor.add_argument("--to", metavar="FILE", default=None, help="the recording; sensors-TIME.jsonl when left out")
    doctor.set_defaults(run=sensors.doctor)

    notify = verbs.add_parser("notify", help="send a test message to the addresses in state/notify")
    notify.set_defaults(run=maintenance.notify)

    backup = verbs.add_parser("backup", help="copy the store into one new file, while the run goes on")
    backup.add_argument("file", type=Path, help="a file that is not there yet")
    backup.set_defaults(run=maintenance.backup)

    repair = verbs.add_parser("repair", help="what is wrong with store and logs, and what can be done")
    repair.add_argument("--apply", action="store_true", help="do it; what is replaced is kept beside it")
    repair.set_defaults(run=maintenance.repair)

    audit = verbs.add_parser("audit", help="prove from log, store and checkpoints that a run lost nothing")
    audit.add_argument("run_or_plan", nargs="?", metavar="RUN|PLAN", help="the last run when left out")
    audit.add_argument("--json", action="store_true", help="each promise with its faults")
    audit.set_defaults(run=maintenance.audit)

    completion = verbs.add_parser("completion", help="a shell's completion script, to be sourced")
    completion.add_argument("shell", choices=("bash", "zsh", "tcsh"))
    completion.set_defaults(run=lambda _, arguments: maintenance.completion(build_parser(), arguments.shell))

    version = verbs.add_parser("version", help="this program, its path and its socket")
    version.set_defaults(run=maintenance.version)
    return parser


def _count(text: str) -> int:
    value = int(text)
    if not 0 <= value <= 1_000_000:
        raise argparse.ArgumentTypeError("from 0 to 1000000")
    return value


if __name__ == "__main__":
    sys.exit(main())

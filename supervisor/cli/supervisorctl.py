"""Defines the command supervisorctl: it shows and steers the run of a home's daemon.

Exit codes are LSB's: 0, 1 generic, 2 bad arguments, 4 `status` without a daemon, 5 not ours, 7 not running. Standard
library at import, and little of it: `status` must start at once.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from supervisor import __product__, __version__
from supervisor.cli.dispatch import run_verb

Parser = argparse.ArgumentParser
Arguments = Callable[[Parser], object]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code. A user's mistake raises nothing but SystemExit."""
    argv = sys.argv[1:] if argv is None else argv
    # Building all verbs' parsers takes longer than asking the daemon.
    only = argv[0] if argv and argv[0] in VERBS else None
    return run_verb(build_parser(only), argv, "the run goes on")


def build_parser(only: str | None = None) -> Parser:
    """Return the parser of the command, with the verb `only` or with all verbs."""
    parser = Parser(prog="supervisorctl", description="Shows and steers the sweep that supervisord runs.")
    parser.add_argument("--version", action="version", version=f"{__product__} {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB")
    for name in VERBS if only is None else (only,):
        help_text, run, arguments = VERBS[name]
        verb = verbs.add_parser(name, help=help_text)
        verb.set_defaults(run=run)
        for add in arguments:
            add(verb)
    return parser


def _argument(*names: str, **settings: Any) -> Arguments:
    return lambda parser: parser.add_argument(*names, **settings)


def _pause(parser: Parser) -> None:
    parser.add_argument(
        "target", nargs="?", metavar="EXPERIMENT|TRIAL",
        help="the experiment at work, or one trial (NUMBER or EXPERIMENT/NUMBER), which stops at its next report; "
        "the run when left out",
    )  # fmt: skip
    parser.add_argument("--node", help="one node only, by its id or the beginning of it")
    parser.add_argument("--now", action="store_true", help="running trials stop at their next batch, not at their end")
    parser.add_argument("--reason", default="", help="shown in status and written to the log")


def _resume(parser: Parser) -> None:
    parser.add_argument("target", nargs="?", metavar="EXPERIMENT|TRIAL", help="as for pause")
    parser.add_argument("--node", help="as for pause")
    parser.add_argument(
        "--force", action="store_true",
        help="overrule the governor for 10 minutes: work goes on although sensors are hot or unknown; only a critical "
        "reading still pauses",
    )  # fmt: skip


def _drill(parser: Parser) -> None:
    parser.add_argument("name", help="heat, spike, flap, sensor-lost, memory, ...; an unknown name lists them")
    parser.add_argument("--for", dest="duration", default="60s", help="how long, such as 45s or 2m (default 60s)")
    parser.add_argument("--node", help="one node only")


def _tail(parser: Parser) -> None:
    parser.add_argument("plan", nargs="?", help="the plan of the log; the last run's plan when left out")
    parser.add_argument("-f", "--follow", action="store_true", help="go on until Ctrl-C or the end of the run")
    parser.add_argument("-n", "--lines", type=_count, default=20, help="number of lines to begin with (default 20)")
    parser.add_argument("--event", help="only events whose name matches this glob, such as 'trial.*'")
    parser.add_argument("--experiment", help="only experiments that match this glob")
    parser.add_argument("--trial", type=int, help="only events of this trial")
    parser.add_argument("--json", action="store_true", help="the lines as they are (the default when piped)")


def _doctor(parser: Parser) -> None:
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument(
        "--record", metavar="SECONDS", type=float, help="how long, such as 120: idle first, then under load"
    )
    mode.add_argument("--replay", metavar="FILE", help="print the governor's actions on a recording")
    parser.add_argument("--to", metavar="FILE", default=None, help="the recording; sensors-TIME.jsonl when left out")


def _count(text: str) -> int:
    value = int(text)
    if not 0 <= value <= 1_000_000:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 1000000, found {text}")
    return value


_RUN = _argument("run_or_plan", nargs="?", metavar="RUN|PLAN", help="the last run when left out")
_JSON = _argument("--json", action="store_true", help="everything, as one JSON object")

VERBS: dict[str, tuple[str, str, tuple[Arguments, ...]]] = {
    "status": ("show the run's state", "watch.status", (_JSON,)),
    "pause": ("start no new trials; running ones finish (--now: all stop at once)", "steer.pause", (_pause,)),
    "resume": ("lift the operator's pause; the governor's only with --force", "steer.resume", (_resume,)),
    "stop": ("checkpoint and end the run; it stays stopped until it is started again", "steer.stop", ()),
    "shutdown": ("end the daemon; the next `supervisord start` resumes the run", "steer.shutdown", ()),
    "drill": ("play a hardware fault through the scripted sensors of the live run", "steer.drill", (_drill,)),
    "tail": ("print the last events, and with -f those to come", "watch.tail_log", (_tail,)),
    "wait": (
        "show the progress until the run has ended; the exit code is the run's", "watch.wait",
        (_argument("--timeout", type=float, help="give up after so many seconds, exit code 1"),),
    ),
    "report": ("write the report of a run, finished or not, and print its path", "watch.report", (_RUN,)),
    "sensors": ("list every sensor of this machine: value, limits, quality, source", "sensors.sensors", (_JSON,)),
    "doctor": ("record every sensor into one file to send, or play such a file", "sensors.doctor", (_doctor,)),
    "notify": ("send a test message to the addresses in state/notify", "maintenance.notify", ()),
    "backup": (
        "copy the store into a new file, while the run goes on", "maintenance.backup",
        (_argument("file", type=Path, help="a new file"),),
    ),
    "repair": (
        "list the faults of store and logs, each with its repair", "maintenance.repair",
        (_argument("--apply", action="store_true", help="do it; a file that is replaced is kept beside it"),),
    ),
    "audit": ("prove from log, store and checkpoints that a run lost nothing", "maintenance.audit", (_RUN, _JSON)),
    "completion": (
        "print a shell's completion script, to be sourced", "maintenance.completion",
        (_argument("shell", choices=("bash", "zsh", "tcsh")),),
    ),
    "version": ("print this program's version, its path and its socket", "maintenance.version", ()),
}  # fmt: skip
"""Each verb: its help, the function that runs it (dispatch.run_verb), and the functions that add its arguments."""


if __name__ == "__main__":
    sys.exit(main())

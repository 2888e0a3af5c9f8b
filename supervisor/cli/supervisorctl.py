"""Defines the command supervisorctl: it shows and steers the run of a home's daemon.

Standard library at import, and little of it: `status` must start at once.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from supervisor.cli.dispatch import Parser, Verbs, argument, parser_of, run_verb


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code. A user's mistake raises nothing but SystemExit."""
    argv = sys.argv[1:] if argv is None else argv
    # Building all verbs' parsers takes longer than asking the daemon.
    only = argv[0] if argv and argv[0] in VERBS else None
    return run_verb(build_parser(only), argv, "the run goes on")


def build_parser(only: str | None = None) -> Parser:
    """Return the parser of the command, with the verb `only` or with all verbs."""
    return parser_of("supervisorctl", "Shows and steers the sweep that supervisord runs.", VERBS, only)


def _status(parser: argparse.ArgumentParser) -> None:
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="everything, as one JSON object")
    form.add_argument("-w", "--watch", action="store_true", help="in place, each second; p pauses, r resumes, q quits")


def _pause(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "target", nargs="?", metavar="EXPERIMENT|TRIAL",
        help="the experiment at work, or one trial (NUMBER or EXPERIMENT/NUMBER), which stops at its next report; "
        "the run when left out",
    )  # fmt: skip
    parser.add_argument("--node", help="one node only, by its id or the beginning of it")
    parser.add_argument("--now", action="store_true", help="running trials stop at their next batch, not at their end")
    parser.add_argument("--reason", default="", help="shown in status and written to the log")


def _resume(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", nargs="?", metavar="EXPERIMENT|TRIAL", help="as for pause")
    parser.add_argument("--node", help="as for pause")
    parser.add_argument(
        "--force", action="store_true",
        help="overrule the governor for 10 minutes: work goes on although sensors are hot or unknown; only a critical "
        "reading still pauses",
    )  # fmt: skip
    parser.add_argument(
        "--for", dest="duration", metavar="TIME",
        help="overrule the plan's schedule so long, such as 2h; never the governor",
    )  # fmt: skip


def _retry(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "target", nargs="?", metavar="EXPERIMENT|TRIAL",
        help="an experiment, or one trial (NUMBER or EXPERIMENT/NUMBER); all that failed in the run when left out",
    )  # fmt: skip


def _drill(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="heat, spike, flap, sensor-lost, memory, ...; an unknown name lists them")
    parser.add_argument("--for", dest="duration", default="60s", help="how long, such as 45s or 2m (default 60s)")
    parser.add_argument("--node", help="one node only")


def _tail(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("plan", nargs="?", help="the plan of the log; the last run's plan when left out")
    parser.add_argument("-f", "--follow", action="store_true", help="go on until Ctrl-C or the end of the run")
    parser.add_argument(
        "-n", "--lines", type=_count, help="number of lines that match to begin with (20; with --since all)"
    )
    parser.add_argument(
        "--since", help="only events since then: 45s, 30m, 2h or 3d ago, or a time such as 2026-11-30T08:00 (local)"
    )
    parser.add_argument(
        "--level", choices=("info", "warning", "error"), help="only events of this level, or of a worse one"
    )
    parser.add_argument("--grep", metavar="REGEX", help="only events with this in one of their texts")
    parser.add_argument("--event", help="only events whose name matches this glob, such as 'trial.*'")
    parser.add_argument("--experiment", help="only experiments that match this glob")
    parser.add_argument("--trial", type=_trial, help="only events of this trial: NUMBER or EXPERIMENT/NUMBER")
    parser.add_argument("--utc", action="store_true", help="times in UTC, not in local time; implies --pretty")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="the lines as they are (the default when piped)")
    form.add_argument("--pretty", action="store_true", help="lines for people (the default in a terminal)")


def _log(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "trial", type=_trial, metavar="TRIAL", help="NUMBER, of the experiment at work, or EXPERIMENT/NUMBER"
    )
    parser.add_argument("-f", "--follow", action="store_true", help="go on until Ctrl-C, with later attempts, too")
    parser.add_argument("-n", "--lines", type=_count, help="the last lines only")
    parser.add_argument("--attempt", type=_count, metavar="N", help="the attempt; the last one when left out")


def _trial(text: str) -> tuple[str | None, int]:
    experiment, _, number = text.rpartition("/")
    if not number.isdecimal():
        raise argparse.ArgumentTypeError(f"expected NUMBER or EXPERIMENT/NUMBER, found {text!r}")
    return experiment or None, int(number)


def _sensors(parser: argparse.ArgumentParser) -> None:
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--json", action="store_true", help="everything, as one JSON object")
    mode.add_argument(
        "--record", metavar="FILE", type=Path, help="write every reading into a new file, to send or play"
    )
    mode.add_argument("--replay", metavar="FILE", type=Path, help="print what the governor would do on a recording")
    parser.add_argument(
        "--for", dest="duration", default="60s", help="how long to record, such as 5m: idle first, then under load"
    )


def _dashboard(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--token", action="store_true", help="print only the token to log in with, such as for a pipe")
    parser.add_argument(
        "--optuna", action="store_true", help="copy the studies and open Optuna's dashboard on them, until Ctrl-C"
    )
    parser.add_argument("--port", type=_port, default=8080, help="of Optuna's dashboard (default 8080)")


def _port(text: str) -> int:
    if not text.isdecimal() or not 1024 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"expected a port from 1024 to 65535, found {text!r}")
    return int(text)


def _queue(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", nargs="?", choices=("list", "move", "remove"), default="list", help="list if left out")
    parser.add_argument(
        "names", nargs="*", metavar="PLAN", help="a plan, or its place in the list; for move also its new place"
    )


def _more(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "targets", nargs="+", metavar="EXPERIMENT|TRIAL",
        help="experiments with --trials, ended trials (NUMBER or EXPERIMENT/NUMBER) with --epochs; several, patterns",
    )  # fmt: skip
    parser.add_argument("--trials", type=_count, default=0, help="how many trials more")
    parser.add_argument("--hours", type=float, default=0.0, help="how many hours more, where it has a limit")
    parser.add_argument("--epochs", type=_count, help="how many epochs more, from the trial's newest checkpoint")
    parser.add_argument("--anew", action="store_true", help="with --epochs: from epoch 0, where no checkpoint is left")


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) > 1_000_000:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 1000000, found {text!r}")
    return int(text)


def _trials(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--sort", metavar="KEY", help="a column, such as value (the best first) or training_s")
    parser.add_argument("--reverse", action="store_true", help="the other way round")
    parser.add_argument(
        "--state", help="only trials in these states or with these end reasons, such as running,pruned or failed"
    )
    parser.add_argument("--columns", metavar="NAME,...", help="these columns; an unknown one lists them")


def _best(parser: argparse.ArgumentParser) -> None:
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="as one JSON object")
    form.add_argument("--yaml", action="store_true", help="as YAML")


def _export(parser: argparse.ArgumentParser) -> None:
    form = parser.add_mutually_exclusive_group(required=True)
    form.add_argument("--csv", nargs="?", const="-", metavar="FILE", help="as CSV; to the output without FILE")
    form.add_argument(
        "--parquet", nargs="?", const="", metavar="FILE", help="as parquet; without FILE to RUN-trials.parquet here"
    )
    parser.add_argument("--results", action="store_true", help="a row for each epoch, not for each trial")
    parser.add_argument(
        "--experiment", metavar="EXPERIMENT", action="append", default=[], help="only these: a name or a glob"
    )


def _predict(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("experiment", metavar="EXPERIMENT", help="one that was finalised")
    parser.add_argument("file", metavar="FILE", help="daily bars as CSV or parquet, as `supervisord data` reads them")
    parser.add_argument("--days", type=int, default=5, help="how many of the last days (default 5)")
    parser.add_argument("--ticker", help="the ticker to take, where the file has several")
    parser.add_argument("--vix", metavar="FILE", help="bars of VIX, for a tier with VIX")


_NAMES = argument("experiments", nargs="*", metavar="EXPERIMENT", help="names or globs; all when left out")
_OF_RUN = argument("--run", dest="run_or_plan", metavar="RUN|PLAN", help="another run; the last one when left out")
_TRIALS = argument(
    "targets", nargs="+", metavar="TRIAL",
    help="NUMBER, EXPERIMENT/NUMBER, a quoted pattern such as '2M-*/1?', EXPERIMENT for all its trials, or all",
)  # fmt: skip
_EXPERIMENTS = argument(
    "targets", nargs="+", metavar="EXPERIMENT", help="a name, a quoted pattern such as '2M-*', or all"
)
_RUN = argument("run_or_plan", nargs="?", metavar="RUN|PLAN", help="the last run when left out")
_YES = argument("-y", "--yes", action="store_true", help="do not ask before deleting")
_JSON = argument("--json", action="store_true", help="everything, as one JSON object")

VERBS: Verbs = {
    "status": ("show the run's state", "watch.status", (_status,)),
    "pause": ("start no new trials; running ones finish (--now: all stop at once)", "steer.pause", (_pause,)),
    "resume": ("lift the operator's pause; the governor's only with --force", "steer.resume", (_resume,)),
    "retry": ("try again what failed: failed trials, a test without a result", "steer.retry", (_retry,)),
    "finish": (
        "end an experiment's search now: finalise and test what there is", "steer.finish",
        (argument("target", nargs="?", metavar="EXPERIMENT", help="the one at work when left out"),),
    ),
    "end": ("end trials at their next report, with the best value that they have", "change.end", (_TRIALS,)),
    "discard": ("take ended trials out of search, best and report; they stay in the log", "change.discard", (_TRIALS,)),
    "restore": ("let discarded trials count again", "change.restore", (_TRIALS,)),
    "skip": ("leave experiments out: no search, no answer", "change.skip", (_EXPERIMENTS,)),
    "next": ("let an experiment begin next, before the others that wait", "change.put_next", (_EXPERIMENTS,)),
    "set": (
        "change the plan of the run: concurrency, max_trials, max_hours, hardware.*, ...", "change.change",
        (argument(
            "words", nargs="+", metavar="EXPERIMENT|KEY=VALUE",
            help="keys of the plan, for the experiments named (NAME or a quoted pattern), else for all that go on",
        ),),
    ),
    "reread": (
        "compare the plan's file with the run's plan; take over what can change", "change.reread",
        (argument("--apply", action="store_true", help="take it over; without this nothing changes"),),
    ),
    "enqueue": (
        "let a search try a point of its space next", "change.enqueue",
        (_EXPERIMENTS, argument("point", metavar="POINT", help="such as '{learning_rate: 0.001}'; the rest is drawn")),
    ),
    "extend": ("give a search more trials, or an ended trial more epochs", "change.extend", (_more,)),
    "queue": ("list the plans that begin after this run; move or remove them", "plan_queue.queue", (_queue, _JSON)),
    "stop": ("checkpoint and end the run; it stays stopped until it is started again", "steer.stop", ()),
    "shutdown": ("end the daemon; the next `supervisord start` resumes the run", "steer.shutdown", ()),
    "drill": ("play a hardware fault through the scripted sensors of the live run", "steer.drill", (_drill,)),
    "tail": ("print the last events, and with -f those to come", "show.tail.tail", (_tail,)),
    "log": ("show a trial's prints, those of C libraries and child processes too", "show.trial_log.log", (_log,)),
    "wait": (
        "show the progress until the run has ended; the exit code is the run's", "watch.wait",
        (argument("--timeout", type=float, help="give up after so many seconds, exit code 1"),),
    ),
    "report": ("write the report of a run, finished or not, and print its path", "watch.report", (_RUN,)),
    "trials": ("list trials: state, value, time, parameters", "show.trials.trials", (_NAMES, _trials, _JSON, _OF_RUN)),
    "best": (
        "print each experiment's final configuration and test, apart from the search's best", "show.answers.best",
        (_NAMES, _best, _OF_RUN),
    ),
    "export": ("write all trials, or all results, into a table", "show.trials.export", (_export, _OF_RUN)),
    "history": (
        "list the runs of this home: when, how long, verdict, best", "show.runs.history",
        (argument("-n", "--last", type=_count, default=20, help="the newest so many (default 20)"), _JSON),
    ),
    "compare": (
        "show in which settings two runs differ, and what they found", "show.runs.compare",
        (argument("runs", nargs=2, metavar="RUN", help="a run's id, as history lists them, or a plan"), _JSON),
    ),
    "predict": (
        "print what a final configuration says of the last days of a file", "show.forecast.predict",
        (_predict, _JSON, _OF_RUN),
    ),
    "sensors": ("list every sensor of this machine: value, limits, quality, source", "sensors.sensors", (_sensors,)),
    "dashboard": (
        "print the address of Ray's dashboard and how to log in; open Optuna's", "dashboard.dashboard",
        (_dashboard, _RUN),
    ),
    "doctor": (
        "look for what is wrong here, each with its cure; exit code 1 if something is", "doctor.examine.doctor",
        (_JSON, argument("--bundle", metavar="FILE", type=Path, help="also write a bug report, without secrets")),
    ),
    "notify": (
        "send a test message to each address in state/notify, and say what came of it", "news.notify",
        (argument("action", nargs="?", choices=("test",), default="test", help="test, also when left out"),),
    ),
    "backup": (
        "copy the store into a new file, while the run goes on", "maintenance.backup",
        (argument("file", type=Path, help="a new file"),),
    ),
    "gc": (
        "list what runs keep on the disk, and delete what old ones need no more", "old_runs.gc",
        (_YES, _JSON, argument("--all", action="store_true", help="each plan's newest run, too, if it has ended")),
    ),
    "rm": (
        "delete the checkpoints, trials and logs of ended runs; reports stay", "old_runs.rm",
        (argument("runs", nargs="+", metavar="RUN", help="a run's id, as gc lists them"), _YES),
    ),
    "repair": (
        "list the faults of store and logs, each with its repair", "maintenance.repair",
        (argument("--apply", action="store_true", help="do it; a file that is replaced is kept beside it"),),
    ),
    "audit": ("prove from log, store and checkpoints that a run lost nothing", "maintenance.audit", (_RUN, _JSON)),
    "completion": (
        "print a shell's completion script, to be sourced", "show.names.completion",
        (argument("shell", choices=("bash", "zsh", "fish", "tcsh")),),
    ),
    "names": (
        "print names for a shell to complete", "show.names.names",
        (argument("kind", choices=("experiments", "runs")),),
    ),
    "version": ("print this program's version, its path, its home and its socket", "maintenance.version", ()),
}  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())

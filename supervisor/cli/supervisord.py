"""Defines the command supervisord: it starts plans, lists them, and keeps the data they need.

Standard library at import; the module of a verb is imported when the verb runs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from supervisor.cli.data import add_arguments
from supervisor.cli.dispatch import Parser, Verbs, argument, parser_of, run_verb
from supervisor.control.handshake import ANY_PORT

READY_TIMEOUT_S = 120.0
MAX_HOURS = 1e6


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code. A user's mistake raises nothing but SystemExit."""
    return run_verb(build_parser(), argv, "nothing of it is left running")


def build_parser() -> Parser:
    """Return the parser of the command."""
    return parser_of("supervisord", "Runs long searches unattended: plans, their data, the daemon.", VERBS)


def _choice(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set", dest="sets", action="append", default=[], metavar="KEY=VALUE",
        help="change one value of the plan; may be repeated",
    )  # fmt: skip
    parser.add_argument("--only", metavar="VALUE", help="only experiments with this value on an axis, such as 2M")
    parser.add_argument(
        "--hours", type=_hours, metavar="HOURS", help="hours of training for all of them; each gets its share"
    )
    parser.add_argument("--experiments", action="append", default=[], metavar="GLOB", help="only experiments so named")


def _hours(text: str) -> float:
    try:
        hours = float(text)
    except ValueError:
        hours = 0.0
    if not 0.0 < hours <= MAX_HOURS:
        raise argparse.ArgumentTypeError(f"expected hours above 0 and up to {MAX_HOURS:,.0f}, found {text!r}")
    return hours


def _start(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "plan", nargs="?", help="a built-in plan's name or a YAML file's path; the last run if left out"
    )
    _choice(parser)
    old = parser.add_mutually_exclusive_group()
    old.add_argument("--new", action="store_true", help="give up an unfinished run of this plan, begin another")
    old.add_argument(
        "--resume", action="store_true", help="go on with its unfinished run although the plan was edited since"
    )
    parser.add_argument("--queue", action="store_true", help="begin after the run at work and the plans in the queue")
    again = parser.add_mutually_exclusive_group()
    again.add_argument("--retry", action="store_true", help="resume the last run and try again what failed in it")
    again.add_argument(
        "--extend", action="append", default=[], metavar="EXPERIMENT=TRIALS|TRIAL=EPOCHS",
        help="resume the last run and give an experiment so many trials more, or a trial (EXPERIMENT/NUMBER) so many"
        " epochs; may be repeated",
    )  # fmt: skip
    parser.add_argument("--anew", action="store_true", help="with --extend: train the trials from epoch 0")
    parser.add_argument("--dry-run", action="store_true", help="print the experiments and their cost; start nothing")
    parser.add_argument(
        "--http", nargs="?", const=ANY_PORT, metavar="PORT",
        help="serve a live page on this machine's loopback, on the same port again after a restart; --http=off ends it",
    )  # fmt: skip
    parser.add_argument("--foreground", action="store_true", help="do not detach (service managers set this up)")
    parser.add_argument("--timeout", type=float, default=READY_TIMEOUT_S, help="seconds to wait for the daemon")


VERBS: Verbs = {
    "start": ("run a plan; resumes an unfinished run of it", "start.start", (_start,)),
    "check": (
        "check this machine for a plan; exit code 1 when the plan cannot run here", "start.check",
        (
            argument("plan", nargs="?", help="as for start; needed without --accelerator"), _choice,
            argument("--json", action="store_true", help="checks and costs as JSON"),
            argument("--try", dest="try_one", action="store_true", help="also train one epoch of one trial"),
            argument("--accelerator", action="store_true", help="instead check this machine's GPU, in two minutes"),
        ),
    ),
    "install-service": (
        "let systemd or launchd start the daemon, also after a reboot", "service_files.install_service",
        (argument("--dry-run", action="store_true", help="print the file and its path; write nothing"),),
    ),
    "plans": ("list the built-in plans", "start.plans", ()),
    "data": ("import, fetch, list and verify market data", "data.data", (add_arguments,)),
}  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())

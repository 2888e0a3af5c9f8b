"""Defines the command supervisord: it starts plans, lists them, and keeps the data they need.

Standard library at import; the module of a verb is imported when the verb runs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from supervisor import __product__, __version__
from supervisor.cli.dispatch import run_verb

READY_TIMEOUT_S = 120.0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code. A user's mistake raises nothing but SystemExit."""
    return run_verb(build_parser(), argv, "nothing of it is left running")


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="supervisord", description="Runs long searches unattended: plans, their data, the daemon."
    )
    parser.add_argument("--version", action="version", version=f"{__product__} {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB")
    start = verbs.add_parser("start", help="run a plan; resumes an unfinished run of it")
    _add_start(start)
    start.set_defaults(run="start.start")

    check = verbs.add_parser("check", help="check this machine for a plan; exit code 1 when the plan cannot run here")
    check.add_argument("plan", help="as for start")
    _add_set(check, "as for start")
    check.add_argument("--json", action="store_true", help="the checks as a JSON list")
    check.set_defaults(run="start.check", only=None, experiments=[])

    service = verbs.add_parser("install-service", help="let systemd or launchd start the daemon, also after a reboot")
    service.add_argument("--dry-run", action="store_true", help="print the file and its path; write nothing")
    service.set_defaults(run="service_files.install_service")

    plans = verbs.add_parser("plans", help="list the built-in plans")
    plans.set_defaults(run="start.plans")

    data = verbs.add_parser("data", help="import, fetch, list and verify market data")
    from supervisor.cli.data import add_arguments

    add_arguments(data)
    data.set_defaults(run="data.data")
    return parser


def _add_set(parser: argparse.ArgumentParser, help_text: str) -> None:
    parser.add_argument("--set", dest="sets", action="append", default=[], metavar="KEY=VALUE", help=help_text)


def _add_start(start: argparse.ArgumentParser) -> None:
    start.add_argument("plan", nargs="?", help="a built-in plan's name or a YAML file's path; the last run if left out")
    _add_set(start, "change one value of the plan; may be repeated")
    start.add_argument("--only", metavar="VALUE", help="only experiments with this value on an axis, such as 2M")
    start.add_argument("--experiments", action="append", default=[], metavar="GLOB", help="only experiments so named")
    start.add_argument("--new", action="store_true", help="give up an unfinished run of this plan, begin another")
    start.add_argument("--retry", action="store_true", help="resume the last run and try again what failed in it")
    start.add_argument("--dry-run", action="store_true", help="print the experiments and their cost; start nothing")
    start.add_argument("--foreground", action="store_true", help="do not detach (service managers set this up)")
    start.add_argument("--timeout", type=float, default=READY_TIMEOUT_S, help="seconds to wait for the daemon")


if __name__ == "__main__":
    sys.exit(main())

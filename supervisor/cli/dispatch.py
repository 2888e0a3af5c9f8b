"""Runs a command line's verb, and turns errors into messages and exit codes. Standard library only."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from supervisor.errors import SweepError, SystemRefused
from supervisor.home import find_home

INTERRUPTED = 130
"""128 + SIGINT, as shells have it."""


def run_verb(parser: argparse.ArgumentParser, argv: Sequence[str] | None, interrupted: str) -> int:
    """Parse `argv` and run its verb; return the exit code.

    A subparser sets `run`, a module of this room and its function: "watch.status". The function takes the home and the
    arguments and returns the exit code. `interrupted` says what goes on after Ctrl-C.
    """
    arguments = parser.parse_args(argv)
    if arguments.verb is None:
        parser.print_help()
        return 2
    module, _, verb = arguments.run.partition(".")
    try:
        return int(getattr(import_module(f"supervisor.cli.{module}"), verb)(find_home(), arguments))
    except SweepError as error:
        return _report(parser.prog, error)
    except KeyboardInterrupt:
        print(f"\n{parser.prog}: interrupted; {interrupted}", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader (`| head`) has closed the pipe; without this the interpreter's last flush would fail (code 120).
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        return _report(parser.prog, SystemRefused.because(error))


def _report(program: str, error: SweepError) -> int:
    print(f"{program}: {error.render()}", file=sys.stderr)
    return error.exit_code

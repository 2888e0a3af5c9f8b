"""Runs the verb that a command line names, and turns what goes wrong into words and an exit code.

Standard library only. Both commands, supervisord and supervisorctl, end here.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from supervisor.errors import SweepError, SystemRefused
from supervisor.home import find_home

INTERRUPTED = 130
"""128 + SIGINT, as shells have it."""


def run_verb(parser: argparse.ArgumentParser, argv: Sequence[str] | None, interrupted: str) -> int:
    """The exit code. A subparser sets `run`, which takes the home and the arguments and returns its own.

    `interrupted` is what Ctrl-C leaves behind, for the user to read.
    """
    arguments = parser.parse_args(argv)
    if arguments.verb is None:
        parser.print_help()
        return 2
    try:
        return int(arguments.run(find_home(), arguments))
    except SweepError as error:
        return _say(parser.prog, error)
    except KeyboardInterrupt:
        print(f"\n{parser.prog}: interrupted; {interrupted}", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader (`| head`) has seen enough; the interpreter's last flush must not complain of it (exit code 120).
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        return _say(parser.prog, SystemRefused.because(error))


def _say(program: str, error: SweepError) -> int:
    print(f"{program}: {error.render()}", file=sys.stderr)
    return error.exit_code

"""Runs a command line's verb, and turns errors into messages and exit codes. Standard library only."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

from supervisor import __product__, __version__
from supervisor.errors import SweepError, SystemRefused, UsageError
from supervisor.formatting import nearest
from supervisor.home import find_home

INTERRUPTED = 130
"""128 + SIGINT, as shells have it."""
OTHER = {"supervisord": "supervisorctl", "supervisorctl": "supervisord"}

Arguments = Callable[[argparse.ArgumentParser], object]
Verbs = Mapping[str, tuple[str, str, tuple[Arguments, ...]]]
"""Each verb: its help, the function that runs it (run_verb), and the functions that add its arguments."""


def _listed(kind: str) -> dict[str, Any]:
    """Return how each shell completes names of this kind, in the form of `shtab.cmd`."""
    command = f"supervisorctl names {kind}"
    bash = f'_sweep_{kind}() {{ compgen -W "$({command})" -- "$1"; }}'
    return {
        "bash": f"_sweep_{kind}", "zsh": f"($({command}))", "tcsh": f"`{command}`", "fish": f"({command})",
        "preamble": {"bash": bash},
    }  # fmt: skip


_EXPERIMENTS, _RUNS = _listed("experiments"), _listed("runs")
COMPLETED: Mapping[str, Any] = {
    "EXPERIMENT": _EXPERIMENTS, "EXPERIMENT|TRIAL": _EXPERIMENTS, "RUN": _RUNS, "RUN|PLAN": _RUNS, "FILE": "file",
}  # fmt: skip
"""The command by which a shell completes an argument of this metavar, by shell."""

_COLUMNS, _MARGIN = 80, 2
"""The width of a help without a terminal, and what argparse leaves free of each width."""
_INVALID = re.compile(r"invalid choice: '([^']*)' \(choose from (.*)\)", re.DOTALL)
_UNKNOWN = re.compile(r"unrecognized arguments: (--?[\w-]+)")
"""Messages of argparse."""


class _Help(argparse.HelpFormatter):
    """Lays out the help as argparse does, for a width that is read without shutil.

    argparse makes one for each argument that is added. Its own asks shutil for the width, and shutil loads every kind
    of compression.
    """

    def __init__(self, prog: str, width: int | None = None, **settings: Any) -> None:
        super().__init__(prog, width=_help_columns() if width is None else width, **settings)


def _help_columns() -> int:
    """Return the columns of a help text: COLUMNS, the terminal's or 80, less the margin of argparse."""
    named = os.environ.get("COLUMNS", "")
    if named.isdecimal() and int(named):
        return int(named) - _MARGIN
    try:
        return (os.get_terminal_size(1).columns or _COLUMNS) - _MARGIN
    except OSError:
        return _COLUMNS - _MARGIN


class Parser(argparse.ArgumentParser):
    """Parses a command line; an error says what was meant."""

    def __init__(self, *of: Any, **settings: Any) -> None:
        super().__init__(*of, **{"formatter_class": _Help, **settings})

    def add_argument(self, *names: Any, **settings: Any) -> argparse.Action:
        """Add an argument; where it names experiments, runs or a file, shells can complete it (shtab)."""
        action = super().add_argument(*names, **settings)
        kind = COMPLETED.get(settings.get("metavar") or "")
        if kind is not None:
            action.complete = kind  # type: ignore[attr-defined]
        return action

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse; also a verb's own parser refuses what it does not know, since only it knows its options."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found, unknown

    def format_help(self) -> str:
        """Return the help, with examples at its end."""
        from supervisor.cli.guide.examples import examples_of  # slow to import for a `status`; only help needs it

        lines = "".join(f"  {line}\n" for line in examples_of(self.prog))
        return super().format_help() + (f"\nexamples:\n{lines}" if lines else "")

    def error(self, message: str) -> Any:
        """Print usage, message and cure; end with the code of a UsageError."""
        from supervisor.cli.guide.next_steps import cure_of

        self.print_usage(sys.stderr)
        error = UsageError(f"{self.prog}: error: {message}", remedy=self._cure(message))
        error.remedy = cure_of(error, self.prog)
        self.exit(error.exit_code, f"{error.render()}\n")

    def _cure(self, message: str) -> str | None:
        if found := _UNKNOWN.search(message):
            return nearest(found[1], re.findall(r"(?<![\w-])--?[a-z][\w-]*", super().format_help()))
        if (found := _INVALID.search(message)) is None:
            return None
        word, choices = found[1], re.findall(r"[^\s',]+", found[2])
        if self.prog in OTHER:
            from supervisor.cli.other_supervisor import VERBS_INSTEAD

            other: Verbs = import_module(f"supervisor.cli.{OTHER[self.prog]}").VERBS
            if word in other:
                return f"{word} is a verb of the other command: `{OTHER[self.prog]} {word}`"
            if word in VERBS_INSTEAD:
                return VERBS_INSTEAD[word]
        return nearest(word, choices)


def parser_of(program: str, description: str, verbs: Verbs, only: str | None = None) -> Parser:
    """Return the parser of a command, with the verb `only` or with all verbs."""
    parser = Parser(prog=program, description=description)
    parser.add_argument("--version", action="version", version=f"{__product__} {__version__}")
    subparsers = parser.add_subparsers(dest="verb", metavar="VERB")
    for name in verbs if only is None else (only,):
        help_text, run, arguments = verbs[name]
        verb = subparsers.add_parser(name, help=help_text)
        verb.set_defaults(run=run)
        for add in arguments:
            add(verb)
    return parser


def argument(*names: str, **settings: Any) -> Arguments:
    return lambda parser: parser.add_argument(*names, **settings)


def run_verb(parser: argparse.ArgumentParser, argv: Sequence[str] | None, interrupted: str) -> int:
    """Parse `argv` and run its verb; return the exit code.

    A subparser sets `run`, a module of this room and its function: "watch.status". The function takes the home and the
    arguments and returns the exit code. `interrupted` says what goes on after Ctrl-C.
    """
    code: int | None = None
    try:
        try:
            code = _run(parser, argv, interrupted)
        finally:
            # A short output is written only here: where that fails at the interpreter's end, it says so in its own way.
            _flush()
    except OSError as error:
        _drop_output()
        if isinstance(error, BrokenPipeError):
            # The reader (`| head`) has what it wanted.
            return code or 0
        return _report(parser.prog, parser.prog, SystemRefused.because(error))
    return code


def _flush() -> None:
    """Write what is still in memory. Raises OSError."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()


def _drop_output() -> None:
    """Lead the streams that cannot be written into nothing, so that the interpreter's last flush succeeds."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            with contextlib.suppress(OSError):  # a test's stream, which has no descriptor
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _run(parser: argparse.ArgumentParser, argv: Sequence[str] | None, interrupted: str) -> int:
    """Parse and run as run_verb does. Raises BrokenPipeError."""
    typed = parser.prog
    try:
        _show_any_text()
        # The launcher had let it end the process at once, without a traceback.
        if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        arguments = parser.parse_args(argv)
        if arguments.verb is None:
            parser.print_help()
            return UsageError.exit_code
        typed = f"{typed} {arguments.verb}"
        module, _, verb = arguments.run.rpartition(".")
        return int(getattr(import_module(f"supervisor.cli.{module}"), verb)(find_home(), arguments))
    except SweepError as error:
        return _report(parser.prog, typed, error)
    except KeyboardInterrupt:
        with contextlib.suppress(BrokenPipeError):  # Ctrl-C ends the reader (`2>&1 | tee`), too
            print(f"\n{parser.prog}: interrupted; {interrupted}", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        raise
    except OSError as error:
        return _report(parser.prog, typed, SystemRefused.because(error))


def _show_any_text() -> None:
    """Show "?" on the output for a letter that its encoding lacks; a table is no reason for a traceback."""
    with contextlib.suppress(AttributeError):  # a test's stream, which takes any text
        sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]


def _report(program: str, typed: str, error: SweepError) -> int:
    """Print an error and the next command to type after `typed`; return its exit code."""
    from supervisor.cli.guide.next_steps import cure_of

    error.remedy = cure_of(error, typed)
    print(f"{program}: {error.render()}", file=sys.stderr)
    return error.exit_code

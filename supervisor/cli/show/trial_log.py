"""Runs the verb `log`, which prints the files of a trial's attempts. It needs no daemon.

Standard library at import.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from supervisor.cli.show.output_reader import check_reader
from supervisor.cli.watch import view_of
from supervisor.domain.lifecycle import AT_WORK
from supervisor.domain.scope import trial_scope
from supervisor.errors import NotFound
from supervisor.formatting import nearest
from supervisor.home import Home
from supervisor.processes.print_file import PrintReader, attempts_in, print_path

POLL_S = 0.3


def log(home: Home, arguments: argparse.Namespace) -> int:
    """Print the file of an attempt, with -f what is added. Raises NotFound for an unknown name and without a file."""
    view = view_of(home)
    experiment, number = arguments.trial
    name = experiment_named(view["experiments"], experiment, number)
    folder = home.run_folder(view["run"]["id"]) / name / str(number)
    attempt = _chosen(folder, trial_scope(name, number), arguments.attempt)
    reader = PrintReader(print_path(folder, attempt))
    text = reader.read()
    _print(text if arguments.lines is None else last_lines(text, arguments.lines))
    if arguments.follow:
        print("==> Press Ctrl-C to exit <==", file=sys.stderr)
        follow(folder, attempt, reader, _print, stays=arguments.attempt is not None, sleep=_sleep)
    return 0


def _sleep(seconds: float) -> None:
    check_reader(sys.stdout)
    time.sleep(seconds)


def experiment_named(experiments: list[dict[str, Any]], wanted: str | None, number: int) -> str:
    """Return the name of an experiment: `wanted`, else the one at work, else the last that was. Raises NotFound."""
    names = [str(one["name"]) for one in experiments]
    if wanted is not None:
        if wanted not in names:
            remedy = nearest(wanted, names) or f"there are {', '.join(names)}"
            raise NotFound(f"no experiment {wanted!r} in this run", remedy=remedy)
        return wanted
    begun = [one for one in experiments if one["started_wall"] is not None]
    if not begun:
        raise NotFound(
            f"no experiment has begun, so trial {number} has printed nothing", remedy=f"write EXPERIMENT/{number}"
        )
    return str(max(begun, key=lambda one: (one["state"] in AT_WORK, one["started_wall"]))["name"])


def _chosen(folder: Path, trial: str, wanted: int | None) -> int:
    """Return the attempt to print: `wanted`, else the last one. Raises NotFound where it has no file."""
    attempts = attempts_in(folder)
    if not attempts:
        raise NotFound(
            f"trial {trial} has printed nothing: no file of an attempt in {folder}",
            remedy="a trial that has not begun has none, one of another node has them there, and gc and rm delete them;"
            f" `supervisorctl tail --trial {trial}` shows its events",
        )
    if wanted is not None and wanted not in attempts:
        there = ", ".join(map(str, attempts))
        raise NotFound(f"attempt {wanted} of trial {trial} has printed nothing", remedy=f"there are {there}")
    chosen = attempts[-1] if wanted is None else wanted
    if len(attempts) > 1:
        print(f"==> attempt {chosen} of {', '.join(map(str, attempts))} <==", file=sys.stderr)
    return chosen


def last_lines(text: bytes, count: int) -> bytes:
    """Return the last `count` lines; one that is not complete counts."""
    return b"".join(text.splitlines(keepends=True)[-count:]) if count else b""


def follow(
    folder: Path,
    attempt: int,
    reader: PrintReader,
    show: Callable[[bytes], object],
    *,
    stays: bool,
    sleep: Callable[[float], None] = time.sleep,
    until: Callable[[], bool] = bool,
) -> None:
    """Show what is added until `until()`; go on with the next attempt's file unless it `stays` with this one.

    Raises NotFound when the files were deleted.
    """
    while not until():
        # Listed first: all that an attempt printed before the next one began is then shown before it.
        later = [] if stays else [one for one in attempts_in(folder) if one > attempt]
        try:
            text = reader.read()
        except FileNotFoundError as error:
            raise NotFound(f"{error.filename} was deleted") from error
        show(text)
        if later:
            attempt = later[0]
            reader = PrintReader(print_path(folder, attempt))
            print(f"==> attempt {attempt} <==", file=sys.stderr)
        elif not text:
            sleep(POLL_S)


def _print(text: bytes) -> None:
    sys.stdout.buffer.write(text)
    sys.stdout.flush()

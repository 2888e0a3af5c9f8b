"""Runs the verb `doctor`: every check in turn, each shown as soon as it is made.

A check must work with a broken home and without the daemon, and one that fails itself is a line, not the end.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from supervisor import __product__, __version__
from supervisor.cli.doctor import home_files, installation, live
from supervisor.cli.guide.progress import working
from supervisor.home import Home
from supervisor.home_lock import is_held
from supervisor.preflight import machine
from supervisor.preflight import start as start_checks
from supervisor.preflight.machine import Check, Level
from supervisor.processes.ray_head import usual_port

FORMAT = 1
"""The version of the form of `--json`."""
Step = tuple[str, Callable[[], Check | Iterable[Check]]]


def doctor(home: Home, arguments: argparse.Namespace) -> int:
    """Print the checks; return 1 if one of them found an error."""
    if arguments.bundle is not None:
        from supervisor.cli.doctor import bundle

        bundle.refuse_existing(arguments.bundle)
    checks: list[Check] = []
    for found in examined(steps(home)):
        checks.append(found)
        if not arguments.json:
            print(machine.render([found]), flush=True)
    print(json.dumps(as_json(home, checks), indent=1) if arguments.json else f"\n{verdict(checks)}")
    if arguments.bundle is not None:
        _write_bundle(home, checks, arguments.bundle)
    return int(machine.worst(checks) is Level.ERROR)


def steps(home: Home) -> Sequence[Step]:
    """Return the checks in their order, each with the words shown while it works."""
    return (
        ("versions", lambda: [installation.check_versions(), machine.check_python(), *machine.check_libraries()]),
        ("environment", lambda: [installation.check_environment(home), installation.check_encoding()]),
        ("commands", installation.check_commands),
        ("user", lambda: [machine.check_user(), installation.check_open_files()]),
        ("clock", lambda: machine.check_clock(_wall_s())),
        ("folders", lambda: [*home_files.check_folders(home), *home_files.check_files(home)]),
        ("disk", lambda: home_files.check_space(home)),
        ("memory", lambda: [machine.check_memory(machine.available_memory_bytes()),
                            *installation.check_shared_memory()]),
        ("socket", lambda: home_files.check_socket_path(home)),
        ("daemon", lambda: live.check_daemon(home)),
        ("store", lambda: home_files.check_store(home)),
        ("Ray's leftovers", lambda: live.check_leftovers(home)),
        ("ports", lambda: _port(home)),
        ("sensors", live.check_sensors),
        ("wake lock", start_checks.check_wake_lock),
    )  # fmt: skip


def _port(home: Home) -> Sequence[Check]:
    """Check the dashboard's port, unless the home's own Ray has it."""
    return [] if is_held(home) else [start_checks.check_port(usual_port(home))]


def _wall_s() -> float:
    from supervisor.clock import Clock

    return Clock().wall_s()


def examined(planned: Sequence[Step]) -> Iterator[Check]:
    """Yield what each step finds; an exception of a step becomes a finding."""
    for name, look in planned:
        try:
            with working(f"looking at {name}", quick=True):
                found = look()
                made = [found] if isinstance(found, Check) else list(found)
        except Exception as error:  # noqa: BLE001 - of any kind: the other checks may say why
            cure = "`supervisorctl doctor --bundle FILE`, and report it with that file"
            made = [Check(name, Level.ERROR, f"this check failed: {type(error).__name__}: {error}", cure)]
        yield from made


def verdict(checks: Sequence[Check]) -> str:
    """Say in one line which checks have found errors or warnings."""
    errors, warnings = (
        list(dict.fromkeys(check.name for check in checks if check.level is level))
        for level in (Level.ERROR, Level.WARNING)
    )
    look = f"worth a look: {', '.join(warnings)}" if warnings else ""
    if errors:
        return f"WRONG: {', '.join(errors)}{f'; {look}' if look else ''}"
    return f"nothing is wrong{f'; {look}' if look else ''}"


def as_json(home: Home, checks: Sequence[Check]) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "product": __product__,
        "version": __version__,
        "home": str(home.root),
        "level": machine.worst(checks).value,
        "verdict": verdict(checks),
        "checks": [asdict(check) for check in checks],
    }


def _write_bundle(home: Home, checks: Sequence[Check], file: Path) -> None:
    from supervisor.cli.doctor import bundle

    with working("writing the bundle"):
        written = bundle.write(home, as_json(home, checks), file)
    print(f"{file}: {written.files} files, {written.text()}; look at it before you send it: `tar tzf {file}`",
          file=sys.stderr)  # fmt: skip

"""Where the console scripts begin: makes sure that `supervisor` is this project's before anything of it runs.

Another package on PyPI has the same import name and the same commands. pip lets the two overwrite each other without
a word, and `supervisorctl stop all` sent to the wrong one stops somebody's services. Standard library only, and no
importlib.metadata either: that costs 25 ms to import and 100 ms to scan an environment; two directory listings do.
"""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path

_PRODUCT = "sweep-supervisor"
_NOT_OURS = 5
"""LSB 5.0: "program is not installed"; what is installed is another one."""
_USAGE = 2
_METADATA = (".dist-info", ".egg-info")


def supervisord(argv: list[str] | None = None) -> int:
    """The daemon's command; `argv` without the program's name. Returns the exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    code = _refuse("supervisord", arguments)
    if code is not None:
        return code
    from supervisor.cli.supervisord import main

    return main(arguments)


def supervisorctl(argv: list[str] | None = None) -> int:
    """The control command; `argv` without the program's name. Returns the exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    code = _refuse("supervisorctl", arguments)
    if code is not None:
        return code
    from supervisor.cli.supervisorctl import main

    return main(arguments)


def _refuse(program: str, argv: list[str]) -> int | None:
    """The exit code to end with at once, its reason printed on stderr; None to go on."""
    trouble = find_intruder(Path(__file__).resolve().parent, sys.path)
    if trouble is not None:
        print(f"{program}: {trouble}", file=sys.stderr)
        return _NOT_OURS
    from supervisor.cli.other_supervisor import explain_foreign_flags

    explanation = explain_foreign_flags(program, argv)
    if explanation is not None:
        print(explanation, file=sys.stderr)
        return _USAGE
    return None


def find_intruder(home: Path, search_path: list[str]) -> str | None:
    """Why the import name `supervisor` is not safely ours, with both paths and the cures; None when it is.

    `home` is the folder that this module lies in. Beside it lies our package, in a checkout as in site-packages.
    """
    ours = home / "supervisor" / "__init__.py"
    spec = find_spec("supervisor")
    found = spec.origin if spec is not None else None
    if found is None:
        return _explain("the package `supervisor` is damaged: its __init__.py is gone", ours, "nothing there")
    if Path(found).resolve() != ours:
        return _explain("another package named `supervisor` comes first", ours, found)
    import supervisor

    if getattr(supervisor, "__product__", None) != _PRODUCT:
        return _explain("another package has overwritten `supervisor`", ours, found)
    neighbour = _neighbour(search_path)
    if neighbour is not None:
        return _explain("Supervisor (PyPI `supervisor`) is in the same environment", ours, neighbour)
    return None


def _neighbour(search_path: list[str]) -> str | None:
    """The metadata of a distribution `supervisor` in the folder where pip has put ours.

    Only there do the two write over each other: one in the system's Python, ours in a virtual environment is fine.
    """
    for folder in search_path:
        try:
            names = os.listdir(folder or os.curdir)  # noqa: PTH208 (names are all we want, and this is the cold path)
        except OSError:
            # A zip file, or a folder that is not there: pip installs into neither.
            continue
        metadata = [name for name in names if name.endswith(_METADATA)]
        if any(name.startswith("sweep_supervisor-") for name in metadata):
            others = [name for name in metadata if name.startswith("supervisor-")]
            if others:
                return os.path.join(folder, others[0])  # noqa: PTH118 (as above)
    return None


def _explain(fact: str, ours: Path, theirs: str) -> str:
    return (
        f"{fact}\n"
        f"  expected (sweep-supervisor): {ours}\n"
        f"  found:                       {theirs}\n"
        "  cure: give sweep-supervisor a virtual environment of its own: `make install` in its checkout makes one,\n"
        "        and there PYTHONPATH must not name another `supervisor`\n"
        "  cure: where both are on PATH, each in its own environment, call this one by its other names, "
        "`sweepd` and `sweepctl`"
    )

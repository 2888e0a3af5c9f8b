"""Starts the console scripts, after a check that the package `supervisor` is this project's.

Another package on PyPI has the same import name and the same commands. pip lets the two overwrite each other silently,
and `supervisorctl stop all` sent to the wrong one stops a user's services. Standard library only, without
importlib.metadata: that takes 25 ms to import and 100 ms to scan an environment; two directory listings are enough.
"""

from __future__ import annotations

import os
import signal
import sys

TYPE_CHECKING = False  # typing's own would have to be imported
if TYPE_CHECKING:
    from pathlib import Path

_PRODUCT = "sweep-supervisor"
_NOT_OURS = 5
"""LSB 5.0: "program is not installed"; another one is."""
_USAGE = 2
_METADATA = (".dist-info", ".egg-info")


def supervisord(argv: list[str] | None = None) -> int:
    """Run the daemon's command; return its exit code. `argv` is without the program's name."""
    arguments = sys.argv[1:] if argv is None else argv
    code = _refuse("supervisord", arguments)
    if code is not None:
        return code
    from supervisor.cli.supervisord import main

    return main(arguments)


def supervisorctl(argv: list[str] | None = None) -> int:
    """Run the control command; return its exit code. `argv` is without the program's name."""
    arguments = sys.argv[1:] if argv is None else argv
    code = _refuse("supervisorctl", arguments)
    if code is not None:
        return code
    from supervisor.cli.supervisorctl import main

    return main(arguments)


def _refuse(program: str, argv: list[str]) -> int | None:
    """Return an exit code and print its reason on stderr; None when the command may run.

    From here to the verb (cli.dispatch) Ctrl-C ends the process at once: nothing has begun, and a traceback of imports
    would say nothing.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from pathlib import Path

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
    """Return why the package `supervisor` may not be ours, with paths and cures; else None.

    `home` is this module's folder. Our package is beside it, in a checkout as in site-packages.
    """
    from importlib.util import find_spec
    from pathlib import Path

    ours = home / "supervisor" / "__init__.py"
    spec = find_spec("supervisor")
    found = spec.origin if spec is not None else None
    if found is None:
        return _explain("the package `supervisor` is damaged: its __init__.py is missing", ours, "no file")
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
    """Return the metadata of a distribution `supervisor` in the folder where pip has put ours; else None.

    Only there the two overwrite each other: one in the system's Python, ours in a virtual environment, is no problem.
    """
    for folder in search_path:
        try:
            names = os.listdir(folder or os.curdir)  # noqa: PTH208 (only names, and this runs before every command)
        except OSError:
            # A zip file, or a missing folder: pip installs into neither.
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

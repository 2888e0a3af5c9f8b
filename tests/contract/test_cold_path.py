"""Check that a cold `status` loads no slow module."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.waits import NET_S

CHECKOUT = Path(__file__).resolve().parents[2]

HEAVY = {
    "ray",
    "torch",
    "numpy",
    "pandas",
    "pyarrow",
    "optuna",
    "structlog",
    "pydantic",
    "aiohttp",
    "ruamel.yaml",
    "psutil",
}
"""Modules that `supervisorctl status` must not load: each costs more than the whole command may."""


def loaded_by(code: str, home: Path) -> tuple[object, set[str]]:
    """Return the `result` of `code`, and the modules that a fresh interpreter has loaded."""
    report = "import json, sys; sys.stderr.write('\\n' + json.dumps([result, sorted(sys.modules)]))"
    run = subprocess.run(
        [sys.executable, "-c", f"{code}\n{report}"],
        env={"PATH": os.environ["PATH"], "HOME": str(home), "SWEEP_HOME": str(home), "PYTHONPATH": str(CHECKOUT)},
        cwd=home, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=NET_S, check=True,
    )  # fmt: skip
    result, modules = json.loads(run.stderr.splitlines()[-1])
    return result, set(modules)


def test_a_status_loads_no_slow_part_of_the_standard_library(tmp_path: Path) -> None:
    """Each takes milliseconds to import, and the whole command may take a few dozen."""
    cold = "import supervisor.cli.supervisorctl, supervisor.cli.watch, supervisor.cli.status_text\nresult = None"
    _, modules = loaded_by(cold, tmp_path)
    slow = {"asyncio", "dataclasses", "email", "hashlib", "http.client", "inspect", "shutil", "sqlite3", "subprocess"}
    assert modules & slow == set()


def test_a_cold_status_loads_nothing_heavy(tmp_path: Path) -> None:
    """It asks a daemon that is not there: code 4, "unknown" in LSB, shows that it went all the way to the socket."""
    code, modules = loaded_by("import _sweep_launcher\nresult = _sweep_launcher.supervisorctl(['status'])", tmp_path)
    assert code == 4
    assert modules & HEAVY == set()
    assert modules & {"shutil", "bz2", "lzma"} == set(), "argparse asks shutil for the width of a help"


COLD = (
    "supervisor",
    "supervisor.errors",
    "supervisor.domain.command",
    "supervisor.domain.lifecycle",
    "supervisor.domain.messages",
    "supervisor.sensors.reading",
    "supervisor.cli.other_supervisor",
    "supervisor.cli.supervisorctl",
    "supervisor.control.client",
    "supervisor.cli.watch",
    "supervisor.cli.status_text",
)


def test_the_modules_of_the_cold_path_load_nothing_heavy(tmp_path: Path) -> None:
    _, modules = loaded_by(f"import {', '.join(COLD)}\nresult = None", tmp_path)
    assert set(COLD) <= modules
    assert modules & HEAVY == set()


def test_heavy_modules_would_be_seen(tmp_path: Path) -> None:
    seen = HEAVY - {"torch", "ray", "optuna", "pyarrow", "pandas"}
    _, modules = loaded_by(f"import {', '.join(sorted(seen))}\nresult = None", tmp_path)
    assert modules & HEAVY >= seen

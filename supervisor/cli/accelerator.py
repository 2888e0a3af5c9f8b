"""Runs `check --accelerator`: the checks of this machine's GPU as one table to send. Standard library at import."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

from supervisor.cli.guide.progress import working
from supervisor.formatting import table
from supervisor.processes.environment import passed_environment

WITHIN_S = 120.0
COMMAND = (sys.executable, "-P", "-m", "training.devices.check")


def check_accelerator(
    arguments: argparse.Namespace, command: Sequence[str] = COMMAND, within_s: float = WITHIN_S
) -> int:
    """Print the table, or JSON; return 1 if a check failed or the process did not end well."""
    with working(f"checking the accelerator, at most {within_s:.0f} s"):
        rows = _rows(command, within_s)
    if arguments.json:
        print(json.dumps(rows, indent=1))
    else:
        words = {True: "ok", False: "BAD", None: "-"}
        print("\n".join(table([("", "check", "result"), *((words[r["ok"]], r["check"], r["result"]) for r in rows)])))
        if len(rows) > 3:
            print("\nplease send this table with your report; it names the machine's kind and no files")
    return int(any(row["ok"] is False for row in rows))


def _rows(command: Sequence[str], within_s: float) -> list[dict[str, Any]]:
    """Return the rows of the checks; a broken driver can hang or kill their process, which is then the last row."""
    with tempfile.TemporaryDirectory(prefix="sweep-accelerator-") as folder:
        process = subprocess.Popen(
            [*command, folder], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=passed_environment(),
        )  # fmt: skip
        end = None
        try:
            said, errors = process.communicate(timeout=within_s)
        except subprocess.TimeoutExpired:
            end = f"did not end within {within_s:.0f} s"
            process.kill()
            said, errors = process.communicate()
        except BaseException:
            process.kill()
            process.wait()
            raise
    rows = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    if end is None and process.returncode != 0:
        end = f"ended with {process.returncode}: {(errors.strip().splitlines() or ['no message'])[-1][:300]}"
    return rows if end is None else [*rows, {"check": "the check itself", "result": end, "ok": False}]

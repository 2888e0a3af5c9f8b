"""Checks that a plan's own trainable can be imported and has the right form, in a child process as a trial's."""

from __future__ import annotations

import json
import subprocess
import sys

from supervisor.home import Home
from supervisor.plan.loader import LoadedPlan
from supervisor.preflight.machine import Check, Level, ok
from supervisor.processes.environment import OWNER, ray_environment

IMPORT_WITHIN_S = 120.0
LAST_WORDS = 300


def check_trainable(home: Home, loaded: LoadedPlan) -> Check:
    """Import the trainable in a child process; it may run any code, and end its process."""
    name = loaded.plan.trainable
    if ":" not in name:
        return ok("trainable", f"{name} is built in")
    command = [sys.executable, "-P", "-m", "actors.trial.user_code", name]
    environment = ray_environment(home, "", loaded.folder, loaded.plan.pass_environment)
    # The child belongs to this command. With the home's key, a daemon that stops meanwhile would end it as an orphan.
    del environment[OWNER]
    try:
        child = subprocess.run(
            command, capture_output=True, env=environment, cwd=home.root, timeout=IMPORT_WITHIN_S, check=False
        )
    except subprocess.TimeoutExpired:
        detail = f"{name} was not imported within {IMPORT_WITHIN_S:.0f} s"
        return Check("trainable", Level.WARNING, detail, "move long work from the module into the trainable itself")
    try:
        found = json.loads(child.stdout)
    except ValueError:
        words = child.stderr.decode(errors="replace").strip()[-LAST_WORDS:]
        detail = f"the import of {name} ended its process with status {child.returncode}: {words}"
        return Check("trainable", Level.ERROR, detail, "import it by hand, in this environment")
    if found["error"] is None:
        return ok("trainable", f"{name} can be imported")
    return Check("trainable", Level.ERROR, found["error"], found["remedy"])

"""Writes the last failed trial of an experiment for `status`. Pure; standard library only."""

from __future__ import annotations

from typing import Any

from supervisor.formatting import error_sentence, shortened

MAX_LINES, MAX_CHARACTERS = 3, 120
PRINTED = "  | "
"""Stands before a line that a trial printed."""


def failure_lines(experiment: dict[str, Any]) -> list[str]:
    """Return its error, its last prints and the command that shows all of them; nothing without a failure."""
    failure = experiment.get("last_failure")
    if failure is None:
        return []
    trial = f"{experiment['name']}/{failure['trial']}"
    lines = [f"trial {failure['trial']} failed ({failure['end_reason']}): {error_sentence(failure['error'] or '')}"]
    if failure["printed"]:
        lines.append(f"the last that it printed (`supervisorctl log {trial}` has all):")
        lines += [
            f"{PRINTED}{shortened(line, MAX_CHARACTERS)}" for line in failure["printed"].splitlines()[-MAX_LINES:]
        ]
    return lines

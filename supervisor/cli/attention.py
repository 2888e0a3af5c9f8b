"""Lists what needs a person in a run, each with its cure, and colours it. Pure; standard library only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from supervisor.domain.command_text import command_line, in_force, short_of
from supervisor.domain.lifecycle import MAY_BE_RETRIED, ProcessState
from supervisor.domain.run_words import way_on
from supervisor.domain.scope import ALL_NODES, trial_of
from supervisor.formatting import error_sentence, one_line

URGENT = "1;31"
"""Bold and red, as in ECMA-48 (SGR)."""


def painted(text: str, code: str, colour: bool) -> str:
    """Return `text` in the colour of a terminal's `code`; as it is without `colour`."""
    return f"\x1b[{code}m{text}\x1b[0m" if colour else text


def needs_person(command: dict[str, Any]) -> bool:
    """Return whether a command holds until a person lifts it: an operator's own, and a STOP of the governor."""
    return bool(command["origin"] == "operator" or command["action"] == "STOP")


def calls(view: dict[str, Any]) -> list[str]:
    """Return a line for each thing that needs a person, the most urgent first; `view` is a run's status."""
    run = view["run"]
    lines = [f"ITS DAEMON DIED: {way_on(run)}"] if view.get("daemon_died") else []
    lines += short_of(view)
    lines += [
        f"{command_line(command, view)}; `{_resume(command)}` lifts it"
        for command in in_force(view) if needs_person(command)
    ]  # fmt: skip
    return [*lines, *_failures(view["experiments"], live=bool(view.get("daemon")))]


def _resume(command: dict[str, Any]) -> str:
    if command["origin"] != "operator":
        return "supervisorctl resume --force"
    scope = command.get("scope", ALL_NODES)
    if scope == ALL_NODES:
        return "supervisorctl resume"
    return f"supervisorctl resume {scope}" if trial_of(scope) else f"supervisorctl resume --node {scope[:12]}"


def _failures(experiments: Iterable[dict[str, Any]], *, live: bool) -> list[str]:
    again = "`supervisorctl retry` tries again" if live else "`supervisord start --retry` tries again"
    lines, failed = [], Counter[str]()
    for experiment in experiments:
        if experiment["state"] == ProcessState.FATAL:
            lines.append(f"{experiment['name']} failed: {error_sentence(str(experiment['reason'] or ''))}; {again}")
        if experiment["missing"] is not None:
            lines.append(f"{experiment['name']} has no answer: {one_line(experiment['missing'])}; {again}")
        failed.update({why: count for why, count in experiment["counts"].items() if why in MAY_BE_RETRIED})
    if failed:
        reasons = ", ".join(f"{count} {why}" for why, count in sorted(failed.items()))
        lines.append(f"failed trials: {reasons}; {again}")
    return lines

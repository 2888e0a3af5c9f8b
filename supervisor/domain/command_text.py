"""Words what holds a run back and what needs a person, from the JSON of its view. Pure; standard library only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from supervisor.domain.lifecycle import MAY_BE_RETRIED, ProcessState
from supervisor.domain.run_words import way_on
from supervisor.domain.scope import ALL_NODES, trial_of
from supervisor.formatting import duration, error_sentence, human, one_line


def scope(text: str) -> str:
    """Return the scope of a command as words to put behind a verb; nothing for a command on all nodes."""
    if text == ALL_NODES:
        return ""
    trial = trial_of(text)
    return f" on node {text[:12]}" if trial is None else f" trial {trial[1]} of {trial[0]}"


def pauses(view: dict[str, Any]) -> list[str]:
    """Return a line for each cause that holds work back: what is held, by whom, why and for how long."""
    return [*short_of(view), *(command_line(command, view) for command in in_force(view))]


def short_of(view: dict[str, Any]) -> list[str]:
    """Return a line for each thing that the run lacks: disk, the store, a resource of the machine."""
    lines = full_disk(view.get("disk"))
    if view.get("store_locked"):
        lines.append("DEGRADED: another program has locked the store; results are kept back until it is free")
    if view.get("shortage"):
        lines.append(f"WAITING: {view['shortage']}")
    return lines


def in_force(view: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the commands of all origins that hold work back, the operator's first."""
    commands = [*view["commands"], *view.get("held", []), *(node["command"] for node in view.get("nodes", {}).values())]
    now = (view.get("daemon") or {}).get("now_wall")
    return [command for command in commands if command["action"] != "RUN" and _counts(command, now)]


def eta_assumes(view: Mapping[str, Any]) -> str:
    """Return what an ETA assumes while a person pauses the run, to put behind it: that it is resumed now."""
    held = any(
        command["origin"] == "operator" and command["action"] != "RUN" and command.get("scope", ALL_NODES) == ALL_NODES
        for command in view["commands"]
    )
    return " if resumed now" if held and view.get("eta") is not None else ""


def freed_by_schedule(view: dict[str, Any]) -> str | None:
    """Return a line for a schedule that lets work go on: until when, and whether a person overrules it."""
    now = (view.get("daemon") or {}).get("now_wall")
    for command in view["commands"]:
        if command["origin"] == "schedule" and command["action"] == "RUN" and _counts(command, now):
            return f"at work {one_line(command['reason'])}"
    return None


def _counts(command: dict[str, Any], now_wall: float | None) -> bool:
    """Return whether a command counts now: without a daemon, or past its end, the schedule's says nothing."""
    if command["origin"] != "schedule":
        return True
    until = command.get("until_wall")
    return now_wall is not None and (until is None or now_wall < until)


def command_line(command: dict[str, Any], view: dict[str, Any]) -> str:
    """Return what a command holds, by whom, why and for how long."""
    now_wall = (view.get("daemon") or {}).get("now_wall")
    where = command.get("scope", ALL_NODES)
    since = ""
    if now_wall is not None and command["since_wall"] is not None:
        since = f", for {duration(now_wall - command['since_wall'])}"
    drill = " [drill]" if command["drill"] else ""
    if command["origin"] == "schedule":
        return f"{_state(command, where)} {one_line(command['reason'])}{since}"
    who = command["who"] or command["origin"]
    return f"{_state(command, where)}{scope(where)} by {who}: {one_line(command['reason'])}{since}{drill}"


def _state(command: dict[str, Any], where: str) -> str:
    if command["origin"] != "governor" and command["action"] == "HOLD":
        alone = trial_of(where) is not None
        return "PAUSED (at its next report)" if alone else "PAUSED (running trials finish)"
    return "PAUSED" if command["action"] in ("PAUSE", "STOP") else str(command["action"])


def full_disk(disk: dict[str, Any] | None) -> list[str]:
    """Return a line for the daemon's own pause while its disk is full."""
    if disk is None or not disk["full"]:
        return []
    free = "an unknown number of bytes" if disk["free_bytes"] is None else human(disk["free_bytes"])
    enough = human(disk["enough_bytes"])
    return [f"PAUSED: the disk is full, {free} free at {disk['folder']}; resumes by itself once {enough} are free"]


# What needs a person


def calls(view: dict[str, Any], *, timed: bool = True) -> list[str]:
    """Return a line for each thing that needs a person, each with its cure, the most urgent first.

    `view` is a run's status. Without `timed` no line says for how long, so that it stays the same at each look.
    """
    lines = [f"ITS DAEMON DIED: {way_on(view['run'])}"] if view.get("daemon_died") else []
    lines += short_of(view)
    shown = view if timed else {**view, "daemon": None}
    lines += [
        f"{command_line(command, shown)}; `{_resume(command)}` lifts it"
        for command in in_force(view) if needs_person(command)
    ]  # fmt: skip
    return [*lines, *_failures(view["experiments"], live=bool(view.get("daemon")))]


def needs_person(command: dict[str, Any]) -> bool:
    """Return whether a command holds until a person lifts it: an operator's own, and a STOP of the governor."""
    return bool(command["origin"] == "operator" or command["action"] == "STOP")


def _resume(command: dict[str, Any]) -> str:
    if command["origin"] != "operator":
        return "supervisorctl resume --force"
    where = command.get("scope", ALL_NODES)
    if where == ALL_NODES:
        return "supervisorctl resume"
    return f"supervisorctl resume {where}" if trial_of(where) else f"supervisorctl resume --node {where[:12]}"


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

"""A status snapshot as text. Pure; standard library only.

The lines of experiments keep Supervisor's shape, so that what reads those reads these: a name, one upper-case state,
then words.
"""

from __future__ import annotations

from typing import Any

from supervisor.domain.command import ALL_NODES, Command
from supervisor.domain.lifecycle import ENDED, ProcessState
from supervisor.domain.time_accounting import by_cause
from supervisor.formatting import human

MAX_REASON_SIGNS = 300
MAX_CAUSES = 6
"""Of lost time, the largest; a person's reasons are as many as the pauses."""


def duration(seconds: float | None) -> str:
    """ "2 h 05 min", "41 s", or "?" for None."""
    if seconds is None:
        return "?"
    whole = round(max(0.0, seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 48 * 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def hardware(nodes: dict[str, Any]) -> str:
    """The hottest temperature of all nodes, or why there is none."""
    if not nodes:
        return "hardware not sampled yet"
    readings = [reading for node in nodes.values() for reading in node["readings"]]
    hottest = max((r["value"] for r in readings if r["kind"] == "temperature" and r["value"] is not None), default=None)
    if hottest is not None:
        return f"{hottest:.0f} C"
    if any(node["protected"] for node in nodes.values()):
        return "temperature lost"
    return "UNPROTECTED (no temperature sensor)"


def pauses(view: dict[str, Any]) -> list[str]:
    """Who holds what, why and since when; nothing when all runs."""
    lines = full_disk(view.get("disk"))
    if view.get("store_locked"):
        lines.append("DEGRADED: another program holds the store; what trials report waits until it lets go")
    commands = [*view["commands"], *view.get("held", []), *(node["command"] for node in view.get("nodes", {}).values())]
    for command in commands:
        if command["action"] == "RUN":
            continue
        who = command["who"] or command["origin"]
        what = "PAUSED" if command["action"] in ("PAUSE", "STOP") else command["action"]
        if command["origin"] == "operator" and command["action"] == "HOLD":
            alone = Command.scope_of_trial(command.get("scope", ALL_NODES)) is not None
            what = "PAUSED (at its next report)" if alone else "PAUSED (running trials finish)"
        since = ""
        now = view.get("daemon", {}).get("now_wall")
        if now is not None and command["since_wall"] is not None:
            since = f", for {duration(now - command['since_wall'])}"
        drill = " [drill]" if command["drill"] else ""
        where = scope(command.get("scope", ALL_NODES))
        lines.append(f"{what}{where} by {who}: {one_line(command['reason'])}{since}{drill}")
    return lines


def full_disk(disk: dict[str, Any] | None) -> list[str]:
    """The daemon's own pause while there is no room for what it must write."""
    if disk is None or not disk["full"]:
        return []
    free = "an unknown space" if disk["free_bytes"] is None else human(disk["free_bytes"])
    enough = human(disk["enough_bytes"])
    return [f"PAUSED: the disk is full, {free} free at {disk['folder']}; goes on by itself once there are {enough}"]


def plan_file(view: dict[str, Any] | None) -> str | None:
    """That the plan's file is not what the run was begun with, which nothing else would show."""
    if view is None or not view["changed"]:
        return None
    then, now = (str(view[key])[:12] for key in ("sha256", "sha256_now"))
    return f"{view['path']} has changed since (sha256 {then}, now {now}); the run keeps its own copy"


def scope(text: str) -> str:
    """Where a command holds, as words to put behind a verb; nothing when it holds everywhere."""
    if text == ALL_NODES:
        return ""
    trial = Command.scope_of_trial(text)
    return f" on node {text[:12]}" if trial is None else f" trial {trial[1]} of {trial[0]}"


def one_line(text: str) -> str:
    """An error's text can be a traceback; whoever reads the table line by line must not trip over it."""
    flat = " ".join(text.split())
    return flat if len(flat) <= MAX_REASON_SIGNS else flat[: MAX_REASON_SIGNS - 1] + "…"


def experiment_line(experiment: dict[str, Any], width: int) -> str:
    return f"{experiment['name']:<{width}}  {experiment['state']:<9} {_words(experiment)}"


def _words(experiment: dict[str, Any]) -> str:
    state = ProcessState(experiment["state"])
    if state in (ProcessState.SKIPPED, ProcessState.FATAL, ProcessState.BACKOFF):
        return one_line(str(experiment["reason"] or ""))
    if state is ProcessState.STOPPED and experiment["started_wall"] is None:
        return "not started"
    words = [f"{experiment['ended']}/{experiment['max_trials']} trials"]
    words += [_running(trial) for trial in experiment["running"]]
    if experiment["best"] is not None:
        words.append(f"best {number(experiment['best']['value'])} (trial {experiment['best']['trial']})")
    if state in (ProcessState.RUNNING, ProcessState.PAUSED):
        words.append(f"ETA {duration(_left_s(experiment, experiment['mean_trial_s']))}")
    if state is ProcessState.EXITED and experiment["started_wall"] is not None:
        words.append(f"took {duration(experiment['ended_wall'] - experiment['started_wall'])}")
    return ", ".join(words)


def _running(trial: dict[str, Any]) -> str:
    held = f" paused: {one_line(str(trial['held_for']))}" if trial["state"] == "PAUSED" else ""
    return f"trial {trial['number']} epoch {trial['epoch']}{held}"


def status(view: dict[str, Any]) -> str:
    """What `supervisorctl status` prints."""
    run, daemon = view["run"], view.get("daemon")
    width = max([20, len(run["id"]), *(len(e["name"]) for e in view["experiments"])])
    head = f"{run['id']:<{width}}  {run['state']:<9} plan {run['plan']}"
    if daemon:
        head += f", pid {daemon['pid']}, up {duration(daemon['now_wall'] - daemon['started_wall'])}"
        head += f", {hardware(view['nodes'])}"
    lines = [head, *(f"{'':<{width}}  {line}" for line in pauses(view))]
    lines += [experiment_line(experiment, width) for experiment in view["experiments"]]
    if lost := by_cause(view.get("lost", [])):
        shown = [f"{cause} {duration(seconds)}" for cause, seconds in list(lost.items())[:MAX_CAUSES]]
        if others := list(lost.values())[MAX_CAUSES:]:
            shown.append(f"{len(others)} other causes {duration(sum(others))}")
        lines.append(f"{'':<{width}}  lost, over all trials: {', '.join(shown)}")
    if changed := plan_file(view.get("plan_file")):
        lines.append(f"{'':<{width}}  {changed}")
    if daemon:
        lines.append(f"{'':<{width}}  dashboard {daemon['dashboard'] or '-'}, log {daemon['log']}")
    return "\n".join(lines)


def progress(view: dict[str, Any]) -> str:
    """One line: where the run is. What `supervisorctl wait` shows."""
    experiments = view["experiments"]
    done = sum(ProcessState(e["state"]) in ENDED for e in experiments)
    now = next((e for e in experiments if e["state"] in ("STARTING", "RUNNING", "PAUSED", "BACKOFF", "STOPPING")), None)
    if done == len(experiments):
        return f"all {done} experiments have ended; the report is being written"
    parts = [f"experiment {done + 1}/{len(experiments)}"]
    if now is not None:
        parts.append(f"{now['name']} {now['state']}")
        parts.append(f"trial {now['ended'] + len(now['running'])}/{now['max_trials']}")
        parts.append(f"best {number(now['best']['value'] if now['best'] else None)}")
    parts.append(hardware(view.get("nodes", {})))
    held = pauses(view)
    if held:
        parts.append(held[0])
    parts.append(f"ETA {duration(eta_s(view))}")
    return " | ".join(parts)


def _left_s(experiment: dict[str, Any], mean_trial_s: float | None) -> float | None:
    """Seconds of an experiment's trials that are left, at `mean_trial_s` each; None without a basis."""
    if ProcessState(experiment["state"]) in ENDED:
        return 0.0
    if mean_trial_s is None:
        return None
    left = experiment["max_trials"] - experiment["ended"]
    return float(mean_trial_s * left / experiment["spec"]["concurrency"])


def eta_s(view: dict[str, Any]) -> float | None:
    """Seconds to the end of the run by what its trials took so far; None while nothing is known.

    An experiment that has not begun is taken to be like the last one with a figure; a larger one takes longer, and
    then this is too short.
    """
    total, mean_s = 0.0, None
    for experiment in view["experiments"]:
        mean_s = experiment["mean_trial_s"] or mean_s
        left_s = _left_s(experiment, mean_s)
        if left_s is None:
            return None
        total += left_s
    return total

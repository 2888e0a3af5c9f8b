"""Writes a status snapshot and a run's results as text. Pure; standard library only.

The lines of experiments keep Supervisor's shape, so that a program that reads those reads these: a name, one upper-case
state, then words.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from supervisor.cli.failure_text import failure_lines
from supervisor.domain.answer import counts
from supervisor.domain.command_text import pauses
from supervisor.domain.lifecycle import ENDED, FAILED, FINISH, HOURS, ProcessState
from supervisor.domain.run_words import way_on
from supervisor.domain.time_accounting import by_cause
from supervisor.formatting import duration, error_sentence, number, one_line, short_value, shortened, table

MAX_CAUSES = 6
"""The number of causes of lost time that are shown, the largest first; an operator can give any number of reasons."""
MIN_NAME_WIDTH = 20
HEADINGS = ("experiment", "state", "trials", "best", "final", "best params", "duration")
FINAL = HEADINGS.index("final")
MAX_PARAMS_CHARACTERS = 60


def hardware(nodes: dict[str, Any]) -> str:
    """Return the hottest temperature of all nodes, or why there is none."""
    if not nodes:
        return "hardware not sampled yet"
    readings = [reading for node in nodes.values() for reading in node["readings"]]
    hottest = max((r["value"] for r in readings if r["kind"] == "temperature" and r["value"] is not None), default=None)
    if hottest is not None:
        return f"{hottest:.0f} C"
    if any(node["protected"] for node in nodes.values()):
        return "temperature lost"
    return "UNPROTECTED (no temperature sensor)"


def plan_file(view: dict[str, Any] | None) -> str | None:
    """Return a line when the plan's file differs from the run's frozen copy."""
    if view is None or not view["changed"]:
        return None
    then, now = (str(view[key])[:12] for key in ("sha256", "sha256_now"))
    return f"{view['path']} has changed since (sha256 {then}, now {now}); the run keeps its own copy"


def experiment_line(experiment: dict[str, Any], width: int, now_wall: float | None = None) -> str:
    return f"{experiment['name']:<{width}}  {experiment['state']:<9} {_words(experiment, now_wall)}"


def _words(experiment: dict[str, Any], now_wall: float | None) -> str:
    state = ProcessState(experiment["state"])
    if state in (ProcessState.SKIPPED, ProcessState.FATAL, ProcessState.BACKOFF):
        return error_sentence(str(experiment["reason"] or ""))
    if experiment["action"] == "STOP":
        return f"STOP by the {experiment['origin']}: {one_line(str(experiment['reason']))}"
    if state is ProcessState.STOPPED and experiment["started_wall"] is None:
        return "not started"
    words = [f"{experiment['ended']}/{experiment['max_trials']} trials", *_failed_words(experiment)]
    words += _search_end(experiment["spec"])
    words += _chosen(experiment["spec"])
    words += [_running(trial) for trial in experiment["running"]]
    if experiment["best"] is not None:
        words.append(f"best {number(experiment['best']['value'])} (trial {experiment['best']['trial']})")
    if experiment.get("left_s") is not None:
        words.append(f"{duration(experiment['left_s'])} of {duration(_hours_s(experiment))} left")
    if state in (ProcessState.RUNNING, ProcessState.PAUSED):
        words.append(f"ETA {duration(_left_s(experiment, _trial_s(experiment), now_wall))}")
    if experiment["missing"] is not None:
        words.append(f"NO ANSWER: {one_line(experiment['missing'])}")
    words += looks(experiment)
    if state is ProcessState.EXITED and experiment["started_wall"] is not None:
        words.append(f"took {duration(experiment['ended_wall'] - experiment['started_wall'])}")
    return ", ".join(words)


def _search_end(spec: Mapping[str, Any]) -> list[str]:
    """Return that the search ended early, and why: its hours, or a person."""
    if spec.get("searched") is None:
        return ["finishes"] if spec.get("finish_asked") else []
    return [f"search ended ({spec['search_end']})"] if spec["search_end"] in (HOURS, FINISH) else []


def _hours_s(experiment: dict[str, Any]) -> float | None:
    hours = experiment["spec"].get("max_hours")
    return None if hours is None else float(hours) * 3600.0


def _chosen(spec: Mapping[str, Any]) -> list[str]:
    """Return the concurrency and the cores of a trial where the machine chose them."""
    return [f"auto {spec['concurrency']} x {spec['resources']['cpu']:g} cores"] if spec.get("chosen") else []


def failures(counts: Mapping[str, int]) -> dict[str, int]:
    """Return how many trials failed, by end reason."""
    return {reason: count for reason, count in sorted(counts.items()) if reason in FAILED}


def _failed_words(experiment: dict[str, Any]) -> list[str]:
    found = failures(experiment["counts"])
    reasons = ", ".join(reason if len(found) == 1 else f"{count} {reason}" for reason, count in found.items())
    return [f"{sum(found.values())} failed ({reasons})"] if found else []


def looks(experiment: dict[str, Any]) -> list[str]:
    """Return how often the test was opened, where more than once, and which earlier runs opened days of it."""
    test = experiment["test"]
    if test is None:
        return []
    again = [f"test opened {test['openings']} times"] if test["openings"] > 1 else []
    return again + [f"{look['days']} of its test days were opened by {look['run']}" for look in test["earlier_looks"]]


def _running(trial: dict[str, Any]) -> str:
    held = f" paused: {one_line(str(trial['held_for']))}" if trial["state"] == "PAUSED" else ""
    return f"trial {trial['number']} epoch {trial['epoch']}{held}"


def status(view: dict[str, Any]) -> str:
    """Return the text of `supervisorctl status`."""
    run, daemon = view["run"], view.get("daemon")
    width = max([MIN_NAME_WIDTH, len(run["id"]), *(len(e["name"]) for e in view["experiments"])])
    head = f"{run['id']:<{width}}  {run['state']:<9} plan {run['plan']}"
    if view.get("daemon_died"):
        head += f", ITS DAEMON DIED: {way_on(run)}"
    below = [_underused(view.get("underused")), _lost(view.get("lost", [])), plan_file(view.get("plan_file"))]
    if daemon:
        up_s = daemon["now_wall"] - daemon["started_wall"]
        head += f", pid {daemon['pid']}, up {duration(up_s)}, {hardware(view['nodes'])}"
        below.append(f"dashboard {daemon['dashboard'] or '-'}, log {daemon['log']}")
    indent = " " * (width + 2)
    lines = [head, *(indent + line for line in pauses(view))]
    now = daemon["now_wall"] if daemon else None
    for experiment in view["experiments"]:
        lines.append(experiment_line(experiment, width, now))
        if experiment["state"] not in ENDED:
            lines += [indent + line for line in failure_lines(experiment)]
    return "\n".join([*lines, *(indent + line for line in below if line)])


def _underused(found: dict[str, Any] | None) -> str | None:
    return None if found is None else f"UNDERUSED: {found['what']} idle: {found['cause']}; cure: {found['cure']}"


def _lost(lost: list[dict[str, Any]]) -> str | None:
    """Return a line with the time that was lost per cause; None when none was lost."""
    causes = list(by_cause(lost).items())
    shown = [f"{cause} {duration(seconds)}" for cause, seconds in causes[:MAX_CAUSES]]
    if others := [seconds for _, seconds in causes[MAX_CAUSES:]]:
        shown.append(f"{len(others)} other causes {duration(sum(others))}")
    return f"lost, over all trials: {', '.join(shown)}" if shown else None


def progress(view: dict[str, Any]) -> str:
    """Return the run's progress on one line, for `supervisorctl wait`."""
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
    if failed := sum(sum(failures(experiment["counts"]).values()) for experiment in experiments):
        parts.append(f"{failed} failed")
    # A narrow terminal cuts the end.
    return " | ".join([*parts, f"ETA {duration(eta_s(view))}", *pauses(view)[:1], hardware(view.get("nodes", {}))])


def _trial_s(experiment: dict[str, Any]) -> float | None:
    """Return the seconds of a trial: the mean of the ended ones, else those of all epochs at the pace so far."""
    if experiment["mean_trial_s"] is not None:
        return float(experiment["mean_trial_s"])
    paces = [pace for trial in experiment["running"] if (pace := _epoch_s(trial)) is not None]
    epochs = experiment["spec"].get("max_epochs")
    return max(paces) * float(epochs) if paces and epochs else None


def _epoch_s(trial: dict[str, Any]) -> float | None:
    return float(trial["spent_s"] / trial["epoch"]) if trial["epoch"] else None


def _left_s(experiment: dict[str, Any], trial_s: float | None, now_wall: float | None) -> float | None:
    """Return the seconds of an experiment's trials that are left, at `trial_s` each; None without that figure."""
    if ProcessState(experiment["state"]) in ENDED:
        return 0.0
    if trial_s is None:
        return None
    waiting = max(0, experiment["max_trials"] - experiment["ended"] - len(experiment["running"]))
    running = sum(_left_of(trial, experiment["spec"], trial_s, now_wall) for trial in experiment["running"])
    known = (float((trial_s * waiting + running) / experiment["spec"]["concurrency"]), _hours_s(experiment))
    return min(seconds for seconds in (*known, experiment.get("left_s")) if seconds is not None)


def _left_of(trial: dict[str, Any], spec: dict[str, Any], trial_s: float, now_wall: float | None) -> float:
    """Return the seconds that a running trial has left; one that outlived the mean is expected to train to its end."""
    since = 0.0
    if trial["state"] == "RUNNING" and None not in (now_wall, trial["since_wall"]):
        since = max(0.0, now_wall - trial["since_wall"])
    pace = _epoch_s(trial)
    if trial["spent_s"] + since > trial_s and pace is not None and spec.get("max_epochs"):
        trial_s = pace * float(spec["max_epochs"])
    return float(max(0.0, trial_s - trial["spent_s"] - since))


def eta_s(view: dict[str, Any]) -> float | None:
    """Estimate the seconds to the run's end from the trials so far; None before the first epoch has ended.

    An experiment that has not begun counts like the last one with a figure: the estimate is too short when it is
    larger.
    """
    total, trial_s = 0.0, None
    now_wall = (view.get("daemon") or {}).get("now_wall")
    for experiment in view["experiments"]:
        trial_s = _trial_s(experiment) or trial_s
        left_s = _left_s(experiment, trial_s, now_wall)
        if left_s is None:
            return None
        total += left_s
    return total


# The table at a run's end


def text_table(view: dict[str, Any], now_wall: float | None = None) -> str:
    """Return the experiments of a `run_snapshot`, a line each, and the summary.

    `final` is the mean of the chosen configuration over fresh seeds; the column is left out when no experiment has one.
    `now_wall` (seconds since the epoch) gives a running experiment its duration so far.
    """
    rows = [HEADINGS, *(_row(experiment, now_wall) for experiment in view["experiments"])]
    if not any(experiment.get("finalized") for experiment in view["experiments"]):
        rows = [tuple(cell for column, cell in enumerate(row) if column != FINAL) for row in rows]
    return "\n".join([*table(rows, rule=True), *_reasons(view["experiments"]), "", summary(view)])


def summary(view: dict[str, Any]) -> str:
    """Return "passed N, failed N, skipped N" of experiments; what else there is where there is any."""
    found = counts(view["experiments"])
    unfinished = sum(experiment["state"] not in ENDED for experiment in view["experiments"])
    words = [f"{word} {found[word]}" for word in ("passed", "failed", "skipped")]
    words += [f"without an answer {found['incomplete']}"] if found["incomplete"] else []
    failed = sum(sum(failures(experiment["counts"]).values()) for experiment in view["experiments"])
    trials = [f"and {failed} trial{'s' if failed > 1 else ''} failed"] if failed else []
    return ", ".join([*words, *([f"unfinished {unfinished}"] if unfinished else []), *trials])


def short_params(params: dict[str, Any], max_characters: int = MAX_PARAMS_CHARACTERS) -> str:
    """Return "name=value ...", cut to `max_characters`."""
    return shortened(" ".join(f"{name}={short_value(value)}" for name, value in params.items()), max_characters)


def _row(experiment: dict[str, Any], now_wall: float | None) -> tuple[str, ...]:
    best, final = experiment["best"], experiment.get("finalized")
    return (
        experiment["name"],
        experiment["state"],
        f"{experiment['ended']}/{experiment['max_trials']}",
        "-" if best is None else f"{best['value']:.5g}",
        "-" if final is None else f"{final['val_loss']:.5g}",
        "-" if best is None else short_params(best["params"]),
        _duration(experiment, now_wall),
    )


def _duration(experiment: dict[str, Any], now_wall: float | None) -> str:
    end = experiment["ended_wall"] or now_wall
    started = experiment["started_wall"]
    return "-" if started is None or end is None else duration(end - started)


def _reasons(experiments: list[dict[str, Any]]) -> list[str]:
    """Return why experiments and trials failed, to stand below the table: such a text is longer than a column."""
    lines = []
    for experiment in experiments:
        name, failed = experiment["name"], _failed_words(experiment)
        if experiment["reason"] and experiment["state"] in (ProcessState.FATAL, ProcessState.SKIPPED):
            lines.append(f"{name} {experiment['state']}: {error_sentence(str(experiment['reason']))}")
        elif failed:
            lines.append(f"{name}: {failed[0]}{_first_error(experiment)}")
        if experiment["missing"] is not None:
            lines.append(f"{name} has no answer: {experiment['missing']}")
        lines += [f"{name}: {words}" for words in looks(experiment)]
    return lines


def _first_error(experiment: dict[str, Any]) -> str:
    for trial in experiment.get("trials", []):
        if trial["error"] and trial["end_reason"] in failures(experiment["counts"]):
            return f"; the first, trial {trial['number']}: {error_sentence(trial['error'])}"
    return ""

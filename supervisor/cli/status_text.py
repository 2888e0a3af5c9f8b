"""Writes a status snapshot as text: what needs a person, the run, a line for each experiment. Pure.

The lines of experiments keep Supervisor's shape, so that a program that reads those reads these: a name, one upper-case
state, then words. Standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from supervisor.cli.attention import URGENT, painted
from supervisor.cli.failure_text import PRINTED, failure_lines
from supervisor.cli.status_block import block
from supervisor.domain.command_text import (
    calls,
    command_line,
    eta_assumes,
    freed_by_schedule,
    in_force,
    needs_person,
    pauses,
)
from supervisor.domain.lifecycle import AT_WORK, EARLY, ENDED, FAILED, ProcessState
from supervisor.domain.time_accounting import by_cause
from supervisor.formatting import (
    duration,
    error_sentence,
    eta_range,
    eta_short,
    eta_words,
    fitted,
    folded,
    human,
    number,
    one_line,
)  # fmt: skip

MAX_CAUSES = 6
"""The number of causes of lost time that are shown, the largest first; an operator can give any number of reasons."""
MIN_NAME_WIDTH = 8
INDENT = "  "
WARNING = "33"
"""Yellow, as in ECMA-48 (SGR): work is held back, and goes on by itself."""


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


def nearest_to_its_limit(nodes: dict[str, Any]) -> str:
    """Return the temperature with the least room below its pause limit, and that limit; else as `hardware`."""
    readings = [reading for node in nodes.values() for reading in node["readings"]]
    known = [
        (limit - reading["value"], reading["value"], limit)
        for reading in readings
        if reading["kind"] == "temperature" and reading["value"] is not None
        and (limit := (reading.get("limits") or {}).get("pause")) is not None
    ]  # fmt: skip
    if not known:
        return hardware(nodes)
    _, value, limit = min(known)
    return f"{value:.0f} C, pauses at {limit:.0f} C"


def plan_file(view: dict[str, Any] | None) -> str | None:
    """Return a line when the plan's file differs from the run's frozen copy."""
    if view is None or not view["changed"]:
        return None
    then, now = (str(view[key])[:12] for key in ("sha256", "sha256_now"))
    return f"{view['path']} has changed since (sha256 {then}, now {now}); the run keeps its own copy"


def experiment_line(experiment: dict[str, Any], width: int) -> str:
    """Return the line of an experiment: its name in `width` characters, its state, words in order of their weight."""
    return f"{experiment['name']:<{width}}  {experiment['state']:<9} {_words(experiment)}"


def _words(experiment: dict[str, Any]) -> str:
    state = ProcessState(experiment["state"])
    if state in (ProcessState.SKIPPED, ProcessState.FATAL, ProcessState.BACKOFF):
        return error_sentence(str(experiment["reason"] or ""))
    if experiment["action"] == "STOP":
        return f"STOP by the {experiment['origin']}: {one_line(str(experiment['reason']))}"
    if state is ProcessState.STOPPED and experiment["started_wall"] is None:
        return "not started"
    words = [f"{experiment['ended']}/{experiment['max_trials']} trials"]
    if state in (ProcessState.RUNNING, ProcessState.PAUSED):
        words.append(eta_short(experiment.get("eta")))
    words += [*failed_words(experiment), *(["NO ANSWER"] if experiment["missing"] is not None else [])]
    words += _values(experiment)
    if state is ProcessState.EXITED and experiment["started_wall"] is not None:
        words.append(f"took {duration(experiment['ended_wall'] - experiment['started_wall'])}")
    return ", ".join([*words, *_search_end(experiment["spec"]), *looks(experiment)])


def _values(experiment: dict[str, Any]) -> list[str]:
    """Return the best value of the search, and apart from it, since that is partly luck, the final one and the test's.

    `final` is the mean of the chosen configuration over fresh seeds.
    """
    best, final = experiment["best"], experiment.get("finalized")
    words = [] if best is None else [f"best {number(best['value'])}"]
    words += [] if final is None else [f"final {number(final['val_loss'])}"]
    tested = ((experiment.get("evaluation") or {}).get("models") or {}).get("patchtst")
    return words + ([] if tested is None else [f"test {number(tested['test']['bce']['value'])}"])


def _search_end(spec: Mapping[str, Any]) -> list[str]:
    """Return that the search ended early, and why: its hours, or a person."""
    if spec.get("searched") is None:
        return ["finishes"] if spec.get("finish_asked") else []
    return [f"search ended ({spec['search_end']})"] if spec["search_end"] in EARLY else []


def failures(counts: Mapping[str, int]) -> dict[str, int]:
    """Return how many trials failed, by end reason."""
    return {reason: count for reason, count in sorted(counts.items()) if reason in FAILED}


def failed_words(experiment: dict[str, Any]) -> list[str]:
    """Return how many trials of an experiment failed, and why; nothing if none did."""
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


def status(view: dict[str, Any], columns: int | None = None, *, colour: bool = False, sparklines: bool = False) -> str:
    """Return the text of `supervisorctl status`.

    `columns` is the width of a terminal: lines of experiments are cut to it, others folded. None keeps them whole.
    `sparklines` draws the last values of running trials.
    """
    width = max([MIN_NAME_WIDTH, *(len(experiment["name"]) for experiment in view["experiments"])])
    lines = [painted(line, URGENT, colour) for text in calls(view) for line in _hung(text, columns)]
    lines += _head(view, columns, colour=colour)
    for experiment in view["experiments"]:
        line = experiment_line(experiment, width)
        lines.append(line if columns is None or len(line) <= columns else fitted(line, columns))
        if experiment["state"] in AT_WORK:
            lines += block(experiment, columns, sparklines=sparklines)
        if experiment["state"] not in ENDED:
            lines += [line for text in failure_lines(experiment) for line in _kept(text, columns)]
    return "\n".join([*lines, *(line for text in _below(view) for line in folded(text, columns, INDENT))])


def _kept(text: str, columns: int | None) -> list[str]:
    """Return a line of a failure: a printed one is cut to `columns`, with its spaces; others are folded."""
    if columns is not None and text.startswith(PRINTED):
        return [fitted(INDENT + text, columns)]
    return folded(text, columns, INDENT)


def _hung(text: str, columns: int | None) -> list[str]:
    """Return a call for a person behind a mark, its further lines below the text."""
    first, *rest = folded(text, None if columns is None else columns - 2)
    return [f"! {first}", *(INDENT + line for line in rest)]


def _head(view: dict[str, Any], columns: int | None, *, colour: bool) -> list[str]:
    """Return the lines of the run: state, time, hardware, and the commands in force that need no person."""
    run, daemon = view["run"], view.get("daemon")
    head = f"{run['id']}  {run['state']:<9} "
    if not daemon:
        return [f"{head}plan {run['plan']}"]
    up_s = daemon["now_wall"] - daemon["started_wall"]
    head += f"{eta_short(view.get('eta'))}, up {duration(up_s)}, pid {daemon['pid']}"
    facts = [
        *eta_range(view.get("eta"), eta_assumes(view)),
        nearest_to_its_limit(view["nodes"]),
        *_disk(view.get("disk")),
    ]
    held = in_force(view)
    lines = [head, *folded("; ".join(facts if held else [*facts, "no action in force"]), columns, INDENT)]
    texts = [command_line(command, view) for command in held if not needs_person(command)]
    return lines + [painted(line, WARNING, colour) for text in texts for line in folded(text, columns, INDENT)]


def _disk(disk: dict[str, Any] | None) -> list[str]:
    return [] if disk is None or disk["free_bytes"] is None else [f"{human(disk['free_bytes'])} of disk free"]


def _below(view: dict[str, Any]) -> list[str]:
    daemon = view.get("daemon")
    page = [f"live page {daemon['page']}"] if daemon and daemon.get("page") else []
    places = [*page, f"dashboard {daemon['dashboard'] or '-'}", f"log {daemon['log']}"] if daemon else []
    found = [
        freed_by_schedule(view),
        _underused(view.get("underused")),
        _lost(view.get("lost", [])),
        plan_file(view.get("plan_file")),
    ]
    return [*(line for line in found if line), *places]


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
    eta = eta_words(view.get("eta")) + eta_assumes(view)
    return " | ".join([*parts, eta, *pauses(view)[:1], hardware(view.get("nodes", {}))])

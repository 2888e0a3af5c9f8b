"""Runs the verbs that show several runs: history and compare. Each returns the exit code."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from typing import Any

from supervisor.cli.show.views import print_json, run_view
from supervisor.cli.watch import NO_RUN_REMEDY, columns_of
from supervisor.control.client import ask
from supervisor.domain.answer import counts, verdict
from supervisor.domain.lifecycle import ProcessState
from supervisor.domain.run_words import GIVEN_UP
from supervisor.errors import NotFound, NotRunning
from supervisor.formatting import duration, fitted, number, short_value, shortened, table
from supervisor.home import Home
from supervisor.home_lock import is_held

MADE_BY_THE_RUN = (
    "name", "searched", "search_end", "finish_asked", "chosen", "most_at_once", "ending", "discarded", "left_out",
    "asked", "put_next", "set_aside", "extended",
)  # fmt: skip
"""Keys of an experiment's spec that the run itself writes, beside its name."""
AUTO = "auto"
"""The word of a plan where the machine chooses."""
MAX_CHARACTERS = 40


def history(home: Home, arguments: argparse.Namespace) -> int:
    runs = runs_of(home, arguments.last)
    if arguments.json:
        print_json({"runs": runs})
        return 0
    rows = [("run", "began", "took", "verdict", "best"), *(_row(run, time.time()) for run in runs)]
    _print_table(rows)
    return 0


def runs_of(home: Home, last: int) -> list[dict[str, Any]]:
    """Return the newest runs of the home in short, of the daemon or the store. Raises NotFound without a store."""
    from supervisor.store.database import read_only
    from supervisor.store.history_queries import history as read_history

    try:
        return list(ask(home, "history", query=f"?last={last}")["runs"])
    except NotRunning:
        if is_held(home):
            raise
    if not home.store.exists():
        raise NotFound(f"the home {home.root} has no run yet", remedy=NO_RUN_REMEDY)
    with read_only(home.store) as connection:
        return read_history(connection, last)


def _row(run: dict[str, Any], now_wall: float) -> tuple[str, ...]:
    end = now_wall if run["live"] else run["ended_wall"] or run["last_event_wall"]
    return (
        run["run"],
        time.strftime("%Y-%m-%d %H:%M", time.localtime(run["created_wall"])),
        "-" if end is None else duration(end - run["created_wall"]),
        _verdict(run),
        _best(run),
    )


def _verdict(run: dict[str, Any]) -> str:
    """Return the state of a run that goes on, and how many experiments passed, failed, and so on."""
    found = counts(run["experiments"])
    words = [f"{found[word]} {word}" for word in ("passed", "failed", "incomplete", "skipped") if found[word]]
    words += [f"{found['failed_trials']} trials failed"] if found["failed_trials"] else []
    if run["reason"] == GIVEN_UP:
        words.insert(0, "given up")
    elif run["live"] or run["state"] == ProcessState.FATAL:
        words.insert(0, run["state"])
    elif run["state"] != ProcessState.EXITED:
        words.insert(0, "unfinished")
    return ", ".join(words) or "nothing ended"


def _best(run: dict[str, Any]) -> str:
    """Return the best final value of a run's experiments, else the search's; "-" where metrics differ."""
    experiments = run["experiments"]
    if len({(one["metric"], one["mode"]) for one in experiments}) != 1:
        return "-"
    better = min if experiments[0]["mode"] == "min" else max
    for key, word in (("final", "final"), ("best", "search")):
        known = [(one[key], one["name"]) for one in experiments if one[key] is not None]
        if known:
            value, name = better(known)
            return f"{number(value)} {name} ({word})"
    return "-"


def compare(home: Home, arguments: argparse.Namespace) -> int:
    views = [run_view(home, name, trials=False) for name in arguments.runs]
    found, outcomes = list(differences(*views)), list(outcome_rows(*views))
    if arguments.json:
        print_json({"runs": [view["run"]["id"] for view in views], "differences": found, "experiments": outcomes})
        return 0
    one, other = (view["run"]["id"] for view in views)
    if found:
        cells = [(each["experiment"] or "all", each["key"], _text(each["values"][0]), _text(each["values"][1]))
                 for each in found]  # fmt: skip
        _print_table([("experiment", "key of the plan", one, other), *cells])
    else:
        print("the plans of both runs agree")
    print()
    _print_table(
        [("experiment", "best", "", "final", "", "verdict", ""),
         *((each["experiment"], *(number(value) for key in ("best", "final") for value in each[key]),
            *(word or "-" for word in each["verdict"])) for each in outcomes)]
    )  # fmt: skip
    return 0


def differences(one: dict[str, Any], other: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield each setting in which two runs differ: `experiment` (None: the run, or all that both have), key, values.

    A value that a run does not have is None.
    """
    for key, values in _unlike(_of_run(one), _of_run(other)):
        yield {"experiment": None, "key": key, "values": values}
    specs = [{each["name"]: each["spec"] for each in view["experiments"]} for view in (one, other)]
    shared = [name for name in specs[0] if name in specs[1]]
    by_key: dict[tuple[str, str], list[str]] = {}
    kept: dict[tuple[str, str], list[Any]] = {}
    for name in shared:
        for key, values in _unlike(*(_settings(of[name]) for of in specs)):
            found = (key, json.dumps(values, sort_keys=True))
            by_key.setdefault(found, []).append(name)
            kept[found] = values
    for (key, text), names in by_key.items():
        shown: list[str | None] = [None] if len(names) == len(shared) and len(shared) > 1 else [*names]
        for name in shown:
            yield {"experiment": name, "key": key, "values": kept[key, text]}


def _of_run(view: dict[str, Any]) -> dict[str, Any]:
    run = view["run"]
    hardware = run["hardware"] or {}
    own = {key: value for key, value in hardware.items() if key not in ("options", "source_sha256")}
    return {"plan": run["plan"], "data": run["data"] or {}, "hardware": own}


def _settings(spec: dict[str, Any]) -> dict[str, Any]:
    """Return what a person set in an experiment's spec: what the machine chose is "auto"."""
    own = {key: value for key, value in spec.items() if key not in MADE_BY_THE_RUN}
    if not spec.get("chosen"):
        return own
    own["concurrency"] = AUTO
    if spec["resources"].get("auto"):
        own["resources"] = {**spec["resources"], "cpu": AUTO}
        own["config"] = {key: value for key, value in spec["config"].items() if key != "threads"}
    return own


def _unlike(one: dict[str, Any], other: dict[str, Any]) -> Iterator[tuple[str, list[Any]]]:
    """Yield the dotted keys whose values differ, with both values."""
    flat = [dict(_flat(values)) for values in (one, other)]
    for key in dict.fromkeys([*flat[0], *flat[1]]):
        values = [found.get(key) for found in flat]
        if values[0] != values[1]:
            yield key, values


def _flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def outcome_rows(one: dict[str, Any], other: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield each experiment of either run, with best, final value and verdict in both; None where one lacks it."""
    by_name = [{each["name"]: each for each in view["experiments"]} for view in (one, other)]
    for name in dict.fromkeys([*by_name[0], *by_name[1]]):
        both = [found.get(name) for found in by_name]
        yield {
            "experiment": name,
            "best": [each["best"]["value"] if each and each["best"] else None for each in both],
            "final": [each["finalized"]["val_loss"] if each and each.get("finalized") else None for each in both],
            "verdict": [verdict(ProcessState(each["state"]), each["missing"]) if each else None for each in both],
        }


def _text(value: Any) -> str:
    return "-" if value is None else shortened(short_value(value), MAX_CHARACTERS)


def _print_table(rows: list[tuple[str, ...]]) -> None:
    columns = columns_of(sys.stdout)
    for line in table(rows):
        print(line if columns is None else fitted(line, columns))

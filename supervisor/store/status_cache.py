"""Keeps the run as `status` shows it; an experiment that has ended is read once, so a long run costs no more.

queries.run_snapshot reads all of it, with every trial and result. Standard library only.
"""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass, field
from typing import Any

from supervisor.domain import finalists
from supervisor.domain.eta.trial_work import NO_FIGURES, TrialCost, cost_of
from supervisor.domain.lifecycle import ENDED, TRIAL_ENDED, EndReason, ProcessState
from supervisor.domain.stage import doing
from supervisor.domain.time_accounting import LOSS_EVENTS, LostTime
from supervisor.store import answer_queries, cost_queries, queries
from supervisor.store.failure_queries import last_failure
from supervisor.store.projection import CHANGES


@dataclass
class _Trials:
    """The trials of one experiment at work, without results, by number."""

    rows: dict[int, dict[str, Any]] = field(default_factory=dict)
    costs: dict[int, TrialCost] = field(default_factory=dict)
    """Those of the ended ones."""
    ends: int = 0
    """Rises with each end that was read."""


class StatusView:
    """Reads one run again where it changed: each change has its event, so the newest events name the experiments."""

    def __init__(self, connection: sqlite3.Connection, run_id: str) -> None:
        self._connection, self._run_id = connection, run_id
        self._lost = LostTime(by_trial=False)
        self._seq, self._last_wall_s = 0, 0.0
        self._trials: dict[str, _Trials] = {}
        """Those of the experiments at work."""
        self._over: dict[str, dict[str, Any]] = {}
        """The views of the experiments that have ended."""
        self._measured: dict[str, tuple[Any, dict[str, Any]]] = {}
        """The figures that the trials of an experiment have shown, and the facts they were made from."""
        self._figures: dict[str, Any] = {}
        """The dry run's figures, by experiment."""

    def now(self) -> dict[str, Any]:
        """Return run_snapshot without `trials`, its lost time added up over all trials (`trial` is None)."""
        changed = self._changed()
        self._over = {name: view for name, view in self._over.items() if name not in changed}
        return {
            **queries.run_itself(self._connection, self._run_id),
            "experiments": [self._experiment(row) for row in queries.experiment_rows(self._connection, self._run_id)],
            "lost": self._lost.seconds(self._last_wall_s),
            "lost_times": self._lost.times,
        }

    def _changed(self) -> set[str | None]:
        """Return the experiments that events since the last call changed; bring the lost time up to now."""
        after, run = self._seq, self._run_id
        newest = self._connection.execute(
            "SELECT seq, wall FROM event WHERE run = ? ORDER BY seq DESC LIMIT 1", (run,)
        ).fetchone()
        if newest is None or newest["seq"] == after:
            return set()
        self._seq, self._last_wall_s = newest["seq"], newest["wall"]
        marks = ", ".join("?" * len(LOSS_EVENTS))
        for row in self._connection.execute(
            f"SELECT * FROM event WHERE run = ? AND seq > ? AND seq <= ? AND name IN ({marks}) ORDER BY seq",  # noqa: S608 - only marks
            (run, after, self._seq, *LOSS_EVENTS),
        ):
            self._lost.add((row["name"], row["wall"], row["experiment"], row["trial"], json.loads(row["fields"])))
        if figures := cost_queries.figures_of(self._connection, run, after):
            self._figures = figures
            for kept in (self._over, self._trials, self._measured):
                kept.clear()
        # Any other event changes no row: a sample of the hardware every few minutes must not cost all trials.
        marks = ", ".join("?" * len(CHANGES))
        rows = self._connection.execute(
            f"SELECT DISTINCT experiment, trial FROM event WHERE run = ? AND seq > ? AND name IN ({marks})",  # noqa: S608 - only marks
            (run, after, *CHANGES),
        ).fetchall()
        self._read_trials(rows)
        return {row["experiment"] for row in rows}

    def _read_trials(self, changed: list[sqlite3.Row]) -> None:
        """Read the trials that events name; an event that names none may have changed all of its experiment."""
        whole = {row["experiment"] for row in changed if row["trial"] is None}
        for name in whole & self._trials.keys() if None not in whole else list(self._trials):
            del self._trials[name]
            # The count of ends begins anew, so it would not tell that another trial has ended since.
            self._measured.pop(name, None)
        for row in changed:
            if row["experiment"] in self._trials:
                self._read(row["experiment"], row["trial"])

    def _experiment(self, row: sqlite3.Row) -> dict[str, Any]:
        name = row["name"]
        if name in self._over:
            return self._over[name]
        if name not in self._trials:
            self._read(name)
        spec, trials = json.loads(row["spec"]), list(self._trials[name].rows.values())
        work = [
            {**trial, **cost_queries.work_so_far(self._connection, row, trial, self._of(name), self._lost)}
            for trial in queries.running(trials)
        ]
        view = queries.experiment_view(row, spec, trials, work)
        view["measured"] = self._measured_of(row, spec, view["best"])
        view |= answer_queries.answer_view(self._connection, row, spec, self._finalized(spec, trials))
        view["last_failure"] = last_failure(self._connection, self._run_id, name)
        view["doing"] = doing(view)
        if ProcessState(row["state"]) in ENDED:
            self._over[name] = view
            del self._trials[name], self._measured[name]
        return view

    def _read(self, name: str, number: int | None = None) -> None:
        """Read an experiment's trials, or one of them; results only of those that have ended.

        `params` and `record` stay text, since one or two of them are shown.
        """
        known = self._trials.setdefault(name, _Trials())
        rows = self._connection.execute(
            "SELECT number, state, attempt, end_reason, value, held_for, params, record, added_wall, started_wall,"
            " ended_wall FROM trial WHERE run = ? AND experiment = ? AND number BETWEEN ? AND ? ORDER BY number",
            (self._run_id, name, *_between(number)),
        ).fetchall()
        over = [row["number"] for row in rows if row["state"] in TRIAL_ENDED]
        results = self._results(name, number) if over else {}
        for row in rows:
            known.rows[row["number"]] = trial = dict(row)
            known.costs.pop(row["number"], None)
            if row["state"] in TRIAL_ENDED and row["end_reason"] != EndReason.SET_ASIDE:
                params, spent = json.loads(row["params"]), results.get(row["number"], (0, 0.0))
                known.costs[row["number"]] = cost_of(self._of(name), trial, params, *spent)
        known.ends += len(over)

    def _results(self, name: str, number: int | None) -> dict[int, tuple[int, float]]:
        """Return epochs and seconds of training of each trial with results, or of one, by number."""
        rows = self._connection.execute(
            "SELECT trial, count(*), sum(json_extract(metrics, '$.time_this_iter_s')) FROM result"
            " WHERE run = ? AND experiment = ? AND trial BETWEEN ? AND ? GROUP BY trial",
            (self._run_id, name, *_between(number)),
        )
        return {int(trial): (int(epochs), float(seconds or 0.0)) for trial, epochs, seconds in rows}

    def _of(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self._figures.get(name) or dict(NO_FIGURES)
        return found

    def _measured_of(self, row: sqlite3.Row, spec: dict[str, Any], best: dict[str, Any] | None) -> dict[str, Any]:
        """Return cost_queries.measured_of; made anew only when a trial has ended, or the experiment has."""
        name, known = row["name"], self._trials[row["name"]]
        ends = (known.ends, len(known.costs))
        made_from = (ends, best and best["trial"], row["spec"], row["started_wall"], row["ended_wall"])
        if name not in self._measured or self._measured[name][0] != made_from:
            found = cost_queries.measured_of(row, spec, self._of(name), known.costs.values(), best)
            self._measured[name] = (made_from, found)
        return self._measured[name][1]

    def _finalized(self, spec: dict[str, Any], trials: list[dict[str, Any]]) -> dict[str, Any] | None:
        """Return finalists.describe; before the finalisation has ended there is nothing to describe."""
        needed = finalists.search_trials(spec) + finalists.finalisation_trials(spec)
        if spec.get("finalize") is None or len(queries.ended(trials)) < min(len(trials), needed):
            return None
        whole = [
            {**trial, "params": json.loads(trial["params"]), "record": json.loads(trial["record"])} for trial in trials
        ]
        return finalists.describe(spec, whole)


def _between(number: int | None) -> tuple[int, int]:
    """Return the first and the last number of the trials to read: one, or all."""
    return (0, 2**62) if number is None else (number, number)

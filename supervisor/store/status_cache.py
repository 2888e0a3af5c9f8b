"""Keeps the run as `status` shows it; an experiment that has ended is read once, so a long run costs no more.

queries.run_snapshot reads all of it, with every trial and result. Standard library only.
"""

from __future__ import annotations

import json
import sqlite3
from typing import Any

from supervisor.domain import finalists
from supervisor.domain.eta.trial_work import NO_FIGURES, TrialCost, cost_of
from supervisor.domain.lifecycle import ENDED, ProcessState
from supervisor.domain.stage import doing
from supervisor.domain.time_accounting import LOSS_EVENTS, LostTime
from supervisor.store import answer_queries, cost_queries, queries
from supervisor.store.failure_queries import last_failure


class StatusView:
    """Reads one run again where it changed: each change has its event, so the newest events name the experiments."""

    def __init__(self, connection: sqlite3.Connection, run_id: str) -> None:
        self._connection, self._run_id = connection, run_id
        self._lost = LostTime(by_trial=False)
        self._seq, self._last_wall_s = 0, 0.0
        self._over: dict[str, dict[str, Any]] = {}
        """The views of the experiments that have ended."""
        self._costs: dict[str, dict[tuple[int, int], TrialCost]] = {}
        """Costs of ended trials, by experiment and their number and attempt."""
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
        """Return the experiments with events since the last call; bring the lost time up to now."""
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
            for kept in (self._over, self._costs, self._measured):
                kept.clear()
        rows = self._connection.execute("SELECT DISTINCT experiment FROM event WHERE run = ? AND seq > ?", (run, after))
        return {row["experiment"] for row in rows}

    def _experiment(self, row: sqlite3.Row) -> dict[str, Any]:
        name = row["name"]
        if name in self._over:
            return self._over[name]
        spec, trials = json.loads(row["spec"]), self._trials(name)
        costs = self._ended_costs(name, trials)
        work = [
            {**trial, **cost_queries.work_so_far(self._connection, row, trial, self._of(name), self._lost)}
            for trial in queries.running(trials)
        ]
        view = queries.experiment_view(row, spec, trials, work)
        view["measured"] = self._measured_of(row, spec, costs, view["best"])
        view |= answer_queries.answer_view(self._connection, row, spec, self._finalized(spec, trials))
        view["last_failure"] = last_failure(self._connection, self._run_id, name)
        view["doing"] = doing(view)
        if ProcessState(row["state"]) in ENDED:
            self._over[name] = view
            del self._costs[name], self._measured[name]
        return view

    def _trials(self, name: str) -> list[dict[str, Any]]:
        """Return the trials without results; `params` and `record` stay text, since one or two of them are shown."""
        rows = self._connection.execute(
            "SELECT number, state, attempt, end_reason, value, held_for, params, record, added_wall, started_wall,"
            " ended_wall FROM trial WHERE run = ? AND experiment = ? ORDER BY number",
            (self._run_id, name),
        )
        return [dict(row) for row in rows]

    def _ended_costs(self, name: str, trials: list[dict[str, Any]]) -> list[TrialCost]:
        """Return the cost of each ended trial; its results are read once."""
        kept = self._costs.setdefault(name, {})
        costs = []
        for trial in queries.ended(trials):
            key = (int(trial["number"]), int(trial["attempt"]))
            if key not in kept:
                kept[key] = self._cost(name, trial)
            costs.append(kept[key])
        return costs

    def _cost(self, name: str, trial: dict[str, Any]) -> TrialCost:
        epochs, seconds = self._connection.execute(
            "SELECT count(*), coalesce(sum(json_extract(metrics, '$.time_this_iter_s')), 0) FROM result"
            " WHERE run = ? AND experiment = ? AND trial = ?",
            (self._run_id, name, trial["number"]),
        ).fetchone()
        return cost_of(self._of(name), trial, json.loads(trial["params"]), int(epochs), float(seconds))

    def _of(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self._figures.get(name) or dict(NO_FIGURES)
        return found

    def _measured_of(
        self, row: sqlite3.Row, spec: dict[str, Any], costs: list[TrialCost], best: dict[str, Any] | None
    ) -> dict[str, Any]:
        """Return cost_queries.measured_of; made anew only when a trial has ended, or the experiment has."""
        name = row["name"]
        trials = [id(cost) for cost in costs]
        made_from = (trials, best and best["trial"], row["spec"], row["started_wall"], row["ended_wall"])
        if name not in self._measured or self._measured[name][0] != made_from:
            found = cost_queries.measured_of(row, spec, self._of(name), costs, best)
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

"""Records that ended trials train on, in one transaction. The rule is in domain.trials. Standard library only."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from supervisor.domain.checkpoint_name import checkpoint_step
from supervisor.domain.early_ends import Named
from supervisor.domain.lifecycle import (
    ENDED,
    ProcessState,
    TrialState,
    check_process_move,
    check_trial_move,
)
from supervisor.domain.trials.extension_rules import Candidate, Searched, why_not_train_on
from supervisor.home import Home
from supervisor.store import answer_queries, lookups
from supervisor.store.database import Change, Store
from supervisor.store.run_writer import place
from supervisor.store.steering.retry_writer import seconds_left
from supervisor.store.steering.set_aside import SetAsideWriter, reopen_run
from supervisor.store.steering.steer_writer import EXTENDED, steerable


@dataclass(frozen=True)
class Extended:
    """Says where an extended trial begins (None: from scratch) and at which epoch it ends."""

    experiment: str
    trial: int
    from_step: int | None
    last_step: int


@dataclass(frozen=True)
class ExtendedTrials:
    """Checks and records the extensions of one run's trials. Raises Conflict, with the reasons, to refuse."""

    store: Store
    run_id: str

    def extend(self, more: Mapping[Named, int], who: str, *, anew: bool = False) -> list[Extended]:
        """Record that each trial trains so many epochs more, from its newest checkpoint or `anew`; return them.

        What has ended is opened again: their experiments, and the run. A finalisation that has begun is set aside.
        """
        with self.store.change(self.run_id) as change:
            taken = steerable(more, self._why_not(more, anew), "be extended")
            names = list(dict.fromkeys(one.experiment for one in taken))
            reopen_run(self.store, change, self.run_id, who)
            for name in names:
                self._chosen.set_aside(change, name, who, "extend")
            extended = [self._extend(change, one, more[one], who, anew) for one in taken]
            self._open_again(change, names)
        return extended

    def _extend(self, change: Change, one: Named, epochs: int, who: str, anew: bool) -> Extended:
        row, after = self._row(one), self._reached(one)
        assert row is not None, "it was decided on from its row"
        check_trial_move(TrialState(row["state"]), TrialState.PENDING)
        found = None if anew else self._checkpoint(row, after)
        from_step, path = (None, None) if found is None else found
        change.record(
            "trial.extended", **place(row), who=who, epochs=epochs, last_step=after + epochs, from_step=from_step,
            checkpoint=None if path is None else str(path), after=after, anew=anew, end_reason=row["end_reason"],
            value=row["value"],
        )  # fmt: skip
        return Extended(one.experiment, int(row["number"]), from_step, after + epochs)

    def _open_again(self, change: Change, names: list[str]) -> None:
        for name in names:
            state = self._state(name)
            if state in ENDED:
                check_process_move(state, ProcessState.STOPPED)
                change.record("experiment.moved", experiment=name, state=ProcessState.STOPPED, reason=EXTENDED)

    def _why_not(self, more: Mapping[Named, int], anew: bool) -> Callable[[Named], str | None]:
        """Return the decision on each trial; what concerns its whole experiment is read once."""
        search = cache(self._searched)

        def why_not(one: Named) -> str | None:
            row = self._row(one)
            if row is None:
                return "there is no such trial"
            reached = self._reached(one)
            checkpoint = self._checkpoint(row, reached)
            step = None if checkpoint is None else checkpoint[0]
            trial = {**dict(row), "record": json.loads(row["record"])}
            return why_not_train_on(Candidate(search(one.experiment), trial, reached, step), more[one], anew=anew)

        return why_not

    def _searched(self, name: str) -> Searched:
        spec = lookups.spec(self.store, self.run_id, name)
        test = answer_queries.test_of(self.store.connection, self.run_id, name)
        left_s = seconds_left(self.store, self.run_id, name, spec.get("max_hours"))
        return Searched(name, self._state(name), spec, test, self._chosen.why_not(name), left_s)

    @property
    def _chosen(self) -> SetAsideWriter:
        return SetAsideWriter(self.store, self.run_id)

    def _checkpoint(self, row: Any, reached: int) -> tuple[int, Path] | None:
        home = Home(self.store.path.parent.parent)
        folder = home.run_folder(self.run_id) / str(row["experiment"]) / str(row["number"])
        return newest_checkpoint(folder, row["checkpoint"], row["checkpoint_step"], reached)

    def _row(self, one: Named) -> Any:
        return None if one.trial is None else lookups.trial(self.store, self.run_id, one.experiment, one.trial)

    def _reached(self, one: Named) -> int:
        return lookups.last_epoch(self.store, self.run_id, one.experiment, one.trial or 0)

    def _state(self, name: str) -> ProcessState:
        return ProcessState(lookups.experiment(self.store, self.run_id, name)["state"])


def newest_checkpoint(folder: Path, named: str | None, step: int | None, reached: int) -> tuple[int, Path] | None:
    """Return the newest checkpoint that a trial can train on from, with its epoch; None where none is left.

    It is one in the trial's `folder` up to the epoch that it `reached`, else the one that the store has `named`, of
    epoch `step`, where that lies elsewhere.
    """
    try:
        there = list(folder.iterdir())
    except OSError:
        there = []  # it was removed, or cannot be read: then no worker could read it either
    kept = [(at, path) for path in there if (at := checkpoint_step(path)) is not None and at <= reached]
    if kept:
        return max(kept)
    return (step, Path(named)) if named is not None and step is not None and Path(named).exists() else None

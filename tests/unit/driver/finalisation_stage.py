"""Provide a search with a finalisation, and rows of a store for it."""

from __future__ import annotations

from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

from actors.driver.commands_in_force import CommandsInForce
from actors.driver.search import open_search
from actors.driver.trial_registry import TrialRegistry
from actors.driver.trials_at_once import TrialsAtOnce
from actors.trial.result_keys import STEP


class Bench:
    """A search of four trials and a finalisation of one configuration on two seeds."""

    def __init__(self, folder: Any, trials: tuple[dict[str, Any], ...] = (), **changes: Any) -> None:
        self.spec = {
            "name": "s", "space": {"x": {"type": "float", "low": -1.0, "high": 1.0, "log": False}}, "metric": "loss",
            "mode": "min", "enqueue": [], "sampler": {"kind": "random", "startup_trials": 1}, "seed": 3,
            "concurrency": 2, "max_trials": 6, "finalize": {"top": 1, "seeds": 2}, **changes,
        }  # fmt: skip
        self.folder, self.sent, self.in_force = folder, [], CommandsInForce()
        self.registry = TrialRegistry("loss", "min", trials)
        at_once = TrialsAtOnce(self.spec, self.send, lambda: False)
        link: Any = self  # it only sends
        self.search = open_search(self.spec, list(trials), folder, self.registry, self.in_force, link, at_once)

    def send(self, message: Any) -> None:
        self.sent.append(message)

    def end(self, trial_id: str, value: float | None) -> None:
        """Call the searcher as Tune does, then (at the end of the bench's trial) nothing more of it."""
        result = {STEP: 1, "loss": value}
        self.registry.note(trial_id, result)
        self.search.on_trial_complete(trial_id, result)
        self.registry.close(trial_id)

    def searched(self, *values: float | None) -> None:
        for place, value in enumerate(values):
            self.search.suggest(f"s{place}")
            self.end(f"s{place}", value)

    def study(self) -> list[Any]:
        file = str(self.folder / "study.journal")
        storage = JournalStorage(JournalFileBackend(file, lock_obj=JournalFileOpenLock(file)))
        return optuna.load_study(study_name="s", storage=storage).trials


def row(number: int, value: float | None, reason: str | None = "finished", **params: Any) -> dict[str, Any]:
    state = "PENDING" if reason is None else ("TERMINATED" if value is not None else "ERROR")
    return {
        "number": number, "params": params or {"x": number / 10}, "state": state, "end_reason": reason, "value": value,
        "results": [] if value is None else [[1, value]], "checkpoint": None, "attempt": 1,
    }  # fmt: skip

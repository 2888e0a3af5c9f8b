"""A stage for evaluations: a run in a real store whose search and finalisation have ended."""

from __future__ import annotations

import json
from typing import Any

from supervisor.clock import Clock
from supervisor.domain.finalists import AFTER_SEARCH, after_search
from supervisor.plan.expansion import expand
from supervisor.plan.loader import load_plan
from supervisor.store.database import Store
from supervisor.store.evaluation_writer import EvaluationWriter
from supervisor.store.run_writer import create_run

SHA = "ab" * 32
INTERVAL = {"value": 0.6, "low": 0.5, "high": 0.7}
RESULT = {
    "param_count": 20_000,
    "dates": {"train": ["a", "b"], "val": ["c", "d"], "test": ["e", "f"]},
    "windows": {"train": 3, "val": 2, "test": 1},
    "models": {name: {"test": {"bce": INTERVAL}} for name in ("patchtst", "prior")},
    "predictions": {"file": "predictions.json", "sha256": "cd" * 32},
}
TEST_DAYS = {"ticker": "SPY", "first": "2020-01-06", "last": "2020-01-10", "bits": "1f"}
OPENING = {
    "by": "a test", "reason": "its turn", "dataset": "x.parquet", "dataset_sha256": SHA, "split": {}, "horizon": 1,
    "trials": [8, 9], "folds": 1, "sealed_days": [TEST_DAYS],
}  # fmt: skip


class FixedClock(Clock):
    def wall_s(self) -> float:
        return 1_700_000_000.0


def run_of(store: Store, run_id: str = "one", split: str = "contiguous") -> EvaluationWriter:
    """Create a run of phase6a-mini: 8 trials search; two configurations train again, and with folds one of them twice.

    The trials after the search have two seeds.
    """
    sets = ["matrix.horizon=[1]", f"config.split={{kind: {split}}}", f"max_trials={16 if split == 'folds' else 12}"]
    plan = load_plan("phase6a-mini", sets).plan
    specs = [spec.model_dump(mode="json") for spec in expand(plan, 25, "/data/x.parquet")]
    create_run(
        store, run_id, plan="mini", fingerprint="f", source="built-in", plan_text="", hardware={}, data={}, specs=specs
    )
    return EvaluationWriter(store, run_id)


def add_trials(
    writer: EvaluationWriter,
    name: str,
    values: dict[int, float | None],
    params: dict[int, Any],
    source: str = "sampled",
) -> None:
    record = json.dumps(
        {"num_features": 25, "dataset_sha256": SHA, "device": {"chosen": "cpu"}, "sealed_days": TEST_DAYS}
    )
    with writer.store.change(writer.run_id) as change:
        for number, value in values.items():
            change.execute(
                "INSERT INTO trial (run, experiment, number, state, params, source, attempt, end_reason, value, record,"
                " added_wall) VALUES (?, ?, ?, ?, ?, ?, 1, ?, ?, ?, 0)",
                writer.run_id, name, number, "ERROR" if value is None else "TERMINATED", json.dumps(params[number]),
                source, "error" if value is None else "finished", value, record,
            )  # fmt: skip


def point(number: int) -> dict[str, Any]:
    return {
        "shape_rank": number % 9, "heads_log2": 1, "learning_rate": 1e-3 + number * 1e-5, "weight_decay": 0.02,
        "dropout": 0.2, "batch_size": 64, "warmup_fraction": 0.05,
    }  # fmt: skip


def finalised(writer: EvaluationWriter, name: str = "20k-h1") -> None:
    """End all trials of an experiment, those after its search too."""
    add_trials(writer, name, {n: 0.5 + n / 100 for n in range(8)}, {n: point(n) for n in range(8)})
    for source in AFTER_SEARCH:
        planned = after_search(writer.spec(name), writer.trials(name))
        of = {n: params for n, (of_source, params) in planned.items() if of_source == source}
        add_trials(writer, name, {n: 0.4 + n / 100 for n in of}, of, source)


def events(store: Store, name: str) -> list[dict[str, Any]]:
    return [event.fields for event in store.events_after(0) if event.name == name]

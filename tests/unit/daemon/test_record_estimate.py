"""Test that a run keeps the dry run's figures, once."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from supervisor.daemon.upkeep.estimate import record_estimate
from supervisor.store import cost_queries, lookups
from tests.unit.store.writers import E, make_writer

FIGURES = {"basis": "timed here", "epoch_s": 2.5, "by_rank": {"0": 2.0}, "at_once": 2}


class Asked:
    """Answers with figures, and notes what it was asked for."""

    def __init__(self, answer: dict[str, dict[str, Any]]) -> None:
        self.answer = answer
        self.names: list[list[str]] = []

    def __call__(self, specs: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
        self.names.append([spec["name"] for spec in specs])
        return self.answer


def test_the_figures_are_recorded_at_the_first_start_only(tmp_path: Path) -> None:
    writer, asked = make_writer(tmp_path / "s.db"), Asked({E: FIGURES})
    for _ in range(2):
        asyncio.run(record_estimate(writer, asked))
    assert asked.names == [[E]]
    assert cost_queries.figures_of(writer.store.connection, "r") == {E: FIGURES}
    (event,) = lookups.newest_events(writer.store, ["run.estimated"], 9, run="r")
    assert (event.fields["count"], event.fields["basis"]) == (1, "timed here")
    assert cost_queries.figures_of(writer.store.connection, "r", event.seq) == {}


def test_a_trainable_of_ones_own_has_no_figures(tmp_path: Path) -> None:
    writer = make_writer(tmp_path / "s.db")
    before = lookups.last_seq(writer.store)
    asyncio.run(record_estimate(writer, Asked({})))
    assert lookups.last_seq(writer.store) == before

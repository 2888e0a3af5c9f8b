"""Records at a run's first start what the dry run says of its trials' work, so that the ETA begins with it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from supervisor.store import lookups
from supervisor.store.run_writer import RunWriter

Figures = Callable[[Sequence[Mapping[str, Any]]], dict[str, dict[str, Any]]]
"""From the specs of experiments to their figures (preflight.work_figures)."""


async def record_estimate(writer: RunWriter, figures: Figures) -> None:
    """Record the figures of a run's experiments, once. Raises DiskFull, DiskFailed."""
    store, run_id = writer.store, writer.run_id
    if lookups.newest_events(store, ["run.estimated"], 1, run=run_id):
        return
    specs = [lookups.spec(store, run_id, row["name"]) for row in lookups.experiments(store, run_id)]
    # In a thread: a large grid takes a second, in which the daemon must answer.
    found = await asyncio.to_thread(figures, specs)
    if found:
        bases = ", ".join(dict.fromkeys(str(one["basis"]) for one in found.values()))
        writer.record("run.estimated", count=len(found), basis=bases, experiments=found)

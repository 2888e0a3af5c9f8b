"""Test what the store says of a run's plan: its copy, and the changes since."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from supervisor.store.plan_queries import plan_of_run
from tests.unit.store.writers import make_writer


def test_of_each_key_the_newest_change_counts_in_the_order_typed(tmp_path: Path) -> None:
    writer = make_writer(tmp_path / "sweep.db")

    def changed(sets: Sequence[str], *, everywhere: bool = True, plan_text: str | None = None) -> tuple[str, ...]:
        writer.record(
            "plan.changed", who="ann", sets=list(sets), experiments=[], specs={}, policy=None, plan_text=plan_text,
            fingerprint=None, source_sha256=None, everywhere=everywhere,
        )  # fmt: skip
        return plan_of_run(writer.store.connection, writer.run_id).sets

    assert changed(["stop={plateau: 3}", "max_trials=4"]) == ("stop={plateau: 3}", "max_trials=4")
    changed(["stop.value=0.5"])
    assert changed(["stop={plateau: 9}"]) == ("max_trials=4", "stop.value=0.5", "stop={plateau: 9}")
    one_alone = changed(["max_trials=7", "hardware.min_off_s=9"], everywhere=False)
    assert one_alone == ("max_trials=4", "stop.value=0.5", "stop={plateau: 9}", "hardware.min_off_s=9")
    assert changed(["max_trials: 4 -> 5"], plan_text="name: p\n") == ()

"""Bounds the work that a trial may train again after a fault."""

from __future__ import annotations

import math
from typing import Any

import pytest

from supervisor.audit.repeated_work import Work, seconds_between


def epoch(step: int, seconds: float, checkpoint: str | None = None) -> dict[str, Any]:
    return {"step": step, "metrics": {"time_this_iter_s": seconds}, "checkpoint": checkpoint}


def worked(*epochs: dict[str, Any]) -> Work:
    work = Work()
    for one in epochs:
        work.report(one)
    return work


@pytest.mark.parametrize(
    ("seconds", "begins", "fault"),
    [
        (200.0, 1, None),  # epochs 2, 3 and 4: 600 s
        (200.0, 0, None),  # 800 s: the interval, and an epoch whose beginning was saved
        (250.0, 0, "trains 1000 s of work again from epoch 0, and is saved every 600 s"),
        (4000.0, 3, None),
        (4000.0, 1, "trains 12000 s"),
    ],
)
def test_what_is_trained_again_is_bounded_by_the_interval_and_an_epoch(
    seconds: float, begins: int, fault: str | None
) -> None:
    found = worked(*(epoch(step, seconds) for step in range(1, 5))).fault(begins, every_s=600.0)
    assert (found is None) if fault is None else (fault in (found or ""))


def test_an_attempt_resumes_from_the_newest_checkpoint_or_the_one_before() -> None:
    work = worked(
        epoch(4, 1.0, "/r/checkpoint-2.pt"), epoch(6, 1.0, "/r/checkpoint-5.pt"), epoch(9, 1.0, "/r/checkpoint-8.pt")
    )
    assert work.fault(8, 600.0) is None
    assert work.fault(5, 600.0) is None
    assert work.fault(2, 600.0) == "resumes from epoch 2, was saved at 8"


def test_work_that_a_fault_took_counts_again_only_when_it_was_done_again() -> None:
    """Two kills in a row cost the same epochs once."""
    work = worked(epoch(1, 500.0, "/r/checkpoint-1.pt"), epoch(2, 500.0), epoch(3, 500.0))
    work.begin(1)
    assert work.fault(1, 100.0) is None


def test_only_trials_of_ours_are_saved_by_the_clock_alone() -> None:
    assert seconds_between({"trainable": "patchtst", "checkpoint_every_s": 60}) == 60.0
    assert seconds_between({"trainable": "mine:objective", "checkpoint_every_s": 60}) == math.inf
    assert seconds_between({"trainable": "patchtst"}) == math.inf, "of a version that saved each epoch"

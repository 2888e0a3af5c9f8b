"""The benchmark of a cold status runs: its stand-in daemons answer as `supervisorctl status` expects."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks import status_latency
from benchmarks.stages.big_run import write_log, write_run
from benchmarks.stages.stand_in import StandIn, view


def test_a_round_measures_each_command(tmp_path: Path) -> None:
    small, large = status_latency.home_in(tmp_path / "small"), status_latency.home_in(tmp_path / "large")
    write_run(large, 5)
    write_log(large, 10)
    shown = view(small)
    bare = status_latency.Contender("bare", [sys.executable, "-c", "pass"])
    contenders = [bare, status_latency.ours("small", small), status_latency.ours("large", large)]
    with (
        status_latency.answering(small, StandIn(shown)),
        status_latency.answering(large, status_latency.Large(large, shown, 5)),
    ):
        (seconds,) = status_latency.measure(contenders, 1)
    assert len(seconds) == 3
    assert min(seconds) > 0.0

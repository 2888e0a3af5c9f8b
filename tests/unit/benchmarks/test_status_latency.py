"""The benchmark of a cold status runs: its stand-in daemon answers as `supervisorctl status` expects."""

from __future__ import annotations

from pathlib import Path

from benchmarks import status_latency
from supervisor.home import Home


def test_a_round_measures_both_commands(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.prepare()
    ((bare_s, status_s),) = status_latency.served(1, home)
    assert bare_s > 0.0
    assert status_s > 0.0

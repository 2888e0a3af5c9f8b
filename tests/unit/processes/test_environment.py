"""A child process gets an allow-list of variables and no secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from supervisor.home import Home
from supervisor.processes.environment import OWNER, ray_environment


def test_a_child_gets_only_the_variables_on_the_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    monkeypatch.setenv("LANG", "C.UTF-8")
    found = ray_environment(Home(tmp_path), "run-1", None)
    assert "AWS_SECRET_ACCESS_KEY" not in found
    assert "PYTHONPATH" not in found
    assert (found["LANG"], found[OWNER], found["SWEEP_RUN_ID"]) == ("C.UTF-8", Home(tmp_path).key, "run-1")
    assert (found["RAY_AUTH_MODE"], found["RAY_USAGE_STATS_ENABLED"]) == ("token", "0")
    assert ray_environment(Home(tmp_path), "run-1", tmp_path)["PYTHONPATH"] == str(tmp_path)
    monkeypatch.setenv("HF_HOME", "/models")
    named = ray_environment(Home(tmp_path), "run-1", None, ("HF_HOME", "NOT_SET_AT_ALL"))
    assert named.keys() - found.keys() == {"HF_HOME"}, "what the plan names is passed on where it is set"


def test_rays_memory_monitor_is_off(tmp_path: Path) -> None:
    """One kill by it ends a whole sweep; the governor, and at worst the kernel, decide which trial frees memory."""
    assert ray_environment(Home(tmp_path), "run-1", None)["RAY_memory_monitor_refresh_ms"] == "0"

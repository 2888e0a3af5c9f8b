"""A child process gets an allow-list of variables and no secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from supervisor.home import Home
from supervisor.preflight.machine import Level
from supervisor.preflight.start import check_environment
from supervisor.processes.environment import OWNER, absolute_paths, ray_environment


def test_a_child_gets_only_the_variables_on_the_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    monkeypatch.setenv("LANG", "C.UTF-8")
    found = ray_environment(Home(tmp_path), "run-1", None)
    assert "AWS_SECRET_ACCESS_KEY" not in found
    assert "PYTHONPATH" not in found
    assert (found["LANG"], found[OWNER], found["SWEEP_RUN_ID"]) == ("C.UTF-8", Home(tmp_path).key, "run-1")
    assert (found["RAY_AUTH_MODE"], found["RAY_USAGE_STATS_ENABLED"]) == ("token", "0")
    assert found["RAY_ENABLE_AUTO_CONNECT"] == "0"
    assert ray_environment(Home(tmp_path), "run-1", tmp_path)["PYTHONPATH"] == str(tmp_path)
    monkeypatch.setenv("HF_HOME", "/models")
    named = ray_environment(Home(tmp_path), "run-1", None, ("HF_HOME", "NOT_SET_AT_ALL"))
    assert named.keys() - found.keys() == {"HF_HOME"}, "what the plan names is passed on where it is set"


@pytest.mark.parametrize(
    "name",
    [
        "PYTORCH_MPS_HIGH_WATERMARK_RATIO", "PYTORCH_MPS_LOW_WATERMARK_RATIO", "PYTORCH_MPS_FAST_MATH",
        "PYTORCH_ENABLE_MPS_FALLBACK", "PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "CUDA_VISIBLE_DEVICES",
        "CUDA_DEVICE_ORDER", "CUDA_LAUNCH_BLOCKING", "CUDA_MODULE_LOADING", "CUBLAS_WORKSPACE_CONFIG",
    ],
)  # fmt: skip
def test_the_variables_of_accelerators_reach_the_trials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "as the user set it")
    assert ray_environment(Home(tmp_path), "run-1", None)[name] == "as the user set it"


def test_rays_memory_monitor_is_off(tmp_path: Path) -> None:
    """One kill by it ends a whole sweep; the governor, and at worst the kernel, decide which trial frees memory."""
    assert ray_environment(Home(tmp_path), "run-1", None)["RAY_memory_monitor_refresh_ms"] == "0"


@pytest.mark.parametrize("value", ["/a/src", "/a/src:/b/lib"])
def test_a_plans_pythonpath_comes_behind_the_folder_of_the_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("PYTHONPATH", value)
    assert ray_environment(Home(tmp_path), "r", tmp_path, ("PYTHONPATH",))["PYTHONPATH"] == f"{tmp_path}:{value}"
    assert ray_environment(Home(tmp_path), "r", None, ("PYTHONPATH",))["PYTHONPATH"] == value


@pytest.mark.parametrize(
    ("name", "value", "level"),
    [
        ("PYTHONPATH", "/a/src:/b/lib", Level.OK),
        ("HF_HOME", "/models", Level.OK),
        ("OMP_WAIT_POLICY", "ACTIVE", Level.ERROR),
        ("RAY_ROTATION_MAX_BYTES", "1", Level.ERROR),
        ("SWEEP_OWNER", "me", Level.ERROR),
        ("HF_HOME", None, Level.WARNING),
    ],
)
def test_the_check_of_passed_variables_asks_what_a_trial_gets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str | None, level: Level
) -> None:
    monkeypatch.delenv(name, raising=False)
    if value is not None:
        monkeypatch.setenv(name, value)
    found = check_environment([name], ray_environment(Home(tmp_path), "r", tmp_path, (name,)))
    assert found.level is level
    assert name in found.detail


def test_paths_become_absolute_from_the_folder_where_they_were_set(tmp_path: Path) -> None:
    given = {"PATH": "bin:/usr/bin:", "LD_LIBRARY_PATH": "", "CUDA_HOME": "cuda", "LANG": "C"}
    assert absolute_paths(given, tmp_path) == {
        "PATH": f"{tmp_path}/bin:/usr/bin:{tmp_path}", "CUDA_HOME": f"{tmp_path}/cuda",
    }  # fmt: skip

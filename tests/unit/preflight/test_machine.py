"""Test the checks of this machine: each has a level, and a remedy unless ok."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from supervisor.plan.expansion import expand
from supervisor.plan.loader import load_plan
from supervisor.plan.schema import Data
from supervisor.preflight import machine, start
from supervisor.preflight.machine import Level
from supervisor.preflight.start import check_wake_lock
from supervisor.processes import wake_lock

GIB = 2**30


def test_available_memory_is_positive_and_no_more_than_the_machines() -> None:
    assert 0 < machine.available_memory_bytes() <= psutil.virtual_memory().total


@pytest.mark.parametrize(
    ("version", "level"),
    [((3, 10), Level.ERROR), ((3, 11), Level.OK), ((3, 13), Level.OK), ((3, 14), Level.ERROR)],
)
def test_python_versions(version: tuple[int, int], level: Level) -> None:
    assert machine.check_python(version).level is level


@pytest.mark.parametrize(
    ("version", "level"),
    [
        ("2.60.0", Level.OK),
        ("2.60.3+cpu", Level.OK),
        ("2.61.0", Level.WARNING),
        ("2.61.0rc1", Level.WARNING),
        ("2.9", Level.WARNING),
        ("unparsable", Level.WARNING),
    ],
)
def test_versions_compare_by_number(monkeypatch: pytest.MonkeyPatch, version: str, level: Level) -> None:
    monkeypatch.setattr(machine.metadata, "requires", lambda _: ["ray[tune]<2.61,>=2.60"])
    monkeypatch.setattr(machine.metadata, "version", lambda _: version)
    (check,) = machine.check_libraries(["ray"])
    assert check.level is level


def test_a_missing_library_is_an_error_with_a_remedy() -> None:
    (check,) = machine.check_libraries(["no-such-library-of-anyone"])
    assert check.level is Level.ERROR
    assert check.remedy is not None


def test_the_libraries_of_this_installation_are_the_tested_ones() -> None:
    assert {check.name: check.level for check in machine.check_libraries(["ray", "optuna"])} == {
        "ray": Level.OK,
        "optuna": Level.OK,
    }


@pytest.mark.parametrize(
    ("free_bytes", "level"), [(GIB // 2, Level.ERROR), (2 * GIB, Level.WARNING), (9 * GIB, Level.OK)]
)
def test_free_space_is_checked_by_the_policys_two_limits(tmp_path: Path, free_bytes: int, level: Level) -> None:
    check = machine.check_disk(tmp_path / "not" / "yet", 4 * GIB, GIB, free_bytes)
    assert check.level is level
    assert (check.remedy is None) == (level is Level.OK)


def test_a_read_only_folder_is_an_error_and_a_writable_one_stays_unchanged(tmp_path: Path) -> None:
    good = machine.check_folder("state", tmp_path / "new" / "state")
    assert good.level is Level.OK
    assert list(tmp_path.iterdir()) == []
    assert machine.check_folder("state", Path("/proc/self")).level is Level.ERROR


def test_a_clock_that_was_never_set_is_an_error() -> None:
    assert machine.check_clock(0.0).level is Level.ERROR
    assert machine.check_clock(1.8e9).level is Level.OK


def test_data_are_built_imported_replaced_by_the_sample_or_missing(tmp_path: Path) -> None:
    data = Data(ticker="SPY", tier="a25")
    assert machine.check_data(None, tmp_path).level is Level.OK
    assert machine.check_data(data, tmp_path).level is Level.ERROR
    stood_in = machine.check_data(Data(ticker="SPY", tier="a25", fallback="sample"), tmp_path)
    assert stood_in.level is Level.WARNING
    assert "sample" in stood_in.detail
    assert machine.check_data(Data(ticker="SP500", tier="a25"), tmp_path).level is Level.OK
    for name in ("raw/SPY.parquet", "processed/SPY_dataset_a25.parquet"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
        assert machine.check_data(data, tmp_path).level is Level.OK


def test_a_trial_that_needs_more_cores_than_there_are_is_an_error() -> None:
    specs = expand(load_plan("phase6a", ["resources.cpu=2"]).plan, 25, only="200M")
    assert machine.check_cores(specs, 1).level is Level.ERROR
    assert machine.check_cores(specs, 2).level is Level.OK


def test_little_memory_and_root_are_warnings() -> None:
    assert machine.check_memory(GIB).level is Level.WARNING
    assert machine.check_memory(8 * GIB).level is Level.OK
    assert machine.check_user(0).level is Level.WARNING
    assert machine.check_user(1000).level is Level.OK


def test_the_verdict_says_whether_the_plan_can_start_and_names_what_is_wrong() -> None:
    fine, doubtful, bad = machine.check_python((3, 12)), machine.check_memory(1), machine.check_clock(0)
    assert machine.verdict([fine], "smoke") == "READY: smoke can start here"
    assert machine.verdict([fine, doubtful], "smoke") == "READY: smoke can start here; worth a look: memory"
    assert machine.verdict([fine, doubtful, bad], "p") == "NOT READY: p cannot start here: clock"


@pytest.mark.parametrize(
    ("script", "level", "words"),
    [
        ("#!/bin/sh\nexec cat\n", Level.OK, "held by"),
        ("#!/bin/sh\necho Access denied >&2; exit 1\n", Level.WARNING, "Access denied"),
        ("#!/bin/sh\necho Interactive authentication required. >&2; exit 1\n", Level.WARNING, "authentication"),
        (None, Level.WARNING, "is installed"),
    ],
)
def test_the_wake_lock_is_taken_not_guessed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str | None, level: Level, words: str
) -> None:
    """systemd-inhibit is there, and logind refuses: as on many servers and in containers."""
    program = tmp_path / "systemd-inhibit"
    if script is not None:
        program.write_text(script)
        program.chmod(0o755)
    command = None if script is None else [str(program)]
    monkeypatch.setattr(wake_lock, "command", lambda pid: command)
    found = check_wake_lock()
    assert found.level is level
    assert words in found.detail


@pytest.mark.parametrize(
    ("gpu", "counted", "level", "words"),
    [
        (1.0, "0\n", Level.ERROR, "a trial needs 1 (resources.gpu, and resources.nested), and Ray finds 0 here"),
        (2.0, "1\n", Level.ERROR, "a trial needs 2"),
        (0.5, "a warning of Ray\n1\n", Level.OK, "1, a trial needs up to 0.5"),
        (1.0, "no number\n", Level.ERROR, "Ray cannot count them"),
        (1.0, "", Level.ERROR, "Ray cannot count them"),
    ],
)
def test_a_gpu_that_is_not_there_forbids_the_start(
    monkeypatch: pytest.MonkeyPatch, gpu: float, counted: str, level: Level, words: str
) -> None:
    specs = expand(load_plan("smoke", [f"resources.gpu={gpu}"]).plan, 25)
    monkeypatch.setattr(start.subprocess, "run", lambda *_, **__: SimpleNamespace(stdout=counted))
    (found,) = start.check_gpus(specs)
    assert found.level is level
    assert words in found.detail
    assert (found.remedy is None) == (level is Level.OK)


def test_the_gpus_of_a_trials_own_tasks_are_needed_too(monkeypatch: pytest.MonkeyPatch) -> None:
    specs = expand(load_plan("smoke", ["resources={cpu: 1, nested: [{gpu: 1}]}"]).plan, 25)
    monkeypatch.setattr(start.subprocess, "run", lambda *_, **__: SimpleNamespace(stdout="0"))
    (found,) = start.check_gpus(specs)
    assert found.level is Level.ERROR


def test_a_plan_without_gpus_counts_none() -> None:
    assert start.check_gpus(expand(load_plan("smoke").plan, 25)) == []


def test_checks_are_rendered_and_the_worst_level_is_found() -> None:
    checks = [machine.check_python((3, 12)), machine.check_memory(1), machine.check_clock(0)]
    assert machine.worst(checks) is Level.ERROR
    assert machine.worst([]) is Level.OK
    lines = machine.render(checks).splitlines()
    assert [line.split()[0] for line in lines] == ["ok", "warning", "cure:", "error", "cure:"]
    assert json.dumps(checks[1].level) == '"warning"'

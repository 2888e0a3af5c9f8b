"""A driver without its Begin imports its libraries, and prepares itself when it is told to.

It ends with its daemon however far it has come.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import cast

import pytest

from actors.driver import __main__ as driver_process
from actors.driver import before_turn, ray_private
from actors.driver.__main__ import ORPHANED, Driver
from actors.driver.daemon_link import DaemonLink
from supervisor.domain.codec import decode
from supervisor.domain.messages import Begin, Hello, Prepare, TrialsBefore
from supervisor.domain.trials.begin_parts import in_parts
from supervisor.processes.environment import WARM_WORKERS
from tests.waits import NET_S


@pytest.mark.parametrize("at_once", [True, False])
def test_it_ends_when_its_daemon_does_before_its_turn(*, at_once: bool) -> None:
    reads, to_driver = os.pipe()
    from_driver, writes = os.pipe()
    command = [sys.executable, "-P", "-m", "actors.driver", f"--read-fd={reads}", f"--write-fd={writes}"]
    with subprocess.Popen(command, pass_fds=(reads, writes), stderr=subprocess.DEVNULL) as driver:
        os.close(reads)
        os.close(writes)
        with os.fdopen(from_driver, "rb") as stream:
            if not at_once:
                assert decode(stream.readline())[0] == Hello()
            os.close(to_driver)
            assert driver.wait(NET_S) == ORPHANED


def test_the_parts_of_its_begin_are_one_begin(tmp_path: Path) -> None:
    """However many parts: the daemon splits a begin that does not fit into a line."""
    trials = [{"number": number, "params": {"x": 0.1}, "results": []} for number in range(7)]
    begin = Begin("r", {"name": "e"}, trials, [], "127.0.0.1:1", str(tmp_path), {"policy": {}})
    driver = Driver(cast(DaemonLink, None))
    parts = list(in_parts(begin, part_bytes=1_200))
    assert [type(part) for part in parts] == [TrialsBefore, TrialsBefore, TrialsBefore, Begin]
    for part in parts:
        driver.on_message(part)
    assert driver._begin == begin


PREPARE = Prepare("here:1", {"name": "a"}, 2)
BEGIN = Begin("r", {"name": "a"}, [], [], "here:1", "folder", {})


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Return what a driver does before its turn, in order; it joins a Ray that is not there."""
    found: list[object] = []
    monkeypatch.setattr(Driver, "_join", lambda self, address: found.append(f"join {address}"))
    monkeypatch.setattr(before_turn, "warm_workers", lambda spec, count: found.append((spec["name"], count)))
    return found


def a_driver(*messages: Prepare | Begin) -> Driver:
    """Return a driver that has these messages of its daemon."""
    driver = Driver(DaemonLink(0, 1))
    for message in messages:
        driver.on_message(message)
    return driver


def test_it_joins_ray_and_starts_workers_when_it_is_told_to(
    told: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = a_driver(PREPARE)
    monkeypatch.setattr(before_turn, "warm_workers", lambda *_: driver.on_message(BEGIN))
    assert driver._wait_for_turn() == BEGIN
    assert told == ["join here:1"]


def test_at_its_turn_no_worker_is_started_that_a_trial_would_start(told: list[object]) -> None:
    assert a_driver(PREPARE, BEGIN)._wait_for_turn() == BEGIN
    assert told == ["join here:1"]


def test_without_a_word_it_waits_for_its_begin(told: list[object]) -> None:
    assert a_driver(BEGIN)._wait_for_turn() == BEGIN
    assert told == []


def test_one_that_cannot_join_ends_without_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Driver, address: str) -> None:
        raise ConnectionError(address)

    def end(status: int) -> None:
        raise SystemExit(status)

    monkeypatch.setattr(Driver, "_join", refuse)
    monkeypatch.setattr(driver_process, "_exit", end)
    with pytest.raises(SystemExit) as ended:
        a_driver(PREPARE)._wait_for_turn()
    assert ended.value.code == 1


@pytest.mark.parametrize(("trainable", "loads_torch"), [("patchtst", True), ("train:objective", False)])
def test_only_the_built_in_trainable_is_imported_before_its_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trainable: str, *, loads_torch: bool
) -> None:
    monkeypatch.setenv(WARM_WORKERS, str(tmp_path))
    monkeypatch.setattr(ray_private, "start_workers", id)
    before_turn.warm_workers({"trainable": trainable, "config": {"threads": 3}}, 1)
    (ticket,) = tmp_path.iterdir()
    assert ("training.session" in ticket.read_text()) is loads_torch
    assert ('"OMP_NUM_THREADS": "3"' in ticket.read_text()) is loads_torch


@pytest.mark.parametrize("fails", [False, True])
def test_workers_that_ray_does_not_start_are_left_to_the_trials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, fails: bool
) -> None:
    started: list[int] = []

    def start_workers(count: int) -> None:
        started.append(count)
        if fails:
            raise ConnectionError("refused")

    monkeypatch.setenv(WARM_WORKERS, str(tmp_path / "warm"))
    monkeypatch.setattr(ray_private, "start_workers", start_workers)
    spec = {"trainable": "train:objective", "config": {}}
    before_turn.warm_workers(spec, 2)
    assert len(list((tmp_path / "warm").iterdir())) == 2
    before_turn.warm_workers(spec, 0)
    assert started == [2]

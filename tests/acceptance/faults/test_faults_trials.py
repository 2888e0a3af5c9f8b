"""Test trials that run out of memory, hang or cannot be killed, in a real search."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import Sweep
from tests.acceptance.faults.evidence import audited, names, recorded, stored

TRIAL = """\
import os
import pathlib
import time

from ray import tune


class Troubled(tune.Trainable):
    "Keeps checkpoints. In its third epoch its trouble befalls it, once; `always` befalls it each time."

    def setup(self, config):
        self.steps, self.folder, self.trouble = 0, pathlib.Path(config["folder"]), config["trouble"]

    def reset_config(self, new_config):
        self.setup(new_config)
        return True

    def step(self):
        time.sleep(0.1)
        self.steps += 1
        if self.steps == 3 and self.befalls():
            getattr(self, self.trouble)()
        return {"loss": 1 / self.steps}

    def befalls(self):
        if self.trouble == "none":
            return False
        try:
            (self.folder / self.trouble).touch(exist_ok=self.trouble == "always_hangs")
        except FileExistsError:
            return False
        return True

    def wait_for_godot(self):
        while True:
            time.sleep(1)

    hangs = always_hangs = wait_for_godot

    def is_killed_for_memory(self):
        group = self.folder / "group"
        (pathlib.Path(group.read_text()) / "cgroup.procs").write_text(str(os.getpid()))
        # A look that had begun before may have read the old group; the next one reads this one.
        for _ in range(2):
            self.wait_until_the_watchdog_has_looked()
        held = []
        while True:
            held.append(bytearray(os.urandom(1 << 20) * 8))

    def wait_until_the_watchdog_has_looked(self):
        "Leave the stacks of a process that cannot be there: the watchdog deletes them at the end of a look."
        (beats,) = pathlib.Path((self.folder / "runtime").read_text()).glob("*.heartbeats")
        left = beats / "4194305.stacks"  # larger than any pid of Linux
        left.touch()
        deadline = time.monotonic() + 300.0
        while left.exists():
            assert time.monotonic() < deadline, "the watchdog has not looked for five minutes"
            time.sleep(0.1)

    def is_stuck(self):
        group = pathlib.Path((self.folder / "freezer").read_text())
        (group / "cgroup.procs").write_text(str(os.getpid()))
        (group / "freezer.state").write_text("FROZEN")
        self.wait_for_godot()

    def device_is_full(self):
        import torch

        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    def save_checkpoint(self, folder):
        return {"steps": self.steps}

    def load_checkpoint(self, state):
        self.steps = state["steps"]
"""
PLAN = """\
name: troubled
description: trials to which something befalls
trainable: troubled:Troubled
seed: 1
metric: loss
mode: min
config: {{folder: "{folder}"}}
space:
  trouble: {{type: categorical, choices: [{choices}]}}
enqueue: [{enqueue}]
max_trials: {trials}
max_epochs: 5
concurrency: 2
resources: {{cpu: 1}}
sampler: {{kind: random}}
pruner: {{kind: none}}
max_failures: 1
checkpoint_every_s: 0
wake_lock: false
hardware: {{memory_shed_percent: 97, memory_pause_percent: 98, memory_critical_percent: 99,
  disk_hold_bytes: 2.0e+6, disk_pause_bytes: 1.0e+6, hung_min_s: 20, hung_first_s: 40, hung_first_step_s: 40}}
"""


@pytest.fixture
def small_group() -> Iterator[Path]:
    """Make a control group of 512 MiB below our own; the kernel kills a process in it that wants more."""
    version_1 = Path("/sys/fs/cgroup/memory")
    lines = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    ours = next((path for _, kinds, path in lines if kinds == ("memory" if version_1.is_dir() else "")), "/")
    top = version_1 if version_1.is_dir() else Path("/sys/fs/cgroup")
    group = top / ours.lstrip("/") / f"sweep-test-{os.getpid()}"
    try:
        group.mkdir()
        limit = "memory.limit_in_bytes" if version_1.is_dir() else "memory.max"
        (group / limit).write_text(str(512 << 20))
    except OSError as error:
        pytest.skip(f"no control group with a limit can be made here: {error}")
    yield group
    group.rmdir()


@pytest.fixture
def freezer() -> Iterator[Path]:
    """Make a control group that can freeze: a frozen process takes no signal, as if it waited for a dead disk."""
    group = Path("/sys/fs/cgroup/freezer") / f"sweep-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no process can be made to ignore KILL here: {error}")
    try:
        yield group
    finally:
        (group / "freezer.state").write_text("THAWED")
        for _ in range(100):
            if not (group / "cgroup.procs").read_text():
                break
            time.sleep(0.1)
        group.rmdir()


def begin(sweep: Sweep, *troubles: str) -> None:
    """Start a search of one trial for each trouble."""
    (sweep.folder / "troubled.py").write_text(TRIAL)
    plan = sweep.folder / "troubled.yaml"
    enqueue = ", ".join(f"{{trouble: {trouble}}}" for trouble in troubles)
    choices = ", ".join(dict.fromkeys([*troubles, "none"]))
    plan.write_text(PLAN.format(folder=sweep.folder, choices=choices, enqueue=enqueue, trials=len(troubles)))
    said = sweep.d("start", str(plan))
    assert said.returncode == 0, said.stderr


def of_trial(events: list[dict[str, Any]], number: int, *wanted: str) -> list[dict[str, Any]]:
    return [event for event in events if event.get("trial") == number and event["event"] in wanted]


@pytest.mark.slow
@pytest.mark.fault(
    "23", "the kernel kills a worker for its memory", "lost as oom_killed, tried again; the other trials go on"
)
@pytest.mark.fault("24", "CUDA is out of memory", "lost as oom, tried again from its checkpoint",
                   faked="the error of torch")  # fmt: skip
@pytest.mark.fault("25", "a trial hangs", "its stacks are written, it is killed and resumes from its checkpoint")
@pytest.mark.fault("25", "a trial hangs again and again", "ended as hung after its last retry; the search continues")
def test_a_search_survives_trials_that_hang_and_run_out_of_memory(sweep: Sweep, small_group: Path) -> None:
    (sweep.folder / "group").write_text(str(small_group))
    (sweep.folder / "runtime").write_text(str(sweep.home.runtime()))
    # The kill before any hang: whoever ends a hanging worker has no eye for what else changes its control group.
    begin(sweep, "is_killed_for_memory", "device_is_full", "hangs", "always_hangs", "none")
    assert sweep.ctl("wait").returncode == 3, "one trial has failed"

    events = audited(sweep.home, "troubled")
    assert names(events).count("daemon.started") == 1
    assert not {"driver.exited", "driver.hung", "ray.exited"} & set(names(events))
    ends = {row["number"]: row["end_reason"] for row in stored(sweep.home, "SELECT * FROM trial")}
    assert ends == {0: "finished", 1: "finished", 2: "finished", 3: "hung", 4: "finished"}
    causes = [[event["cause"] for event in of_trial(events, number, "trial.requeued")] for number in range(5)]
    assert causes == [["oom_killed"], ["oom"], ["hung"], ["hung"], []]
    for number in range(3):
        resumed = [event["resumed_step"] for event in of_trial(events, number, "trial.started")]
        assert resumed == [None, 2], "it goes on from its checkpoint"
    hung = of_trial(events, 2, "trial.hung") + of_trial(events, 3, "trial.hung")
    assert [event["attempt"] for event in hung] == [1, 1, 2]
    assert all("wait_for_godot" in Path(event["dump"]).read_text() for event in hung)
    assert "silent for" in of_trial(events, 3, "trial.failed")[0]["error"]


@pytest.mark.slow
@pytest.mark.fault("27", "not even KILL ends a worker", "recorded as stuck; its slot stays taken until it is gone")
def test_a_worker_that_cannot_be_killed_is_recorded_and_its_slot_stays_taken(sweep: Sweep, freezer: Path) -> None:
    (sweep.folder / "freezer").write_text(str(freezer))
    begin(sweep, "is_stuck", "none", "none", "none")
    sweep.until("it is recorded", lambda _: "worker.stuck" in names(recorded(sweep.home, "troubled")))
    sweep.until("the others go on", lambda view: view["experiments"][0]["ended"] == 3)
    (stuck,) = [event for event in recorded(sweep.home, "troubled") if event["event"] == "worker.stuck"]
    (begun,) = of_trial(recorded(sweep.home, "troubled"), 0, "trial.started")
    assert (stuck["trial"], stuck["attempt"], stuck["pid"]) == (0, 1, begun["worker_pid"])
    assert not of_trial(recorded(sweep.home, "troubled"), 0, "trial.requeued"), "it lives, so nobody else may be it"
    (freezer / "freezer.state").write_text("THAWED")
    assert sweep.ctl("wait").returncode == 0

    events = audited(sweep.home, "troubled")
    assert names(events).count("worker.stuck") == 1
    assert [event["cause"] for event in of_trial(events, 0, "trial.requeued")] == ["hung"]
    assert [event["resumed_step"] for event in of_trial(events, 0, "trial.started")] == [None, 2]
    assert {row["end_reason"] for row in stored(sweep.home, "SELECT * FROM trial")} == {"finished"}

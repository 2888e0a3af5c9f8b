"""Ray's own processes, killed in a real search, and its session's folder, deleted and filled."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from supervisor.daemon import assembly
from supervisor.daemon.experiments import ray_session
from supervisor.home import Home
from supervisor.processes import orphans
from tests import waits
from tests.acceptance.conftest import Sweep, driver_pid
from tests.acceptance.faults.evidence import audited, names, recorded, stored
from tests.acceptance.faults.stories import finishes, is_gone, story
from tests.acceptance.lives import FakeHead, Setting, check_everything, living, until_recorded
from tests.acceptance.mounts import fill, memory_of, mounted

TRIAL = """\
import pathlib
import subprocess
import time

from ray import tune


class Patient(tune.Trainable):
    "Keeps checkpoints. Where x is below 0 its third epoch gives no number. The first of all leaves a child behind."

    def setup(self, config):
        self.steps, self.folder = 0, pathlib.Path(config["folder"])
        self.x, self.epoch_s = config["x"], config["epoch_s"]
        try:
            (self.folder / "child").touch(exist_ok=False)
        except FileExistsError:
            return
        child = subprocess.Popen(["sleep", "600"], start_new_session=True)
        (self.folder / "child").write_text(str(child.pid))

    def step(self):
        time.sleep(0.0 if (self.folder / "hurry").exists() else self.epoch_s)
        self.steps += 1
        return {"loss": float("nan") if self.x < 0 and self.steps > 2 else (self.x - 1) ** 2 + 1 / self.steps}

    def reset_config(self, new_config):
        self.setup(new_config)
        return True

    def save_checkpoint(self, folder):
        return {"steps": self.steps}

    def load_checkpoint(self, state):
        self.steps = state["steps"]
"""
PLAN = """\
name: {name}
description: patients for faults of Ray
trainable: patient:Patient
seed: 1
metric: loss
mode: min
config: {{folder: "{folder}", epoch_s: {epoch_s}}}
space:
  x: {{type: float, low: -3, high: 3}}
enqueue: [{{x: -1.5}}, {{x: 0.5}}, {{x: 2.0}}]
max_trials: {trials}
max_epochs: {epochs}
concurrency: 2
resources: {{cpu: 1}}
sampler: {{kind: tpe, startup_trials: 3}}
pruner: {{kind: none}}
checkpoint_every_s: 0
wake_lock: false
# This is about faults, not about a machine that many tests share.
hardware: {{memory_shed_percent: 97, memory_pause_percent: 98, memory_critical_percent: 99,
  disk_hold_bytes: 2.0e+6, disk_pause_bytes: 1.0e+6}}
"""


def begin(sweep: Sweep, name: str, **sizes: Any) -> str:
    """Start the search; return the text that `start` prints."""
    (sweep.folder / "patient.py").write_text(TRIAL)
    plan = sweep.folder / f"{name}.yaml"
    plan.write_text(PLAN.format(name=name, folder=sweep.folder, **sizes))
    said = sweep.d("start", str(plan))
    assert said.returncode == 0, said.stderr
    return said.stdout


class Search:
    """A real search at work, as its log tells it."""

    def __init__(self, sweep: Sweep, plan: str) -> None:
        self.sweep, self.plan = sweep, plan

    def events(self) -> list[dict[str, Any]]:
        return recorded(self.sweep.home, self.plan)

    def until(self, what: str, test: Callable[[list[dict[str, Any]]], Any]) -> Any:
        """Wait until `test` returns something true for the events; return that."""

        def look() -> Any:
            with contextlib.suppress(FileNotFoundError):
                return test(self.events())
            return None

        return waits.until(what, look, lambda: names(self.events()), period_s=0.1)

    def until_work(self, seq: int) -> None:
        """Wait until a trial that began after event `seq` has reported."""

        def works(events: list[dict[str, Any]]) -> bool:
            begun = {(e["trial"], e["attempt"]) for e in events if e["event"] == "trial.started" and e["seq"] > seq}
            return any(
                (e["trial"], e["attempt"]) in begun
                for e in events
                if e["event"] in ("trial.reported", "trial.repeated")
            )

        self.until("a trial reports after the fault", works)

    def processes(self, *marks: str) -> list[psutil.Process]:
        """Return the processes of this search whose command line holds every one of `marks`."""
        found = []
        for process in orphans.find(self.sweep.home.key):
            with contextlib.suppress(psutil.Error):
                line = " ".join(process.cmdline())
                if all(mark in line for mark in marks):
                    found.append(process)
        return found

    def last_seq(self) -> int:
        return int(self.events()[-1]["seq"])


def worker_at_work(events: list[dict[str, Any]]) -> int | None:
    """Return the worker's pid of the trial that reported last, if it still works.

    Such a trial has a checkpoint.
    """
    reports = [e for e in events if e["event"] == "trial.reported"]
    if not reports:
        return None
    last = reports[-1]
    over = {
        (e["trial"], e["attempt"]) for e in events if e["event"] in ("trial.finished", "trial.failed", "trial.requeued")
    }
    if (last["trial"], last["attempt"]) in over:
        return None
    starts = [e for e in events if e["event"] == "trial.started"]
    pids = [e["worker_pid"] for e in starts if (e["trial"], e["attempt"]) == (last["trial"], last["attempt"])]
    return int(pids[0]) if pids else None


def study_of(sweep: Sweep) -> list[dict[str, Any]]:
    """Return the entries of the study's journal."""
    (journal,) = sweep.home.runs.glob("*/*/study.journal")
    return [json.loads(line) for line in journal.read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.fault("22", "kill -9 of a trial's worker", "lost as infrastructure, tried again from its checkpoint")
@pytest.mark.fault(
    "19", "kill -9 of the driver of a real search", "its trials resume from their checkpoints, once each"
)
@pytest.mark.fault("26", "a trial's loss is NaN", "ended as diverged, not tried again; no NaN reaches store or sampler")
@pytest.mark.fault(
    "28", "a trial's child of its own session outlives its worker", "ended before the next driver begins"
)
@pytest.mark.fault("31", "the dashboard's port is taken", "another is used, recorded and shown by status")
def test_a_search_survives_its_worker_and_its_driver(sweep: Sweep) -> None:
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # another program has it already
            stack.enter_context(socket.create_server(("127.0.0.1", 8265)))
        printed = begin(sweep, "patients", trials=4, epochs=5, epoch_s=0.4)
    search = Search(sweep, "patients")
    (dashboard,) = [event["dashboard"] for event in search.events() if event["event"] == "ray.started"]
    assert not dashboard.endswith(":8265")
    assert dashboard in printed
    assert dashboard in sweep.ctl("status").stdout

    worker = search.until("a trial with a checkpoint is at work", worker_at_work)
    seq = search.last_seq()
    os.kill(worker, signal.SIGKILL)
    search.until("its attempt is lost", lambda events: "trial.requeued" in names(events))
    search.until_work(seq)
    child = int((sweep.folder / "child").read_text())
    assert not is_gone(child), "nobody has ended it yet"

    search.until("a trial with a checkpoint is at work", worker_at_work)
    os.kill(driver_pid(search.events()), signal.SIGKILL)
    search.until("another driver", lambda events: names(events).count("driver.started") == 2)
    assert is_gone(child)
    (sweep.folder / "hurry").touch()
    assert sweep.ctl("wait").returncode == 0

    events = audited(sweep.home, "patients")
    causes = [event["cause"] for event in events if event["event"] == "trial.requeued"]
    assert causes[0] == "worker_died"
    assert set(causes[1:]) == {"driver_died"}
    resumed = [event["resumed_step"] for event in events if event["event"] == "trial.started" and event["attempt"] > 1]
    assert resumed[0] is not None
    assert [e["reason"] for e in events if e["event"] == "driver.exited"] == ["signal SIGKILL"]
    # By whom, test_faults_driver asks: on a busy machine something else was seen to clear up first.
    swept = [text for e in events if e["event"] == "orphans.ended" for text in e["processes"]]
    assert not swept or f"{child} sleep" in swept
    assert "ray.exited" not in names(events), "what Ray still needs is left alone"

    trials = {trial["number"]: trial for trial in stored(sweep.home, "SELECT * FROM trial")}
    assert json.loads(trials[0]["params"])["x"] == -1.5
    assert (trials[0]["end_reason"], trials[0]["value"]) == ("diverged", None)
    assert {trials[1]["end_reason"], trials[2]["end_reason"]} == {"finished"}
    assert stored(sweep.home, "SELECT value FROM result WHERE trial = 0 AND step = 3") == [{"value": None}]
    values = [value for entry in study_of(sweep) for value in entry.get("values") or ()]
    assert values, "the study knows the others"
    assert all(value == value for value in values)
    assert all(value > 0 for value in values), "nor a number that stands for one"


def gcs(search: Search) -> None:
    _kill(search.processes("gcs_server"))


def raylet(search: Search) -> None:
    _kill(search.processes("raylet/raylet"))


def agent(search: Search) -> None:
    """Kill the raylet's agents.

    They are found as its children: an agent writes its title over its environment, and so over the mark.
    """
    (found,) = search.processes("raylet/raylet")
    _kill([child for child in found.children() if any("agent" in part.lower() for part in child.cmdline()[:3])])


def folder(search: Search) -> None:
    shutil.rmtree(search.sweep.home.ray_temp)


def _kill(processes: list[psutil.Process]) -> None:
    assert processes
    for process in processes:
        # A raylet ends when one of its agents does, and the other agent with it.
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


@pytest.mark.slow
@pytest.mark.fault(
    "20", "kill -9 of gcs_server", "seen at once; the driver is killed, Ray and driver start again, trials resume"
)
@pytest.mark.fault("21", "kill -9 of the raylet", "the whole session starts again, its orphans are ended")
@pytest.mark.fault("21", "kill -9 of Ray's agents", "the search continues, whatever Ray does")
@pytest.mark.fault("30", "the folder of Ray's session is deleted", "Ray starts again, trials resume")
def test_a_search_survives_every_part_of_ray(sweep: Sweep) -> None:
    begin(sweep, "parts", trials=12, epochs=12, epoch_s=0.5)
    search = Search(sweep, "parts")
    for blow in (gcs, raylet, agent, folder):
        search.until("a trial with a checkpoint is at work", worker_at_work)
        before, seq = names(search.events()).count("ray.started"), search.last_seq()
        blow(search)
        if blow is not agent:
            search.until("a new head", lambda events, n=before: names(events).count("ray.started") > n)  # type: ignore[misc]
        search.until_work(seq)
        heads = search.processes("gcs_server")
        assert len(heads) == 1, f"after {blow.__name__}: one session, nothing of the last"
    (sweep.folder / "hurry").touch()
    assert sweep.ctl("wait").returncode == 0

    events = audited(sweep.home, "parts")
    lost = [event["path"] for event in events if event["event"] == "ray.session_lost"]
    assert all(path.startswith(str(sweep.home.ray_temp)) for path in lost)
    assert names(events).count("ray.exited") >= 3, "a raylet without its agents ends, too, but need not"
    assert {event["cause"] for event in events if event["event"] == "trial.requeued"} <= {"driver_died", "worker_died"}
    resumed = [e["resumed_step"] for e in events if e["event"] == "trial.started" and e["attempt"] > 1]
    assert any(step is not None for step in resumed)
    ends = {row["end_reason"] for row in stored(sweep.home, "SELECT end_reason FROM trial")}
    assert ends <= {"finished", "diverged"}


# The session's folder, as the daemon sees it: without Ray


class FolderHead(FakeHead):
    """Ray's session is a folder with two sockets' names in it; the head ends on request."""

    made = 0

    def __init__(self, home: Home, *rest: Any) -> None:
        super().__init__()
        self._temp, self._over = home.ray_temp, asyncio.Event()

    async def start(self) -> None:
        FolderHead.made += 1
        session = self._temp / f"session_{FolderHead.made}"
        (session / "sockets").mkdir(parents=True)
        for name in ray_session.SOCKETS:
            (session / "sockets" / name).touch()
        latest = self._temp / "session_latest"
        latest.unlink(missing_ok=True)
        latest.symlink_to(session)

    async def exited(self) -> int:
        await self._over.wait()
        return 0

    async def stop(self) -> None:
        self._over.set()


def with_folders() -> None:
    assembly.RayHead = FolderHead  # type: ignore[misc, assignment]
    ray_session.PERIOD_S = 0.1


SLOW = story("def at(number, attempt, step):\n    rest('PAUSE')\n    time.sleep(0.3)\n    rest('PAUSE')\n")


@pytest.mark.fault("30", "a socket of Ray's session is deleted", "recorded with its path; Ray and driver start again")
def test_a_session_that_lost_a_socket_is_replaced(home: Home) -> None:
    with living(home, Setting(driver=SLOW, change=with_folders)) as it:
        until_recorded(home, "trial.reported")
        socket_of_raylet = home.ray_temp / "session_1" / "sockets" / "raylet"
        socket_of_raylet.unlink()
        finishes(home, it)
    events = check_everything(home)
    assert [event["path"] for event in events if event["event"] == "ray.session_lost"] == [str(socket_of_raylet)]
    seen = names(events)
    assert seen.index("ray.session_lost") < seen.index("ray.exited") < seen.index("driver.exited")
    assert (seen.count("ray.started"), seen.count("driver.started")) == (2, 2)


@pytest.mark.fault(
    "30", "the disk of Ray's session is full", "paused with the cause, resumed when there is space again"
)
def test_a_full_disk_under_rays_session_pauses_the_run(home: Home) -> None:
    home.prepare()
    with mounted(home.ray_temp, *memory_of("160m")), living(home, Setting(driver=SLOW, change=with_folders)) as it:
        until_recorded(home, "trial.reported")
        filler = home.ray_temp / "filler"
        fill(filler)
        until_recorded(home, "experiment.paused")
        filler.unlink()
        finishes(home, it)
    events = check_everything(home)
    assert [e["folder"] for e in events if e["event"] in ("disk.filled", "disk.freed")] == [str(home.ray_temp)] * 2
    (paused,) = [event["reason"] for event in events if event["event"] == "experiment.paused"]
    assert paused == "the disk of Ray's session folder is full"
    seen = names(events)
    assert seen.count("experiment.resumed") == 1
    assert "trial.reported" not in seen[seen.index("experiment.paused") + 2 : seen.index("experiment.resumed")]

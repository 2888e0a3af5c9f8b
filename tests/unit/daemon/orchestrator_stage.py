"""Provide a stage for the orchestrator: story-playing drivers and a fake Ray head."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import pytest

from supervisor.clock import Clock
from supervisor.daemon.orchestrator import Orchestrator
from supervisor.daemon.stop_request import StopRequest
from supervisor.daemon.upkeep.disk_reserve import DiskReserve, ReserveLimits
from supervisor.domain.command import Action, Command, Origin
from supervisor.errors import RayStartFailed
from supervisor.home import Home
from supervisor.preflight.concurrency import Choice
from supervisor.processes.driver_process import DriverProcess
from supervisor.processes.ray_head import RayHead
from supervisor.report.process import ReportAhead
from supervisor.store import queries
from supervisor.store.database import Store
from supervisor.store.run_writer import RunWriter, create_run

FAKE_DRIVER = """
import argparse, os, pathlib, signal, threading, time
from supervisor.domain import codec
from supervisor.domain import messages as link

parser = argparse.ArgumentParser()
parser.add_argument("--read-fd", type=int)
parser.add_argument("--write-fd", type=int)
arguments = parser.parse_args()
inbox, outbox = os.fdopen(arguments.read_fd, "rb"), os.fdopen(arguments.write_fd, "wb", 0)
received, lock = [], threading.Condition()

def write(message, number=None):
    outbox.write(codec.encode(message, number))

def listen():
    for line in inbox:
        with lock:
            received.append(codec.decode(line)[0])
            lock.notify_all()
    os._exit(70)

def await_message(fits):
    with lock:
        while not any(fits(each) for each in received):
            lock.wait()
        return next(each for each in received if fits(each))

count = 0
def send(message):
    global count
    count += 1
    write(message, count)
    await_message(lambda each: each == link.Ack(count))

write(link.Hello())
if os.environ.get("STORY") == "deaf":
    while True:
        write(link.Heartbeat())
        time.sleep(0.05)
threading.Thread(target=listen, daemon=True).start()
begin = await_message(lambda each: isinstance(each, link.Begin))
starts = pathlib.Path(begin.folder) / "starts"
life = len(starts.read_text()) if starts.exists() else 0
starts.write_text("x" * (life + 1))
with (starts.parent / "forced").open("a") as forced:
    forced.write(f"{begin.watchdog.get('forced_s')} ")
stories = begin.experiment["stories"]
attempts = {trial["number"]: trial["attempt"] for trial in begin.trials}

def begin_trial(number):
    attempt = attempts.get(number, 0) + 1
    send(link.TrialAdded(number, {"lr": 0.1}, "sampled"))
    send(link.TrialStarted(number, attempt, "ray", "node", 1, None))
    return attempt

for step, *facts in stories[min(life, len(stories) - 1)]:
    if step == "result":
        attempt = begin_trial(facts[0])
        send(link.ResultReported(facts[0], attempt, facts[1], 0.5, {}, None))
    elif step == "trial":
        attempt = begin_trial(facts[0])
        send(link.ResultReported(facts[0], attempt, 1, facts[1], {"time_this_iter_s": 2.0}, None))
        send(link.TrialEnded(facts[0], attempt, "finished", facts[1], None, {}))
    elif step == "message":
        kind = getattr(link, facts[0])
        send(kind(**facts[1]))
    elif step == "garbage":
        outbox.write(b"Traceback (most recent call last):\\n")
        time.sleep(60)
    elif step == "sleep":
        time.sleep(60)
    elif step == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    elif step == "await":
        await_message(lambda each: type(each).__name__ == facts[0])
    elif step == "exit":
        os._exit(0)
    elif step == "finish":
        await_message(lambda each: isinstance(each, link.Finish))
        os._exit(0)
    elif step == "fail":
        send(link.ExperimentEnded(*facts))
        os._exit(1)
send(link.ExperimentEnded(None))
"""

DONE: list[list[Any]] = [["trial", 0, 0.25], ["trial", 1, 0.75]]
SILENCE_S = 5.0


class FakeHead:
    """Stands in for a Ray head: `die` ends it by itself, `broken` lets no head start."""

    broken = False

    def __init__(self) -> None:
        self.address, self.dashboard, self.pid = "127.0.0.1:1", "http://127.0.0.1:2", 3
        self.port_taken: int | None = None
        self._ended = asyncio.Event()
        self.stopped = False

    async def start(self) -> None:
        if self.broken:
            raise RayStartFailed("Ray did not start")

    async def exited(self) -> int:
        await self._ended.wait()
        return 1

    async def stop(self) -> None:
        self.stopped = True

    def die(self) -> None:
        self._ended.set()


class FakeReport:
    """Stands in for the report's process: it notes what is asked of it."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def start(self, view: dict[str, Any]) -> None:
        self.asked.append(f"start with {len(view['experiments'])}")

    async def end(self) -> None:
        self.asked.append("end")


class Stage:
    """A store with one run of fake experiments, and orchestrators that run it, one life after another."""

    def __init__(self, folder: Path, max_hours: float | None = None, **stories: list[list[list[Any]]]) -> None:
        self.home = Home(folder)
        self.home.runs.mkdir()
        self.store = Store(folder / "sweep.db", Clock())
        specs = [
            {
                "name": name,
                "mode": "min",
                "max_trials": 2,
                "max_epochs": 2,
                "concurrency": 1,
                "max_hours": max_hours,
                "stories": story,
                "resources": {"auto": True, "cpu": 1.0, "gpu": 0.0},
                "config": {"threads": 1},
            }
            for name, story in stories.items()
        ]  # fmt: skip
        create_run(
            self.store, "r", plan="p", fingerprint="f", source="built-in", plan_text="", hardware={}, data={},
            specs=specs,
        )  # fmt: skip
        self.writer = RunWriter(self.store, "r")
        self.heads: list[FakeHead] = []
        self.too_large: set[str] = set()
        self.trial_seconds: dict[str, dict[int, float]] = {}
        self.silences_s: list[float] = []
        """Limits of silence of the first drivers, in seconds; those after them have time, however busy the machine."""
        self.environment = dict(os.environ)
        self.reserve = DiskReserve(folder, Clock(), ReserveLimits(reserve_bytes=4096), free=lambda _: 1 << 30)
        self.now: Orchestrator | None = None
        self.report = FakeReport()
        self.choices: dict[str, Choice] = {}
        self.choosing: Callable[[], Awaitable[None]] | None = None

    def _new_head(self) -> RayHead:
        self.heads.append(FakeHead())
        return cast(RayHead, self.heads[-1])

    def _new_driver(self, name: str) -> DriverProcess:
        log = self.home.run_folder("r") / name / "driver.log"
        silence_s = self.silences_s.pop(0) if self.silences_s else SILENCE_S
        return DriverProcess(self.environment, log, silence_s, (sys.executable, "-c", FAKE_DRIVER))

    async def _choose_share(self, spec: dict[str, Any]) -> Choice | None:
        if self.choosing is not None:
            await self.choosing()
        return self.choices.pop(spec["name"], None)

    def live(
        self, *scenes: Callable[[Orchestrator], Awaitable[None]], stop: str = "", begin: bool = False
    ) -> None:  # fmt: skip
        """Live one daemon's life; each of `scenes` happens beside it, and `stop` is asked before it begins.

        `begin`: as a daemon does, first start Ray, and meanwhile the first driver.
        """

        async def life() -> None:
            self.writer.recover()
            self.now = Orchestrator(
                self.home, self.writer, Clock(), StopRequest(), self.reserve, self._new_head, self._new_driver,
                lambda spec: "too large" if spec["name"] in self.too_large else None, self._choose_share,
                {"gate": "none"}, lambda spec: self.trial_seconds.get(spec["name"]), cast(ReportAhead, self.report),
            )  # fmt: skip
            if stop:
                self.now.stop.ask(stop)
            if begin:
                await self.now.begin()
            beside = [asyncio.ensure_future(scene(self.now)) for scene in scenes]
            try:
                async with asyncio.timeout(60.0):
                    await self.now.run()
                    await self.now.end_ray()
                    await asyncio.gather(*beside)
            finally:
                for each in beside:
                    each.cancel()

        asyncio.run(life())

    def states(self) -> dict[str, str]:
        return {row["name"]: row["state"] for row in self.store.rows("SELECT * FROM experiment ORDER BY ordinal")}

    def reason(self, name: str) -> str:
        return str(self.store.rows("SELECT reason FROM experiment WHERE name = ?", name)[0]["reason"])

    def recorded(self, *names: str) -> list[tuple[str, str | None]]:
        """Return name and experiment of the events with these names, in order."""
        return [(event.name, event.experiment) for event in self.store.events_after(0) if event.name in names]

    def facts(self, name: str) -> list[dict[str, Any]]:
        return [event.fields for event in self.store.events_after(0) if event.name == name]

    def trials(self, name: str) -> list[tuple[Any, ...]]:
        trials = queries.trials_of(self.store.connection, "r", name)
        return [(trial["number"], trial["state"], trial["attempt"], trial["value"]) for trial in trials]


async def until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 30.0
    while not holds():
        assert time.monotonic() < deadline, f"expected: {what}"
        await asyncio.sleep(0.01)


def governors(action: Action) -> list[Any]:
    """Return the line of a story in which the governor of a node asks for an action."""
    command = Command(action, Origin.GOVERNOR, "92 C", "node-1", 1.0, drill=True)
    return ["message", "ActionChanged", {"node": "node-1", "command": command.to_json()}]


def first_spawn_fails(monkeypatch: pytest.MonkeyPatch) -> list[OSError]:
    """Let the first driver's process not start; return the errors that are still to come."""
    real, failures = DriverProcess.spawn, [OSError(11, "Resource temporarily unavailable")]

    async def spawn(self: DriverProcess) -> None:
        if failures:
            raise failures.pop()
        await real(self)

    monkeypatch.setattr(DriverProcess, "spawn", spawn)
    return failures

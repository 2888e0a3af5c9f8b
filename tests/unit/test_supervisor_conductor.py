"""The conductor, with drivers that play a story over the real link and a Ray head that is none."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import pytest

from supervisor import conductor, snapshot
from supervisor.clock import Clock
from supervisor.cluster_view import NodeView, summarise
from supervisor.command import Command, Origin, Rung
from supervisor.conductor import MAX_FRUITLESS_STARTS, Conductor
from supervisor.driver_process import DriverProcess
from supervisor.errors import Conflict, RayStartFailed
from supervisor.home import Home
from supervisor.ledger import Ledger, create_run
from supervisor.ray_head import RayHead
from supervisor.store import Store

FAKE_DRIVER = """
import argparse, os, pathlib, signal, threading, time
from supervisor import link

parser = argparse.ArgumentParser()
parser.add_argument("--read-fd", type=int)
parser.add_argument("--write-fd", type=int)
arguments = parser.parse_args()
inbox, outbox = os.fdopen(arguments.read_fd, "rb"), os.fdopen(arguments.write_fd, "wb", 0)
heard, lock = [], threading.Condition()

def say(message, number=None):
    outbox.write(link.encode(message, number))

def listen():
    for line in inbox:
        with lock:
            heard.append(link.decode(line)[0])
            lock.notify_all()
    os._exit(70)

def await_message(fits):
    with lock:
        while not any(fits(each) for each in heard):
            lock.wait()
        return next(each for each in heard if fits(each))

count = 0
def tell(message):
    global count
    count += 1
    say(message, count)
    await_message(lambda each: each == link.Ack(count))

say(link.Hello(os.getpid(), {}))
if os.environ.get("STORY") == "deaf":
    while True:
        say(link.Heartbeat(0))
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
    tell(link.TrialAdded(number, {"lr": 0.1}, "sampled"))
    tell(link.TrialStarted(number, attempt, "ray", "node", 1, None))
    return attempt

for step, *facts in stories[min(life, len(stories) - 1)]:
    if step == "result":
        attempt = begin_trial(facts[0])
        tell(link.ResultReported(facts[0], attempt, facts[1], 0.5, {}, None))
    elif step == "trial":
        attempt = begin_trial(facts[0])
        tell(link.ResultReported(facts[0], attempt, 1, facts[1], {"time_this_iter_s": 2.0}, None))
        tell(link.TrialEnded(facts[0], attempt, "finished", facts[1], None, {}))
    elif step == "message":
        kind = getattr(link, facts[0])
        tell(kind(**facts[1]))
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
        tell(link.ExperimentEnded(*facts))
        os._exit(1)
tell(link.ExperimentEnded(None))
"""

DONE: list[list[Any]] = [["trial", 0, 0.25], ["trial", 1, 0.75]]
SILENCE_S = 5.0


class FakeHead:
    """A Ray head as the conductor sees it; `die` ends it by itself, `broken` lets none of them start."""

    broken = False

    def __init__(self) -> None:
        self.address, self.dashboard, self.pid = "127.0.0.1:1", "http://127.0.0.1:2", 3
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


class Stage:
    """A store with one run of fake experiments, and conductors that work on it, one life after the other."""

    def __init__(self, folder: Path, **stories: list[list[list[Any]]]) -> None:
        self.home = Home(folder)
        self.home.runs.mkdir()
        self.store = Store(folder / "sweep.db", Clock())
        specs = [
            {"name": name, "mode": "min", "max_trials": 2, "concurrency": 1, "max_hours": None, "stories": story}
            for name, story in stories.items()
        ]
        create_run(
            self.store, "r", plan="p", fingerprint="f", source="built-in", plan_text="", hardware={}, data={},
            specs=specs,
        )  # fmt: skip
        self.ledger = Ledger(self.store, "r")
        self.heads: list[FakeHead] = []
        self.too_large: set[str] = set()
        self.silence_s = SILENCE_S
        self.environment = dict(os.environ)
        self.now: Conductor | None = None

    def _new_head(self) -> RayHead:
        self.heads.append(FakeHead())
        return cast(RayHead, self.heads[-1])

    def _new_driver(self, name: str) -> DriverProcess:
        log = self.home.run_folder("r") / name / "driver.log"
        return DriverProcess(self.environment, log, self.silence_s, (sys.executable, "-c", FAKE_DRIVER))

    def conduct(self, *scenes: Callable[[Conductor], Awaitable[None]]) -> None:
        """One daemon's life; each of `scenes` happens beside it."""

        async def live() -> None:
            self.ledger.recover()
            self.now = Conductor(
                self.home, self.ledger, Clock(), self._new_head, self._new_driver,
                lambda spec: "too large" if spec["name"] in self.too_large else None, {"gate": "none"},
            )  # fmt: skip
            beside = [asyncio.ensure_future(scene(self.now)) for scene in scenes]
            try:
                async with asyncio.timeout(60.0):
                    await self.now.conduct()
                    await asyncio.gather(*beside)
            finally:
                for each in beside:
                    each.cancel()

        asyncio.run(live())

    def states(self) -> dict[str, str]:
        return {row["name"]: row["state"] for row in self.store.rows("SELECT * FROM experiment ORDER BY ordinal")}

    def reason(self, name: str) -> str:
        return str(self.store.rows("SELECT reason FROM experiment WHERE name = ?", name)[0]["reason"])

    def told(self, *names: str) -> list[tuple[str, str | None]]:
        """The events of these names: name and experiment, in order."""
        return [(event.name, event.experiment) for event in self.store.events_after(0) if event.name in names]

    def facts(self, name: str) -> list[dict[str, Any]]:
        return [event.fields for event in self.store.events_after(0) if event.name == name]

    def trials(self, name: str) -> list[tuple[Any, ...]]:
        trials = snapshot.trials_of(self.store.connection, "r", name)
        return [(trial["number"], trial["state"], trial["attempt"], trial["value"]) for trial in trials]


@pytest.fixture(autouse=True)
def short_back_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conductor, "BACKOFF_CAP_S", 0.1)


async def until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 30.0
    while not holds():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        await asyncio.sleep(0.01)


def test_experiments_run_in_order_one_is_skipped_one_fails_and_the_next_goes_on(tmp_path: Path) -> None:
    stage = Stage(tmp_path, a=[DONE], b=[DONE], c=[[["trial", 0, 0.5], ["fail", "out of luck"]]], d=[DONE])
    stage.too_large = {"b"}
    stage.conduct()
    assert stage.states() == {"a": "EXITED", "b": "SKIPPED", "c": "FATAL", "d": "EXITED"}
    assert (stage.reason("b"), stage.reason("c")) == ("too large", "out of luck")
    assert stage.told("experiment.started", "experiment.finished", "experiment.skipped", "experiment.failed") == [
        ("experiment.started", "a"), ("experiment.finished", "a"), ("experiment.skipped", "b"),
        ("experiment.started", "c"), ("experiment.failed", "c"), ("experiment.started", "d"),
        ("experiment.finished", "d"),
    ]  # fmt: skip
    finished = stage.facts("experiment.finished")[0]
    assert (finished["best"], finished["best_trial"], finished["trials"]) == (0.25, 0, 2)
    assert len(stage.heads) == 1, "one Ray for all"
    assert stage.heads[0].stopped


def test_a_driver_that_stumbles_is_followed_by_another_and_the_reason_is_kept_in_a_line(tmp_path: Path) -> None:
    """What is not the plan's fault may be a moment's trouble: no verdict on the experiment."""
    stumble = ["fail", "Traceback (most recent call last):\n  ...\nOSError: a disk hiccup", False]
    stage = Stage(tmp_path, a=[[["trial", 0, 0.5], stumble], [["trial", 1, 0.25]]])
    stage.conduct()
    assert stage.states() == {"a": "EXITED"}
    assert "a disk hiccup" in stage.facts("driver.exited")[0]["status"]
    (tmp_path / "b").mkdir()
    failed = Stage(tmp_path / "b", b=[[["fail", "Traceback:\n  ...\nPlanError: no such module"]]])
    failed.conduct()
    assert failed.reason("b") == "PlanError: no such module"


def test_an_experiment_without_a_value_has_failed(tmp_path: Path) -> None:
    stage = Stage(tmp_path, a=[[]])
    stage.conduct()
    assert stage.states() == {"a": "FATAL"}
    assert "no trial was started" in stage.reason("a")


def test_a_driver_that_dies_is_restarted_and_its_trial_goes_on_under_a_new_attempt(tmp_path: Path) -> None:
    stage = Stage(tmp_path, a=[[["trial", 0, 0.25], ["result", 1, 1], ["die"]], [["trial", 1, 0.75]]])
    stage.conduct()
    assert stage.states() == {"a": "EXITED"}
    assert stage.trials("a") == [(0, "TERMINATED", 1, 0.25), (1, "TERMINATED", 2, 0.75)]
    (death,) = stage.facts("driver.exited")
    assert death["status"] == "signal SIGKILL"
    assert Path(death["log"]).exists()
    assert death["retry_in_s"] == 0.1
    assert [name for name, _ in stage.told("driver.started", "driver.exited", "trial.requeued")] == [
        "driver.started", "trial.requeued", "driver.exited", "driver.started",
    ]  # fmt: skip


def test_a_driver_that_only_dies_is_given_up_and_the_next_experiment_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conductor, "MAX_FRUITLESS_STARTS", 2)
    stage = Stage(tmp_path, a=[[["die"]]], b=[DONE])
    stage.conduct()
    assert stage.states() == {"a": "FATAL", "b": "EXITED"}
    assert "died 2 times in a row (signal SIGKILL)" in stage.reason("a")
    assert "driver.log" in stage.reason("a")
    assert stage.store.rows("SELECT driver_starts FROM experiment WHERE name = 'a'")[0][0] == 2


def test_a_driver_that_dies_but_gets_on_is_not_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conductor, "MAX_FRUITLESS_STARTS", 2)
    lives: list[list[list[Any]]] = [[["result", 0, step], ["die"]] for step in range(1, 5)]
    stage = Stage(tmp_path, a=[*lives, [["trial", 0, 0.5]]])
    stage.conduct()
    assert stage.states() == {"a": "EXITED"}
    assert len(stage.facts("driver.exited")) == 4


def test_five_fruitless_starts_are_the_limit() -> None:
    assert MAX_FRUITLESS_STARTS == 5


def test_a_silent_driver_is_killed_and_replaced(tmp_path: Path) -> None:
    stage = Stage(tmp_path, a=[[["sleep"]], DONE])
    stage.silence_s = 1.5
    stage.conduct()
    assert stage.states() == {"a": "EXITED"}
    assert [name for name, _ in stage.told("driver.hung", "driver.exited")][:2] == ["driver.hung", "driver.exited"]
    assert "without a word" in stage.facts("driver.exited")[0]["status"]


def test_a_driver_that_does_not_read_is_as_hung_as_one_that_does_not_speak(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A begin larger than the pipe waits for its reader, and this one beats all the same."""
    monkeypatch.setattr(conductor, "MAX_FRUITLESS_STARTS", 1)
    stage = Stage(tmp_path, a=[[["trial", 0, 0.5], ["x" * 2_000_000]]])
    stage.environment["STORY"], stage.silence_s = "deaf", 1.0
    stage.conduct()
    assert stage.states() == {"a": "FATAL"}
    assert "without reading" in stage.reason("a")
    assert len(stage.facts("driver.hung")) == 1


@pytest.mark.parametrize(
    "nonsense",
    [
        ["garbage"],
        ["message", "Hello", {"pid": 1, "versions": {}}],
        ["message", "SensorNoted", {"node": "n", "kind": "sensor.sang", "facts": {}}],
        ["message", "RungChanged", {"node": "n", "command": {"rung": "HALT"}}],
        ["message", "Finish", {"reason": "the wrong way round"}],
    ],
    ids=lambda nonsense: "-".join(map(str, nonsense[:2])),
)
def test_a_driver_that_talks_nonsense_is_replaced_and_the_daemon_lives_on(tmp_path: Path, nonsense: list[Any]) -> None:
    stage = Stage(tmp_path, a=[[nonsense, ["sleep"]], DONE])
    stage.conduct()
    assert stage.states() == {"a": "EXITED"}
    (death,) = stage.facts("driver.exited")
    assert death["status"].startswith("broke the link")


def test_a_stop_in_the_middle_leaves_stopped_and_the_next_life_goes_on_without_loss(tmp_path: Path) -> None:
    stage = Stage(tmp_path, a=[[["trial", 0, 0.25], ["result", 1, 1], ["finish"]], [["trial", 1, 0.75]]], b=[DONE])

    async def stop(at_work: Conductor) -> None:
        await until(lambda: len(stage.facts("trial.reported")) == 2, "both trials have reported")
        at_work.ask_stop("stopped by ann")

    stage.conduct(stop)
    assert stage.states() == {"a": "STOPPED", "b": "STOPPED"}
    assert stage.reason("a") == "stopped by ann"
    assert stage.trials("a") == [(0, "TERMINATED", 1, 0.25), (1, "PENDING", 1, None)]
    stage.conduct()
    assert stage.states() == {"a": "EXITED", "b": "EXITED"}
    assert stage.trials("a") == [(0, "TERMINATED", 1, 0.25), (1, "TERMINATED", 2, 0.75)]
    assert len(stage.facts("trial.finished")) == 4, "none twice"


def test_a_stop_during_the_back_off_does_not_wait_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conductor, "BACKOFF_CAP_S", 1000.0)
    monkeypatch.setattr("supervisor.conductor.random.uniform", lambda low, high: 1000.0)
    stage = Stage(tmp_path, a=[[["die"]]])

    async def stop(at_work: Conductor) -> None:
        await until(lambda: stage.states() == {"a": "BACKOFF"}, "the driver has died")
        at_work.ask_stop("SIGTERM")

    stage.conduct(stop)
    assert stage.states() == {"a": "STOPPED"}


def test_a_stop_before_the_first_experiment_starts_nothing(tmp_path: Path) -> None:
    stage = Stage(tmp_path, a=[DONE])

    async def stop(at_work: Conductor) -> None:
        at_work.ask_stop("SIGTERM")

    async def stopped_first(at_work: Conductor) -> None:
        await stop(at_work)

    real = Conductor.conduct

    async def conduct(self: Conductor) -> None:
        await stopped_first(self)
        await real(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Conductor, "conduct", conduct)
        stage.conduct()
    assert stage.states() == {"a": "STOPPED"}
    assert stage.heads == []


def test_a_head_that_dies_takes_its_driver_along_and_both_are_replaced(tmp_path: Path) -> None:
    stage = Stage(tmp_path, a=[[["result", 0, 1], ["sleep"]], [["trial", 0, 0.5]]])

    async def kill_head(at_work: Conductor) -> None:
        await until(lambda: len(stage.facts("trial.reported")) == 1, "a trial has reported")
        stage.heads[0].die()

    stage.conduct(kill_head)
    assert stage.states() == {"a": "EXITED"}
    assert stage.facts("ray.exited") == [{"status": "exit code 1"}]
    assert len(stage.heads) == 2
    assert stage.trials("a") == [(0, "TERMINATED", 2, 0.5)]


def test_what_a_driver_says_of_a_cluster_that_died_is_no_verdict(tmp_path: Path) -> None:
    stage = Stage(tmp_path, a=[[["result", 0, 1], ["await", "Commanded"], ["fail", "ConnectionError"]], DONE])

    async def kill_head(at_work: Conductor) -> None:
        await until(lambda: len(stage.facts("trial.reported")) == 1, "a trial has reported")
        at_work.head = None
        await at_work.commands_changed()

    stage.conduct(kill_head)
    assert stage.states() == {"a": "EXITED"}
    assert stage.facts("driver.exited")[0]["status"] == "Ray ended: ConnectionError"


def test_a_ray_that_does_not_start_again_ends_the_run_and_gives_no_experiment_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conductor, "MAX_FRUITLESS_STARTS", 2)
    stage = Stage(tmp_path, a=[DONE], b=[DONE])
    with monkeypatch.context() as patch:
        patch.setattr(FakeHead, "broken", True)
        with pytest.raises(RayStartFailed, match="did not start"):
            stage.conduct()
    assert len(stage.heads) == 2
    assert "FATAL" not in stage.states().values()
    stage.conduct()
    assert stage.states() == {"a": "EXITED", "b": "EXITED"}


def test_a_driver_that_cannot_be_started_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(tmp_path, a=[DONE])
    real, failures = DriverProcess.spawn, [OSError(11, "Resource temporarily unavailable")]

    async def spawn(self: DriverProcess) -> None:
        if failures:
            raise failures.pop()
        await real(self)

    monkeypatch.setattr(DriverProcess, "spawn", spawn)
    stage.conduct()
    assert stage.states() == {"a": "EXITED"}
    assert "Resource temporarily unavailable" in stage.facts("driver.exited")[0]["status"]


def operators(rung: Rung) -> Command:
    return Command(rung, Origin.OPERATOR, "visitors", since_wall=1.0, who="ann")


@pytest.mark.parametrize("rung", [Rung.HOLD, Rung.PAUSE])
def test_an_operators_pause_shows_reaches_the_driver_and_is_lifted(tmp_path: Path, rung: Rung) -> None:
    stage = Stage(tmp_path, a=[[["await", "Commanded"], ["trial", 0, 0.5], ["finish"]], DONE])

    async def pause_and_resume(at_work: Conductor) -> None:
        await until(lambda: stage.states()["a"] == "RUNNING", "the driver is up")
        stage.ledger.put_command(operators(rung), "now")
        await at_work.commands_changed()
        assert stage.states() == {"a": "PAUSED"}
        assert at_work.in_force() == operators(rung)
        await until(lambda: len(stage.facts("trial.finished")) == 1, "the driver has heard of it")
        stage.ledger.drop_command("all", "ann")
        await at_work.commands_changed()
        assert stage.states() == {"a": "RUNNING"}
        at_work.ask_stop("enough")

    stage.conduct(pause_and_resume)
    assert [name for name, _ in stage.told("experiment.paused", "experiment.resumed")] == [
        "experiment.paused", "experiment.resumed",
    ]  # fmt: skip


def test_a_pause_holds_across_a_drivers_death(tmp_path: Path) -> None:
    stage = Stage(tmp_path, a=[[["die"]], [["finish"]]])
    stage.ledger.put_command(operators(Rung.PAUSE), "now")

    async def watch(at_work: Conductor) -> None:
        await until(lambda: len(stage.facts("driver.exited")) == 1, "the driver has died")
        await until(lambda: stage.states()["a"] == "PAUSED", "its successor is up")
        at_work.ask_stop("enough")

    stage.conduct(watch)
    assert stage.states() == {"a": "STOPPED"}


def governors(rung: Rung) -> list[Any]:
    command = Command(rung, Origin.GOVERNOR, "92 C", "node-1", 1.0, drill=True)
    return ["message", "RungChanged", {"node": "node-1", "command": command.to_json()}]


def test_a_governors_pause_shows_and_neither_origin_lifts_the_others(tmp_path: Path) -> None:
    stage = Stage(
        tmp_path,
        a=[
            [
                governors(Rung.SHED),
                governors(Rung.PAUSE),
                ["await", "Commanded"],
                governors(Rung.RUN),
                ["result", 0, 1],
                ["finish"],
            ]
        ],
    )

    async def watch(at_work: Conductor) -> None:
        await until(lambda: stage.states()["a"] == "PAUSED", "the governor pauses")
        assert at_work.in_force().origin is Origin.GOVERNOR
        stage.ledger.drop_command("all", "ann")
        at_work._settle_pause()
        assert stage.states()["a"] == "PAUSED", "an operator's resume does not end a governor's pause"
        stage.ledger.put_command(operators(Rung.HOLD), "after running trials")
        await at_work.commands_changed()
        await until(lambda: len(stage.facts("trial.reported")) == 1, "the governor has let go")
        assert stage.states()["a"] == "PAUSED", "cooling down does not end an operator's pause"
        stage.ledger.drop_command("all", "ann")
        await at_work.commands_changed()
        assert stage.states()["a"] == "RUNNING"
        at_work.ask_stop("enough")

    stage.conduct(watch)
    changes = [(fact["previous"], fact["rung"], fact["drill"]) for fact in stage.facts("rung.changed")]
    assert changes == [("RUN", "SHED", True), ("SHED", "PAUSE", True), ("PAUSE", "RUN", True)]


def scoped(scope: str, rung: Rung = Rung.PAUSE) -> Command:
    return dataclasses.replace(operators(rung), scope=scope)


def test_a_pause_of_one_trial_or_one_node_is_not_the_experiments(tmp_path: Path) -> None:
    """Others work on; with its last node the experiment stands, too."""
    up = [["message", "RungChanged", {"node": node, "command": run_().to_json()}] for node in ("n1", "n2")]
    stage = Stage(tmp_path, a=[[*up, ["result", 0, 1], ["finish"]], DONE])

    async def watch(at_work: Conductor) -> None:
        await until(lambda: len(stage.facts("trial.reported")) == 1, "the driver is up")
        for command, paused in ((scoped("a/0"), False), (scoped("n1"), False), (scoped("n2"), True)):
            stage.ledger.put_command(command, "now")
            await at_work.commands_changed()
            assert stage.states() == {"a": "PAUSED" if paused else "RUNNING"}
        assert at_work.in_force().scope in ("n1", "n2")
        at_work.ask_stop("enough")

    stage.conduct(watch)


def run_() -> Command:
    return Command(Rung.RUN, Origin.GOVERNOR, "nothing to hold for")


def test_a_trials_pause_ends_with_the_trial(tmp_path: Path) -> None:
    stage = Stage(tmp_path, a=[DONE])
    stage.ledger.put_command(scoped("a/0"), "now")
    stage.conduct()
    assert stage.ledger.commands() == []
    assert [fact["scope"] for fact in stage.facts("run.resumed")] == ["a/0"]


def test_a_nodes_pause_holds_for_all_once_its_cluster_is_gone(tmp_path: Path) -> None:
    """Its machine may be any of the new cluster's, and a pause must not be lost with an id."""
    stage = Stage(tmp_path, a=[[["finish"]]])
    stage.ledger.put_command(scoped("n1"), "now")

    async def watch(at_work: Conductor) -> None:
        await until(lambda: stage.states()["a"] == "PAUSED", "the pause holds")
        at_work.ask_stop("enough")

    stage.conduct(watch)
    assert [(command.scope, command.who) for command in stage.ledger.commands()] == [("all", "ann")]


def test_the_governors_stop_waits_for_an_operators_force(tmp_path: Path) -> None:
    """No further driver starts by itself; the next one is told to overrule its watchdog."""
    stage = Stage(tmp_path, a=[[governors(Rung.STOP), ["exit"]], DONE])

    async def watch(at_work: Conductor) -> None:
        with pytest.raises(Conflict, match="pauses nothing"):
            await at_work.force(None, "ann")
        await until(lambda: stage.states()["a"] == "BACKOFF", "the driver has ended")
        assert "resume --force" in stage.reason("a")
        assert len(stage.facts("driver.started")) == 1
        await at_work.force(None, "ann")

    stage.conduct(watch)
    assert stage.states() == {"a": "EXITED"}
    assert [(fact["who"], fact["rung"], fact["for_s"]) for fact in stage.facts("governor.forced")] == [
        ("ann", "STOP", 600.0)
    ]
    lives = (stage.home.run_folder("r") / "a" / "forced").read_text().split()
    assert lives == ["None", "600.0"]


def test_force_against_a_pause_goes_to_the_driver_at_work(tmp_path: Path) -> None:
    stage = Stage(tmp_path, a=[[governors(Rung.PAUSE), ["await", "ForceAsked"], ["trial", 0, 0.5]]])

    async def watch(at_work: Conductor) -> None:
        await until(lambda: stage.states()["a"] == "PAUSED", "the governor pauses")
        await at_work.force(None, "ann")

    stage.conduct(watch)
    assert stage.states() == {"a": "EXITED"}
    assert stage.facts("governor.forced")[0]["reason"] == "92 C"


def test_each_event_of_a_drill_says_so_also_the_end_of_what_it_began(tmp_path: Path) -> None:
    lost = ["message", "SensorNoted", {"node": "n", "kind": "sensor.lost", "facts": {"sensor": "s", "drill": True}}]
    held = [
        ["message", "TrialHeld", {"number": 1, "attempt": 1, "state": state, "reason": "92 C", "drill": True}]
        for state in ("PAUSED", "RUNNING")
    ]
    back = dataclasses.replace(run_(), scope="node-1").to_json()
    story = [
        ["result", 1, 1], lost, governors(Rung.SHED), governors(Rung.PAUSE), *held,
        ["message", "RungChanged", {"node": "node-1", "command": back}],
    ]  # fmt: skip
    stage = Stage(tmp_path, a=[story])
    stage.conduct()
    caused = ["sensor.lost", "rung.changed", "experiment.paused", "trial.paused", "trial.resumed", "experiment.resumed"]
    for name in caused:
        assert [fact["drill"] for fact in stage.facts(name)] == [True] * max(1, 3 * (name == "rung.changed"))


def test_a_dead_drivers_governor_holds_nobody(tmp_path: Path) -> None:
    """Its pause could not be lifted any more: only the next driver's watchdog knows whether it is still hot."""
    stage = Stage(tmp_path, a=[[governors(Rung.PAUSE), ["die"]], DONE])
    stage.conduct()
    assert stage.states() == {"a": "EXITED"}
    assert stage.told("experiment.paused") == [("experiment.paused", "a")]


def test_a_drill_is_told_and_passed_on_and_without_a_driver_it_is_refused(tmp_path: Path) -> None:
    stage = Stage(tmp_path, a=[[["await", "DrillAsked"], ["trial", 0, 0.5]]])

    async def drill(at_work: Conductor) -> None:
        assert await at_work.drill("heat", 5.0, None) is False
        await until(lambda: stage.states()["a"] == "RUNNING", "the driver is up")
        assert await at_work.drill("heat", 5.0, None) is True

    stage.conduct(drill)
    assert stage.states() == {"a": "EXITED"}
    assert stage.facts("drill.started") == [{"name": "heat", "duration_s": 5.0, "node": None, "drill": True}]


def test_samples_show_at_once_but_become_events_only_now_and_then(tmp_path: Path) -> None:
    up = ["message", "WatchdogUp", {"node": "n", "pid": 1, "protected": False, "missing": {"hwmon": "no chip"}}]
    sample = ["message", "Sampled", {"node": "n", "readings": [], "protected": False}]
    stage = Stage(tmp_path, a=[[up, sample, sample, sample, up, *DONE]])
    stage.conduct()
    assert len(stage.facts("hardware.sampled")) == 1
    assert [fact["why"] for fact in stage.facts("watchdog.unprotected")] == ["hwmon: no chip"]
    assert len(stage.facts("watchdog.started")) == 2
    assert stage.now is not None
    assert dataclasses.replace(stage.now.nodes["n"], heard_mono_s=None, told_mono_s=None) == NodeView(
        missing={"hwmon": "no chip"}, command=stage.now.nodes["n"].command
    )


def test_an_ended_experiment_has_no_live_trial(tmp_path: Path) -> None:
    """Whatever its driver forgot: it said that nothing is left to do."""
    stage = Stage(tmp_path, a=[[["trial", 0, 0.5], ["result", 1, 1]]])
    stage.conduct()
    assert stage.states() == {"a": "EXITED"}
    assert not {"RUNNING", "PAUSED"} & {state for _, state, _, _ in stage.trials("a")}
    assert stage.store.rows("SELECT * FROM attempt WHERE ended_wall IS NULL") == []


@pytest.mark.parametrize(
    ("readings", "protected", "text"),
    [
        (
            [("temperature", 61.4, "C"), ("temperature", 55.0, "C"), ("utilisation", 97.2, "percent")],
            True,
            "61 C, cpu 97 %",
        ),
        (
            [("temperature", None, "C"), ("memory", 41.0, "percent"), ("memory", 5e9, "bytes")],
            True,
            "no reading, memory 41 %",
        ),
        ([], False, "no sensor"),
    ],
)
def test_a_sample_in_one_line(readings: list[tuple[str, float | None, str]], protected: bool, text: str) -> None:
    rows = [{"kind": kind, "value": value, "unit": unit} for kind, value, unit in readings]
    assert summarise(rows, protected) == text

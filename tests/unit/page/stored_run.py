"""A run of twelve experiments in a real store, in its eighth one, and what its daemon would know besides."""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from supervisor.clock import Clock
from supervisor.domain import messages
from supervisor.domain.command import Action, Command, Origin, run
from supervisor.domain.finalists import after_search, search_trials
from supervisor.domain.lifecycle import ProcessState
from supervisor.errors import DiskFailed
from supervisor.sensors.reading import Kind, Limits, Reading
from supervisor.store import queries
from supervisor.store.database import Store
from supervisor.store.reading_rollup import MinuteOfReadings
from supervisor.store.run_writer import RunWriter, create_run
from supervisor.store.trial_writer import TrialWriter

RUN, NODE = "phase6a-20270114-0800", "node"
BEGIN_S = 1_800_000_000.0
EPOCHS = 15
CPU, SSD = "hwmon:k10temp/pci-00c3/Tctl", "hwmon:nvme/0000:01:00.0/Composite"
LIMITS = {CPU: Limits(80.0, 88.0, 95.0), SSD: Limits(70.0, 78.0, 84.0)}
BUDGETS = {"2M": (0.6905, 70.0), "20M": (0.6862, 420.0), "200M": (0.682, 1500.0), "2B": (0.68, 20_000.0)}
"""The loss that a good trial reaches, and the seconds of an epoch, by budget."""
AT_WORK, TRIALS_AT_WORK = "200M-h3", 40
"""The experiment at work, and its trials: its part of the story needs so many."""


class StoryClock(Clock):
    """Keeps the time of the story, which its events set."""

    now_s = BEGIN_S

    def wall_s(self) -> float:
        return self.now_s


class StoredRun:
    """Writes the story: six experiments have ended, one has failed, the eighth is at work, four wait."""

    def __init__(self, path: Path, seed: int = 6, trials: int = 40, names: dict[str, str] | None = None) -> None:
        """`names` replaces the names of experiments, to see what the page makes of them."""
        self.clock, self.random = StoryClock(), random.Random(seed)
        self.store = Store(path, self.clock)
        self.store.connection.execute("PRAGMA synchronous = OFF")  # a story need not survive a power cut
        self._names = names or {}
        self.specs = [self._spec(budget, horizon, trials) for budget in BUDGETS for horizon in (1, 3, 5)]
        create_run(
            self.store, RUN, plan="phase6a", fingerprint="f", source="built-in", plan_text="", data={},
            hardware={"policy": {}}, specs=self.specs,
        )  # fmt: skip
        self.writer, self.trial_writer = RunWriter(self.store, RUN), TrialWriter(self.store, RUN)
        self.pauses: list[tuple[float, float]] = []

    def _spec(self, budget: str, horizon: int, trials: int) -> dict[str, Any]:
        name = f"{budget}-h{horizon}"
        return {
            "name": self._names.get(name, name), "mode": "min", "metric": "val_loss",
            "max_trials": TRIALS_AT_WORK if name == AT_WORK else trials,
            "max_epochs": EPOCHS, "concurrency": 3, "seed": 1, "enqueue": [], "trainable": "mine:Trainable",
            "resources": {"cpu": 4}, "cell": {"budget": budget, "horizon": horizon},
            "finalize": {"top": 2, "seeds": 2},
        }  # fmt: skip

    def tell(self) -> StoredRun:
        """Write the whole story."""
        self.writer.move_run(ProcessState.STARTING)
        self.writer.record("run.started")
        for spec in self.specs[:6]:
            self.whole(spec)
        self.failed(self.specs[6])
        self.at_work(self.specs[7])
        self.temperatures()
        return self

    def begun(self, spec: dict[str, Any]) -> None:
        self.writer.move_experiment(spec["name"], ProcessState.STARTING)
        self.writer.record("driver.started", experiment=spec["name"], pid=4242)
        self.writer.record("experiment.started", experiment=spec["name"], max_trials=spec["max_trials"])

    def whole(self, spec: dict[str, Any]) -> None:
        """An experiment with its search and its finalisation."""
        self.begun(spec)
        for number in range(search_trials(spec)):
            self.trial(spec, number, self.sampled(), "sampled")
        planned = after_search(spec, queries.trials_of(self.store.connection, RUN, spec["name"]))
        for number, (source, params) in planned.items():
            self.trial(spec, number, dict(params), source)
        self.writer.record(
            "experiment.finished", experiment=spec["name"], best=0.69, best_trial=1, trials=spec["max_trials"],
            failed=0, seconds=1.0,
        )  # fmt: skip

    def failed(self, spec: dict[str, Any]) -> None:
        self.begun(spec)
        for number in range(4):
            self.trial(spec, number, self.sampled(), "sampled", end="error" if number > 1 else None)
        self.writer.record(
            "experiment.failed", experiment=spec["name"], reason="CUDA error: an illegal memory access", error="e",
            seconds=1.0,
        )  # fmt: skip

    def at_work(self, spec: dict[str, Any]) -> None:
        self.begun(spec)
        for number in range(21):
            self.trial(spec, number, self.sampled(), "sampled", end="diverged" if number == 3 else None)
            if number in (12, 18):
                self.pause(spec)
        for number, epochs in ((21, 11), (22, 6), (23, 3)):
            self.say(spec, messages.TrialAdded(number, self.sampled(), "sampled"))
            self.say(spec, messages.TrialStarted(number, 1, f"ray-{number}", NODE, 4000 + number, None))
            for step, value in self.curve(spec, self.sampled(), epochs):
                self.report(spec, number, step, value)
        self.clock.now_s += 40.0

    def pause(self, spec: dict[str, Any]) -> None:
        """A pause of the governor, for heat."""
        begin_s, reason = self.clock.now_s, "cpu at 89 celsius, pause limit 88"
        self.writer.record(
            "action.changed", node=NODE, action="PAUSE", previous="SHED", reason=reason, throttle_share=0.0,
            shed_trials=1, drill=False,
        )  # fmt: skip
        self.writer.record(
            "experiment.paused", experiment=spec["name"], action="PAUSE", origin="governor", reason=reason, drill=False
        )
        self.clock.now_s += 1500.0
        self.writer.record("experiment.resumed", experiment=spec["name"], drill=False)
        self.pauses.append((begin_s, self.clock.now_s))

    # Trials

    def sampled(self) -> dict[str, Any]:
        """Draw a configuration."""
        draw = self.random
        return {
            "learning_rate": 10 ** draw.uniform(-5.0, -2.5), "dropout": round(draw.uniform(0.0, 0.5), 3),
            "batch_size": draw.choice([32, 64, 128, 256]), "shape_rank": draw.randint(0, 15),
            "optimizer": draw.choice(["adamw", "lion", "sgd"]), "weight_decay": 10 ** draw.uniform(-4.0, -0.5),
        }  # fmt: skip

    def curve(self, spec: dict[str, Any], params: dict[str, Any], epochs: int) -> Iterator[tuple[int, float]]:
        """Yield (epoch, loss): a fall to a floor that the learning rate decides, with noise."""
        floor = BUDGETS[spec["cell"]["budget"]][0] + 0.004 * (math.log10(params["learning_rate"]) + 3.6) ** 2
        floor += 0.004 * abs(params["dropout"] - 0.2) + 0.001 * spec["cell"]["horizon"]
        for step in range(1, epochs + 1):
            yield step, floor + 0.03 * math.exp(-step / 2.5) + self.random.gauss(0.0, 0.0006)

    def trial(
        self, spec: dict[str, Any], number: int, params: dict[str, Any], source: str, end: str | None = None
    ) -> None:
        """A whole trial, pruned where it is bad."""
        self.say(spec, messages.TrialAdded(number, params, source))
        self.say(spec, messages.TrialStarted(number, 1, f"ray-{number}", NODE, 4000 + number, None))
        value, best = None, math.inf
        for step, loss in self.curve(spec, params, EPOCHS):
            value = loss * (30.0 if end == "diverged" else 1.0)
            best = min(best, value)
            self.report(spec, number, step, value)
            if end is None and source == "sampled" and step == 4 and loss > spec_floor(spec) + 0.011:
                end = "pruned"
            if end is not None and step == 4:
                break
        good = end in (None, "pruned")
        self.say(
            spec,
            messages.TrialEnded(
                number, 1, end or self.random.choice(["finished", "early_stopped"]), best if good or end == "diverged"
                else None, None if good else "RuntimeError: CUDA error", {},
            ),
        )  # fmt: skip

    def report(self, spec: dict[str, Any], number: int, step: int, value: float) -> None:
        seconds = BUDGETS[spec["cell"]["budget"]][1]
        self.clock.now_s += seconds / 3.0
        metrics = {"val_loss": value, "time_this_iter_s": seconds}
        self.say(spec, messages.ResultReported(number, 1, step, value, metrics, None))

    def say(self, spec: dict[str, Any], message: messages.Message) -> None:
        assert self.trial_writer.handle(spec["name"], message)

    # The machine

    def temperatures(self) -> None:
        """Keep the minutes of the last 26 hours: hot before each pause, cool in it."""
        end = int(self.clock.now_s // 60)
        rows = []
        for minute in range(end - 26 * 60, end):
            cpu = self.celsius(minute * 60.0)
            for sensor, value in ((CPU, cpu), (SSD, 38.0 + cpu / 8.0)):
                rows.append(MinuteOfReadings(NODE, sensor, "celsius", minute, 12, 12, value - 2, value - 1, value))
        self.writer.keep_readings(rows)

    def celsius(self, wall_s: float) -> float:
        noise = random.Random(int(wall_s)).gauss(0.0, 0.7)
        for begin_s, end_s in self.pauses:
            if begin_s <= wall_s < end_s:
                return 52.0 + 36.0 * math.exp(-(wall_s - begin_s) / 200.0) + noise
            if begin_s - 2400.0 <= wall_s < begin_s:
                return 88.5 - (begin_s - wall_s) / 200.0 + noise
        return 74.0 + 3.0 * math.sin(wall_s / 5200.0) + noise

    def copied(self, path: Path) -> StoredRun:
        """Return the same story in a store of its own."""
        self.store.back_up(path)
        other = copy.copy(self)
        other.clock = StoryClock()
        other.clock.now_s = self.clock.now_s
        other.store = Store(path, other.clock)
        other.writer, other.trial_writer = RunWriter(other.store, RUN), TrialWriter(other.store, RUN)
        return other

    def close(self) -> None:
        self.store.close()


def spec_floor(spec: dict[str, Any]) -> float:
    return BUDGETS[spec["cell"]["budget"]][0] + 0.001 * spec["cell"]["horizon"]


class FakeLive:
    """Knows and does what the daemon would; pause and resume are written to the store, and kept in `calls`."""

    def __init__(self, stored: StoredRun) -> None:
        self.stored, self.calls = stored, list[tuple[Any, ...]]()
        self.governor = run(Origin.GOVERNOR)
        self.shown_run = RUN

    def completed(self, view: dict[str, Any]) -> dict[str, Any]:
        now_s = self.stored.clock.now_s
        commands = [Command.from_json(command) for command in view["commands"]]
        force = max([self.governor, *commands], key=lambda command: command.step)
        days = 86_400.0
        etas = [
            {"median_s": place * 1.3 * days, "low_s": place * 1.0 * days, "high_s": place * 1.7 * days}
            for place in range(-6, 6)
        ]
        return {
            **view,
            "run": {**view["run"], "id": self.shown_run},
            "eta": etas[-1],
            "experiments": [
                {**one, "eta": None if one["ended_wall"] else eta}
                for one, eta in zip(view["experiments"], etas, strict=True)
            ],
            "daemon": {"now_wall": now_s, "version": "0.1.0"},
            "in_force": force.to_json(),
            "disk": {"folder": "/sweep/state", "free_bytes": 412 * 2**30, "full": False, "enough_bytes": 2**30},
            "nodes": {
                NODE: {
                    "protected": True, "missing": {}, "command": self.governor.to_json(),
                    "readings": [self._reading(sensor, limits, now_s) for sensor, limits in LIMITS.items()],
                }
            },
        }  # fmt: skip

    def _reading(self, sensor: str, limits: Limits, now_s: float) -> dict[str, Any]:
        value = self.stored.celsius(now_s) if sensor == CPU else 47.0
        return Reading(sensor, Kind.TEMPERATURE, "cpu", value, "celsius", 1.0, now_s, "hwmon", limits=limits).to_json()

    async def pause(self, target: str | None, now: bool, reason: str, who: str) -> dict[str, Any]:
        self.calls.append(("pause", target, now, reason, who))
        action = Action.PAUSE if now else Action.HOLD
        command = Command(action, Origin.OPERATOR, reason, since_wall=self.stored.clock.now_s, who=who)
        self.stored.writer.put_command(command, "now")
        return {"command": command.to_json()}

    async def resume(self, target: str | None, who: str) -> dict[str, Any]:
        self.calls.append(("resume", target, who))
        lifted = self.stored.writer.drop_command("all", who)
        return {"lifted": lifted, "in_force": self.governor.to_json(), "commands": []}

    def disk_failed(self, error: DiskFailed) -> None:
        self.calls.append(("disk_failed", error))

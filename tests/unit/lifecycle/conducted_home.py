"""Let the daemon of a home do each step to its store and to the model."""

from __future__ import annotations

import hashlib
from typing import Any

from supervisor.audit.evidence import MAGIC
from supervisor.domain import messages
from supervisor.store.projection import RUN_STATES
from tests.unit.lifecycle.one_home import OneHome
from tests.unit.lifecycle.run_facts import OVER, Trial
from tests.unit.lifecycle.world import World


class ConductedHome(OneHome):
    """A home whose daemon moves runs and experiments, and hears a driver."""

    # As the orchestrator moves, and as a driver speaks

    def move_run(self, event: str, **fields: Any) -> None:
        if self.alive:
            state = RUN_STATES.get(event) or fields["state"]
            self.do(lambda: self.writer.record(event, **fields), lambda world: world.move_run(state))

    def settle(self) -> None:
        """Pause or resume the experiment, as Orchestrator.commands_changed does."""
        if self.alive:
            name = None if self.waiting else self.current
            self.do(lambda: None if name is None else self.commands.settle(name), self._settled)

    def _settled(self, world: World) -> None:
        if self.current is not None and not self.waiting:
            world.settle(self.current, self.governor, set(self.cluster.nodes))

    def drive(self) -> None:
        """Spawn a driver, which says hello, as DriverRunner does."""
        state = self.state
        assert state is not None
        self.waiting = False
        self.sent.clear()

        def run() -> None:
            state.start()
            self.commands.begin_driver()
            self.writer.record("driver.started", experiment=state.name, pid=2)
            state.started()
            self.commands.settle(state.name)

        def model(world: World) -> None:
            world.move(state.name, "STARTING")
            world.move(state.name, "RUNNING")
            self._settled(world)

        self.conduct(run, model)

    @property
    def current(self) -> str | None:
        return None if self.state is None else self.state.name

    @property
    def left(self) -> list[str]:
        return [name for name, each in self.world.run.experiments.items() if each.state not in OVER]

    @property
    def trials(self) -> dict[int, Trial]:
        """The trials of the experiment at work, as the model has them, by number."""
        return {number: trial for (name, number), trial in self.world.run.trials.items() if name == self.current}

    def send(self, message: Any) -> None:
        """The daemon hears it, commits it and acknowledges it."""
        if self.waiting:
            return  # there is no driver
        name, run = self.current, len(self.world.runs)
        assert name is not None
        self.sent.append(message)
        self.do(lambda: self.trial_writer.handle(name, message), lambda world: world.handle(name, message))
        if self.alive:
            for step, counts in self.trials.get(message.number, Trial()).results.items():
                self.acknowledged[run, name, message.number, step] = counts

    def reached(self, number: int, attempt: int) -> int:
        """Return the last epoch that this attempt reported, as its driver knows it."""
        own = [
            message for message in self.sent if (message.number, getattr(message, "attempt", None)) == (number, attempt)
        ]
        begun = [message.resumed_step or 0 for message in own if isinstance(message, messages.TrialStarted)]
        return max([0, *begun, *(message.step for message in own if isinstance(message, messages.ResultReported))])

    def report(self, number: int, attempt: int, step: int, value: float | None) -> messages.ResultReported:
        """Even trials keep checkpoints, odd ones none."""
        path, body = self.folder / f"{self.current}-{number}-{step}.pt", b"x" * 10
        if number % 2 == 0:
            path.write_bytes(body + MAGIC + hashlib.sha256(body).digest())
        return messages.ResultReported(number, attempt, step, value, {"loss": value}, None if number % 2 else str(path))

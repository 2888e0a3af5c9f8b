"""Model runs in plain Python, without SQL or events.

`World` is what a store should hold. Each method that changes it appends every state on the way to `trail`: an action
that was killed halfway may have left any of these states, and no other.
"""

from __future__ import annotations

from typing import Any

from supervisor.domain import messages
from tests.unit.lifecycle.run_facts import Trial
from tests.unit.lifecycle.worked_world import WorkedWorld


class World(WorkedWorld):
    """The runs of one plan's home, with what a driver says."""

    # What a driver says

    def handle(self, name: str, message: Any) -> None:
        """Apply a message, if the fence lets it pass."""
        if isinstance(message, messages.TrialAdded):
            final = message.source == "finalize"
            if final != (message.number >= self.search(name)):
                self.run.refused += 1
            else:
                self.run.trials.setdefault((name, message.number), Trial(final=final))
        elif not self._believes(self.run.trials.get((name, message.number)), message):
            self.run.refused += 1
        else:
            if isinstance(message, messages.TrialEnded):
                # With the trial ends what an operator held of it alone.
                self.run.commands.pop(f"{name}/{message.number}", None)
            self._believed(self.run.trials[name, message.number], message)
        self.note()

    def _believes(self, trial: Trial | None, message: Any) -> bool:
        if trial is None or trial.over:
            return False
        if isinstance(message, messages.TrialStarted):
            return message.attempt > trial.attempt
        if isinstance(message, messages.TrialEnded) and trial.state == "PENDING":
            return message.attempt > trial.attempt
        return trial.live and message.attempt == trial.attempt

    def _believed(self, trial: Trial, message: Any) -> None:
        match message:
            case messages.TrialStarted():
                if trial.live:
                    self.lose(trial)
                trial.state, trial.attempt, trial.lived[message.attempt] = "RUNNING", message.attempt, True
            case messages.ResultReported():
                before, _ = trial.results.get(message.step, (0, None))
                if before < message.attempt:
                    trial.results[message.step] = (message.attempt, message.value)
                    if message.checkpoint is not None:
                        trial.checkpoint_step = message.step
            case messages.TrialHeld():
                trial.state = message.state
            case messages.TrialEnded():
                self.end_trial(trial, message.attempt, message.end_reason, message.value, message.error)
            case messages.AttemptLost():
                self.lose(trial)

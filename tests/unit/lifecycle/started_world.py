"""Model how runs are chosen, begun, recovered and tried again, without SQL or events."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

from tests.unit.lifecycle.run_facts import AT_WORK, EXPERIMENTS, OVER, Run, Trial


@dataclass
class StartedWorld:
    """The runs of one plan's home, oldest first."""

    runs: list[Run] = field(default_factory=list)
    trail: list[list[Run]] = field(default_factory=list, compare=False)

    @property
    def run(self) -> Run:
        return self.runs[-1]

    def copy(self) -> Self:
        return type(self)(copy.deepcopy(self.runs))

    def note(self) -> None:
        self.trail.append(copy.deepcopy(self.runs))

    # Starting

    def unfinished(self, stopped_too: bool) -> Run | None:
        left = [run for run in self.runs if run.state != "EXITED" and not run.given_up]
        assert len(left) <= 1
        return left[0] if left and (stopped_too or left[0].desired == "run") else None

    def start(self, how: str, queued: Sequence[str] = ()) -> bool:
        """Return False where there is no run to continue, or none with a failure to try again.

        `queued`: the entries that can begin, the next one first. A daemon takes one when it has no run to continue.
        """
        if how == "retry":
            return self.retry()
        found = self.unfinished(stopped_too=how != "unnamed")
        if found is None and how == "unnamed":
            return self.advance(queued)
        if found is not None and how == "anew":
            self.recover(found)
            found.state, found.desired, found.given_up = "FATAL", "stop", True
            self.note()
            found = None
        if found is None:
            self.runs.append(Run())
            self.note()
        self.go_on()
        return True

    def advance(self, queued: Sequence[str]) -> bool:
        """Begin the next entry that has not begun; return False without one."""
        begun = {entry for run in self.runs for entry in run.entries}
        following = next((entry for entry in queued if entry not in begun), None)
        if following is None:
            return False
        # A stopped run of its plan goes on.
        if self.unfinished(stopped_too=True) is None:
            self.runs.append(Run())
        self.run.entries.append(following)
        self.run.desired = "run"
        self.note()
        self.begin()
        return True

    def retry(self) -> bool:
        """Open the last run again for what failed in it, and continue."""
        kept = [run for run in self.runs if not run.given_up]
        if not kept or kept[-1] is not self.run or not (self.try_again() or self.try_again(left_out_too=True)):
            return False
        self.begin()
        return True

    def try_again(self, only: str | None = None, number: int | None = None, left_out_too: bool = False) -> bool:
        """Begin failed trials anew, of one experiment or one trial alone; reopen experiments that have work then.

        Return False, and change nothing, when there is nothing to try.
        """
        found = False
        for name in EXPERIMENTS:
            each = self.run.experiments[name]
            named = only == name or left_out_too
            taken_in = name not in self.run.left_out or (named and each.state in OVER)
            if only in (None, name) and taken_in:
                found |= self._try_experiment_again(name, number)
        if found:
            self.run.state = "STOPPED" if self.run.state == "EXITED" else self.run.state
            self.run.desired = "run"
            self.note()
        return found

    def _try_experiment_again(self, name: str, number: int | None) -> bool:
        each = self.run.experiments[name]
        trials = {n: trial for (experiment, n), trial in self.run.trials.items() if experiment == name}
        failed = [n for n, trial in trials.items() if trial.end_reason in ("oom", "hung", "error")]
        # What a finalisation or a test rests on is not tried again.
        failed = [n for n in failed if number in (None, n) and name not in self.run.tested]
        failed = [n for n in failed if trials[n].final or not self.has_chosen(name)]
        in_all = self.in_all(name)
        for n in failed:
            lived, attempt, final = trials[n].lived, trials[n].attempt, trials[n].final
            self.run.trials[name, n] = Trial(attempt=attempt, lived=lived, final=final)
            self.run.ending.discard((name, n))
            self.run.discarded.discard((name, n))
        left = in_all - sum(trial.over for trial in trials.values())
        work = each.state == "SKIPPED" or (each.state == "FATAL" and left > 0)
        if each.state in OVER and (failed or (work and number is None)):
            each.state, each.error = "STOPPED", None
            self.run.left_out.discard(name)
            return True
        return bool(failed)

    def go_on(self) -> None:
        if self.run.desired == "stop":
            self.run.desired = "run"
            self.note()
        self.begin()

    def begin(self) -> None:
        """Recover, and be RUNNING: at a start, and after a full disk."""
        self.recover(self.run)
        self.move_run("STARTING")
        self.move_run("RUNNING")

    def recover(self, run: Run) -> None:
        """Stop what was at work before."""
        for trial in run.trials.values():
            if trial.live:
                self.lose(trial)
        if run.state in (*AT_WORK, "FATAL"):
            run.state = "STOPPED"
        for each in run.experiments.values():
            if each.state in AT_WORK:
                each.state, each.action, each.origin = "STOPPED", None, None
        self.note()

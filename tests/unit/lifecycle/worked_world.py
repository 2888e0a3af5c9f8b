"""Model what a daemon and a person do in a run."""

from __future__ import annotations

from dataclasses import replace

from supervisor.domain.search_time import why_no_trial
from supervisor.formatting import error_sentence
from tests.unit.lifecycle.run_facts import AT, FINAL, GOOD_ENDS, OVER, Experiment, Extension, Trial
from tests.unit.lifecycle.started_world import StartedWorld


class WorkedWorld(StartedWorld):
    """The runs of one plan's home, with what a daemon and a person change in them."""

    # What the daemon does

    def move_run(self, state: str) -> None:
        self.run.state = state
        self.note()

    def move(self, name: str, state: str, action: str | None = None, origin: str | None = None) -> None:
        self.run.experiments[name] = Experiment(state, action, origin)
        if state == "STARTING":
            self.run.started.add(name)
        self.note()

    def fail(self, name: str, reason: str) -> None:
        self.requeue(name)
        self.run.experiments[name] = Experiment("FATAL", error=reason)
        self.note()

    def back_off(self, name: str) -> None:
        self.requeue(name)
        self.move(name, "BACKOFF")

    def await_operator(self, name: str) -> None:
        self.requeue(name)
        self.move(name, "PAUSED", "STOP", "governor")

    def stop(self, name: str) -> None:
        self.requeue(name)
        self.move(name, "STOPPING")
        self.move(name, "STOPPED")

    def end(self, name: str, why: str) -> None:
        """Move to EXITED, or to FATAL where no trial has a value."""
        self.end_unfinished(name, why)
        trials = [trial for (experiment, _), trial in sorted(self.run.trials.items()) if experiment == name]
        if self.valued(name):
            self.move(name, "EXITED")
            return
        if not trials:
            # No life uses up the hours.
            self.fail(name, why_no_trial(name, {"finish_asked": name in self.run.finishing}, out_of_time=False))
            return
        first = next(trial.error or str(trial.end_reason) for trial in trials)
        self.fail(name, f"no trial of {len(trials)} left a value; the first: {error_sentence(first)}")

    def settle(self, name: str, governor: str, nodes: set[str]) -> None:
        """Pause or resume the experiment at work: by a governor's PAUSE or STOP, and by each operator's command."""
        held = [(AT[governor], 0, governor, "governor")] if governor in ("PAUSE", "STOP") else []
        for scope, action in self.run.commands.items():
            if scope == "all" or scope in nodes:
                held.append((AT[action], 1, action, "operator"))
        now = self.run.experiments[name]
        if held and now.at_work and (now.action, now.origin) != max(held)[2:]:
            self.move(name, "PAUSED", *max(held)[2:])
        elif not held and now.state == "PAUSED":
            self.move(name, "RUNNING")

    def search(self, name: str) -> int:
        """Return how many trials are the search's, those that were set aside among them."""
        return self.run.searched.get(name, self.run.totals[name] - FINAL)

    def in_all(self, name: str) -> int:
        """Return how many trials the experiment will have: none is finalised where the search left no value."""
        own = [self.run.trials.get((name, number)) for number in range(self.search(name))]
        ended = all(trial is not None and trial.over for trial in own)
        return len(own) + (0 if ended and not self.valued(name) else FINAL)

    def valued(self, name: str) -> bool:
        """Return whether a trial of the search has a value that counts."""
        return any(
            trial.value is not None and not trial.final and place not in self.run.discarded
            for place, trial in self.run.trials.items() if place[0] == name
        )  # fmt: skip

    def has_chosen(self, name: str) -> bool:
        """Return whether a finalisation has begun and counts."""
        return any(trial.final for place, trial in self.run.trials.items() if place[0] == name)

    def may_finalise(self, name: str) -> bool:
        own = [trial for place, trial in self.run.trials.items() if place[0] == name]
        ended = len(own) == self.search(name) and all(trial.over for trial in own)
        return ended and not self.has_chosen(name) and self.valued(name)

    def may_end_well(self, name: str) -> bool:
        """Return whether the driver has no trial left to begin: what runs still ends with its experiment."""
        return self.begun(name) >= self.search(name) and (self.has_chosen(name) or not self.valued(name))

    def read_the_test(self, name: str) -> None:
        self.run.tested.add(name)
        self.note()

    def set_aside(self, name: str, verb: str) -> None:
        """Let a finalisation count no more, so that the search goes on; what runs of it ends. All at once: no note."""
        chosen = [place for place, trial in self.run.trials.items() if place[0] == name and trial.final]
        for place in chosen:
            trial = self.run.trials[place]
            if not trial.over:
                trial.error = f"its finalisation was set aside: ann asked for `{verb}`"
                trial.lived = dict.fromkeys(trial.lived, False)
                self.run.commands.pop(f"{place[0]}/{place[1]}", None)
            trial.state, trial.end_reason, trial.value, trial.final = "TERMINATED", "set_aside", None, False
        if chosen:
            self.run.totals[name] += len(chosen)
            self.run.searched.pop(name, None)

    def finish(self, name: str) -> None:
        self.run.finishing.add(name)
        self.note()

    def may_end(self, name: str, number: int) -> bool:
        trial = self.run.trials.get((name, number))
        over = trial is None or trial.over or trial.final or self.run.experiments[name].state in OVER
        return not over and (name, number) not in self.run.ending

    def ask_end(self, name: str, number: int) -> None:
        self.run.ending.add((name, number))
        self.run.commands.pop(f"{name}/{number}", None)
        self.note()

    def may_leave_out(self, name: str) -> bool:
        each = self.run.experiments[name]
        free = name not in self.run.left_out and name not in self.run.tested
        return each.state not in OVER and each.action != "STOP" and free

    def ask_skip(self, name: str) -> None:
        self.run.left_out.add(name)
        self.note()

    def may_discard(self, name: str, number: int, restore: bool) -> bool:
        trial = self.run.trials.get((name, number))
        gone = (name, number) in self.run.discarded
        if trial is None or trial.final or trial.end_reason == "set_aside" or not self.may_choose_anew(name):
            return False
        return gone if restore else trial.over and not gone

    def may_choose_anew(self, name: str) -> bool:
        return name not in self.run.tested or not self.has_chosen(name)

    def discard(self, name: str, number: int, restore: bool) -> None:
        each = self.run.experiments[name]
        if self.has_chosen(name):
            self.set_aside(name, "restore" if restore else "discard")
            if each.state == "EXITED":
                each.state = "STOPPED"
        (self.run.discarded.discard if restore else self.run.discarded.add)((name, number))
        self.note()

    def may_put_next(self, name: str) -> bool:
        return self.run.experiments[name].state not in OVER and name not in self.run.started

    def let_begin_next(self, name: str) -> None:
        self.run.put_next.add(name)
        self.note()

    def begun(self, name: str) -> int:
        return sum(place[0] == name and not trial.final for place, trial in self.run.trials.items())

    def may_enqueue(self, name: str) -> bool:
        searches = name not in self.run.searched and name not in self.run.finishing and not self.has_chosen(name)
        room = self.begun(name) + self.run.asked[name] < self.search(name)
        return self.run.experiments[name].state not in OVER and searches and room

    def enqueue(self, name: str) -> None:
        self.run.asked[name] += 1
        self.note()

    def may_extend(self, name: str) -> bool:
        state = self.run.experiments[name].state
        ends = state not in OVER and (name in self.run.searched or name in self.run.finishing)
        return state != "SKIPPED" and self.may_choose_anew(name) and (self.has_chosen(name) or not ends)

    def extend(self, name: str, more: int) -> None:
        each = self.run.experiments[name]
        early = name in self.run.searched
        self.set_aside(name, "extend")
        self.run.totals[name] = (self.begun(name) + FINAL if early else self.run.totals[name]) + more
        self.run.searched.pop(name, None)
        self.run.finishing.discard(name)
        if each.state in OVER:
            each.state, each.error = "STOPPED", None
        self.note()

    def may_train_on(self, name: str, number: int, anew: bool) -> bool:
        trial = self.run.trials.get((name, number))
        left_out = name in self.run.left_out or self.run.experiments[name].state == "SKIPPED"
        if trial is None or not trial.over or trial.final or (name, number) in self.run.discarded:
            return False
        if left_out or name in self.run.tested:
            return False
        if trial.end_reason not in (*GOOD_ENDS, "operator") or (trial.checkpoint_step is None and not anew):
            return False
        before = trial.extension
        short = before is not None and not before.failed and max(trial.results, default=0) < before.last_step
        return not (short and trial.end_reason == "finished")

    def train_on(self, name: str, number: int, epochs: int, anew: bool) -> None:
        """Put an ended trial back into the queue, and set a finalisation aside. If it fails, it keeps its end."""
        self.set_aside(name, "extend")
        trial, each = self.run.trials[name, number], self.run.experiments[name]
        assert trial.end_reason is not None
        last_step = max(trial.results, default=0) + epochs
        trial.extension = Extension(last_step, trial.end_reason, trial.value)
        trial.state, trial.end_reason, trial.value = "PENDING", None, None
        if anew:
            trial.results, trial.checkpoint_step = {}, None
        self.run.ending.discard((name, number))
        if each.state in OVER:
            each.state, each.error = "STOPPED", None
        self.note()

    def change_plan(self, name: str, at_once: int) -> None:
        self.run.at_once[name] = at_once
        self.note()

    def leave_out(self, name: str) -> None:
        if self.run.experiments[name].state != "STOPPED":
            self.stop(name)
        self.move(name, "SKIPPED")

    def end_search(self, name: str, trials: int) -> None:
        self.run.searched.setdefault(name, trials)
        self.note()

    def desire(self, desired: str) -> None:
        self.run.desired = desired
        self.note()

    def pause(self, scope: str, action: str) -> None:
        self.run.commands[scope] = action
        self.note()

    def resume(self, scope: str) -> None:
        self.run.commands.pop(scope, None)
        self.note()

    def requeue(self, name: str) -> None:
        for (experiment, _), trial in sorted(self.run.trials.items()):
            if experiment == name and trial.live:
                self.lose(trial)

    def end_unfinished(self, name: str, why: str) -> None:
        for (experiment, _), trial in sorted(self.run.trials.items()):
            if experiment == name and not trial.over:
                self.end_trial(trial, trial.attempt, "operator", None, why)

    def lose(self, trial: Trial) -> None:
        trial.state, trial.lived[trial.attempt] = "PENDING", False
        self.note()

    def end_trial(self, trial: Trial, attempt: int, reason: str, value: float | None, error: str | None) -> None:
        good, before = reason in GOOD_ENDS, trial.extension
        if not good and before is not None:
            reason, value, error, good = before.end_reason, before.value, trial.error, before.end_reason in GOOD_ENDS
            trial.extension = replace(before, failed=True)
        trial.state, trial.end_reason = "TERMINATED" if good else "ERROR", reason
        trial.attempt, trial.value, trial.error = attempt, value if good else None, error
        if attempt in trial.lived:
            trial.lived[attempt] = False
        self.note()

"""Model runs in plain Python, without SQL or events, for test_lifecycle_machine.

`World` is what a store should hold. Each method that changes it appends every state on the way to `trail`: an action
that was killed halfway may have left any of these states, and no other.
"""

from __future__ import annotations

import copy
import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from supervisor.domain import messages
from supervisor.domain.search_time import why_no_trial
from supervisor.formatting import error_sentence

EXPERIMENTS = ("a", "b")
MAX_TRIALS, FINAL = 3, 1
"""The trials of a search, and those of its finalisation: one configuration on one seed."""
GOOD_ENDS = ("finished", "pruned", "early_stopped")
AT_WORK = ("STARTING", "RUNNING", "PAUSED", "BACKOFF", "STOPPING")
OVER = ("EXITED", "FATAL", "SKIPPED")
AT = {"HOLD": 1, "PAUSE": 4, "STOP": 5}
"""The steps of the ladder, strictest last."""


@dataclass(frozen=True)
class Extension:
    """The epoch at which an extended trial ends, the end that it had, and whether the extension failed."""

    last_step: int
    end_reason: str
    value: float | None
    failed: bool = False


@dataclass
class Trial:
    state: str = "PENDING"
    attempt: int = 0
    end_reason: str | None = None
    value: float | None = None
    error: str | None = None
    checkpoint_step: int | None = None
    final: bool = False
    """Whether it is of a finalisation that counts."""
    results: dict[int, tuple[int, float | None]] = field(default_factory=dict)
    """By epoch: the last attempt that reported it, and its value."""
    lived: dict[int, bool] = field(default_factory=dict)
    """By attempt: whether it is live."""
    extension: Extension | None = None
    """What a person last asked of it after its end."""

    @property
    def over(self) -> bool:
        return self.state in ("TERMINATED", "ERROR")

    @property
    def live(self) -> bool:
        return self.state in ("RUNNING", "PAUSED")


@dataclass
class Experiment:
    state: str = "STOPPED"
    action: str | None = None
    origin: str | None = None
    """The action and origin of the command that pauses it."""
    error: str | None = None
    """The reason of a FATAL one."""

    @property
    def at_work(self) -> bool:
        return self.state in ("RUNNING", "PAUSED")


@dataclass
class Run:
    state: str = "STOPPED"
    desired: str = "run"
    given_up: bool = False
    commands: dict[str, str] = field(default_factory=dict)
    """The operator's, by scope: the action."""
    experiments: dict[str, Experiment] = field(default_factory=lambda: {name: Experiment() for name in EXPERIMENTS})
    trials: dict[tuple[str, int], Trial] = field(default_factory=dict)
    finishing: set[str] = field(default_factory=set)
    """The experiments that a person asked to finish."""
    searched: dict[str, int] = field(default_factory=dict)
    """The trials of each search that ended early."""
    left_out: set[str] = field(default_factory=set)
    """The experiments that a person leaves out."""
    ending: set[tuple[str, int]] = field(default_factory=set)
    """The trials that a person ends at their next report."""
    at_once: dict[str, int] = field(default_factory=lambda: dict.fromkeys(EXPERIMENTS, 1))
    """The concurrency of each experiment, which a person may change."""
    totals: dict[str, int] = field(default_factory=lambda: dict.fromkeys(EXPERIMENTS, MAX_TRIALS + FINAL))
    """The `max_trials` of each experiment, to which a person may add."""
    discarded: set[tuple[str, int]] = field(default_factory=set)
    """The trials that a person took out of their searches."""
    tested: set[str] = field(default_factory=set)
    """The experiments of which the test was opened, and read."""
    started: set[str] = field(default_factory=set)
    """The experiments of which a driver was started."""
    put_next: set[str] = field(default_factory=set)
    """The experiments that a person lets begin next."""
    asked: dict[str, int] = field(default_factory=lambda: dict.fromkeys(EXPERIMENTS, 0))
    """How many points a person enqueued in each experiment."""
    refused: int = 0
    """How many messages were refused, each of which is an event."""
    entries: list[str] = field(default_factory=list)
    """The entries of the queue that this run began or resumed."""


@dataclass
class World:
    """The runs of one plan's home, oldest first."""

    runs: list[Run] = field(default_factory=list)
    trail: list[list[Run]] = field(default_factory=list, compare=False)

    @property
    def run(self) -> Run:
        return self.runs[-1]

    def copy(self) -> World:
        return World(copy.deepcopy(self.runs))

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


def read_world(connection: sqlite3.Connection) -> World:
    """Return the world that the store holds. `connection` gives rows by name."""
    return World([_read_run(connection, row) for row in connection.execute("SELECT * FROM run ORDER BY rowid")])


def _read_run(connection: sqlite3.Connection, row: sqlite3.Row) -> Run:
    def rows(table: str) -> list[sqlite3.Row]:
        return connection.execute(f"SELECT * FROM {table} WHERE run = ?", (row["id"],)).fetchall()

    refused = connection.execute(
        "SELECT count(*) FROM event WHERE run = ? AND name = 'result.refused'", (row["id"],)
    ).fetchone()[0]
    advanced = connection.execute(
        "SELECT fields FROM event WHERE run = ? AND name = 'queue.advanced' ORDER BY seq", (row["id"],)
    ).fetchall()
    run = Run(row["state"], row["desired"], row["reason"] is not None, refused=refused)
    run.entries = [str(json.loads(each["fields"])["id"]) for each in advanced]
    run.commands = {each["scope"]: _action(each["command"]) for each in rows("command")}
    run.experiments = {
        each["name"]: Experiment(
            each["state"], each["action"], each["origin"], each["reason"] if each["state"] == "FATAL" else None
        )
        for each in rows("experiment")
    }
    specs = {each["name"]: json.loads(each["spec"]) for each in rows("experiment")}
    run.finishing = {name for name, spec in specs.items() if spec.get("finish_asked")}
    run.searched = {name: spec["searched"] for name, spec in specs.items() if spec.get("searched") is not None}
    run.totals = {name: spec["max_trials"] for name, spec in specs.items()}
    run.started = {each["name"] for each in rows("experiment") if each["driver_starts"]}
    run.put_next = {name for name, spec in specs.items() if spec.get("put_next")}
    run.asked = {name: len(spec.get("asked", ())) for name, spec in specs.items()}
    run.left_out = {name for name, spec in specs.items() if spec.get("left_out")}
    run.discarded = {(name, int(number)) for name, spec in specs.items() for number in spec.get("discarded", ())}
    run.tested = {each["experiment"] for each in rows("evaluation")}
    run.at_once = {name: spec["concurrency"] for name, spec in specs.items()}
    run.ending = {(name, int(number)) for name, spec in specs.items() for number in spec.get("ending", ())}
    for each in rows("trial"):
        run.trials[each["experiment"], each["number"]] = Trial(
            each["state"], each["attempt"], each["end_reason"], each["value"], each["error"], each["checkpoint_step"],
            each["source"] == "finalize",
        )  # fmt: skip
    for name, spec in specs.items():
        for number, one in spec.get("extended", {}).items():
            run.trials[name, int(number)].extension = Extension(
                one["last_step"], one["end_reason"], one["value"], one["failed"]
            )
    for each in rows("result"):
        run.trials[each["experiment"], each["trial"]].results[each["step"]] = (each["attempt"], each["value"])
    for each in rows("attempt"):
        run.trials[each["experiment"], each["trial"]].lived[each["attempt"]] = each["ended_wall"] is None
    return run


def _action(command: str) -> str:
    return str(json.loads(command)["action"])

"""Play the events of whole runs on a clock of their own, for benchmarks/eta.py: no process, no training.

A run has one to twelve experiments with budgets of their own, their work up to a thousand times apart; 1 to 4 trials at
once; pruning by rungs, by the median or none; a finalisation and a walk-forward, or none; sometimes hours. What they
cost, what slows, pauses and kills them is drawn by eta_machines.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from benchmarks.stages.eta_machines import BASES, Budget, Curves, Machine, budgets, heavy, machine
from supervisor.domain.answer import TESTED
from supervisor.domain.finalists import finalisation_trials, search_trials, walk_forward_trials
from supervisor.store.event import Event

RUN = "simulated"
BEGAN_S = 1.7e9


@dataclass
class Play:
    """Plays one run in active seconds: those in which nothing pauses it."""

    dice: random.Random
    machine: Machine
    budgets: list[Budget]
    now_s: float = 0.0
    events: list[tuple[float, str, str | None, int | None, int | None, dict[str, Any]]] = field(default_factory=list)
    spans: list[tuple[float, float, str, int]] = field(default_factory=list)
    """Holds the time in which an attempt of a trial was at work."""
    driven: list[tuple[str, float, float]] = field(default_factory=list)
    """From when to when which experiment had a driver."""

    def say(self, at_s: float, event: str, experiment: str | None, trial: int | None = None, attempt: int | None = None,
            **fields: Any) -> None:  # fmt: skip
        self.events.append((at_s, event, experiment, trial, attempt, fields))

    def play(self) -> None:
        for budget in self.budgets:
            self._experiment(budget.spec, budget.real)
        self.say(self.now_s + 3.0, "run.finished", None, seconds=self.now_s, passed=len(self.budgets), failed=0,
                 skipped=0, incomplete=0, failed_trials=0)  # fmt: skip

    def _experiment(self, spec: dict[str, Any], works: list[float]) -> None:
        name, began = spec["name"], self.now_s
        hello = began + self.machine.begin_s * self.dice.lognormvariate(0.0, 0.2)
        self.say(began, "experiment.moved", name, state="STARTING", reason=None)
        self.say(hello - 2.0, "experiment.started", name, max_trials=spec["max_trials"])
        over = _Slots(self, spec, works, hello).fill()
        self.now_s = over + self._test_s(spec, sum(works) / len(works))
        self.driven.append((name, hello, self.now_s))
        self.say(self.now_s, "experiment.finished", name, best=0.5, trials=0, failed=0, best_trial=0, seconds=0.0)

    def _test_s(self, spec: dict[str, Any], epoch_s: float) -> float:
        """Return the seconds of the test, which reads fewer days than an epoch."""
        finalize = spec["finalize"]
        if finalize is None or spec["trainable"] != TESTED:
            return 1.0
        days = self.dice.uniform(0.1, 0.5) * finalize["seeds"] * finalize["folds"] * epoch_s
        return self.machine.test_s * heavy(self.dice, 0.2) + days


class _Slots:
    """Gives the trials of one experiment to its slots, each as soon as it may begin."""

    def __init__(self, play: Play, spec: dict[str, Any], works: list[float], hello_s: float) -> None:
        self._play, self._spec, self._works, self._hello_s = play, spec, works, hello_s
        self._dice = play.dice
        self._ends: list[list[float]] = [[], [], []]
        """The ends of the trials that have begun, by phase."""
        self._search, self._cut = search_trials(spec), False
        self._curves = Curves(self._dice, spec)
        self._limit_s = math.inf
        if spec["max_hours"] is not None:
            hours_s = spec["max_hours"] * 3600.0
            # The test is in the hours, too.
            self._limit_s = hello_s + max(hours_s / 2.0, hours_s - 1.3 * play.machine.test_s)

    def fill(self) -> float:
        """Play all trials; return when the last one ends."""
        slots = [self._hello_s] * int(self._spec["concurrency"])
        while (phase := self._next_phase()) is not None:
            at_s = heapq.heappop(slots)
            if at_s >= self._limit_s:
                break
            if phase == 0 and self._hours_are_over(at_s):
                self._cut_search(at_s)
                heapq.heappush(slots, at_s)
            elif self._may_begin(phase, at_s):
                heapq.heappush(slots, self._trial(phase, at_s + self._play.machine.gap_s))
            else:
                heapq.heappush(slots, min(end for ends in self._ends for end in ends if end > at_s))
        return max(end for ends in self._ends for end in ends)

    def _next_phase(self) -> int | None:
        planned = (self._search, finalisation_trials(self._spec), walk_forward_trials(self._spec))
        return next((phase for phase in range(3) if len(self._ends[phase]) < planned[phase]), None)

    def _may_begin(self, phase: int, at_s: float) -> bool:
        if phase == 0:
            return True
        if phase == 2:
            return max(self._ends[1]) <= at_s
        finalize, searching = self._spec["finalize"], sum(end > at_s for end in self._ends[0])
        return bool(len(self._ends[1]) // finalize["seeds"] < finalize["top"] - searching)

    def _hours_are_over(self, at_s: float) -> bool:
        """Return whether another trial and the answer do not fit any more, as domain.search_time decides it."""
        hours = self._spec["max_hours"]
        if hours is None or self._cut or len(self._ends[0]) < 2:
            return False
        epoch_s = sum(self._works) / len(self._works)
        whole_s = epoch_s * int(self._spec["max_epochs"])
        finals = finalisation_trials(self._spec) + walk_forward_trials(self._spec)
        reserve_s = min(hours * 1800.0, whole_s * math.ceil(finals / int(self._spec["concurrency"])))
        return bool(at_s - self._hello_s + reserve_s + whole_s / 2 > hours * 3600.0)

    def _cut_search(self, at_s: float) -> None:
        self._search, self._cut = len(self._ends[0]), True
        finalize = self._spec["finalize"] or {"top": None, "seeds": None}
        self._spec["searched"] = self._search
        self._play.say(at_s, "experiment.search_ended", self._spec["name"], reason="hours", trials=self._search,
                       top=finalize["top"], seeds=finalize["seeds"])  # fmt: skip

    def _trial(self, phase: int, at_s: float) -> float:
        """Play one trial from its beginning; return when it ends."""
        play, dice, name = self._play, self._dice, self._spec["name"]
        number = sum(map(len, self._ends))
        rank, epochs, reason, value = self._curves.trial(phase, len(self._ends[phase]))
        pace = self._works[rank] * heavy(dice, 0.1)
        source = ("sampled", "finalize", "walk_forward")[phase]
        play.say(at_s - play.machine.gap_s / 2, "trial.added", name, number, params={"shape_rank": rank}, source=source)
        attempt = 1
        self._start(at_s, number, attempt, None)
        lost_at = dice.randrange(epochs) if dice.random() < play.machine.killed else None
        begun = at_s
        for step in range(1, epochs + 1):
            if at_s >= self._limit_s:
                epochs, reason = step - 1, "operator"
                break
            if lost_at == step - 1:
                lost = at_s + pace * dice.random()
                play.say(lost, "trial.requeued", name, number, attempt, cause="worker_died", error=None, drill=False)
                play.spans.append((begun, lost, name, number))
                attempt, at_s = attempt + 1, lost + dice.uniform(5.0, 30.0)
                begun = at_s
                self._start(at_s, number, attempt, step - 1 or None)
            # A process's first epoch also compiles and fills caches.
            first = 1.2 if at_s == begun else 1.0
            seconds = pace * first * dice.lognormvariate(0.0, 0.05) * play.machine.slowed(at_s)
            at_s = min(at_s + seconds, self._limit_s)
            play.say(at_s, "trial.reported", name, number, attempt, step=step, value=value,
                     metrics={"time_this_iter_s": seconds}, checkpoint=None)  # fmt: skip
        play.spans.append((begun, at_s, name, number))
        at_s += 0.2
        play.say(at_s, "trial.finished", name, number, attempt, end_reason=reason, value=value, error=None,
                 record={}, epochs=epochs, seconds=0.0)  # fmt: skip
        self._ends[phase].append(at_s)
        return at_s

    def _start(self, at_s: float, number: int, attempt: int, resumed: int | None) -> None:
        self._play.say(at_s, "trial.started", self._spec["name"], number, attempt, node="n", worker_pid=1,
                       ray_trial_id="t", resumed_step=resumed)  # fmt: skip


def simulated(seed: int) -> list[Event]:
    """Return the events of a run, in the order of a log."""
    dice = random.Random(seed)
    basis = dice.choice(BASES)
    planned = budgets(dice, basis)
    play = Play(dice, machine(dice, planned), planned, now_s=10.0)
    specs = [dict(budget.spec) for budget in planned]
    figures = {} if basis is None else {
        budget.spec["name"]: {
            "basis": basis, "epoch_s": sum(budget.figures) / len(budget.figures), "at_once": budget.spec["concurrency"],
            "by_rank": {str(rank): work for rank, work in enumerate(budget.figures)},
        }
        for budget in planned
    }  # fmt: skip
    play.say(0.0, "run.created", None, fingerprint="f", experiments=len(specs), data={}, source="s", plan_text="",
             hardware={}, specs=specs, plan="p")  # fmt: skip
    play.say(1.0, "run.moved", None, state="STARTING")
    play.say(2.0, "run.started", None)
    if figures:
        play.say(3.0, "run.estimated", None, count=len(figures), basis=str(basis), experiments=figures)
    play.play()
    return list(_with_pauses(play))


def _with_pauses(play: Play) -> Iterator[Event]:
    """Yield the events in order, on the wall's clock: it goes on while the run is paused."""
    begin, end = 10.0, play.now_s
    shares = [(at, length) for at, length in sorted(play.machine.pauses) if at < 1.0]
    pauses = [begin + at * (end - begin) for at, _ in shares]
    lengths = [length * (end - begin) for _, length in shares]
    held = list(play.events)
    for at_s in pauses:
        running = [(name, number) for first, last, name, number in play.spans if first < at_s < last]
        at_work = [name for name, first, last in play.driven if first < at_s < last]
        for name in at_work:
            held.append(
                (
                    at_s,
                    "experiment.paused",
                    name,
                    None,
                    None,
                    {"action": "pause", "origin": "governor", "reason": "heat"},
                )
            )
            held.append((at_s + 1e-6, "experiment.resumed", name, None, None, {}))
        for name, number in running:
            held.append((at_s, "trial.paused", name, number, 1, {"reason": "cpu at 91 celsius", "drill": False}))
            held.append((at_s + 1e-6, "trial.resumed", name, number, 1, {"reason": None, "drill": False}))
    for seq, (at_s, event, experiment, trial, attempt, fields) in enumerate(sorted(held, key=lambda one: one[0]), 1):
        paused_s = sum(length for begun, length in zip(pauses, lengths, strict=True) if begun < at_s)
        yield Event(seq, BEGAN_S + at_s + paused_s, event, RUN, experiment, trial, attempt, fields)

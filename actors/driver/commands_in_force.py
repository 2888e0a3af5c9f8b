"""The commands in force, by node: search and scheduler ask them before work may go on.

The operator's commands come from the daemon, a governor's from its node's watchdog. The strictest of a node wins there;
a new trial may start while at least one node would take it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from actors.driver.process_local import PerProcess
from actors.driver.search_end import SearchEnd
from actors.driver.trial_registry import TrialRegistry
from supervisor.domain.command import Action, Command, Origin, in_force_for_all, in_force_on, pauses_all, run
from supervisor.domain.scope import trial_of, trial_scope


@dataclass(frozen=True)
class NodeReport:
    """The latest report of a node's watchdog.

    `largest` is the trial (EXPERIMENT/NUMBER) that holds most memory while memory is short; `waiting` are the attempts
    (experiment, number, attempt) whose heartbeat says that they wait at a closed gate, None before the first look.
    """

    command: Command
    largest: str | None = None
    waiting: frozenset[tuple[str, int, int]] | None = frozenset()

    def largest_of(self, experiment: str) -> int | None:
        """Return the number of `largest` if it is a trial of `experiment`."""
        found = trial_of(self.largest or "")
        return found[1] if found is not None and found[0] == experiment else None


class CommandsInForce(PerProcess):
    """The commands on one experiment. Written by the threads of the links, read by Tune's."""

    def __init__(self, experiment: str = "", operator: Iterable[Command] = ()) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self.experiment = experiment
        self._reports: dict[str, NodeReport] = {}
        self._asked_back: dict[int, Command] = {}
        self._listeners: list[Callable[[], None]] = []
        self._moved = threading.Condition()
        self.version = 0
        """Grows with each change of the commands, and of the attempts that wait."""
        operator = tuple(operator)
        # A trial held until its next report has had one: it comes back at its checkpoint, and must not work at all.
        self._held_at_start = {command.scope for command in operator if command.trial is not None}
        self._operator, self._stamp = _taken(operator, experiment, self._held_at_start), time.monotonic_ns()
        self.finish_reason: str | None = None
        """The reason to end this driver before its experiment's end; None while there is none."""
        self.search_end = SearchEnd()
        self.changed_spec: Mapping[str, Any] | None = None
        """The spec of the experiment as a person last changed it under this driver; None: as it began."""
        self.finalisation_held = False
        """True ends the driver after the search: another one takes its retried trials first."""

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` after each change and each report, in the thread that made it."""
        self._listeners.append(listener)

    def finish(self, reason: str) -> None:
        """End this driver; the first reason counts. Signal handlers may call it: it takes no lock."""
        self.finish_reason = self.finish_reason or reason

    def set_operator(self, commands: Iterable[Command]) -> None:
        """Replace all of the operator's commands; those for other experiments' trials are left out."""
        commands = tuple(commands)
        with self._lock:
            self._held_at_start &= {command.scope for command in commands}
            self._operator, self._stamp = _taken(commands, self.experiment, self._held_at_start), time.monotonic_ns()
        self._changed()

    def report(self, node: str, report: NodeReport) -> None:
        """Take a watchdog's report; call the listeners also if it is as before.

        A watchdog answers every few seconds at the latest: a change that no listener was called for is then seen.
        """
        with self._lock:
            same = self._reports.get(node) == report
            self._reports[node] = report
        self._changed(same=same)

    def forget_node(self, node: str) -> None:
        """Forget the reports of a node that has left the cluster."""
        with self._lock:
            self._reports.pop(node, None)
        self._changed()

    def for_watchdogs(self) -> tuple[tuple[Command, ...], int]:
        """Return the commands that watchdogs apply, and the CLOCK_MONOTONIC nanosecond of their last change.

        These are the operator's, and a STOP for each trial whose memory is asked back.
        """
        with self._lock:
            return (*self._operator, *self._asked_back.values()), self._stamp

    def governors(self) -> dict[str, tuple[Command, int | None]]:
        """Return the governor's command of each node, and our largest trial there if memory is short."""
        with self._lock:
            return {
                node: (report.command, report.largest_of(self.experiment)) for node, report in self._reports.items()
            }

    def to_shed(self, running: Iterable[int]) -> int | None:
        """Return the trial of `running` that SHED takes: the largest where memory is short, else the youngest."""
        running = list(running)
        with self._lock:
            largest = {report.largest_of(self.experiment) for report in self._reports.values()}
        return max([n for n in running if n in largest] or running, default=None)

    def ask_back(self, number: int, reason: str) -> None:
        """Make a trial leave its work at its next batch, until `given_back`."""
        with self._lock:
            scope = trial_scope(self.experiment, number)
            self._asked_back[number] = Command(Action.STOP, Origin.GOVERNOR, reason, scope)
            self._stamp = time.monotonic_ns()
        self._changed()

    def given_back(self, number: int) -> bool:
        """Note that an attempt is over; return whether its memory had been asked back."""
        with self._lock:
            asked = self._asked_back.pop(number, None) is not None
            if asked:
                self._stamp = time.monotonic_ns()
        if asked:
            self._changed()
        return asked

    def for_new_trials(self) -> Command:
        """Return the command of the freest node."""
        with self._lock:
            return in_force_for_all(self._operator, {node: report.command for node, report in self._reports.items()})

    def is_paused(self) -> bool:
        """Return whether every node is paused: an operator's HOLD stays in force under a governor's SHED."""
        with self._lock:
            governors = {node: report.command for node, report in self._reports.items()}
            return pauses_all(self._operator, governors) is not None

    def on_trial(self, node: str, number: int) -> Command:
        """Return the strictest command on a trial that runs on `node`; without a watchdog there, the operator's."""
        with self._lock:
            return self._on(node, trial_scope(self.experiment, number))

    def _on(self, node: str, trial: str | None = None) -> Command:
        report = self._reports.get(node)
        return in_force_on(node, self._operator, None if report is None else report.command, trial)

    def must_wait(self, node: str, number: int, *, reported: bool) -> bool:
        """Return whether a trial must not work; `reported` says that it is at the end of a step.

        A node's HOLD lets its running trials finish; the HOLD of one trial lets it work to its next report.
        """
        least, scope = Action.HOLD if reported else Action.PAUSE, trial_scope(self.experiment, number)
        with self._lock:
            alone = any(command.action >= least for command in self._operator if command.scope == scope)
            return alone or self._on(node).action >= Action.PAUSE

    def is_waiting(self, node: str, number: int, attempt: int) -> bool | None:
        """Return whether an attempt waits at its gate, by its heartbeat; None while no watchdog of `node` reports."""
        with self._lock:
            report = self._reports.get(node)
            if report is None or report.waiting is None:
                return None
            return (self.experiment, number, attempt) in report.waiting

    def keeps_out(self, number: int) -> bool:
        """Return whether the operator holds this one trial."""
        scope = trial_scope(self.experiment, number)
        with self._lock:
            return any(command.scope == scope for command in self._operator)

    def wait_change(self, version: int, timeout_s: float) -> None:
        """Return as soon as `version` is not the latest any more, at the latest after `timeout_s`."""
        with self._moved:
            self._moved.wait_for(lambda: self.version != version, timeout=timeout_s)

    def _changed(self, *, same: bool = False) -> None:
        """Act on a change; `same` says that a report is as the one before, so that no wait ends."""
        command = self.for_new_trials()
        if command.action is Action.STOP:
            self.finish(f"STOP by the {command.origin}: {command.reason}")
        for listener in self._listeners:
            listener()
        if not same:
            with self._moved:
                self.version += 1
                self._moved.notify_all()


def asks(before: Command, now: Command) -> bool:
    """Return whether a governor's move from `before` to `now` asks for memory: from SHED on, each step up does."""
    return now.action >= Action.SHED and now.step > before.step


class MemoryGuard:
    """Asks the largest trial for its memory before the kernel ends it: the trial saves itself, leaves, and comes back.

    The node's governor decides when: at each step up its ladder while memory is short. For trials with checkpoints.
    """

    def __init__(self, in_force: CommandsInForce, registry: TrialRegistry) -> None:
        self._in_force, self._registry = in_force, registry
        self._before: dict[str, Command] = {}
        # Re-entered: asking is itself a change of the commands in force.
        self._looking = threading.RLock()

    def look(self) -> None:
        """Ask on each node whose governor has moved up and knows its largest trial. Any thread may call it."""
        with self._looking:
            for node, (command, largest) in self._in_force.governors().items():
                before = self._before.get(node, run(Origin.GOVERNOR))
                self._before[node] = command
                running = {entry.number for entry in self._registry.running()}
                if asks(before, command) and largest in running:
                    self._in_force.ask_back(largest, command.reason)


def _taken(commands: Iterable[Command], experiment: str, held_at_start: Container[str]) -> tuple[Command, ...]:
    """Return the commands on an experiment; one that holds a trial since the driver's start keeps it from all work."""
    ours = (command for command in commands if command.trial is None or command.trial[0] == experiment)
    return tuple(replace(one, action=Action.PAUSE) if one.scope in held_at_start else one for one in ours)

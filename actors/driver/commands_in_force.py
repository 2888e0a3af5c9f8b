"""Which commands are in force, by node: what search and scheduler ask before they let work go on.

The operator's commands come from the daemon, a governor's from its node's watchdog. The strictest of a node wins there;
a new trial may start while at least one node would take it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from actors.driver.process_local import PerProcess
from supervisor.domain.command import Action, Command, Origin, in_force_for_all, in_force_on
from supervisor.domain.scope import trial_of, trial_scope


class CommandsInForce(PerProcess):
    """Written by the link's and the watchdogs' threads, read by Tune's."""

    def __init__(self, operator: Iterable[Command] = ()) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._operator, self._stamp = tuple(operator), time.monotonic_ns()
        self._governor: dict[str, Command] = {}
        self._experiment = ""
        self._largest: dict[str, str | None] = {}
        self._standing: frozenset[str] = frozenset()
        self._listeners: list[Callable[[], None]] = []
        # A plain attribute: a signal handler may set it, and must not take a lock.
        self.finish_reason: str | None = None
        self._asked_back: dict[int, Command] = {}
        self.leave: Callable[[], None] = lambda: None
        """Make all trials leave their work; the driver puts the watchdogs' means here."""
        self.tell_watchdogs: Callable[[], None] = lambda: None
        """Hand `for_watchdogs` on; the driver puts the watchdogs' means here."""

    def on_change(self, listener: Callable[[], None]) -> None:
        self._listeners.append(listener)

    def begin(self, experiment: str, commands: Iterable[Command]) -> None:
        """The experiment that this driver executes, and what the operator wanted when it began.

        A trial that was to stand from its next report on has had one: it comes back at its checkpoint, and stands.
        """
        commands = list(commands)
        self._experiment = experiment
        self._standing = frozenset(command.scope for command in commands if command.trial is not None)
        self.set_operator(commands)

    def set_operator(self, commands: Iterable[Command]) -> None:
        """All of the operator's commands; those for other experiments' trials are left out."""
        ours = [command for command in commands if command.trial is None or command.trial[0] == self._experiment]
        with self._lock:
            self._standing &= {command.scope for command in ours}
            self._operator, self._stamp = tuple(self._at_once(command) for command in ours), time.monotonic_ns()
        self._tell()

    def _at_once(self, command: Command) -> Command:
        return replace(command, action=Action.PAUSE) if command.scope in self._standing else command

    def set_governor(self, node: str, command: Command) -> None:
        with self._lock:
            self._governor[node] = command
        self._tell()

    def set_largest(self, node: str, trial: str | None) -> None:
        """The trial that holds most of a node's memory while that is short; None while it is not."""
        with self._lock:
            self._largest[node] = trial

    def to_shed(self, running: Iterable[int]) -> int | None:
        """Which of these trials goes under SHED: the largest where memory is short, else the youngest; None of none."""
        running = list(running)
        with self._lock:
            largest = [n for n in running if trial_scope(self._experiment, n) in self._largest.values()]
        return max(largest or running, default=None)

    def forget_node(self, node: str) -> None:
        """The node is gone, and what was said of it."""
        with self._lock:
            self._governor.pop(node, None)
            self._largest.pop(node, None)
        self._tell()

    def for_watchdogs(self) -> tuple[tuple[Command, ...], int]:
        """The operator's commands, a STOP for each trial whose memory is asked back, and the CLOCK_MONOTONIC
        nanosecond of the last change."""
        with self._lock:
            return (*self._operator, *self._asked_back.values()), self._stamp

    def governors(self) -> dict[str, tuple[Command, int | None]]:
        """Of each node: its governor's command, and the trial of ours that holds most while its memory is short."""
        with self._lock:
            return {node: (command, self._largest_on(node)) for node, command in self._governor.items()}

    def _largest_on(self, node: str) -> int | None:
        found = trial_of(self._largest.get(node) or "")
        return found[1] if found is not None and found[0] == self._experiment else None

    def ask_back(self, number: int, reason: str) -> None:
        """A trial is to leave its work at its next batch, until `given_back`."""
        with self._lock:
            scope = trial_scope(self._experiment, number)
            self._asked_back[number] = Command(Action.STOP, Origin.GOVERNOR, reason, scope)
            self._stamp = time.monotonic_ns()
        self.tell_watchdogs()

    def given_back(self, number: int) -> bool:
        """The attempt is over. Whether it had been asked for its memory."""
        with self._lock:
            asked = self._asked_back.pop(number, None) is not None
            if asked:
                self._stamp = time.monotonic_ns()
        if asked:
            self.tell_watchdogs()
        return asked

    def on_node(self, node: str) -> Command:
        """The strictest command on a node; one that nobody watches has the operator's only."""
        with self._lock:
            return self._on_node(node)

    def for_new_trials(self) -> Command:
        """The command of the node that is freest now."""
        with self._lock:
            return in_force_for_all(self._operator, self._governor)

    def paused(self, node: str) -> bool:
        return self.on_node(node).action >= Action.PAUSE

    def on_trial(self, node: str, number: int) -> Command:
        """The strictest command on a trial that runs on a node."""
        with self._lock:
            trial = trial_scope(self._experiment, number)
            return in_force_on(node, self._operator, self._governor.get(node), trial)

    def stands(self, node: str, number: int, *, reported: bool) -> bool:
        """Whether a trial is to stand still; `reported` says that it has come to the end of a step.

        A node's HOLD lets its running trials finish; the HOLD of one trial lets it work to its next report.
        """
        with self._lock:
            least = Action.HOLD if reported else Action.PAUSE
            alone = any(command.action >= least for command in self._for_trial(number))
            return alone or self._on_node(node).action >= Action.PAUSE

    def keeps_out(self, number: int) -> bool:
        """Whether the operator wants this one trial not to be taken up again."""
        with self._lock:
            return bool(self._for_trial(number))

    def _for_trial(self, number: int) -> list[Command]:
        scope = trial_scope(self._experiment, number)
        return [command for command in self._operator if command.scope == scope]

    def _on_node(self, node: str) -> Command:
        return in_force_on(node, self._operator, self._governor.get(node))

    def _tell(self) -> None:
        for listener in self._listeners:
            listener()

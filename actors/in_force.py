"""Which commands are in force, by node: what search and scheduler ask before they let work go on.

The operator's commands come from the daemon, a governor's from its node's watchdog. The strictest of a node wins there;
a new trial may start while at least one node would take it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable

from actors.per_process import PerProcess
from supervisor.command import ALL_NODES, Command, Origin, Rung, run, strictest


class InForce(PerProcess):
    """Written by the link's and the watchdogs' threads, read by Tune's."""

    def __init__(self, operator: Iterable[Command] = ()) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._operator, self._stamp = tuple(operator), time.monotonic_ns()
        self._governor: dict[str, Command] = {}
        self._listeners: list[Callable[[], None]] = []
        # A plain attribute: a signal handler may set it, and must not take a lock.
        self.finish_reason: str | None = None
        self.leave: Callable[[], None] = lambda: None
        """Make all trials leave their work; the driver puts the watchdogs' means here."""

    def on_change(self, listener: Callable[[], None]) -> None:
        self._listeners.append(listener)

    def set_operator(self, commands: Iterable[Command]) -> None:
        with self._lock:
            self._operator, self._stamp = tuple(commands), time.monotonic_ns()
        self._tell()

    def set_governor(self, node: str, command: Command) -> None:
        with self._lock:
            self._governor[node] = command
        self._tell()

    def forget_node(self, node: str) -> None:
        """The node is gone, and what was said of it."""
        with self._lock:
            self._governor.pop(node, None)
        self._tell()

    def operator(self) -> tuple[tuple[Command, ...], int]:
        """The operator's commands, and the CLOCK_MONOTONIC nanosecond at which they came."""
        with self._lock:
            return self._operator, self._stamp

    def on_node(self, node: str) -> Command:
        """The strictest command on a node; one that nobody watches has the operator's only."""
        with self._lock:
            return self._on_node(node)

    def for_new_trials(self) -> Command:
        """The command of the node that is freest now."""
        with self._lock:
            nodes = list(self._governor) or [ALL_NODES]
            return min((self._on_node(node) for node in nodes), key=lambda command: command.rung)

    def paused(self, node: str) -> bool:
        return self.on_node(node).rung >= Rung.PAUSE

    def _on_node(self, node: str) -> Command:
        here = [command for command in self._operator if command.scope in (ALL_NODES, node)]
        governor = self._governor.get(node, run(Origin.GOVERNOR))
        return strictest([*here, governor])

    def _tell(self) -> None:
        for listener in self._listeners:
            listener()

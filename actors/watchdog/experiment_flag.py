"""Writes the flag of one experiment on a node: its driver's commands, and the command of the node's governor.

Experiments that run side by side have one governor and one flag each: a driver that ends, or that asks one of its
trials for memory, stops no trial of another experiment.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from actors.trial.node_files import FlagWriter
from supervisor.domain.command import Action, Command, in_force_on


@dataclass(frozen=True)
class OperatorCommands:
    """Holds the commands that a driver sent, the operator's among them; a larger `stamp` is newer."""

    commands: tuple[Command, ...]
    stamp: int


class ExperimentFlag:
    """Owns a flag until `close`. Its caller holds the lock of the node's governor, but for `renew` and `age_s`."""

    def __init__(
        self, path: Path, node: str, operator: OperatorCommands, release_after_s: float, mono_s: Callable[[], float]
    ) -> None:
        """`release_after_s` are the seconds of a pause after which paused trials free their memory."""
        self.operator = operator
        self._node, self._release_after_s, self._mono_s = node, release_after_s, mono_s
        self._writer = FlagWriter(path, mono_s)
        self._paused_since_mono_s: float | None = None
        self._held_since_mono_s: dict[int, float] = {}

    def set_operator(self, operator: OperatorCommands) -> bool:
        """Take newer commands; return False for older ones, which change nothing."""
        if operator.stamp < self.operator.stamp:
            return False
        self.operator = operator
        return True

    def write(self, governor: Command, *, memory_is_short: bool) -> Command:
        """Write the flag and renew its lease; return the command that is in force for the experiment here."""
        command = in_force_on(self._node, self.operator.commands, governor)
        release, held = self._release(command, memory_is_short), self._held(memory_is_short)
        self._writer.write(command.action, command.throttle_share, release=release, held=held)
        return command

    def _held(self, memory_is_short: bool) -> dict[int, bool]:
        """Return the trials held one by one, and whether each must leave its worker. On STOP it must at once."""
        now = self._mono_s()
        # By action: where two commands hold one trial, the stricter one comes last and counts.
        commands = sorted(self.operator.commands, key=lambda command: command.action)
        held = {c.trial[1]: c.action is Action.STOP for c in commands if c.trial and c.action >= Action.PAUSE}
        self._held_since_mono_s = {number: self._held_since_mono_s.get(number, now) for number in held}
        return {
            number: memory_is_short or held[number] or now - since > self._release_after_s
            for number, since in self._held_since_mono_s.items()
        }

    def _release(self, command: Command, memory_is_short: bool) -> bool:
        """Return whether paused trials must free their memory: the pause is long, or memory is short."""
        now = self._mono_s()
        if command.action is not Action.PAUSE:
            self._paused_since_mono_s = None
            return False
        if self._paused_since_mono_s is None:
            self._paused_since_mono_s = now
        return now - self._paused_since_mono_s > self._release_after_s or memory_is_short

    @property
    def closes_any(self) -> bool:
        """Return whether the flag forbids the work of any trial."""
        return self._writer.closes_any

    def closes(self, number: int) -> bool:
        """Return whether the flag forbids the work of a trial of this experiment."""
        return self._writer.closes(number)

    @property
    def closed(self) -> tuple[bool, frozenset[int]]:
        """Return whether the flag forbids the work of all trials, and the numbers that it holds one by one."""
        return self._writer.closed

    @property
    def age_s(self) -> float:
        """Return the seconds since the last renewal of the lease."""
        return self._writer.age_s

    def renew(self) -> None:
        """Renew the lease; does nothing after `close`."""
        self._writer.renew()

    def close(self) -> None:
        """Release the file; its lease runs out, which pauses the experiment's trials."""
        self._writer.close()

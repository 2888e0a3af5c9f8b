"""Paces Tune's loop: it waits for events, and rests while no trial is at work; a change of the commands ends a rest.

Tune itself looks ten times a second while a trial works, and 2,000 times while none does.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from actors.driver import ray_private
from actors.driver.commands_in_force import CommandsInForce

MIN_REST_S, MAX_REST_S = 0.05, 0.5
RESTS_PER_QUIET = 20.0
"""A rest is at most a twentieth of the time in which nothing has changed: what is under way is not delayed."""


def rest_s(quiet_s: float) -> float:
    """Return the seconds of a rest after `quiet_s` without a change."""
    return min(MAX_REST_S, max(MIN_REST_S, quiet_s / RESTS_PER_QUIET))


class LoopPace:
    """Is asked once in each round of Tune's loop, in its thread."""

    def __init__(self, in_force: CommandsInForce, mono_s: Callable[[], float] = time.monotonic) -> None:
        self._in_force, self._mono_s = in_force, mono_s
        self._seen: tuple[object, ...] = ()
        self._quiet_since_mono_s = mono_s()

    def rest(self, tune_controller: Any, held: int, *, closed: bool) -> None:
        """Rest if no trial is at work because of a command; else say how long the loop may wait for an event.

        `held` trials wait for this loop to go on; `closed` says that a command keeps others from starting. Results, and
        workers that start or die, are events and end a wait; a change of the commands ends a rest, not a wait.
        """
        version, finishing = self._in_force.version, self._in_force.finish_reason is not None
        idle = ray_private.is_idle(tune_controller)
        now = self._mono_s()
        if (version, held, closed, idle) != self._seen or finishing:
            self._seen, self._quiet_since_mono_s = (version, held, closed, idle), now
        quiet_rest_s = rest_s(now - self._quiet_since_mono_s)
        ray_private.let_wait(tune_controller, quiet_rest_s if held or finishing else MAX_REST_S)
        if idle and (held or closed):
            self._in_force.wait_change(version, quiet_rest_s)

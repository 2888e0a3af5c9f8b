"""Runs a provider in a child process, so that native code cannot stop the watchdog.

The child writes JSON lines (isolation_child.py). A child that hangs, crashes, or writes garbage, too much or impossible
values is killed with its process group, reported as an event, and restarted after 1, 2, 4 ... 300 s. A thread in a
blocked driver could not be ended; a process can.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from supervisor.clock import Now, TimeSource
from supervisor.sensors.provider import Provider, Sampler, Sensor, failed, provider_fault
from supervisor.sensors.reading import Availability, Reading

MAX_READINGS = 512
MAX_UNREAPED = 3
"""No further child is started while so many killed ones live on (a driver in uninterruptible sleep)."""

CLOSE_S = 1.0
"""The longest wait of close() for each killed child."""


@dataclass(frozen=True)
class Patience:
    """The waits: `grace_s` limits one read(), `deadline_s` an answer, `start_s` the first answer of a child."""

    grace_s: float = 0.15
    deadline_s: float = 2.0
    start_s: float = 10.0
    back_off_s: float = 1.0
    max_back_off_s: float = 300.0
    recycle_after_s: float = 86400.0
    recycle_growth: float = 2.0
    max_line_bytes: int = 256 * 1024


DEFAULT_PATIENCE = Patience()


class _Fault(Exception):
    """The child broke the protocol; the text says in which way."""


def child_command(target: str) -> list[str]:
    """Return the command that runs the provider `target` (module:class)."""
    return [sys.executable, "-P", "-m", "supervisor.sensors.isolation_child", target]


class IsolatedProvider(Provider):
    """Talks to the provider that `command` runs; `name` names both."""

    def __init__(
        self, name: str, command: Sequence[str], clock: TimeSource, patience: Patience = DEFAULT_PATIENCE
    ) -> None:
        self.name = name
        self._command, self._clock, self._patience = list(command), clock, patience
        self._child: _Child | None = None
        self._unreaped: list[subprocess.Popen[bytes]] = []
        self._known: list[Reading] = []
        self._fault: str | None = None
        self._faults_in_a_row = 0
        self._retry_mono_s = -math.inf

    @property
    def pid(self) -> int | None:
        """Return the child's pid; None while it does not run."""
        return None if self._child is None else self._child.process.pid

    @property
    def at_fault(self) -> bool:
        """Say whether the child failed at its last start or answer; a later try may succeed."""
        return self._fault is not None

    def probe(self) -> Availability:
        """Start the child and ask it; wait `start_s` at most."""
        try:
            child = self._start()
            child.ask("probe")
            answer = child.answer(self._patience.start_s)
            if answer is None:
                _broken(f"hung: no answer in {self._patience.start_s:g} s")
            found = answer["availability"]
            availability = Availability(bool(found["ok"]), str(found["reason"]), found.get("remedy"))
        except (_Fault, OSError, KeyError, TypeError, AttributeError) as error:
            self._failed(str(error) or repr(error))
            return Availability(False, f"its process {self._fault}", "look at its driver (`dmesg`)")
        if not availability.ok:
            self.close()
        return availability

    def read(self) -> list[Reading]:
        """Return the child's readings: its last ones while it is late, their absence after it failed."""
        now = Now.of(self._clock)
        self._reap()
        if self._child is None and (now.mono_s < self._retry_mono_s or len(self._unreaped) >= MAX_UNREAPED):
            return self._missing(now)
        try:
            answer = self._exchange(now)
            if answer is not None:
                self._known = _readings(answer)
                self._fault, self._faults_in_a_row = None, 0
                if self._child is not None and self._child.is_due(now):
                    self._kill()
        except (_Fault, OSError) as error:
            self._failed(str(error) or repr(error))
            return self._missing(now)
        return list(self._known) if self._fault is None else self._missing(now)

    def close(self) -> None:
        """End the child and its process group."""
        self._kill()
        for process in self._unreaped:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=CLOSE_S)
        self._reap()

    def _start(self) -> _Child:
        self._child = _Child(self._command, self._clock, self._patience)
        return self._child

    def _exchange(self, now: Now) -> dict[str, Any] | None:
        child = self._child or self._start()
        if child.asked_mono_s is None:
            child.ask("read")
            return child.answer(self._patience.grace_s)
        # The grace time was spent when it was asked.
        answer = child.answer(0.0)
        if answer is None and now.mono_s - child.asked_mono_s > child.deadline_s:
            _broken(f"hung: no answer in {child.deadline_s:g} s")
        return answer

    def _failed(self, why: str) -> None:
        self._kill()
        self._fault = why
        wait_s = min(self._patience.max_back_off_s, self._patience.back_off_s * 2.0 ** min(self._faults_in_a_row, 32))
        self._faults_in_a_row += 1
        self._retry_mono_s = self._clock.mono_s() + wait_s

    def _kill(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            self._unreaped.append(child.process)

    def _reap(self) -> None:
        """Forget the children that have ended; never wait, since SIGKILL does not end an uninterruptible sleep."""
        self._unreaped = [process for process in self._unreaped if process.poll() is None]

    def _missing(self, now: Now) -> list[Reading]:
        sampler = Sampler(self.name, now)
        why = self._fault or "starting"
        if len(self._unreaped) >= MAX_UNREAPED:
            why = f"hung: {len(self._unreaped)} killed processes do not die"
        known = [Sensor(r.sensor_id, r.kind, r.component, r.unit, r.limits) for r in self._known]
        return [sampler.reading(sensor, failed(why)) for sensor in (provider_fault(self.name), *known)]


class _Child:
    """A running child: asks it, reads its answers, kills it."""

    def __init__(self, command: Sequence[str], clock: TimeSource, patience: Patience) -> None:
        self._clock, self._patience = clock, patience
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._stdin, self._stdout = self.process.stdin, self.process.stdout
        os.set_blocking(self._stdout.fileno(), False)
        self._born_mono_s = clock.mono_s()
        self._buffer = bytearray()
        self._answered = False
        self._first_rss_bytes: int | None = None
        self._rss_bytes: int | None = None
        self.asked_mono_s: float | None = None
        """The time of a question that is not answered yet."""

    @property
    def deadline_s(self) -> float:
        return self._patience.deadline_s if self._answered else self._patience.start_s

    def ask(self, verb: str) -> None:
        self.asked_mono_s = self._clock.mono_s()
        try:
            self._stdin.write(verb.encode() + b"\n")
            self._stdin.flush()
        except BrokenPipeError:
            self._crashed()

    def answer(self, wait_s: float) -> dict[str, Any] | None:
        """Return the next line, parsed; None if it is not there in time. Raises _Fault."""
        line = self._line(wait_s)
        if line is None:
            return None
        self.asked_mono_s, self._answered = None, True
        try:
            answer = json.loads(line)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            _broken(f"printed garbage: {line[:40]!r}")
        if isinstance(rss := answer.get("rss_bytes"), int):
            self._rss_bytes = rss
            self._first_rss_bytes = self._first_rss_bytes or rss
        return answer

    def is_due(self, now: Now) -> bool:
        """Decide whether to replace the child: daily, and when it has grown; clients of Apple's services leak."""
        if now.mono_s - self._born_mono_s >= self._patience.recycle_after_s:
            return True
        if self._rss_bytes is None or self._first_rss_bytes is None:
            return False
        return self._rss_bytes > self._patience.recycle_growth * self._first_rss_bytes

    def kill(self) -> None:
        """Kill the child's process group; do not wait for its end."""
        # Also if the child is dead: its children are in the group. For a group of zombies only, Linux raises
        # ProcessLookupError and macOS PermissionError.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        for stream in (self._stdin, self._stdout):
            # A dead child did not read its last bytes.
            with contextlib.suppress(OSError):
                stream.close()

    def _line(self, wait_s: float) -> bytes | None:
        descriptor = self._stdout.fileno()
        # Real time: it limits a wait in select(), which an injected clock cannot shorten.
        until = time.monotonic() + wait_s
        while b"\n" not in self._buffer:
            if len(self._buffer) > self._patience.max_line_bytes:
                _broken(f"printed a line of more than {self._patience.max_line_bytes} bytes")
            ready, _, _ = select.select([descriptor], [], [], max(0.0, until - time.monotonic()))
            if not ready:
                if self.process.poll() is not None:
                    self._crashed()  # a process that it started holds the pipe open
                return None
            chunk = os.read(descriptor, 65536)
            if not chunk:
                self._crashed()
            self._buffer += chunk
        line, _, rest = bytes(self._buffer).partition(b"\n")
        if rest:
            _broken(f"printed more than one line: {rest[:40]!r}")
        self._buffer.clear()
        return line

    def _crashed(self) -> NoReturn:
        try:
            code = self.process.wait(timeout=self._patience.grace_s)
        except subprocess.TimeoutExpired:
            _broken("closed its output")
        _broken(f"crashed with {signal.Signals(-code).name if code < 0 else f'exit code {code}'}")


def _broken(why: str) -> NoReturn:
    raise _Fault(why)


def _readings(answer: dict[str, Any]) -> list[Reading]:
    """Return the readings of an answer. Raises _Fault if they are not a list of valid readings."""
    entries = answer.get("readings")
    if not isinstance(entries, list) or len(entries) > MAX_READINGS:
        _broken(f"printed garbage: not a list of at most {MAX_READINGS} readings")
    try:
        return [Reading.from_json(entry) for entry in entries]
    except ValueError as error:
        _broken(f"printed garbage: {str(error)[:80]}")

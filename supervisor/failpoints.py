"""Ends or fails the daemon at a chosen step, for tests: SWEEP_FAILPOINT=POINT:HIT:FAULT. Does nothing without it.

There is a point before and after each durable step (the idea: Pillai et al., "All File Systems Are Not Created Equal",
OSDI 2014). FAULT is kill (SIGKILL), enospc or eio (the step fails as on a full or a broken disk). HIT counts from 1;
HITxTIMES repeats an error that many times (POINT:3x5:enospc fails hits 3 to 7).
"""

from __future__ import annotations

import errno
import os
import signal
from dataclasses import dataclass

KILL = ("kill",)
ANY = ("kill", "enospc", "eio")

POINTS: dict[str, tuple[str, ...]] = {
    "store.commit": ANY,
    "store.committed": KILL,
    "store.create": KILL,
    "audit.write": ANY,
    "audit.sync": ANY,
    "audit.written": KILL,
    "rotate.shift": ANY,
    "rotate.rename": ANY,
    "rotate.renamed": KILL,
    "rotate.compress": ANY,
    "rotate.compressed": KILL,
    "rotate.unlink": ANY,
    "run.folder": ANY,
    "run.plan": ANY,
    "reserve.make": ANY,
    "reserve.release": KILL,
    "rebuild.rename": ANY,
    "rebuild.renamed": KILL,
    "ack.send": KILL,
    "ready.tell": KILL,
    "daemon.close": KILL,
}
"""Every point and its faults: only a system call can fail, but the daemon can be killed anywhere."""

_ERRORS = {"enospc": errno.ENOSPC, "eio": errno.EIO}


@dataclass
class _Armed:
    point: str
    hit: int
    times: int
    fault: str
    count: int = 0


def _parse(text: str) -> _Armed | None:
    """Return the armed failpoint; None for an empty text. Raises ValueError for an unknown point or fault."""
    if not text:
        return None
    point, hit, fault = text.split(":")
    first, _, times = hit.partition("x")
    if fault not in POINTS.get(point, ()):
        raise ValueError(f"SWEEP_FAILPOINT={text}: expected a point and fault of {sorted(POINTS)}")
    return _Armed(point, int(first), int(times or 1), fault)


_armed = _parse(os.environ.get("SWEEP_FAILPOINT", ""))


def arm(text: str) -> None:
    """Arm the failpoint that `text` names in place of SWEEP_FAILPOINT's; an empty text disarms. Raises ValueError."""
    global _armed
    _armed = _parse(text)


def reached() -> bool:
    """Return True once the armed failpoint has been hit."""
    return _armed is not None and _armed.count >= _armed.hit


def hit(point: str) -> None:
    """End the process, or raise OSError, at the point and hit that SWEEP_FAILPOINT names."""
    if _armed is None or _armed.point != point:
        return
    _armed.count += 1
    if not _armed.hit <= _armed.count < _armed.hit + _armed.times:
        return
    if _armed.fault == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    number = _ERRORS[_armed.fault]
    raise OSError(number, os.strerror(number), f"failpoint {point}")

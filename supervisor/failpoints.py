"""Places where a test can end or fail the daemon: SWEEP_FAILPOINT=POINT:HIT:FAULT. Inert otherwise.

Each durable step has one on either side of it (the idea: Pillai et al., "All File Systems Are Not Created Equal",
OSDI 2014). FAULT is kill (SIGKILL), enospc or eio (the step fails as on a full or a broken disk); HIT counts from 1,
and from that hit on an error stays for as many further hits as `x` says (POINT:3x5:enospc), once when left out.
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
    "store.migrate": KILL,
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
"""Every point, and the faults that can happen there: only a system call can fail, but anything can be killed."""

_ERRORS = {"enospc": errno.ENOSPC, "eio": errno.EIO}


@dataclass
class _Armed:
    point: str
    hit: int
    times: int
    fault: str
    count: int = 0


def _parse(text: str) -> _Armed | None:
    """None for an empty text. Raises ValueError for what names no point or fault: a test's mistake, told at once."""
    if not text:
        return None
    point, hit, fault = text.split(":")
    first, _, times = hit.partition("x")
    if fault not in POINTS.get(point, ()):
        raise ValueError(f"SWEEP_FAILPOINT={text}: there is no such point with that fault")
    return _Armed(point, int(first), int(times or 1), fault)


_armed = _parse(os.environ.get("SWEEP_FAILPOINT", ""))


def hit(point: str) -> None:
    """Ends the process, or raises OSError, when this is the point and the hit that was asked for."""
    if _armed is None or _armed.point != point:
        return
    _armed.count += 1
    if not _armed.hit <= _armed.count < _armed.hit + _armed.times:
        return
    if _armed.fault == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    number = _ERRORS[_armed.fault]
    raise OSError(number, os.strerror(number), f"failpoint {point}")

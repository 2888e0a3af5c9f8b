"""Runs one provider as a child process: a line `probe` or `read` in, one JSON line out.

    python -P -m supervisor.sensors.isolation_child supervisor.sensors.hwmon:HwmonProvider

It is killed without warning (isolation.py) and ends when its parent has ended. It imports its provider only, since each
child pays for every megabyte.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict
from importlib import import_module
from queue import Queue
from typing import Any

from supervisor.clock import Clock
from supervisor.sensors.provider import Provider

MAX_WAITING = 16


def load_provider(target: str) -> Provider:
    """Return the provider `module:class`, with the machine's clocks. Raises ValueError, ImportError, AttributeError."""
    module, separator, name = target.partition(":")
    if not separator:
        raise ValueError(f"expected module:class, found {target!r}")
    make: Callable[[Clock], Provider] = getattr(import_module(module), name)
    return make(Clock())


def answer(provider: Provider, verb: str) -> dict[str, Any]:
    if verb == "probe":
        return {"availability": asdict(provider.probe()), "rss_bytes": rss_bytes()}
    return {"readings": [reading.to_json() for reading in provider.read()], "rss_bytes": rss_bytes()}


def rss_bytes() -> int:
    """Return the resident memory: the present one on Linux, the largest so far elsewhere."""
    try:
        with open("/proc/self/statm") as statm:  # noqa: PTH123 - pathlib costs a child 2 MB
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _listen(verbs: Queue[str]) -> None:
    """Read verbs; end the process when the parent ends, even while native code holds the main thread."""
    for line in sys.stdin:
        verbs.put(line.strip())
    os._exit(0)


def main(target: str) -> None:
    # Native libraries write to descriptor 1; the answers use a private copy of it.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)
    verbs: Queue[str] = Queue(MAX_WAITING)
    threading.Thread(target=_listen, args=(verbs,), daemon=True).start()
    provider = load_provider(target)
    while True:
        out.write(json.dumps(answer(provider, verbs.get())) + "\n")
        out.flush()


if __name__ == "__main__":
    main(sys.argv[1])

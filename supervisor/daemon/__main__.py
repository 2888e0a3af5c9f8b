"""Starts the daemon: `python -P -m supervisor.daemon --ready-fd N < request.json`.

The request on standard input is the StartRequest that `supervisord start` made.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import sys
from collections.abc import Sequence

from supervisor.audit.rebuild import open_or_rebuild
from supervisor.clock import Clock
from supervisor.control.handshake import Readiness, StartRequest
from supervisor.daemon.assembly import assemble
from supervisor.daemon.upkeep.crash_loop import status_for_manager, under_launchd
from supervisor.daemon.upkeep.debug_log import set_up_logging
from supervisor.errors import SweepError, SystemRefused
from supervisor.home import Home, find_home
from supervisor.home_lock import take_lock

log = logging.getLogger("supervisor")


def main(argv: Sequence[str] | None = None) -> int:
    """Live one daemon's life; return its exit code."""
    parser = argparse.ArgumentParser(prog="supervisor.daemon", description=__doc__)
    parser.add_argument("--ready-fd", type=int, default=None)
    arguments = parser.parse_args(argv)
    ready = Readiness(arguments.ready_fd)
    home = find_home()
    try:
        home.refuse_network_disk()
        home.prepare()
        set_up_logging(home)
        request = StartRequest(**json.load(sys.stdin))
        lock = take_lock(home, f"plan {request.plan}" if request.plan else "")
        try:
            return asyncio.run(serve(home, request, ready))
        finally:
            os.close(lock)
    except SweepError as error:
        log.error("%s", error.render())  # noqa: TRY400 - an error of ours says it all; a trace would bury it
        return status_for_manager(ready.fail(error), launchd=under_launchd())
    except OSError as error:
        log.exception("the operating system refused")
        return ready.fail(SystemRefused.because(error))


async def serve(home: Home, request: StartRequest, ready: Readiness) -> int:
    """Open the store and run the daemon of a home whose lock is taken; return its exit code."""
    clock = Clock()
    store, rebuilt = open_or_rebuild(home, clock)
    try:
        return await assemble(home, store, clock, request, rebuilt).live(ready)
    finally:
        store.close()


if __name__ == "__main__":
    sys.exit(main())

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
from dataclasses import replace

from supervisor.audit.rebuild import open_or_rebuild
from supervisor.clock import Clock
from supervisor.control.handshake import Readiness, StartRequest
from supervisor.control.plan_queue import Entry, PlanQueue
from supervisor.daemon.assembly import assemble
from supervisor.daemon.daemon import Daemon
from supervisor.daemon.upkeep.crash_loop import status_for_manager, under_launchd
from supervisor.daemon.upkeep.debug_log import set_up_logging
from supervisor.daemon.upkeep.sd_notify import ServiceNotify
from supervisor.domain.lifecycle import ProcessState
from supervisor.errors import DiskFailed, DiskFull, NotFound, StoreError, SweepError, SystemRefused
from supervisor.home import Home, find_home
from supervisor.home_lock import take_lock
from supervisor.store import lookups
from supervisor.store.database import Store

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
    """Open the store and run the daemons of a home whose lock is taken, one for each run; return the exit code.

    After a run that has ended the plans of the queue follow.
    """
    clock, service, queue = Clock(), ServiceNotify(), PlanQueue(home)
    store, rebuilt = open_or_rebuild(home, clock)
    try:
        try:
            daemon = assemble(home, store, clock, request, rebuilt, service)
        except NotFound:
            # A start without a plan, and no run to go on with.
            plain = request.plan is None and not (request.retry or request.extend)
            following = next_daemon(home, store, clock, queue, service) if plain else None
            if following is None:
                raise
            daemon = following
        while True:
            code = await daemon.live(ready)
            if daemon.writer.run_state() is not ProcessState.EXITED:
                return code
            following = next_daemon(home, store, clock, queue, service)
            if following is None:
                return code
            daemon = following
    finally:
        store.close()


def next_daemon(home: Home, store: Store, clock: Clock, queue: PlanQueue, service: ServiceNotify) -> Daemon | None:
    """Return the daemon of the queue's next plan; None without one.

    An entry that cannot begin keeps the reason, and the next one has its turn.
    """
    store.forget_listeners()
    while (entry := _first_of(queue)) is not None:
        if lookups.has_advanced(store, entry.id):
            queue.drop(entry.id)  # its run had begun, and the daemon was killed before it could drop it
            continue
        queued = {"id": entry.id, "who": entry.who, "queued_wall": entry.queued_wall}
        try:
            daemon = assemble(home, store, clock, replace(entry.request, queued=queued), service=service)
        except (DiskFull, DiskFailed):
            raise
        except SweepError as error:
            log.error("plan %s of the queue cannot begin: %s", entry.plan, error.render())  # noqa: TRY400 - as above
            queue.fail(entry.id, error.sentence())
        else:
            queue.drop(entry.id)
            return daemon
    return None


def _first_of(queue: PlanQueue) -> Entry | None:
    """Return the queue's next entry; None also where its file cannot be read: a run that ended well stays so."""
    try:
        return queue.first()
    except StoreError as error:
        log.error("the queue is left alone: %s", error.render())  # noqa: TRY400 - as above
        return None


if __name__ == "__main__":
    sys.exit(main())

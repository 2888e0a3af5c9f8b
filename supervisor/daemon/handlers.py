"""Handles the API's verbs (control.api.Verbs): reads the state, records each wish, and passes it on."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from supervisor import __version__
from supervisor.audit import run_files
from supervisor.audit.maintenance import back_up
from supervisor.audit.rebuild import Rebuilt
from supervisor.clock import Clock
from supervisor.daemon.command_scope import ScopeResolver
from supervisor.daemon.live_page import LivePage
from supervisor.daemon.orchestrator import Orchestrator
from supervisor.daemon.run_selection import try_again
from supervisor.daemon.steering import Steering
from supervisor.daemon.upkeep.disk_reserve import DiskReserve
from supervisor.daemon.upkeep.schedule_watch import ScheduleWatch
from supervisor.daemon.upkeep.underuse import UnderuseWatch
from supervisor.domain.command import Action, Command, Origin
from supervisor.domain.eta.forecast import with_eta
from supervisor.domain.lifecycle import TRIAL_ENDED
from supervisor.domain.run_words import way_on, without_daemon
from supervisor.domain.scope import ALL_NODES, trial_of
from supervisor.domain.search_time import why_not_finish
from supervisor.errors import Conflict, DiskFailed, UsageError
from supervisor.home import Home
from supervisor.plan.drift import PlanSource
from supervisor.redaction import redact
from supervisor.sensors.drills import DRILLS
from supervisor.store import lookups, queries
from supervisor.store.history_queries import history
from supervisor.store.run_writer import RunWriter
from supervisor.store.status_cache import StatusView
from supervisor.store.steering.retry_writer import RetryWriter


class Handlers:
    """Handles the verbs of one run. Each raises SweepError to refuse."""

    def __init__(
        self,
        home: Home,
        writer: RunWriter,
        clock: Clock,
        plan: str,
        orchestrator: Orchestrator,
        reserve: DiskReserve,
        source: PlanSource,
        rebuilt: Rebuilt | None,
        underuse: UnderuseWatch,
        schedule: ScheduleWatch,
        disk_failed: Callable[[DiskFailed], None],
        page: LivePage,
    ) -> None:
        """`disk_failed` is called when a verb finds that nothing can be committed any more."""
        self._home, self._writer, self._clock, self._plan = home, writer, clock, plan
        self._orchestrator, self._reserve, self._source, self._rebuilt = orchestrator, reserve, source, rebuilt
        self._underuse, self._schedule, self._page = underuse, schedule, page
        self._started_wall_s = clock.wall_s()
        self._view = StatusView(writer.store.connection, writer.run_id)
        self.steering = Steering(writer, orchestrator, source.take_over)
        self.disk_failed = disk_failed

    def facts(self) -> dict[str, Any]:
        """Return the facts that `start` prints."""
        head = self._orchestrator.ray.head
        return {
            "run": self._writer.run_id,
            "plan": self._plan,
            "pid": os.getpid(),
            "log": str(self._home.audit_log(self._plan)),
            "socket": str(self._home.socket),
            "dashboard": head.dashboard if head else None,
            "dashboard_port_taken": head.port_taken if head else None,
            "token_file": str(self._home.ray_token),
            "page": self._page.address,
            "started_wall": self._started_wall_s,
            "stopping": self._orchestrator.stop.asked(),
            "rebuilt": None if self._rebuilt is None else self._rebuilt.sentence(),
        }

    def status(self, trials: bool) -> dict[str, Any]:
        """Return the run as the store has it, and the daemon's own state; with `trials` every trial too."""
        store, run_id = self._writer.store, self._writer.run_id
        return self.completed(queries.run_snapshot(store.connection, run_id) if trials else self._view.now())

    def completed(self, view: dict[str, Any]) -> dict[str, Any]:
        """Return a view of the run's store with the daemon's own state."""
        left_s = self._orchestrator.left_s
        experiments = [
            {**one, "left_s": left_s[one["name"]]} if one["name"] in left_s else one for one in view["experiments"]
        ]
        now, now_wall = self._clock.mono_s(), self._clock.wall_s()
        nodes = {
            name: {
                "protected": node.protected,
                "missing": node.missing,
                "command": node.command.to_json(),
                "age_s": None if node.message_mono_s is None else round(now - node.message_mono_s, 1),
                "readings": node.readings,
            }
            for name, node in self._orchestrator.nodes.items()
        }
        return {
            **with_eta({**view, "experiments": experiments}, now_wall),
            "daemon": self.facts() | {"version": __version__, "now_wall": now_wall},
            "plan_file": self._source.view(),
            "disk": self._reserve.view(),
            "store_locked": self._writer.store.locked,
            "held": [command.to_json() for command in self._orchestrator.full_disks()],
            "in_force": self._orchestrator.in_force().to_json(),
            "shortage": self._orchestrator.shortage,
            "underused": None if self._underuse.now is None else asdict(self._underuse.now),
            "nodes": nodes,
        }

    async def pause(
        self, target: str | None, now: bool, reason: str, who: str, node: str | None = None
    ) -> dict[str, Any]:
        """Put an operator's command in force: a PAUSE (`now`) or a HOLD."""
        scope = self._scopes().to_pause(target, node, self._writer.commands())
        action = Action.PAUSE if now else Action.HOLD
        command = Command(action, Origin.OPERATOR, redact(reason), scope, self._clock.wall_s(), who=who)
        mode = "now" if now else "after running trials" if command.trial is None else "at its next report"
        self._writer.put_command(command, mode)
        await self._orchestrator.commands_changed()
        return {"command": command.to_json()}

    async def resume(
        self, target: str | None, who: str, node: str | None = None, force: bool = False, for_s: float | None = None
    ) -> dict[str, Any]:
        """Lift an operator's command; with `force` overrule the governor, too, with `for_s` the schedule so long."""
        scope = self._scopes().to_resume(target, node, self._writer.commands())
        if for_s is not None and (force or scope != ALL_NODES):
            raise UsageError("--for overrules the schedule of the whole run: ask without trial, node and --force")
        if force:
            if trial_of(scope) is not None:
                raise UsageError("--force overrules a node's governor; no trial has one of its own")
            await self._orchestrator.force(None if scope == ALL_NODES else scope, who)
        if for_s is not None:
            self._schedule.overrule(for_s, who)
        lifted = self._writer.drop_command(scope, who)
        await self._orchestrator.commands_changed()
        commands = [command.to_json() for command in self._writer.commands()]
        return {"lifted": lifted, "in_force": self._orchestrator.in_force().to_json(), "commands": commands}

    def _scopes(self) -> ScopeResolver:
        orchestrator = self._orchestrator
        return ScopeResolver(
            self._writer.store, self._writer.run_id, self._plan, orchestrator.experiment, orchestrator.nodes
        )

    async def retry(self, target: str | None, who: str) -> dict[str, Any]:
        """Try again what failed in the run, in one experiment, or one trial. Raises Conflict when there is nothing."""
        if self._orchestrator.ending():
            raise Conflict(
                "the run is ending", remedy="once it has ended, `supervisord start --retry` tries again what failed"
            )
        only, number = self._scopes().to_retry(target)
        retries = try_again(RetryWriter(self._writer.store, self._writer.run_id), who, only, number)
        await self._orchestrator.retried(retries)
        return {"retries": [asdict(retry) for retry in retries]}

    async def finish(self, target: str | None, who: str) -> dict[str, Any]:
        """End the search of an experiment; its answer follows. Raises Conflict when there is nothing to end."""
        name, store, run_id = self._scopes().to_finish(target), self._writer.store, self._writer.run_id
        if self._orchestrator.stop.asked():
            raise Conflict("the run is ending", remedy="the next `supervisord start` goes on; then ask again")
        trials = [dict(row) for row in lookups.trials(store, run_id, name)]
        spec, state = lookups.spec(store, run_id, name), self._writer.experiment_state(name)
        refusal = why_not_finish(state, spec, trials)
        if refusal is not None:
            raise Conflict(f"{name} cannot finish: {refusal}")
        await self._orchestrator.finish(name, who)
        running = sum(trial["state"] not in TRIAL_ENDED for trial in trials)
        return {"experiment": name, "trials": len(trials), "running": running}

    async def stop(self, who: str) -> dict[str, Any]:
        """Stop the run: it does not go on by itself."""
        self._writer.record("run.stopped", who=who)
        self._orchestrator.stop.ask(f"stopped by {who}")
        return self._way_on()

    async def shutdown(self, who: str) -> dict[str, Any]:
        """Stop the daemon: the run goes on at the next start."""
        self._orchestrator.stop.ask(f"shut down by {who}")
        return self._way_on()

    def _way_on(self) -> dict[str, Any]:
        run = lookups.run(self._writer.store, self._writer.run_id)
        return {"run": self._writer.run_id, "way_on": way_on(run)}

    async def backup(self, path: Path, who: str) -> dict[str, Any]:
        """Copy the store to `path`."""
        size = back_up(self._writer.store, path)
        self._writer.record("store.copied", path=str(path), bytes=size, who=who)
        return {"path": str(path), "bytes": size}

    async def page(self, http: str) -> dict[str, Any]:
        """Open the live page, or close it; return its address with the token, None while it is closed."""
        return {"page": await self._page.switch(http)}

    async def metrics(self) -> str:
        """Return the run's figures for Prometheus. Raises StoreError."""
        return await self._page.metrics()

    def runs(self) -> dict[str, Any]:
        """Return the runs of this home, and why the files of some must stay."""
        return {"runs": [asdict(one) for one in run_files.old_runs(self._writer.store.connection, self._writer.run_id)]}

    def history(self, last: int) -> dict[str, Any]:
        """Return the newest runs of this home in short (history_queries.history)."""
        return {"runs": history(self._writer.store.connection, last, self._writer.run_id)}

    def run(self, run: str | None, trials: bool) -> dict[str, Any]:
        """Return this daemon's run as `status` does, or another one of the home. Raises NotFound."""
        connection = self._writer.store.connection
        found = self._writer.run_id if run is None else queries.run_named(connection, run)
        if found == self._writer.run_id:
            return self.status(trials)
        return without_daemon(
            queries.run_snapshot(connection, found) if trials else StatusView(connection, found).now()
        )

    async def remove(self, run: str, who: str) -> dict[str, Any]:
        """Delete the files of an ended run; this daemon's own run records it."""
        store, own = self._writer.store, self._writer.run_id
        run_files.ask_removal(store, own, run, who, own)
        deleted = await asyncio.to_thread(run_files.delete_files, self._home, run)
        run_files.record_deleted(store, own, deleted)
        return asdict(deleted)

    async def drill(self, name: str, duration_s: float, node: str | None) -> dict[str, Any]:
        """Start a drill now, or with the next watchdog."""
        if name not in DRILLS:
            raise UsageError(f"no drill is called {name!r}; there are {', '.join(sorted(DRILLS))}")
        if node is not None:
            node = self._scopes().to_drill(node)
        begun = await self._orchestrator.drill(name, duration_s, node)
        return {"name": name, "duration_s": duration_s, "begun": begun}

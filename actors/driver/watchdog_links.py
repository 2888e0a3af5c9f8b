"""The driver's end of the watchdogs: finds or starts one on each node, listens to it, and tells daemon and search.

One thread per node keeps one long poll outstanding, so a change of command arrives within milliseconds.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from actors.driver.commands_in_force import CommandsInForce
from actors.driver.daemon_link import DaemonLink
from actors.trial.worker_exit import Death
from actors.watchdog.actor import WatchdogActor, WatchdogSettings, shape
from supervisor.domain.command import Action, Command, Origin
from supervisor.domain.messages import ActionChanged, Sampled, SensorNoted, WatchdogUp, WorkerStuck

POLL_S = 2.0
SAMPLE_EVERY_S = 5.0
START_WITHIN_S = 60.0
ANSWER_WITHIN_S = 5.0
RETRY_AFTER_S = 1.0
NODES_EVERY_S = 10.0
MAX_CONCURRENCY = 8
"""RPCs at a time: one may wait for a change while others go through."""

LOG = logging.getLogger("watchdog-link")


class WatchdogLinks:
    """All nodes' watchdogs. `settings` is `begin.watchdog`: gate, policy, script, and folders to watch for space."""

    def __init__(self, link: DaemonLink, in_force: CommandsInForce, settings: Mapping[str, Any]) -> None:
        self._link, self._in_force, self._settings = link, in_force, settings
        self._nodes: dict[str, _Node] = {}
        self._forced_s: float | None = settings.get("forced_s")

    def start(self) -> None:
        """Find or start every node's watchdog. Raises ray.exceptions.RayError when one does not come up."""
        hosts = _hosts()
        for node in sorted(hosts):
            self._nodes[node] = self._add(node, hosts)
            self._nodes[node].find()
        # Once: a watchdog that comes later has not been overruled.
        self._forced_s = None
        for found in self._nodes.values():
            found.listen()
        threading.Thread(target=self._follow_the_cluster, name="nodes", daemon=True).start()

    def _follow_the_cluster(self) -> None:
        """A node that joins gets a watchdog, without which no trial would move there; one that is gone is forgotten."""
        while True:
            time.sleep(NODES_EVERY_S)
            try:
                alive = _hosts()
            except ray.exceptions.RayError as error:
                LOG.warning("Ray does not say which nodes there are: %s", error)
                continue
            # A new dict each time: other threads go over the old one.
            left = {node: found for node, found in self._nodes.items() if node in alive}
            gone = [found for node, found in self._nodes.items() if node not in alive]
            joined = {node: self._add(node, alive) for node in sorted(set(alive) - set(left))}
            self._nodes = {**left, **joined}
            for found in gone:
                found.gone.set()
            for found in joined.values():
                found.listen()

    def _add(self, node: str, hosts: Mapping[str, str]) -> _Node:
        return _Node(self._link, self._in_force, self._of(node, hosts), self._forced_s)

    def _of(self, node: str, hosts: Mapping[str, str]) -> WatchdogSettings:
        settings = self._settings
        return WatchdogSettings(
            node=node,
            gate=settings["gate"],
            policy=settings["policy"],
            script=settings.get("script"),
            folders=tuple(settings.get("folders") or ()),
            memory=None if settings.get("memory") is None else memory_file(settings["memory"], node, hosts),
        )

    def set_operator(self, commands: Iterable[Command], stamp: int) -> None:
        """Hand on what the operator wants; returns without waiting. A watchdog that is away gets it when it is back."""
        body = [command.to_json() for command in commands]
        for found in self._nodes.values():
            found.call("set_operator", body, stamp)

    def start_drill(self, name: str, duration_s: float, node: str | None) -> None:
        for found in self._nodes.values():
            if node in (None, found.node):
                found.call("start_drill", name, duration_s)

    def how_died(self, node: str, experiment: str, number: int, attempt: int) -> Death:
        """How an attempt's worker died, as the watchdog of its node knows; all are asked where `node` is empty."""
        for found in self._nodes.values():
            if node in ("", found.node) and (death := found.how_died(experiment, number, attempt)) is not None:
                return death
        return Death(node=node)

    def force(self, node: str | None, for_s: float) -> None:
        """Hand on the operator's word against the governor."""
        for found in self._nodes.values():
            if node in (None, found.node):
                found.call("force", for_s)


def _hosts() -> dict[str, str]:
    """The host of each node of the cluster that is alive, by the node's id."""
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return {str(node["NodeID"]): str(node["NodeManagerHostname"]) for node in nodes if node["Alive"]}


def memory_file(prefix: str, node: str, hosts: Mapping[str, str]) -> str:
    """Where the governor of a node keeps its memory: by host, since a node's id dies with its cluster.

    Where one host has several nodes, which only a simulated cluster has, all but the first keep theirs by id.
    """
    host = hosts[node]
    first = min(other for other, its_host in hosts.items() if its_host == host)
    name = "".join(sign if sign.isalnum() or sign in "-." else "_" for sign in host)
    return f"{prefix}.{name}" if node == first else f"{prefix}.{name}.{node[:12]}"


class _Node:
    """One node's watchdog."""

    def __init__(
        self, link: DaemonLink, in_force: CommandsInForce, settings: WatchdogSettings, forced_s: float | None
    ) -> None:
        self._link, self._in_force, self._settings, self._forced_s = link, in_force, settings, forced_s
        self.node = settings.node
        self._actor: Any = None
        self._version = 0
        self._command: Command | None = None
        self._sampled_mono_s = float("-inf")
        self._away = False
        self.gone = threading.Event()
        """Set when the node has left the cluster."""

    def listen(self) -> None:
        threading.Thread(target=self._listen, name=f"watchdog-{self.node[:8]}", daemon=True).start()

    def find(self) -> None:
        """Find the node's watchdog or start it, and bring it up to date."""
        self._actor = (
            ray.remote(WatchdogActor)
            .options(
                name=f"watchdog-{self.node[:12]}",
                lifetime="detached",
                get_if_exists=True,
                num_cpus=0,
                max_restarts=-1,
                max_concurrency=MAX_CONCURRENCY,
                scheduling_strategy=NodeAffinitySchedulingStrategy(self.node, soft=False),
            )
            .remote(self._settings)
        )
        snapshot = ray.get(self._actor.configure.remote(self._settings), timeout=START_WITHIN_S)
        if self._forced_s is not None:
            # Before its STOP is heard, which would end this driver.
            snapshot = ray.get(self._actor.force.remote(self._forced_s), timeout=ANSWER_WITHIN_S)
            self._forced_s = None
        commands, stamp = self._in_force.for_watchdogs()
        body = [command.to_json() for command in commands]
        ray.get(self._actor.set_operator.remote(body, stamp), timeout=ANSWER_WITHIN_S)
        self._away = False
        self._link.send(WatchdogUp(self.node, snapshot["pid"], snapshot["protected"], snapshot["missing"]))
        self._take(snapshot)

    def call(self, method: str, *arguments: Any) -> None:
        if self._actor is not None:
            getattr(self._actor, method).remote(*arguments)

    def how_died(self, experiment: str, number: int, attempt: int) -> Death | None:
        """None where it is not of this node, or its watchdog does not say."""
        actor = self._actor
        if actor is None:
            return None
        try:
            body = ray.get(actor.how_died.remote(experiment, number, attempt), timeout=ANSWER_WITHIN_S)
        except ray.exceptions.RayError as error:
            LOG.warning("the watchdog of node %s does not say how a worker died: %s", self.node, error)
            return None
        return None if body is None else Death.from_json({**body, "node": self.node})

    def _listen(self) -> None:
        while not self.gone.is_set():
            try:
                if self._actor is None:
                    self.find()
                waiting = self._actor.wait_change.remote(self._version, POLL_S)
                self._take(ray.get(waiting, timeout=POLL_S + ANSWER_WITHIN_S))
            except ray.exceptions.RayError as error:
                # It died, hangs, or is being restarted. Its flag's lease runs out meanwhile, which pauses its trials.
                LOG.warning("the watchdog of node %s does not answer: %s", self.node, error)
                self._lost(error)
        self._in_force.forget_node(self.node)

    def _lost(self, error: ray.exceptions.RayError) -> None:
        if self._actor is not None and isinstance(error, ray.exceptions.GetTimeoutError):
            # Hung counts as dead; Ray starts another in its place.
            ray.kill(self._actor, no_restart=False)
        self._actor, self._version = None, 0
        self._govern(Command(Action.HOLD, Origin.GOVERNOR, "its watchdog does not answer", self.node, time.time()))
        if not self._away:
            self._away = True
            self._link.send(SensorNoted(self.node, "watchdog.lost", {"why": str(error)[:500]}))
        self.gone.wait(RETRY_AFTER_S)

    def _take(self, snapshot: Mapping[str, Any]) -> None:
        self._version = snapshot["version"]
        self._in_force.set_largest(self.node, snapshot["largest_trial"])
        self._govern(Command.from_json(snapshot["command"]))
        for note in snapshot["notes"]:
            if note["kind"] == "worker.stuck":
                self._link.send(self._stuck(note["facts"]))
            elif note["kind"] != "action.changed":
                self._link.send(SensorNoted(self.node, note["kind"], note["facts"]))
        now = time.monotonic()
        if now - self._sampled_mono_s >= SAMPLE_EVERY_S:
            self._sampled_mono_s = now
            self._link.send(Sampled(self.node, snapshot["readings"], snapshot["protected"]))

    def _stuck(self, facts: Mapping[str, Any]) -> WorkerStuck:
        return WorkerStuck(facts["number"], facts["attempt"], self.node, facts["pid"], facts["why"])

    def _govern(self, command: Command) -> None:
        if self._command is None or shape(command) != shape(self._command):
            self._command = command
            # First the cause, then what it does to trials.
            self._link.send(ActionChanged(self.node, command.to_json()))
            self._in_force.set_governor(self.node, command)

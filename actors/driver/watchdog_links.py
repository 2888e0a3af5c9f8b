"""The driver's end of the watchdogs: finds or starts one on each node, and passes messages both ways.

One thread per node keeps one long poll outstanding, so a change of command arrives within milliseconds.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from actors.driver.commands_in_force import CommandsInForce, NodeReport
from actors.driver.daemon_link import DaemonLink
from actors.driver.process_local import PerProcess
from actors.trial.worker_exit import Death
from actors.watchdog.actor import WatchdogActor
from actors.watchdog.node_governor import WatchdogSettings, differs
from actors.watchdog.state_file import state_path
from supervisor.domain.command import Action, Command, Origin
from supervisor.domain.messages import ActionChanged, Sampled, SensorNoted, WatchdogUp, WorkerStuck

POLL_S = 5.0
"""The answer without a change. A watchdog that hangs is noticed ANSWER_WITHIN_S later, while its lease still runs."""
SAMPLE_EVERY_S = 4.5
"""The shortest time between two samples for the daemon: a poll that ends a moment early brings one, too."""
START_WITHIN_S = 60.0
ANSWER_WITHIN_S = 5.0
RETRY_AFTER_S = 1.0
NODES_EVERY_S = 10.0
LISTED_DEAD_S = 30.0
"""Ray lists a dead node as alive until five health checks have failed, 3 s apart."""

MAX_CONCURRENCY = 8
"""RPCs at a time: one may wait for a change while others pass."""

LOG = logging.getLogger("watchdog-link")

Stamped = tuple[tuple[Command, ...], int]
"""The commands that watchdogs apply, and the CLOCK_MONOTONIC nanosecond of their last change."""


class WatchdogLinks(PerProcess):
    """All nodes' watchdogs. `settings` is `begin.watchdog`: gate, policy, script, and folders to watch for space."""

    def __init__(self, link: DaemonLink, in_force: CommandsInForce, settings: Mapping[str, Any]) -> None:
        super().__init__()
        self._link, self._in_force, self._settings = link, in_force, settings
        self._nodes: dict[str, Node] = {}
        self._forced_s: float | None = settings.get("forced_s")
        self._sent_stamp: int | None = None
        self._last: Stamped | None = None
        in_force.on_change(self.send_commands)

    def start(self) -> None:
        """Find or start every node's watchdog; leave out a node that has died.

        Raises ray.exceptions.RayError when the watchdog of a living node does not come up.
        """
        hosts = _hosts()
        for node in sorted(hosts):
            found = self._add(node, hosts)
            # A new dict each time: other threads iterate over the old one.
            self._nodes = {**self._nodes, node: found}
            try:
                found.find()
            except ray.exceptions.RayError as error:
                # A driver's own node is alive; it is the only one of most clusters.
                if len(hosts) == 1 or not _dies(node):
                    raise
                LOG.warning("node %s has died, it gets no watchdog: %s", node, error)
                self._nodes = {other: left for other, left in self._nodes.items() if other != node}
        # Only once: a watchdog that comes later was not overruled.
        self._forced_s = None
        for found in self._nodes.values():
            found.listen()
        threading.Thread(target=self._follow_the_cluster, name="nodes", daemon=True).start()

    def _follow_the_cluster(self) -> None:
        """Give a node that joins a watchdog, without which no trial would run there; forget one that is gone."""
        while True:
            time.sleep(NODES_EVERY_S)
            try:
                alive = _hosts()
            except ray.exceptions.RayError as error:
                LOG.warning("Ray does not list the cluster's nodes: %s", error)
                continue
            left = {node: found for node, found in self._nodes.items() if node in alive}
            gone = [found for node, found in self._nodes.items() if node not in alive]
            joined = {node: self._add(node, alive) for node in sorted(set(alive) - set(left))}
            self._nodes = {**left, **joined}
            for found in gone:
                found.gone.set()
            for found in joined.values():
                found.listen()

    def _add(self, node: str, hosts: Mapping[str, str]) -> Node:
        begin = self._settings
        settings = WatchdogSettings(
            node=node,
            gate=begin["gate"],
            policy=begin["policy"],
            script=begin.get("script"),
            folders=tuple(begin.get("folders") or ()),
            state=None if begin.get("state") is None else state_path(begin["state"], node, hosts),
        )
        return Node(self._link, self._in_force, settings, self._commands, self._forced_s)

    def _commands(self) -> Stamped:
        return self._last or self._in_force.for_watchdogs()

    def send_commands(self) -> None:
        """Send the commands in force if they have changed; return without waiting.

        A watchdog that is away gets them when it is back.
        """
        commands, stamp = self._commands()
        if stamp != self._sent_stamp:
            self._sent_stamp = stamp
            for found in self._nodes.values():
                found.call("set_operator", commands, stamp, self._in_force.experiment)

    def leave(self, reason: str) -> None:
        """Make all trials leave their work, by the flag; no later command lifts this STOP, only the next driver."""
        self._last = (Command(Action.STOP, Origin.OPERATOR, reason),), time.monotonic_ns()
        self.send_commands()

    def start_drill(self, name: str, duration_s: float, node: str | None) -> None:
        for found in self._nodes.values():
            if node in (None, found.node):
                found.call("start_drill", name, duration_s)

    def set_policy(self, policy: Mapping[str, Any]) -> None:
        """Let every node be governed by `policy` from now on; a watchdog that is away gets it when it is back."""
        self._settings = {**self._settings, "policy": policy}
        for found in self._nodes.values():
            found.set_policy(policy)

    def force(self, node: str | None, for_s: float) -> None:
        """Let only critical readings pause for `for_s` seconds, on `node` or on all."""
        for found in self._nodes.values():
            if node in (None, found.node):
                found.call("force", for_s)

    def how_died(self, node: str, experiment: str, number: int, attempt: int) -> Death:
        """Return how an attempt's worker died, by its node's watchdog; ask all where `node` is empty."""
        for found in self._nodes.values():
            if node in ("", found.node) and (death := found.how_died(experiment, number, attempt)) is not None:
                return death
        return Death(node=node)


def _hosts() -> dict[str, str]:
    """Return the host of each living node of the cluster, by the node's id."""
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return {str(node["NodeID"]): str(node["NodeManagerHostname"]) for node in nodes if node["Alive"]}


def _dies(node: str) -> bool:
    """Return whether Ray lists a node as dead, within LISTED_DEAD_S."""
    until_s = time.monotonic() + LISTED_DEAD_S
    while node in _hosts():
        if time.monotonic() >= until_s:
            return False
        time.sleep(RETRY_AFTER_S)
    return True


class Node:
    """One node's watchdog."""

    def __init__(
        self,
        link: DaemonLink,
        in_force: CommandsInForce,
        settings: WatchdogSettings,
        commands: Callable[[], Stamped],
        forced_s: float | None = None,
    ) -> None:
        self._link, self._in_force, self._settings = link, in_force, settings
        self._commands, self._forced_s = commands, forced_s
        self.node = settings.node
        self._actor: Any = None
        self._pid: int | None = None
        self._version = 0
        self._report: NodeReport | None = None
        self._sampled_mono_s = float("-inf")
        self._away = False
        self.gone = threading.Event()
        """Set when the node has left the cluster."""

    def listen(self) -> threading.Thread:
        """Follow the watchdog in a thread, which is returned, until the node has gone."""
        thread = threading.Thread(target=self._listen, name=f"watchdog-{self.node[:8]}", daemon=True)
        thread.start()
        return thread

    def find(self) -> None:
        """Find the node's watchdog or start it, and bring it up to date."""
        self._actor = self._found_or_started()
        snapshot = ray.get(self._actor.configure.remote(self._settings), timeout=START_WITHIN_S)
        if self._forced_s is not None:
            # Before its STOP is taken, which would end this driver.
            forced = ray.get(self._actor.force.remote(self._forced_s), timeout=ANSWER_WITHIN_S)
            snapshot = {**forced, "notes": [*snapshot["notes"], *forced["notes"]]}
            self._forced_s = None
        commands, stamp = self._commands()
        sent = self._actor.set_operator.remote(commands, stamp, self._in_force.experiment)
        ray.get(sent, timeout=ANSWER_WITHIN_S)
        self._away, self._pid = False, snapshot["pid"]
        self._link.send(WatchdogUp(self.node, snapshot["pid"], snapshot["protected"], snapshot["missing"]))
        self.take(snapshot)

    def _found_or_started(self) -> Any:
        options = ray.remote(WatchdogActor).options(
            name=f"watchdog-{self.node[:12]}",
            lifetime="detached",
            get_if_exists=True,
            num_cpus=0,
            max_restarts=-1,
            max_concurrency=MAX_CONCURRENCY,
            scheduling_strategy=NodeAffinitySchedulingStrategy(self.node, soft=False),
        )
        return options.remote(self._settings)

    def call(self, method: str, *arguments: Any) -> None:
        """Call a method of the watchdog without waiting for its answer."""
        if self._actor is not None:
            getattr(self._actor, method).remote(*arguments)

    def set_policy(self, policy: Mapping[str, Any]) -> None:
        """Give the watchdog another policy; what it answers, the next long poll brings, too."""
        self._settings = replace(self._settings, policy=policy)
        self.call("configure", self._settings)

    def how_died(self, experiment: str, number: int, attempt: int) -> Death | None:
        """Return how an attempt's worker died; None if it is not of this node or the watchdog does not answer."""
        actor = self._actor
        if actor is None:
            return None
        try:
            death: Death | None = ray.get(actor.how_died.remote(experiment, number, attempt), timeout=ANSWER_WITHIN_S)
        except ray.exceptions.RayError as error:
            LOG.warning("the watchdog of node %s does not say how a worker died: %s", self.node, error)
            return None
        return None if death is None else replace(death, node=self.node)

    def _listen(self) -> None:
        while not self.gone.is_set():
            try:
                if self._actor is None:
                    self.find()
                changed = self._actor.wait_change.remote(self._version, POLL_S)
                self.take(ray.get(changed, timeout=POLL_S + ANSWER_WITHIN_S))
            except ray.exceptions.RayError as error:
                # It died, hangs, or is being restarted. Meanwhile its flag's lease runs out, which pauses its trials.
                LOG.warning("the watchdog of node %s does not answer: %s", self.node, error)
                self._lost(error)
            except Exception as error:
                # Without this thread the driver would hear of no change on its node any more.
                LOG.exception("an answer of node %s's watchdog", self.node)
                self._lost(error)
        self._in_force.forget_node(self.node)

    def _lost(self, error: Exception) -> None:
        if self._actor is not None and isinstance(error, ray.exceptions.GetTimeoutError):
            # Hung counts as dead; Ray starts another in its place.
            ray.kill(self._actor, no_restart=False)
        self._actor, self._version = None, 0
        hold = Command(Action.HOLD, Origin.GOVERNOR, "its watchdog does not answer", self.node, time.time())
        # The attempts that waited before are kept: without a watchdog, none was seen to move.
        before = NodeReport(hold, waiting=None) if self._report is None else self._report
        self._pass_on(replace(before, command=hold, largest=None))
        if not self._away:
            self._away = True
            self._link.send(SensorNoted(self.node, "watchdog.lost", {"why": str(error)[:500]}))
        self.gone.wait(RETRY_AFTER_S)

    def take(self, snapshot: Mapping[str, Any]) -> None:
        """Pass a watchdog's snapshot on to the daemon and to the commands in force."""
        self._version = snapshot["version"]
        if snapshot["pid"] != self._pid:
            # Ray started it anew between two calls: without the operator's commands its flag says PAUSE.
            self._actor, self._version = None, 0
            self._link.send(SensorNoted(self.node, "watchdog.lost", {"why": f"its process {self._pid} has ended"}))
        waiting = frozenset((str(e), int(number), int(attempt)) for e, number, attempt in snapshot["waiting"])
        self._pass_on(NodeReport(Command.from_json(snapshot["command"]), snapshot["largest_trial"], waiting))
        for note in snapshot["notes"]:
            self._pass_on_note(note, snapshot["pid"])
        now = time.monotonic()
        if now - self._sampled_mono_s >= SAMPLE_EVERY_S:
            self._sampled_mono_s = now
            self._link.send(Sampled(self.node, snapshot["readings"], snapshot["protected"]))

    def _pass_on_note(self, note: Mapping[str, Any], pid: int) -> None:
        kind, facts = note["kind"], note["facts"]
        if kind == "worker.stuck":
            # A trial of an experiment that runs beside is a matter of its own driver.
            if facts["experiment"] == self._in_force.experiment:
                self._link.send(WorkerStuck(facts["number"], facts["attempt"], self.node, facts["pid"], facts["why"]))
        elif kind != "action.changed":
            self._link.send(SensorNoted(self.node, kind, facts, pid, note["serial"]))

    def _pass_on(self, report: NodeReport) -> None:
        before, command = self._report, report.command
        if before is not None and not differs(command, before.command):
            # Only its reason changed, as it does at each sample.
            report = replace(report, command=before.command)
        else:
            # First the cause, then its effect on trials.
            self._link.send(ActionChanged(self.node, command.to_json()))
        self._report = report
        self._in_force.report(self.node, report)

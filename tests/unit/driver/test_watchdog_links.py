"""Test the driver's links to watchdogs. No Ray running."""

from __future__ import annotations

import pytest
import ray

from actors.driver import watchdog_links
from actors.driver.commands_in_force import CommandsInForce
from actors.driver.watchdog_links import Node, WatchdogLinks
from actors.watchdog.node_governor import WatchdogSettings
from supervisor.domain.command import Action, Command, Origin, run
from supervisor.domain.messages import SensorNoted, WatchdogUp, WorkerStuck
from supervisor.domain.scope import ALL_NODES
from tests.waits import NET_S


class FakeNode:
    """A node's watchdog that comes up, or not; a command is sent to it while it starts."""

    def __init__(self, node, failing, in_force):
        self.node, self._failing, self._in_force = node, failing, in_force
        self.calls, self.listens = [], False

    def find(self):
        self._in_force.set_operator([Command(Action.PAUSE, Origin.OPERATOR, self.node, ALL_NODES)])
        if self.node in self._failing:
            raise ray.exceptions.RayActorError

    def listen(self):
        self.listens = True

    def call(self, method, commands, stamp, experiment):
        assert experiment == "e"
        self.calls.append(commands[0].reason)


@pytest.fixture
def begin(monkeypatch):
    """Start the watchdogs of `nodes` but those of `failing`; Ray lists `lists` in turn."""

    def start(nodes, failing, *lists):
        listed, in_force = iter([nodes, *lists]), CommandsInForce("e")
        links, made = WatchdogLinks(None, in_force, {}), {}
        monkeypatch.setattr(watchdog_links, "_hosts", lambda: dict.fromkeys(next(listed), "host"))
        monkeypatch.setattr(watchdog_links, "RETRY_AFTER_S", 0.0)
        monkeypatch.setattr(WatchdogLinks, "_follow_the_cluster", lambda self: None)
        monkeypatch.setattr(
            WatchdogLinks, "_add", lambda self, node, hosts: made.setdefault(node, FakeNode(node, failing, in_force))
        )
        links.start()
        in_force.set_operator([Command(Action.RUN, Origin.OPERATOR, "later", ALL_NODES)])
        return made

    return start


def test_a_node_that_died_a_moment_ago_does_not_keep_the_driver_from_its_start(begin):
    """Ray lists it as alive for some seconds more."""
    made = begin("abc", "b", "abc", "abc", "ac")
    assert {node: found.listens for node, found in made.items()} == {"a": True, "b": False, "c": True}
    assert made["b"].calls == ["b"], "it was left out"


def test_a_command_that_comes_while_watchdogs_start_reaches_those_that_have_started(begin):
    assert [found.calls for found in begin("ab", "").values()] == [["a", "b", "later"], ["b", "later"]]


def test_a_living_node_without_a_watchdog_fails_the_start(begin, monkeypatch):
    monkeypatch.setattr(watchdog_links, "LISTED_DEAD_S", 0.0)
    with pytest.raises(ray.exceptions.RayActorError):
        begin("ab", "b", "ab")


def test_the_watchdog_of_the_only_node_fails_the_start_at_once(begin):
    with pytest.raises(ray.exceptions.RayActorError):
        begin("a", "a")


class FakeActor:
    """A watchdog in Ray's place: each call is its answer; `pids` are its processes, one after the other."""

    def __init__(self, pids, gone):
        self._pids, self._gone, self._pid, self.commands = iter(pids), gone, None, []
        self._pid = next(self._pids)
        self.configure = self.method(lambda settings: self._snapshot())
        self.set_operator = self.method(lambda commands, stamp, experiment: self.commands.append((self._pid, commands)))
        self.wait_change = self.method(lambda version, timeout_s: self._changed())

    @staticmethod
    def method(answer):
        return type("Method", (), {"remote": staticmethod(answer)})

    def _snapshot(self):
        return {
            "version": 1, "pid": self._pid, "largest_trial": None, "command": run(Origin.GOVERNOR).to_json(),
            "readings": [], "protected": True, "missing": {}, "notes": [], "waiting": [],
        }  # fmt: skip

    def _changed(self):
        self._pid = next(self._pids, self._pid)
        if len(self.commands) == 2:
            self._gone().gone.set()
        return self._snapshot()


def linked(monkeypatch, watchdog_of):
    """Return a node, its list of messages, and its watchdog, which the node finds."""
    sent, pause = [], Command(Action.PAUSE, Origin.OPERATOR, "test", ALL_NODES)
    link, in_force = type("Link", (), {"send": staticmethod(sent.append)}), CommandsInForce("e", [pause])
    node = Node(link, in_force, WatchdogSettings("a", "/gate", {}, None, ()), in_force.for_watchdogs)
    watchdog = watchdog_of(lambda: node)
    monkeypatch.setattr(watchdog_links, "RETRY_AFTER_S", 0.0)
    monkeypatch.setattr(Node, "_found_or_started", lambda self: watchdog)
    monkeypatch.setattr(ray, "get", lambda answer, timeout: answer)
    return node, sent, watchdog


def listen_until_gone(node):
    """Wait for the thread, too: it must not go on with the real ray.get once the stand-ins are gone."""
    thread = node.listen()
    thread.join(NET_S)
    assert node.gone.is_set()
    assert not thread.is_alive()


def test_a_watchdog_that_ray_started_anew_between_two_calls_gets_the_commands_again(monkeypatch):
    """No call has failed: only its pid tells."""
    node, sent, watchdog = linked(monkeypatch, lambda of: FakeActor([1, 1, 2], of))
    listen_until_gone(node)
    assert [(pid, [command.action for command in commands]) for pid, commands in watchdog.commands] == [
        (1, [Action.PAUSE]), (2, [Action.PAUSE])
    ]  # fmt: skip
    ups = [message for message in sent if isinstance(message, WatchdogUp | SensorNoted)]
    assert [getattr(message, "pid", None) or message.kind for message in ups] == [1, "watchdog.lost", 2]


def test_an_answer_that_makes_no_sense_is_a_lost_watchdog_and_the_link_goes_on(monkeypatch):
    node, sent, watchdog = linked(monkeypatch, lambda of: FakeActor([1], of))
    answers = iter([{"version": "nonsense"}])
    right = watchdog.wait_change.remote
    watchdog.wait_change = FakeActor.method(lambda *asked: next(answers, None) or right(*asked))
    listen_until_gone(node)
    assert [message.kind for message in sent if isinstance(message, SensorNoted)] == ["watchdog.lost"]
    assert len(watchdog.commands) == 2


def test_a_note_is_passed_on_with_its_number_and_a_stuck_worker_by_its_own_driver_alone(monkeypatch):
    """Drivers that run side by side all hear of each note of a node."""
    node, sent, watchdog = linked(monkeypatch, lambda of: FakeActor([7], of))
    stuck = [
        {"kind": "worker.stuck", "serial": 4, "facts": {"experiment": name, "number": 3, "attempt": 1, "pid": 9,
         "why": "a disk"}} for name in ("e", "f")
    ]  # fmt: skip
    lost = {"kind": "sensor.lost", "serial": 5, "facts": {"sensor": "cpu"}}
    node._pid = 7
    node.take({**watchdog.configure.remote(None), "notes": [*stuck, lost]})
    noted = [message for message in sent if isinstance(message, SensorNoted | WorkerStuck) and message.node == "a"]
    assert noted[:1] == [WorkerStuck(3, 1, "a", 9, "a disk")]
    assert [message for message in noted if getattr(message, "kind", "") == "sensor.lost"] == [
        SensorNoted("a", "sensor.lost", {"sensor": "cpu"}, 7, 5)
    ]
    assert len([message for message in noted if isinstance(message, WorkerStuck)]) == 1

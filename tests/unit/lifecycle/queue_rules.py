"""Let plans wait in the life of a home: they are put in, moved and removed, and begin when the run before has ended."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

from supervisor.audit import rotation
from supervisor.audit.rebuild import Rebuilt
from supervisor.control.handshake import StartRequest
from supervisor.control.plan_queue import PlanQueue
from supervisor.daemon import __main__ as process
from supervisor.daemon.upkeep.sd_notify import ServiceNotify
from supervisor.errors import DiskFailed, DiskFull, NotFound
from supervisor.home import Home
from tests.unit.lifecycle.driver_rules import Rules
from tests.unit.lifecycle.one_home import SPECS, Killed

MAX_ENTRIES = 4
"""The entries of one life: each is a run more."""
DEATHS = ("queue.drop", "queue.dropped", "queue.fail")
"""The points around each change that a daemon makes in the queue's file."""
WHO = "ann"


class MortalQueue(PlanQueue):
    """The queue of a daemon that may be killed before or after each change."""

    def __init__(self, home: Home, hit: Callable[[str], None]) -> None:
        super().__init__(home)
        self._hit = hit

    def drop(self, entry_id: str) -> None:
        self._hit("queue.drop")
        super().drop(entry_id)
        self._hit("queue.dropped")

    def fail(self, entry_id: str, error: str) -> None:
        self._hit("queue.fail")
        super().fail(entry_id, error)


class QueueRules(Rules):
    """The rules of the queue, beside those of a run."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = MortalQueue(self.home, self.hit)
        self.entries: list[str] = []
        """The entries in the order that persons gave them, and not those that they removed."""
        self.hopeless: set[str] = set()
        """The entries that cannot begin: their plans have no experiments."""
        self.put = 0
        self._assemble, process.assemble = process.assemble, self._stand_in

    def teardown(self) -> None:
        process.assemble = self._assemble
        super().teardown()

    # What the daemon does

    @property
    def queued(self) -> list[str]:
        return [entry for entry in self.entries if entry not in self.hopeless]

    def _stand_in(self, *arguments: Any, **_: Any) -> Any:
        """Stand for `assemble` in the process that goes from one run to the next."""
        self.work_on(arguments[3], None)
        return self

    def _next_run(self) -> bool:
        service = ServiceNotify()
        return process.next_daemon(self.home, self.store, self.clock, self.queue, service) is not None

    def work_on(self, request: StartRequest, rebuilt: Rebuilt | None) -> None:
        """Begin the queue where a start without a plan finds no run to continue, as `serve` does."""
        try:
            super().work_on(request, rebuilt)
        except NotFound:
            if request.plan is not None or request.retry or not self._next_run():
                raise

    def run_is_over(self) -> None:
        """Go on with the next plan of the queue; end the daemon without one."""
        before = [world.copy() for world in self.worlds]
        going_on = [world.advance(self.queued) for world in self.worlds]
        assert self.audit is not None
        self.audit.close()
        self.audit = None
        try:
            follows = self._next_run()
        except (Killed, DiskFailed, DiskFull, OSError):
            self._halfway(before)
            self._dead()
            return
        after = self.worlds if follows else before
        self.worlds = [world for world, goes_on in zip(after, going_on, strict=True) if goes_on is follows]
        assert self.worlds, "another plan was expected to begin, or none"
        if follows:
            self._narrow()
            self._begin_anew()
            self.promised_seq = self.last_seq()
            self._have_failed(self.entries[: self.entries.index(self.world.run.entries[-1])])
        else:
            self._have_failed(self.entries)
            self._dead()

    def _have_failed(self, passed_over: Sequence[str]) -> None:
        """Check that each entry that could not begin when its turn came keeps the reason."""
        failed = {entry.id for entry in self.queue.entries() if entry.error is not None}
        assert self.hopeless.intersection(passed_over) <= failed

    # Rules

    @precondition(lambda self: self.put < MAX_ENTRIES)
    @rule(sound=st.sampled_from([True, True, True, False]))
    def a_person_queues_a_plan(self, sound: bool) -> None:
        """Put a plan in, with a daemon or without; one without experiments cannot begin."""
        request = StartRequest("p", fingerprint="f", plan_text="name: p\n", specs=SPECS if sound else [])
        place = self.queue.add(request, WHO, self.clock.wall_s())
        entry = self.queue.entries()[-1].id
        assert place == len(self.queue.entries())
        self.put += 1
        self.entries.append(entry)
        if not sound:
            self.hopeless.add(entry)

    @precondition(lambda self: self.queue.entries())
    @rule(data=st.data(), new=st.integers(1, MAX_ENTRIES))
    def a_person_moves_a_plan(self, data: st.DataObject, new: int) -> None:
        self.entries = [entry.id for entry in self.queue.entries()]
        old = data.draw(st.integers(1, len(self.entries)))
        self.queue.move(str(old), new)
        self.entries.insert(new - 1, self.entries.pop(old - 1))

    @precondition(lambda self: self.queue.entries())
    @rule(data=st.data())
    def a_person_removes_a_plan(self, data: st.DataObject) -> None:
        self.entries = [entry.id for entry in self.queue.entries()]
        place = data.draw(st.integers(1, len(self.entries)))
        self.queue.remove([str(place)])
        self.entries.pop(place - 1)

    @precondition(lambda self: self.alive and self.queued)
    @rule(where=st.sampled_from(DEATHS))
    def arm_the_queue(self, where: str) -> None:
        self.bomb = (where, "kill", 1)

    @precondition(lambda self: self.alive and self.queued and not self.waiting)
    @rule()
    def the_run_comes_to_its_end(self) -> None:
        """End the experiment at work and skip the others, so that the queue has its turn."""
        runs = len(self.world.runs)
        for _ in SPECS:
            if self.alive and self.left and len(self.world.runs) == runs:
                if self.state is None:
                    self.begin_experiment(skip=True)
                else:
                    self.the_experiment_ends("no good")

    # What must hold

    @invariant()
    def no_plan_is_lost_or_begins_twice_or_out_of_its_turn(self) -> None:
        """The runs hold the same entries as the model's, each begun in its turn: the_store_is_as_the_model."""
        if not self.alive:
            return
        begun = [entry for run in self.world.runs for entry in run.entries]
        assert len(begun) == len(set(begun))
        waiting = [entry.id for entry in self.queue.entries() if entry.id not in begun]
        assert waiting == [entry for entry in self.entries if entry not in begun]
        assert {entry.id for entry in self.queue.entries() if entry.error is not None} <= self.hopeless

    def whatever_happened_the_checker_is_content(self) -> None:
        super().whatever_happened_the_checker_is_content()
        parts = rotation.all_parts(self.home.audit_log("p"))
        lines = [json.loads(line) for part in parts for line in rotation.lines_of(part)]
        advanced = [line for line in lines if line["event"] == "queue.advanced"]
        assert [line["id"] for line in advanced] == [entry for run in self.world.runs for entry in run.entries]
        assert all((line["who"], line["waited_s"] >= 0.0) == (WHO, True) for line in advanced)

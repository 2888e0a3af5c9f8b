"""Test the queue of plans: its order, its names, and what is left of it after a crash."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.control import plan_queue
from supervisor.control.handshake import StartRequest
from supervisor.control.plan_queue import PlanQueue
from supervisor.errors import Conflict, NotFound, StoreError
from supervisor.home import Home


def queue_at(folder: Path) -> PlanQueue:
    home = Home(folder)
    home.state.mkdir(parents=True, exist_ok=True)
    return PlanQueue(home)


@pytest.fixture
def queue(tmp_path: Path) -> PlanQueue:
    return queue_at(tmp_path)


def add(queue: PlanQueue, *plans: str) -> None:
    for place, plan in enumerate(plans):
        request = StartRequest(plan, fingerprint="f", plan_text="name: x", specs=[{"name": plan}])
        queue.add(request, "ann", 1_700_000_000.0 + place)


def plans(queue: PlanQueue) -> list[str]:
    return [entry.plan for entry in queue.entries()]


def test_plans_wait_in_the_order_in_which_they_came_with_their_whole_request(queue: PlanQueue) -> None:
    assert (queue.entries(), queue.first()) == ([], None)
    add(queue, "a", "b")
    assert plans(queue) == ["a", "b"]
    first = queue.first()
    assert first is not None
    assert (first.who, first.request.plan_text, first.request.specs) == ("ann", "name: x", [{"name": "a"}])


@given(
    count=st.integers(1, 6),
    moves=st.lists(st.tuples(st.integers(1, 6), st.integers(1, 8)), max_size=6),
)
def test_a_plan_is_moved_to_its_place_and_none_is_lost(
    tmp_path_factory: pytest.TempPathFactory, count: int, moves: list[tuple[int, int]]
) -> None:
    queue = queue_at(tmp_path_factory.mktemp("home"))
    model = [f"p{number}" for number in range(count)]
    add(queue, *model)
    for place, new in moves:
        if place > count:
            continue
        plan = model.pop(place - 1)
        model.insert(new - 1, plan)
        queue.move(str(place), new)
        assert plans(queue) == model


def test_plans_are_removed_by_name_or_place_and_a_wrong_name_removes_none(queue: PlanQueue) -> None:
    add(queue, "a", "b", "c", "b")
    with pytest.raises(NotFound, match="no plan 'x' in the queue; there are 1 a, 2 b, 3 c, 4 b"):
        queue.remove(["a", "x"])
    with pytest.raises(NotFound, match="2 plans in the queue are called 'b'"):
        queue.remove(["b"])
    assert plans(queue) == ["a", "b", "c", "b"]
    queue.remove(["2", "a"])
    assert plans(queue) == ["c", "b"]


def test_one_that_cannot_begin_keeps_the_reason_and_is_passed_over(queue: PlanQueue) -> None:
    add(queue, "a", "b")
    first = queue.entries()[0]
    queue.fail(first.id, "the plan has changed")
    assert [entry.error for entry in queue.entries()] == ["the plan has changed", None]
    following = queue.first()
    assert following is not None
    assert following.plan == "b"
    queue.drop(first.id)
    queue.drop(first.id)
    assert plans(queue) == ["b"]


def test_a_full_queue_takes_no_more(queue: PlanQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_queue, "MAX_ENTRIES", 2)
    add(queue, "a", "b")
    with pytest.raises(Conflict, match="2 plans wait already"):
        add(queue, "c")


def test_a_plan_that_would_make_the_file_too_long_to_read_is_refused(
    queue: PlanQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(queue, "a")
    monkeypatch.setattr(plan_queue, "MAX_BYTES", 600)
    with pytest.raises(Conflict, match="expected a queue of at most 600 bytes"):
        add(queue, "b" * 300)
    assert plans(queue) == ["a"]


GOOD = {"id": "1", "who": "ann", "queued_wall": 1.5, "request": {"plan": "a"}, "error": None}


@pytest.mark.parametrize(
    "content",
    [
        b"[", b"{}x", b"[{}]", b'[{"id": 1, "request": {"plan": "a", "colour": 1}}]', b"[" * 100_000,
        *(json.dumps([{**GOOD, **wrong}]).encode() for wrong in (
            {"queued_wall": "x"}, {"id": 1}, {"request": {"plan": "a", "specs": 5}},
            {"request": {"plan": "a", "specs": [5]}}, {"request": {"plan": "a", "hardware": []}},
            {"request": {"plan": None}},
        )),
        json.dumps([{**GOOD, "queued_wall": float("nan")}]).encode(),
    ],
)  # fmt: skip
def test_a_damaged_file_is_never_taken_for_an_empty_queue(tmp_path: Path, content: bytes) -> None:
    queue = queue_at(tmp_path)
    (Home(tmp_path).state / "queue.json").write_bytes(content)
    with pytest.raises(StoreError, match=r"queue\.json cannot be read"):
        queue.first()
    with pytest.raises(StoreError):
        add(queue, "a")
    assert (Home(tmp_path).state / "queue.json").read_bytes() == content


def _add_many(folder: str) -> None:
    add(PlanQueue(Home(Path(folder))), *["x"] * 10)


def test_two_processes_lose_no_plan_of_one_another(queue: PlanQueue, tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    writers = [spawn.Process(target=_add_many, args=(str(tmp_path),)) for _ in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60.0)
    assert len(plans(queue)) == 20

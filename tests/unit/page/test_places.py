"""Places of connections: the known stay, the strange give way, the oldest first."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from supervisor.page.places import SILENT_FOR_S, Places


def test_the_oldest_strange_one_gives_way_and_a_known_one_never() -> None:
    places = Places(2)
    for name in "ab":
        assert places.make_room() == (True, None)
        places.enter(name, 0.0)
    places.admit("a")
    assert places.make_room() == (True, "b")
    places.enter("c", 1.0)
    places.admit("c")
    assert places.make_room() == (False, None)
    places.keep({"c"})
    assert places.make_room() == (True, None)


def test_a_strange_one_has_its_time_and_a_known_one_has_no_end() -> None:
    places = Places(3)
    for since, name in enumerate("abc"):
        places.enter(name, float(since))
    places.admit("b")
    assert places.silent(SILENT_FOR_S - 0.1) == []
    assert places.silent(SILENT_FOR_S) == ["a"]
    assert places.silent(1e9) == ["c"]
    assert places.silent(2e9) == []


@given(st.lists(st.tuples(st.sampled_from(["come", "come", "admit", "end", "wait"]), st.integers(0, 9))))
def test_never_more_than_the_places_and_no_known_one_is_ended(steps: list[tuple[str, int]]) -> None:
    places, living, known, now_s, number = Places(3), dict[int, None](), set[int](), 0.0, 0
    for step, place in steps:
        chosen = list(living)[place % len(living)] if living else None
        if step == "come":
            places.keep(living)
            has_place, oldest = places.make_room()
            assert oldest not in known
            living.pop(oldest, None)  # type: ignore[arg-type]
            if has_place:
                number += 1
                living[number] = None
                places.enter(number, now_s)
            else:
                assert known >= set(living)
        elif step == "wait":
            now_s += 7.0
            for over in places.silent(now_s):
                assert over not in known
                living.pop(over, None)  # type: ignore[arg-type]
        elif chosen is not None and step == "admit":
            places.admit(chosen)
            known.add(chosen)
        elif chosen is not None:
            del living[chosen]
        assert len(living) <= 3

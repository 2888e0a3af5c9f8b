"""A storm of any events gives a bounded number of messages, loses no kind and counts all."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from supervisor.daemon.news.mailbox import RETRY_CAP_S, Cursors, Mailbox, fingerprint, note_of, retry_in_s
from supervisor.daemon.news.pace import AT_MOST_EVERY_S, FORGET_S, LONGEST_WAIT_S, Pace
from supervisor.daemon.news.tally import KEPT, Item, Tally
from supervisor.daemon.news.topics import ALARM, GATHER_S, WORTH_KNOWING, Topic

TOPICS = [Topic(f"alarm {n}", ALARM) for n in range(3)] + [Topic(f"other {n}", WORTH_KNOWING) for n in range(3)]
LOOK_S = 30.0
START_S = 1_700_000_000.0
IN_A_ROW = 10
"""At most so many messages of one topic fit into FORGET_S: after 0, 1, 3, 7, 15, 31, 63, 127, 255 and 511 minutes."""


class Desk:
    """Sends what is due of one mailbox, and remembers it."""

    def __init__(self) -> None:
        self.box = Mailbox("x://", 0, Pace())
        self.now_s, self.seq = START_S, 0
        self.sent: list[tuple[float, tuple[str, ...], int]] = []

    def happen(self, topic: Topic) -> None:
        self.seq += 1
        self.box.put([Item(self.seq, self.now_s, topic, "words")], self.seq)

    def look(self, *, up: bool = True) -> None:
        if self.box.due(self.now_s, self.now_s):
            if up:
                self.sent.append((self.now_s, self.box.tally.keys, self.box.tally.count))
                self.box.sent(self.seq, self.now_s)
            else:
                self.box.failed("down", self.now_s)

    def wait(self, seconds: float, *, up: bool = True) -> None:
        end_s = self.now_s + seconds
        while self.now_s < end_s:
            self.now_s += LOOK_S
            self.look(up=up)


STEPS = st.lists(
    st.tuples(
        st.lists(st.sampled_from(TOPICS), max_size=30),
        st.sampled_from([LOOK_S, 60.0, 600.0, 3600.0, 4 * 3600.0]),
        st.booleans(),
    ),
    max_size=15,
)


@given(STEPS)
def test_any_storm_gives_few_messages_and_loses_no_kind(steps: list[tuple[list[Topic], float, bool]]) -> None:
    desk = Desk()
    for topics, pause_s, up in steps:
        for topic in topics:
            desk.happen(topic)
        desk.wait(pause_s, up=up)
    desk.wait(2 * (LONGEST_WAIT_S + RETRY_CAP_S))
    happened = [topic for topics, _, _ in steps for topic in topics]
    assert sum(count for _, _, count in desk.sent) == len(happened)
    assert {key for _, keys, _ in desk.sent for key in keys} == {topic.key for topic in happened}
    assert len(desk.sent) <= len(TOPICS) * IN_A_ROW * ((desk.now_s - START_S) / FORGET_S + 1)
    times = [wall_s for wall_s, _, _ in desk.sent]
    assert all(later - earlier >= AT_MOST_EVERY_S for earlier, later in pairwise(times))


@given(st.integers(1, 24))
def test_a_storm_that_does_not_end_is_told_ever_more_rarely(hours: int) -> None:
    desk = Desk()
    for _ in range(hours * 60):
        desk.happen(TOPICS[0])
        desk.wait(60.0)
    assert len(desk.sent) <= 10 + hours / 6
    assert sum(count for _, _, count in desk.sent) + desk.box.tally.count == hours * 60


def test_an_alarm_goes_at_once_and_other_news_wait_for_more() -> None:
    desk = Desk()
    desk.happen(TOPICS[-1])
    desk.look()
    assert desk.sent == []
    desk.happen(TOPICS[0])
    desk.look()
    assert desk.sent == [(START_S, (TOPICS[0].key, TOPICS[-1].key), 2)], "what waits goes with the alarm"
    desk.now_s += FORGET_S
    desk.happen(TOPICS[-1])
    desk.wait(GATHER_S)
    assert len(desk.sent) == 2


def test_a_daemon_that_starts_anew_goes_on_with_the_pace_of_the_last() -> None:
    desk = Desk()
    for _ in range(30):
        desk.happen(TOPICS[0])
        desk.wait(60.0)
    anew = Pace()
    for wall_s, keys, _ in desk.sent:
        anew.sent(keys, wall_s)
    tally = Tally()
    tally.add(Item(1, desk.now_s, TOPICS[0], "words"))
    moments = [desk.now_s + step for step in range(0, 7200, 30)]
    assert [anew.due(tally, now_s) for now_s in moments] == [desk.box.pace.due(tally, now_s) for now_s in moments]
    assert not all(anew.due(tally, now_s) for now_s in moments)


def test_what_comes_back_every_hour_is_told_a_few_times_a_day() -> None:
    desk = Desk()
    for _ in range(150):
        desk.happen(TOPICS[0])
        desk.wait(3600.0)
    assert len(desk.sent) <= IN_A_ROW + 4 * 150 / 24


def test_what_each_driver_finds_again_is_told_once_in_a_run() -> None:
    once, desk = Topic("unprotected", ALARM, once=True), Desk()
    for _ in range(12):
        desk.happen(once)
        desk.wait(12 * 3600.0)
    assert len(desk.sent) == 1
    assert desk.box.sent_up_to == 12, "the others are passed over"


def test_a_clock_that_was_set_back_silences_nothing() -> None:
    pace, tally = Pace(), Tally()
    pace.sent((TOPICS[0].key,), START_S)
    tally.add(Item(1, START_S, TOPICS[0], "words"))
    assert pace.due(tally, START_S - 86400.0)


def test_memory_is_bounded_by_the_number_of_topics() -> None:
    tally = Tally()
    for seq in range(1, 1001):
        tally.add(Item(seq, START_S, TOPICS[seq % 2], "words"))
    assert tally.count == 1000
    assert len(list(tally.items())) == 2 * KEPT
    assert [heap.left_out for heap in tally.heaps()] == [500 - KEPT] * 2


def test_waits_between_tries_double_up_to_an_hour() -> None:
    assert [retry_in_s(n) for n in (1, 2, 3)] == [30.0, 60.0, 120.0]
    assert retry_in_s(10_000) == RETRY_CAP_S


def test_each_address_has_its_own_place_in_the_store_and_the_store_does_not_give_it_away() -> None:
    boxes = [Mailbox("ntfy://secret-topic", 5, Pace()), Mailbox("json://other", 9, Pace())]
    note = note_of(boxes, 9)
    assert "secret" not in note
    cursors = Cursors(note, 20)
    assert (cursors.of("ntfy://secret-topic"), cursors.of("json://other"), cursors.of("new://")) == (5, 9, 20)
    assert cursors.first == 5
    assert len(fingerprint("x")) < 16


def test_a_note_of_an_earlier_version_holds_for_all_addresses() -> None:
    assert Cursors("17", 20).of("any://") == 17
    assert Cursors(None, 20).of("any://") == 20
    assert Cursors(note_of([], 8), 20).of("any://") == 8

"""The flag file: what a watchdog writes and trials read."""

from __future__ import annotations

import os
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.trial.gate import MAX_REST_S, POLL_S, Gate, Leave
from actors.trial.node_files import LAYOUT, LEASE_S, MAGIC, SIZE_BYTES, VERSION, FlagWriter, flag_path, open_flag
from supervisor.domain.command import Action
from supervisor.domain.scope import MAX_HELD_TRIALS


class Time:
    """A clock that only moves when somebody sleeps; `events` run when their moment comes."""

    def __init__(self):
        self.now, self.events = 1000.0, []

    def mono_s(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds
        while self.events and self.events[0][0] <= self.now:
            self.events.pop(0)[1]()

    def at(self, seconds, action):
        self.events.append((self.now + seconds, action))


@pytest.fixture
def time():
    return Time()


@pytest.fixture
def writer(tmp_path, time):
    return FlagWriter(tmp_path / "flag", time.mono_s)


@pytest.fixture
def gate(tmp_path, time):
    return Gate(tmp_path / "flag", time.mono_s, time.sleep)


@pytest.mark.parametrize("action", [Action.RUN, Action.HOLD, Action.SHED])
def test_an_open_gate_does_not_wait(writer, gate, time, action):
    """Up to SHED trials that run go on at once."""
    writer.write(action, 0.0)
    assert gate.wait() == 0.0
    assert time.now == 1000.0


def test_a_closed_gate_opens_within_one_poll_and_says_how_long_it_was_closed(writer, gate, time):
    writer.write(Action.PAUSE, 0.0)
    time.at(3.0, lambda: writer.write(Action.RUN, 0.0))
    assert 3.0 <= gate.wait() <= 3.0 + 2 * POLL_S


def test_a_new_flag_says_pause_until_its_first_write(writer, gate, time):
    """Before the first reading nothing is known, and unknown is no leave to run."""
    time.at(1.0, lambda: writer.write(Action.RUN, 0.0))
    assert gate.wait() >= 1.0


def test_a_lease_that_ran_out_is_a_pause_until_it_is_fresh_again(writer, gate, time):
    """A dead watchdog must be safe; one that is back lets go on."""
    writer.write(Action.RUN, 0.0)
    time.now += LEASE_S + 1
    time.at(2.0, writer.renew)
    assert gate.wait() >= 2.0
    assert gate.wait() == 0.0


def test_a_gate_without_a_file_waits_for_one(gate, time, tmp_path):
    def appear():
        FlagWriter(tmp_path / "flag", time.mono_s).write(Action.RUN, 0.0)

    time.at(5.0, appear)
    assert gate.wait() >= 5.0


def test_the_flag_of_a_restarted_watchdog_is_found(writer, gate, time, tmp_path):
    """The new one writes a file of its own; readers of the old one change over when its lease ends."""
    writer.write(Action.RUN, 0.0)
    assert gate.wait() == 0.0
    FlagWriter(tmp_path / "flag", time.mono_s).write(Action.RUN, 0.0)
    time.now += LEASE_S - 1
    second = FlagWriter(tmp_path / "flag", time.mono_s)
    second.write(Action.RUN, 0.0)
    time.now += 2
    assert gate.wait() == 0.0


@given(share=st.floats(0.05, 0.95), worked_s=st.floats(0.01, 2.0))
@settings(max_examples=30)
def test_throttled_trials_rest_their_share(tmp_path_factory, share, worked_s):
    """share / (1 - share) of the time worked, at most MAX_REST_S."""
    time, path = Time(), tmp_path_factory.mktemp("gate") / "flag"
    writer = FlagWriter(path, time.mono_s)
    gate = Gate(path, time.mono_s, time.sleep)
    writer.write(Action.THROTTLE, share)
    time.now += worked_s
    rested = gate.wait()
    assert rested == pytest.approx(min(MAX_REST_S, worked_s * share / (1 - share)), rel=1e-6, abs=1e-9)


def test_a_rest_ends_when_the_throttle_is_lifted(writer, gate, time):
    writer.write(Action.THROTTLE, 0.9)
    time.now += 1.0
    time.at(0.5, lambda: writer.write(Action.RUN, 0.0))
    assert gate.wait() <= 0.5 + 2 * POLL_S


def test_stop_makes_a_trial_leave(writer, gate, time):
    """At once, and also out of a pause."""
    writer.write(Action.STOP, 0.0)
    with pytest.raises(Leave):
        gate.wait()
    writer.write(Action.PAUSE, 0.0)
    time.at(1.0, lambda: writer.write(Action.STOP, 0.0))
    with pytest.raises(Leave):
        gate.wait()


@given(content=st.binary(max_size=2 * SIZE_BYTES))
def test_a_file_that_is_no_flag_never_opens_the_gate(tmp_path_factory, content):
    """Arbitrary bytes pause; they neither raise nor let go on."""
    time, path = Time(), tmp_path_factory.mktemp("gate") / "flag"
    path.write_bytes(content)
    opened = []

    def replace():
        path.unlink()
        FlagWriter(path, time.mono_s).write(Action.RUN, 0.0)
        opened.append(True)

    time.at(1.0, replace)
    Gate(path, time.mono_s, time.sleep).wait()
    assert opened


def test_release_makes_only_trials_with_checkpoints_leave(writer, gate, time, tmp_path):
    """A trial without a checkpoint would lose its work: it waits on."""
    writer.write(Action.PAUSE, 0.0, release=True)
    time.at(2.0, lambda: writer.write(Action.RUN, 0.0))
    assert gate.wait() >= 2.0
    writer.write(Action.PAUSE, 0.0, release=True)
    saves = Gate(tmp_path / "flag", time.mono_s, time.sleep, may_be_released=True)
    with pytest.raises(Leave):
        saves.wait()
    writer.write(Action.PAUSE, 0.0)
    time.at(1.0, lambda: writer.write(Action.RUN, 0.0))
    assert saves.wait() >= 1.0


def test_the_layout_is_the_documented_one(writer, tmp_path, time):
    writer.write(Action.THROTTLE, 0.25)
    data = (tmp_path / "flag").read_bytes()
    assert len(data) == SIZE_BYTES
    assert (tmp_path / "flag").stat().st_mode & 0o777 == 0o600
    assert LAYOUT.unpack_from(data) == (MAGIC, VERSION, int(Action.THROTTLE), 0, 0.25, time.now, os.getpid())


def test_each_experiment_has_a_flag_of_its_own_on_each_node():
    names = ("e", "f", "x" * 250 + "1", "x" * 250 + "2")
    paths = {flag_path("/run/gate", node * 40, experiment) for node in "ab" for experiment in names}
    assert len(paths) == 8
    assert max(len(path.name) for path in paths) < 255


def test_a_trial_that_is_held_by_itself_waits_and_the_others_work(writer, tmp_path, time):
    """Out of its hold it comes within a poll; a number that was held before it keeps its own."""
    held, other = (Gate(tmp_path / "flag", time.mono_s, time.sleep, trial=number) for number in (3, 4))
    writer.write(Action.RUN, 0.0, held={3: False, 7: False})
    assert other.wait() == 0.0
    time.at(2.0, lambda: writer.write(Action.RUN, 0.0, held={7: False}))
    assert 2.0 <= held.wait() <= 2.0 + 2 * POLL_S
    assert held.wait() == 0.0


def test_a_held_trial_leaves_when_it_is_to_be_released_and_can_come_back(writer, tmp_path, time):
    held = Gate(tmp_path / "flag", time.mono_s, time.sleep, trial=3, may_be_released=True)
    writer.write(Action.RUN, 0.0, held={3: False})
    time.at(2.0, lambda: writer.write(Action.RUN, 0.0, held={3: True}))
    with pytest.raises(Leave):
        held.wait()
    assert time.now >= 1002.0


@given(stories=st.lists(st.dictionaries(st.integers(0, 60), st.booleans(), max_size=MAX_HELD_TRIALS), max_size=6))
def test_the_flag_names_just_the_trials_that_are_held_and_none_moves(tmp_path_factory, stories):
    """One that stays held keeps its slot: a reader between two writes never misses it."""
    time, path = Time(), tmp_path_factory.mktemp("gate") / "flag"
    writer = FlagWriter(path, time.mono_s)
    before = {}
    for story in stories:
        writer.write(Action.RUN, 0.0, held=story)
        slots = memoryview(path.read_bytes()).cast("I")[16:64].tolist()
        now = {slot & ~(1 << 31): at for at, slot in enumerate(slots) if slot != 0xFFFFFFFF}
        assert set(now) == set(story)
        assert all(now[number] == at for number, at in before.items() if number in now)
        before = now
        for number in range(61):
            gate = Gate(path, time.mono_s, time.sleep, trial=number)
            assert gate._read(time.now)[0] is (Action.PAUSE if number in story else Action.RUN)


def test_no_reader_ever_sees_a_closed_flag_open(tmp_path):
    """The writer renews its lease without clearing the action first, not even for a microsecond."""
    writer = FlagWriter(tmp_path / "flag")
    writer.write(Action.PAUSE, 0.0)
    rungs, seen = memoryview(open_flag(tmp_path / "flag")).cast("I"), set()
    renewing = threading.Thread(target=lambda: [writer.renew() for _ in range(3000)])
    renewing.start()
    while renewing.is_alive():
        seen.update(rungs[2] for _ in range(200))
    assert seen == {int(Action.PAUSE)}
    rungs.release()

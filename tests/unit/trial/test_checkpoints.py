"""The checkpoints of a trial: written whole, kept, resumed from, and tried again while the disk is full."""

from __future__ import annotations

import errno
import itertools
import os
import pickle
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray import tune

from actors.trial import full_disk
from actors.trial.checkpoints import KEEP_CHECKPOINTS, CheckpointFolders, Checkpoints
from actors.trial.full_disk import is_full, when_there_is_space
from supervisor.domain.checkpoint_schedule import Schedule
from tests import waits


def refusing(times: int, errors: list[BaseException]):
    """A way of saving that fails so often, each time with the next of `errors`."""
    calls = iter(range(times))

    def save() -> Path:
        for number in calls:
            raise errors[number % len(errors)]
        return Path("saved")

    return save


def wrapped(cause: OSError) -> RuntimeError:
    error = RuntimeError("unexpected pos 704 vs 598")
    error.__context__ = cause
    return error


def test_a_save_is_tried_again_while_the_disk_is_full(tmp_path: Path) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    slept, waited = [], []
    save = refusing(3, [full, wrapped(full), OSError(errno.EDQUOT, "Disk quota exceeded")])
    found = when_there_is_space(save, tmp_path, lambda: waited.append(1), slept.append)
    assert found == Path("saved")
    assert slept == [full_disk.POLL_S] * 3
    assert len(waited) == 3


@pytest.mark.parametrize("error", [OSError(errno.EIO, "I/O error"), ValueError("a bug"), wrapped(OSError(5, "EIO"))])
def test_any_other_error_is_raised_at_once(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(type(error)):
        when_there_is_space(refusing(1, [error]), tmp_path, lambda: None, lambda seconds: pytest.fail("it waited"))


def test_an_error_without_a_reason_is_judged_by_the_space_left_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not is_full(RuntimeError("iostream error"), tmp_path)
    monkeypatch.setattr(full_disk, "NEARLY_FULL_BYTES", 1 << 62)
    assert is_full(RuntimeError("iostream error"), tmp_path)
    assert not is_full(RuntimeError("iostream error"), tmp_path / "gone"), "its space is not known"


# The checkpoints of a trial


class Counts(tune.Trainable):
    """Saves a dict; remembers how often it was begun."""

    def setup(self, config):
        self.count, self.begun = 0, getattr(self, "begun", 0) + 1

    def save_checkpoint(self, checkpoint_dir):
        return {"count": self.count}

    def load_checkpoint(self, checkpoint):
        self.count = checkpoint["count"]


@pytest.fixture
def user():
    """A user's object after its setup, without Ray around it."""
    kind = type("Kept", (Counts, CheckpointFolders), {})
    made = kind.__new__(kind)
    made.setup({})
    return made


@pytest.fixture
def heartbeat():
    return SimpleNamespace(phase=lambda _: None, begin_step=lambda: None)


@pytest.fixture
def kept(user, tmp_path, heartbeat):
    return Checkpoints(tmp_path / "0", user, heartbeat)


def save(user, kept, *steps):
    paths = []
    for step in steps:
        user.count = step
        paths.append(kept.save(step))
    return paths


def test_the_newest_checkpoints_are_kept_and_named_by_their_step(user, kept):
    save(user, kept, 1, 2, 10)
    assert [step for step, _ in kept.kept()] == [2, 10]
    assert len(kept.kept()) == KEEP_CHECKPOINTS


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc to name the file of a descriptor")
def test_a_checkpoint_is_on_the_disk_before_it_has_its_name(user, kept, monkeypatch):
    synced = []
    real = os.fsync

    def fsync(descriptor):
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    save(user, kept, 1)
    assert synced[-2:] == [".fresh-1", "0"], "the folder under its first name, then the folder that holds it"
    assert "sweep-state.pickle" in synced[:-2]


def test_saving_a_step_again_replaces_the_first_save(user, kept):
    save(user, kept, 1)
    user.count = 7
    path = kept.save(1)
    user.count = 0
    assert kept.resume(path, 1, lambda: None) == 1
    assert user.count == 7


def test_a_trial_that_begins_anew_in_its_old_folder_uses_none_of_its_files(user, kept):
    """Not even a checkpoint from the middle of its first epoch."""
    save(user, kept, 0, 9)
    assert kept.resume(None, None, lambda: None) == 0
    assert (kept.kept(), kept.resumed_step) == ([], None)


def test_a_trial_resumes_from_its_checkpoint(user, kept):
    [path] = save(user, kept, 4)
    user.count = 0
    assert kept.resume(path, 4, lambda: None) == 4
    assert (user.count, kept.resumed_step) == (4, 4)


def test_a_checkpoint_of_an_epoch_that_was_not_committed_is_not_used(user, kept):
    """The daemon does not have its result: the epoch runs again and is reported."""
    first, _ = save(user, kept, 1, 2)
    assert kept.resume(first, 1, lambda: None) == 1
    assert (user.count, [step for step, _ in kept.kept()]) == (1, [1])


def test_a_checkpoint_that_was_not_named_before_its_worker_died_is_used(user, kept):
    """It is named with the next result; the results up to it are committed."""
    first, _ = save(user, kept, 1, 3)
    assert kept.resume(first, 4, lambda: None) == 3
    assert (user.count, kept.unusable) == (3, [])


def test_a_trial_that_never_named_one_resumes_in_its_first_epoch(user, kept):
    save(user, kept, 0)
    assert kept.resume(None, 0, lambda: None) == 0
    assert kept.resumed_step == 0


def test_a_damaged_checkpoint_costs_epochs_and_not_the_trial(user, kept):
    """The one before it is used, by a trial that is begun anew; with none left it starts from nothing."""
    first, second = save(user, kept, 1, 2)
    (second / "sweep-state.pickle").write_bytes(b"torn")
    assert kept.resume(second, 2, lambda: user.setup({})) == 1
    assert (user.count, user.begun) == (1, 2)
    assert (kept.resumed_step, kept.unusable) == (1, [str(second)])
    (first / "sweep-state.pickle").write_bytes(b"")
    assert kept.resume(second, 2, lambda: user.setup({})) == 0
    assert (user.count, user.begun) == (0, 4)


def test_a_checkpoint_that_is_gone_costs_epochs_and_not_the_trial(user, kept, tmp_path):
    gone = tmp_path / "0" / "checkpoint-3"
    assert kept.resume(gone, 3, lambda: None) == 0
    assert (kept.resumed_step, kept.unusable) == (None, [str(gone)])


# When they are taken


class Clock:
    """A clock that a test moves."""

    def __init__(self):
        self.now_s = 1000.0

    def __call__(self):
        return self.now_s


class Model(Counts):
    """Can be saved between batches, by a copy in memory; `room` False takes the memory away."""

    sweep_saves_between_batches = True
    sweep_saves_end = False
    room = True
    error = None

    def sweep_snapshot(self):
        count, error = self.count, self.error

        def write(folder, step):
            if error is not None:
                raise error
            path = folder / f"checkpoint-{step}"
            path.mkdir(exist_ok=True)
            (path / "sweep-state.pickle").write_bytes(pickle.dumps({"count": count}))
            return path

        return write if self.room else None


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def due(tmp_path, heartbeat, clock):
    """Make the checkpoints of a new user's object, with a schedule whose first checkpoint is expected to cost much."""

    def make(kind=Model, every_s=600.0, cost_s=60.0):
        made = type("Kept", (kind, CheckpointFolders), {})
        user = made.__new__(made)
        user.setup({})
        return user, Checkpoints(tmp_path / "0", user, heartbeat, Schedule(every_s, cost_s=cost_s), clock)

    return make


def steps_with_checkpoints(user, kept, clock, seconds, count):
    """Play steps of these seconds; return those at whose end the first, second ... checkpoint was there."""
    found = []
    for step in range(1, count + 1):
        clock.now_s += seconds
        user.count = step
        kept.end_step(step, seconds, ended=False)
        kept.settle()
        if step in [at for at, _ in kept.kept()]:
            found.append(step)
    return found


def test_short_epochs_share_a_checkpoint_and_no_work_gets_older_than_the_interval(due, clock):
    """Save a class that can only be saved between epochs at the last end before ten minutes are over."""
    user, kept = due(Counts)
    # The first save shows that one costs nothing here: only then is writing cheaper than 1 % of training.
    assert steps_with_checkpoints(user, kept, clock, 200.0, 2) == [2]


def test_an_epoch_longer_than_the_interval_is_saved_at_its_end(due, clock):
    user, kept = due(Counts)
    assert steps_with_checkpoints(user, kept, clock, 4000.0, 2) == [1, 2]


@given(
    every_s=st.floats(1.0, 1e4),
    cost_s=st.floats(0.0, 1e3),
    epochs_s=st.lists(st.floats(0.1, 5e3), min_size=1, max_size=60),
)
def test_work_is_never_older_than_the_interval_or_one_epoch(every_s, cost_s, epochs_s):
    """And what is written sooner takes at most one per cent of the time. Writing that takes long adds to the age."""
    longest = every_s if cost_s <= every_s / 3 else cost_s + every_s - min(cost_s, every_s / 2)
    schedule, now, last, sooner = Schedule(every_s, cost_s=cost_s), 0.0, 0.0, 0.0
    for seconds, following in itertools.pairwise([*epochs_s, epochs_s[-1]]):
        now += seconds
        assert now - last <= max(longest, seconds) + 1e-6
        # The trial expects the next epoch to take as long as this one; here it is known.
        if schedule.is_due(now, following):
            if now - last + following + min(cost_s, every_s / 2) <= every_s:
                sooner = schedule.written_s + cost_s
                assert sooner <= 0.01 * now
            schedule.wrote(now, cost_s)
            last = now


@given(every_s=st.floats(1.0, 1e4), cost_s=st.floats(0.0, 1e4))
def test_however_slow_the_disk_the_trial_works_between_two_checkpoints(every_s, cost_s):
    """The attempt's clock goes on while a checkpoint is written."""
    schedule, now = Schedule(every_s), every_s
    for _ in range(5):
        schedule.wrote(now, cost_s)
        now += cost_s
        assert not schedule.is_over(now + every_s / 4)
        now += every_s


def test_a_pause_makes_no_checkpoint_due(due, clock):
    _, kept = due()
    assert not kept.is_over()
    clock.now_s += 599.0 - 60.0
    assert not kept.is_over()
    clock.now_s += 1.0
    assert kept.is_over()


def test_a_checkpoint_in_the_middle_of_an_epoch_has_the_number_of_the_last_whole_one(due, clock):
    user, kept = due()
    kept.end_step(3, 1.0, ended=False)
    clock.now_s += 700.0
    user.count = 77
    kept.take_between_batches()
    assert not kept.is_over()
    kept.settle()
    assert [step for step, _ in kept.kept()] == [3]
    assert kept.resume(None, 3, lambda: None) == 3
    assert user.count == 77


def test_a_later_result_names_a_checkpoint_that_was_written_meanwhile(due, clock):
    _, kept = due()
    clock.now_s += 700.0
    assert kept.end_step(1, 700.0, ended=False) is None
    named = waits.until("it is written", lambda: kept.end_step(2, 1.0, ended=False))
    assert named.name == "checkpoint-1"
    kept.settle()


def test_without_memory_for_a_copy_the_checkpoint_is_written_at_once(due, clock):
    user, kept = due()
    user.room = False
    clock.now_s += 700.0
    assert kept.end_step(1, 700.0, ended=False).name == "checkpoint-1"


def test_a_disk_that_was_full_in_the_background_is_waited_for_at_the_next_batch(due, clock):
    user, kept = due()
    user.error = OSError(errno.ENOSPC, "No space left on device")
    clock.now_s += 700.0
    kept.end_step(1, 700.0, ended=False)
    waits.until("the next one is due", kept.is_over)
    kept.take_between_batches()
    assert [step for step, _ in kept.kept()] == [1], "written by the trial itself, which can wait"


def test_any_other_error_of_the_background_ends_the_trial(due, clock):
    user, kept = due()
    user.error = ValueError("a bug")
    clock.now_s += 700.0
    kept.end_step(1, 700.0, ended=False)
    with pytest.raises(ValueError, match="a bug"):
        waits.until("the error", kept.is_over)


def test_the_end_of_a_users_trial_is_saved_whatever_the_time(due, clock):
    _, kept = due(Counts)
    clock.now_s += 1.0
    assert kept.end_step(1, 1.0, ended=False) is None
    assert kept.end_step(2, 1.0, ended=True).name == "checkpoint-2"


def test_with_an_interval_of_zero_each_epoch_is_saved_before_the_next(due, clock):
    _, kept = due(every_s=0.0)
    assert not kept.is_over()
    assert [kept.end_step(step, 1.0, ended=False).name for step in (1, 2)] == ["checkpoint-1", "checkpoint-2"]


def test_what_a_killed_worker_left_half_written_is_removed(kept, tmp_path):
    folder = tmp_path / "0"
    folder.mkdir()
    for name in (".checkpoint-3.pt.77.part", ".best-2.pt.77.part"):
        (folder / name).write_bytes(b"half")
    (folder / ".fresh-2").mkdir()
    kept.resume(None, 3, lambda: None)
    assert list(folder.iterdir()) == []

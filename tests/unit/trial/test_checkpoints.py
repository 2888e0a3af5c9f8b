"""The checkpoints of a trial: written whole, kept, resumed from, and tried again while the disk is full."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from ray import tune

from actors.trial import checkpoints
from actors.trial.checkpoints import KEEP_CHECKPOINTS, CheckpointFolders, Checkpoints, is_full, when_there_is_space


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
    assert slept == [checkpoints.POLL_S] * 3
    assert len(waited) == 3


@pytest.mark.parametrize("error", [OSError(errno.EIO, "I/O error"), ValueError("a bug"), wrapped(OSError(5, "EIO"))])
def test_any_other_error_is_raised_at_once(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(type(error)):
        when_there_is_space(refusing(1, [error]), tmp_path, lambda: None, lambda seconds: pytest.fail("it waited"))


def test_an_error_without_a_reason_is_judged_by_the_space_left_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not is_full(RuntimeError("iostream error"), tmp_path)
    monkeypatch.setattr(checkpoints, "NEARLY_FULL_BYTES", 1 << 62)
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
def kept(user, tmp_path):
    return Checkpoints(tmp_path / "0", user.sweep_save, user.sweep_load, SimpleNamespace(phase=lambda _: None))


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
    assert kept.resume(path, lambda: None) == 1
    assert user.count == 7


def test_a_trial_that_begins_anew_in_its_old_folder_keeps_its_own_checkpoints(user, kept):
    """The old ones have higher steps: they must not push the new ones out."""
    save(user, kept, 8, 9)
    save(user, kept, 1)
    assert [step for step, _ in kept.kept()] == [1]
    save(user, kept, 2, 3)
    assert [step for step, _ in kept.kept()] == [2, 3]


def test_a_trial_resumes_from_its_checkpoint(user, kept):
    [path] = save(user, kept, 4)
    user.count = 0
    assert kept.resume(path, lambda: None) == 4
    assert (user.count, kept.resumed_step) == (4, 4)


def test_checkpoints_beyond_the_one_that_was_committed_are_not_used(user, kept):
    """The daemon does not have them: their epochs run again and are reported."""
    first, _ = save(user, kept, 1, 2)
    assert kept.resume(first, lambda: None) == 1
    assert user.count == 1


def test_a_damaged_checkpoint_costs_epochs_and_not_the_trial(user, kept):
    """The one before it is used, by a trial that is begun anew; with none left it starts from nothing."""
    first, second = save(user, kept, 1, 2)
    (second / "sweep-state.pickle").write_bytes(b"torn")
    assert kept.resume(second, lambda: user.setup({})) == 1
    assert (user.count, user.begun) == (1, 2)
    assert (kept.resumed_step, kept.unusable) == (1, [str(second)])
    (first / "sweep-state.pickle").write_bytes(b"")
    assert kept.resume(second, lambda: user.setup({})) == 0
    assert (user.count, user.begun) == (0, 4)


def test_a_checkpoint_that_is_gone_costs_epochs_and_not_the_trial(user, kept, tmp_path):
    gone = tmp_path / "0" / "checkpoint-3"
    assert kept.resume(gone, lambda: None) == 0
    assert (kept.resumed_step, kept.unusable) == (None, [str(gone)])

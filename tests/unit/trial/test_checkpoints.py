"""A checkpoint that meets a full disk: it is tried again until there is space, and any other error is one."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from actors.trial import checkpoints
from actors.trial.checkpoints import is_full, when_there_is_space


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


def test_a_full_disk_is_waited_out_and_each_pause_is_told(tmp_path: Path) -> None:
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


def test_an_error_that_hides_its_reason_is_judged_by_what_is_left_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not is_full(RuntimeError("iostream error"), tmp_path)
    monkeypatch.setattr(checkpoints, "NEARLY_FULL_BYTES", 1 << 62)
    assert is_full(RuntimeError("iostream error"), tmp_path)
    assert not is_full(RuntimeError("iostream error"), tmp_path / "gone"), "nobody knows"

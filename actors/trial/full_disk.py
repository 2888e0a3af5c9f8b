"""A checkpoint that meets a full disk waits for space: its trial stands still, it does not fail."""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

LOG = logging.getLogger("trainable")
POLL_S = 1.0
NEARLY_FULL_BYTES = 1 << 16
"""A writer that hides the reason (torch's own says only that its position is wrong) is judged by what is left."""


def is_full(error: BaseException, folder: Path) -> bool:
    """Whether a write into `folder` failed for want of space: by the error, by what it was raised for, by the disk."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        cause = cause.__cause__ or cause.__context__
    try:
        found = os.statvfs(folder)
    except OSError:
        return False
    return found.f_bavail * found.f_frsize < NEARLY_FULL_BYTES


def when_there_is_space(
    save: Callable[[], Path], folder: Path, waits: Callable[[], object], sleep: Callable[[float], None] = time.sleep
) -> Path:
    """What `save` returns, which is called again as long as the disk of `folder` is full; `waits` before each pause.

    Without a bound: space comes back when it comes, and the driver can always end its trials. Raises what `save`
    raises for any other reason.
    """
    told = False
    while True:
        try:
            return save()
        except Exception as error:
            # Whatever a user's own way of saving makes of a full disk.
            if not is_full(error, folder):
                raise
            if not told:
                LOG.warning("no space is left at %s: the trial waits with its checkpoint: %s", folder, error)
                told = True
        waits()
        sleep(POLL_S)

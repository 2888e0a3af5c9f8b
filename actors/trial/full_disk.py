"""Tries to save again while the disk is full."""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Callable
from pathlib import Path

from supervisor.filesystem import free_bytes

POLL_S = 1.0
NEARLY_FULL_BYTES = 1 << 16
"""With less free space, an error without a reason (torch only says that its position is wrong) means a full disk."""

LOG = logging.getLogger("trainable")


def is_full(error: BaseException, folder: Path) -> bool:
    """Return whether `error` came from a full disk: by its causes, or by the space left at `folder`."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        cause = cause.__cause__ or cause.__context__
    try:
        return free_bytes(folder) < NEARLY_FULL_BYTES
    except OSError:
        return False


def when_there_is_space(
    save: Callable[[], Path], folder: Path, waits: Callable[[], object], sleep: Callable[[float], None] = time.sleep
) -> Path:
    """Return the result of `save`, called again while the disk of `folder` is full; call `waits` before each pause.

    Without a bound: only a person can make space, and the driver can always end its trials. Raises any other error
    of `save`.
    """
    logged = False
    while True:
        try:
            return save()
        except Exception as error:
            # A user's own code may turn a full disk into any error.
            if not is_full(error, folder):
                raise
            if not logged:
                LOG.warning("no space is left at %s: the trial waits with its checkpoint: %s", folder, error)
                logged = True
        waits()
        sleep(POLL_S)

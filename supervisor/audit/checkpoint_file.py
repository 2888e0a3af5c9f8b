"""Whether a checkpoint is what was written, without loading torch.

The format is training.checkpoint's; a test holds the two equal.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

MAGIC = b"SWEEPCK1"
TRAILER_BYTES = len(MAGIC) + 32


def fault_of(path: Path) -> str | None:
    """What is wrong with the checkpoint at `path`; None when nothing is known to be.

    A folder (of a trainable that is not ours) has no checksum: that it is there and not empty is all.
    """
    if path.is_dir():
        return None if any(path.iterdir()) else "the folder is empty"
    try:
        with path.open("rb") as file:
            left, digest = path.stat().st_size - TRAILER_BYTES, hashlib.sha256()
            while left > 0 and (piece := file.read(min(left, 1 << 20))):
                digest.update(piece)
                left -= len(piece)
            trailer = file.read(TRAILER_BYTES)
    except OSError as error:
        return str(error.strerror)
    if not trailer.startswith(MAGIC):
        return "it is no checkpoint, or was cut short"
    return None if trailer[len(MAGIC) :] == digest.digest() else "its checksum does not match"

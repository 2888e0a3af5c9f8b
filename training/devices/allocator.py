"""Tell glibc to return freed memory to the system."""

from __future__ import annotations

import ctypes
import sys

_M_MMAP_THRESHOLD = -3  # mallopt's number for it, malloc.h
TIGHT_THRESHOLD_BYTES = 2**20


def allocate_tightly() -> bool:
    """Map each block of 1 MiB or more separately, for the rest of the process; return whether glibc obeyed.

    By default glibc keeps such blocks, which is faster (a 20M step takes 1.5 times as long without) but leaves holes:
    with recomputed activations the process then took up to 60 % more memory than it used.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    return mallopt is not None and mallopt(_M_MMAP_THRESHOLD, TIGHT_THRESHOLD_BYTES) == 1


def give_back_free_memory() -> bool:
    """Return freed blocks to the system by malloc_trim(3); return whether glibc obeyed.

    Otherwise they stay with the process, and the next trial and the kernel count them as used.
    """
    if not sys.platform.startswith("linux"):
        return False
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
    return trim is not None and trim(0) == 1

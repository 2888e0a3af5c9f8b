"""Telling glibc to give memory back at once, for trials that only just fit."""

from __future__ import annotations

import ctypes
import sys

_M_MMAP_THRESHOLD = -3  # mallopt's number for it, malloc.h
TIGHT_THRESHOLD_BYTES = 2**20


def allocate_tightly() -> bool:
    """Let every block of 1 MiB or more be mapped and unmapped on its own; True where the C library could be told.

    By default glibc learns to keep such blocks, which is faster (measured: a 20M step takes 1.5 times as long without)
    but leaves holes: recomputing activations then took up to 60 % more memory than it uses. Holds for the process.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    return mallopt is not None and mallopt(_M_MMAP_THRESHOLD, TIGHT_THRESHOLD_BYTES) == 1

"""What a child process may know of the daemon's environment: an allow-list, so that no secret in it gets further.

Standard library only.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

NAMES = (
    "HOME", "LANG", "LC_ALL", "PATH", "TZ", "USER", "LOGNAME", "SHELL", "XDG_RUNTIME_DIR", "LD_LIBRARY_PATH",
    "DYLD_LIBRARY_PATH", "SSL_CERT_FILE", "CUDA_VISIBLE_DEVICES", "CUDA_HOME", "NVIDIA_VISIBLE_DEVICES",
    "PYTORCH_ENABLE_MPS_FALLBACK", "PYTORCH_CUDA_ALLOC_CONF", "VIRTUAL_ENV", "SWEEP_HOME",
)  # fmt: skip


def passed_on(more: Sequence[str] = ()) -> dict[str, str]:
    """The variables of this process that a child gets, NAMES and `more`, where they are set; it may add its own."""
    return {name: os.environ[name] for name in (*NAMES, *more) if name in os.environ}


def thread_environment(threads: int) -> dict[str, str]:
    """Return the variables for a process that trains on `threads` cores and shares the machine with others.

    OpenMP reads them once, when it is loaded. By default one of its threads that waits for its siblings spins: if
    another process takes one of the cores, the others waste theirs at each barrier, hundreds of times a step. Passive
    waiting sleeps instead.
    """
    return {
        "OMP_WAIT_POLICY": "PASSIVE",
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "OMP_DYNAMIC": "FALSE",
    }

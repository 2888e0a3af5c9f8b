"""Chooses the environment of child processes by an allow-list: no secret reaches them.

Standard library only.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from supervisor.home import Home

OWNER = "SWEEP_OWNER"
"""Every child of a daemon, and each of their children, has this variable, set to the home's key."""

SERVES = "SWEEP_SERVES"
"""A process that ends by itself after another one, and not as its child, has this variable, set to that one's pid."""

WARM_WORKERS = "SWEEP_WARM_WORKERS"
"""The folder in which a driver tells the workers that it starts early what to import (actors.trial.warm_worker)."""

PASSED = (
    "HOME", "LANG", "LC_ALL", "PATH", "TZ", "USER", "LOGNAME", "SHELL", "XDG_RUNTIME_DIR", "LD_LIBRARY_PATH",
    "DYLD_LIBRARY_PATH", "SSL_CERT_FILE", "NVIDIA_VISIBLE_DEVICES", "CUBLAS_WORKSPACE_CONFIG",
    "PYTORCH_ENABLE_MPS_FALLBACK", "PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "VIRTUAL_ENV", "SWEEP_HOME",
)  # fmt: skip

PASSED_PREFIXES = ("CUDA_", "PYTORCH_MPS_")
"""All variables that begin so: they choose devices, and bound or trace their memory; none holds a secret."""

FOLDER_LISTS = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
PLACES = ("VIRTUAL_ENV", "CUDA_HOME", "SSL_CERT_FILE")


def absolute_paths(environment: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Return the variables of `environment` that name files, as absolute paths from `folder`, where they were set.

    A child works in another folder, where a relative path would mean another file.
    """
    found = {name: str(folder / environment[name]) for name in PLACES if environment.get(name)}
    for name in FOLDER_LISTS:
        if environment.get(name):
            found[name] = os.pathsep.join(str(folder / part) for part in environment[name].split(os.pathsep))
    return found


def passed_environment(more: Sequence[str] = ()) -> dict[str, str]:
    """Return the variables of this process that are in PASSED or `more`, or begin as in PASSED_PREFIXES."""
    listed = {*PASSED, *more}
    return {name: value for name, value in os.environ.items() if name in listed or name.startswith(PASSED_PREFIXES)}


def thread_environment(threads: int) -> dict[str, str]:
    """Return the variables for a process that computes with `threads` threads; OpenMP reads them when it loads.

    By default a waiting OpenMP thread spins. If another process takes one of the cores, the others then waste theirs
    at each of a step's hundreds of barriers. Passive threads sleep.
    """
    return {
        "OMP_WAIT_POLICY": "PASSIVE",
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "OMP_DYNAMIC": "FALSE",
    }


def ray_environment(home: Home, run_id: str, import_folder: Path | None, more: Sequence[str] = ()) -> dict[str, str]:
    """Return the environment of the Ray head and the drivers, and so of the trials.

    `import_folder` contains a user's own trainable and comes first on PYTHONPATH; `more` are variables that the plan
    names. A variable that is set here keeps the value from here (`overwritten`).
    """
    passed = passed_environment(more)
    folders = [str(import_folder)] if import_folder else []
    if passed.get("PYTHONPATH"):
        folders.append(passed["PYTHONPATH"])
    return passed | {
        OWNER: home.key,
        "SWEEP_RUN_ID": run_id,
        "PYTHONUNBUFFERED": "1",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(home.ray_token),
        "RAY_USAGE_STATS_ENABLED": "0",
        # Without it, a thread that calls Ray while its driver ends would start a Ray of its own, with all cores.
        "RAY_ENABLE_AUTO_CONNECT": "0",
        # Keeps the address 127.0.0.1, as Ray does on macOS by default. Elsewhere Ray replaces it by the machine's own
        # address, and then GCS, raylet and every worker listen on all interfaces.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        # One kill by Ray's memory monitor ends a whole sweep: OutOfMemoryError escapes max_failures.
        "RAY_memory_monitor_refresh_ms": "0",
        # Ray would offer every worker to the kernel's OOM killer, the watchdog too; trials set their own score.
        "RAY_worker_oom_score_adjustment": "0",
        "RAY_CHDIR_TO_TRIAL_DIR": "0",
        # Each worker of Ray imports it before it takes work.
        "RAY_preload_python_modules": "actors.trial.preload",
        WARM_WORKERS: str(home.runtime() / "warm"),
        # Ray would start a worker for each core with the first driver, and no trial would take one: Tune gives the
        # workers of trials an environment of their own.
        "RAY_prestart_worker_first_driver": "0",
        # The limit of each log of the session. Ray's default, five files of 512 MB, can fill a small disk.
        "RAY_ROTATION_MAX_BYTES": str(32 * 1024 * 1024),
        "RAY_ROTATION_BACKUP_COUNT": "1",
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        # Spinning OpenMP threads become very slow when another process takes their core.
        "OMP_WAIT_POLICY": "PASSIVE",
        "KMP_BLOCKTIME": "0",
        **({"PYTHONPATH": os.pathsep.join(folders)} if folders else {}),
    }


def overwritten(passed: Mapping[str, str], environment: Mapping[str, str]) -> Iterator[str]:
    """Yield the names in `passed` whose value a trial with `environment` does not get, whole or as a part."""
    for name, value in passed.items():
        if value not in (environment.get(name), environment.get(name, "").partition(os.pathsep)[2]):
            yield name

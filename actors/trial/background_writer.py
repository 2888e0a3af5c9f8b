"""Writes one file at a time beside the training, in a thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path


class BackgroundWriter:
    """Runs one job at a time; its path or its error is collected by the thread that started it."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._path: Path | None = None
        self._error: BaseException | None = None

    @property
    def is_busy(self) -> bool:
        """Return whether a job was started and not collected."""
        return self._thread is not None

    @property
    def is_done(self) -> bool:
        """Return whether a job has ended and waits to be collected."""
        return self._thread is not None and not self._thread.is_alive()

    def start(self, job: Callable[[], Path]) -> None:
        """Run `job` in a thread. Raises RuntimeError while another one was not collected."""
        if self._thread is not None:
            raise RuntimeError("expected no job at work, found one: collect it first")
        # A daemon: a worker that ends must not wait for a disk.
        self._thread = threading.Thread(target=self._run, args=(job,), name="checkpoint", daemon=True)
        self._thread.start()

    def _run(self, job: Callable[[], Path]) -> None:
        try:
            self._path = job()
        except BaseException as error:  # noqa: BLE001 - it is raised again where the job is collected
            self._error = error

    def collect(self) -> Path | None:
        """Wait for the job at work and return its path, None without a job. Raises the job's error."""
        if self._thread is None:
            return None
        self._thread.join()
        path, error = self._path, self._error
        self._thread = self._path = self._error = None
        if error is not None:
            raise error
        return path

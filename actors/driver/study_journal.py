"""Optuna's journal, kept in memory; `study.journal` is a copy of it to look at, never read by the search."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from optuna.storages.journal import BaseJournalBackend

log = logging.getLogger(__name__)


class CopiedJournal(BaseJournalBackend):
    """What was appended, in this process's memory, and a copy at `file` that anything may happen to.

    With Optuna's own file backend a search whose file was deleted hands out numbers that it has given already, and one
    whose disk is full ends. Here the copy is written again when it is not as it was left.
    """

    def __init__(self, file: Path) -> None:
        self._file, self._lines, self._copied_bytes, self._failing = file, list[bytes](), 0, False

    def read_logs(self, log_number_from: int) -> Iterable[dict[str, Any]]:
        return [json.loads(line) for line in self._lines[log_number_from:]]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        added = [json.dumps(entry, separators=(",", ":")).encode() + b"\n" for entry in logs]
        self._lines += added
        try:
            self._copy(b"".join(added))
        except OSError as error:
            # Once for each outage, not once for each line.
            if not self._failing:
                log.warning("%s cannot be written; the search goes on without it: %s", self._file, error)
            self._failing = True
        else:
            self._failing = False

    def _copy(self, added: bytes) -> None:
        as_left = self._file.exists() and self._file.stat().st_size == self._copied_bytes
        if as_left:
            with self._file.open("ab") as copy:
                copy.write(added)
            self._copied_bytes += len(added)
        else:
            everything = b"".join(self._lines)
            beside = self._file.with_name(self._file.name + ".new")
            beside.write_bytes(everything)
            beside.replace(self._file)
            self._copied_bytes = len(everything)

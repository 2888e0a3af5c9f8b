"""Copies the studies of a run into one journal, for Optuna's dashboard, which may change what it shows.

Runs as a process of its own, `python -m actors.driver.study_copy TARGET JOURNAL ...`, and prints a JSON object: the
number of studies and of trials, and the journals that cannot be read, each with its problem.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend

from actors.driver.study import CopiedJournal


class ReadJournal(BaseJournalBackend):
    """Reads the whole lines of a journal; a driver may be writing the next one."""

    def __init__(self, file: Path) -> None:
        """Raises OSError, and ValueError for a line that is not JSON."""
        whole = file.read_bytes().rpartition(b"\n")[0]
        self._logs: list[dict[str, Any]] = [json.loads(line) for line in whole.splitlines()]

    def read_logs(self, log_number_from: int) -> Iterable[dict[str, Any]]:
        return self._logs[log_number_from:]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Take them into memory: Optuna registers itself as a reader."""
        self._logs += json.loads(json.dumps(logs))


def copy_studies(target: Path, journals: Sequence[Path]) -> dict[str, Any]:
    """Copy the studies of `journals` into the new journal `target`; return the counts and the problems."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = JournalStorage(CopiedJournal(target))
    counts, problems = [], {}
    for file in journals:
        try:
            source = JournalStorage(ReadJournal(file))
            for study in source.get_all_studies():
                optuna.copy_study(from_study_name=study.study_name, from_storage=source, to_storage=storage)
                counts.append(len(optuna.load_study(study_name=study.study_name, storage=source).trials))
        except Exception as error:  # noqa: BLE001 - a damaged copy fails in any way; the other studies are shown
            problems[str(file)] = f"{type(error).__name__}: {error}"
    return {"studies": len(counts), "trials": sum(counts), "problems": problems}


def main(argv: Sequence[str]) -> int:
    """Copy, and print the answer."""
    target, *journals = map(Path, argv)
    print(json.dumps(copy_studies(target, journals)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

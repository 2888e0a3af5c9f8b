"""Removes checkpoints and weights of ended trials that nothing needs any more. An experiment keeps its best trial's.

A file that may be removed is never needed again, so a crash between two removals, or a removal that fails, costs
nothing but space.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

from supervisor.daemon.experiments.evaluation import WEIGHTS
from supervisor.domain import finalists
from supervisor.domain.answer import TESTED
from supervisor.domain.checkpoint_name import checkpoint_step
from supervisor.domain.lifecycle import SUCCEEDED, TRIAL_ENDED, EndReason
from supervisor.errors import DiskFull
from supervisor.store import lookups
from supervisor.store.queries import best_trial
from supervisor.store.run_writer import RunWriter

log = logging.getLogger("supervisor")

MAX_A_ROUND = 200
"""Files and folders that one round removes. A long round would keep the disk busy."""

MAX_ROUNDS_AT_THE_END = 100

_UNFINISHED = re.compile(r"\.fresh-\d+|\.(checkpoint-\d+|best(-\d+)?)\.pt\.\d+\.part|best-\d+\.pt")
"""The files that a trial needs only while it runs: half-written ones, and weights of the best epoch so far."""

Spec = Mapping[str, Any]
Trial = Mapping[str, Any]


class Keep(IntEnum):
    """Says how much of a trial's folder stays."""

    NOTHING = 0
    WEIGHTS = 1
    NEWEST = 2  # the checkpoint that the store names, and the weights
    ALL = 3


@dataclass(frozen=True)
class Folder:
    """A trial's folder, how much of it stays, and the checkpoint that the store names."""

    path: Path
    keep: Keep
    named: Path | None


def keeps(spec: Spec, trials: Sequence[dict[str, Any]], *, tested: bool) -> dict[int, Keep]:
    """Return how much of each trial's folder stays, by number; `tested` says that the answer was evaluated.

    Reads `number`, `state`, `end_reason`, `value` and `params` of each of an experiment's trials.
    """
    best = best_trial(trials, spec)
    winner = finalists.chosen(spec, trials) if spec.get("finalize") else None
    settled = winner is not None and (tested or spec["trainable"] != TESTED)
    found = [] if winner is None else [winner.finalist, *finalists.walk_forward(spec, trials)]
    winners = frozenset(number for finalist in found for number in finalist.numbers)

    def keep(trial: Trial) -> Keep:
        number = int(trial["number"])
        if trial["state"] not in TRIAL_ENDED:
            return Keep.ALL
        if best is not None and number == best["number"]:
            return Keep.NEWEST
        if EndReason(trial["end_reason"]) not in SUCCEEDED or not finalists.is_final(spec, number):
            return Keep.NOTHING
        if settled and number not in winners:
            return Keep.NOTHING
        # The evaluation needs the weights, a third of a checkpoint; a user's trainable has checkpoints only.
        return Keep.WEIGHTS if spec["trainable"] == TESTED else Keep.NEWEST

    return {int(trial["number"]): keep(trial) for trial in trials}


def removable(folder: Folder) -> list[Path]:
    """Return the checkpoints and weights of a trial that may be removed, unfinished files included."""
    if folder.keep is Keep.ALL:
        return []
    stays = {WEIGHTS} if folder.keep >= Keep.WEIGHTS else set()
    found = sorted(folder.path.iterdir())
    if folder.keep is Keep.NEWEST:
        steps = {step: path.name for path in found if (step := checkpoint_step(path)) is not None}
        named = folder.named.name if folder.named is not None else None
        stays.add(named if named in steps.values() and named is not None else steps.get(max(steps, default=0), ""))
    ours = (path for path in found if path.name == WEIGHTS or checkpoint_step(path) is not None
            or _UNFINISHED.fullmatch(path.name))  # fmt: skip
    return [path for path in ours if path.name not in stays]


class CheckpointRetention:
    """Removes the files of one run."""

    def __init__(self, writer: RunWriter, run_folder: Path) -> None:
        self._writer, self._run_folder = writer, run_folder

    async def tidy(self) -> int:
        """Remove at most MAX_A_ROUND files and folders; return their number. Raises DiskFailed."""
        folders = list(self.folders())
        count, size = await asyncio.to_thread(remove, folders, MAX_A_ROUND)
        if count:
            try:
                self._writer.record("checkpoints.pruned", count=count, bytes=size)
            except DiskFull as error:
                log.warning("%d files were removed, which cannot be recorded: %s", count, error)
        return count

    async def tidy_up(self) -> None:
        """Remove all that may be removed, at the end of the run. Raises DiskFailed."""
        for _ in range(MAX_ROUNDS_AT_THE_END):
            if await self.tidy() < MAX_A_ROUND:
                return

    def folders(self) -> Iterator[Folder]:
        """Yield the folders of trials that exist, experiment by experiment."""
        store, run = self._writer.store, self._writer.run_id
        for row in lookups.experiments(store, run):
            there = _numbers(self._run_folder / row["name"])
            if not there:
                continue
            trials = [
                {**dict(trial), "params": json.loads(trial["params"])}
                for trial in lookups.trials(store, run, row["name"])
            ]
            test = lookups.test(store, run, row["name"])
            scored = test is not None and test["result"] is not None
            stays = keeps(json.loads(row["spec"]), trials, tested=scored)
            for trial in trials:
                if trial["number"] in there:
                    named = None if trial["checkpoint"] is None else Path(trial["checkpoint"])
                    yield Folder(self._run_folder / row["name"] / str(trial["number"]), stays[trial["number"]], named)


def remove(folders: Sequence[Folder], limit: int) -> tuple[int, int]:
    """Remove at most `limit` files and folders; return their number and bytes. An error is logged."""
    count = size = 0
    for folder in folders:
        try:
            for path in removable(folder):
                if count >= limit:
                    return count, size
                size += remove_path(path)
                count += 1
            if folder.keep is Keep.NOTHING and not any(folder.path.iterdir()):
                folder.path.rmdir()
        except OSError as error:
            log.warning("%s cannot be tidied: %s", folder.path, error)
    return count, size


def remove_path(path: Path) -> int:
    """Remove a file or folder; return its bytes."""
    if path.is_dir() and not path.is_symlink():
        size = sum(file.lstat().st_size for file in path.rglob("*") if not file.is_dir())
        shutil.rmtree(path)
        return size
    size = path.lstat().st_size
    path.unlink()
    return size


def _numbers(folder: Path) -> set[int]:
    """Return the numbers of the trials that have a folder there; links are left alone."""
    try:
        return {int(entry.name) for entry in folder.iterdir() if entry.name.isdecimal() and not entry.is_symlink()}
    except FileNotFoundError:
        return set()
    except OSError as error:
        # A folder that cannot be read must not fail the run's end.
        log.warning("%s cannot be tidied: %s", folder, error)
        return set()

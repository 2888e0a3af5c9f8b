"""Which files of trials that have ended may go, and their going: live trials keep theirs, an experiment its best.

What may go may go for good: nothing that happens later makes it needed again, so a crash between two removals, or a
removal that fails, costs nothing but room.
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
from supervisor.domain.lifecycle import SUCCEEDED, TRIAL_ENDED, EndReason
from supervisor.errors import DiskFull
from supervisor.store.queries import best_trial
from supervisor.store.run_writer import RunWriter

log = logging.getLogger("supervisor")

MAX_A_ROUND = 200
"""Files and folders that one round removes: a round is a pause of the disk, not of the daemon, but pauses add up."""

MAX_ROUNDS_AT_THE_END = 100

_CHECKPOINT = re.compile(r"checkpoint-(\d+)(\.pt)?")
_UNFINISHED = re.compile(r"\.fresh-\d+|\.(checkpoint-\d+|best)\.pt\.\d+\.part")

Spec = Mapping[str, Any]
Trial = Mapping[str, Any]


class Keep(IntEnum):
    """How much of a trial's folder stays."""

    NOTHING = 0
    WEIGHTS = 1
    NEWEST = 2  # the checkpoint that the store names, and the weights
    ALL = 3


@dataclass(frozen=True)
class Folder:
    """A trial's folder, what of it stays, and the checkpoint that the store names."""

    path: Path
    keep: Keep
    named: Path | None


def keeps(spec: Spec, trials: Sequence[dict[str, Any]], *, tested: bool) -> dict[int, Keep]:
    """By number, how much of each of an experiment's trials stays; `tested` says that its answer's test is scored.

    Of each `number`, `state`, `end_reason`, `value` and `params` are looked at.
    """
    best = best_trial(trials, str(spec["mode"]))
    winner = finalists.chosen(spec, trials) if spec.get("finalize") else None
    settled = winner is not None and (tested or spec["trainable"] != "patchtst")
    winners = frozenset(winner.finalist.numbers) if winner is not None else frozenset()

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
        # The test needs the weights, a third of a checkpoint; another's trainable has nothing but its checkpoints.
        return Keep.WEIGHTS if spec["trainable"] == "patchtst" else Keep.NEWEST

    return {int(trial["number"]): keep(trial) for trial in trials}


def removable(folder: Folder) -> list[Path]:
    """What of a trial's folder may go: checkpoints and weights, whole and unfinished; never what it does not know."""
    if folder.keep is Keep.ALL:
        return []
    stays = {WEIGHTS} if folder.keep >= Keep.WEIGHTS else set()
    found = sorted(folder.path.iterdir())
    if folder.keep is Keep.NEWEST:
        steps = {int(match[1]): path.name for path in found if (match := _CHECKPOINT.fullmatch(path.name))}
        named = folder.named.name if folder.named is not None else None
        stays.add(named if named in steps.values() and named is not None else steps.get(max(steps, default=0), ""))
    ours = (path for path in found if path.name == WEIGHTS or _CHECKPOINT.fullmatch(path.name)
            or _UNFINISHED.fullmatch(path.name))  # fmt: skip
    return [path for path in ours if path.name not in stays]


class CheckpointRetention:
    """Of one run. `tidy` removes what may go, at most MAX_A_ROUND at once, and tells of it."""

    def __init__(self, ledger: RunWriter, run_folder: Path) -> None:
        self._ledger, self._run_folder = ledger, run_folder

    async def tidy(self) -> int:
        """One round; how many files and folders went. Raises DiskFailed."""
        folders = list(self._folders())
        count, size = await asyncio.to_thread(remove, folders, MAX_A_ROUND)
        if count:
            try:
                self._ledger.record("checkpoints.pruned", count=count, bytes=size)
            except DiskFull as error:
                log.warning("%d files were removed, which cannot be told: %s", count, error)
        return count

    async def tidy_up(self) -> None:
        """As many rounds as it takes: the run has ended. Raises DiskFailed."""
        for _ in range(MAX_ROUNDS_AT_THE_END):
            if await self.tidy() < MAX_A_ROUND:
                return

    def _folders(self) -> Iterator[Folder]:
        """The trials' folders that are there, experiment by experiment."""
        store, run = self._ledger.store, self._ledger.run_id
        for row in store.rows("SELECT name, spec FROM experiment WHERE run = ? ORDER BY ordinal", run):
            there = _numbers(self._run_folder / row["name"])
            if not there:
                continue
            trials = [
                {**dict(trial), "params": json.loads(trial["params"])}
                for trial in store.rows(
                    "SELECT number, state, end_reason, value, params, checkpoint FROM trial"
                    " WHERE run = ? AND experiment = ? ORDER BY number",
                    run, row["name"],
                )
            ]  # fmt: skip
            scored = store.row(
                "SELECT 1 FROM evaluation WHERE run = ? AND experiment = ? AND result IS NOT NULL", run, row["name"]
            )
            stays = keeps(json.loads(row["spec"]), trials, tested=scored is not None)
            for trial in trials:
                if trial["number"] in there:
                    named = None if trial["checkpoint"] is None else Path(trial["checkpoint"])
                    yield Folder(self._run_folder / row["name"] / str(trial["number"]), stays[trial["number"]], named)


def remove(folders: Sequence[Folder], limit: int) -> tuple[int, int]:
    """Remove what may go, at most `limit`; how many, and their bytes. What cannot be removed is logged and left."""
    count = size = 0
    for folder in folders:
        try:
            for path in removable(folder):
                if count >= limit:
                    return count, size
                size += _remove(path)
                count += 1
            if folder.keep is Keep.NOTHING and not any(folder.path.iterdir()):
                folder.path.rmdir()
        except OSError as error:
            log.warning("%s cannot be tidied: %s", folder.path, error)
    return count, size


def _remove(path: Path) -> int:
    """The bytes that it had."""
    if path.is_dir() and not path.is_symlink():
        size = sum(file.lstat().st_size for file in path.rglob("*") if not file.is_dir())
        shutil.rmtree(path)
        return size
    size = path.lstat().st_size
    path.unlink()
    return size


def _numbers(folder: Path) -> set[int]:
    """The numbers of the trials that have a folder there. One that is a link is none of ours."""
    try:
        return {int(entry.name) for entry in folder.iterdir() if entry.name.isdecimal() and not entry.is_symlink()}
    except FileNotFoundError:
        return set()
    except OSError as error:
        # A run's end must not fail for want of tidiness.
        log.warning("%s cannot be tidied: %s", folder, error)
        return set()

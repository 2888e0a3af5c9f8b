"""Train one trial as an object: built from a flat config, stepped epoch by epoch, saved, loaded and closed."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor

from training.build import build_learner, compile_forward, flops_per_step, precision_for
from training.checkpoint import host_copy, read_checkpoint, write_checkpoint
from training.data.windows import MarketWindows, load_windows
from training.device import available_devices, choose_device, device_memory_bytes, release_cached_memory
from training.environment import git_commit, library_versions
from training.errors import CheckpointError, DoesNotFit, TrainingError
from training.grid import grid_of, param_count
from training.loop import Clock, Epoch, Learner, Progress, epochs, gather, train_batch
from training.memory import (
    MemoryEstimate,
    MemoryLimit,
    choose_micro_batch,
    copy_fits,
    limit_below,
    predict_trial_memory,
)
from training.settings import TrialSettings

# The first step pays for the set-up; of the next three the fastest counts, since noise only adds.
TIMED_STEPS = 3
# Between two attempts the way of computing may change, the result may not.
_MAY_CHANGE = frozenset({"device", "threads", "compile", "precision", "memory_limit_bytes", "dataset"})


class TrainingSession:
    """One trial, ready to train.

    ``gate()`` is called between batches; it blocks while the trial is paused and returns the seconds it blocked. It
    may raise to leave an epoch in the middle: the session stays whole, can be saved, and continues from there.
    ``limit`` cuts the same batch into smaller pieces, for less memory than the memory model predicted.
    Raises on construction: SettingsError, GridError, DatasetError, SplitError, DoesNotFit.
    """

    def __init__(
        self,
        config: Mapping[str, object],
        *,
        gate: Callable[[], float],
        limit: MemoryLimit | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        self._limit = limit
        self.settings = TrialSettings.from_config(config)
        torch.set_num_threads(self.settings.threads)
        self._gate, self._clock = gate, clock
        windows = load_windows(self.settings)
        grid = grid_of(self.settings, windows.manifest.num_features)
        self.architecture = grid.architecture(self.settings.shape_rank, self.settings.heads_log2)
        self._data_record = _data_record(windows)
        # Read once: git takes a moment, and the running code does not change.
        self._ran_in = {"libraries": library_versions(), "git_commit": git_commit()}
        self.choice = choose_device(
            self.settings.device,
            available_devices(),
            flops_per_step(self.architecture, self.settings.batch_size),
            lambda name: self._time_step(name, windows),
        )
        self.memory = self._fit(self.choice.device)
        learner = build_learner(self.settings, self.architecture, self.choice.device, self.memory)
        self._windows: MarketWindows | None = windows.to(learner.device)
        self.compilation = compile_forward(learner, self._example(learner, self._windows))
        self._learner: Learner | None = learner
        self._epochs: Iterator[Epoch] | None = None

    def step(self) -> Epoch:
        """Train to the end of the running epoch.

        Raises Diverged, every exception of the gate, and TrainingError when the trial has ended.
        """
        learner, windows = self._open()
        if learner.progress.end_reason is not None:
            raise TrainingError(f"the trial has ended: {learner.progress.end_reason}", "Do not step an ended trial.")
        if self._epochs is None:
            self._epochs = epochs(learner, windows, self._gate, self._clock)
        try:
            return next(self._epochs)
        except BaseException:
            # A generator that raised cannot continue; the next step makes a new one from the learner.
            self._epochs = None
            raise

    def save(self, path: Path) -> None:
        """Write everything that ``load`` needs, atomically. Call it between batches only."""
        write_checkpoint(path, self._state())

    def snapshot(self) -> dict[str, Any] | None:
        """Copy what ``save`` writes, for a writer beside the training; None without memory for it."""
        return host_copy(self._state()) if self._has_room(self.checkpoint_bytes) else None

    def weights(self, *, copied: bool) -> dict[str, Any] | None:
        """Return the weights and their epoch, for ``best_weights``; None without memory for a copy."""
        learner, _ = self._open()
        if copied and not self._has_room(self.memory.weights_bytes):
            return None
        model = learner.model.state_dict()
        kept = {"identity": self._identity(), "epoch": learner.progress.epoch}
        return {**kept, "model": host_copy(model) if copied else model}

    @property
    def checkpoint_bytes(self) -> int:
        """The size of a checkpoint: weights and AdamW's two moments."""
        return self.memory.weights_bytes + self.memory.optimizer_bytes

    @property
    def cursor(self) -> tuple[int, int] | None:
        """The finished epochs, and the finished batches of the running one; None while it is validated.

        A session that is left in the validation repeats all of it.
        """
        learner, windows = self._open()
        done = learner.progress
        return (done.epoch, done.batch) if done.batch * self.settings.batch_size < len(windows.train) else None

    @property
    def best_epoch(self) -> int | None:
        """The best epoch so far, from 1; None before the first."""
        return self._open()[0].progress.best_epoch

    def _has_room(self, copy_bytes: int) -> bool:
        limit = self.settings.memory_limit_bytes if self.choice.device == "cpu" else None
        return copy_fits(self.memory, copy_bytes, psutil.virtual_memory().available, limit)

    def _state(self) -> dict[str, Any]:
        learner, _ = self._open()
        return {
            "identity": self._identity(),
            "model": learner.model.state_dict(),
            "optimizer": learner.optimizer.state_dict(),
            "progress": asdict(learner.progress),
            "rng_state": learner.rng_state,
            "cuda_rng_state": learner.cuda_rng_state,
            "micro_batch": learner.micro_batch,
        }

    def load(self, path: Path) -> None:
        """Continue from a checkpoint of the same trial. Raises CheckpointError; then use a new session."""
        learner, _ = self._open()
        state = read_checkpoint(path)
        if state.get("identity") != self._identity():
            raise CheckpointError(f"{path} belongs to another trial: {_differences(state, self._identity())}")
        try:
            progress = Progress(**state["progress"])
            learner.model.load_state_dict(state["model"])
            # The optimiser keeps CPU tensors as they are, and mapped ones would hold a deleted checkpoint's disk space.
            learner.optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))
            rng_state, cuda_rng_state = state["rng_state"].clone(), state["cuda_rng_state"]
            micro_batch = min(learner.micro_batch, int(state["micro_batch"]))
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"{path} lacks a part that this trial needs: {error}") from error
        learner.progress = progress
        learner.rng_state = rng_state
        if learner.cuda_rng_state is not None and cuda_rng_state is not None:
            learner.cuda_rng_state = cuda_rng_state.clone()
        # The checkpoint's cut gives the same bits; a smaller one is taken if there is less memory now.
        learner.micro_batch = micro_batch
        self.memory = self._estimate(micro_batch)
        self._epochs = None

    def smaller(self) -> MemoryLimit | None:
        """Return the limit for less memory than this trial takes now; None if there is no smaller way."""
        return limit_below(self.memory)

    def close(self) -> None:
        """Free model, optimiser and data. A closed session keeps only its record."""
        self._epochs = self._learner = self._windows = None
        release_cached_memory(self.choice.device)

    def record(self) -> dict[str, Any]:
        """Describe this trial and its machine as plain JSON values."""
        return {
            "device": {
                "chosen": self.choice.device,
                "seconds_per_step": dict(self.choice.seconds_per_step),
                "reason": self.choice.reason,
                "precision": precision_for(self.settings, self.choice.device),
                "threads": self.settings.threads,
                "compile": asdict(self.compilation),
            },
            "architecture": self.architecture.as_dict(),
            "param_count": param_count(self.architecture),
            "memory": asdict(self.memory),
            "seed": self.settings.seed,
            **self._data_record,
            **self._ran_in,
        }

    def _open(self) -> tuple[Learner, MarketWindows]:
        if self._learner is None or self._windows is None:
            raise TrainingError("the session is closed", "Build a new one and load the checkpoint.")
        return self._learner, self._windows

    def _fit(self, device: str) -> MemoryEstimate:
        free = device_memory_bytes(device, psutil.virtual_memory().available)
        limit = self.settings.memory_limit_bytes
        return choose_micro_batch(
            self.architecture,
            self.settings.batch_size,
            torch.device(device).type,  # type: ignore[arg-type]  # a str in torch, one of ours by available_devices
            available_bytes=free if limit is None else min(free, limit),
            precision=precision_for(self.settings, device),
            limit=self._limit,
        )

    def _estimate(self, micro_batch: int) -> MemoryEstimate:
        return predict_trial_memory(
            self.architecture,
            self.settings.batch_size,
            torch.device(self.choice.device).type,  # type: ignore[arg-type]  # as in _fit
            precision=precision_for(self.settings, self.choice.device),
            micro_batch=micro_batch,
            checkpoint_activations=self.memory.checkpoint_activations,
        )

    def _time_step(self, device: str, windows: MarketWindows) -> float:
        """Time one step of this trial on ``device`` by a throw-away learner; infinity where it does not fit."""
        try:
            memory = self._fit(device)
        except DoesNotFit:
            return math.inf
        fastest = self._fastest_step(device, memory, windows)
        # The learner is gone; without this, the memory that torch keeps of it would be missing for the trial itself.
        release_cached_memory(device)
        return fastest

    def _fastest_step(self, device: str, memory: MemoryEstimate, windows: MarketWindows) -> float:
        learner = build_learner(self.settings, self.architecture, device, memory)
        local = windows.to(learner.device)
        samples = local.train[: self.settings.batch_size]
        fastest = math.inf
        learner.model.train()
        with learner.own_randomness_discarded():
            for step in range(TIMED_STEPS + 1):
                started = self._clock()
                float(train_batch(learner, local, samples))  # reading the loss waits for the device
                fastest = min(fastest, self._clock() - started) if step else fastest
        return fastest

    def _example(self, learner: Learner, windows: MarketWindows) -> Tensor:
        return gather(windows.days, windows.train[: learner.micro_batch], self.settings.context)

    def _identity(self) -> dict[str, object]:
        """Return the values that a checkpoint and the session that loads it must share."""
        settings = asdict(self.settings)
        return {
            "architecture": self.architecture.as_dict(),
            "dataset_sha256": self._data_record["dataset_sha256"],
            **{name: repr(value) for name, value in settings.items() if name not in _MAY_CHANGE},
        }


def _data_record(windows: MarketWindows) -> dict[str, Any]:
    manifest = windows.manifest
    return {
        "dataset": manifest.file,
        "dataset_sha256": manifest.sha256,
        "num_features": manifest.num_features,
        "train_windows": len(windows.train),
        "val_windows": len(windows.val),
        "base_rate_train": windows.base_rate_train,
        "base_rate_val": windows.base_rate_val,
        "zscore": None if windows.zscore is None else dict(windows.zscore),
        "sealed_days": {"ticker": manifest.ticker, **windows.sealed},
    }


def _differences(state: Mapping[str, Any], identity: Mapping[str, object]) -> str:
    theirs = state.get("identity")
    if not isinstance(theirs, dict):
        return "it has no identity"
    return ", ".join(sorted(key for key in identity.keys() | theirs.keys() if identity.get(key) != theirs.get(key)))

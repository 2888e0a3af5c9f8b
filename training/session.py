"""Train one trial as an object: built from a flat config, stepped epoch by epoch, saved, loaded and closed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor

from training.build import build_learner, compile_forward, flops_per_step, load_optimizer
from training.checkpoint import host_copy, read_checkpoint, write_checkpoint
from training.data.windows import MarketWindows, load_windows
from training.devices.choice import available_devices, choose_device, device_memory_bytes, release_cached_memory
from training.devices.parity import compare_devices, measure_by, why_not_in
from training.devices.timing import seconds_per_step
from training.environment import git_commit, library_versions
from training.errors import CheckpointError, DoesNotFit, TrainingError
from training.grid import grid_of, param_count
from training.loop import Clock, Epoch, Learner, Progress, epochs, gather
from training.memory import (
    Claim,
    MemoryEstimate,
    MemoryLimit,
    Precision,
    choose_micro_batch,
    claim_alone,
    copy_fits,
    limit_below,
    predict_trial_memory,
)
from training.settings import TrialSettings

# Between two attempts the way of computing may change, the result may not.
_MAY_CHANGE = frozenset({"device", "threads", "compile", "precision", "memory_limit_bytes", "dataset"})
# A trial that trains on after its end has another one; its schedule is that of the new length.
_GROWS = frozenset({"max_epochs", "patience"})


class TrainingSession:
    """One trial, ready to train.

    ``gate()`` is called between batches; it blocks while the trial is paused and returns the seconds it blocked. It
    may raise to leave an epoch in the middle: the session stays whole, can be saved, and continues from there.
    ``limit`` cuts the same batch into smaller pieces, for less memory than the memory model predicted. ``claim`` plans
    the memory beside other trials of the machine.
    Raises on construction: SettingsError, GridError, DatasetError, SplitError, DoesNotFit.
    """

    def __init__(
        self,
        config: Mapping[str, object],
        *,
        gate: Callable[[], float],
        limit: MemoryLimit | None = None,
        claim: Claim = claim_alone,
        clock: Clock = time.monotonic,
    ) -> None:
        self._limit, self._claim, self._available_bytes = limit, claim, 0
        self.settings = TrialSettings.from_config(config)
        torch.set_num_threads(self.settings.threads)
        self._gate, self._clock = gate, clock
        windows = load_windows(self.settings)
        grid = grid_of(self.settings, windows.manifest.num_features)
        self.architecture = grid.architecture(self.settings.shape_rank, self.settings.heads_log2)
        self._data_record = _data_record(windows)
        # Read once: git takes a moment, and the running code does not change.
        self._ran_in = {"libraries": library_versions(), "git_commit": git_commit()}
        self.compared = compare_devices(self.settings, self.architecture, windows, available_devices())
        self.choice = choose_device(
            self.compared.request(self.settings.device),
            list(self.compared.precisions),
            flops_per_step(self.architecture, self.settings.batch_size),
            self.settings.threads,
            lambda name: self._time_step(name, windows),
        )
        self._precision = self.compared.precisions[self.choice.device]
        self.memory = self._fit(self.choice.device, self._precision)
        learner = self._learner_on(self.choice.device, self.memory)
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
        kept = {"identity": self._identity(), "precision": learner.precision, "epoch": learner.progress.epoch}
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
        return {"identity": self._identity(), **_state_of(self._open()[0])}

    def load(self, path: Path, *, longer: bool = False) -> None:
        """Continue from a checkpoint of the same trial, which is to be `longer` than when it was written.

        Raises CheckpointError; then use a new session.
        """
        learner, _ = self._open()
        state = read_checkpoint(path)
        if _compared(state.get("identity"), longer=longer) != _compared(self._identity(), longer=longer):
            raise CheckpointError(f"{path} belongs to another trial: {_differences(state, self._identity())}")
        try:
            progress = Progress(**state["progress"])
            learner.model.load_state_dict(state["model"])
            load_optimizer(learner.optimizer, state["optimizer"])
            rng_state, device_rng_states = state["rng_state"].clone(), state["device_rng_states"]
            kept_micro_batch, precision = int(state["micro_batch"]), state["precision"]
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"{path} lacks a part that this trial needs: {error}") from error
        self._continue_in(precision, path)
        if longer and progress.epoch < self.settings.max_epochs:
            progress.end_reason = None
        learner.progress = progress
        learner.rng_state = rng_state
        if learner.accelerator is not None and learner.accelerator.kind in device_rng_states:
            learner.device_rng_state = device_rng_states[learner.accelerator.kind].clone()
        # The checkpoint's cut gives the same bits; a smaller one is taken if there is less memory now.
        learner.micro_batch = min(learner.micro_batch, kept_micro_batch)
        self.memory = self._estimate(learner.micro_batch)
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
                "parity": [one.as_dict() for one in self.compared.parity],
                "precision": self._precision,
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

    def _learner_on(self, device: str, memory: MemoryEstimate) -> Learner:
        learner = build_learner(self.settings, self.architecture, device, memory)
        learner.precision = self.compared.precisions[device]
        return learner

    def _open(self) -> tuple[Learner, MarketWindows]:
        if self._learner is None or self._windows is None:
            raise TrainingError("the session is closed", "Build a new one and load the checkpoint.")
        return self._learner, self._windows

    def _continue_in(self, precision: Precision, path: Path) -> None:
        """Compute in the checkpoint's precision: "auto" may mean another one on another device.

        Raises CheckpointError when the config asks for another one, DoesNotFit when it takes too much memory here.
        """
        learner, _ = self._open()
        if self.settings.precision not in ("auto", precision):
            raise CheckpointError(
                f"{path} was trained in {precision}, and the config asks for {self.settings.precision}",
                f"Set precision to {precision} or auto, or begin the trial anew.",
            )
        if precision != self._precision:
            measure = measure_by(self.settings, self.architecture, self._open()[1])
            refusal = why_not_in(self.compared, self.choice.device, precision, measure)
            if refusal is not None:
                raise CheckpointError(
                    f"{path} was trained in {precision}, and {refusal}",
                    "Set device to cpu, or continue on the machine where it began.",
                )
            self._precision = learner.precision = precision
            self.memory = self._cut(self.choice.device, precision)
            learner.micro_batch = self.memory.micro_batch
            learner.model.checkpoint_activations = self.memory.checkpoint_activations

    def _fit(self, device: str, precision: Precision) -> MemoryEstimate:
        def plan(promised_bytes: int) -> MemoryEstimate:
            free = device_memory_bytes(device, psutil.virtual_memory().available) - promised_bytes
            limit = self.settings.memory_limit_bytes
            self._available_bytes = free if limit is None else min(free, limit)
            return self._cut(device, precision)

        return self._claim(device, plan)

    def _cut(self, device: str, precision: Precision) -> MemoryEstimate:
        """Cut the batch for the memory that this trial may take. Raises DoesNotFit."""
        return choose_micro_batch(
            self.architecture,
            self.settings.batch_size,
            torch.device(device).type,  # type: ignore[arg-type]  # a str in torch, one of ours by available_devices
            available_bytes=self._available_bytes,
            precision=precision,
            limit=self._limit,
        )

    def _estimate(self, micro_batch: int) -> MemoryEstimate:
        return predict_trial_memory(
            self.architecture,
            self.settings.batch_size,
            torch.device(self.choice.device).type,  # type: ignore[arg-type]  # as in _fit
            precision=self._precision,
            micro_batch=micro_batch,
            checkpoint_activations=self.memory.checkpoint_activations,
        )

    def _time_step(self, device: str, windows: MarketWindows) -> float:
        """Time one step of this trial on ``device`` by a throw-away learner; infinity where it does not fit."""
        try:
            memory = self._fit(device, self.compared.precisions[device])
        except DoesNotFit:
            return math.inf
        # The learner is gone when this returns; without the release, memory that torch keeps of it would be missing.
        seconds = seconds_per_step(self._learner_on(device, memory), windows, self._clock)
        release_cached_memory(device)
        return seconds

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


def _compared(identity: object, *, longer: bool) -> object:
    """Return what must be equal of two identities: of a trial that is to be longer not its end."""
    if not longer or not isinstance(identity, dict):
        return identity
    return {key: value for key, value in identity.items() if key not in _GROWS}


def _differences(state: Mapping[str, Any], identity: Mapping[str, object]) -> str:
    theirs = state.get("identity")
    if not isinstance(theirs, dict):
        return "it has no identity"
    return ", ".join(sorted(key for key in identity.keys() | theirs.keys() if identity.get(key) != theirs.get(key)))


def _state_of(learner: Learner) -> dict[str, Any]:
    return {
        "model": learner.model.state_dict(),
        "optimizer": learner.optimizer.state_dict(),
        "progress": asdict(learner.progress),
        "rng_state": learner.rng_state,
        "device_rng_states": _by_kind(learner),
        "precision": learner.precision,
        "micro_batch": learner.micro_batch,
    }


def _by_kind(learner: Learner) -> dict[str, Tensor]:
    """Return the state of the device's own generator; empty on a CPU, which has none."""
    if learner.accelerator is None or learner.device_rng_state is None:
        return {}
    return {learner.accelerator.kind: learner.device_rng_state}

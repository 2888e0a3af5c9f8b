"""Train epoch by epoch: a generator that yields one Epoch at a time and calls a gate between batches.

Everything that changes while it runs is in one Learner, consistent between any two batches. If the generator stops
there (by an exception of the gate, say), the Learner can be saved and continued later, to the same bits on a CPU.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from training.data.windows import MarketWindows
from training.devices.accelerator import Accelerator
from training.errors import Diverged
from training.model import PatchTST
from training.schedule import learning_rate_at
from training.scores import binary_metrics
from training.settings import TrialSettings, derive_seed

EndReason = Literal["finished", "early_stopped"]
Gate = Callable[[], float]
Clock = Callable[[], float]
Logits = NDArray[np.float64]

# Reading a value from an accelerator waits for all work queued before it; one reading in 16 batches costs nothing
# measurable. Where batches are slow, one reading a second costs nothing either, and the gate is asked that often.
MAX_QUEUED_BATCHES = 16
QUEUE_S = 1.0
# A mean of so many nats gives what happened a probability of e**-20 (a constant prediction loses at most ln 2): the
# weights have left every useful region. A single batch may be so bad, a row of batches is not.
EXPLODED_NATS = 20.0
EXPLODED_BATCHES = 16
# Without a backward pass a batch takes a fraction of the memory, so validation may take more windows at once.
VALIDATION_FACTOR = 2


@dataclass(frozen=True, slots=True)
class Epoch:
    """One finished epoch; losses are mean log losses in nats, ``seconds`` excludes ``paused_s``.

    ``learning_rate`` is that of the epoch's last step, ``samples`` the number of train windows, ``metrics`` those of
    the validation windows. ``best_val_loss`` was reached at ``best_epoch``; it and ``number`` count from 1.
    """

    number: int
    train_loss: float
    val_loss: float
    best_val_loss: float
    best_epoch: int
    learning_rate: float
    seconds: float
    paused_s: float
    samples: int
    finished: bool
    end_reason: EndReason | None
    metrics: dict[str, float]


@dataclass
class Progress:
    """The finished epochs of a trial, the finished batches of the running epoch, and their sums."""

    epoch: int = 0
    batch: int = 0
    loss_sum: float = 0.0
    seconds: float = 0.0
    paused_s: float = 0.0
    best_val_loss: float | None = None
    best_epoch: int | None = None
    end_reason: EndReason | None = None


@dataclass
class Learner:
    """A model in training: the content of a checkpoint, and how batches are cut."""

    settings: TrialSettings
    model: PatchTST
    forward: Callable[[Tensor], Tensor]
    optimizer: torch.optim.Optimizer
    device: torch.device
    precision: Literal["fp32", "bf16"]
    micro_batch: int
    rng_state: Tensor
    accelerator: Accelerator | None = None
    device_rng_state: Tensor | None = None
    """The state of the accelerator's own generator; it draws the dropout there. None on a CPU."""
    progress: Progress = field(default_factory=Progress)

    def autocast(self) -> AbstractContextManager[object]:
        """Compute matrices in bf16 with float32 weights if that is this trial's precision."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16")

    @contextmanager
    def own_randomness_discarded(self) -> Iterator[None]:
        """Lend the generators like ``own_randomness``, then restore their state: for a step on trial."""
        kept = self.rng_state, self.device_rng_state
        try:
            with self.own_randomness():
                yield
        finally:
            self.rng_state, self.device_rng_state = kept

    @contextmanager
    def own_randomness(self) -> Iterator[None]:
        """Lend torch's global generators to this trial, so that its dropout is independent of other code."""
        before = torch.get_rng_state()
        torch.set_rng_state(self.rng_state)
        try:
            with self._device_randomness():
                yield
        finally:
            self.rng_state = torch.get_rng_state()
            torch.set_rng_state(before)

    @contextmanager
    def _device_randomness(self) -> Iterator[None]:
        found = self.accelerator
        if found is None or self.device_rng_state is None:
            yield
            return
        before = found.rng_state()
        found.set_rng_state(self.device_rng_state)
        try:
            yield
        finally:
            self.device_rng_state = found.rng_state()
            found.set_rng_state(before)


def epochs(learner: Learner, windows: MarketWindows, gate: Gate, clock: Clock) -> Iterator[Epoch]:
    """Train from the learner's present state, one Epoch at a time, until its end_reason is set.

    ``gate()`` is called before each batch; on an accelerator when it has done all batches before, at most
    ``MAX_QUEUED_BATCHES``. It blocks while the trial is paused and returns the seconds it blocked.
    Raises Diverged as soon as a non-finite loss is read, or an exploded one: a mean above ``EXPLODED_NATS`` over
    ``EXPLODED_BATCHES`` batches, or over an epoch that has fewer. Raises every exception of the gate.
    """
    while learner.progress.end_reason is None:
        with learner.own_randomness():
            _train_epoch(learner, windows, gate, clock)
            logits = _validation_logits(learner, windows, gate, clock)
        yield _close_epoch(learner, windows, logits)


def _train_epoch(learner: Learner, windows: MarketWindows, gate: Gate, clock: Clock) -> None:
    settings, progress = learner.settings, learner.progress
    order = cut(_epoch_order(windows.train, settings.seed, progress.epoch), settings.batch_size)
    learner.model.train()
    at_once, recent = 1, Recent(min(EXPLODED_BATCHES, len(order)))
    while progress.batch < len(order):
        # The gate is the trial's heartbeat: it must count batches that are done, not those that are only queued.
        paused = gate()
        started = clock()
        queued = order[progress.batch : progress.batch + at_once]
        losses = [_scheduled_batch(learner, windows, order) for _ in queued]
        progress.loss_sum += _sum_when_done(losses, list(map(len, queued)), progress, recent)
        seconds = clock() - started
        progress.seconds += seconds
        progress.paused_s += paused
        at_once = _batches_at_once(learner, seconds / len(losses))


def _scheduled_batch(learner: Learner, windows: MarketWindows, order: list[Tensor]) -> Tensor:
    """Train the epoch's next batch at its learning rate; return the sum of its losses, on the device."""
    settings, progress = learner.settings, learner.progress
    step, total = progress.epoch * len(order) + progress.batch, len(order) * settings.max_epochs
    set_learning_rate(learner, learning_rate_at(step, total, settings.learning_rate, settings.warmup_fraction))
    samples = order[progress.batch].to(learner.device)
    loss = train_batch(learner, windows, samples) * len(samples)
    progress.batch += 1
    return loss


class Recent:
    """Keeps the losses of an epoch's last ``most`` batches: a resumed epoch begins without any."""

    def __init__(self, most: int) -> None:
        self._batches: deque[tuple[float, int]] = deque(maxlen=most)

    def exploded(self, loss_sum: float, samples: int) -> float | None:
        """Add a batch; return the mean loss of a full row of batches if it has exploded, in nats."""
        self._batches.append((loss_sum, samples))
        if len(self._batches) < (self._batches.maxlen or 1):
            return None
        mean = sum(loss for loss, _ in self._batches) / sum(count for _, count in self._batches)
        return mean if mean > EXPLODED_NATS else None


def _sum_when_done(losses: list[Tensor], samples: list[int], progress: Progress, recent: Recent) -> float:
    """Wait until the device has done these batches; return the sum of their losses. Raises Diverged."""
    total = 0.0
    first = progress.batch - len(losses) + 1
    for batch, (loss, count) in enumerate(zip(torch.stack(losses).tolist(), samples, strict=True), first):
        bad = recent.exploded(loss, count) if math.isfinite(loss) else loss
        if bad is not None:
            raise Diverged(progress.epoch + 1, batch, bad)
        total += loss
    return total


def _batches_at_once(learner: Learner, batch_s: float) -> int:
    """Return how many batches to queue before the device is waited for: about ``QUEUE_S`` of work."""
    if learner.accelerator is None:
        return 1
    return max(1, int(min(MAX_QUEUED_BATCHES, QUEUE_S / max(batch_s, 1e-9))))


def train_batch(learner: Learner, windows: MarketWindows, samples: Tensor) -> Tensor:
    """Take one optimiser step on these samples; return their mean loss, detached, on the device."""
    total = torch.zeros((), device=learner.device)
    learner.optimizer.zero_grad(set_to_none=True)
    for micro in cut(samples, learner.micro_batch):
        with learner.autocast():
            logits = learner.forward(gather(windows.days, micro, learner.settings.context))
            loss = functional.binary_cross_entropy_with_logits(
                logits.float(), windows.labels[micro], reduction="sum"
            ) / len(samples)
        loss.backward()  # type: ignore[no-untyped-call]
        total += loss.detach()
    torch.nn.utils.clip_grad_norm_(learner.model.parameters(), learner.settings.gradient_clip)
    learner.optimizer.step()
    return total


def gather(days: Tensor, samples: Tensor, context: int) -> Tensor:
    """Copy each sample's window, the day and the days before it: (B, context, features)."""
    views = days.unfold(0, context, 1)  # (rows - context + 1, features, context), a view
    return views[samples - (context - 1)].transpose(1, 2)


def cut(samples: Tensor, size: int) -> list[Tensor]:
    """Cut ``samples`` into views of ``size``; the last may be smaller."""
    return [samples[start : start + size] for start in range(0, len(samples), size)]


def set_learning_rate(learner: Learner, rate: float) -> None:
    """Set the learning rate of every parameter group."""
    for group in learner.optimizer.param_groups:
        group["lr"] = rate


def _epoch_order(train: Tensor, seed: int, epoch: int) -> Tensor:
    """Shuffle the train samples by seed and epoch alone; so a batch number is the whole cursor."""
    generator = torch.Generator().manual_seed(derive_seed(seed, epoch))
    return train[torch.randperm(len(train), generator=generator).to(train.device)]


def _validation_logits(learner: Learner, windows: MarketWindows, gate: Gate, clock: Clock) -> Logits:
    progress, parts = learner.progress, []
    learner.model.eval()
    for samples in cut(windows.val, learner.micro_batch * VALIDATION_FACTOR):
        progress.paused_s += gate()
        started = clock()
        with torch.inference_mode(), learner.autocast():
            logits = learner.forward(gather(windows.days, samples, learner.settings.context))
        parts.append(logits.float().cpu().numpy().astype(np.float64))
        if not np.isfinite(parts[-1]).all():
            # No later window can make the mean finite.
            raise Diverged(progress.epoch + 1, progress.batch, math.nan)
        progress.seconds += clock() - started
    return np.concatenate(parts)


def _close_epoch(learner: Learner, windows: MarketWindows, logits: Logits) -> Epoch:
    settings, done = learner.settings, learner.progress
    labels = windows.labels[windows.val].cpu().numpy().astype(np.float64)
    # The form with log(1 + exp(-|z|)) is exact for any size of a logit.
    val_loss = float(np.mean(np.logaddexp(0.0, logits) - labels * logits))
    if not math.isfinite(val_loss):
        raise Diverged(done.epoch + 1, done.batch, val_loss)
    number = done.epoch + 1
    best_val_loss, best_epoch = done.best_val_loss, done.best_epoch
    if best_val_loss is None or best_epoch is None or val_loss < best_val_loss:
        best_val_loss, best_epoch = val_loss, number
    end_reason: EndReason | None = None
    if number >= settings.max_epochs:
        end_reason = "finished"
    elif number - best_epoch >= settings.patience:
        end_reason = "early_stopped"
    learner.progress = Progress(epoch=number, best_val_loss=best_val_loss, best_epoch=best_epoch, end_reason=end_reason)
    return Epoch(
        number=number,
        train_loss=done.loss_sum / len(windows.train),
        val_loss=val_loss,
        best_val_loss=best_val_loss,
        best_epoch=best_epoch,
        learning_rate=float(learner.optimizer.param_groups[0]["lr"]),
        seconds=done.seconds,
        paused_s=done.paused_s,
        samples=len(windows.train),
        finished=end_reason is not None,
        end_reason=end_reason,
        metrics=binary_metrics(logits, labels),
    )

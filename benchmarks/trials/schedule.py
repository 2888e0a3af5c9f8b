"""Train the trials of benchmarks/schedules.py: a cosine, or a constant rate judged in several ways."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from training.build import build_learner
from training.data.windows import MarketWindows, load_windows
from training.grid import grid_of
from training.loop import cut, gather, set_learning_rate, train_batch
from training.memory import predict_trial_memory
from training.schedule import learning_rate_at
from training.settings import TrialSettings, derive_seed

COSINES = {"cosine 50": 50, "cosine 15": 15}
"""Schedule: the epoch at which its cosine ends."""
BRANCHES = {"WSD 5": (5, 0.75), "WSD 2": (2, 0.3)}
"""Schedule: epochs between two branches, and a branch's length in epochs: 15 % more steps."""
AVERAGE, PLAIN, CONSTANT = "average", "plain", "constant"
PATIENCE = 10
WARMUP_EPOCHS = 1.5
"""The warm-up of the constant rate. A cosine's warm-up is the plan's share of its length."""


@dataclass(frozen=True)
class Trial:
    """A trial by its training, one of COSINES or CONSTANT, and its ``peak`` rate."""

    training: str
    horizon: int
    seed: int
    peak: float


@dataclass(frozen=True)
class Point:
    """A judged moment: ``share`` is the rate over its peak, ``halves`` the loss of each half of the validation days."""

    epoch: int
    steps: int
    share: float
    loss: float
    halves: tuple[float, float]


Courses = dict[str, list[Point]]


def run(trial: Trial, config: dict[str, Any]) -> dict[str, Any]:
    """Run one trial in this process; return it, the courses of its schedules and its CPU seconds as JSON values."""
    began = time.process_time()
    torch.set_num_threads(1)
    end = COSINES.get(trial.training, max(COSINES.values()))
    running = _Running(TrialSettings.from_config(
        {**config, "learning_rate": trial.peak, "seed": trial.seed, "max_epochs": end, "patience": PATIENCE}
    ))  # fmt: skip
    courses = running.constant() if trial.training == CONSTANT else {trial.training: running.cosine()}
    points = {name: [asdict(point) for point in course] for name, course in courses.items()}
    return {**asdict(trial), "courses": points, "cpu_s": time.process_time() - began}


def best(course: Sequence[Point]) -> Point:
    """Return the point with the least loss."""
    return min(course, key=lambda point: point.loss)


def ended(course: Sequence[Point], max_epochs: int) -> bool:
    """Return whether patience or max_epochs ends a trial here."""
    return bool(course) and (course[-1].epoch >= max_epochs or course[-1].epoch - best(course).epoch >= PATIENCE)


class _Running:
    """A trial at work: its learner, its data, and the steps taken."""

    def __init__(self, settings: TrialSettings) -> None:
        self.settings = settings
        self.windows: MarketWindows = load_windows(settings)
        grid = grid_of(settings, self.windows.manifest.num_features)
        shape = grid.architecture(settings.shape_rank, settings.heads_log2)
        self.learner = build_learner(settings, shape, "cpu", predict_trial_memory(shape, settings.batch_size))
        self.steps = 0

    def cosine(self) -> list[Point]:
        """Train by the plan's schedule; judge each epoch."""
        course: list[Point] = []
        given = self.settings
        total = len(self.batches(0)) * given.max_epochs
        while not ended(course, given.max_epochs):
            for samples in self.batches(len(course)):
                rate = learning_rate_at(self.steps, total, given.learning_rate, given.warmup_fraction)
                self.step(samples, rate)
            course.append(self.judge(len(course) + 1, rate / given.learning_rate))
        return course

    def constant(self) -> Courses:
        """Train at a constant rate; judge the weights and their average each epoch, and decayed branches."""
        courses: Courses = {name: [] for name in (PLAIN, AVERAGE, *BRANCHES)}
        peak, per_epoch = self.settings.learning_rate, len(self.batches(0))
        average = AveragedModel(self.learner.model, multi_avg_fn=get_ema_multi_avg_fn(1 - 1 / per_epoch))
        open_, epoch = {AVERAGE, *BRANCHES}, 0
        while open_:
            for samples in self.batches(epoch):
                self.step(samples, peak * min(1.0, (self.steps + 1) / (WARMUP_EPOCHS * per_epoch)))
                average.update_parameters(self.learner.model)
            epoch += 1
            courses[PLAIN].append(self.judge(epoch, 1.0))
            if AVERAGE in open_:
                courses[AVERAGE].append(self.judge(epoch, 1.0, average))
            for name in sorted(open_ & BRANCHES.keys()):
                every, share = BRANCHES[name]
                if epoch % every == 0:
                    length = round(share * per_epoch)
                    point = self.branch(epoch, length)
                    courses[name].append(replace(point, steps=self.steps + epoch // every * length))
            open_ = {name for name in open_ if not ended(courses[name], self.settings.max_epochs)}
        return courses

    def branch(self, epoch: int, length: int) -> Point:
        """Judge the weights after a decay of ``length`` steps, then restore weights, optimiser and random numbers."""
        learner, taken = self.learner, self.steps
        kept = copy.deepcopy((learner.model.state_dict(), learner.optimizer.state_dict(), learner.rng_state))
        for number, samples in enumerate(self.batches(epoch)[:length], start=1):
            self.step(samples, self.settings.learning_rate * (1 - math.sqrt(number / (length + 1))))
        point = self.judge(epoch, 0.0)
        learner.model.load_state_dict(kept[0])
        learner.optimizer.load_state_dict(kept[1])
        learner.rng_state, self.steps = kept[2], taken
        return point

    def batches(self, epoch: int) -> list[Tensor]:
        """Cut the train windows into batches, in the order of this epoch (from 0)."""
        generator = torch.Generator().manual_seed(derive_seed(self.settings.seed, epoch))
        train = self.windows.train
        return cut(train[torch.randperm(len(train), generator=generator)], self.settings.batch_size)

    def step(self, samples: Tensor, rate: float) -> None:
        """Take one optimiser step at this rate."""
        self.learner.model.train()
        set_learning_rate(self.learner, rate)
        with self.learner.own_randomness():
            train_batch(self.learner, self.windows, samples)
        self.steps += 1

    def judge(self, epoch: int, share: float, model: torch.nn.Module | None = None) -> Point:
        """Measure a model's loss, the learner's by default, on all validation days and on each half of them."""
        judged = (model or self.learner.model).eval()
        days = self.windows.val
        with torch.inference_mode():
            logits = torch.cat(
                [judged(gather(self.windows.days, samples, self.settings.context)) for samples in cut(days, 256)]
            )
            losses = functional.binary_cross_entropy_with_logits(logits, self.windows.labels[days], reduction="none")
        middle = len(days) // 2
        # Labels look ahead: without a gap the two halves would share days.
        early, late = losses[: middle - self.settings.split.purge], losses[middle:]
        mean = [float(part.double().mean()) for part in (losses, early, late)]
        return Point(epoch, self.steps, share, mean[0], (mean[1], mean[2]))

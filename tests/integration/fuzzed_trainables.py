"""Trainables that report random values, by seed, for test_own_trials.py; workers import them by name."""

from __future__ import annotations

import decimal
import enum
import math
import random
from pathlib import Path

import numpy as np
import torch
from ray import tune

REPORTS = 10


class Colour(enum.Enum):
    RED = "red"


class Hostile:
    """Raises when it is sent, compared or printed."""

    def __reduce__(self):
        raise TypeError("not to be sent")

    def __eq__(self, other):
        raise TypeError("not to be compared")

    def __repr__(self):
        raise TypeError("not to be printed")

    __hash__ = None


NUMBERS = ("float", "int", "numpy", "tensor", "decimal")
NOT_FINITE = ("nan", "inf", "huge")
ODD = ("text", "flag", "list", "array", "dict", "hostile", "bytes")


def metric_kinds(seed: int) -> list[str]:
    """Return what the reports of a trial have as their metric; the first two trials have numbers only."""
    rng = random.Random(seed)
    if seed < 2:
        return [rng.choice(NUMBERS) for _ in range(REPORTS)]
    weights = {**dict.fromkeys(NUMBERS, 4), **dict.fromkeys(NOT_FINITE, 1), **dict.fromkeys(ODD, 1), "absent": 4}
    usual = list(weights)
    few = rng.sample(usual, k=rng.randint(1, 4))
    return [rng.choices(few, [weights[kind] for kind in few])[0] for _ in range(REPORTS)]


def number(seed: int, place: int) -> float:
    """Return the number in that report of that trial; exact as a half, too."""
    return float(random.Random(seed * 100 + place).randint(-64, 64)) / 4


def metric(kind: str, value: float):
    made = {
        "float": lambda: value,
        "int": lambda: int(value * 4),
        "numpy": lambda: np.float16(value),
        "tensor": lambda: torch.tensor([value], requires_grad=True),
        "decimal": lambda: decimal.Decimal(str(value)),
        "nan": lambda: np.float64("nan"),
        "inf": lambda: -math.inf,
        "huge": lambda: 10**400,
        "text": lambda: str(value),
        "flag": lambda: np.bool_(value > 0),
        "list": lambda: [value],
        "array": lambda: np.array([value, value]),
        "dict": lambda: {"mean": value},
        "hostile": Hostile,
        "bytes": lambda: b"1.0",
    }
    return made[kind]()


def text(rng: random.Random) -> str:
    alphabet = ["a", "\u00e9", "\u65e5", "\U0001f600", "\ud800", "\0", "\n", '"', "\\", "/", "\u202e"]
    return "".join(rng.choices(alphabet, k=rng.choice([0, 1, 5, 50, 5_000])))


def anything(rng: random.Random, depth: int = 0):
    """Return a random value: of any type, size and nesting."""
    leaves = [
        lambda: None, lambda: rng.random(), lambda: 10 ** rng.randint(0, 1000), lambda: -(2**63) - 1,
        lambda: float("nan"), lambda: text(rng), lambda: text(rng).encode("utf-8", "surrogatepass"),
        lambda: np.zeros(rng.choice([(), (1,), (2, 3), (50_000,)])), lambda: np.array(["x", None], dtype=object),
        lambda: np.datetime64("2020-01-01"), lambda: np.void(b"abc"), lambda: np.longdouble(1) / 3,
        lambda: torch.zeros(rng.choice([0, 1, 7])), lambda: torch.tensor(1 + 2j), lambda: torch.nn.Linear(2, 2),
        Hostile, lambda: Colour.RED, lambda: Colour, lambda: math, lambda: (n for n in range(3)), lambda: lambda: 1,
        lambda: {1, 2}, lambda: range(10**9), lambda: ValueError("x"), lambda: Path("/tmp"), lambda: memoryview(b"x"),
        lambda: decimal.Decimal("NaN"), lambda: complex(1, 2), Path(__file__).open, lambda: object,
    ]  # fmt: skip
    if depth < 6 and rng.random() < 0.4:
        size = rng.choice([0, 1, 3, 3, 3, 400])
        if rng.random() < 0.7:
            return {name(rng): anything(rng, depth + 1 if size < 9 else 6) for _ in range(size)}
        return [anything(rng, depth + 1 if size < 9 else 6) for _ in range(size)]
    return rng.choice(leaves)()


def name(rng: random.Random):
    tunes = ["done", "pid", "time_this_iter_s", "timesteps_this_iter", "training_iteration", "sweep_end", "config"]
    tunes += ["should_checkpoint", "__duplicate__", "trial_id", "timestamp", "sweep_left", "sweep_checkpoint"]
    return rng.choice([text(rng)[:300], rng.randint(0, 9), None, (1, "a"), 0.5, b"k", True, rng.choice(tunes)])


def report(seed: int, place: int):
    """Return one report: the metric of its kind, and up to ten random values."""
    rng = random.Random(seed * 1000 + place)
    made = {name(rng): anything(rng) for _ in range(rng.randint(0, 10))}
    # Its own names may end a trial or number its epochs: that is tested elsewhere.
    for own in ("done", "training_iteration"):
        made.pop(own, None)
    made.pop("loss", None)
    kind = metric_kinds(seed)[place]
    return made if kind == "absent" else {**made, "loss": metric(kind, number(seed, place))}


def fuzzed(config):
    for place in range(REPORTS):
        tune.report(report(config["n"], place))


class Fuzzed(tune.Trainable):
    def setup(self, config):
        self.n, self.place = config["n"], -1

    def reset_config(self, new_config):
        self.setup(new_config)
        return True

    def step(self):
        self.place += 1
        return report(self.n, self.place)

"""Measure the quality of a search after 20 and 50 trials: phase6a beside random search and a common mistake.

    python -m benchmarks.search_quality [--seeds 20] [--budget 200M]

Each seed draws a new response surface over the real architecture grid of the plan; every method searches the same
surfaces. Regret is the noise-free loss of the configuration with the best observed (noisy) loss, less the surface's
least. Methods:

- plan: the space, enqueued points and sampler of phase6a.yaml, by the code that its driver runs
- random: the same space, drawn at random
- index: the architectures as one categorical index, univariate TPE after 20 random trials, and the first ten trials
  forced onto the grid's two ends without the sampler's knowledge

Limits: the surfaces are made up. Their best learning rate is drawn from 4e-5 to 1e-3, around the plan's enqueued 2e-4,
so the gain of the enqueued points is an upper bound.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray

from actors.driver.study import SamplerPerTrial, distribution, sampler_factory
from benchmarks.machine import machine
from supervisor.plan.expansion import expand, grid_of
from supervisor.plan.loader import load_plan
from training.grid import Grid

NUM_FEATURES = 25
TRIALS = 50
LOOKS = (20, 50)
BOOTSTRAP_DRAWS = 10_000
LANDSCAPES = {"smooth": (0.004, 0.005), "rugged": (0.02, 0.005), "noisy": (0.004, 0.02)}
"""Standard deviations of a shape's own effect on the loss, and of a trial's noise."""

Params = dict[str, Any]


@dataclass(frozen=True)
class Surface:
    """A made-up validation loss (nats above an arbitrary zero) over the plan's space.

    Shapes and learning rates interact as in reality: the wider and deeper, the smaller the best step.
    """

    grid: Grid
    best_aspect: float
    shape_effect: NDArray[np.float64]
    head_effect: NDArray[np.float64]
    best_rate: NDArray[np.float64]
    """log10 of the best learning rate of each shape."""
    best_decay: float
    best_dropout: float
    best_batch: float
    best_warmup: float
    noise: float

    @classmethod
    def draw(cls, grid: Grid, landscape: str, seed: int) -> Surface:
        rng = np.random.default_rng(seed)
        rugged, noise = LANDSCAPES[landscape]
        aspects = np.array([shape.aspect for shape in grid.shapes])
        depth = np.log10([shape.n_layers for shape in grid.shapes])
        width = np.log10([shape.d_model for shape in grid.shapes])
        pull = 0.8 * (width - width.mean()) + 0.4 * (depth - depth.mean())
        return cls(
            grid=grid,
            best_aspect=float(rng.uniform(*np.quantile(aspects, [0.15, 0.85]))),
            shape_effect=rng.normal(0, rugged, len(grid.shapes)),
            head_effect=rng.uniform(0, 0.005, len(grid.heads)),
            best_rate=np.clip(rng.uniform(-4.4, -3.0) - pull, -4.9, -2.6),
            best_decay=float(rng.uniform(-3.5, -1.0)),
            best_dropout=float(rng.uniform(0.05, 0.4)),
            best_batch=float(rng.uniform(5, 8)),
            best_warmup=float(rng.uniform(0.02, 0.18)),
            noise=noise,
        )

    def _architecture(self, rank: int, heads_log2: int) -> float:
        shape = self.grid.shapes[rank]
        bend = 0.006 * (shape.aspect - self.best_aspect) ** 2
        place = self.grid.heads.index(1 << heads_log2)
        return float(bend + self.shape_effect[rank] + self.head_effect[place])

    def loss(self, params: Params) -> float:
        """Return the loss without noise."""
        off_rate = np.log10(params["learning_rate"]) - self.best_rate[params["shape_rank"]]
        # A step that is too large costs more than one that is too small.
        rate = (0.05 if off_rate > 0 else 0.02) * off_rate**2
        return float(
            self._architecture(params["shape_rank"], params["heads_log2"])
            + rate
            + 0.004 * (np.log10(params["weight_decay"]) - self.best_decay) ** 2
            + 0.15 * (params["dropout"] - self.best_dropout) ** 2
            + 0.003 * (np.log2(params["batch_size"]) - self.best_batch) ** 2
            + 0.3 * (params["warmup_fraction"] - self.best_warmup) ** 2
        )

    def least(self) -> float:
        """Return the least loss: every term except batch size can be zero at any architecture."""
        low, high = self.grid.axes()["heads_log2"]
        shapes = min(self._architecture(r, h) for r in range(len(self.grid.shapes)) for h in range(low, high + 1))
        return shapes + min(0.003 * (place - self.best_batch) ** 2 for place in (5, 6, 7, 8))


Method = Callable[[Surface, int], list[float]]
"""Takes a surface and a seed; returns the noise-free loss of the recommended configuration after each trial."""


def recommended(
    surface: Surface, seed: int, ask: Callable[[int], Params], tell: Callable[[float], None]
) -> list[float]:
    """Run TRIALS trials; every method sees the same noise in the same trial."""
    noise = np.random.default_rng([seed, 1]).normal(0, surface.noise, TRIALS)
    best_seen, best_true, course = np.inf, np.inf, []
    for number in range(TRIALS):
        params = ask(number)
        true = surface.loss(params)
        seen = true + float(noise[number])
        tell(seen)
        if seen < best_seen:
            best_seen, best_true = seen, true
        course.append(best_true)
    return course


def planned(spec: dict[str, Any], kind: str, *, enqueued: bool) -> Method:
    """Make the method that searches the plan's space by this sampler."""
    space = {name: distribution(dimension) for name, dimension in spec["space"].items()}

    def run(surface: Surface, seed: int) -> list[float]:
        make = sampler_factory(kind, spec["sampler"]["startup_trials"], seed)
        study = optuna.create_study(sampler=SamplerPerTrial(make))
        for point in spec["enqueue"] if enqueued else ():
            study.enqueue_trial(point)
        asked: list[optuna.Trial] = []

        def ask(number: int) -> Params:
            asked.append(study.ask(space))
            return dict(asked[-1].params)

        return recommended(surface, seed, ask, lambda loss: (study.tell(asked[-1], loss), None)[1])

    return run


def index_with_hidden_extremes(spec: dict[str, Any]) -> Method:
    """Make the method with one categorical index; the first ten architectures are replaced after sampling."""
    others = {name: distribution(d) for name, d in spec["space"].items() if name not in ("shape_rank", "heads_log2")}

    def run(surface: Surface, seed: int) -> list[float]:
        pairs = sorted(
            ((r, h.bit_length() - 1) for r in range(len(surface.grid.shapes)) for h in surface.grid.heads),
            key=lambda pair: (surface.grid.shapes[pair[0]].d_ff * surface.grid.shapes[pair[0]].d_model, pair),
        )
        sampler = optuna.samplers.TPESampler(seed=seed, multivariate=False, constant_liar=False, n_startup_trials=20)
        study = optuna.create_study(sampler=sampler)
        asked: list[optuna.Trial] = []

        def ask(number: int) -> Params:
            trial = study.ask(others)
            asked.append(trial)
            forced = number < 10
            place = (0, len(pairs) - 1)[number % 2] if forced else trial.suggest_categorical("index", range(len(pairs)))
            rank, heads = pairs[place]
            return {**trial.params, "shape_rank": rank, "heads_log2": heads}

        return recommended(surface, seed, ask, lambda loss: (study.tell(asked[-1], loss), None)[1])

    return run


def interval(differences: NDArray[np.float64], rng: np.random.Generator) -> tuple[float, float, float]:
    """Return the mean of paired differences and its 95 % interval by the percentile bootstrap over seeds."""
    draws = rng.choice(differences, (BOOTSTRAP_DRAWS, len(differences))).mean(axis=1)
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(differences.mean()), float(low), float(high)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--budget", default="200M")
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    specs = expand(load_plan("phase6a").plan, num_features=NUM_FEATURES, only=arguments.budget)
    spec = specs[0].model_dump(mode="json")
    grid = grid_of(spec["config"], NUM_FEATURES)
    methods: dict[str, Method] = {
        "plan": planned(spec, spec["sampler"]["kind"], enqueued=True),
        "plan, none enqueued": planned(spec, spec["sampler"]["kind"], enqueued=False),
        "random": planned(spec, "random", enqueued=False),
        "index": index_with_hidden_extremes(spec),
    }
    print(f"{machine()}, Optuna {optuna.__version__}")
    print(f"{len(grid)} architectures of {arguments.budget}, {arguments.seeds} seeds, {TRIALS} trials")
    print("\n| surface | method | regret @20 | regret @50 | plan minus it @20 [95 %] | @50 [95 %] | CPU s |")
    print("|---|---|---|---|---|---|---|")
    for landscape in LANDSCAPES:
        table(landscape, grid, methods, arguments.seeds)


def table(landscape: str, grid: Grid, methods: dict[str, Method], seeds: int) -> None:
    """Print the rows of one kind of surface: medians over seeds, and the plan's mean paired differences."""
    regret: dict[str, NDArray[np.float64]] = {}
    for name, method in methods.items():
        began, courses = time.process_time(), []
        for seed in range(seeds):
            surface = Surface.draw(grid, landscape, seed)
            courses.append(np.array(method(surface, seed))[[look - 1 for look in LOOKS]] - surface.least())
        regret[name] = np.array(courses)
        cells = [f"{value:.4f}" for value in np.median(regret[name], axis=0)]
        for column in range(len(LOOKS)):
            against = interval(regret["plan"][:, column] - regret[name][:, column], np.random.default_rng(0))
            cells.append("–" if name == "plan" else "{:+.4f} [{:+.4f}, {:+.4f}]".format(*against))
        print(
            f"| {landscape} | {name} | {' | '.join(cells)} | {(time.process_time() - began) / seeds:.2f} |", flush=True
        )


if __name__ == "__main__":
    main()

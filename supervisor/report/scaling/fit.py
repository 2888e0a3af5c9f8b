"""Computes the pooled law: its prediction, its objective, and many fits at once. Pure."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

HUBER_DELTA = 1e-3
"""In log L; the value of Hoffmann et al. (2022), appendix D.2."""
ALPHA_BOUNDS = (-1.5, 2.5)
"""Far beyond reported values (0.05 to 0.5), so a fit that ends at a bound has failed."""
DESCENT_STEPS = 80
_START_FLOORS = (0.3, 0.7, 0.9, 0.98)
_START_ALPHAS = (-0.2, 0.05, 0.15, 0.35, 0.7)
_LEAST_SHARE = 1e-4
"""Floor and excess stay above this share of the loss: their logarithms have no lower end."""


@dataclass(frozen=True)
class Problem:
    """Points to fit. A law's `theta` is (log E_g ..., log A_g at the central size ..., alpha), 2 groups + 1 numbers.

    `x` is log N minus its mean `centre`: floor and factor then hardly depend on alpha, which helps the optimiser.
    """

    x: Array
    y: Array
    group: NDArray[np.int64]
    groups: int
    centre: float

    @classmethod
    def of(cls, params: Array, loss: Array, group: NDArray[np.int64]) -> Problem:
        log_n = np.log(params)
        centre = float(log_n.mean())
        return cls(log_n - centre, np.log(loss), group, int(group.max()) + 1, centre)

    def predict(self, theta: Array) -> Array:
        """Return log L at each point for each theta: (draws, parameters) in, (draws, points) out."""
        floor, excess = self._parts(theta)
        return np.asarray(np.logaddexp(floor, excess), np.float64)

    def _parts(self, theta: Array) -> tuple[Array, Array]:
        floor = theta[:, self.group]
        excess = theta[:, self.groups + self.group] - theta[:, -1:] * self.x
        return floor, excess

    def jacobian(self, theta: Array) -> Array:
        """Return d log L / d theta: (draws, points, parameters)."""
        floor, excess = self._parts(theta)
        share = np.exp(excess - np.logaddexp(floor, excess))
        out = np.zeros((*share.shape, theta.shape[1]))
        point = np.arange(len(self.x))
        out[:, point, self.group] = 1 - share
        out[:, point, self.groups + self.group] = share
        out[:, :, -1] = -share * self.x
        return out

    def value_and_gradient(self, theta: Array) -> tuple[float, Array]:
        """Return the sum over points of the Huber loss of log L, in units of delta, and its gradient."""
        residual = self.predict(theta[None, :])[0] - self.y
        pull = np.clip(residual / HUBER_DELTA, -1.0, 1.0) / HUBER_DELTA
        return float(huber(residual).sum()), pull @ self.jacobian(theta[None, :])[0]

    def lowest(self) -> Array:
        """Return the lower bounds of a theta, (parameters,)."""
        least = [self.y[self.group == g].min() + np.log(_LEAST_SHARE) for g in range(self.groups)]
        return np.array([*least, *least, ALPHA_BOUNDS[0]])

    def highest(self) -> Array:
        """Return the upper bounds of a theta, (parameters,)."""
        most = [self.y[self.group == g].max() + np.log(2.0) for g in range(self.groups)]
        return np.array([*most, *most, ALPHA_BOUNDS[1]])

    def starts(self) -> Array:
        """Return starting points, (starts, parameters): shares of the least loss as floors, by exponents."""
        found = []
        for share, alpha in itertools.product(_START_FLOORS, _START_ALPHAS):
            floor = np.array([self.y[self.group == g].min() + np.log(share) for g in range(self.groups)])
            middle = np.array([np.median(self.y[self.group == g]) for g in range(self.groups)])
            excess = np.log(np.maximum(np.exp(middle) - np.exp(floor), _LEAST_SHARE * np.exp(middle)))
            found.append(np.clip(np.array([*floor, *excess, alpha]), self.lowest(), self.highest()))
        return np.array(found)


@dataclass(frozen=True)
class Law:
    """A fitted law. `theta` is as in Problem; `objective` is the sum of Huber losses in units of delta."""

    theta: Array
    groups: int
    centre: float
    objective: float

    @property
    def alpha(self) -> float:
        return float(self.theta[-1])

    @property
    def floors(self) -> list[float]:
        """E of each group, in nats."""
        return [float(value) for value in self.natural(self.theta[None, :])[0, : self.groups]]

    @property
    def factors(self) -> list[float]:
        """A of each group, in nats per parameter^-alpha."""
        return [float(value) for value in self.natural(self.theta[None, :])[0, self.groups : 2 * self.groups]]

    def natural(self, thetas: Array) -> Array:
        """Return (E ..., A ..., alpha) of each theta, (draws, 2 groups + 1), A for sizes counted from one parameter."""
        alpha = thetas[:, -1:]
        floors = np.exp(thetas[:, : self.groups])
        factors = np.exp(thetas[:, self.groups : 2 * self.groups] + alpha * self.centre)
        return np.concatenate([floors, factors, alpha], axis=1)

    def problem_at(self, params: Array, group: int) -> Problem:
        """Make a problem to predict at: `params` of one group, about this law's centre."""
        here = np.full(len(params), group, np.int64)
        return Problem(np.log(params) - self.centre, np.zeros(len(params)), here, self.groups, self.centre)


def huber(residual: Array) -> Array:
    """Return Huber's loss (1964) in units of delta: quadratic within delta, linear beyond."""
    size = np.abs(residual) / HUBER_DELTA
    return np.where(size <= 1, 0.5 * size**2, size - 0.5)


def descend(problem: Problem, y: Array, start: Array) -> tuple[Array, Array]:
    """Fit each row of `y` (draws, points) from its row of `start` (draws, parameters), all at once.

    Returns the thetas reached, shaped as `start`, and their sums of Huber losses in units of delta, shape (draws,).

    Levenberg-Marquardt on iteratively reweighted squares, all rows at once: a bootstrap of L-BFGS runs would take
    minutes.
    """
    draws, size = start.shape
    theta, damping = start.copy(), np.full(draws, 1e-3)
    low, high = problem.lowest(), problem.highest()
    residual = problem.predict(theta) - y
    cost = huber(residual).sum(axis=1)
    diagonal = np.arange(size)
    for _ in range(DESCENT_STEPS):
        weight = 1 / np.maximum(np.abs(residual) / HUBER_DELTA, 1.0)
        jacobian = problem.jacobian(theta)
        weighted = jacobian * weight[:, :, None]
        gradient = np.einsum("dp,dpk->dk", residual, weighted)
        hessian = np.einsum("dpk,dpl->dkl", jacobian, weighted)
        scale = hessian[:, diagonal, diagonal]
        hessian[:, diagonal, diagonal] += damping[:, None] * np.maximum(scale, 1e-6 * scale.max(axis=1, keepdims=True))
        hessian[:, diagonal, diagonal] += 1e-12
        step = np.linalg.solve(hessian, gradient[:, :, None])[:, :, 0]
        tried = np.clip(theta - step, low, high)
        tried_residual = problem.predict(tried) - y
        tried_cost = huber(tried_residual).sum(axis=1)
        better = tried_cost < cost
        theta[better], residual[better], cost[better] = tried[better], tried_residual[better], tried_cost[better]
        damping = np.clip(np.where(better, damping * 0.3, damping * 4.0), 1e-9, 1e9)
    return theta, cost

"""Finds the exponents alpha of the law L = E + A N^-alpha that the losses do not reject. Pure.

The interval inverts tests: it holds every alpha that is not rejected, each end at half the error rate. It may be
unbounded, because a few budgets seldom show how curved the loss is.

- The end near zero. With E >= 0 and A >= 0 the law's slope in logarithms is nowhere steeper than alpha, so an alpha
  below the least slope of the slope's interval is rejected.
- The far end. For a given alpha the law is linear in z = N^-alpha, and the larger alpha is, the more curved is L over
  log N. So alpha is rejected when, in a regression of L on 1, z and log N, the last coefficient shows significantly
  that L is straighter than the law. For normal noise this test is exact, whichever regressor is added (Halperin,
  "Confidence Interval Estimation in Non-Linear Regression", J. R. Statist. Soc. B 25, 1963; Hartley, Biometrika 51,
  1964), by Student's t with (budgets - 3) degrees of freedom.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from supervisor.report.scaling.fit import ALPHA_BOUNDS
from supervisor.report.scaling.slope import CONFIDENCE, Array, Interval, Points, Slope

STEPS = 400
"""Exponents tried between the near end and the bound; the interval's end is the next one after the last accepted."""


def exponents(points: Points, found: Slope) -> Interval | None:
    """Return the interval of alpha; None if every exponent is rejected, since the loss bends the other way.

    Where the slope's interval `found` holds zero, A may be zero and no exponent is rejected.
    """
    if not found.excludes_zero:
        return Interval(-math.inf, math.inf)
    falls = found.value < 0
    near = -found.interval.high if falls else found.interval.low
    bound = ALPHA_BOUNDS[1] if falls else -ALPHA_BOUNDS[0]
    if near >= bound:
        return None
    tried = np.linspace(near, bound, STEPS + 1)
    kept = np.flatnonzero(~_too_curved(*relative_losses(points), tried if falls else -tried))
    if not len(kept):
        return None
    far = math.inf if kept[-1] == STEPS else float(tried[kept[-1] + 1])
    return Interval(near, far) if falls else Interval(-far, -near)


def relative_losses(points: Points) -> tuple[Array, Array]:
    """Return log N and the loss of each complete budget, averaged over groups: (budgets,) each.

    Each group's loss is divided by its geometric mean first: noise is a share of the loss, so all groups weigh alike.
    One alpha for all groups keeps the average a law of the same exponent.
    """
    means = points.complete()
    groups = len(np.unique(means.group))
    log_n, log_loss = (np.log(value).reshape(-1, groups) for value in (means.params, means.loss))
    return log_n.mean(axis=1), np.exp(log_loss - log_loss.mean(axis=0)).mean(axis=1)


def _too_curved(log_n: Array, loss: Array, alphas: Array) -> NDArray[np.bool_]:
    """Tell for each alpha, all of one sign, whether its law is significantly more curved than the losses."""
    df = len(loss) - 3
    if df < 1:
        return np.zeros(len(alphas), bool)
    x = log_n - log_n.mean()
    z = np.exp(-alphas[:, None] * x)
    design = np.stack([np.ones_like(z), z, np.broadcast_to(x, z.shape)], axis=2)  # (alphas, budgets, 3)
    basis, _ = np.linalg.qr(design)
    share = np.einsum("abk,b->ak", basis, loss)
    error = np.sqrt(((loss - np.einsum("abk,ak->ab", basis, share)) ** 2).sum(axis=1) / df)
    upward = np.sign(np.einsum("ab,b->a", basis[:, :, 2], x))
    # Straighter than a law that falls is a share of a falling line, and the reverse.
    straighter = share[:, 2] * upward * -np.sign(alphas)
    return np.asarray(straighter > float(stats.t.ppf((1 + CONFIDENCE) / 2, df)) * error, bool)

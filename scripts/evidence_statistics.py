"""Statistics over tasks: interquartile mean, probability of improvement and performance profiles, with intervals.

Scores are ``[..., tasks, schedules, seeds]``, higher is better, of one scale on all tasks.

Source: Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice", section 4,
https://arxiv.org/abs/2108.13264.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.stats import trim_mean

FloatArray = npt.NDArray[np.float64]

DRAWS = 2_000


def interquartile_mean(scores: FloatArray) -> FloatArray:
    """Returns the mean of the middle half of all runs of all tasks, ``[..., schedules]``.

    >>> interquartile_mean(np.array([[[0.0, 1.0, 2.0, 9.0]]]))
    array([1.5])
    """
    *lead, tasks, schedules, seeds = scores.shape
    pooled = np.moveaxis(scores, -2, -3).reshape(*lead, schedules, tasks * seeds)
    return np.asarray(trim_mean(pooled, 0.25, axis=-1))


def probability_of_improvement(x: FloatArray, y: FloatArray) -> FloatArray:
    """Returns for each task how probably a run of x scores more than one of y, a tie counted as half.

    It is the Mann-Whitney U statistic over the number of pairs; the mean over tasks is the paper's P(X > Y).

    Args:
        x: Scores, ``[tasks, seeds]``.
        y: Scores, ``[tasks, seeds]``.

    >>> probability_of_improvement(np.array([[1.0, 3.0]]), np.array([[2.0, 3.0]]))
    array([0.375])
    """
    pairs = x[:, :, None] - y[:, None, :]
    return np.asarray(((pairs > 0) + 0.5 * (pairs == 0)).mean(axis=(1, 2)))


def performance_profile(scores: FloatArray, thresholds: Sequence[float] | FloatArray) -> FloatArray:
    """Returns the share of runs that score more than each threshold, tasks weighing the same.

    >>> performance_profile(np.array([[[0.1, 0.3]], [[0.2, 0.4]]]), [0.0, 0.25])
    array([[1. , 0.5]])
    """
    return np.stack([(scores > threshold).mean(axis=(-3, -1)) for threshold in thresholds], axis=-1)


def with_other_seeds(scores: FloatArray, draws: int = DRAWS) -> FloatArray:
    """Returns bootstrap samples ``[draws, tasks, schedules, seeds]``, in which each task has drawn its seeds anew.

    This is the paper's stratified bootstrap: it speaks of these tasks. A seed is drawn for all schedules at once, since
    its runs share the split, the initial weights and the batch order.
    """
    tasks, _, seeds = scores.shape
    drawn = np.random.default_rng(0).integers(seeds, size=(draws, tasks, 1, seeds))
    return np.asarray(np.take_along_axis(scores[None], drawn, axis=-1))


def with_other_tasks(scores: FloatArray, draws: int = DRAWS) -> FloatArray:
    """Returns bootstrap samples, likewise, in which the tasks are drawn anew: it speaks of tasks of their kind."""
    tasks = len(scores)
    return scores[np.random.default_rng(0).integers(tasks, size=(draws, tasks))]


def interval(draws: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Returns the 2.5th and the 97.5th percentile over the first axis: the percentile bootstrap's 95 % interval."""
    low, high = np.quantile(draws, [0.025, 0.975], axis=0)
    return low, high

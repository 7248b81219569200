"""The learning rate that a schedule gives a run, sampled where it bends: as quick for a million steps as for few."""

from __future__ import annotations

from collections import deque
from itertools import pairwise

import numpy as np

from lit_lrsched.errors import InputError
from lit_lrsched.forecasting.rate_path import RatePath
from lit_lrsched.schedules.core import Horizon, Interval, NoEpochs, Schedule, factor_at, stride_of

_EVEN = 128  # steps that are looked at in any case
_MOST = 5000
_TOLERANCE = 1e-3  # of the peak


def path_of(schedule: Schedule, horizon: Horizon, lr: float, interval: Interval = "step") -> RatePath:
    """Returns the learning rate of a run under a schedule.

    Args:
        schedule: The schedule.
        horizon: How long the run is.
        lr: The base learning rate.
        interval: How often the schedule moves on.

    Raises:
        InputError: When the schedule does not fit the horizon.
        NoEpochs: When it counts in epochs, and the horizon does not say how long they are.

    >>> from lit_lrsched.schedules import MultiStep
    >>> path = path_of(MultiStep(["50%"]), Horizon(1_000_000), lr=0.1)
    >>> path.rate_at([499_999, 500_000]).round(6).tolist(), len(path.steps) < 300
    ([0.1, 0.01], True)
    """
    last = horizon.steps - 1
    known: dict[int, float] = {}

    def at(step: int) -> float:
        if step not in known:
            known[step] = factor_at(schedule, step - step % stride, horizon)
        return known[step]

    try:
        stride = stride_of(interval, horizon)
        edges = {
            edge + near for span in schedule.spans(horizon) for edge in (span.start, span.stop) for near in (-1, 0, 1)
        }
        even = np.linspace(0, last, min(_EVEN, horizon.steps)).round().astype(int).tolist()
        ordered = sorted({step for step in edges if 0 <= step <= last} | {*even, 0, last})
        top = max(at(step) for step in ordered)
        left = deque(pairwise(ordered))
        while left and len(known) < _MOST:  # halves what is no straight line, everywhere alike if there is too much
            begin, end = left.popleft()
            middle = (begin + end) // 2
            if (
                middle != begin
                and abs(at(middle) - np.interp(middle, (begin, end), (at(begin), at(end)))) > _TOLERANCE * top
            ):
                left.extend([(begin, middle), (middle, end)])
    except NoEpochs as error:
        raise NoEpochs(
            f"{schedule.describe()} counts in epochs, and a forecast in steps: write durations like '500st' or '10%'"
        ) from error
    if top == 0:
        raise InputError(f"{schedule.describe()} is 0 at every step of {horizon.steps}, which trains nothing")
    steps = np.array(sorted(known), dtype=np.int64)
    return RatePath(steps, lr * np.array([known[step] for step in steps.tolist()]), horizon.steps)

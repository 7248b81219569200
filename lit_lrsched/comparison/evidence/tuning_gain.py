"""What tuning the rate, the momentum and the schedule together brings, over the setting that one starts from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lit_lrsched.comparison.evidence.runs import Run
from lit_lrsched.comparison.evidence.significance import Difference, differences_from
from lit_lrsched.comparison.evidence.summary import Summary
from lit_lrsched.comparison.evidence.words import figure


@dataclass(frozen=True)
class Gain:
    """The best setting of another schedule against the reference at the optimizer's own rate and momentum.

    Args:
        schedule: The schedule that gains, chosen with its setting on validation data.
        lr: Its peak rate.
        momentum: Its momentum.
        weight_decay: Its weight decay, where several raced; otherwise None.
        over: What it is held against.
        difference: How much better it is on test data, with interval and p-value.
    """

    schedule: str
    lr: float
    momentum: float
    weight_decay: float | None
    over: str
    difference: Difference

    def __str__(self) -> str:
        """Returns it in a sentence."""
        d = self.difference
        interval = f"95 %: {figure(d.low)} to {figure(d.high)}; " if d.low is not None and d.high is not None else ""
        decay = "" if self.weight_decay is None else f", weight decay {self.weight_decay:g}"
        what = f"{self.schedule} at {self.lr:g}, momentum {self.momentum:g}{decay},"
        return (
            f"Apart from the verdict, tuning: {what} gains {figure(d.gain)} over {self.over} ({interval}p = {d.p:.2g})."
        )


def tuning_gain(
    runs: Sequence[Run], summary: Summary, *, lr: float, momentum: float, weight_decay: float = 0.0
) -> Gain | None:
    """Returns what tuning brings; None where the reference at the starting rate and momentum, or a rival, is missing.

    So it is where one of their runs diverged, whose metric means nothing.

    Both sides were named without a look at test data, so this is one planned comparison and needs no correction.

    Args:
        runs: The whole race.
        summary: What they say.
        lr: The rate that one starts from: the optimizer's own.
        momentum: Its momentum, likewise.
        weight_decay: Its weight decay, likewise.
    """
    start = (summary.reference or "", lr, momentum, weight_decay)
    tests: dict[tuple[str, float, float, float], dict[int, float]] = {}
    for run in runs:
        tests.setdefault(run.key.setting, {})[run.key.seed] = math.nan if run.broken else run.test
    sign = 1.0 if summary.mode == "max" else -1.0
    rivals = {
        row.key: sign * row.validation
        for row in summary.settings
        if row.schedule != summary.reference and not row.diverged and row.validation is not None
    }
    if summary.reference is None or start not in tests or not rivals:
        return None
    best = max(rivals, key=rivals.__getitem__)
    gains = np.array([sign * (tests[best][seed] - value) for seed, value in tests[start].items()])
    if len(gains) < 2 or not np.isfinite(gains).all():
        return None
    several = len({row.weight_decay for row in summary.settings}) > 1
    over = f"{summary.reference} at {lr:g}, momentum {momentum:g}"
    over += f", weight decay {weight_decay:g}" if several else ""
    schedule, lr, momentum, decay = best
    difference = differences_from(np.zeros(len(gains)), [gains])[0]
    return Gain(schedule, lr, momentum, decay if several else None, over, difference)

"""A finished race as plain data, and how training went at the settings that were chosen.

All of the report is drawn from one :class:`Results`, so that the terminal, the page, the pictures and TensorBoard tell
one story.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lit_lrsched.comparison.evidence.runs import FloatArray, Mode, Run, filled_curves, worst_value
from lit_lrsched.comparison.evidence.summary import ScheduleSummary, Summary
from lit_lrsched.comparison.evidence.tuning_gain import Gain
from lit_lrsched.comparison.records import Record


@dataclass(frozen=True, eq=False)
class Results:
    """A finished race, as plain data.

    Args:
        records: Every run.
        summary: What they say. Its ``metric`` is the one that judged, on test data.
        gain: What tuning brings over the reference at the optimizer's own rate and momentum, where that raced.
        validation_metric: Name of the metric that chose each schedule's rate, such as ``"val_acc"``.
        factors: For each schedule the factor of the peak rate in each epoch: as planned, or, when it follows a metric,
            as used on average; empty where every run broke off.
        best_peaks: For each schedule the best peak of its convex bound, in its own units; none where a metric moves it.
        epochs: How many epochs a run lasts.
        model: Name of the model.
        data: Name of the data.
        optimizer: Name of the optimizer.
        opening: What races, in sentences: the optimizer, its param groups, what gives way.
        engine: ``"vectorized"`` or ``"sequential"``; None where all runs were there already.
        reason: Why that engine, in a line.
        machine: What it ran on, in a few words.
        seconds: How long the trainings took.
        trained: How many runs were trained in these seconds: fewer than all when an interrupted race was taken up.
        command: The command that made it, or ``compare() in Python``.
        version: Version of lit_lrsched.
        date: When it was judged, as ``2026-01-31``.
    """

    records: Sequence[Record]
    summary: Summary
    gain: Gain | None
    validation_metric: str
    factors: Mapping[str, Sequence[float]]
    best_peaks: Mapping[str, float]
    epochs: int
    model: str
    data: str
    optimizer: str
    opening: str
    engine: str | None
    reason: str
    machine: str
    seconds: float
    trained: int
    command: str
    version: str
    date: str

    @property
    def trainings_per_second(self) -> float:
        """How fast it went."""
        return self.trained / self.seconds if self.seconds > 0 else 0.0

    @cached_property
    def curves(self) -> list[LearningCurve]:
        """How training went under every schedule, in the summary's order; drawn in several places."""
        return learning_curves(self)


def transferred(results: Results) -> tuple[str, dict[str, float]] | None:
    """Returns the schedule whose chosen rate theory starts from, and the rate that it puts in its place for each other.

    It starts from the reference, or where none races from the best; None where it has nothing to say.

    Args:
        results: The race.
    """
    summary, peaks = results.summary, results.best_peaks
    start = summary.reference if summary.reference is not None else summary.best
    if start is None or start not in peaks or len(peaks) < 2:
        return None
    rate = next(row.lr for row in summary.schedules if row.schedule == start)
    return start, {name: rate * peak / peaks[start] for name, peak in peaks.items() if name != start}


@dataclass(frozen=True, eq=False)
class LearningCurve:
    """How training went under a schedule at the setting that was chosen for it, over all seeds.

    Args:
        schedule: The schedule's entry of the summary.
        rates: Learning rate in each epoch, ``[epochs]``; empty where every run broke off.
        mean: Mean of the metric after each epoch, a diverged run counted as the worst, ``[epochs]``; empty when no run
            of the race finished, or none has a curve.
        low: Lower quartile, likewise.
        high: Upper quartile, likewise.
    """

    schedule: ScheduleSummary
    rates: FloatArray
    mean: FloatArray
    low: FloatArray
    high: FloatArray


def learning_curves(results: Results, loss: str | None = None) -> list[LearningCurve]:
    """Returns the learning curve of every schedule, in the summary's order.

    Args:
        results: The race.
        loss: Name of a loss to follow in place of the metric that chose the settings.
    """
    if loss is None:
        mode, runs = (
            results.summary.mode,
            [r.run(results.validation_metric, results.summary.metric) for r in results.records],
        )
    else:
        mode, runs = "min", [r.run(loss, loss) for r in results.records]
    worst = worst_value(runs, mode)
    epochs = 0 if worst is None else max(len(run.curve) for run in runs)
    members: dict[tuple[str, float, float, float], list[Run]] = {}
    for run in runs:
        members.setdefault(run.key.setting, []).append(run)
    found = []
    for row in results.summary.schedules:
        chosen = members[row.key]
        values = filled_curves(chosen, math.nan if worst is None else worst, epochs)
        low, high = np.quantile(values, [0.25, 0.75], axis=0)
        rates = row.lr * np.asarray(results.factors[row.schedule], dtype=float)
        found.append(LearningCurve(row, rates, values.mean(axis=0), low, high))
    return found


def metric_range(drawn: Sequence[LearningCurve], mode: Mode) -> tuple[float, float]:
    """Returns the values that a picture of the learning curves has to hold, to show how they end.

    The first epochs, which are far off, may leave it.
    """
    values = np.concatenate([part for curve in drawn for part in (curve.low, curve.mean, curve.high)])
    ends = [float(curve.mean[-1]) for curve in drawn]
    low, high = np.quantile(values, [0.08, 0.99] if mode == "max" else [0.01, 0.92]).tolist()
    return min(low, *ends), max(high, *ends)


def shade_range(summary: Summary) -> tuple[float, float]:
    """Returns the worst and the best validation metric that the map's shades tell apart.

    The worst tenth of the map shares a shade, or a few rates that fail would leave one shade for all the others.
    """
    values = [setting.validation for setting in summary.settings if setting.validation is not None]
    worst, best = np.quantile(values, [0.1, 1.0] if summary.mode == "max" else [0.9, 0.0]).tolist()
    return worst, best

"""What comes out of a comparison, in one folder: numbers, pictures, a page to read and TensorBoard's tabs.

All of it is drawn from one :class:`Results`, so that the terminal, the page, the pictures and TensorBoard tell one
story.
"""

from __future__ import annotations

import dataclasses
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lit_lrsched.comparison.baseline import Gain
from lit_lrsched.comparison.records import Record
from lit_lrsched.comparison.statistics import (
    Difference,
    Mode,
    ScheduleSummary,
    Summary,
    filled_curves,
    verdict,
    worst_value,
)

FloatArray = npt.NDArray[np.float64]

NOTHING = "\N{EN DASH}"
"""What stands in a table where there is no number."""


@dataclass(frozen=True, eq=False)
class Results:
    """A finished race, as plain data.

    Args:
        records: Every run.
        summary: What they say. Its ``metric`` is the one that judged, on test data.
        gain: What tuning brings over the reference at the rate 0.1 without momentum, where that raced.
        validation_metric: Name of the metric that chose each schedule's rate, such as ``"val_acc"``.
        factors: For each schedule the factor of the peak rate in each epoch: as planned, or, when it follows a metric,
            as used on average.
        epochs: How many epochs a run lasts.
        model: Name of the model.
        data: Name of the data.
        optimizer: Name of the optimizer.
        engine: ``"vectorized"`` or ``"sequential"``.
        reason: Why that engine, in a line.
        machine: What it ran on, in a few words.
        seconds: How long the trainings took.
        trained: How many runs were trained in these seconds: fewer than all when an interrupted race was taken up.
    """

    records: Sequence[Record]
    summary: Summary
    gain: Gain | None
    validation_metric: str
    factors: Mapping[str, Sequence[float]]
    epochs: int
    model: str
    data: str
    optimizer: str
    engine: str
    reason: str
    machine: str
    seconds: float
    trained: int

    @property
    def trainings_per_second(self) -> float:
        """How fast it went."""
        return self.trained / self.seconds if self.seconds > 0 else 0.0


def write_report(results: Results, folder: Path) -> None:
    """Writes ``summary.json``, ``report.html``, ``rates.png``, ``curves.png``, ``map.png`` and ``tensorboard/``.

    Args:
        results: The race.
        folder: Where to; made when it is not there. Files of an earlier report are replaced.
    """
    # Here, since each of them draws what this module defines, and brings a library that only a report needs.
    from lit_lrsched.comparison.event_files import write_event_files
    from lit_lrsched.comparison.page import page
    from lit_lrsched.comparison.pictures import write_pictures

    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(summary_dict(results), indent=2, allow_nan=False, ensure_ascii=False)
    (folder / "summary.json").write_text(text + "\n", encoding="utf-8")
    (folder / "report.html").write_text(page(results), encoding="utf-8")
    write_pictures(results, folder)
    write_event_files(results, folder / "tensorboard")


def summary_dict(results: Results) -> dict[str, object]:
    """Returns the content of ``summary.json``: plain numbers and text, None where there is no number."""
    about = {
        field.name: getattr(results, field.name)
        for field in dataclasses.fields(results)
        if field.name not in ("records", "summary", "gain", "factors")
    }
    return {
        "verdict": list(verdict(results.summary)),
        "runs": len(results.records),
        "gain": dataclasses.asdict(results.gain) if results.gain else None,
        **about,
        "trainings_per_second": results.trainings_per_second,
        **dataclasses.asdict(results.summary),
    }


@dataclass(frozen=True, eq=False)
class Course:
    """How training went under a schedule at the setting that was chosen for it, over all seeds.

    Args:
        schedule: The schedule's entry of the summary.
        rates: Learning rate in each epoch, ``[epochs]``.
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


def courses(results: Results, loss: str | None = None) -> list[Course]:
    """Returns the course of every schedule, in the summary's order.

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
    found = []
    for row in results.summary.schedules:
        setting = (row.schedule, row.lr, row.momentum)
        members = [run for run in runs if (run.schedule, run.lr, run.momentum) == setting]
        values = filled_curves(members, math.nan if worst is None else worst, epochs)
        low, high = np.quantile(values, [0.25, 0.75], axis=0)
        rates = row.lr * np.asarray(results.factors[row.schedule], dtype=float)
        found.append(Course(row, rates, values.mean(axis=0), low, high))
    return found


def metric_range(drawn: Sequence[Course], mode: Mode) -> tuple[float, float]:
    """Returns the values that a picture of the courses has to hold, to show how they end.

    The first epochs, which are far off, may leave it.
    """
    values = np.concatenate([part for course in drawn for part in (course.low, course.mean, course.high)])
    ends = [float(course.mean[-1]) for course in drawn]
    low, high = np.quantile(values, [0.08, 0.99] if mode == "max" else [0.01, 0.92]).tolist()
    return min(low, *ends), max(high, *ends)


def shade_range(summary: Summary) -> tuple[float, float]:
    """Returns the worst and the best validation metric that the map's shades tell apart.

    The worst tenth of the map shares a shade, or a few rates that fail would leave one shade for all the others.
    """
    values = [setting.validation for setting in summary.settings if setting.validation is not None]
    worst, best = np.quantile(values, [0.1, 1.0] if summary.mode == "max" else [0.9, 0.0]).tolist()
    return worst, best


def decimals(summary: Summary) -> int:
    """Returns how many decimals the metric deserves: a step of the last is at most a fifth of the intervals' half."""
    halves = [(row.high - row.low) / 2 for row in summary.schedules if row.low is not None and row.high is not None]
    halves = [half for half in halves if half > 0]
    if not halves:
        return 3
    return min(6, max(0, math.ceil(-math.log10(statistics.median(halves) / 5))))


def number(value: float | None, places: int, sign: bool = False) -> str:
    """Returns a metric as text.

    Args:
        value: The number, or None.
        places: Decimals, as :func:`decimals` says.
        sign: Whether to write the sign of positive numbers.

    >>> [number(0.91234, 3), number(0.02, 3, sign=True), number(-0.0001, 3, sign=True), number(1.5e30, 3)]
    ['0.912', '+0.020', '0.000', '1.5e+30']
    """
    if value is None:
        return NOTHING
    value = round(value, places) + 0.0  # + 0.0: no -0
    plus = "+" if sign and value else ""
    return f"{value:{plus}.3g}" if abs(value) >= 1e6 else f"{value:{plus}.{places}f}"


def shortened(name: str, longest: int) -> str:
    """Returns a name, the tail of a long one as an ellipsis."""
    return name if len(name) <= longest else name[: longest - 1] + "…"


def interval(row: ScheduleSummary, places: int) -> str:
    """Returns the interval of a schedule's mean as text."""
    if row.low is None or row.high is None:
        return NOTHING
    return f"{number(row.low, places)} to {number(row.high, places)}"


def probability(difference: Difference | None) -> str:
    """Returns the corrected p as text.

    >>> [probability(Difference(0.1, None, None, p, p, None)) for p in (0.00002, 0.0313, 1.0)]
    ['<0.001', '0.031', '1']
    """
    if difference is None:
        return NOTHING
    p = difference.p_corrected
    return "<0.001" if p < 0.001 else "1" if p == 1 else f"{p:.3f}"


def edges(summary: Summary) -> list[str]:
    """Returns a sentence for each end of the grid of rates at which schedules were best."""
    sentences = []
    for end, beyond in (("highest", "higher"), ("lowest", "lower")):
        names = [row.schedule for row in summary.schedules if row.edge == end]
        if names:
            verb = "does" if len(names) == 1 else "do"
            who = ", ".join(names) if len(names) <= 3 else f"{len(names)} of the {len(summary.schedules)} schedules"
            sentences.append(f"{who} {verb} best at the {end} rate tried: a {beyond} one may be better still.")
    return sentences

"""Forecasts from logged runs the loss of schedules, peak rates and lengths that were never run."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO, Union

import numpy as np

from lit_lrsched.errors import InputError, did_you_mean, shown
from lit_lrsched.forecasting.best_schedule import FAMILY, export_schedule, family_of
from lit_lrsched.forecasting.candidates import Candidate, candidates_of, outside, usual_schedules
from lit_lrsched.forecasting.discrepancy import Discrepancy, Targets
from lit_lrsched.forecasting.fitting import FittedLaw, observed
from lit_lrsched.forecasting.judgement import undecided
from lit_lrsched.forecasting.laws import BASELINE, LAWS
from lit_lrsched.forecasting.left_out import Calibration, calibrate
from lit_lrsched.forecasting.logged_run import LoggedRun
from lit_lrsched.forecasting.picture import forest, picture_in_html
from lit_lrsched.forecasting.rate_path import FloatArray, RatePath
from lit_lrsched.forecasting.reading import RunLike, read_runs
from lit_lrsched.forecasting.terminal import show
from lit_lrsched.forecasting.words import law_in_words, opening, verdict
from lit_lrsched.plain import plain
from lit_lrsched.plans.figures import save
from lit_lrsched.schedules.checks import check_whole
from lit_lrsched.schedules.core import Schedule, ScheduleLike, as_schedule

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LEVEL = 0.95
_CURVE_POINTS = 400


class Curve(NamedTuple):
    """A forecast learning curve.

    Args:
        steps: How many steps are done, ``[points]``.
        losses: The loss there, ``[points]``.
        low: Where its 95 % interval begins, ``[points]``.
        high: Where it ends, ``[points]``.
    """

    steps: FloatArray
    losses: FloatArray
    low: FloatArray
    high: FloatArray


class Forecast:
    """A forecast: losses with intervals, and which schedule is best, if that can be told.

    Args:
        runs: The logged runs.
        schedules: The schedules that were asked for, by name.
        candidates: Each of them at every rate and length that was asked for.
        notes: What was done when the runs were read, one sentence each.
    """

    def __init__(
        self,
        runs: Sequence[LoggedRun],
        schedules: Mapping[str, Schedule],
        candidates: Sequence[Candidate],
        notes: Sequence[str] = (),
    ) -> None:
        self.runs, self.candidates, self.notes = list(runs), list(candidates), list(notes)
        self._schedules = dict(schedules)
        self._observed, units = observed(runs)
        found = [calibrate(law, self._observed, units) for law in LAWS]
        self._chosen: Calibration = max(found, key=lambda one: one.score)
        self._baseline = calibrate(BASELINE, self._observed, units)
        self._calibrations = {one.fitted.law.name: one for one in (*found, self._baseline)}
        self._noise = float(np.median([each.noise[-1] for each in self._observed]))
        self._logs, self._covariance = self._predict([(one.path, np.array([one.steps])) for one in candidates])

    @property
    def law(self) -> FittedLaw:
        """The law that is used, fitted to all runs: its ``name`` and ``parameters``."""
        return self._chosen.fitted

    @property
    def errors(self) -> dict[str, float]:
        """For each law the mean relative error on runs that were left out: 0.002 is 0.2 %."""
        return {name: float(np.mean(np.abs(one.errors))) for name, one in self._calibrations.items()}

    @property
    def beats_baseline(self) -> bool:
        """Whether runs left out were forecast better by the law than by a power law in the steps alone."""
        return self._chosen.score > self._baseline.score

    @cached_property
    def table(self) -> list[dict[str, Any]]:
        """A dict a candidate, best first: ``schedule``, ``lr``, ``steps``, ``loss``, ``low`` and ``high``.

        ``lr`` is the base rate, ``loss`` the forecast after the last step, ``low`` and ``high`` its 95 % interval.
        """
        return self.at_level(LEVEL)

    def at_level(self, level: float) -> list[dict[str, Any]]:
        """Returns the table with the interval of another level, such as 0.8.

        Raises:
            InputError: When the level is not between 0 and 1.
        """
        if not 0 < level < 1:
            raise InputError(f"level={level!r} has to be between 0 and 1, like 0.8")
        rows = self._rows(level)
        return sorted(rows, key=lambda row: float(row["loss"]))

    @cached_property
    def tied(self) -> list[str]:
        """The names of the schedules that cannot be told from the best at the greatest length asked, best first."""
        return self._tied_at(self._lengths[-1])

    @cached_property
    def verdict(self) -> str:
        """The answer in words: the best, or that it cannot be told; and what lies outside what the runs cover."""
        beyond = outside(self.candidates, self.runs)
        return " ".join(self._verdict_at(self._lengths[-1]) + ([f"Mind: {'; '.join(beyond)}."] if beyond else []))

    def curve(self, schedule: str, lr: float, steps: int) -> Curve:
        """Returns the forecast learning curve of one of the schedules, from the end of its warmup on.

        Args:
            schedule: Its name.
            lr: The base learning rate.
            steps: How long the run is.

        Raises:
            InputError: When there is no schedule of that name, or it does not fit the length.
        """
        if schedule not in self._schedules:
            raise InputError(
                f"schedule={schedule!r} was not asked for{did_you_mean(str(schedule), self._schedules)}: "
                f"there are {', '.join(self._schedules)}"
            )
        (one,) = candidates_of({schedule: self._schedules[schedule]}, [lr], [steps])
        return self.of_path(one.path)

    def of_path(self, path: RatePath) -> Curve:
        """Returns the forecast learning curve of a run whose rates are known, from the end of its warmup on."""
        first = max(min(path.warmup, path.length // 2), path.length // 100, path.begun)
        counts = np.unique(np.linspace(first, path.length, _CURVE_POINTS).round())
        logs, covariance = self._predict([(path, counts)])
        low, high = self._interval(logs, np.diag(covariance), LEVEL)
        return Curve(counts, np.exp(logs), low, high)

    def best_schedule(self, steps: int | None = None) -> tuple[Schedule, float, float]:
        """Returns the schedule with the lowest forecast: a warmup, a constant stretch and a decay, of any shape.

        Args:
            steps: How long the run is. None: the greatest length that was asked for.

        Returns:
            The schedule, its peak rate, one of those asked for, and the loss.

        Raises:
            InputError: When ``steps`` is not a whole number of at least 2.
        """
        length = self._lengths[-1] if steps is None else steps
        check_whole("steps", length, least=2)
        family = family_of(self.runs, length)
        asked = candidates_of(family, sorted({one.lr for one in self.candidates}), [length])
        logs, _ = self._predict([(one.path, np.array([one.steps])) for one in asked])
        best = int(np.argmin(logs))
        return family[asked[best].schedule], asked[best].lr, float(np.exp(logs[best]))

    def as_dict(self) -> dict[str, Any]:
        """Returns the forecast as plain data, for JSON.

        The keys: ``verdict``, ``table``, ``tied``, ``law`` with its ``name`` and ``parameters``, ``errors``,
        ``beats_baseline`` and ``notes``.
        """
        return {
            "verdict": self.verdict,
            "table": plain(self.table),
            "tied": self.tied,
            "law": {"name": self.law.name, "parameters": plain(self.law.parameters)},
            "errors": plain(self.errors),
            "beats_baseline": self.beats_baseline,
            "notes": self.notes,
        }

    def export(self, path: Union[str, Path]) -> None:
        """Writes the schedule with the lowest forecast as a ``Piecewise``, for ``lit-lrsched fit --config``.

        Raises:
            InputError: When the file cannot be written.
        """
        schedule, lr, loss = self.best_schedule()
        length = self._lengths[-1]
        note = f"forecast loss {loss:.4g} after {length:,} steps; {FAMILY}"
        _write(path, lambda file: export_schedule(file, schedule, lr, length, note))

    def write_csv(self, path: Union[str, Path]) -> None:
        """Writes the table.

        Raises:
            InputError: When the file cannot be written.
        """

        def write(file: Path) -> None:
            with file.open("w", newline="", encoding="utf-8") as opened:
                writer = csv.DictWriter(opened, list(self.table[0]))
                writer.writeheader()
                writer.writerows(self.table)

        _write(path, write)

    def write_png(self, path: Union[str, Path]) -> None:
        """Writes the picture.

        Raises:
            InputError: When the file cannot be written.
        """
        figure, _ = self.plot()
        _write(path, lambda file: save(figure, file))

    def plot(self, ax: Axes | None = None) -> tuple[Figure, Axes]:
        """Draws the forecasts of the greatest length asked with their intervals, each schedule at its best peak.

        Args:
            ax: Where to draw; None for a figure of its own, which pyplot does not hold.

        Returns:
            The figure and its axes.
        """
        return forest(self._best_rows(self._lengths[-1]), self.tied, LEVEL, ax)

    def show(self, file: TextIO | None = None) -> None:
        """Prints what the forecast rests on, a table for each length, and the verdict."""
        self._show(file, self._lengths[::-1])

    def __repr__(self) -> str:
        text = io.StringIO()
        self._show(text, self._lengths[-1:])
        return f"Forecast\n\n{text.getvalue()}"

    def _repr_html_(self) -> str:
        return picture_in_html(self.plot()[0], self.verdict, self._law_in_words())

    def _law_in_words(self) -> str:
        return law_in_words(self.law.name, self.errors, self.beats_baseline)

    def _show(self, file: TextIO | None, lengths: Sequence[int]) -> None:
        said = [opening(self.runs), *self.notes, self._law_in_words()]
        tables = [(length, self._best_rows(length), self._tied_at(length)) for length in lengths]
        show(said, tables, self.verdict, file)

    @property
    def _lengths(self) -> list[int]:
        return sorted({one.steps for one in self.candidates})

    def _best_rows(self, length: int) -> list[dict[str, Any]]:
        """Returns for each schedule the row of its best peak at a length, best first."""
        rows = [row for row in self.table if row["steps"] == length]
        best: dict[str, dict[str, Any]] = {}
        for row in rows:
            best.setdefault(row["schedule"], row)
        return list(best.values())

    def _tied_at(self, length: int) -> list[str]:
        return list(dict.fromkeys(self.candidates[place].schedule for place in self._undecided(length)))

    def _verdict_at(self, length: int) -> list[str]:
        rows, tied = self._rows(LEVEL), self._undecided(length)
        others = [place for place, one in enumerate(self.candidates) if one.steps == length and place not in tied]
        return verdict(
            [rows[place] for place in tied], sorted((rows[p] for p in others), key=lambda row: float(row["loss"]))
        )

    def _undecided(self, length: int) -> list[int]:
        """Returns the places of the candidates of a length that cannot be told from the best, best first."""
        places = np.array([place for place, one in enumerate(self.candidates) if one.steps == length])
        if not self.beats_baseline:  # then nothing is known of what schedules do here
            return [int(place) for place in places[np.argsort(self._logs[places], kind="stable")]]
        found = undecided(self._logs[places], self._covariance[np.ix_(places, places)], self._chosen.freedom)
        return [int(places[place]) for place in found]

    def _rows(self, level: float) -> list[dict[str, Any]]:
        low, high = self._interval(self._logs, np.diag(self._covariance), level)
        ends = zip(self.candidates, np.exp(self._logs).tolist(), low.tolist(), high.tolist(), strict=True)
        return [
            {"schedule": one.schedule, "lr": one.lr, "steps": one.steps, "loss": loss, "low": below, "high": above}
            for one, loss, below, above in ends
        ]

    def _predict(self, asked: Sequence[tuple[RatePath, FloatArray]]) -> tuple[FloatArray, FloatArray]:
        targets = Targets.of(self.law, asked)
        return Discrepancy(self.law, self._observed, targets).predict(self._chosen.sizes)

    def _interval(self, logs: FloatArray, variances: FloatArray, level: float) -> tuple[FloatArray, FloatArray]:
        from scipy.stats import t

        half = t.ppf((1 + level) / 2, self._chosen.freedom) * np.sqrt(np.maximum(variances, 0.0) + self._noise)
        return np.exp(logs - half), np.exp(logs + half)


def _write(path: Union[str, Path], write: Callable[[Path], None]) -> None:
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        write(Path(path))
    except (OSError, ValueError) as error:  # matplotlib raises ValueError for a format it does not know
        reason = (isinstance(error, OSError) and error.strerror) or str(error).split("(")[0].strip()
        raise InputError(f"{str(path)!r} cannot be written: {reason}: give another file") from error


def forecast(
    runs: RunLike | Sequence[RunLike],
    schedules: Mapping[str, ScheduleLike] | None = None,
    lrs: Sequence[float] | None = None,
    steps: Sequence[int] | None = None,
    *,
    loss: str | None = None,
) -> Forecast:
    """Forecasts what schedules, peak rates and lengths that were never run would give.

    Args:
        runs: The logged runs, at least two: paths of folders of ``fit`` or ``compare``, of CSV files or YAML lists of
            logs, and :class:`LoggedRun` objects.
        schedules: The schedules asked for, by name. None: the catalogue's main shapes, with the warmup of the runs.
        lrs: The base learning rates that they multiply. None: the peak rates of the runs.
        steps: Lengths in optimizer steps. None: that of the longest run, and twice that.
        loss: The name of the loss in the logs. None: ``val_loss``, ``loss``, ``train_loss`` or the like.

    Raises:
        InputError: When there are fewer than two runs, or all are of one constant rate; when a run diverged or its
            loss rises; when logs lack a column or log different losses; or when a schedule does not fit a length.

    Example::

        runs = [LoggedRun(steps, losses, rates) for steps, losses, rates in my_logs]
        found = forecast(runs, {"cosine": WarmupCosine("1000st"), "linear": WarmupLinear("1000st")}, steps=[100_000])
        print(found.verdict)
    """
    read = read_runs(runs, loss)
    _check_tell(read.runs)
    asked = usual_schedules(read.runs) if schedules is None else _by_name(schedules)
    longest = max(run.length for run in read.runs)
    peaks = sorted({float(f"{run.path.peak:.4g}") for run in read.runs})
    lengths = [longest, 2 * longest] if steps is None else _list_of("steps", steps, [50_000])
    candidates = candidates_of(asked, peaks if lrs is None else _list_of("lrs", lrs, [3e-4, 1e-3]), lengths)
    if not candidates:
        raise InputError("nothing is asked: give at least one schedule, one rate in lrs and one length in steps")
    return Forecast(read.runs, asked, candidates, read.notes)


def _list_of(name: str, given: object, example: Sequence[float]) -> list[Any]:
    found = np.asarray(given).tolist()  # numbers of numpy are fine
    if not isinstance(found, list):
        raise InputError(f"{name}={shown(given)} is no list: give one, like {example}")
    return found


def _by_name(schedules: Mapping[str, ScheduleLike]) -> dict[str, Schedule]:
    if not isinstance(schedules, Mapping) or not all(isinstance(name, str) for name in schedules):
        raise InputError("schedules has to be a dict of schedules by name, like {'cosine': Cosine()}")
    return {name: as_schedule(schedule, f"schedules[{name!r}]") for name, schedule in schedules.items()}


def _check_tell(runs: Sequence[LoggedRun]) -> None:
    if len(runs) == 1 and not runs[0].falls:
        raise InputError(
            f"{runs[0].name} is a single run of a constant rate, which tells nothing of decays: give at least two "
            "runs, one of them with a decay"
        )
    if len(runs) < 2:
        raise InputError(f"{len(runs)} run is given: at least two are needed, better three or more that differ")
    if not any(run.falls for run in runs) and len({float(f"{run.path.peak:.3g}") for run in runs}) == 1:
        raise InputError(
            f"all {len(runs)} runs have the same constant rate, which tells nothing of decays: add a run with a decay"
        )

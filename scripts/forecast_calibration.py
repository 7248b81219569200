"""Measures how often the intervals of forecasts hold, over many made-up problems whose answer is known exactly.

python scripts/forecast_calibration.py [--problems 60] [--seed 0] [--write]

A problem is SGD on least squares with a power-law spectrum, whose expected loss is an exact recursion that knows none
of the laws. Its exponents, noise, dimensions, floor, rates, lengths and warmup are drawn at random, as are 3 to 10 runs
that are known, of one length or two, and what is asked: other shapes at a peak and length that were run, other peaks,
and 1.5 to 3 times the length. Half of the logs have noise of 0.1 %. Each problem is forecast from whole curves and from
the last losses alone. With --write the tables go into docs/forecast.md.
"""

from __future__ import annotations

import argparse
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from forecast_errors import LEVELS, write

from lit_lrsched import Constant, Cosine, Horizon, InputError, Linear, LoggedRun, OneMinusSqrt
from lit_lrsched.forecasting.candidates import Candidate
from lit_lrsched.forecasting.forecast import Forecast
from lit_lrsched.forecasting.rate_path import FloatArray
from lit_lrsched.forecasting.schedule_paths import path_of
from lit_lrsched.schedules import Chain, Phase, Schedule
from tests.forecasting.least_squares import losses_of

POINTS = 50  # of a logged curve
NOISE = 0.001  # of a logged loss, in half of the problems
CLOSE = 0.002  # a winner is right when its loss is no more than this part above the best
PEAKS = (0.2, 0.4, 0.7, 1.0, 1.4, 2.0)
SHAPE, PEAK, LONGER = "another shape", "another peak", ("longer, one length known", "longer, two lengths known")


class Task(NamedTuple):
    """A least-squares task: one Gaussian row a step.

    Args:
        variances: Of the features, ``[dimensions]``.
        errors: Squared errors of the weights at first, ``[dimensions]``.
        noise: Variance of the targets' noise, which the gradients see.
        floor: The least loss.
    """

    variances: FloatArray
    errors: FloatArray
    noise: float
    floor: float

    @classmethod
    def drawn(cls, rng: np.random.Generator) -> Task:
        """Returns a task at random; its loss falls from 1 above the floor."""
        index = np.arange(1.0, int(np.exp(rng.uniform(np.log(50), np.log(500)))) + 1)
        variances, errors = index ** -rng.uniform(1.1, 2.0), index ** -rng.uniform(0.0, 1.0)
        errors *= 2 / (variances @ errors)
        return cls(variances, errors, rng.uniform(0.0, 1.0) ** 2, np.exp(rng.uniform(np.log(0.003), np.log(3.0))))

    @property
    def highest(self) -> float:
        """A rate at which training is just stable."""
        return float(1 / (self.variances[0] + self.variances.sum() / 2))


class Run(NamedTuple):
    """A schedule, its peak rate, and its length in steps."""

    schedule: str
    lr: float
    steps: int


class Problem(NamedTuple):
    """Runs that are known, and what is asked.

    Args:
        runs: The runs that are known: their ``curves``, and their ``ends`` alone.
        kinds: What kind of question each one asked is.
        asked: The runs asked for.
        true: What they log at last, ``[asked]``.
    """

    runs: dict[str, list[LoggedRun]]
    kinds: list[str]
    asked: list[Candidate]
    true: FloatArray


def shapes(rng: np.random.Generator) -> dict[str, Schedule]:
    """Returns schedules of one warmup, of which one drops at random."""
    rise = Phase(Linear(0.0, 1.0), f"{rng.choice([1, 2, 5])}%")
    stable, decays = Phase(Constant()), (10, 20, 40, 70)
    phases = {
        "constant": [stable],
        "cosine": [Phase(Cosine())],
        "cosine to 0.1": [Phase(Cosine(end=0.1))],
        "linear": [Phase(Linear())],
        "drop": [Phase(Constant(), f"{rng.uniform(30, 80):.3g}%"), Phase(Constant(rng.uniform(0.1, 0.5)))],
        **{f"cooldown {share} %": [stable, Phase(Linear(), f"{share}%")] for share in decays},
        "1-sqrt cooldown 20 %": [stable, Phase(OneMinusSqrt(), "20%")],
    }
    return {name: Chain([rise, *rest]) for name, rest in phases.items()}


def runs_of(rng: np.random.Generator, names: list[str], peaks: FloatArray) -> tuple[list[Run], dict[Run, str]]:
    """Returns runs that are known, and what is asked with what kind of question it is."""
    seen_peaks = rng.choice(peaks, rng.integers(1, 4), replace=False)
    longest = int(rng.integers(500, 2001))
    longer = int(longest * rng.uniform(1.5, 3.0))
    lengths = [longest, int(longest / rng.uniform(1.5, 2.5))][: rng.integers(1, 3)]
    known: list[Run] = []
    while len({run.schedule for run in known}) < 2 or {run.steps for run in known} != set(lengths):
        drawn = rng.integers([len(names), len(seen_peaks), len(lengths)], size=(rng.integers(3, 11), 3))
        known = list(dict.fromkeys(Run(names[a], float(seen_peaks[b]), lengths[c]) for a, b, c in drawn))
    asked = {}
    for name in names:
        seen, other = (float(rng.choice(some)) for some in (seen_peaks, np.setdiff1d(peaks, seen_peaks)))
        asked[Run(name, seen, longest)] = SHAPE
        asked[Run(name, other, longest)] = PEAK
        asked[Run(name, seen, longer)] = LONGER[len(lengths) - 1]
    return known, {run: kind for run, kind in asked.items() if run not in known}


def drawn_problem(rng: np.random.Generator) -> Problem:
    """Returns a problem at random.

    Raises:
        InputError: When a run's loss rises.
    """
    task = Task.drawn(rng)
    schedules = shapes(rng)
    known, asked = runs_of(rng, list(schedules), task.highest * rng.uniform(0.1, 0.45) * np.array(PEAKS))
    paths = [path_of(schedules[run.schedule], Horizon(run.steps), run.lr) for run in (*known, *asked)]
    rates = np.zeros((len(paths), max(path.length for path in paths)))
    for row, path in zip(rates, paths, strict=True):
        row[: path.length] = path.rate_at(np.arange(path.length))
    expected = losses_of(rates, *task)
    logged = expected * np.exp(rng.choice([0.0, NOISE]) * rng.standard_normal(expected.shape))
    last = logged[np.arange(len(paths)), [path.length for path in paths]]
    counts = [np.unique(np.linspace(1, run.steps, POINTS).round().astype(int)) for run in known]
    seen = list(zip(counts, logged, paths, strict=False))  # the known ones are the first
    return Problem(
        {
            "curves": [LoggedRun(at, losses[at], path) for at, losses, path in seen],
            "ends": [LoggedRun(at[-1:], losses[at[-1:]], path) for at, losses, path in seen],
        },
        list(asked.values()),
        [Candidate(*run, path) for run, path in zip(asked, paths[len(known) :], strict=True)],
        last[len(known) :],
    )


class Judged(NamedTuple):
    """Forecasts of runs, beside the truth.

    Args:
        errors: Relative error of each run, ``[runs]``.
        halves: The half of its 95 % interval, relative likewise, ``[runs]``.
        held: Whether its loss lies in the interval of each level, ``[levels, runs]``.
    """

    errors: FloatArray
    halves: FloatArray
    held: FloatArray

    def row(self, *names: object) -> str:
        """Returns a row of the table."""
        shares = " | ".join(f"{100 * share:.0f} %" for share in self.held.mean(axis=1))
        middle = f"{100 * np.median(self.errors):.2f} % | {np.median(self.errors / self.halves):.2f}"
        return f"| {' | '.join(map(str, names))} | {len(self.errors)} | {middle} | {shares} |"

    def of(self, kept: npt.NDArray[np.bool_]) -> Judged:
        """Returns those of some runs, ``[runs]``."""
        return Judged(self.errors[kept], self.halves[kept], self.held[:, kept])


class Answer(NamedTuple):
    """What is said of the best at the greatest length.

    Args:
        kept: Whether the best schedule is among those that cannot be told apart.
        named: Whether a winner is named.
        right: Whether that with the lowest forecast is one.
    """

    kept: bool
    named: bool
    right: bool


def judged(problem: Problem, runs: list[LoggedRun]) -> tuple[Judged, Answer]:
    """Returns the forecasts of a problem from its runs, and what is said of the best."""
    found = Forecast(runs, {}, problem.asked)
    places = {one[:3]: place for place, one in enumerate(problem.asked)}
    narrow, wide = (
        sorted(found.at_level(level), key=lambda row: places[row["schedule"], row["lr"], row["steps"]])
        for level in LEVELS
    )
    loss, low, high = (np.array([row[key] for row in wide]) for key in ("loss", "low", "high"))
    held = [
        [row["low"] <= true <= row["high"] for row, true in zip(rows, problem.true, strict=True)]
        for rows in (narrow, wide)
    ]
    longest = np.flatnonzero([kind in LONGER for kind in problem.kinds])
    best, pick = (longest[np.argmin(values[longest])] for values in (problem.true, loss))
    return (
        Judged(np.abs(loss / problem.true - 1), np.log(high / low) / 2, np.array(held, float)),
        Answer(
            problem.asked[best].schedule in found.tied,
            len(found.tied) == 1,
            bool(problem.true[pick] <= (1 + CLOSE) * problem.true[best]),
        ),
    )


def main() -> None:
    """Prints the tables, and writes the document."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--problems", type=int, default=60, help="how many")
    parser.add_argument("--seed", type=int, default=0, help="which ones")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/forecast.md")
    given = parser.parse_args()
    rng = np.random.default_rng(given.seed)
    problems: list[Problem] = []
    while len(problems) < given.problems:
        try:
            problems.append(drawn_problem(rng))
        except InputError:
            continue
    kinds = np.array([kind for problem in problems for kind in problem.kinds])
    rows, said = ["| from | asked | runs | median error | of half the interval | 80 % holds | 95 % holds |"], []
    rows.append("|---|---|---|---|---|---|---|")
    for source in ("curves", "ends"):
        found, answers = zip(*[judged(problem, problem.runs[source]) for problem in problems], strict=True)
        whole = Judged(*(np.concatenate(column, axis=-1) for column in zip(*found, strict=True)))
        rows += [whole.of(kinds == kind).row(source, kind) for kind in (SHAPE, PEAK, *LONGER) if kind in kinds]
        rows.append(whole.row(source, "all"))
        named = [one for one in answers if one.named]
        out, right = sum(not one.kept for one in answers), sum(one.right for one in named)
        said.append(
            f"From {source} the best is ruled out in {out} of {len(answers)} problems, and a winner is named in "
            f"{len(named)},\nrightly in {right}."
        )
    text = "\n".join([*rows, "", *said])
    print(f"{len(problems)} problems\n\n{text}")
    if given.write:
        write({"calibration": text})


if __name__ == "__main__":
    main()

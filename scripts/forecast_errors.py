"""Measures how wrong forecasts are on real curves of language models, and how often the winner that they name is one.

python scripts/forecast_errors.py FOLDER [--subsets 50] [--seed 0]

FOLDER holds `25M/` and `124M/` of the curves of arXiv 2503.12811 and arXiv 2501.18965, and a README that says what they
are. The tables are those of docs/forecast.md:

- curves of the 25M model that were not seen, from three that were;
- ends of the 124M model's runs: each schedule left out at all rates and lengths, and all of the longest left out;
- random subsets of 3 to 8 of these runs: how often the intervals hold, how often a winner is named and is one, and by
  how much what is picked misses the best, beside two habits: to go on as in the longest run, and to take what won at
  the shorter length.
"""

from __future__ import annotations

import argparse
import csv
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lit_lrsched import Constant, Cosine, Horizon, Linear, LoggedRun, OneMinusSqrt, forecast
from lit_lrsched.forecasting.candidates import Candidate
from lit_lrsched.forecasting.forecast import Forecast
from lit_lrsched.forecasting.log_columns import logged_path, read_csv
from lit_lrsched.forecasting.rate_path import FloatArray, RatePath
from lit_lrsched.forecasting.schedule_paths import path_of
from lit_lrsched.schedules import Chain, Phase

SEEN = ("cosine_24000", "constant_24000", "wsdcon_9")
LEVELS = (0.8, 0.95)
CLOSE = 0.003  # a winner is right when its loss is within this of the best


class Trained(NamedTuple):
    """A run of the 124M model, and what is known of it."""

    schedule: str
    lr: float
    steps: int
    path: RatePath
    loss: float
    curve: LoggedRun

    def run(self, of_curve: bool) -> LoggedRun:
        """Returns the run with its whole curve, or with its last loss alone, which is of a larger evaluation."""
        return self.curve if of_curve else LoggedRun([self.steps], [self.loss], self.path, self.curve.name)

    def true(self, of_curve: bool) -> float:
        """Returns the loss that it ended with."""
        return float(self.curve.losses[-1]) if of_curve else self.loss

    @property
    def candidate(self) -> Candidate:
        """The run as a question."""
        return Candidate(self.schedule, self.lr, self.steps, self.path)


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="the folder of the curves")
    parser.add_argument("--subsets", type=int, default=50, help="how many random subsets")
    parser.add_argument("--seed", type=int, default=0, help="which ones")
    given = parser.parse_args()
    small(given.folder / "25M")
    trained = read(given.folder / "124M")
    for of_curve in (False, True):
        print(f"\n124M, {'whole curves' if of_curve else 'ends alone'}")
        groups(trained, of_curve)
        subsets(trained, of_curve, given.subsets, given.seed)


def small(folder: Path) -> None:
    """Prints the errors on the 25M model's curves that were not seen."""
    runs = {path.stem: _logged(path) for path in sorted(folder.glob("*.csv"))}
    found = forecast([runs[name] for name in SEEN])
    print(f"25M, from {', '.join(SEEN)}: {found.law}")
    print("| curve | mean error | 95 % holds at the end |\n|---|---|---|")
    errors = []
    for name, run in runs.items():
        if name not in SEEN:
            curve = found.of_path(run.path)
            off = np.interp(run.steps, curve.steps, curve.losses) / run.losses - 1
            errors.append(float(np.abs(off).mean()))
            held = curve.low[-1] <= run.losses[-1] <= curve.high[-1]
            print(f"| {name} | {100 * errors[-1]:.3f} % | {'yes' if held else 'no'} |")
    print(f"| mean | {100 * np.mean(errors):.3f} % | |")


def _logged(path: Path) -> LoggedRun:
    log = read_csv(path, path.stem)
    return LoggedRun(log.columns["loss"].steps, log.columns["loss"].values, logged_path(log.rate()), path.stem)


def read(folder: Path) -> list[Trained]:
    """Returns the runs of the 124M model."""
    found = []
    with (folder / "final.csv").open() as file:
        for row in csv.DictReader(file):
            lr, steps = float(row["peak_lr"]), int(row["steps"])
            name = re.sub(r"_lr.*", "", row["file"])
            path = path_of(
                _schedule(row["schedule"], float(row["decay_share"]), row["warmup_steps"]), Horizon(steps), lr
            )
            losses = read_csv(folder / row["file"], row["file"]).columns["val_loss"]
            curve = LoggedRun(losses.steps, losses.values, path, row["file"])
            found.append(Trained(name, lr, steps, path, float(row["final_val_loss"]), curve))
    return found


def _schedule(name: str, share: float, warmup: str) -> Chain:
    rise = Phase(Linear(0.0, 1.0), f"{warmup}st")
    if name.startswith("cosine"):
        return Chain([rise, Phase(Cosine(end=0.1 if name.endswith("0.1") else 0.0))])
    return Chain([rise, Phase(Constant()), Phase(OneMinusSqrt() if "sqrt" in name else Linear(), f"{100 * share:g}%")])


class Judged(NamedTuple):
    """A forecast beside the truth.

    Args:
        errors: Relative error of each run, ``[runs]``.
        held: Whether each true loss lies in the interval of each level, ``[levels, runs]``.
        missed: By how much the loss of what was forecast to be best misses the best.
        named: Whether a winner was named.
    """

    errors: FloatArray
    held: FloatArray
    missed: float
    named: bool


def judged(seen: list[Trained], unseen: list[Trained], of_curve: bool) -> Judged:
    """Forecasts runs from others, and holds that against how they ended."""
    found = Forecast([one.run(of_curve) for one in seen], {}, [one.candidate for one in unseen])
    true = {one[:3]: one.true(of_curve) for one in unseen}
    tables = [{(row["schedule"], row["lr"], row["steps"]): row for row in found.at_level(level)} for level in LEVELS]
    held = [[table[key]["low"] <= loss <= table[key]["high"] for key, loss in true.items()] for table in tables]
    errors = [abs(tables[0][key]["loss"] / loss - 1) for key, loss in true.items()]
    best = min(tables[0], key=lambda key: float(tables[0][key]["loss"]))
    return Judged(np.array(errors), np.array(held, float), true[best] - min(true.values()), len(found.tied) == 1)


def groups(trained: list[Trained], of_curve: bool) -> None:
    """Prints what is forecast of each schedule from the others, and of the longest runs from the shorter ones."""
    print("\n| left out | runs | mean error | 80 % holds | 95 % holds |\n|---|---|---|---|---|")
    longest = max(one.steps for one in trained)
    names = sorted({one.schedule for one in trained})
    parts = [(name, [one for one in trained if one.schedule == name]) for name in names]
    parts.append((f"all of {longest:,} steps", [one for one in trained if one.steps == longest]))
    found = []
    for name, part in parts:
        found.append(judged([one for one in trained if one not in part], part, of_curve))
        print(_row(name, found[-1].errors, found[-1].held))
    print(_row_of_all(found))


def _row(name: str, errors: FloatArray, held: FloatArray) -> str:
    shares = " | ".join(f"{100 * share:.0f} %" for share in held.mean(axis=1))
    return f"| {name} | {len(errors)} | {100 * errors.mean():.2f} % | {shares} |"


def _row_of_all(found: list[Judged]) -> str:
    errors, held = [one.errors for one in found], [one.held for one in found]
    return _row("all", np.concatenate(errors), np.concatenate(held, axis=1))


def subsets(trained: list[Trained], of_curve: bool, count: int, seed: int) -> None:
    """Prints what random subsets of 3 to 8 runs say of all others of the greatest length."""
    rng = np.random.default_rng(seed)
    longest = max(one.steps for one in trained)
    found, habits = [], []
    for _ in range(count):
        seen = [trained[place] for place in rng.choice(len(trained), rng.integers(3, 9), replace=False)]
        unseen = [one for one in trained if one not in seen and one.steps == longest]
        found.append(judged(seen, unseen, of_curve))
        habits.append(_missed_by_habit(seen, trained, of_curve))
    named = [one for one in found if one.named]
    right = sum(one.missed <= CLOSE for one in named)
    print(f"\n{count} random subsets of 3 to 8 runs, for all others of {longest:,} steps:\n")
    print("| | runs | mean error | 80 % holds | 95 % holds |\n|---|---|---|---|---|")
    print(_row_of_all(found))
    print(f"\nA winner is named {len(named)} times, and right (within {CLOSE:g}) {right} times; else 'cannot tell'.")
    print("\n| pick | misses the best loss by, mean | median | most |\n|---|---|---|---|")
    longest_runs, shorter_runs = (np.array(column) for column in zip(*habits, strict=True))
    for name, missed in (
        ("the best forecast", np.array([one.missed for one in found])),
        ("as in the longest run", longest_runs),
        ("what won at the shorter length", shorter_runs[np.isfinite(shorter_runs)]),
    ):
        print(f"| {name} | {missed.mean():.4f} | {np.median(missed):.4f} | {missed.max():.4f} |")


def _missed_by_habit(seen: list[Trained], trained: list[Trained], of_curve: bool) -> tuple[float, float]:
    """Returns by how much two habits miss the best loss of the longest runs; nan where no shorter run was seen."""
    at_length = {one[:2]: one.true(of_curve) for one in trained if one.steps == max(one.steps for one in trained)}
    best = min(at_length.values())
    longest = [one for one in seen if one.steps == max(one.steps for one in seen)]
    shortest = [one for one in seen if one.steps == min(one.steps for one in trained)]
    missed = []
    for runs in (longest, shortest):
        pick = min(runs, key=lambda one: one.true(of_curve), default=None)
        missed.append(at_length[pick[:2]] - best if pick else float("nan"))
    return missed[0], missed[1]


if __name__ == "__main__":
    main()

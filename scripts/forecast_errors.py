"""Measures how wrong forecasts are on real curves of language models, and how often the winner that they name is one.

python scripts/forecast_errors.py FOLDER [--subsets 50] [--seed 0] [--write]

FOLDER holds `25M/` and `124M/` of the curves of arXiv 2503.12811 and arXiv 2501.18965, and a README that says what they
are. With --write the tables go into docs/forecast.md and README.md, below the lines ``<!-- errors: NAME -->``:

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

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"(<!-- errors: ([\w ]+) -->\n).*?(<!-- -->)", re.DOTALL)
RULE = "|---|---|---|---|---|"
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
    """Prints the tables, and writes the documents."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="the folder of the curves")
    parser.add_argument("--subsets", type=int, default=50, help="how many random subsets")
    parser.add_argument("--seed", type=int, default=0, help="which ones")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/forecast.md and README.md")
    given = parser.parse_args()
    parts, mean_error = {}, {}
    parts["unseen curves"], mean_error["25M"] = small(given.folder / "25M")
    trained = read(given.folder / "124M")
    for kind in ("ends", "curves"):
        parts[f"{kind} left out"] = groups(trained, kind == "curves")
        parts[f"{kind} of subsets"], mean_error[kind] = subsets(trained, kind == "curves", given.subsets, given.seed)
    parts["in short"] = (
        f"Three curves of a 25M language model forecast six others to {100 * mean_error['25M']:.2f} %, and 3 to 8\n"
        f"random runs of a 124M model all others to {100 * mean_error['ends']:.1f} % from their last losses alone, to\n"
        f"{100 * mean_error['curves']:.1f} % from their curves."
    )
    for name, text in parts.items():
        print(f"\n{name}\n\n{text}", flush=True)
    if given.write:
        write(parts)


def write(parts: dict[str, str]) -> None:
    """Writes these parts of docs/forecast.md and README.md, by name."""
    for path in (ROOT / "docs" / "forecast.md", ROOT / "README.md"):
        filled = BLOCK.sub(
            lambda match: f"{match[1]}\n{parts[match[2]]}\n\n{match[3]}" if match[2] in parts else match[0],
            path.read_text(encoding="utf-8"),
        )
        path.write_text(filled, encoding="utf-8")


def small(folder: Path) -> tuple[str, float]:
    """Returns the errors on the 25M model's curves that were not seen, as a table, and their mean."""
    runs = {path.stem: _logged(path) for path in sorted(folder.glob("*.csv"))}
    found = forecast([runs[name] for name in SEEN])
    rows, errors = ["| curve | mean error | 95 % holds at the end |", "|---|---|---|"], []
    for name, run in runs.items():
        if name not in SEEN:
            curve = found.of_path(run.path)
            off = np.interp(run.steps, curve.steps, curve.losses) / run.losses - 1
            errors.append(float(np.abs(off).mean()))
            held = curve.low[-1] <= run.losses[-1] <= curve.high[-1]
            rows.append(f"| {name} | {100 * errors[-1]:.3f} % | {'yes' if held else 'no'} |")
    mean = float(np.mean(errors))
    return "\n".join([*rows, f"| mean, by the {found.law.name} law | {100 * mean:.3f} % | |"]), mean


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
        errors: Relative error of each run that was not seen, ``[runs]``.
        held: Whether each of their losses lies in the interval of each level, ``[levels, runs]``.
        lowest: By how much the loss of the lowest forecast misses the best.
        surest: The same of the forecast whose interval ends lowest.
        named: Whether a winner was named.
    """

    errors: FloatArray
    held: FloatArray
    lowest: float
    surest: float
    named: bool


def judged(seen: list[Trained], asked: list[Trained], of_curve: bool) -> Judged:
    """Forecasts runs from others, and holds that against how they ended."""
    found = Forecast([one.run(of_curve) for one in seen], {}, [one.candidate for one in asked])
    true = {one[:3]: one.true(of_curve) for one in asked}
    unseen = [one[:3] for one in asked if one not in seen]
    tables = [{(row["schedule"], row["lr"], row["steps"]): row for row in found.at_level(level)} for level in LEVELS]
    held = [[table[key]["low"] <= true[key] <= table[key]["high"] for key in unseen] for table in tables]
    errors = [abs(tables[0][key]["loss"] / true[key] - 1) for key in unseen]
    best = min(true.values())
    lowest, surest = (min(tables[-1], key=lambda key: float(tables[-1][key][by])) for by in ("loss", "high"))
    return Judged(
        np.array(errors), np.array(held, float), true[lowest] - best, true[surest] - best, len(found.tied) == 1
    )


def groups(trained: list[Trained], of_curve: bool) -> str:
    """Returns what is forecast of each schedule from the others, and of the longest runs from the shorter ones."""
    longest = max(one.steps for one in trained)
    names = sorted({one.schedule for one in trained})
    parts = [(name, [one for one in trained if one.schedule == name]) for name in names]
    parts.append((f"all of {longest:,} steps", [one for one in trained if one.steps == longest]))
    found = [judged([one for one in trained if one not in part], part, of_curve) for _, part in parts]
    rows = [_row(name, one.errors, one.held) for (name, _), one in zip(parts, found, strict=True)]
    return "\n".join(["| left out | runs | mean error | 80 % holds | 95 % holds |", RULE, *rows, _row_of_all(found)])


def _row(name: str, errors: FloatArray, held: FloatArray) -> str:
    shares = " | ".join(f"{100 * share:.0f} %" for share in held.mean(axis=1))
    return f"| {name} | {len(errors)} | {100 * errors.mean():.2f} % | {shares} |"


def _row_of_all(found: list[Judged]) -> str:
    errors, held = [one.errors for one in found], [one.held for one in found]
    return _row("all", np.concatenate(errors), np.concatenate(held, axis=1))


def subsets(trained: list[Trained], of_curve: bool, count: int, seed: int) -> tuple[str, float]:
    """Returns what random subsets of 3 to 8 runs say of all of the greatest length, and the mean error."""
    rng = np.random.default_rng(seed)
    longest = max(one.steps for one in trained)
    found, habits = [], []
    for _ in range(count):
        seen = [trained[place] for place in rng.choice(len(trained), rng.integers(3, 9), replace=False)]
        found.append(judged(seen, [one for one in trained if one.steps == longest], of_curve))
        habits.append(_missed_by_habit(seen, trained, of_curve))
    named = [one for one in found if one.named]
    right = sum(one.lowest <= CLOSE for one in named)
    longest_runs, shorter_runs = (np.array(column) for column in zip(*habits, strict=True))
    picks = [
        ("the lowest forecast", np.array([one.lowest for one in found])),
        ("the surest: whose interval ends lowest", np.array([one.surest for one in found])),
        ("as in the longest run", longest_runs),
        ("what won at the shorter length", shorter_runs[np.isfinite(shorter_runs)]),
    ]
    text = [
        "| from | runs | mean error | 80 % holds | 95 % holds |",
        RULE,
        _row_of_all(found).replace("| all |", f"| {count} subsets |"),
        "",
        f"A winner is named {len(named)} times, and within {CLOSE:g} of the best {right} times; else: cannot tell.",
        "",
        "| pick | subsets | misses the best loss by, mean | median | most |",
        RULE,
        *(
            f"| {name} | {len(missed)} | {missed.mean():.4f} | {np.median(missed):.4f} | {missed.max():.4f} |"
            for name, missed in picks
        ),
    ]
    return "\n".join(text), float(np.concatenate([one.errors for one in found]).mean())


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

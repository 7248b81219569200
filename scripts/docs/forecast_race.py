"""Forecasts a race from a shorter one, and draws forecast against raced: docs/img/forecast.png.

python scripts/docs/forecast_race.py

Three schedules race for 30 epochs at two peak rates; from their mean training losses it is forecast what all ten of the
worked example's schedules reach in 50, which is then raced.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from lit_lrsched import IonosphereClassifier, IonosphereDataModule, compare
from lit_lrsched.comparison.defaults import SCHEDULES
from lit_lrsched.forecasting.candidates import Candidate
from lit_lrsched.forecasting.forecast import Forecast
from lit_lrsched.forecasting.reading import read_runs
from lit_lrsched.plans.figures import new_figure, plain, save

ROOT = Path(__file__).resolve().parents[2]
SEEN = ("constant", "cosine", "warmup stable decay")
LRS = (0.1, 0.3)
SEEDS = 20
COLORS = {True: "#0b63c5", False: "#b4530a"}


def main() -> None:
    """Prints the table and draws."""
    argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0]).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for epochs, names in ((30, SEEN), (50, tuple(SCHEDULES))):
            compare(
                IonosphereClassifier,
                IonosphereDataModule,
                {name: SCHEDULES[name] for name in names},
                lrs=LRS,
                seeds=SEEDS,
                epochs=epochs,
                folder=Path(folder, str(epochs)),
            )
        short, raced = (read_runs(Path(folder, epochs), "train_loss").runs for epochs in ("30", "50"))
    asked = [Candidate(run.name, run.path.peak, run.length, run.path) for run in raced]
    found = Forecast(short, {}, asked)
    losses = {run.name: float(run.losses[-1]) for run in raced}
    print(found.law, found.errors)
    inside, errors = [], []
    for row in found.table:
        true = losses[row["schedule"]]
        inside.append(row["low"] <= true <= row["high"])
        errors.append(abs(row["loss"] / true - 1))
        print(f"| {row['schedule']} | {row['loss']:.4f} | {row['low']:.4f} to {row['high']:.4f} | {true:.4f} |")
    print(f"mean error {100 * np.mean(errors):.2f} %, {sum(inside)} of {len(inside)} inside; {found.verdict}")
    draw(found, losses)


def draw(found: Forecast, losses: dict[str, float]) -> None:
    """Draws forecast against raced."""
    figure = new_figure(6.5, 5)
    axes = figure.add_subplot()
    plain(axes)
    axes.grid(color="#e6e8ea", linewidth=0.8)
    for row in found.table:
        seen = row["schedule"].rpartition(" at ")[0] in SEEN
        true = losses[row["schedule"]]
        axes.plot([true, true], [row["low"], row["high"]], color=COLORS[seen], linewidth=1.6)
        axes.plot(true, row["loss"], "o", color=COLORS[seen], markersize=5)
    ends = [min(losses.values()), max(losses.values())]
    axes.plot(ends, ends, color="#1b1f24", linewidth=0.8, linestyle=":")
    axes.set_xlabel("raced: mean training loss after 50 epochs", fontsize=9)
    axes.set_ylabel("forecast from 30 epochs", fontsize=9)
    figure.suptitle("Forecast from three schedules, raced with ten", x=0.01, ha="left", fontsize=11, fontweight="bold")
    words = "blue: schedules that were seen in 30 epochs; brown: those that were not; 95 % intervals"
    figure.supxlabel(words, x=0.01, ha="left", fontsize=8, color="#5c6670")
    save(figure, ROOT / "docs" / "img" / "forecast.png")


if __name__ == "__main__":
    main()

"""Measures how well the ratio of best peaks holds on real runs: the transfer of a tuned rate to another schedule.

python scripts/transfer_errors.py FOLDER

FOLDER holds ``final.csv`` with the columns ``schedule``, ``decay_share``, ``peak_lr``, ``warmup_steps``, ``steps`` and
``final_val_loss``: the final losses of runs of one model at several peak rates. The best peak of a schedule is the
lowest point of the parabola through its losses over the logarithm of the rate (of least squares, where it has more than
three rates). Every pair of schedules of the same length is compared: the ratio of their best peaks, and what
``lit_lrsched.theory.transfer`` says.
"""

from __future__ import annotations

import argparse
import csv
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lit_lrsched import Horizon, Linear, OneMinusSqrt, Schedule, WarmupCosine, WarmupStableDecay
from lit_lrsched.theory import convex_bound


class Tuned(NamedTuple):
    """A schedule whose peak rate was tuned.

    Args:
        name: What it is called.
        cooldown: The share of the run that it cools down; 1 for a cosine.
        steps: The length of the runs.
        rates: At how many peak rates there are runs.
        measured: The best peak, from the losses.
        theory: The best peak of the bound, in its own units.
    """

    name: str
    cooldown: float
    steps: int
    rates: int
    measured: float
    theory: float


def main() -> None:
    """Prints the best peaks, and the errors of their ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder with final.csv")
    found = tuned(parser.parse_args().folder)
    print("| schedule | steps | rates | best peak | in theory, relative to 20 % | measured | off by |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for each in found:
        base = next(one for one in found if one.name == "linear, 20 %" and one.steps == each.steps)
        theory, measured = each.theory / base.theory, each.measured / base.measured
        off = f"{100 * (theory / measured - 1):+.0f} %" if each is not base else ""
        print(
            f"| {each.name} | {each.steps:,} | {each.rates} | {each.measured:.2e} | {theory:.2f} | {measured:.2f} "
            f"| {off} |"
        )
    print(f"\nLinear cooldowns of 10 to 40 %: off by at most {100 * worst(found):.1f} % between any two.")


def tuned(folder: Path) -> list[Tuned]:
    """Returns every schedule and length that has runs at three peak rates or more."""
    runs: dict[tuple[str, float, int, int], dict[float, float]] = defaultdict(dict)
    with (folder / "final.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            key = row["schedule"], float(row["decay_share"]), int(row["warmup_steps"]), int(row["steps"])
            runs[key][float(row["peak_lr"])] = float(row["final_val_loss"])
    found = []
    for (kind, share, warmup, steps), losses in runs.items():
        if len(losses) >= 3:
            schedule = schedule_of(kind, share, warmup)
            name = f"{kind.removeprefix('wsd ')}, {100 * share:.0f} %" if kind.startswith("wsd") else kind
            bound = convex_bound(schedule, Horizon(steps))
            found.append(Tuned(name, share, steps, len(losses), lowest(losses), bound.peak))
    return found


def schedule_of(kind: str, share: float, warmup: int) -> Schedule:
    """Returns the schedule that a row names."""
    if kind.startswith("cosine to "):
        return WarmupCosine(f"{warmup}st", end=float(kind.removeprefix("cosine to ")))
    shape = {"wsd linear": Linear(), "wsd sqrt": OneMinusSqrt()}[kind]
    return WarmupStableDecay(f"{warmup}st", f"{100 * share:g}%", shape)


def lowest(losses: Mapping[float, float]) -> float:
    """Returns the rate at the lowest point of a parabola through losses over the logarithm of the rate."""
    logs = np.log([*losses])
    curve, slope, _ = np.polyfit(logs - logs.mean(), [*losses.values()], 2)
    return math.exp(float(logs.mean() - slope / (2 * curve)))


def worst(found: Sequence[Tuned]) -> float:
    """Returns the largest error between two linear cooldowns of 10 to 40 % of runs of the same length."""
    short = [one for one in found if one.name.startswith("linear") and 0.1 <= one.cooldown <= 0.4]
    pairs = [pair for pair in combinations(short, 2) if pair[0].steps == pair[1].steps]
    return max(abs(b.theory / a.theory / (b.measured / a.measured) - 1) for a, b in pairs)


if __name__ == "__main__":
    main()

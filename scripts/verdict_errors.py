"""Measures how often the verdict of a comparison errs, and how often it finds what is there, by simulated races.

python scripts/verdict_errors.py [--races 400] [--processes 2] [--schedules 4 10] [--seeds 6 8 12 20 50]

For each number of schedules and seeds, and each kind of noise:

- false alarms: races of equal schedules, of 100, in which any is declared worse than the best, which was picked;
- found: races, of 100, in which the one better schedule is declared better than all others;
- held: races, of 100, in which the intervals of all differences from the best hold the true differences;
- "pairs" is the correction without max-T: a p for each pair, times the number of pairs still in play.
"""

from __future__ import annotations

import argparse
import os
from concurrent.futures import ProcessPoolExecutor
from itertools import product, repeat

import numpy as np

from lit_lrsched.comparison.evidence.runs import FloatArray
from lit_lrsched.comparison.evidence.significance import PATTERNS, Difference, differences_from

ALPHA = 0.05
# How many standard deviations of a run the better schedule leads by, chosen so that there is something to miss.
LEADS = {6: 3.0, 8: 2.2, 12: 1.7, 20: 1.2, 50: 0.7}
NOISES = ("independent", "shared split", "unequal", "steps of 1/52")


def values_of(noise: str, schedules: int, seeds: int, lead: float, rng: np.random.Generator) -> FloatArray:
    """Returns ``[schedules, seeds]``, the first ahead by so many standard deviations."""
    values: FloatArray = rng.normal(size=(schedules, seeds))
    if noise == "shared split":
        values += 2 * rng.normal(size=seeds)
    elif noise == "unequal":
        values[2::3] *= 4
    values[0] += lead
    if noise == "steps of 1/52":  # accuracies on 52 rows, of a standard deviation of 2 of them: ties are common
        values = np.round(2 * values)
    return values


def judged(values: FloatArray, patterns: int) -> tuple[int, dict[int, Difference]]:
    """Returns the best and how the others compare with it."""
    best = int(values.mean(axis=1).argmax())
    others = [i for i in range(len(values)) if i != best]
    found = differences_from(values[best], [values[i] for i in others], picked=True, alpha=ALPHA, patterns=patterns)
    return best, dict(zip(others, found, strict=True))


def told_apart_by_pairs(differences: dict[int, Difference]) -> set[int]:
    """Returns what a step-down of single tests tells apart, each p times the pairs left."""
    found: set[int] = set()
    left = len(differences) + 1
    for i in sorted(differences, key=lambda i: differences[i].p):
        if differences[i].p * left * (left - 1) / 2 > ALPHA:
            break
        found.add(i)
        left -= 1
    return found


def measure(noise: str, schedules: int, seeds: int, races: int, patterns: int) -> str:
    """Returns a row of the table."""
    rng = np.random.default_rng([schedules, seeds, NOISES.index(noise)])
    alarms, alarms_by_pairs, found, found_by_pairs, held = 0, 0, 0, 0, 0
    scale = 2 if noise.startswith("steps") else 1
    for _ in range(races):
        _, differences = judged(values_of(noise, schedules, seeds, 0.0, rng), patterns)
        alarms += any(d.p_corrected <= ALPHA for d in differences.values())
        alarms_by_pairs += bool(told_apart_by_pairs(differences))
        best, differences = judged(values_of(noise, schedules, seeds, LEADS[seeds], rng), patterns)
        found += best == 0 and all(d.p_corrected <= ALPHA for d in differences.values())
        found_by_pairs += best == 0 and len(told_apart_by_pairs(differences)) == schedules - 1
        true = {i: scale * LEADS[seeds] * ((i == 0) - (best == 0)) for i in differences}
        held += all(d.low is None or d.high is None or d.low <= true[i] <= d.high for i, d in differences.items())
    shares = [f"{100 * n / races:.1f}" for n in (alarms, alarms_by_pairs, held)]
    powers = [f"{100 * n / races:.0f}" for n in (found, found_by_pairs)]
    cells = [str(schedules), str(seeds), noise, *shares[:2], f"{LEADS[seeds]:g}", *powers, shares[2]]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Prints the table as Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--races", type=int, default=400, help="of each kind; the standard error of 5 %% is 1.1 %%")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--schedules", type=int, nargs="+", default=[4, 10], help="how many race")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(LEADS), choices=list(LEADS))
    parser.add_argument("--patterns", type=int, default=PATTERNS, help="the most sign patterns of a test")
    options = parser.parse_args()
    print("| schedules | seeds | noise | false alarms | by pairs | lead | found | by pairs | held |")
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    cells = list(product(options.schedules, options.seeds, NOISES))
    schedules, seeds, noises = zip(*cells, strict=True)
    with ProcessPoolExecutor(options.processes) as pool:
        for row in pool.map(measure, noises, schedules, seeds, repeat(options.races), repeat(options.patterns)):
            print(row, flush=True)


if __name__ == "__main__":
    main()

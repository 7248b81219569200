"""Measures a race with a budget against the full grid: how often each errs and finds what is there, and what it costs.

python scripts/budget_errors.py [--races 400] [--processes 2]

Races are simulated, no model is trained: a run's validation and test metric are the mean of its setting, what its seed
adds for every run (the split), and noise of standard deviation 1, of which the two metrics of a run share a half. The
mean of a setting falls from its schedule's best with the square of the distance from a rate of the schedule's own. The
decisions are those of ``compare``, with 1,999 sign patterns a test in place of 99,999.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import product

import numpy as np

from lit_lrsched.comparison.budget import spend
from lit_lrsched.comparison.evidence.looks import judge
from lit_lrsched.comparison.evidence.runs import FloatArray, Run, RunKey

SEEDS, SEEDS_OF_A_BUDGET = 20, 24  # as ``compare`` has them
ALPHA = 0.05
PATTERNS = 1_999
SHARED = 0.5  # correlation of a run's validation and test metric, beside what the seed adds
SPLIT = 2.0  # standard deviation of what a seed adds
SHARE_OF_FULL = 0.4


@dataclass(frozen=True)
class Scenario:
    """What is simulated.

    Args:
        words: Its name.
        schedules: How many schedules race.
        lead: By how many standard deviations of a run the first is better than the others, each at its best.
        rates: How many peak rates, half a decade apart.
        momenta: How many momenta; each moves the best rate by half a decade and costs 0.3.
        fall: What half a decade beyond the best rate costs; four times as much at two.
        copies: Whether all have the same best rate, as copies of one schedule have.
        ahead: How many schedules are better, all alike.
    """

    words: str
    schedules: int
    lead: float
    rates: int = 5
    momenta: int = 2
    fall: float = 1.0
    copies: bool = False
    ahead: int = 1

    @property
    def full(self) -> int:
        """Trainings of the full grid."""
        return self.schedules * self.rates * self.momenta * SEEDS


SCENARIOS = (
    Scenario("copies of one schedule", 10, 0.0, copies=True),
    Scenario("equal at their best, other rates", 10, 0.0),
    Scenario("one leads", 10, 1.2),
    Scenario("equal, flat in the rate", 10, 0.0, fall=0.2),
    Scenario("one leads, flat in the rate", 10, 1.2, fall=0.2),
    Scenario("one leads by a lot", 10, 2.0),
    Scenario("copies of one schedule", 4, 0.0, copies=True),
    Scenario("one leads", 4, 1.2),
    Scenario("half of them worse", 10, 1.0, ahead=5),
    Scenario("one leads, one momentum", 4, 1.2, momenta=1),
)


def means_of(scenario: Scenario, rng: np.random.Generator) -> FloatArray:
    """Returns the mean of every setting, ``[schedules, settings]``, 0 at the best of a schedule without a lead."""
    rates = np.arange(scenario.rates) - (scenario.rates - 1) / 2
    best = rng.uniform(-1.0, 1.0, size=1 if scenario.copies else scenario.schedules)
    best = np.broadcast_to(best, scenario.schedules)
    momenta = np.arange(scenario.momenta)[:, None]
    means: FloatArray = -scenario.fall * (rates - best[:, None, None] + momenta) ** 2 - 0.3 * momenta
    means = means.reshape(scenario.schedules, -1)
    means = np.maximum(means - means.max(axis=1, keepdims=True), -8.0)  # an untrained model is no worse
    means[: scenario.ahead] += scenario.lead
    return means


def metrics_of(means: FloatArray, seeds: int, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Returns validation and test metric of every run, ``[schedules, settings, seeds]``."""
    of_seed = SPLIT * rng.normal(size=(2, seeds))
    validation, own = rng.normal(size=(2, *means.shape, seeds))
    test = SHARED * validation + np.sqrt(1 - SHARED**2) * own
    return means[..., None] + of_seed[0] + validation, means[..., None] + of_seed[1] + test


@dataclass(frozen=True)
class Outcome:
    """How a race ended: who is tied with the best, and how many trainings it took."""

    tied: tuple[int, ...]
    trainings: int


def full_grid(validation: FloatArray, test: FloatArray) -> Outcome:
    """Returns how the full grid ends."""
    chosen = validation[..., :SEEDS].mean(axis=2).argmax(axis=1)
    values = {str(i): test[i, setting, :SEEDS] for i, setting in enumerate(chosen)}
    tied = judge(values, None, alpha=ALPHA, patterns=PATTERNS).tied(ALPHA)
    return Outcome(tuple(map(int, tied)), validation[..., :SEEDS].size)


def with_budget(validation: FloatArray, test: FloatArray, budget: int) -> Outcome:
    """Returns how a race with a budget ends."""

    def train(keys: Sequence[RunKey]) -> list[Run]:
        at = [(int(key.schedule), int(key.lr) - 1, key.seed) for key in keys]
        return [Run(key, float(validation[i]), float(test[i])) for key, i in zip(keys, at, strict=True)]

    schedules, settings, seeds = validation.shape
    keys = [
        RunKey(str(s), lr + 1.0, 0.0, 0.0, seed) for s, lr, seed in product(*map(range, (schedules, settings, seeds)))
    ]
    found = spend(keys, budget, train, mode="max", alpha=ALPHA, patterns=PATTERNS)
    return Outcome(tuple(map(int, found.tied)), found.spending.trainings)


def right(scenario: Scenario, outcome: Outcome) -> bool:
    """Returns whether a race found the one that leads, or declared nothing that is not there."""
    best = set(range(scenario.ahead)) if scenario.lead else set(range(scenario.schedules))
    return set(outcome.tied) == best if scenario.ahead == 1 and scenario.lead else best <= set(outcome.tied)


def measure(number: int, races: int, share: float) -> str:
    """Returns a row of the table."""
    scenario, rng = SCENARIOS[number], np.random.default_rng(number)
    finds = scenario.ahead == 1 and scenario.lead > 0
    rights = np.zeros(2)
    trainings = []
    for _ in range(races):
        metrics = metrics_of(means_of(scenario, rng), SEEDS_OF_A_BUDGET, rng)
        full, budget = full_grid(*metrics), with_budget(*metrics, int(share * scenario.full))
        rights += [right(scenario, full), right(scenario, budget)]
        trainings.append(budget.trainings)
    shares = rights / races if finds else 1 - rights / races
    cells = [scenario.words, str(scenario.schedules), f"{scenario.lead:g}" if scenario.lead else ""]
    for found in shares:
        text = f"{100 * found:.1f} ± {100 * np.sqrt(found * (1 - found) / races):.1f}"
        cells += ["", text] if finds else [text, ""]
    cells += [f"{scenario.full:,}", f"{np.mean(trainings):,.0f}", f"{100 * np.mean(trainings) / scenario.full:.0f} %"]
    order = [0, 1, 2, 3, 5, 4, 6, 7, 8, 9]
    return f"| {' | '.join(cells[i] for i in order)} |"


def main() -> None:
    """Prints the table as Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--races", type=int, default=400, help="of each kind")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--share", type=float, default=SHARE_OF_FULL, help="the budget, as a share of the full grid")
    parser.add_argument("--rows", type=int, nargs="*", default=range(len(SCENARIOS)), help="which rows, from 0 on")
    options = parser.parse_args()
    started = time.perf_counter()
    heads = (
        "races | schedules | lead | false alarms, full | budget | found, full | budget | full grid | trainings | of it"
    )
    print(f"| {heads} |\n|{'---|' * 10}", flush=True)
    many = len(options.rows)
    with ProcessPoolExecutor(options.processes) as pool:
        for row in pool.map(measure, options.rows, [options.races] * many, [options.share] * many):
            print(row, flush=True)
    print(f"\n{options.races} races a row, ± standard error; {time.perf_counter() - started:.0f} s.")


if __name__ == "__main__":
    main()

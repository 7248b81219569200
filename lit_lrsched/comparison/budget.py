"""Who trains next when a race has a budget: few seeds for every setting, more where the answer is open.

All settings start with two seeds. After every round, on **validation** data, a setting leaves that is clearly worse
than the best of its schedule, and so do those that are furthest behind it, as many as the budget cannot carry on. At
the looks, on **test** data, a schedule leaves that is told from the best. The next seeds go to all that stayed, until
one schedule is left, or the seeds or the budget end.

Why this leaves the test as it is in the full grid: which settings leave, and which setting stands for its schedule, is
a matter of validation data alone, by the rule of the full grid, the best mean over the seeds so far. Test data decide
at the looks alone, where each schedule is tested at the setting that stands for it then, over the same seeds as the
others. That schedules leave at a look, and seeds are added until they do, is what the shares of
:mod:`~lit_lrsched.comparison.evidence.looks` pay for.

The allocation is a function of the runs alone, whatever their order and however often the race was interrupted.

Source: Karnin, Koren and Somekh, Almost optimal exploration in multi-armed bandits (2013), for rounds of equal cost;
Maron and Moore, Hoeffding races (1994), for leaving as soon as one is clearly worse.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from lit_lrsched.comparison.evidence.looks import (
    EARLY_SEEDS,
    LEAST_SEEDS,
    Judgement,
    Round,
    Spending,
    Standing,
    judge,
    shares_of,
)
from lit_lrsched.comparison.evidence.runs import FloatArray, Mode, Run, RunKey, worst_value
from lit_lrsched.comparison.evidence.significance import PATTERNS
from lit_lrsched.errors import InputError

#: Trains runs, or looks them up, and returns them in the order of their keys.
Train = Callable[[Sequence[RunKey]], Sequence[Run]]

# How many standard errors behind its schedule's best a setting is when it leaves.
_CLEARLY = 2.5

# The share of the budget that the first round and one setting a schedule may take: the rest is for rival settings.
_PLANNED = 0.8


def check_budget(keys: Sequence[RunKey], budget: int) -> None:
    """Refuses a budget, or a number of seeds, with which schedules cannot be told apart.

    Args:
        keys: Every run of the full grid.
        budget: The most trainings.

    Raises:
        InputError: When the first round, and one look at each schedule, are beyond the budget or the seeds.
    """
    seeds, settings, schedules = ({getattr(key, of) for key in keys} for of in ("seed", "setting", "schedule"))
    first = _ladder(LEAST_SEEDS)[0]
    further = LEAST_SEEDS - first
    least = first * len(settings) + further * len(schedules)
    if len(seeds) < LEAST_SEEDS:
        raise InputError(f"seeds: {len(seeds)} cannot judge a race with a budget: give at least {LEAST_SEEDS}")
    if budget < least:
        raise InputError(
            f"budget={budget} is too small: {first} seeds for each of {len(settings)} settings and {further} more for "
            f"each of {len(schedules)} schedules take {least} trainings: give at least {least}"
        )


def spend(
    keys: Sequence[RunKey],
    budget: int,
    train: Train,
    *,
    mode: Mode,
    reference: str | None = None,
    alpha: float = 0.05,
    overlap: float | None = None,
    patterns: int = PATTERNS,
) -> Standing:
    """Trains where the answer is open, round by round, and says how the schedules stand at the end.

    Args:
        keys: Every run of the full grid; the order of the seeds in it is that in which they are used.
        budget: The most trainings, at least what :func:`check_budget` asks for.
        train: Trains the runs of a round, or looks them up, and returns them in the order of their keys.
        mode: Which way the metric is better.
        reference: The schedule that the others are held against, or None.
        alpha: Chance, for each of the two questions, of declaring any difference where there is none.
        overlap: Test rows per training row when the seeds re-split one data set; None when they do not.
        patterns: The most sign patterns of a test.

    Raises:
        InputError: For a budget or a number of seeds with which schedules cannot be told apart.
    """
    check_budget(keys, budget)
    return _Race(_Field(keys, train, mode), budget, reference, alpha, overlap, patterns).run()


def _ladder(most: int) -> list[int]:
    """Returns how many seeds settings have had after each round, up to so many.

    >>> _ladder(24)
    [2, 3, 4, 6, 8, 12, 16, 24]
    >>> _ladder(20)
    [2, 3, 4, 6, 8, 12, 16, 20]
    """
    rungs = [2]
    while rungs[-1] < most:
        power = rungs[-1].bit_length()
        rungs.append(min(most, 3 * 2 ** (power - 2) if rungs[-1] == 2 ** (power - 1) else 2**power))
    return rungs


class _Field:
    """The settings of a race, and the runs that they have had.

    Args:
        keys: Every run of the full grid.
        train: Trains runs.
        mode: Which way the metric is better.

    Attributes:
        seeds: The seeds in the order of their use.
        settings: The settings of each schedule; one stands for a setting by the key of its run with the first seed.
        count: How many settings there are.
        axes: What settings of a schedule differ in.
    """

    def __init__(self, keys: Sequence[RunKey], train: Train, mode: Mode) -> None:
        self.seeds = tuple(dict.fromkeys(key.seed for key in keys))
        self.settings: dict[str, list[RunKey]] = {}
        for key in keys:
            if key.seed == self.seeds[0]:
                self.settings.setdefault(key.schedule, []).append(key)
        everything = [setting for settings in self.settings.values() for setting in settings]
        self.count = len(everything)
        names = [field.name for field in dataclasses.fields(RunKey)]
        self.axes = [name for name in names[1:-1] if len({getattr(setting, name) for setting in everything}) > 1]
        self._train = train
        self._mode = mode
        self._runs: dict[RunKey, list[Run]] = {setting: [] for setting in everything}
        self._lost = False  # whether any run diverged
        self._worst = 0.0

    @property
    def trained(self) -> int:
        """How many trainings there were."""
        return sum(map(len, self._runs.values()))

    def train(self, settings: Sequence[RunKey], had: int, seeds: int) -> int:
        """Trains settings that have had so many seeds with the next up to so many; returns how many trainings."""
        new = self.seeds[had:seeds]
        keys = [dataclasses.replace(setting, seed=seed) for setting in settings for seed in new]
        runs = self._train(keys)
        for i, setting in enumerate(settings):
            self._runs[setting] += runs[i * len(new) : (i + 1) * len(new)]
        self._lost |= any(run.broken for run in runs)
        if self._lost:
            self._worst = worst_value([run for runs in self._runs.values() for run in runs], self._mode) or 0.0
        return len(keys)

    def broken(self, setting: RunKey) -> int:
        """Returns how many runs of a setting diverged."""
        return sum(run.broken for run in self._runs[setting])

    def validation(self, setting: RunKey) -> FloatArray:
        """Returns its validation metric, one a seed that it has had, higher is better."""
        return self._values([self._worst if run.broken else run.validation for run in self._runs[setting]])

    def test(self, setting: RunKey) -> FloatArray:
        """Returns its test metric, likewise."""
        return self._values([self._worst if run.broken else run.test for run in self._runs[setting]])

    def _values(self, found: Sequence[float]) -> FloatArray:
        return np.array(found) if self._mode == "max" else -np.array(found)


class _Race:
    """A race from its first round to its end.

    Args:
        field: What races.
        budget: The most trainings.
        reference: The schedule that the others are held against, or None.
        alpha: Chance of any false declaration.
        overlap: Test rows per training row when the seeds re-split one data set; None when they do not.
        patterns: The most sign patterns of a test.
    """

    def __init__(
        self,
        field: _Field,
        budget: int,
        reference: str | None,
        alpha: float,
        overlap: float | None,
        patterns: int,
    ) -> None:
        self._field = field
        self._budget = budget
        self._reference = reference
        self._alpha = alpha
        self._overlap = overlap
        self._patterns = patterns
        self._alive = {name: list(settings) for name, settings in field.settings.items()}
        self._chosen: dict[str, RunKey] = {}
        self._judged: dict[str, tuple[int, ...]] = {}
        self._last = Judgement((), {}, {})  # each schedule at the last look that it was at
        self._rounds: list[Round] = []

    def run(self) -> Standing:
        """Trains round by round."""
        field, had = self._field, 0
        rungs = self._plan()
        looks = sorted({*(rung for rung in rungs if rung >= EARLY_SEEDS), rungs[-1]})
        shares = dict(zip(looks, shares_of(len(looks), field.count > len(field.settings)), strict=True))
        for i, rung in enumerate(rungs):
            racing = [setting for settings in self._alive.values() for setting in settings]
            if rung not in shares and len(racing) == len(self._alive):
                continue  # nothing to tune: on to the next look
            seeds = rung if rung < rungs[-1] else min(len(field.seeds), had + self._left // len(racing))
            trainings = field.train(racing, had, seeds)
            had = seeds
            left = self._tune()
            told, out = self._look(had, shares[rung]) if rung in shares else ((), ())
            settled = rung in shares and len(self._alive) < 2
            if rung < rungs[-1] and not settled:
                left += self._cut(had, rungs[i:])
            stayed = sum(map(len, self._alive.values()))
            words = tuple(_in_words(setting, field.axes) for setting in left)
            self._rounds.append(Round(had, trainings, words, told, out, stayed, len(self._alive)))
            if settled:
                break
        ended: Literal["settled", "seeds", "budget"] = "settled"
        if len(self._alive) > 1:
            ended = "seeds" if had == len(field.seeds) else "budget"
        return Standing(
            chosen={name: setting.setting for name, setting in self._chosen.items()},
            seeds=self._judged,
            judgement=self._last,
            tied=tuple(name for name in self._last.ranked if name in self._alive),
            spending=Spending(self._budget, field.trained, field.count * had, tuple(self._rounds), ended),
        )

    @property
    def _left(self) -> int:
        return self._budget - self._field.trained

    def _plan(self) -> list[int]:
        """Returns the seeds after each round: as many as leave room for rival settings."""
        field = self._field
        ladder = _ladder(len(field.seeds))

        def cost(rung: int) -> int:
            return ladder[0] * field.count + (rung - ladder[0]) * len(field.settings)

        return [rung for rung in ladder if rung <= LEAST_SEEDS or cost(rung) <= _PLANNED * self._budget]

    def _ranked(self, settings: Sequence[RunKey]) -> list[RunKey]:
        """Returns settings by their mean validation metric, the best first, as the full grid ranks them."""

        def rank(setting: RunKey) -> tuple[float, int, RunKey]:
            return -float(self._field.validation(setting).mean()), self._field.broken(setting), setting

        return sorted(settings, key=rank) if len(settings) > 1 else list(settings)

    def _behind(self) -> dict[RunKey, FloatArray]:
        """Returns how far each rival setting is behind the best of its schedule, seed by seed."""
        found: dict[RunKey, FloatArray] = {}
        for settings in self._alive.values():
            best, *others = self._ranked(settings)
            reached = self._field.validation(best)
            found |= {other: reached - self._field.validation(other) for other in others}
        return found

    def _tune(self) -> list[RunKey]:
        """Lets the settings leave that are clearly worse than the best of their schedule, and returns them.

        The variance is the median of all settings': a handful of seeds says little about that of one.
        """
        behind = self._behind()
        if not behind:
            return []
        of_mean = [gaps.var(ddof=1) / len(gaps) for gaps in behind.values()]
        bound = _CLEARLY * math.sqrt(float(np.median(of_mean)))
        return self._without([setting for setting, gaps in behind.items() if gaps.mean() > bound])

    def _cut(self, had: int, rungs: Sequence[int]) -> list[RunKey]:
        """Lets those furthest behind leave, as many as the budget cannot carry on, and returns them.

        What is left beside one setting a schedule is shared equally among the rounds to come.
        """
        spare = self._left - len(self._alive) * (rungs[-1] - had)
        rivals = max(0, spare // (len(rungs) - 1) // (rungs[1] - had))
        behind = {setting: float(gaps.mean()) for setting, gaps in self._behind().items()}
        return self._without(sorted(behind, key=lambda setting: (behind[setting], setting))[rivals:])

    def _without(self, left: list[RunKey]) -> list[RunKey]:
        gone = set(left)
        self._alive = {n: [each for each in settings if each not in gone] for n, settings in self._alive.items()}
        return left

    def _look(self, had: int, share: float) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Judges the schedules that still race, and returns those that leave: told from the best, and diverged."""
        field, seeds = self._field, self._field.seeds[:had]
        chosen = {name: self._ranked(settings)[0] for name, settings in self._alive.items()}
        finished = {name: setting for name, setting in chosen.items() if field.broken(setting) < had}
        found = judge(
            {name: field.test(setting) for name, setting in finished.items()},
            self._reference,
            alpha=self._alpha,
            share=share,
            overlap=self._overlap,
            patterns=self._patterns,
        )
        self._chosen |= chosen
        self._judged |= dict.fromkeys(chosen, seeds)
        self._last = Judgement(
            (*found.ranked, *(name for name in self._last.ranked if name not in chosen)),
            {**{n: d for n, d in self._last.against_best.items() if n not in chosen}, **found.against_best},
            {**self._last.against_reference, **found.against_reference},
        )
        tied = found.tied(self._alpha)
        self._alive = {name: settings for name, settings in self._alive.items() if name in tied}
        told = tuple(name for name in finished if name not in tied)
        return told, tuple(name for name in chosen if name not in finished)


def _in_words(setting: RunKey, axes: Sequence[str]) -> str:
    """Returns a setting in words, by what it may differ in from others of its schedule.

    >>> _in_words(RunKey("rex", 0.3, 0.9, 0.0, 7), ["lr", "momentum"])
    'rex (lr 0.3, momentum 0.9)'
    """
    return f"{setting.schedule} ({', '.join(f'{name} {getattr(setting, name):g}' for name in axes)})"

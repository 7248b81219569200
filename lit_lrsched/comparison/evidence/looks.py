"""Schedules judged at several looks, so that the chance of a false declaration over all of them is that of one test.

A race that judges as it goes has several chances to declare what is not there. So the looks are laid down before the
first one, and each has its share of alpha: a schedule is told apart at a look when the p of that look's max-T test
(:func:`~lit_lrsched.comparison.evidence.significance.differences_from`) is at most ``alpha * share``. The shares add up
to at most 1, so the chance that any look declares a difference where there is none is at most alpha, however the looks
hang together. This is a spending function (Lan and DeMets 1983) that spends little before the last look, as O'Brien and
Fleming's does, and adds the looks up by Bonferroni's inequality, which asks for no assumption. What is shown is already
divided by the share: a p that is at most alpha, and an interval of level ``1 - alpha * share``.

Where settings are tuned, 40 % of alpha are held back. A setting that was chosen by fewer seeds than those of the full
grid is a little further from its schedule's best, and two schedules that are equal at their best then differ in truth
at the settings that stand for them. ``scripts/budget_errors.py`` measures that the shares keep the error rate so.

Source: Lan and DeMets, Discrete sequential boundaries for clinical trials (1983); O'Brien and Fleming, A multiple
testing procedure for clinical trials (1979).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from lit_lrsched.comparison.evidence.runs import FloatArray
from lit_lrsched.comparison.evidence.significance import PATTERNS, Difference, differences_from

Cell = TypeVar("Cell", bound=tuple[Any, ...])

#: The fewest seeds of the only look: it takes 7 before a sign-flip test can reach half of 0.05.
LEAST_SEEDS = 8

#: The fewest seeds of a look before the last: it takes 10 before a sign-flip test can reach a twentieth of 0.05.
EARLY_SEEDS = 12

_EARLY = 0.1  # of alpha, for all looks before the last
_HELD_BACK = 0.4  # of alpha, where settings are tuned


@dataclass(frozen=True)
class Judgement:
    """Schedules held against the best of them, and against the reference.

    Args:
        ranked: The schedules by their mean, the best first.
        against_best: The others against the best.
        against_reference: The others against the reference; empty where it does not take part.
    """

    ranked: tuple[str, ...]
    against_best: Mapping[str, Difference]
    against_reference: Mapping[str, Difference]

    def tied(self, alpha: float) -> tuple[str, ...]:
        """Returns the schedules that are not told from the best, the best first."""
        return tuple(name for i, name in enumerate(self.ranked) if not i or self.against_best[name].p_corrected > alpha)


@dataclass(frozen=True)
class Round:
    """One round of a race with a budget.

    Args:
        seeds: How many seeds each setting that raced in it has had at its end.
        trainings: How many trainings it took.
        settings: The settings that left after it, on validation data, in words.
        schedules: The schedules that left after it, told from the best on test data.
        out: The schedules that left after it, every run of theirs having diverged.
        settings_left: How many settings go on.
        schedules_left: How many schedules go on.
    """

    seeds: int
    trainings: int
    settings: tuple[str, ...]
    schedules: tuple[str, ...]
    out: tuple[str, ...]
    settings_left: int
    schedules_left: int


@dataclass(frozen=True)
class Spending:
    """What a race with a budget spent, and on what.

    Args:
        budget: Trainings that it had.
        trainings: Trainings that it took.
        full: Trainings of the full grid: every setting with as many seeds as the schedule that had the most.
        rounds: The rounds, in their order.
        ended: What ended it: the verdict was settled, or the seeds or the budget were used up.
    """

    budget: int
    trainings: int
    full: int
    rounds: tuple[Round, ...]
    ended: Literal["settled", "seeds", "budget"]


@dataclass(frozen=True, eq=False)
class Standing:
    """How the schedules of a race with a budget stand at its end.

    Args:
        chosen: The setting of each schedule, as :attr:`~lit_lrsched.comparison.evidence.runs.RunKey.setting` has it.
        seeds: The seeds that judged each schedule; none for one that was out before.
        judgement: Each schedule at its last look, all ranked: a schedule that left earlier comes later.
        tied: The schedules that are not told from the best, the best first.
        spending: What it cost.
    """

    chosen: Mapping[str, tuple[Any, ...]]
    seeds: Mapping[str, tuple[int, ...]]
    judgement: Judgement
    tied: tuple[str, ...]
    spending: Spending

    def stands(self, *setting: Any) -> bool:
        """Returns whether a setting stands for its schedule."""
        return self.chosen[setting[0]] == setting


def shares_of(looks: int, tuned: bool) -> list[float]:
    """Returns each look's share of alpha.

    Args:
        looks: How many looks there are.
        tuned: Whether schedules have several settings to choose from.

    >>> shares_of(3, tuned=True), shares_of(1, tuned=False)
    ([0.05, 0.05, 0.5], [1.0])
    """
    early = [_EARLY / (looks - 1)] * (looks - 1) if looks > 1 else []
    return [*early, round(1 - sum(early) - (_HELD_BACK if tuned else 0.0), 12)]


def judge(
    values: Mapping[str, FloatArray],
    reference: str | None,
    *,
    alpha: float,
    share: float = 1.0,
    overlap: float | None = None,
    patterns: int = PATTERNS,
) -> Judgement:
    """Judges schedules at one look.

    Args:
        values: What each schedule reached, one a seed and the same seeds for all, higher is better.
        reference: The schedule named beforehand, or None.
        alpha: Chance of any false declaration over all looks, for each of the two questions.
        share: This look's share of it; 1 for a race that is judged once.
        overlap: Test rows per training row when the seeds re-split one data set; None when they do not.
        patterns: The most sign patterns.

    >>> import numpy as np
    >>> spread = np.arange(8) % 3 / 100
    >>> values = {"rex": spread, "linear": spread[::-1] - 0.3, "step": spread * 2}
    >>> found = judge(values, None, alpha=0.05, share=0.5)
    >>> found.ranked, found.tied(0.05), found.against_best["linear"].p_corrected
    (('step', 'rex', 'linear'), ('step', 'rex'), 0.015625)
    """
    ranked = tuple(sorted(values, key=lambda name: (-values[name].mean(), name)))

    def against(other: str | None, picked: bool) -> dict[str, Difference]:
        if other is None or other not in values:
            return {}
        rivals = [name for name in ranked if name != other]
        found = differences_from(
            values[other],
            [values[name] for name in rivals],
            picked=picked,
            alpha=alpha * share,
            overlap=overlap,
            patterns=patterns,
        )
        return {name: _of_all_looks(each, share) for name, each in zip(rivals, found, strict=True)}

    return Judgement(
        ranked,
        against(ranked[0] if ranked else None, picked=True),
        against(reference, picked=False),
    )


def _of_all_looks(difference: Difference, share: float) -> Difference:
    """Returns a difference whose p's allow for the other looks."""
    resplit = difference.resplit
    return dataclasses.replace(
        difference,
        p=min(1.0, difference.p / share),
        p_corrected=min(1.0, difference.p_corrected / share),
        resplit=resplit and dataclasses.replace(resplit, p=min(1.0, resplit.p / share)),
    )


def paired_means(values: Mapping[Cell, Mapping[int, float]], standing: Standing) -> dict[Cell, float]:
    """Returns the mean of every setting over the seeds of the best schedule, though it has had fewer.

    What is not there is reckoned from pairs: a setting is as far from the one that stands for its schedule as it is
    over the seeds that both have had, and that one likewise from the best schedule's.

    Args:
        values: A metric of each setting, by seed.
        standing: Which setting stands for each schedule, and which schedule is best.
    """
    standing_for = {setting[0]: setting for setting in values if standing.stands(*setting)}

    def apart(one: Cell, other: Cell) -> float:
        common = sorted(values[one].keys() & values[other].keys())
        return math.fsum(values[one][seed] - values[other][seed] for seed in common) / len(common)

    best = standing_for[next(iter(standing.judgement.ranked), next(iter(standing_for)))]
    level = math.fsum(values[best].values()) / len(values[best])
    of_schedule = {name: level + apart(setting, best) for name, setting in standing_for.items()}
    return {setting: of_schedule[setting[0]] + apart(setting, standing_for[setting[0]]) for setting in values}

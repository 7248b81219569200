"""What the races of the evidence page say together: a score for every run, and which schedule to try first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from evidence_statistics import (
    DRAWS,
    FloatArray,
    interquartile_mean,
    interval,
    probability_of_improvement,
    with_other_seeds,
    with_other_tasks,
)
from evidence_tasks import Task

from lit_lrsched.comparison.evidence.runs import worst_value
from lit_lrsched.comparison.evidence.significance import Difference, differences_from
from lit_lrsched.comparison.race import Comparison

ALPHA = 0.05


@dataclass(frozen=True, eq=False)
class Raced:
    """The race of one task.

    Args:
        name: The task's name.
        task: The task.
        race: Its race.
        errors: The test errors of every schedule at its tuned rate, ``[schedules, seeds]``, that of Constant first.
    """

    name: str
    task: Task
    race: Comparison
    errors: FloatArray

    @property
    def scores(self) -> FloatArray:
        """How much less error each run has than Constant's of the same seed, ``[schedules, seeds]``.

        In units of Constant's mean error: 0 is as good, 1 is about no error. The two runs share the split, so that an
        easy or a hard one does not count.
        """
        return np.asarray((self.errors[0] - self.errors) / self.errors[0].mean())


@dataclass(frozen=True)
class Row:
    """A schedule over all tasks.

    Args:
        schedule: Its name.
        gain: Interquartile mean of the scores.
        by_seeds: Its 95 % interval for these tasks.
        by_tasks: Its 95 % interval for tasks of their kind.
        improvement: How probably a run is better than Constant's of the same seed, on average over tasks.
        improvement_interval: Its 95 % interval for tasks of their kind.
        first: Share of the resampled sets of tasks in which it has the highest interquartile mean.
        against_best: This schedule against the best, mean scores task by task; None for the best.
        against_constant: Likewise against Constant, which was named beforehand; None for Constant.
        tied_on: On how many tasks the race could not tell it from the best.
        peak: Its tuned peak rate over Constant's, geometric mean over tasks.
    """

    schedule: str
    gain: float
    by_seeds: tuple[float, float]
    by_tasks: tuple[float, float]
    improvement: float
    improvement_interval: tuple[float, float]
    first: float
    against_best: Difference | None
    against_constant: Difference | None
    tied_on: int
    peak: float

    @property
    def told_apart(self) -> bool:
        """Whether it is worse than the best beyond chance."""
        return self.against_best is not None and self.against_best.p_corrected <= ALPHA

    @property
    def beats_constant(self) -> bool:
        """Whether it is better than Constant beyond chance."""
        found = self.against_constant
        return found is not None and found.gain > 0 and found.p_corrected <= ALPHA


class Evidence:
    """What the races say together.

    Args:
        raced: A race for each task, all with the same schedules.
        minutes: How long one core would have worked for them.
    """

    def __init__(self, raced: Sequence[Raced], minutes: float) -> None:
        self.raced, self.minutes = raced, minutes
        self.schedules = list(raced[0].race.grid.schedules)
        self.scores = np.stack([each.scores for each in raced])

    @cached_property
    def rows(self) -> list[Row]:
        """A row for each schedule, best first."""
        gain = interquartile_mean(self.scores)
        by_tasks = interquartile_mean(with_other_tasks(self.scores))
        seeds, tasks = (interval(each) for each in (interquartile_mean(with_other_seeds(self.scores)), by_tasks))
        first = np.bincount(by_tasks.argmax(axis=1), minlength=len(gain)) / len(by_tasks)
        order = np.argsort(-gain, kind="stable").tolist()
        against_best = self._against(order[0], picked=True)
        against_constant = self._against(0, picked=False)
        drawn = np.random.default_rng(0).integers(len(self.scores), size=(DRAWS, len(self.scores)))
        rows = []
        for i in order:
            improvement = probability_of_improvement(self.scores[:, i], self.scores[:, 0])
            low, high = interval(improvement[drawn].mean(axis=1))
            rows.append(
                Row(
                    schedule=self.schedules[i],
                    gain=float(gain[i]),
                    by_seeds=(float(seeds[0][i]), float(seeds[1][i])),
                    by_tasks=(float(tasks[0][i]), float(tasks[1][i])),
                    improvement=float(improvement.mean()),
                    improvement_interval=(float(low), float(high)),
                    first=float(first[i]),
                    against_best=against_best.get(i),
                    against_constant=against_constant.get(i),
                    tied_on=sum(self.schedules[i] in each.race.summary.tied for each in self.raced),
                    peak=float(np.exp(np.mean([np.log(_peak(each, self.schedules[i])) for each in self.raced]))),
                )
            )
        return rows

    def _against(self, base: int, picked: bool) -> dict[int, Difference]:
        """Returns how all other schedules compare with one, by their mean scores, task by task."""
        means = self.scores.mean(axis=2)  # [tasks, schedules]
        others = [i for i in range(means.shape[1]) if i != base]
        found = differences_from(means[:, base], [means[:, i] for i in others], picked=picked, alpha=ALPHA)
        return dict(zip(others, found, strict=True))

    @property
    def answer(self) -> str:
        """Which schedule to try first and how sure that is, in a few sentences of Markdown."""
        best, *others = self.rows
        better = [row.schedule for row in self.rows if row.beats_constant]
        behind = [row.schedule for row in others if row.told_apart]
        if better or behind:
            told = f"Better than a constant rate beyond chance: {listed(better) or 'none'}. Worse than {best.schedule}"
            told += f" beyond chance: {listed(behind) or 'none'}."
        else:
            told = "Nothing can be told apart: no schedule is better than a constant rate beyond chance, and none is"
            told += f" worse than {best.schedule}."
        share, alike = self._also_leading
        if alike:
            first = (
                f"**Try {best.schedule} first**, or {listed(alike, 'or')}: one of these leads in {percent(share)} of"
            )
            first += f" resampled sets of tasks, {best.schedule} in {percent(best.first)}."
        else:
            first = f"**Try {best.schedule} first.** It leads in {percent(best.first)} of resampled sets of tasks."
        sentences = [
            first,
            f"{best.schedule} makes {percent(best.gain)} less test error than a constant rate,",
            f"each at its tuned peak (95 % for tasks of this kind: {_between(best.by_tasks)}).",
            f"A run beats the constant rate's with the same seed in {percent(best.improvement)} of cases",
            f"({_between(best.improvement_interval)}).",
            told,
        ]
        return " ".join(sentences)

    @property
    def _also_leading(self) -> tuple[float, list[str]]:
        """In what share of resampled sets of tasks the best leads, or one of as few others as make this 95 %."""
        best, *others = self.rows
        share, alike = best.first, set[str]()
        for row in sorted(others, key=lambda row: -row.first):
            if share >= 1 - ALPHA:
                break
            share += row.first
            alike.add(row.schedule)
        return share, [row.schedule for row in others if row.schedule in alike]


def errors_of(race: Comparison, schedules: Sequence[str]) -> FloatArray:
    """Returns the test errors of schedules at their tuned rates, ``[schedules, seeds]``.

    A diverged run counts as the worst value of the race.
    """
    results = race.results
    runs = [record.run(results.validation_metric, results.summary.metric) for record in results.records]
    worst = worst_value(runs, results.summary.mode)
    assert worst is not None  # some run of every task finishes
    chosen = {row.schedule: (row.schedule, row.lr, row.momentum, row.weight_decay) for row in results.summary.schedules}
    errors = {
        name: [
            worst if run.broken else run.test for run in sorted(runs, key=lambda run: run.key) if run.key.setting == at
        ]
        for name, at in chosen.items()
    }
    return np.array([errors[name] for name in schedules])


def percent(share: float) -> str:
    """Returns a share as text.

    >>> percent(0.123), percent(-0.04)
    ('12 %', '-4 %')
    """
    return f"{round(100 * share)} %"


def listed(names: Sequence[str], word: str = "and") -> str:
    """Returns names as words.

    >>> listed([]), listed(["a"]), listed(["a", "b", "c"], "or")
    ('', 'a', 'a, b or c')
    """
    return f" {word} ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)


def _between(ends: tuple[float, float]) -> str:
    return f"{round(100 * ends[0])} to {percent(ends[1])}"


def _peak(raced: Raced, schedule: str) -> float:
    rates = {row.schedule: row.lr for row in raced.race.summary.schedules}
    return rates[schedule] / rates["Constant"]

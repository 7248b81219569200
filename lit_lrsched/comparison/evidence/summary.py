"""What the runs of a race say: every schedule tuned, judged and compared with the others.

The numbers speak about the data at hand, over repeated splits, initial weights and batch orders (the seeds). Seeds
that re-split one data set share most of its rows, so more seeds make the answer surer for *these* data; they
do not turn it into a claim about other data. :class:`Splits` says so, and allows for it where the sizes are known.

Four choices keep the answer honest:

- **Tuned on validation, judged on test.** Each schedule's peak rate (and momentum, and weight decay) has the best mean
  validation metric; only the test metric at that setting is compared. Test data choose no setting.
- **A diverged run counts as the worst, never dropped.** It takes the worst finite value seen anywhere in the race,
  early epochs included (:func:`worst_value`): about that of an untrained model. Dropping it would reward a
  schedule for breaking down.
- **Picking the best is paid for.** The best is chosen by the same data that then test it against the others, so all
  pairs of schedules are judged together (:func:`~lit_lrsched.comparison.evidence.significance.differences_from`).
  ``scripts/verdict_errors.py`` counts what that costs and brings; docs/comparison.md has its figures.
- **Nobody wins at the edge of the grid.** A schedule that does best at the highest or lowest rate tried may do better
  beyond it, so that the race is decided only by a wider grid (:func:`open_edges`).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lit_lrsched.comparison.evidence.bootstrap import bca_interval
from lit_lrsched.comparison.evidence.edges import Edge, edge_of, wider
from lit_lrsched.comparison.evidence.looks import Spending, Standing, judge, paired_means
from lit_lrsched.comparison.evidence.runs import FloatArray, Mode, Run, mean_curve, time_to_target, worst_value
from lit_lrsched.comparison.evidence.significance import Difference


@dataclass(frozen=True)
class Splits:
    """How the seeds divide the data.

    Args:
        train: Training rows of a seed.
        test: Test rows of a seed.
        same_test: Whether all seeds have the same test rows. Otherwise they re-split one data set.
    """

    train: int
    test: int
    same_test: bool

    @property
    def overlap(self) -> float | None:
        """Test rows per training row, by which the variance of a mean is too small; None for the same test rows."""
        return None if self.same_test else self.test / self.train


@dataclass(frozen=True)
class Setting:
    """One cell of the rate x schedule map: a schedule at one peak rate, momentum and weight decay, over all seeds.

    Args:
        schedule: Name of the schedule.
        lr: Peak learning rate.
        momentum: Momentum.
        weight_decay: Weight decay.
        validation: Mean validation metric, a diverged run counted as the worst; None when no run of the race finished.
            With a budget, settings have different seeds, and the means are those of
            :func:`~lit_lrsched.comparison.evidence.looks.paired_means`.
        test: Mean test metric, likewise.
        diverged: How many of the runs diverged.
    """

    schedule: str
    lr: float
    momentum: float
    weight_decay: float
    validation: float | None
    test: float | None
    diverged: int

    @property
    def key(self) -> tuple[str, float, float, float]:
        """What tells it from the others, as :attr:`~lit_lrsched.comparison.evidence.runs.RunKey.setting` has it."""
        return self.schedule, self.lr, self.momentum, self.weight_decay


@dataclass(frozen=True)
class ScheduleSummary:
    """One schedule at the setting that its validation metric chose.

    Args:
        schedule: Name of the schedule.
        lr: The chosen peak learning rate.
        momentum: The chosen momentum.
        weight_decay: The chosen weight decay.
        edge: ``"lowest"`` or ``"highest"`` when the chosen rate is that of several tried and none of them does as well,
            so that a better one may lie outside the grid; otherwise None.
        validation: Mean validation metric, which chose the setting; None when no run finished.
        mean: Mean test metric; None when no run finished.
        low: Lower end of its BCa bootstrap interval; None for one seed.
        high: Upper end, likewise.
        worst: Test metric of the worst seed.
        worst_seed: That seed.
        diverged: How many of the runs at this setting diverged.
        epochs_to_target: Epochs after which the mean validation curve reaches the target; None when it never does.
        against_best: This schedule against the best; None for the best itself. One that left a race with a budget is
            held against the best of then, over the seeds that it has had.
        against_reference: This schedule against the reference; None for the reference itself, or without one.
        seeds: How many seeds judged it.
    """

    schedule: str
    lr: float
    momentum: float
    weight_decay: float
    edge: Edge | None
    validation: float | None
    mean: float | None
    low: float | None
    high: float | None
    worst: float | None
    worst_seed: int | None
    diverged: int
    epochs_to_target: int | None
    against_best: Difference | None
    against_reference: Difference | None
    seeds: int

    @property
    def key(self) -> tuple[str, float, float, float]:
        """Its chosen setting, as :attr:`~lit_lrsched.comparison.evidence.runs.RunKey.setting` has it."""
        return self.schedule, self.lr, self.momentum, self.weight_decay


@dataclass(frozen=True)
class Summary:
    """What the race says. ``dataclasses.asdict`` makes plain numbers, text and None of it, ready for JSON.

    Args:
        metric: Name of the metric.
        mode: ``"max"`` or ``"min"``: which way is better.
        alpha: Chance of declaring any difference where there is none, for each of the two questions (against the best,
            against the reference). Intervals have the level ``1 - alpha``.
        seeds: The seeds, ascending; with a budget those of the best.
        best: Schedule with the best mean test metric; None when every run diverged.
        tied: The schedules that the data cannot tell from the best, best first, the best included. One name: a winner.
        out: Schedules of which every run diverged. They take no part in the tests.
        reference: Schedule that the others are held against, or None.
        target: Value of the validation metric that ``epochs_to_target`` refers to, or None.
        schedules: One entry a schedule, best first, those that are out last.
        settings: The rate x schedule map.
        open_edges: The schedules whose best rate is at the edge of the grid and that may do better beyond it, so that
            the race is not decided; empty where only one schedule finished.
        wider_lrs: The rates tried and, beyond each open edge, two more in the same steps. Empty without an open edge.
        splits: How the seeds divide the data; None where that is not known.
        spending: What a budget was spent on; None for the full grid.
    """

    metric: str
    mode: Mode
    alpha: float
    seeds: tuple[int, ...]
    best: str | None
    tied: tuple[str, ...]
    out: tuple[str, ...]
    reference: str | None
    target: float | None
    schedules: tuple[ScheduleSummary, ...]
    settings: tuple[Setting, ...]
    open_edges: tuple[str, ...] = ()
    wider_lrs: tuple[float, ...] = ()
    splits: Splits | None = None
    spending: Spending | None = None


_Cell = tuple[str, float, float, float]
_Grid = dict[_Cell, list[Run]]


def _grid(runs: Sequence[Run]) -> _Grid:
    """Returns the runs of each setting by ascending seed."""
    grid: _Grid = defaultdict(list)
    for run in sorted(runs, key=lambda run: run.key):
        grid[run.key.setting].append(run)
    return grid


def _settings(grid: _Grid, worst: float | None, standing: Standing | None) -> list[Setting]:
    validation, test = (_means(grid, of, worst, standing) for of in ("validation", "test"))
    return [
        Setting(*setting, validation[setting], test[setting], sum(run.broken for run in members))
        for setting, members in grid.items()
    ]


def _means(grid: _Grid, of: str, worst: float | None, standing: Standing | None) -> Mapping[_Cell, float | None]:
    """Returns the mean metric of every setting over the seeds, a diverged run counted as the worst."""
    if worst is None:
        return dict.fromkeys(grid)
    values = {
        setting: {run.key.seed: worst if run.broken else float(getattr(run, of)) for run in members}
        for setting, members in grid.items()
    }
    if standing is not None:
        return paired_means(values, standing)
    return {setting: math.fsum(each.values()) / len(each) for setting, each in values.items()}


def _tune(settings: Sequence[Setting], mode: Mode) -> dict[str, Setting]:
    """Returns for each schedule the setting with the best mean validation metric.

    Equal means go to the fewest diverged runs, then to the lowest rate, momentum and weight decay, whatever the order
    of the runs.
    """
    sign = -1.0 if mode == "max" else 1.0

    def rank(setting: Setting) -> tuple[float, int, float, float, float]:
        axes = setting.lr, setting.momentum, setting.weight_decay
        return sign * (setting.validation or 0.0), setting.diverged, *axes

    chosen: dict[str, Setting] = {}
    for setting in sorted(settings, key=rank):
        chosen.setdefault(setting.schedule, setting)
    return chosen


def open_edges(
    chosen: Mapping[str, Setting], settings: Sequence[Setting], tied: Sequence[str], mode: Mode
) -> dict[str, Edge]:
    """Returns the schedules whose best rate is at an edge of the grid beyond which they could change the verdict.

    These are all at an edge that are tied with the best. One that is behind could still come first beyond the edge,
    unless it is far behind: what the last step towards the edge brought, brought once more, would not lift its
    validation metric to that of the best. A single rate is a choice and has no edge.

    Args:
        chosen: The chosen setting of each schedule that takes part.
        settings: The rate x schedule map.
        tied: The schedules tied with the best, the best first.
        mode: Which way the metric is better.
    """
    better = 1.0 if mode == "max" else -1.0
    best = chosen[tied[0]]
    found = {}
    for name, setting in chosen.items():
        edge = _edge(setting, settings)
        if edge is None:
            continue
        neighbor = min(_beside(setting, settings), key=lambda other: abs(math.log(other.lr / setting.lr)))
        last_step = better * ((setting.validation or 0.0) - (neighbor.validation or 0.0))
        behind = better * ((best.validation or 0.0) - (setting.validation or 0.0))
        if name in tied or behind <= last_step:
            found[name] = edge
    return found


def _edge(setting: Setting, settings: Sequence[Setting]) -> Edge | None:
    """Returns at which end of the rates tried a setting is; None inside, and where another rate does as well."""
    others = _beside(setting, settings)
    ends = [other.validation or 0.0 for other in others if not other.diverged]
    if any(math.isclose(end, setting.validation or 0.0, rel_tol=1e-9) for end in ends):
        return None
    return edge_of(setting.lr, {setting.lr, *(other.lr for other in others)})


def _beside(setting: Setting, settings: Sequence[Setting]) -> list[Setting]:
    """Returns the settings that differ in the rate alone."""
    like = (setting.schedule, setting.momentum, setting.weight_decay)
    return [s for s in settings if (s.schedule, s.momentum, s.weight_decay) == like and s.lr != setting.lr]


def _row(
    setting: Setting,
    members: Sequence[Run],
    values: FloatArray | None,
    *,
    edge: Edge | None,
    epochs: int | None,
    against_best: Difference | None,
    against_reference: Difference | None,
    mode: Mode,
    alpha: float,
) -> ScheduleSummary:
    """Returns a schedule's row: its chosen setting, the runs there, and their test metrics; None when all diverged."""
    mean = low = high = worst = worst_seed = None
    if values is not None:
        mean = float(values.mean())
        low, high = bca_interval(values, 1 - alpha) or (None, None)
        place = int(values.argmin() if mode == "max" else values.argmax())
        worst, worst_seed = float(values[place]), members[place].key.seed
    return ScheduleSummary(
        schedule=setting.schedule,
        lr=setting.lr,
        momentum=setting.momentum,
        weight_decay=setting.weight_decay,
        edge=None if values is None else edge,
        validation=None if values is None else setting.validation,
        mean=mean,
        low=low,
        high=high,
        worst=worst,
        worst_seed=worst_seed,
        diverged=setting.diverged,
        epochs_to_target=epochs,
        against_best=against_best,
        against_reference=against_reference,
        seeds=len(members),
    )


def summarize(
    runs: Sequence[Run],
    *,
    metric: str,
    mode: Mode,
    reference: str | None = None,
    target: float | None = None,
    alpha: float = 0.05,
    splits: Splits | None = None,
    standing: Standing | None = None,
) -> Summary:
    """Tunes every schedule on validation data, judges it on test data and says which differ.

    Args:
        runs: The whole race: for every schedule, rate, momentum and weight decay one run for each seed. Their order
            does not matter.
        metric: Name of the metric, for the words.
        mode: ``"max"`` or ``"min"``: which way is better.
        reference: Schedule that the others are held against, usually ``"constant"``.
        target: Validation metric for the time to target. None: where the reference ends (its mean after the last
            epoch), so that the column says how much sooner a schedule gets there; without a reference, where the last
            of the race ends.
        alpha: Chance, for each question, of declaring any difference where there is none; in (0, 1).
        splits: How the seeds divide the data, where that is known.
        standing: How the schedules of a race with a budget stand, of which these are the runs. None: they are those of
            the full grid, judged once.

    Returns:
        The summary; equal runs give an equal summary.

    >>> from lit_lrsched.comparison.evidence.runs import RunKey
    >>> runs = [
    ...     Run(RunKey(name, lr, 0.0, 0.0, seed), validation=value + 0.01 * (lr > 0.1), test=value + 0.002 * (seed % 3))
    ...     for name, value in [("constant", 0.8), ("cosine", 0.9)] for lr in (0.1, 0.3) for seed in range(8)
    ... ]
    >>> summary = summarize(runs, metric="accuracy", mode="max", reference="constant")
    >>> for row in summary.schedules:
    ...     print(f"{row.schedule:8} {row.lr} {row.edge} {row.mean:.4f} ({row.low:.4f} to {row.high:.4f})")
    cosine   0.3 highest 0.9018 (0.9008 to 0.9028)
    constant 0.3 highest 0.8018 (0.8008 to 0.8028)
    >>> summary.tied
    ('cosine',)
    """
    names = sorted({run.key.schedule for run in runs})
    grid = _grid(runs)
    worst = worst_value(runs, mode)
    settings = _settings(grid, worst, standing)
    chosen = _tune([s for s in settings if standing is None or standing.stands(*s.key)], mode)
    members = {name: grid[setting.key] for name, setting in chosen.items()}

    out = tuple(name for name in names if chosen[name].diverged == len(members[name]))
    better = 1.0 if mode == "max" else -1.0
    values: dict[str, FloatArray] = {}
    curves: dict[str, FloatArray] = {}
    if worst is not None:
        values = {n: np.array([worst if r.broken else r.test for r in members[n]]) for n in names if n not in out}
        curves = {name: mean_curve(members[name], worst) for name in names}
    judgement = (
        standing.judgement
        if standing
        else judge(
            {name: better * each for name, each in values.items()},
            reference,
            alpha=alpha,
            overlap=splits.overlap if splits else None,
        )
    )
    ranked = judgement.ranked
    best = ranked[0] if ranked else None
    tied = standing.tied if standing else judgement.tied(alpha)
    edges = open_edges({name: chosen[name] for name in ranked}, settings, tied, mode) if len(ranked) > 1 else {}

    if target is None and ranked:
        end = curves[reference if reference in values else ranked[-1]][-1:]
        target = float(end[0]) if len(end) else None
    rows = [
        _row(
            chosen[name],
            members[name],
            values.get(name),
            edge=_edge(chosen[name], settings),
            epochs=None if target is None or name in out else time_to_target(curves[name], target, mode),
            against_best=judgement.against_best.get(name),
            against_reference=judgement.against_reference.get(name),
            mode=mode,
            alpha=alpha,
        )
        for name in (*ranked, *out)
    ]
    return Summary(
        metric=metric,
        mode=mode,
        alpha=alpha,
        seeds=tuple(run.key.seed for run in members[best or names[0]]),
        best=best,
        tied=tuple(tied),
        out=out,
        reference=reference,
        target=target,
        schedules=tuple(rows),
        settings=tuple(settings),
        open_edges=tuple(edges),
        wider_lrs=wider(sorted({setting.lr for setting in settings}), list(edges.values())) if edges else (),
        splits=splits,
        spending=standing.spending if standing else None,
    )

"""The peak learning rate: many rates x seeds trained from one start, and what their losses say."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

import numpy as np

from lit_lrsched.comparison.builds import build_from, drawn_anew, untouched
from lit_lrsched.comparison.defaults import seeds_of
from lit_lrsched.comparison.definition import Definition, Part, definition_of
from lit_lrsched.comparison.described import digest_of
from lit_lrsched.comparison.engine.bare_trainer import quietly
from lit_lrsched.comparison.engine.ranks import Ranks
from lit_lrsched.comparison.engine.ray_cluster import cluster_of
from lit_lrsched.comparison.engine.setting_up import Build
from lit_lrsched.comparison.engine.training import OptimizerCallable
from lit_lrsched.comparison.export import write
from lit_lrsched.comparison.lock import alone_in
from lit_lrsched.comparison.options import Engine
from lit_lrsched.comparison.rate_arguments import Remake, remake_from
from lit_lrsched.comparison.trainer_options import check_trainer, logs_of, regime_of
from lit_lrsched.errors import InputError
from lit_lrsched.plain import plain
from lit_lrsched.schedules.core import Interval, ScheduleLike
from lit_lrsched.schedules.durations import Duration
from lit_lrsched.search.engines import SCOUTING, TRAINING_LOSS, Engines
from lit_lrsched.search.export import exported
from lit_lrsched.search.judgement import Judgement, judge
from lit_lrsched.search.options import FindOptions
from lit_lrsched.search.picture import draw, in_html
from lit_lrsched.search.rates import scouted, spread, where_something_happens
from lit_lrsched.search.subject import Subject, horizon_of, subject_of
from lit_lrsched.search.terminal import show
from lit_lrsched.search.trainings import Outcome, Trainings
from lit_lrsched.search.words import sentence, table_of
from lit_lrsched.trainer.lightning_package import (
    LightningDataModule,
    LightningModule,
    Trainer,
    rank_zero_info,
)
from lit_lrsched.trainer.schedule_config import AnySchedule

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_NOTHING = 0.01  # by how little a rate changes the loss that does nothing


@dataclass(frozen=True, eq=False, repr=False)
class Found:
    """A finished search.

    Args:
        judgement: What the losses say.
        outcome: The losses, rates x seeds.
        subject: What was trained.
        options: The options of the search.
        folder: Where the runs are kept.
        remake: Makes the module anew, other arguments given.
    """

    judgement: Judgement
    outcome: Outcome
    subject: Subject
    options: FindOptions
    folder: Path
    remake: Remake

    @property
    def lr(self) -> float:
        """The suggested rate: the largest, at most the largest safe one, whose loss cannot be told from the best's."""
        return self.judgement.suggested

    @property
    def best(self) -> float:
        """The rate with the lowest loss, by a quadratic fit."""
        return self.judgement.best

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % bootstrap interval of the best rate, over the seeds."""
        return self.judgement.interval

    @property
    def largest_safe(self) -> float:
        """The largest rate tried at and below which no seed diverged."""
        return self.judgement.largest_safe

    @cached_property
    def table(self) -> list[dict[str, Any]]:
        """One dict a rate, rising: ``lr loss low high diverged``, and another validation metric where there is one.

        ``pandas.DataFrame(found.table)`` takes it. ``loss`` is the mean over the seeds, ``low`` and ``high`` its 95 %
        interval; None where a seed diverged.
        """
        return table_of(self.outcome)

    @property
    def verdict(self) -> str:
        """The answer in one sentence."""
        return sentence(self.judgement, self.outcome.judged_by)

    def as_dict(self) -> dict[str, Any]:
        """Returns the search as plain data, for JSON.

        The keys: ``verdict``, the marks ``lr``, ``best`` and ``largest_safe``, the ``interval`` of the best, ``edge``,
        ``flat`` and ``all_safe`` as in :class:`Judgement`, ``judged_by``, the name of the loss, ``table`` and
        ``folder``.
        """
        marks = asdict(self.judgement)
        lr = marks.pop("suggested")
        about = {"judged_by": self.outcome.judged_by, "table": self.table, "folder": self.folder}
        found: dict[str, Any] = plain({"verdict": self.verdict, "lr": lr, **marks, **about})
        return found

    def plot(self, ax: Axes | None = None) -> tuple[Figure, Axes]:
        """Draws the loss against the rate, its band over the seeds, where it diverges, and the three marks.

        Args:
            ax: Where to draw; None for a figure of its own, which pyplot does not hold.

        Returns:
            The figure and its axes.
        """
        return draw(self.outcome, self.judgement, ax)

    def show(self) -> None:
        """Prints the table and the answer."""
        show(self.table, self.judgement, self.outcome.judged_by, self.outcome.metric)

    def __repr__(self) -> str:
        text = io.StringIO()
        show(self.table, self.judgement, self.outcome.judged_by, self.outcome.metric, text)
        return f"Found\n\n{text.getvalue()}"

    def _repr_html_(self) -> str:
        return in_html(self.outcome, self.judgement)

    def export(self, path: Union[str, Path], config: Mapping[str, Any] | None = None) -> None:
        """Writes a configuration with the suggested rate, ready for ``lit-lrsched fit --config``.

        Args:
            path: The file.
            config: The rest of the configuration, as plain values by option: the model, the data.

        Raises:
            InputError: When no configuration sets the rate of the module's optimizer.
        """
        content = exported(self.subject, self.lr, self.options.epochs, config or {}, self.remake)
        write(Path(path), content, [self.verdict])

    def write_csv(self, path: Union[str, Path]) -> None:
        """Writes the table as CSV."""
        with Path(path).open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(self.table[0]))
            writer.writeheader()
            writer.writerows(self.table)


def find_lr(
    model: Callable[[], LightningModule] | LightningModule,
    data: Callable[..., LightningDataModule] | LightningDataModule,
    schedule: AnySchedule | None = None,
    optimizer: OptimizerCallable | None = None,
    lrs: Sequence[float] | None = None,
    points: int = 24,
    seeds: int | Sequence[int] = 4,
    steps: Duration | None = None,
    *,
    epochs: int = 50,
    interval: Interval | None = None,
    monitor: str | None = None,
    groups: Mapping[str, ScheduleLike] | None = None,
    engine: Engine = "auto",
    trainer: Trainer | None = None,
    folder: Union[str, Path, None] = None,
    ray: str | None = None,
    ray_cpus: float | None = None,
    ray_gpus: float | None = None,
) -> Found:
    """Finds the peak learning rate: trains rates x seeds from the same start, and judges what they end with.

    All rates of a seed share the initial weights, the split and the batch order; param groups keep their ratios. Judged
    is the validation loss after the run where the module logs one, otherwise its training loss. Nothing of the
    caller's is changed: neither a module given as an instance nor the state of the random generators.

    Args:
        model: The module's class, or a function that makes one. An instance serves as the pattern for fresh ones: each
            of its layers draws its weights anew (``reset_parameters``).
        data: The data module's class, or a function that makes one. One that takes ``seed`` gets the run's seed, so
            that the split varies with it. An instance serves as the pattern.
        schedule: A schedule, a function ``(step, horizon) -> float``, or a callable that takes an optimizer and returns
            a torch scheduler. None: the module's own, or a constant rate where it has none or ``optimizer`` is given.
        optimizer: Takes parameters and returns the optimizer, in the param groups of the module's own. None: the
            module's own.
        lrs: The lowest and the highest rate, of the first param group. None: where something happens between 1e-3 and
            1e3 times the optimizer's own, which runs of a fifth of the length find out first.
        points: How many rates, evenly in log, at least 5.
        seeds: How many seeds, from 0 on, or which; at least two.
        steps: How long each run is, like ``"500st"`` or ``"20%"``: a run of that length, as ``Trainer.fit`` trains it.
            None: the whole run. Where runs are trained one by one: 100 steps at a warmed-up constant rate.
        epochs: Epochs of the whole run.
        interval: When to step the schedule. None: ``"step"`` for schedules, ``"epoch"`` for torch's.
        monitor: Metric that a metric-driven schedule follows. None: the one that it names itself.
        groups: Schedules for momentum, weight decay and single param groups: see :class:`~lit_lrsched.ScheduledLR`.
        engine: ``"vectorized"``: all runs in one program. ``"sequential"``: one ``Trainer.fit`` a run. ``"auto"``:
            vectorized where the module allows it and gains by it.
        trainer: Says where to train, on one device, how many batches an epoch has, how their gradients are accumulated
            and clipped, and the precision. What else would change training is refused. None: on the accelerator that
            is there.
        folder: Where the runs are kept. None: a folder of the trainer's ``lightning_logs`` whose name follows from the
            search, so that the same call takes an interrupted one up again.
        ray: Trains on a Ray cluster: ``"auto"`` for the one that runs, ``"local"`` for one that is started on this
            machine, or an address. None: in processes of this machine.
        ray_cpus: CPUs for each worker of the cluster. None: 1.
        ray_gpus: GPUs for each worker, at most 1. None: 1 where the trainer's accelerator is a GPU, else 0.

    Returns:
        What was found: ``found.lr`` is the rate to use.

    Raises:
        InputError: For a range that is none, too few points or seeds, a module with several optimizers or manual
            optimization, a schedule that does not follow the optimizer's rate, a seed that diverges at the lowest rate.

    Example::

        found = find_lr(IonosphereClassifier, IonosphereDataModule)
        found.lr, found.interval, found.largest_safe
    """
    options = FindOptions(
        lrs,
        points,
        seeds_of(seeds, budget=None),
        steps,
        epochs,
        engine,
        folder,
        ray,
        ray_cpus,
        ray_gpus,
    )
    with quietly():  # of accelerators and tips, which are not about the search
        trainer = trainer or Trainer(devices=1, logger=False, enable_checkpointing=False)
    said = [*check_trainer(trainer, epochs, "a search"), *drawn_anew(model)]
    build = build_from(model, data)
    return find(
        build,
        options,
        schedule=schedule,
        optimizer=optimizer,
        interval=interval,
        monitor=monitor,
        groups=groups,
        trainer=trainer,
        identity={"model": model, "data": data},
        notes=said,
        remake=remake_from(build),
        say=rank_zero_info,
    )


def find(
    build: Build,
    options: FindOptions,
    *,
    schedule: AnySchedule | None,
    optimizer: OptimizerCallable | None,
    interval: Interval | None,
    monitor: str | None,
    groups: Mapping[str, ScheduleLike] | None,
    trainer: Trainer,
    identity: Mapping[str, Any],
    notes: Sequence[str],
    remake: Remake,
    say: Callable[[str], object],
    config: Mapping[str, Any] | None = None,
) -> Found:
    """Does the work of :func:`find_lr` for whoever can build model and data from a seed.

    Args:
        build: Takes a seed, seeds everything with it, and returns the module and its data.
        options: Which rates and seeds, how long, and where to.
        schedule: The schedule; None for the module's own.
        optimizer: Takes parameters and returns the optimizer; None for the module's own.
        interval: When to step the schedule.
        monitor: Metric that a metric-driven schedule follows.
        groups: Schedules for momentum, weight decay and single param groups.
        trainer: Says where to train, which batches, and where its ``lightning_logs`` are.
        identity: What the ``model`` and the ``data`` are made from: it tells this search from others.
        notes: What else there is to say.
        remake: Makes the module anew, other arguments given.
        say: Takes what there is to say before the runs.
        config: What the rate is to be exported into; None where it is not.

    Raises:
        InputError: For what cannot be searched, or a folder that holds runs of another search.
    """
    ranks, regime = Ranks(trainer.strategy), regime_of(trainer)
    if ranks.count > 1:
        raise InputError(f"a search trains in one process, and the trainer has {ranks.count}: give it one device")
    cluster = cluster_of(options.ray, options.ray_cpus, options.ray_gpus, ranks.device)
    with untouched(), cluster or nullcontext():
        horizon = horizon_of(build, options, regime)
        subject = subject_of(
            build,
            options,
            horizon,
            schedule=schedule,
            optimizer=optimizer,
            interval=interval,
            monitor=monitor,
            groups=groups,
            regime=regime,
        )
        if config is not None:
            exported(subject, subject.grid.optimizer.lr, options.epochs, config, remake)  # refused now, not at the end
        say(" ".join([_size(options, subject.grid.optimizer.lr), subject.opening(), *notes]))
        engines = Engines(build, subject.grid, options, horizon, ranks.device, cluster)
        say(engines.opening())
        definition = _definition(build, engines, identity)
        folder = Path(options.folder or logs_of(trainer) / f"find-{_digest(definition, options)}")
        with alone_in(folder):
            low, high = (
                _range(engines, definition, folder, subject.grid.optimizer.lr, options)
                if options.lrs is None
                else options.lrs
            )
            rates = spread(low, high, options.points)
            outcome = Trainings(engines, definition, folder).train(rates, options.seeds)
    if outcome.judged_by == TRAINING_LOSS:
        say(f"{_why_not_validation(outcome)}: the training loss over the last tenth of the steps judges.")
    if outcome.diverged[0].any():
        _check_gain(outcome, engines.steps)
    return Found(judge(outcome.lrs, outcome.losses, outcome.diverged), outcome, subject, options, folder, remake)


def _why_not_validation(outcome: Outcome) -> str:
    if outcome.parts:
        return f"{', '.join(outcome.parts)} may each be a part of the loss, and the whole is not logged as val_loss"
    return "No loss or error of validation is logged"


def _check_gain(outcome: Outcome, steps: int) -> None:
    """Refuses a search in which no rate gains, so that the least loss counts as divergence, at the lowest one too."""
    losses, start = outcome.losses.mean(axis=1), float(outcome.untrained[outcome.judged_by].mean())
    does_nothing = bool(np.isclose(losses[0], start, rtol=_NOTHING, atol=0.0))
    if does_nothing and not (losses < start).any():
        raise InputError(
            f"no rate from {outcome.lrs[0]:g} to {outcome.lrs[-1]:g} brings {outcome.judged_by} below the untrained "
            f"module's, {start:.4g}, within {steps} steps: train longer, or look whether what is validated is what is "
            "trained"
        )


def _size(options: FindOptions, own: float) -> str:
    rates, seeds = options.points, len(options.seeds)
    text = f"{rates * seeds} trainings: {rates} rates x {seeds} seeds"
    if options.lrs is not None:
        return f"{text}, from {options.lrs[0]:g} to {options.lrs[1]:g}."
    tried = scouted(own, options.points)
    return f"{text}, where shorter runs from {tried[0]:g} to {tried[-1]:g} show that something happens."


def _range(
    engines: Engines, definition: Definition, folder: Path, own: float, options: FindOptions
) -> tuple[float, float]:
    """Returns the lowest and the highest rate of whole runs, by the first part of runs over six decades."""
    engines = engines.scouting()
    looked_for = Definition({**definition.parts, **_length(engines)}, definition.schedules)
    rates = scouted(own, options.points)
    outcome = Trainings(engines, looked_for, folder / "scouts").train(rates, options.seeds)
    return where_something_happens(
        outcome.lrs,
        outcome.losses.mean(axis=1),
        np.any(outcome.diverged, axis=1),
        float(outcome.untrained[outcome.judged_by].mean()),
        SCOUTING,
    )


def _length(engines: Engines) -> dict[str, Part]:
    steps = str(engines.horizon.steps)
    if engines.steps < engines.horizon.steps:
        steps = f"the first {engines.steps} of {steps}"
    return {"steps": Part(steps, digest_of(steps))}


def _definition(build: Build, engines: Engines, identity: Mapping[str, Any]) -> Definition:
    found = definition_of(build, engines.grid, engines.epochs, identity)
    return Definition({**found.parts, **_length(engines)}, found.schedules)


def _digest(definition: Definition, options: FindOptions) -> str:
    lrs = options.lrs if options.lrs is None else [*map(float, options.lrs)]
    return digest_of([definition.fingerprint, lrs, options.points, [*options.seeds]])[:8]

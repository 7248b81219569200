"""The race between schedules: trains every combination, keeps what comes out, and says which differ."""

from __future__ import annotations

import io
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

import numpy as np
import torch

from lit_lrsched.class_paths import import_from
from lit_lrsched.comparison.best_peaks import best_peaks
from lit_lrsched.comparison.budget import check_budget, spend
from lit_lrsched.comparison.builds import build_from, drawn_anew, untouched
from lit_lrsched.comparison.defaults import seeds_of
from lit_lrsched.comparison.definition import definition_of
from lit_lrsched.comparison.described import digest_of
from lit_lrsched.comparison.engine.bare_trainer import quietly
from lit_lrsched.comparison.engine.ranks import Ranks
from lit_lrsched.comparison.engine.setting_up import Build
from lit_lrsched.comparison.engine.training import OptimizerCallable
from lit_lrsched.comparison.evidence.looks import Standing
from lit_lrsched.comparison.evidence.runs import Mode, Run, RunKey
from lit_lrsched.comparison.evidence.summary import Splits, Summary, summarize
from lit_lrsched.comparison.evidence.tuning_gain import tuning_gain
from lit_lrsched.comparison.evidence.verdict import few_seeds_in_words, verdict
from lit_lrsched.comparison.export import export_best
from lit_lrsched.comparison.grid import Grid, grid_of
from lit_lrsched.comparison.lock import alone_in
from lit_lrsched.comparison.options import Engine, RaceOptions
from lit_lrsched.comparison.rate_arguments import Remake, remake_from
from lit_lrsched.comparison.records import Record
from lit_lrsched.comparison.report.notebook import in_html
from lit_lrsched.comparison.report.pictures import forest_plot
from lit_lrsched.comparison.report.results import Results
from lit_lrsched.comparison.report.table import table_of
from lit_lrsched.comparison.report.terminal import show
from lit_lrsched.comparison.report.words import counted
from lit_lrsched.comparison.report.write import summary_dict, write_report
from lit_lrsched.comparison.runner import Runner
from lit_lrsched.comparison.splits import splits_of
from lit_lrsched.comparison.trainer_options import check_trainer, logs_of, regime_of
from lit_lrsched.errors import InputError, did_you_mean
from lit_lrsched.plain import plain
from lit_lrsched.plans.console import filled
from lit_lrsched.schedules.core import Interval, ScheduleLike
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


_IN_REPR = 8  # schedules, for one screen


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """A finished race.

    Args:
        results: Every run and what they say together.
        folder: Where ``results.csv``, ``curves.npz``, ``summary.json``, ``report.html`` and the pictures are.
        grid: What raced.
        remake: Makes the module anew, other arguments given.
    """

    results: Results
    folder: Path
    grid: Grid
    remake: Remake

    @property
    def summary(self) -> Summary:
        """What the runs say: means, intervals, tests and the tied set."""
        return self.results.summary

    @property
    def verdict(self) -> tuple[str, str]:
        """The same in two sentences."""
        return verdict(self.summary)

    @property
    def table(self) -> list[dict[str, Any]]:
        """One dict a schedule, best first, of plain numbers and text: ``pandas.DataFrame(race.table)`` takes it.

        The keys are the fields of :class:`~lit_lrsched.comparison.evidence.summary.ScheduleSummary`, with the two
        comparisons spelled out: ``gain``, ``gain_low``, ``gain_high`` and ``p`` against the best,
        ``gain_over_reference`` and ``p_over_reference`` against the reference, p's corrected; None where there is no
        number. ``tied`` says whether the data cannot tell the schedule from the best.
        """
        return table_of(self.summary)

    def as_dict(self) -> dict[str, Any]:
        """Returns the race as plain data, for JSON: what ``summary.json`` holds, ``table`` and ``folder``."""
        found: dict[str, Any] = plain({**summary_dict(self.results), "table": self.table, "folder": self.folder})
        return found

    def plot(self, ax: Axes | None = None) -> tuple[Figure, Axes]:
        """Draws the paired differences from the best, each with its simultaneous interval.

        Args:
            ax: Where to draw; None for a figure of its own, which pyplot does not hold.

        Returns:
            The figure and its axes.

        Raises:
            InputError: When fewer than two schedules finished.
        """
        if sum(row.mean is not None for row in self.summary.schedules) < 2:
            raise InputError("fewer than two schedules finished, so there is no difference to draw: see table")
        return forest_plot(self.summary, ax)

    def __repr__(self) -> str:
        text = io.StringIO()
        show(self.summary, text, most=_IN_REPR)
        more = len(self.summary.schedules) - _IN_REPR
        rest = f"\n{more} more in table; " if more > 0 else "\n"
        return f"Comparison\n\n{text.getvalue()}{rest}the report: {self.folder / 'report.html'}"

    def _repr_html_(self) -> str:
        return in_html(self.summary)

    def show(self) -> None:
        """Prints the table and the verdict."""
        show(self.summary)
        if self.results.gain:
            print()
            print(filled(str(self.results.gain)))

    def export(self, path: Union[str, Path], config: Mapping[str, Any] | None = None) -> None:
        """Writes the winning configuration, ready for ``lit-lrsched fit --config``.

        Raises:
            InputError: When every run diverged, the schedule is a function that no import path leads to, or no
                configuration says what won: param groups of a module's optimizer, or its schedule at another rate.
        """
        export_best(Path(path), self.summary, self.grid, self.results.epochs, config or {}, self.remake)


@untouched()
def compare(
    model: Callable[[], LightningModule] | LightningModule,
    data: Callable[..., LightningDataModule] | LightningDataModule,
    schedules: Mapping[str, AnySchedule],
    *,
    lrs: Sequence[float] | None = None,
    momenta: Sequence[float | None] = (None,),
    weight_decays: Sequence[float | None] = (None,),
    seeds: int | Sequence[int] | None = None,
    optimizer: OptimizerCallable | None = None,
    epochs: int = 50,
    metric: str = "val_acc",
    mode: Mode | None = None,
    reference: str | None = None,
    target: float | None = None,
    interval: Interval | None = None,
    monitor: str | None = None,
    groups: Mapping[str, ScheduleLike] | None = None,
    engine: Engine = "auto",
    compile: bool | None = None,
    trainer: Trainer | None = None,
    folder: Union[str, Path, None] = None,
    budget: int | None = None,
    ray: str | None = None,
    ray_cpus: float | None = None,
    ray_gpus: float | None = None,
) -> Comparison:
    """Trains schedules x peak learning rates (x momenta) x seeds and says which schedules differ.

    Runs with the same seed share the split, the initial weights and the batch order. Each schedule is tuned over the
    same peak rates on validation data, and judged on test data that chose nothing.

    Args:
        model: The module's class, or a function that makes one. An instance serves as the pattern for fresh ones: each
            of its layers draws its weights anew (``reset_parameters``).
        data: The data module's class, or a function that makes one. One that takes ``seed`` gets the run's seed, so
            that the split varies with it. An instance serves as the pattern.
        schedules: What races, by name: schedules, functions ``(step, horizon) -> float``, or callables that take an
            optimizer and return a torch scheduler. The schedule that the module brings joins them as ``own``, unless
            the module takes its schedule as an argument ``lr_scheduler``. At another peak rate its rates scale in
            proportion.
        lrs: Peak learning rates; of the first param group, to which the others keep their ratio. None: 0.1, 0.3, 1, 3
            and 10 times the optimizer's own, or 0.03 to 3 for the worked example with SGD.
        momenta: Momenta, or first betas; None is the optimizer's own.
        weight_decays: Weight decays of the first param group that has one; the others keep their ratio to it, and those
            with 0 keep 0. None is the optimizer's own.
        seeds: How many seeds, from 0 on, or which; with a budget the most that a setting may get. None: 20, and 24
            with a budget.
        optimizer: Takes parameters and returns the optimizer, in the param groups of the module's own. None: the
            module's own, as ``configure_optimizers`` returns it, with its settings. Vectorized: SGD, Adam, AdamW,
            NAdam, RMSprop, Adagrad and, where torch has it, Muon.
        epochs: Epochs of each training.
        metric: The metric after the last epoch that tunes, such as ``val_acc``; ``test_acc`` then judges.
        mode: ``"max"`` when the metric should be high, ``"min"`` when it should be low. None: as its name tells.
        reference: The schedule that the others are held against. None: the one called ``constant``, if it races.
        target: Validation metric for the time to target. None: where the reference ends.
        interval: When to step the schedules. None: ``"step"`` for schedules, ``"epoch"`` for torch's.
        monitor: Metric that metric-driven schedules follow. None: the one that they name themselves.
        groups: Schedules for momentum, weight decay and single param groups, beside every schedule but the module's
            own: see :class:`~lit_lrsched.ScheduledLR`.
        engine: ``"vectorized"``: all runs in one program. ``"sequential"``: one ``Trainer.fit`` a run. ``"auto"``:
            vectorized where the module allows it and gains by it.
        compile: Whether to compile the vectorized program. None: where that pays for itself.
        trainer: Says where to train: on its accelerator and, with a strategy like ``ddp``, on several devices, each
            of which takes its share of the runs; how many batches an epoch has, how their gradients are accumulated
            and clipped, and the precision. What else would change training is refused. None: on the accelerator that
            is there.
        folder: Where the results go. None: a folder of the trainer's ``lightning_logs`` whose name follows from the
            race, so that the same call takes an interrupted race up again.
        budget: The most trainings. Seeds are then added where the answer is open: settings that are clearly worse on
            validation data leave, and so do schedules that are told from the best. The same folder with a larger
            budget goes on. None: the full grid.
        ray: Trains on a Ray cluster: ``"auto"`` for the one that runs, ``"local"`` for one that is started on this
            machine, or an address such as ``"10.0.0.1:6379"``. None: in processes of this machine.
        ray_cpus: CPUs for each worker of the cluster; a fraction shares one. None: 1.
        ray_gpus: GPUs for each worker, at most 1; a fraction shares one. None: 1 where the trainer's accelerator is a
            GPU, else 0.

    Returns:
        The comparison; its folder holds the report.

    Raises:
        InputError: For an empty grid, a budget that cannot tell schedules apart, an unknown metric, one whose name
            does not tell which way is better when no mode does, a module with several optimizers or manual
            optimization, or one that ``engine="vectorized"`` cannot train.

    Example::

        race = compare(IonosphereClassifier, IonosphereDataModule, {"constant": Constant(), "cosine": Cosine()})
        race.show()
    """
    options = RaceOptions(
        *(epochs, metric, mode, reference, target, engine, compile, folder, budget),
        ray=ray,
        ray_cpus=ray_cpus,
        ray_gpus=ray_gpus,
    )
    build = build_from(model, data)
    with quietly():  # of accelerators and tips, which are not about the race
        trainer = trainer or Trainer(devices=1, logger=False, enable_checkpointing=False)
    said = [*check_trainer(trainer, epochs, "a race"), *drawn_anew(model)]
    grid = grid_of(
        build,
        schedules,
        lrs=lrs,
        momenta=momenta,
        seeds=seeds_of(seeds, budget),
        optimizer=optimizer,
        epochs=epochs,
        interval=interval,
        monitor=monitor,
        weight_decays=weight_decays,
        groups=groups,
        regime=regime_of(trainer),
    )
    rank_zero_info(" ".join([grid.opening(), *said]))
    return race(
        grid,
        build,
        options,
        identity={"model": model, "data": data},
        trainer=trainer,
        remake=remake_from(build),
    )


def race(
    grid: Grid,
    build: Build,
    options: RaceOptions,
    *,
    identity: Mapping[str, Any],
    trainer: Trainer,
    remake: Remake,
    command: str = "compare() in Python",
) -> Comparison:
    """Does the work of :func:`compare` for whoever can build model and data from a seed.

    Args:
        grid: What races.
        build: Takes a seed, seeds everything with it, and returns the module and its data.
        options: How long, judged by what, and where to.
        identity: What the ``model`` and the ``data`` are made from: it tells this race from others.
        trainer: Says where to train, in which processes, and where its ``lightning_logs`` are.
        remake: Makes the module anew, other arguments given.
        command: What the report calls the command.

    Raises:
        InputError: When the reference does not race, or the folder holds runs of another race.
    """
    reference = _reference(grid, options)
    if options.budget is not None:
        check_budget(grid.keys(), options.budget)
    definition = definition_of(build, grid, options.epochs, identity)
    folder = Path(options.folder or logs_of(trainer) / f"compare-{_digest(definition.fingerprint, grid)}")
    warning = few_seeds_in_words(len(grid.schedules), len(grid.seeds))
    if warning and options.budget is None and trainer.is_global_zero:
        print(warning)
    ranks = Ranks(trainer.strategy)
    if options.budget is not None and ranks.count > 1:
        raise InputError(
            f"budget={options.budget} is spent round by round in one process, and the trainer has {ranks.count}: give "
            "it one device, or leave budget out"
        )
    runner = Runner(grid, build, definition, options, folder, ranks)
    splits = splits_of(build, grid.seeds, grid.regime)
    if options.budget is None:
        records, standing = runner.train(sorted(grid.keys())), None
    else:
        records, standing = _spend(options.budget, grid, options, runner, reference, splits)
    runs = [record.run(options.metric, options.test_metric) for record in records]
    summary = summarize(
        runs,
        metric=options.test_metric,
        mode=options.direction,
        reference=reference,
        target=options.target,
        splits=splits,
        standing=standing,
    )
    results = Results(
        records=records,
        summary=summary,
        # With a budget the setting that one starts from may have had two seeds, which show nothing.
        gain=None
        if standing
        else tuning_gain(
            runs,
            summary,
            lr=grid.optimizer.lr,
            momentum=grid.optimizer.momentum,
            weight_decay=grid.optimizer.weight_decay,
        ),
        validation_metric=options.metric,
        factors=_factors(records, summary),
        best_peaks=best_peaks(grid, runner.horizon()),
        epochs=options.epochs,
        model=definition.parts["model"].words,
        data=definition.parts["data"].words,
        optimizer=grid.optimizer.func.__name__,
        opening=grid.opening(),
        engine=runner.engine,
        reason=runner.reason,
        machine=f"{os.cpu_count()} x {platform.machine()}, torch {torch.__version__} on {runner.where}",
        seconds=runner.seconds,
        trained=runner.trained,
        command=command,
        version=import_from("lit_lrsched.__version__"),
        date=date.today().isoformat(),
    )
    if trainer.is_global_zero:
        with alone_in(folder):
            write_report(results, folder)
    return Comparison(results, folder, grid, remake)


def _spend(
    budget: int, grid: Grid, options: RaceOptions, runner: Runner, reference: str | None, splits: Splits | None
) -> tuple[list[Record], Standing]:
    """Trains round by round where the answer is open; returns the records of this race and how it stands."""
    records: dict[RunKey, Record] = {}

    def train(keys: Sequence[RunKey]) -> list[Run]:
        seeds, settings = len({key.seed for key in keys}), len({key.setting for key in keys})
        rank_zero_info(f"{len(keys)} trainings: {settings} settings x {counted(seeds, 'seed')}.")
        found = runner.train(keys)
        records.update(zip(keys, found, strict=True))
        return [record.run(options.metric, options.test_metric) for record in found]

    standing = spend(
        grid.keys(),
        budget,
        train,
        mode=options.direction,
        reference=reference,
        overlap=splits.overlap if splits else None,
    )
    return [records[key] for key in sorted(records)], standing


def _reference(grid: Grid, options: RaceOptions) -> str | None:
    reference = options.reference
    if reference is None:
        return "constant" if "constant" in grid.schedules else None
    if reference not in grid.schedules:
        known = ", ".join(grid.schedules)
        raise InputError(
            f"reference={reference!r} does not race{did_you_mean(reference, grid.schedules)}: name one of {known}"
        )
    return reference


def _digest(fingerprint: str, grid: Grid) -> str:
    axes = [grid.lrs, grid.momenta, grid.weight_decays, grid.seeds]
    return digest_of([fingerprint, *map(list, axes)])[:8]


def _factors(records: Sequence[Record], summary: Summary) -> dict[str, list[float]]:
    """Returns for each schedule the factor used in each epoch, on average over the seeds of its chosen setting.

    A run that broke off logged none, and there is none where all of these did.
    """
    factors = {}
    for row in summary.schedules:
        used = [
            rates / record.key.lr
            for record in records
            if record.key.setting == row.key and (rates := record.curves.get("lr")) is not None and len(rates)
        ]
        factors[row.schedule] = [float(value) for value in np.mean(used, axis=0)] if used else []
    return factors

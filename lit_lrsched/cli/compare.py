"""The subcommand ``compare``: the race between schedules."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, Optional, Union

from jsonargparse import ArgumentParser

from lit_lrsched.class_paths import to_plain
from lit_lrsched.cli.arguments import ScheduleOptions, SchedulesOption
from lit_lrsched.cli.json_document import add_json, print_json
from lit_lrsched.cli.outputs import check_can_be_written
from lit_lrsched.cli.typed import fit_with, typed
from lit_lrsched.errors import InputError
from lit_lrsched.plans.console import filled
from lit_lrsched.plans.preview import by_name
from lit_lrsched.trainer.lightning_package import LightningDataModule, LightningModule, Trainer

if TYPE_CHECKING:
    from lit_lrsched.comparison.race import Comparison
    from lit_lrsched.comparison.rate_arguments import Remake

SUMMARY = "Race schedules against each other over peak rates and seeds, and say which differ."


def add_arguments(parser: ArgumentParser) -> list[str]:
    """Adds the options of the race to a parser, and returns their names."""
    given = {"trainer", "model", "datamodule", "build", "remake", "parts", "options"}  # by the command, not by options
    added = parser.add_function_arguments(compare, skip={*given, "compile", "json"})
    parser.add_argument(
        "--compile",
        type=Optional[bool],
        nargs="?",
        const=True,
        help="Whether to compile the vectorized program. Default: where it pays for itself.",
    )
    add_json(parser)
    return [*added, "compile", "json"]


def compare(
    trainer: Trainer,
    model: LightningModule,
    datamodule: Optional[LightningDataModule],
    build: Callable[[int], tuple[LightningModule, LightningDataModule]],
    remake: Remake,
    parts: dict[str, Any],
    options: ScheduleOptions,
    *,
    schedules: SchedulesOption = None,
    lrs: Optional[list[float]] = None,
    momenta: Optional[list[float]] = None,
    weight_decays: Optional[list[float]] = None,
    seeds: Union[int, list[int], None] = None,
    budget: Optional[int] = None,
    metric: str = "val_acc",
    mode: Optional[Literal["min", "max"]] = None,
    reference: Optional[str] = None,
    target: Optional[float] = None,
    engine: Literal["auto", "vectorized", "sequential"] = "auto",
    compile: Optional[bool] = None,
    folder: Optional[str] = None,
    ray: Optional[str] = None,
    ray_cpus: Optional[float] = None,
    ray_gpus: Optional[float] = None,
    export: Optional[str] = None,
    json: bool = False,
) -> None:
    """Races every schedule over the same peak rates and seeds, and says which differ by more than luck.

    Each schedule is tuned on validation data and judged on test data. The same command takes an interrupted race
    up again. ``--trainer.max_epochs`` sets the length of each training. The module keeps its optimizer, unless
    ``--optimizer`` gives another, and its own schedule races too, as ``own``; what races is said first.

    Args:
        trainer: The trainer, whose length and strategy the race has.
        model: The module to train.
        datamodule: The data to train it on; one that takes ``seed`` is split anew for every seed.
        build: Makes model and data from a seed.
        remake: Makes the same, some arguments of the model changed.
        parts: What the configuration says of ``model`` and ``data``, and what else was given for ``fit``.
        options: The schedule options of the command line.
        schedules: What races, by name or as a list. Default: the tutorial's four and six from the catalogue. That
            of --lr_scheduler races too, and the model's own, whose rates keep their proportion at every peak rate.
        lrs: Peak learning rates. Default: 0.1, 0.3, 1, 3 and 10 times the optimizer's own; 0.03 to 3 for the worked
            example with SGD.
        momenta: Momenta. Default: the optimizer's own; 0 and 0.9 for the worked example with SGD.
        weight_decays: Weight decays of the first param group that has one; the others keep their ratio to it, and
            those with 0 keep 0. Default: the optimizer's own.
        seeds: How many seeds, or which. Default: 20; with --budget at most 24.
        budget: The most trainings. Seeds are added where the answer is open; what is clearly worse leaves.
        metric: The logged metric that tunes, such as val_acc; test_acc then judges.
        mode: max when the metric should be high, min when it should be low. Default: as its name tells.
        reference: The schedule to hold the others against. Default: the one called constant.
        target: Validation metric for the time to target. Default: where the reference ends.
        engine: All runs in one program (vectorized), or one Trainer.fit a run (sequential).
        compile: Whether to compile the vectorized program. Default: where it pays for itself.
        folder: Where the results go. Default: a folder of lightning_logs named after the race.
        ray: The Ray cluster that trains: auto for the one that runs, local for one on this machine, or an address.
        ray_cpus: CPUs for each worker of the cluster; a fraction shares one. Default: 1.
        ray_gpus: GPUs for each worker, at most 1; a fraction shares one. Default: 1 if the accelerator is a GPU.
        export: File for the winning configuration, ready for fit --config.
        json: Prints the answer as one JSON document, and everything else on standard error.

    Raises:
        InputError: For an empty grid or an unknown metric.
    """
    from lit_lrsched.comparison import defaults
    from lit_lrsched.comparison.grid import grid_of
    from lit_lrsched.comparison.options import RaceOptions
    from lit_lrsched.comparison.race import race
    from lit_lrsched.comparison.report.words import counted
    from lit_lrsched.comparison.trainer_options import check_trainer, regime_of

    check_can_be_written(export=export)
    epochs = trainer.max_epochs or 0
    race_options = RaceOptions(
        *(epochs, metric, mode, reference, target, engine, compile, folder, budget),
        ray=ray,
        ray_cpus=ray_cpus,
        ray_gpus=ray_gpus,
    )
    if datamodule is None:
        raise InputError("a race needs data with a test part: give --data")
    said = check_trainer(trainer, epochs, "a race")
    default = defaults.schedules_of(metric, mode, groups=bool(options.lr_groups))
    grid = grid_of(
        build,
        _racing(default if schedules is None else by_name(schedules), options.lr_scheduler),
        lrs=lrs,
        momenta=momenta,
        seeds=defaults.seeds_of(seeds, budget),
        optimizer=options.optimizer,
        epochs=epochs,
        interval=options.lr_interval,
        monitor=options.lr_monitor,
        weight_decays=weight_decays,
        groups=options.lr_groups,
        regime=regime_of(trainer),
    )
    if export is not None:
        grid.check_export()  # before the race and not after it
    if trainer.is_global_zero:
        seeds_in_words, length = counted(len(grid.seeds), "seed"), counted(epochs, "epoch")
        if budget is None:
            print(f"{counted(len(grid.keys()), 'training')}: {grid.size()} x {seeds_in_words}, {length} each.")
        else:
            print(f"At most {budget} trainings: {grid.size()} x up to {seeds_in_words}, {length} each.")
        print(filled(" ".join([grid.opening(), *said])))
        print(f"{metric} tunes: {'higher' if race_options.direction == 'max' else 'lower'} is better.")
    finished = race(
        grid,
        build,
        race_options,
        identity=parts,
        trainer=trainer,
        remake=remake,
        command=typed(),
    )
    if trainer.is_global_zero:
        _tell(finished)
        if export is not None:
            finished.export(export, parts)
            print(f"The best: {fit_with(export)}")
        if json:
            print_json(finished.as_dict())


def _racing(schedules: dict[str, Any], given: Any) -> dict[str, Any]:
    """Returns the schedules that race: these, and the one that ``fit`` would use if it was given."""
    if given is None or any(to_plain(given) == to_plain(schedule) for schedule in schedules.values()):
        return schedules
    (name,) = by_name([given])
    return {**schedules, (f"{name} (--lr_scheduler)" if name in schedules else name): given}


def _tell(finished: Comparison) -> None:
    from lit_lrsched.comparison.evidence.words import exactly

    finished.show()
    if finished.summary.wider_lrs:
        print(f"The wider grid: --lrs '[{', '.join(map(exactly, finished.summary.wider_lrs))}]'")
    print(f"Report: {finished.folder / 'report.html'}")
    print(f"TensorBoard: tensorboard --logdir {shlex.quote(str(finished.folder / 'tensorboard'))}")

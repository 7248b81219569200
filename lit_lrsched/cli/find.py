"""The subcommand ``find``: the peak learning rate."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Optional, Union

from jsonargparse import ArgumentParser

from lit_lrsched.cli.arguments import ScheduleOptions
from lit_lrsched.cli.json_document import add_json, print_json
from lit_lrsched.cli.outputs import check_can_be_written
from lit_lrsched.cli.typed import fit_with
from lit_lrsched.errors import InputError
from lit_lrsched.plans.console import filled
from lit_lrsched.plans.figures import save
from lit_lrsched.trainer.lightning_package import LightningDataModule, LightningModule, Trainer

if TYPE_CHECKING:
    from lit_lrsched.comparison.rate_arguments import Remake

SUMMARY = "Find the peak learning rate: many rates, several seeds, a band."


def add_arguments(parser: ArgumentParser) -> list[str]:
    """Adds the options of the search to a parser, and returns their names."""
    given = {"trainer", "model", "datamodule", "build", "remake", "parts", "options"}  # by the command, not by options
    added: list[str] = parser.add_function_arguments(find, skip={*given, "json"})
    add_json(parser)
    return [*added, "json"]


def find(
    trainer: Trainer,
    model: LightningModule,
    datamodule: Optional[LightningDataModule],
    build: Callable[[int], tuple[LightningModule, LightningDataModule]],
    remake: Remake,
    parts: dict[str, Any],
    options: ScheduleOptions,
    *,
    lrs: Optional[list[float]] = None,
    points: int = 24,
    seeds: Union[int, list[int]] = 4,
    steps: Optional[str] = None,
    engine: Literal["auto", "vectorized", "sequential"] = "auto",
    folder: Optional[str] = None,
    ray: Optional[str] = None,
    ray_cpus: Optional[float] = None,
    ray_gpus: Optional[float] = None,
    export: Optional[str] = None,
    csv: Optional[str] = None,
    png: Optional[str] = "find.png",
    json: bool = False,
) -> None:
    """Trains many rates over several seeds from the same start, and says which peak learning rate to use.

    Each run is what ``fit`` would train with the same options, for ``--trainer.max_epochs``, at another rate. The same
    command takes an interrupted search up again.

    Args:
        trainer: The trainer, whose length and device the runs have.
        model: The module to train.
        datamodule: The data to train it on; one that takes ``seed`` is split anew for every seed.
        build: Makes model and data from a seed.
        remake: Makes the same, some arguments of the model changed.
        parts: What the configuration says of ``model`` and ``data``, and what else was given for ``fit``.
        options: The schedule options of the command line, where the model does not take them itself.
        lrs: The lowest and the highest rate, of the first param group. Default: where something happens between
            1e-3 and 1e3 times the optimizer's own, which runs of a fifth of the length find out first.
        points: How many rates, evenly in log.
        seeds: How many seeds, or which; at least two.
        steps: How long each run is, like 500st or 20%. Default: the whole run; where runs are trained one by one, 100
            steps at a warmed-up constant rate.
        engine: All runs in one program (vectorized), or one Trainer.fit a run (sequential).
        folder: Where the runs are kept. Default: a folder of lightning_logs named after the search.
        ray: The Ray cluster that trains: auto for the one that runs, local for one on this machine, or an address.
        ray_cpus: CPUs for each worker of the cluster; a fraction shares one. Default: 1.
        ray_gpus: GPUs for each worker, at most 1; a fraction shares one. Default: 1 if the accelerator is a GPU.
        export: File for the configuration with the rate that was found, ready for fit --config.
        csv: File for the table.
        png: File for the picture: PNG, PDF or SVG, as its name ends.
        json: Prints the answer as one JSON document, and everything else on standard error.

    Raises:
        InputError: For a range, a number or a length that says nothing.
    """
    from lit_lrsched.comparison.defaults import seeds_of
    from lit_lrsched.comparison.trainer_options import check_trainer
    from lit_lrsched.search.find import find as search
    from lit_lrsched.search.options import FindOptions

    check_can_be_written(export=export, csv=csv, png=png)
    epochs = trainer.max_epochs or 0
    if datamodule is None:
        raise InputError("a search builds its data anew for every seed: give --data")
    said = check_trainer(trainer, epochs, "a search")
    found = search(
        build,
        FindOptions(lrs, points, seeds_of(seeds, None), steps, epochs, engine, folder, ray, ray_cpus, ray_gpus),
        schedule=options.lr_scheduler,
        optimizer=options.optimizer,
        interval=options.lr_interval,
        monitor=options.lr_monitor,
        groups=options.lr_groups,
        trainer=trainer,
        identity=parts,
        notes=said,
        remake=remake,
        config=None if export is None else parts,
        say=lambda text: print(filled(text)),
    )
    found.show()
    if png is not None:
        save(found.plot()[0], Path(png))
        print(f"Picture: {png}")
    if csv is not None:
        found.write_csv(csv)
        print(f"The table: {csv}")
    if export is not None:
        found.export(Path(export), parts)
        print(f"To train: {fit_with(export)}")
    if json:
        print_json(found.as_dict())

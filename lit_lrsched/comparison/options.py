"""The options of a race: how long its runs are, what judges them, and how and where they are trained."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Union, get_args

from lit_lrsched.comparison.evidence.runs import Mode
from lit_lrsched.errors import InputError
from lit_lrsched.schedules.checks import check_choice
from lit_lrsched.schedules.direction import direction_for
from lit_lrsched.trainer.metric_names import on_test_data

Engine = Literal["auto", "vectorized", "sequential"]


@dataclass(frozen=True)
class RaceOptions:
    """The options of a race, besides what races: that is the :class:`~lit_lrsched.comparison.grid.Grid`.

    Args:
        epochs: Epochs of each training.
        metric: The metric after the last epoch that tunes, such as ``val_acc``; ``test_acc`` then judges.
        mode: ``"max"`` when the metric should be high, ``"min"`` when it should be low. None: as its name tells.
        reference: The schedule that the others are held against. None: the one called ``constant``, if it races.
        target: Validation metric for the time to target. None: where the reference ends.
        engine: ``"vectorized"``: all runs in one program. ``"sequential"``: one ``Trainer.fit`` a run. ``"auto"``:
            vectorized where the module allows it and gains by it.
        compile: Whether to compile the vectorized program. None: where that pays for itself.
        folder: Where the results go. None: a folder of ``lightning_logs`` whose name follows from the race.
        budget: The most trainings; seeds are added where the answer is open. None: the full grid.
        ray: The Ray cluster that trains: ``"auto"`` for the one that runs, ``"local"`` for one on this machine, or an
            address. None: the processes of this machine.
        ray_cpus: CPUs for each worker of the cluster, a fraction or a whole number. None: 1.
        ray_gpus: GPUs for each worker, at most 1. None: 1 where the trainer's accelerator is a GPU, else 0.

    Raises:
        InputError: For less than one epoch or training, an unknown engine or mode, a metric whose name does not tell
            which way is better, without a mode, or ``ray_cpus`` and ``ray_gpus`` that Ray cannot give, or without
            ``ray``.

    >>> RaceOptions(metric="val/loss").direction, RaceOptions(metric="val/loss").test_metric
    ('min', 'test/loss')
    """

    epochs: int = 50
    metric: str = "val_acc"
    mode: Mode | None = None
    reference: str | None = None
    target: float | None = None
    engine: Engine = "auto"
    compile: bool | None = None
    folder: Union[str, Path, None] = None
    budget: int | None = None
    ray: str | None = None
    ray_cpus: float | None = None
    ray_gpus: float | None = None

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise InputError(f"epochs={self.epochs} trains nothing: give at least 1")
        if self.budget is not None and self.budget < 1:
            raise InputError(f"budget={self.budget} trains nothing: give the number of trainings")
        if self.mode is not None:
            check_choice("mode", self.mode, get_args(Mode))
        direction_for("metric", self.metric, self.mode)
        check_choice("engine", self.engine, get_args(Engine))
        check_workers(self.ray, self.ray_cpus, self.ray_gpus)

    @property
    def direction(self) -> Mode:
        """Which way the metric is better."""
        return direction_for("metric", self.metric, self.mode)

    @property
    def test_metric(self) -> str:
        """The metric that judges."""
        return on_test_data(self.metric)


def check_workers(ray: str | None, cpus: float | None, gpus: float | None) -> None:
    """Refuses CPUs and GPUs for each worker of a Ray cluster that Ray cannot give, or without a cluster.

    Raises:
        InputError: For these.
    """
    for name, value in (("ray_cpus", cpus), ("ray_gpus", gpus)):
        if value is not None and ray is None:
            raise InputError(f"{name}={value:g} says nothing without ray: give ray='auto', 'local' or an address")
    if cpus is not None and (cpus <= 0 or (cpus > 1 and cpus % 1)):
        raise InputError(f"ray_cpus={cpus:g}: give a fraction above 0, or a whole number")
    if gpus is not None and not 0 <= gpus <= 1:
        raise InputError(f"ray_gpus={gpus:g}: a worker trains on one GPU or a fraction of it: give 0 to 1")

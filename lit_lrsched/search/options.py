"""The options of a search: which rates, how many seeds, how long the runs are, and how and where they are trained."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Union, get_args

from lit_lrsched.comparison.options import Engine, check_workers
from lit_lrsched.errors import InputError, shown
from lit_lrsched.schedules.checks import check_choice, check_whole
from lit_lrsched.schedules.durations import Duration, check_duration

LEAST_POINTS = 5
"""Fewer rates show no valley."""


@dataclass(frozen=True)
class FindOptions:
    """The options of a search, besides what is trained.

    Args:
        lrs: The lowest and the highest rate. None: where something happens between 1e-3 and 1e3 times the optimizer's
            own, by shorter runs.
        points: How many rates, evenly in log.
        seeds: Which seeds, at least two.
        steps: How long each run is: a run of that length, as ``Trainer.fit`` trains it. None: the whole run, or 100
            steps at a warmed-up constant rate where runs are trained one by one.
        epochs: Epochs of the whole run.
        engine: ``"vectorized"``: all runs in one program. ``"sequential"``: one ``Trainer.fit`` a run. ``"auto"``:
            vectorized where the module allows it and gains by it.
        folder: Where the runs are kept. None: a folder of ``lightning_logs`` whose name follows from the search.
        ray: The Ray cluster that trains: ``"auto"``, ``"local"`` or an address. None: this machine's processes.
        ray_cpus: CPUs for each worker of the cluster. None: 1.
        ray_gpus: GPUs for each worker, at most 1. None: 1 where the trainer's accelerator is a GPU, else 0.

    Raises:
        InputError: For rates, a number of points or seeds, or a length that say nothing, or an unknown engine.

    >>> FindOptions(lrs=(0.1, 0.01))
    Traceback (most recent call last):
    lit_lrsched.errors.InputError: lrs=(0.1, 0.01) is no range of rates: give the lowest and the highest, like ...
    """

    lrs: Sequence[float] | None = None
    points: int = 24
    seeds: Sequence[int] = (0, 1, 2, 3)
    steps: Duration | None = None
    epochs: int = 50
    engine: Engine = "auto"
    folder: Union[str, Path, None] = None
    ray: str | None = None
    ray_cpus: float | None = None
    ray_gpus: float | None = None

    def __post_init__(self) -> None:
        check_whole("epochs", self.epochs, 1)
        check_whole("points", self.points, LEAST_POINTS)
        if self.steps is not None:
            check_duration("steps", self.steps)
        if len(set(self.seeds)) < 2 or len(set(self.seeds)) < len(self.seeds):
            raise InputError(f"seeds={shown([*self.seeds])} cannot tell a rate from luck: give at least two, each once")
        if self.lrs is not None and not _is_range(self.lrs):
            raise InputError(
                f"lrs={shown(self.lrs)} is no range of rates: give the lowest and the highest, like 0.001 and 1"
            )
        check_choice("engine", self.engine, get_args(Engine))
        check_workers(self.ray, self.ray_cpus, self.ray_gpus)


def _is_range(lrs: Sequence[float]) -> bool:
    try:
        low, high = map(float, lrs)
    except (TypeError, ValueError):
        return False
    return 0 < low < high < math.inf

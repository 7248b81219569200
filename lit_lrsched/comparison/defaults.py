"""What races when nothing is asked for: schedules, and the rates and momenta that go with a module's optimizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from operator import index
from typing import Any

import numpy as np
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import ExponentialLR, LambdaLR, LinearLR

from lit_lrsched.errors import InputError
from lit_lrsched.ionosphere.article import inverse_time
from lit_lrsched.ionosphere.model import IonosphereClassifier
from lit_lrsched.optim.from_torch import FromTorch
from lit_lrsched.schedules.core import Schedule
from lit_lrsched.schedules.decays import Cosine, Linear
from lit_lrsched.schedules.direction import Direction
from lit_lrsched.schedules.plateau import Plateau
from lit_lrsched.schedules.recipes import OneCycle, WarmupCosine, WarmupStableDecay
from lit_lrsched.schedules.shapes import Constant
from lit_lrsched.trainer.lightning_package import LightningModule

SCHEDULES: dict[str, Any] = {
    "constant": Constant(),
    "article linear": partial(LinearLR, start_factor=1.0, end_factor=0.5, total_iters=30),
    "article exponential": partial(ExponentialLR, gamma=0.99),
    "article custom": partial(LambdaLR, lr_lambda=inverse_time),
    "linear to 0": Linear(),
    "cosine": Cosine(),
    "warmup cosine": WarmupCosine("10%"),
    "warmup stable decay": WarmupStableDecay("10%", "20%"),
    "one cycle": OneCycle(),
    "plateau": Plateau(monitor="val_acc", factor=0.5, patience=5),
}
SEEDS = 20
SEEDS_OF_A_BUDGET = 24  # the most; judging at several looks takes more of them than judging once


def schedules_of(metric: str, mode: Direction | None, groups: bool) -> dict[str, Any]:
    """Returns the same schedules for a race that another metric tunes.

    Args:
        metric: The metric, which the plateau follows too.
        mode: Which way it is better. None: as its name tells.
        groups: Whether param groups have schedules of their own beside: torch's are wrapped then.
    """
    found = {**SCHEDULES, "plateau": replace(SCHEDULES["plateau"], monitor=metric, mode=mode)}
    if not groups:
        return found
    return {name: one if isinstance(one, Schedule) else FromTorch(one, every="1ep") for name, one in found.items()}


# Of the worked example with SGD.
LRS = (0.03, 0.1, 0.3, 1.0, 3.0)
MOMENTA = (0.0, 0.9)

# Of any other: times its own rate.
AROUND = (0.1, 0.3, 1.0, 3.0, 10.0)


def seeds_of(seeds: int | Sequence[int] | None, budget: int | None) -> tuple[int, ...]:
    """Returns the seeds to race with.

    Args:
        seeds: How many, from 0 on, or which. None: as many as are usual.
        budget: The most trainings, or None for the full grid.

    Raises:
        InputError: For a seed that NumPy does not take.
    """
    if seeds is None:
        seeds = SEEDS if budget is None else SEEDS_OF_A_BUDGET
    chosen = tuple(map(index, range(seeds) if isinstance(seeds, (int, np.integer)) else seeds))  # NumPy's numbers too
    for seed in chosen:
        if not 0 <= seed < 2**32:
            raise InputError(f"seeds: {seed} is no seed: give whole numbers from 0 to {2**32 - 1}")
    return chosen


def rates_and_momenta(
    module: LightningModule, optimizer: type[Optimizer], lr: float
) -> tuple[tuple[float, ...], tuple[float | None, ...]]:
    """Returns the peak rates and momenta to race with; None for the optimizer's own momentum.

    Args:
        module: The module.
        optimizer: Its optimizer's class.
        lr: The rate that the optimizer was given.
    """
    if isinstance(module, IonosphereClassifier) and optimizer is SGD:
        return LRS, MOMENTA
    return tuple(lr if factor == 1.0 else float(f"{factor * lr:.6g}") for factor in AROUND), (None,)

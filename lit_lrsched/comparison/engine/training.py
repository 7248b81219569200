"""One training, and what a chunk of them brings back."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from lit_lrsched.schedules.plateau import Plateau

FloatArray = npt.NDArray[np.float64]
OptimizerCallable = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]

# Steps whose tables are stacked at a time, at least.
_STACKED = 1000


@dataclass(frozen=True, eq=False)  # arrays have no equality that is true or false
class Training:
    """One training.

    Args:
        seed: Trainings with the same seed share the data, the initial weights and the batch order.
        rates: Learning rates at each optimizer step: ``[steps, groups]``, or ``[steps]`` for all param groups alike.
        momenta: Momenta, or first betas, likewise; one number for all steps; or None for the optimizer's own.
        weight_decays: Weight decays, likewise.
        plateau: Multiplies the rates down when a metric stalls; it is shown the metric after every epoch. Of its own
            schedule nothing is used: that is in ``rates``.
        name: With the seed, tells its dropout draws from those of the other trainings.
    """

    seed: int
    rates: FloatArray
    momenta: FloatArray | float | None = None
    plateau: Plateau | None = None
    name: str = ""
    weight_decays: FloatArray | float | None = None

    def tables(
        self, momenta: Sequence[float], weight_decays: Sequence[float]
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Returns rates, momenta and weight decays, ``[steps, groups]``.

        Args:
            momenta: The momentum that the optimizer has for each param group.
            weight_decays: Likewise.
        """
        shape = len(self.rates), len(momenta)
        own = np.asarray(momenta, dtype=np.float64), np.asarray(weight_decays, dtype=np.float64)
        return (
            _table(self.rates, shape),
            _table(self.momenta, shape) if self.momenta is not None else np.broadcast_to(own[0], shape),
            _table(self.weight_decays, shape) if self.weight_decays is not None else np.broadcast_to(own[1], shape),
        )


def tables_by_epoch(tables: Iterable[Sequence[FloatArray]], steps_per_epoch: int) -> Iterator[list[FloatArray]]:
    """Yields what R runs are set to in each epoch, ``[steps, R, groups]`` each; what it yields may be written to.

    Args:
        tables: The tables of each run, as of :meth:`Training.tables`.
        steps_per_epoch: Steps of an epoch; the last may be shorter.

    >>> rates = [np.array([[0.1], [0.2], [0.3]]), np.array([[1.0], [2.0], [3.0]])]
    >>> [epoch.tolist() for (epoch,) in tables_by_epoch([[rates[0]], [rates[1]]], 2)]
    [[[[0.1], [1.0]], [[0.2], [2.0]]], [[[0.3], [3.0]]]]
    """
    of_runs = list(zip(*tables, strict=True))
    # Epoch by epoch takes a twentieth of the time of short ones; all at once, gigabytes for long runs.
    together = steps_per_epoch * math.ceil(_STACKED / steps_per_epoch)
    for first in range(0, len(of_runs[0][0]), together):
        stacked = [np.stack([table[first : first + together] for table in one], axis=1) for one in of_runs]
        for start in range(0, len(stacked[0]), steps_per_epoch):
            yield [one[start : start + steps_per_epoch] for one in stacked]


def _table(values: FloatArray | float, shape: tuple[int, int]) -> FloatArray:
    found = np.asarray(values, dtype=np.float64)
    return np.broadcast_to(found[:, None] if found.ndim == 1 else found, shape)


@dataclass(frozen=True, eq=False)
class Chunk:
    """What came out of some of the trainings, R of them.

    Args:
        runs: Which of the trainings these are: their places in the sequence that was given.
        curves: What the module logs for training and validation, after each epoch, ``[R, epochs]`` by name.
        final: What the module logs for testing, ``[R]`` by name.
        diverged: Whether a loss or a weight became nan or infinite, ``[R]``.
        rates: Learning rates of the first param group as they were used, ``[R, steps]``; nan where the module, or the
            scaler of half precision, skipped the step.
        weights: The trained parameters, ``[R, ...]`` by name; empty unless asked for.
        losses: What ``training_step`` returned as the loss of each batch, ``[R, batches]``; nan where it skipped one,
            in a run that did not diverge.
        broke_off: What a run of its own raised as its numbers were no longer finite; it logged nothing then.
    """

    runs: list[int]
    curves: dict[str, FloatArray]
    final: dict[str, FloatArray]
    diverged: npt.NDArray[np.bool_]
    rates: FloatArray
    weights: dict[str, npt.NDArray[Any]]
    losses: FloatArray
    broke_off: str | None = None

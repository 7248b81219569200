"""One ``Trainer.fit`` a run: slower than all runs in one program, and right for any module."""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from torch.optim import Optimizer

from lit_lrsched.comparison.engine.bare_trainer import bare_trainer, quietly
from lit_lrsched.comparison.engine.ray_cluster import RayCluster
from lit_lrsched.comparison.engine.recorder import in_a_line
from lit_lrsched.comparison.engine.regime import PLAIN, Regime
from lit_lrsched.comparison.engine.setting_up import Build
from lit_lrsched.comparison.engine.training import Chunk
from lit_lrsched.comparison.engine.user_code import line_of
from lit_lrsched.errors import InputError, cut
from lit_lrsched.optim.param_groups import get_value
from lit_lrsched.optim.steps import around_steps
from lit_lrsched.optim.torch_internals import tells_its_steps
from lit_lrsched.trainer.interrupts import interrupts_of_lightning
from lit_lrsched.trainer.lightning_internals import log_no_hyperparameters
from lit_lrsched.trainer.lightning_package import (
    Callback,
    LightningDataModule,
    LightningModule,
    Trainer,
    is_overridden,
    trainer_for,
)

#: Returns what ``configure_optimizers`` of one run's module returns, given the module, its trainer and its own method.
Configure = Callable[[LightningModule, Trainer, Callable[[], Any]], Any]


def race_one_by_one(
    build: Build,
    seeds: Sequence[int],
    configure: Sequence[Configure],
    *,
    epochs: int,
    device: torch.device,
    cluster: RayCluster | None = None,
    regime: Regime = PLAIN,
    steps: int | None = None,
    stop_after: int | None = None,
    stop_broken: bool = False,
) -> Iterator[Chunk]:
    """Trains one run after another, and yields each when it is finished.

    Args:
        build: Takes a seed, seeds everything with it, and returns the module and its data.
        seeds: The seed of each run, ``[R]``.
        configure: What gives each run its optimizer and schedule, ``[R]``.
        epochs: Epochs of each run, with a validation at the end of each.
        device: Where to train.
        cluster: Trains the runs with its own workers, as many at a time as it has.
        regime: Which batches train and test, and how their gradients make steps; each is tested at its end.
        steps: Optimizer steps of each run, where it ends within the last of its epochs; it is validated then.
        stop_after: Steps after which each is stopped, however long its schedule is; it is validated then.
        stop_broken: Whether each is stopped as soon as its loss is no longer finite.

    Returns:
        Chunks of one run.
    """
    runs = [[run] for run in range(len(seeds))]
    race = partial(_OneByOne, build, seeds, configure, epochs, device, regime, steps, stop_after, stop_broken)
    return map(race().train, runs) if cluster is None else cluster.train(race, runs)


@dataclass(frozen=True)
class _OneByOne:
    build: Build
    seeds: Sequence[int]
    configure: Sequence[Configure]
    epochs: int
    device: torch.device
    regime: Regime
    steps: int | None
    stop_after: int | None
    stop_broken: bool

    def train(self, runs: list[int]) -> Chunk:
        (run,) = runs
        with quietly():
            module, data = self.build(self.seeds[run])
            trace = _Trace(self.stop_after, self.stop_broken)
            try:
                return self._train(run, module, data, trace)
            except _OF_NUMBERS as error:
                if isinstance(error, InputError) or not _is_of_numbers(error, module):
                    raise
                raised = cut(f"{type(module).__name__} raised {in_a_line(error)}".rstrip(".:"), 200)
                return Chunk(
                    runs=[run],
                    curves={},
                    final={},
                    diverged=np.array([True]),
                    rates=np.array([trace.rates]),
                    weights={},
                    losses=np.array([trace.losses]),
                    broke_off=f"{raised}{line_of(error)}",
                )

    def _train(self, run: int, module: LightningModule, data: LightningDataModule, trace: _Trace) -> Chunk:
        log_no_hyperparameters(data)
        trainer = bare_trainer(
            trainer_for(module),
            self.epochs,
            self.steps,
            accelerator=self.device.type,
            devices=1 if self.device.index is None else [self.device.index],
            num_sanity_val_steps=0,  # it would count towards metrics that are never reset
            callbacks=[trace],
            **self.regime.options(),
        )
        own = module.configure_optimizers
        cast("Any", module).configure_optimizers = lambda: self.configure[run](module, trainer, own)
        cast("Any", module).configure_callbacks = list  # none: see trainer_options
        with interrupts_of_lightning():
            trainer.fit(module, data)
        if not trace.stopped and len(trace.epochs) < self.epochs:
            raise InputError(
                f"{type(module).__name__} ends its training itself, after epoch {len(trace.epochs)} of {self.epochs}, "
                "and runs are compared at one length: let it train on, without trainer.should_stop"
            )
        broken = not _are_finite(module)
        final: dict[str, float] = {}
        with interrupts_of_lightning():
            # Lightning validates where it is told to stop, not where its steps are up within an epoch.
            if trainer.enable_validation and not trace.validated:
                trainer.validate(module, data, verbose=False)
                trace.epochs[-1].update(_numbers(trainer))
            if self.regime.limit_test and is_overridden("test_step", module):
                trainer.test(module, data, verbose=False)
                final = _numbers(trainer)
        names = trace.epochs[-1]
        return Chunk(
            runs=[run],
            curves={name: np.array([[epoch.get(name, np.nan) for epoch in trace.epochs]]) for name in names},
            final={name: np.array([value], dtype=np.float64) for name, value in final.items()},
            diverged=np.array([broken]),
            rates=np.array([trace.rates]),
            weights={},
            losses=np.array([trace.losses]),
        )


_OF_NUMBERS = (ArithmeticError, AssertionError, RuntimeError, ValueError)
"""What is raised over numbers; what else is wrong with a module keeps its traceback."""


def _is_of_numbers(error: Exception, module: LightningModule) -> bool:
    """Returns whether an error comes of numbers that are no longer finite: of the weights, or where it was raised.

    Distributions check their parameters, metrics of other libraries their input, and modules their loss.
    """
    if isinstance(error, torch.linalg.LinAlgError):  # type: ignore[attr-defined]
        return True
    if not _are_finite(module):
        return True
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return any(_is_lost(value) for frame in frames for value in frame.f_locals.values())


def _are_finite(module: LightningModule) -> bool:
    """Returns whether no weight of a module is nan or infinite."""
    return all(bool(parameter.isfinite().all()) for parameter in module.parameters())


def _is_lost(value: object) -> bool:
    """Returns whether there is nan in a value, or infinity in a tensor or an array: the negative one, masks hold."""
    if isinstance(value, torch.Tensor):
        is_plain = value.is_floating_point() and value.layout is torch.strided and not value.is_meta
        return is_plain and bool((value.isnan() | value.isposinf()).any())
    if isinstance(value, np.ndarray):
        return value.dtype.kind == "f" and bool((np.isnan(value) | np.isposinf(value)).any())
    return isinstance(value, float) and math.isnan(value)


class _Trace(Callback):
    """Keeps the learning rate and the loss of every step, and what was logged for every epoch; stops where it should.

    Args:
        stop_after: Steps after which to stop.
        stop_broken: Whether to stop when a loss is no longer finite.

    Attributes:
        stopped: Whether it stopped the trainer.
        validated: Whether it was validated after the last step.
    """

    def __init__(self, stop_after: int | None, stop_broken: bool) -> None:
        self._stop_after = stop_after
        self._stop_broken = stop_broken
        self.stopped = self.validated = self._told = False
        self.rates: list[float] = []
        self.losses: list[float] = []
        self.epochs: list[dict[str, float]] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        optimizer = trainer.optimizers[0]
        self._told = tells_its_steps(optimizer)
        if self._told:
            around_steps(optimizer, after=lambda: self._note(optimizer))  # training_step is called within the step

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        if not self._told:
            self._note(optimizer)

    def _note(self, optimizer: Optimizer) -> None:
        self.rates.append(get_value(optimizer.param_groups[0], "lr"))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # Nothing where a step was skipped; otherwise the batch's share of the loss of an optimizer step.
        loss = float(outputs["loss"]) * trainer.accumulate_grad_batches if outputs else None
        self.losses.append(np.nan if loss is None else loss if np.isfinite(loss) else np.inf)
        self.rates += [np.nan] * (trainer.global_step - len(self.rates))  # the trainer counts a step that was skipped
        self.validated = False
        is_broken = self._stop_broken and self.losses[-1] == np.inf
        if is_broken or trainer.global_step == self._stop_after:
            self.stopped = trainer.should_stop = True

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.validated = True

    # A module may log at the very end of an epoch: after every callback of that epoch, before the next one's.
    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.current_epoch > 0:
            self._keep(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._keep(trainer)

    def _keep(self, trainer: Trainer) -> None:
        self.epochs.append(_numbers(trainer))


def _numbers(trainer: Trainer) -> dict[str, float]:
    """Returns all that was logged, also what was kept from loggers."""
    return {name: float(value) for name, value in trainer.callback_metrics.items()}

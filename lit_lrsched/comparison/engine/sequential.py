"""One ``Trainer.fit`` a run: slower than all runs in one program, and right for any module."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.model_helpers import is_overridden

from lit_lrsched.comparison.engine.batches import Build
from lit_lrsched.comparison.engine.training import Chunk
from lit_lrsched.optim.param_groups import get_value
from lit_lrsched.trainer.interrupts import interrupts_of_lightning

#: Returns what ``configure_optimizers`` of one run's module returns, given the module, its trainer and its own method.
Configure = Callable[[LightningModule, Trainer, Callable[[], Any]], dict[str, Any]]


def race_one_by_one(
    build: Build, seeds: Sequence[int], configure: Sequence[Configure], *, epochs: int, device: torch.device
) -> Iterator[Chunk]:
    """Trains one run after another, and yields each when it is finished.

    Args:
        build: Takes a seed, seeds everything with it, and returns the module and its data.
        seeds: The seed of each run, ``[R]``.
        configure: What gives each run its optimizer and schedule, ``[R]``.
        epochs: Epochs of each run, with a validation at the end of each.
        device: Where to train.

    Yields:
        Chunks of one run.
    """
    for run, (seed, configured) in enumerate(zip(seeds, configure, strict=True)):
        with quietly():
            chunk = _train(build, run, seed, configured, epochs, device)
        yield chunk  # not within: what is said between two runs shall be heard


def _train(build: Build, run: int, seed: int, configure: Configure, epochs: int, device: torch.device) -> Chunk:
    module, data = build(seed)
    trace = _Trace()
    trainer = Trainer(
        max_epochs=epochs,
        accelerator=device.type,
        devices=1 if device.index is None else [device.index],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,  # it would count towards metrics that are never reset
        callbacks=[trace],
    )
    own = module.configure_optimizers
    cast("Any", module).configure_optimizers = lambda: configure(module, trainer, own)
    with interrupts_of_lightning():
        trainer.fit(module, data)
    broken = not all(parameter.isfinite().all() for parameter in module.parameters())
    with interrupts_of_lightning():
        final = trainer.test(module, data, verbose=False)[0] if is_overridden("test_step", module) else {}
    names = trace.epochs[-1]
    return Chunk(
        runs=[run],
        curves={name: np.array([[epoch.get(name, np.nan) for epoch in trace.epochs]]) for name in names},
        final={name: np.array([value], dtype=np.float64) for name, value in final.items()},
        diverged=np.array([broken]),
        rates=np.array([trace.rates]),
        weights={},
    )


class _Trace(Callback):
    """Keeps the learning rate of every step, and what was logged for every epoch."""

    def __init__(self) -> None:
        self.rates: list[float] = []
        self.epochs: list[dict[str, float]] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self.rates.append(get_value(trainer.optimizers[0].param_groups[0], "lr"))

    # A module may log at the very end of an epoch: after every callback of that epoch, before the next one's.
    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.current_epoch > 0:
            self._keep(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._keep(trainer)

    def _keep(self, trainer: Trainer) -> None:
        self.epochs.append({name: float(value) for name, value in trainer.callback_metrics.items()})


@contextmanager
def quietly() -> Iterator[None]:
    """Keeps a hundred trainers from saying a hundred times what each says once."""
    loggers = [
        logging.getLogger(name)
        for name in ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero")
    ]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)

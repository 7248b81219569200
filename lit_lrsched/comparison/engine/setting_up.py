"""What comes before the first step of a run: a module and its data, built from a seed and set up as by a trainer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from lit_lrsched.comparison.engine.bare_trainer import bare_trainer, quietly
from lit_lrsched.comparison.engine.held import held, tensors_of
from lit_lrsched.comparison.engine.recorder import NotVectorizable
from lit_lrsched.comparison.engine.regime import Regime
from lit_lrsched.optim.torch_internals import version_of
from lit_lrsched.trainer.lightning_package import (
    LightningDataModule,
    LightningModule,
    Trainer,
    is_overridden,
    isolate_rng,
    trainer_for,
)

#: Seeds everything, then builds the module and its data, in the order in which one run of that seed would.
Build = Callable[[int], tuple[LightningModule, LightningDataModule]]


@contextmanager
def set_up(data: LightningDataModule, *stages: str) -> Iterator[None]:
    """Prepares a data module as ``Trainer.fit`` does; while the block lasts its ``trainer`` can be asked.

    Args:
        data: The data module.
        stages: What it is set up for.
    """
    before = getattr(data, "trainer", None)  # a class may leave out the constructor of its base
    data.trainer = before or cast("Trainer", _WhenAsked(trainer_for(data)))
    try:
        data.prepare_data()
        for stage in stages:
            data.setup(stage)
        yield
    finally:
        data.trainer = before


@contextmanager
def built(
    build: Build, seed: int, epochs: int, regime: Regime
) -> Iterator[tuple[LightningModule, LightningDataModule]]:
    """Builds a module and its data, and sets them up for ``fit``; the global generator is restored in the end.

    Args:
        build: Seeds everything and builds the module and its data.
        seed: What to seed with.
        epochs: Epochs of the run.
        regime: Which batches train, and how their gradients make steps.

    Raises:
        NotVectorizable: When ``setup`` asks its trainer for more than the data and how long training is.
    """
    with isolate_rng(), torch.enable_grad():  # as everybody builds modules
        module, data = build(seed)
        module.prepare_data()
        with set_up(data, "fit"):
            _set_up(module, "fit", _TrainerInSetup(data, epochs, regime))
            yield module, data


def made_anew(module: LightningModule, data: LightningDataModule, epochs: int, regime: Regime) -> set[str]:
    """Sets a module up for a test; returns the names of the metrics and of the buffers that are made anew.

    The buffers have the same numbers: a program keeps the trained module as it is, which is right as long as training
    does not change them.

    Raises:
        NotVectorizable: When it changes the module otherwise.
    """
    if not is_overridden("setup", module):
        return set()
    before = held(module)
    metrics = _metrics_of(module)
    state = {name: (one, version_of(one), one.detach().clone()) for name, one in tensors_of(module).items()}
    _set_up(module, "test", _TrainerInSetup(data, epochs, regime))
    is_left = held(module) == before  # with the same names, among other things
    if not is_left or not all(_is_as_before(one, *state[name]) for name, one in tensors_of(module).items()):
        raise NotVectorizable("its setup for the test changes it")
    anew = {path for path, metric in _metrics_of(module).items() if metric is not metrics.get(path)}
    return anew | {name for name, one in tensors_of(module).items() if one is not state[name][0]}


def _metrics_of(module: LightningModule) -> dict[str, Metric]:
    return {path: part for path, part in module.named_modules() if isinstance(part, Metric)}


def _is_as_before(tensor: Tensor, before: Tensor, version: int | None, numbers: Tensor) -> bool:
    """Returns whether nothing was written: numbers that were there may not be those that training leaves."""
    is_left = version_of(tensor) == version if tensor is before else not isinstance(tensor, nn.Parameter)
    return is_left and torch.equal(tensor, numbers)


def _set_up(module: LightningModule, stage: str, trainer: _TrainerInSetup) -> None:
    if is_overridden("setup", module):
        module.trainer = cast("Trainer", trainer)
        module.setup(stage)
        module.trainer = None
        trainer.check_drawn()


class _TrainerInSetup:
    """Stands for the trainer while a module is set up.

    Args:
        data: The data.
        epochs: Epochs of training.
        regime: Which batches train, and how their gradients make steps.
    """

    is_global_zero = True
    world_size = 1
    global_rank = local_rank = node_rank = 0

    def __init__(self, data: LightningDataModule, epochs: int, regime: Regime) -> None:
        self.datamodule = data
        self.max_epochs = epochs
        self._regime = regime
        self._drawn: Tensor | None = None  # what was drawn when it was asked for the steps

    def check_drawn(self) -> None:
        """Refuses draws after it was asked for the steps: it would load the data there, and draw for their order."""
        if self._drawn is not None and not torch.equal(self._drawn, torch.get_rng_state()):
            raise NotVectorizable("its setup draws random numbers after it asks for the number of steps")

    @property
    def estimated_stepping_batches(self) -> int:
        """The optimizer steps of training."""
        self._drawn = torch.get_rng_state()
        loader = self.datamodule.train_dataloader()
        if not hasattr(loader, "__len__"):
            raise NotVectorizable("its data has no length")
        return self.max_epochs * self._regime.steps_in(self._regime.batches("train", len(loader)))

    def __getattr__(self, name: str) -> Any:
        raise NotVectorizable(f"its setup uses self.trainer.{name}")


class _WhenAsked:
    """A trainer that is made when data ask it for something: few data modules do, and making one takes long."""

    def __init__(self, kind: type[Trainer]) -> None:
        self._kind = kind

    def __getattr__(self, name: str) -> Any:
        return getattr(_trainer(self._kind), name)  # type: ignore[arg-type]  # classes can be hashed


@cache
def _trainer(kind: type[Trainer]) -> Trainer:
    with quietly():
        return bare_trainer(kind, 1, accelerator="cpu", devices=1)

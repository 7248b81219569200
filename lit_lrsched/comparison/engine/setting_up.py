"""What comes before the first step of a run: a module and its data, built from a seed and set up as by a trainer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, cast

import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.utilities.model_helpers import is_overridden
from lightning.pytorch.utilities.seed import isolate_rng

from lit_lrsched.comparison.engine.bare_trainer import bare_trainer, quietly
from lit_lrsched.comparison.engine.held import held
from lit_lrsched.comparison.engine.recorder import NotVectorizable

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
    data.trainer = before or cast("Trainer", _WhenAsked())
    try:
        data.prepare_data()
        for stage in stages:
            data.setup(stage)
        yield
    finally:
        data.trainer = before


@contextmanager
def built(build: Build, seed: int, epochs: int) -> Iterator[tuple[LightningModule, LightningDataModule]]:
    """Builds a module and its data, and sets them up for ``fit``; the global generator is restored in the end.

    Args:
        build: Seeds everything and builds the module and its data.
        seed: What to seed with.
        epochs: Epochs of the run.

    Raises:
        NotVectorizable: When ``setup`` asks its trainer for more than the data and the number of epochs.
    """
    with isolate_rng(), torch.enable_grad():  # as everybody builds modules
        module, data = build(seed)
        with set_up(data, "fit"):
            _set_up(module, data, epochs, "fit")
            yield module, data


def check_set_up_again(module: LightningModule, data: LightningDataModule, epochs: int) -> None:
    """Refuses a module whose ``setup`` for a test changes it, since a program keeps the trained one as it is.

    Raises:
        NotVectorizable: When it does.
    """
    if not is_overridden("setup", module):
        return
    before, state = held(module), {name: tensor.clone() for name, tensor in module.state_dict().items()}
    _set_up(module, data, epochs, "test")
    again = module.state_dict()
    if held(module) != before or not all(torch.equal(tensor, again[name]) for name, tensor in state.items()):
        raise NotVectorizable("its setup for the test changes it")


def _set_up(module: LightningModule, data: LightningDataModule, epochs: int, stage: str) -> None:
    if is_overridden("setup", module):
        module.trainer = cast("Trainer", _TrainerInSetup(data, epochs))
        module.setup(stage)
        module.trainer = None


class _TrainerInSetup:
    """Stands for the trainer while a module is set up.

    Args:
        data: The data.
        epochs: Epochs of training.
    """

    is_global_zero = True
    world_size = 1
    global_rank = local_rank = node_rank = 0

    def __init__(self, data: LightningDataModule, epochs: int) -> None:
        self.datamodule = data
        self.max_epochs = epochs

    def __getattr__(self, name: str) -> Any:
        raise NotVectorizable(f"its setup uses self.trainer.{name}")


class _WhenAsked:
    """Such a trainer that is made when it is asked for something: few data modules do, and making one takes long."""

    def __getattr__(self, name: str) -> Any:
        return getattr(_trainer(), name)


@cache
def _trainer() -> Trainer:
    with quietly():
        return bare_trainer(1, accelerator="cpu", devices=1)

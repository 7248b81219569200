"""A trainer that trains and nothing else: it says, shows and saves nothing."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, cast

from lightning.pytorch import LightningDataModule, Trainer

from lit_lrsched.trainer.lightning_internals import idle_logger


def bare_trainer(epochs: int, steps: int | None = None, **options: Any) -> Trainer:
    """Returns a trainer that shows and saves nothing; of so many steps, where they end within the last epoch."""
    return Trainer(
        max_epochs=epochs,
        max_steps=-1 if steps is None else steps,
        logger=idle_logger(),  # a module may use its logger itself
        log_every_n_steps=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )


class _WhenAsked:
    """Such a trainer that is made when it is asked for something: few data modules do, and making one takes long."""

    def __getattr__(self, name: str) -> Any:
        return getattr(_trainer(), name)


@cache
def _trainer() -> Trainer:
    with quietly():
        return bare_trainer(1, accelerator="cpu", devices=1)


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

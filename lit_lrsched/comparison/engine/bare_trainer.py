"""A trainer that trains and nothing else: it says, shows and saves nothing."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lit_lrsched.trainer.lightning_package import DummyLogger, Trainer


def bare_trainer(kind: type[Trainer], epochs: int, steps: int | None = None, **options: Any) -> Trainer:
    """Returns a trainer that shows and saves nothing; of so many steps, where they end within the last epoch."""
    return kind(
        max_epochs=epochs,
        max_steps=-1 if steps is None else steps,
        logger=DummyLogger(),  # which keeps nothing: a module may use its logger itself
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )


@contextmanager
def quietly() -> Iterator[None]:
    """Keeps a hundred trainers from saying a hundred times what each says once."""
    loggers = [
        logging.getLogger(name)
        for package in ("lightning.pytorch", "lightning.fabric", "pytorch_lightning", "lightning_fabric")
        for name in (package, f"{package}.utilities.rank_zero")
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

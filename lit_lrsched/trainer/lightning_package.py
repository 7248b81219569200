"""The Lightning that the project at hand imports: ``lightning.pytorch``, or ``pytorch_lightning`` where that is in use.

The two packages hold the same code twice, and each asks for callbacks of its own class.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

_uses_older_name = "pytorch_lightning" in sys.modules and "lightning.pytorch" not in sys.modules
_NAME = "pytorch_lightning" if _uses_older_name else "lightning.pytorch"


def part_of_lightning(name: str) -> Any:
    """Returns a module of Lightning by its path inside the package.

    >>> part_of_lightning("callbacks.timer").Timer.__name__
    'Timer'
    """
    return importlib.import_module(f"{_NAME}.{name}")


if TYPE_CHECKING:
    from lightning.pytorch import Callback, LightningModule, Trainer
    from lightning.pytorch.callbacks import (
        BatchSizeFinder,
        GradientAccumulationScheduler,
        LearningRateFinder,
        StochasticWeightAveraging,
    )
    from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
    from lightning.pytorch.utilities.types import LRSchedulerConfig, OptimizerLRSchedulerConfig
else:
    _package, _callbacks = importlib.import_module(_NAME), part_of_lightning("callbacks")
    Callback, LightningModule, Trainer = _package.Callback, _package.LightningModule, _package.Trainer
    BatchSizeFinder, LearningRateFinder = _callbacks.BatchSizeFinder, _callbacks.LearningRateFinder
    GradientAccumulationScheduler = _callbacks.GradientAccumulationScheduler
    StochasticWeightAveraging = _callbacks.StochasticWeightAveraging
    _types, _utilities = part_of_lightning("utilities.types"), part_of_lightning("utilities")
    LRSchedulerConfig, OptimizerLRSchedulerConfig = _types.LRSchedulerConfig, _types.OptimizerLRSchedulerConfig
    rank_zero_info, rank_zero_warn = _utilities.rank_zero_info, _utilities.rank_zero_warn

__all__ = [
    "BatchSizeFinder",
    "Callback",
    "GradientAccumulationScheduler",
    "LRSchedulerConfig",
    "LearningRateFinder",
    "LightningModule",
    "OptimizerLRSchedulerConfig",
    "StochasticWeightAveraging",
    "Trainer",
    "part_of_lightning",
    "rank_zero_info",
    "rank_zero_warn",
]

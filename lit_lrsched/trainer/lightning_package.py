"""The Lightning that the project at hand imports: ``lightning.pytorch``, or ``pytorch_lightning`` where that is in use.

The two packages hold the same code twice, and each asks for callbacks of its own class.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lightning.pytorch import Callback, LightningModule, Trainer
    from lightning.pytorch.callbacks import (
        BatchSizeFinder,
        GradientAccumulationScheduler,
        LearningRateFinder,
        StochasticWeightAveraging,
    )
    from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
    from lightning.pytorch.utilities.types import LRSchedulerConfig
else:
    _uses_older_name = "pytorch_lightning" in sys.modules and "lightning.pytorch" not in sys.modules
    _name = "pytorch_lightning" if _uses_older_name else "lightning.pytorch"
    _package = importlib.import_module(_name)
    Callback, LightningModule, Trainer = _package.Callback, _package.LightningModule, _package.Trainer
    _callbacks = importlib.import_module(f"{_name}.callbacks")
    BatchSizeFinder, LearningRateFinder = _callbacks.BatchSizeFinder, _callbacks.LearningRateFinder
    GradientAccumulationScheduler = _callbacks.GradientAccumulationScheduler
    StochasticWeightAveraging = _callbacks.StochasticWeightAveraging
    LRSchedulerConfig = importlib.import_module(f"{_name}.utilities.types").LRSchedulerConfig
    _utilities = importlib.import_module(f"{_name}.utilities")
    rank_zero_info, rank_zero_warn = _utilities.rank_zero_info, _utilities.rank_zero_warn

__all__ = [
    "BatchSizeFinder",
    "Callback",
    "GradientAccumulationScheduler",
    "LRSchedulerConfig",
    "LearningRateFinder",
    "LightningModule",
    "StochasticWeightAveraging",
    "Trainer",
    "rank_zero_info",
    "rank_zero_warn",
]

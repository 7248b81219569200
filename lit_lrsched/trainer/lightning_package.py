"""The Lightning that the project at hand imports: ``lightning.pytorch``, or ``pytorch_lightning`` where that is in use.

The two packages hold the same code twice, each with classes of its own. Where something has imported both, trainer,
module and callbacks may be of the other one: :func:`either` is for questions to these.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any, TypeVar

_uses_older_name = "pytorch_lightning" in sys.modules and "lightning.pytorch" not in sys.modules
_NAME = "pytorch_lightning" if _uses_older_name else "lightning.pytorch"
_OTHER = "lightning.pytorch" if _uses_older_name else "pytorch_lightning"

_Kind = TypeVar("_Kind")


def part_of_lightning(name: str) -> Any:
    """Returns a module of Lightning by its path inside the package.

    >>> part_of_lightning("callbacks.timer").Timer.__name__
    'Timer'
    """
    return importlib.import_module(f"{_NAME}.{name}")


def either(kind: type[_Kind]) -> tuple[type[_Kind], ...]:
    """Returns a class of Lightning's and, where something has imported the other package, its class of that name.

    >>> [one.__name__ for one in either(Callback)][:1]
    ['Callback']
    """
    other = sys.modules.get(kind.__module__.replace(_NAME, _OTHER, 1))
    return (kind,) if other is None else (kind, getattr(other, kind.__name__))


def has_its_own(hook: str, module: LightningModule) -> bool:
    """Returns whether a module has a hook of its own in place of the one that every LightningModule has."""
    common = [getattr(one, hook) for one in either(LightningModule)]
    return getattr(getattr(module, hook), "__func__", None) not in common


if TYPE_CHECKING:
    from lightning.pytorch import Callback, LightningModule, Trainer
    from lightning.pytorch.callbacks import (
        BatchSizeFinder,
        EarlyStopping,
        GradientAccumulationScheduler,
        LearningRateFinder,
        ModelCheckpoint,
        StochasticWeightAveraging,
    )
    from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
    from lightning.pytorch.utilities.types import LRSchedulerConfig, OptimizerLRSchedulerConfig
else:
    _package, _callbacks = importlib.import_module(_NAME), part_of_lightning("callbacks")
    Callback, LightningModule, Trainer = _package.Callback, _package.LightningModule, _package.Trainer
    BatchSizeFinder, LearningRateFinder = _callbacks.BatchSizeFinder, _callbacks.LearningRateFinder
    EarlyStopping, ModelCheckpoint = _callbacks.EarlyStopping, _callbacks.ModelCheckpoint
    GradientAccumulationScheduler = _callbacks.GradientAccumulationScheduler
    StochasticWeightAveraging = _callbacks.StochasticWeightAveraging
    _types, _utilities = part_of_lightning("utilities.types"), part_of_lightning("utilities")
    LRSchedulerConfig, OptimizerLRSchedulerConfig = _types.LRSchedulerConfig, _types.OptimizerLRSchedulerConfig
    rank_zero_info, rank_zero_warn = _utilities.rank_zero_info, _utilities.rank_zero_warn

__all__ = [
    "BatchSizeFinder",
    "Callback",
    "EarlyStopping",
    "GradientAccumulationScheduler",
    "LRSchedulerConfig",
    "LearningRateFinder",
    "LightningModule",
    "ModelCheckpoint",
    "OptimizerLRSchedulerConfig",
    "StochasticWeightAveraging",
    "Trainer",
    "either",
    "has_its_own",
    "part_of_lightning",
    "rank_zero_info",
    "rank_zero_warn",
]

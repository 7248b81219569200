"""The Lightning that the project at hand imports: ``lightning.pytorch``, or ``pytorch_lightning`` where that is in use.

The two packages hold the same code twice, each with classes of its own. Where something has imported both, trainer,
module, data and callbacks may be of the other one: :func:`either` and what follows it are for questions to these.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any, TypeVar

_uses_older_name = "pytorch_lightning" in sys.modules and "lightning.pytorch" not in sys.modules
_NAME = "pytorch_lightning" if _uses_older_name else "lightning.pytorch"
_OTHER = "lightning.pytorch" if _uses_older_name else "pytorch_lightning"

_Kind = TypeVar("_Kind")


def part_of_lightning(name: str, trainer: Trainer | None = None) -> Any:
    """Returns a module of Lightning by its path inside the package: inside that of the trainer, where one is given.

    >>> part_of_lightning("callbacks.timer").Timer.__name__
    'Timer'
    """
    is_other = trainer is not None and not isinstance(trainer, Trainer)
    return importlib.import_module(f"{_OTHER if is_other else _NAME}.{name}")


def either(*kinds: type[_Kind]) -> tuple[type[_Kind], ...]:
    """Returns classes of Lightning's and, where something has imported the other package, its classes of these names.

    >>> [one.__name__ for one in either(Callback)][:1]
    ['Callback']
    """
    others = [(sys.modules.get(kind.__module__.replace(_NAME, _OTHER, 1)), kind.__name__) for kind in kinds]
    return (*kinds, *(getattr(module, name) for module, name in others if module is not None))


def is_overridden(hook: str, owner: LightningModule | LightningDataModule) -> bool:
    """Returns whether a module or data has a hook of its own in place of the one that Lightning gives every one."""
    parent = next(kind for kind in either(LightningModule, LightningDataModule) if isinstance(owner, kind))
    return bool(part_of_lightning("utilities.model_helpers").is_overridden(hook, owner, parent))


def trainer_for(owner: LightningModule | LightningDataModule) -> type[Trainer]:
    """Returns the trainer of the package that a module or data is made with; that of the other one refuses it.

    >>> trainer_for(LightningModule()) is Trainer
    True
    """
    own = isinstance(owner, (LightningModule, LightningDataModule))
    return Trainer if own else either(Trainer)[-1]


if TYPE_CHECKING:
    from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer, seed_everything
    from lightning.pytorch.callbacks import (
        BatchSizeFinder,
        EarlyStopping,
        GradientAccumulationScheduler,
        LearningRateFinder,
        ModelCheckpoint,
        StochasticWeightAveraging,
    )
    from lightning.pytorch.strategies import Strategy
    from lightning.pytorch.utilities import CombinedLoader, rank_zero_info, rank_zero_warn
    from lightning.pytorch.utilities.seed import isolate_rng
    from lightning.pytorch.utilities.signature_utils import is_param_in_hook_signature
    from lightning.pytorch.utilities.types import LRSchedulerConfig, OptimizerLRSchedulerConfig
else:
    _package, _callbacks = importlib.import_module(_NAME), part_of_lightning("callbacks")
    Callback, Trainer, seed_everything = _package.Callback, _package.Trainer, _package.seed_everything
    LightningModule, LightningDataModule = _package.LightningModule, _package.LightningDataModule
    BatchSizeFinder, LearningRateFinder = _callbacks.BatchSizeFinder, _callbacks.LearningRateFinder
    EarlyStopping, ModelCheckpoint = _callbacks.EarlyStopping, _callbacks.ModelCheckpoint
    GradientAccumulationScheduler = _callbacks.GradientAccumulationScheduler
    StochasticWeightAveraging = _callbacks.StochasticWeightAveraging
    _types, _utilities = part_of_lightning("utilities.types"), part_of_lightning("utilities")
    LRSchedulerConfig, OptimizerLRSchedulerConfig = _types.LRSchedulerConfig, _types.OptimizerLRSchedulerConfig
    rank_zero_info, rank_zero_warn = _utilities.rank_zero_info, _utilities.rank_zero_warn
    CombinedLoader, Strategy = _utilities.CombinedLoader, part_of_lightning("strategies").Strategy
    isolate_rng = part_of_lightning("utilities.seed").isolate_rng
    is_param_in_hook_signature = part_of_lightning("utilities.signature_utils").is_param_in_hook_signature

__all__ = [
    "BatchSizeFinder",
    "Callback",
    "CombinedLoader",
    "EarlyStopping",
    "GradientAccumulationScheduler",
    "LRSchedulerConfig",
    "LearningRateFinder",
    "LightningDataModule",
    "LightningModule",
    "ModelCheckpoint",
    "OptimizerLRSchedulerConfig",
    "StochasticWeightAveraging",
    "Strategy",
    "Trainer",
    "either",
    "is_overridden",
    "is_param_in_hook_signature",
    "isolate_rng",
    "part_of_lightning",
    "rank_zero_info",
    "rank_zero_warn",
    "seed_everything",
    "trainer_for",
]

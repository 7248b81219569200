"""The Lightning that the project at hand imports: ``lightning.pytorch``, or ``pytorch_lightning`` where that is in use.

The two packages hold the same code twice, each with classes of its own. Where something has imported both, trainer,
module, data and callbacks may be of the other one: :func:`either` and what follows it are for questions to these.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any, TypeVar

_uses_older_name = "pytorch_lightning" in sys.modules and "lightning.pytorch" not in sys.modules
#: The one of the two that this package works with.
NAME = "pytorch_lightning" if _uses_older_name else "lightning.pytorch"
_OTHER = "lightning.pytorch" if _uses_older_name else "pytorch_lightning"

_Kind = TypeVar("_Kind")


def part_of_lightning(name: str, trainer: Trainer | None = None) -> Any:
    """Returns a module of Lightning by its path inside the package: inside that of the trainer, where one is given.

    >>> part_of_lightning("callbacks.timer").Timer.__name__
    'Timer'
    """
    is_other = trainer is not None and not isinstance(trainer, Trainer)
    return importlib.import_module(f"{_OTHER if is_other else NAME}.{name}".rstrip("."))


def either(*kinds: type[_Kind]) -> tuple[type[_Kind], ...]:
    """Returns classes of Lightning's and, where something has imported the other package, its classes of these names.

    >>> [one.__name__ for one in either(Callback)][:1]
    ['Callback']
    """
    modules = [sys.modules.get(kind.__module__.replace(NAME, _OTHER, 1)) for kind in kinds]
    others = [getattr(module, kind.__name__, None) for module, kind in zip(modules, kinds, strict=True)]
    return (*kinds, *(other for other in others if other is not None))  # an older version may lack one


def is_overridden(hook: str, owner: LightningModule | LightningDataModule) -> bool:
    """Returns whether a module or data has a hook of its own in place of the one that Lightning gives every one."""
    parent = next(kind for kind in either(LightningModule, LightningDataModule) if isinstance(owner, kind))
    return bool(part_of_lightning("utilities.model_helpers").is_overridden(hook, owner, parent))


def of_the_other(kind: type) -> str:
    """Returns what there is to say of a class of modules, data or callbacks that is made with the other package."""
    others = either(LightningModule, LightningDataModule, Callback)[3:]
    if not issubclass(kind, others):
        return ""
    return f"it is made with {_OTHER}, and {NAME} is at work here: import {_OTHER} alone, and before lit_lrsched"


def trainer_for(owner: LightningModule | LightningDataModule) -> type[Trainer]:
    """Returns the trainer of the package that a module or data is made with; that of the other one refuses it.

    >>> trainer_for(LightningModule()) is Trainer
    True
    """
    own = isinstance(owner, (LightningModule, LightningDataModule))
    return Trainer if own else either(Trainer)[-1]


if TYPE_CHECKING:
    from lightning.fabric.utilities.cloud_io import get_filesystem
    from lightning.fabric.utilities.exceptions import MisconfigurationException
    from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer, seed_everything
    from lightning.pytorch.callbacks import (
        BatchSizeFinder,
        EarlyStopping,
        GradientAccumulationScheduler,
        LearningRateFinder,
        ModelCheckpoint,
        ProgressBar,
        StochasticWeightAveraging,
        TQDMProgressBar,
    )
    from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm
    from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
    from lightning.pytorch.loggers.logger import DummyLogger
    from lightning.pytorch.profilers import PassThroughProfiler
    from lightning.pytorch.strategies import Strategy
    from lightning.pytorch.utilities import CombinedLoader, rank_zero_info, rank_zero_only, rank_zero_warn
    from lightning.pytorch.utilities.seed import isolate_rng
    from lightning.pytorch.utilities.signature_utils import is_param_in_hook_signature
    from lightning.pytorch.utilities.types import LRSchedulerConfig, OptimizerLRSchedulerConfig
else:
    for _path, _names in {
        "": "Callback LightningDataModule LightningModule Trainer seed_everything",
        "callbacks": "BatchSizeFinder EarlyStopping GradientAccumulationScheduler LearningRateFinder ModelCheckpoint "
        "ProgressBar StochasticWeightAveraging TQDMProgressBar",
        "callbacks.progress.tqdm_progress": "Tqdm",
        "loggers": "CSVLogger Logger TensorBoardLogger",
        "loggers.logger": "DummyLogger",
        "profilers": "PassThroughProfiler",
        "strategies": "Strategy",
        "utilities": "CombinedLoader rank_zero_info rank_zero_only rank_zero_warn",
        "utilities.exceptions": "MisconfigurationException",
        "utilities.seed": "isolate_rng",
        "utilities.signature_utils": "is_param_in_hook_signature",
        "utilities.types": "LRSchedulerConfig OptimizerLRSchedulerConfig",
    }.items():
        _part = part_of_lightning(_path)
        globals().update({name: getattr(_part, name) for name in _names.split()})
    _fabric = "lightning_fabric" if _uses_older_name else "lightning.fabric"
    get_filesystem = importlib.import_module(f"{_fabric}.utilities.cloud_io").get_filesystem

__all__ = [
    "NAME",
    "BatchSizeFinder",
    "CSVLogger",
    "Callback",
    "CombinedLoader",
    "DummyLogger",
    "EarlyStopping",
    "GradientAccumulationScheduler",
    "LRSchedulerConfig",
    "LearningRateFinder",
    "LightningDataModule",
    "LightningModule",
    "Logger",
    "MisconfigurationException",
    "ModelCheckpoint",
    "OptimizerLRSchedulerConfig",
    "PassThroughProfiler",
    "ProgressBar",
    "StochasticWeightAveraging",
    "Strategy",
    "TQDMProgressBar",
    "TensorBoardLogger",
    "Tqdm",
    "Trainer",
    "either",
    "get_filesystem",
    "is_overridden",
    "is_param_in_hook_signature",
    "isolate_rng",
    "of_the_other",
    "part_of_lightning",
    "rank_zero_info",
    "rank_zero_only",
    "rank_zero_warn",
    "seed_everything",
    "trainer_for",
]

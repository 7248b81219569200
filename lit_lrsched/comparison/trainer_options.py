"""Which options of a trainer a race honours, and which it refuses, since they would change what is trained.

Honoured: accelerator, devices and strategy, which say where to train, limits of batches, gradient accumulation and
clipping, and precision. What neither changes the weights nor what is measured is not looked at: loggers, checkpoints,
bars, sanity checks, profilers, anomaly detection. ``deterministic`` and ``benchmark`` hold for the whole process, the
race included. All else is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from lit_lrsched.comparison.engine.clipping import Clip
from lit_lrsched.comparison.engine.regime import Regime
from lit_lrsched.errors import InputError
from lit_lrsched.plans.console import shortest_path
from lit_lrsched.trainer.callbacks.learning_rate_logger import LearningRateLogger
from lit_lrsched.trainer.callbacks.schedule_report import ScheduleReport
from lit_lrsched.trainer.lightning_internals import callbacks_of
from lit_lrsched.trainer.lightning_package import (
    Callback,
    LightningModule,
    Trainer,
    either,
    is_overridden,
    part_of_lightning,
)

# What the trainer's options are where they change nothing.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "fast_dev_run": (False, 0),
    "max_steps": (-1,),
    "overfit_batches": (0.0, 0),
    "val_check_interval": (1.0, None),
    "check_val_every_n_epoch": (1,),
}

_precision, _callbacks = part_of_lightning("plugins.precision"), part_of_lightning("callbacks")

_PRECISIONS = (_precision.Precision, _precision.MixedPrecision, _precision.HalfPrecision, _precision.DoublePrecision)

# Callbacks that train nothing: what they show or save, a race has no use for.
_IDLE = (
    *(LearningRateLogger, ScheduleReport),
    *(_callbacks.DeviceStatsMonitor, _callbacks.LearningRateMonitor, _callbacks.ModelCheckpoint),
    *(_callbacks.ModelSummary, _callbacks.OnExceptionCheckpoint, _callbacks.ProgressBar),
)


def regime_of(trainer: Trainer) -> Regime:
    """Returns which batches a trainer goes through, and how it makes steps of their gradients.

    Raises:
        InputError: When nothing is left to train on.

    >>> regime_of(Trainer(accelerator="cpu", gradient_clip_val=0.5, logger=False, enable_checkpointing=False)).clip
    Clip(value=0.5, algorithm='norm')
    """
    clip, value = None, float(trainer.gradient_clip_val or 0)
    if value > 0:  # a negative one turns clipping off, as 0 does
        algorithm = getattr(trainer.gradient_clip_algorithm, "value", trainer.gradient_clip_algorithm)
        clip = Clip(value, cast("Any", algorithm or "norm"))
    limits = trainer.limit_train_batches, trainer.limit_val_batches, trainer.limit_test_batches
    return Regime(trainer.accumulate_grad_batches, clip, *limits, trainer.precision)


def logs_of(trainer: Trainer) -> Path:
    """Returns a trainer's ``lightning_logs``, as a path from the working directory where it lies below it."""
    return Path(shortest_path(trainer.default_root_dir), "lightning_logs")


def check_trainer(trainer: Trainer, epochs: int, what: str) -> list[str]:
    """Refuses a trainer whose options would change what is trained, and returns what there is to say of the others.

    Args:
        trainer: The trainer.
        epochs: Epochs of each training.
        what: What asks, such as ``a race``.

    Raises:
        InputError: For an option that is not honoured.
    """
    for name, neutral in _NEUTRAL.items():
        value = getattr(trainer, name)
        # A limit of 1 is one batch, and one of 1.0 all of them.
        if not any(value == one and type(value) is type(one) for one in neutral):
            raise InputError(f"{what} does not honour the trainer's {name}={value}: leave it out")
    if trainer.reload_dataloaders_every_n_epochs:  # type: ignore[attr-defined]
        raise InputError(f"{what} does not honour the trainer's reload_dataloaders_every_n_epochs: leave it out")
    plugin = type(trainer.precision_plugin)
    if plugin not in either(*_PRECISIONS):
        raise InputError(f"{what} does not honour the trainer's {plugin.__name__}: give precision, or leave it out")
    if trainer.max_epochs not in (None, epochs):
        raise InputError(f"epochs={epochs}, and the trainer has max_epochs={trainer.max_epochs}: give one of the two")
    callbacks: list[Callback] = callbacks_of(trainer)
    if any(isinstance(one, either(_callbacks.Timer)) for one in callbacks):
        raise InputError(f"{what} has no clock to end its runs by: leave max_time out, the Timer")
    left_out = _left_out("The trainer's", callbacks)
    if trainer.world_size == 1:
        return left_out
    return [f"Each run trains on one of the {trainer.world_size} devices, and its batches are not split.", *left_out]


def own_callbacks_left_out(module: LightningModule) -> list[str]:
    """Returns what there is to say of the callbacks that a module brings: as those of a trainer they are left out."""
    if not is_overridden("configure_callbacks", module):
        return []
    brought = module.configure_callbacks()
    callbacks = list(brought) if isinstance(brought, Sequence) else [brought]
    return _left_out(f"{type(module).__name__}'s own", callbacks)


def _left_out(whose: str, callbacks: Sequence[Callback]) -> list[str]:
    names = list(dict.fromkeys(type(one).__name__ for one in callbacks if not isinstance(one, either(*_IDLE))))
    return [f"{whose} {', '.join(names)} {'is' if len(names) == 1 else 'are'} left out."] if names else []

"""How long a trainer trains, in optimizer steps."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeVar, cast

from lit_lrsched.errors import InputError
from lit_lrsched.schedules.core import Horizon, epoch_length
from lit_lrsched.trainer.lightning_internals import callbacks_of, has_resumable_loaders
from lit_lrsched.trainer.lightning_package import (
    Callback,
    GradientAccumulationScheduler,
    StochasticWeightAveraging,
    Trainer,
    either,
)

_Callback = TypeVar("_Callback", bound=Callback)


def horizon_of(trainer: Trainer) -> Horizon:
    """Returns how many optimizer steps a trainer will take, and how many an epoch has, where those have one length.

    Raises:
        InputError: When training has no known end.
    """
    if trainer.train_dataloader is None:
        trainer.fit_loop.setup_data()
    steps = stepping_batches(trainer)
    if steps == math.inf:
        raise InputError(
            "max_epochs=-1 trains without end, as max_time alone does, so a schedule has no horizon: "
            "set max_epochs or max_steps"
        )
    if steps == -1:
        raise InputError(
            "the training data has no length, so a schedule has no horizon: set max_steps, or limit_train_batches to "
            "the batches that make an epoch"
        )
    if steps == 0:
        raise InputError(
            "there is nothing to train, no batches or no steps, so a schedule has no horizon: "
            "raise max_epochs, max_steps or limit_train_batches, or give more data"
        )
    if why_no_epochs(trainer):
        return Horizon(int(steps))
    batches = trainer.num_training_batches
    return Horizon(int(steps), steps_per_epoch=math.ceil(batches / trainer.accumulate_grad_batches))


def stepping_batches(trainer: Trainer) -> float:
    """Returns ``trainer.estimated_stepping_batches``, right with callbacks that change how epochs are trained too.

    Args:
        trainer: A trainer whose training data is set up.
    """
    if trainer.limit_train_batches == 0 or trainer.max_epochs == 0:  # which Lightning takes for 1 there
        return 0
    accumulation, batches = callback_of(trainer, GradientAccumulationScheduler), trainer.num_training_batches
    averaging = callback_of(trainer, StochasticWeightAveraging)
    if not (accumulation or averaging) or batches == math.inf or trainer.max_epochs in (None, -1):
        return trainer.estimated_stepping_batches
    # To measure statistics of BatchNorm, averaging adds an epoch at the end, which takes no steps.
    epochs = min(trainer.max_epochs, getattr(averaging, "swa_end", math.inf) + 1)
    steps = sum(
        math.ceil(
            batches
            / (accumulation.get_accumulate_grad_batches(epoch) if accumulation else trainer.accumulate_grad_batches)
        )
        for epoch in range(int(epochs))
    )
    return steps if trainer.max_steps == -1 else min(steps, trainer.max_steps)


def callback_of(trainer: Trainer, kind: type[_Callback]) -> _Callback | None:
    """Returns the trainer's first callback of a kind."""
    return next((one for one in callbacks_of(trainer) if isinstance(one, either(kind))), None)


def why_no_epochs(trainer: Trainer) -> str | None:
    """Returns why the epochs of a run have no one length; None where they have."""
    if trainer.num_training_batches == math.inf:
        return "the training data has no length, so its epochs have none"
    if callback_of(trainer, GradientAccumulationScheduler):
        return "GradientAccumulationScheduler gives epochs different numbers of steps, so they have no one length"
    return None


def step_to_log(trainer: Trainer) -> int:
    """Returns the step that comes next, by which Lightning logs what the next batch brings.

    With manual optimization a batch may take any number of optimizer steps, so batches are counted.
    """
    if trainer.lightning_module.automatic_optimization:
        return trainer.global_step
    batches = cast("Any", trainer.fit_loop.epoch_loop.batch_progress.total)
    return int(batches.processed)


def step_logged_next(checkpoint: Mapping[str, Any], by_hand: bool) -> int:
    """Returns :func:`step_to_log` as it will be when a trainer has taken up a checkpoint.

    Args:
        checkpoint: What Lightning saved.
        by_hand: Whether the module optimizes by hand.
    """
    if not by_hand:
        return int(checkpoint["global_step"])
    return int(checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["processed"])


def steps_reached(trainer: Trainer) -> int:
    """Returns the step of the horizon that training stands at, so that both will end together.

    Epochs done and batches of this one, as the trainer counts them, or optimizer steps where those limit training.
    With manual optimization a batch may take any number of optimizer steps, so batches are counted.
    """
    loop = trainer.fit_loop
    epochs, batches = cast("Any", loop.epoch_progress.current), loop.epoch_loop.batch_progress.state_dict()
    amid = loop.restarting and epochs.started > epochs.processed
    return _steps_done(trainer, trainer.global_step, epochs.processed, batches if amid else None)


def steps_done(trainer: Trainer, checkpoint: Mapping[str, Any]) -> int:
    """Returns :func:`steps_reached` as it will be when the trainer has taken up a checkpoint.

    Args:
        trainer: A trainer that has not taken it up.
        checkpoint: What Lightning saved.
    """
    loops = checkpoint["loops"]["fit_loop"]
    epochs, batches = loops["epoch_progress"]["current"], loops["epoch_loop.batch_progress"]
    amid = epochs["started"] > epochs["processed"]
    return _steps_done(trainer, checkpoint["global_step"], epochs["processed"], batches if amid else None)


def _steps_done(trainer: Trainer, steps: int, epochs: int, amid: Mapping[str, Any] | None) -> int:
    horizon = horizon_of(trainer)
    if horizon.steps == trainer.max_steps or why_no_epochs(trainer):
        return steps
    in_epoch = epoch_length("the step reached", horizon)
    batches = _batches_done(trainer, amid) if amid else 0
    is_over = batches >= trainer.num_training_batches  # its last batches made a step, however few they were
    return epochs * in_epoch + (in_epoch if is_over else batches // trainer.accumulate_grad_batches)


def _batches_done(trainer: Trainer, progress: Mapping[str, Any]) -> int:
    """Returns how many batches of an unfinished epoch will not be trained again.

    Saved after a batch that was not its last, the epoch is begun anew where it has no more batches now than are done,
    unless its data goes on by itself, and has none left.
    """
    done: int = progress["current"]["processed"]
    amid = progress["current"]["completed"] < done and not progress["is_last_batch"]
    begins_anew = amid and done >= trainer.num_training_batches and not has_resumable_loaders(trainer)
    return 0 if begins_anew else done

"""What a checkpoint says of the run that goes on from it, as far as its plan is concerned."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

from lit_lrsched.errors import InputError
from lit_lrsched.optim.param_groups import lr_of
from lit_lrsched.optim.training_loop import Resumed
from lit_lrsched.trainer.horizon import callback_of, steps_done, steps_reached
from lit_lrsched.trainer.lightning_internals import (
    callbacks_of,
    load_checkpoint,
    loaded_checkpoint,
    take_up_checkpoint,
)
from lit_lrsched.trainer.lightning_package import (
    BatchSizeFinder,
    LearningRateFinder,
    StochasticWeightAveraging,
    Trainer,
    either,
)

_NEEDED = {"loops", "optimizer_states", "lr_schedulers"}
_WEIGHTS_ALONE = "has weights alone, and a run cannot go on from these: give a whole checkpoint"


def resumed_run(trainer: Trainer) -> Resumed | None:
    """Returns where a run goes on; None for one that begins.

    Args:
        trainer: A trainer that has read its checkpoint and has not taken up its loops, optimizers and schedulers:
            in ``on_fit_start``, or after :func:`read_checkpoint`.

    Raises:
        InputError: When the checkpoint has weights alone or is of another kind of optimizer, or training has no known
            end.
    """
    checkpoint = loaded_checkpoint(trainer)
    if not checkpoint:
        done = steps_reached(trainer) if trainer.global_step > 0 else 0
        return Resumed(done) if done else None
    if not checkpoint.keys() >= _NEEDED:
        raise InputError(f"the checkpoint {_WEIGHTS_ALONE}")
    check_same_kind(trainer)
    return Resumed(steps_done(trainer, checkpoint), checkpoint["optimizer_states"], checkpoint["lr_schedulers"])


def read_checkpoint(trainer: Trainer, path: str, weights_only: bool | None = None) -> None:
    """Does what ``Trainer.fit`` does with a checkpoint before it makes optimizers.

    Args:
        trainer: A trainer whose module and data are set up.
        path: The checkpoint.
        weights_only: As for ``Trainer.fit``.

    Raises:
        InputError: When it cannot be read, is of another module, or has weights alone; or when it would be lost.
    """
    if Path(path).is_dir():
        raise InputError(
            f"ckpt_path={path!r} was written by several processes, and a preview, which is one, cannot read it: leave "
            "it out; the fit says at which step it goes on"
        )
    if not Path(path).exists() and "://" not in path:  # best, hpc, or one of the registry
        raise InputError(
            f"ckpt_path={path!r} is looked up by the fit, and a preview cannot: give its file, or leave it out"
        )
    try:
        load_checkpoint(trainer, path, weights_only)
    except Exception as error:
        if (reason := unreadable(path, error)) is None:
            raise
        raise InputError(reason) from error
    if not loaded_checkpoint(trainer).keys() >= _NEEDED:
        raise InputError(f"ckpt_path={path!r}: it {_WEIGHTS_ALONE}")
    check_not_lost(trainer)
    try:
        take_up_checkpoint(trainer)
    except Exception as error:  # a hook of the module or its data may fail in any way
        if (reason := is_of_another(path, error)) is None:
            raise
        raise InputError(reason) from error


def check_not_lost(trainer: Trainer) -> None:
    """Refuses to go on from a checkpoint with a callback that trains first: it drops all of it but the weights.

    Args:
        trainer: A trainer that has read its checkpoint, before the callback starts.

    Raises:
        InputError: When there is a checkpoint and such a callback.
    """
    # Subclasses may search at another time.
    searches = {one.on_fit_start for kind in (BatchSizeFinder, LearningRateFinder) for one in either(kind)}
    finders = [one for one in callbacks_of(trainer) if type(one).on_fit_start in searches]
    if loaded_checkpoint(trainer) and finders:
        raise InputError(
            f"{type(finders[0]).__name__} would put the resumed run back to its first step: "
            "leave it out when resuming, and set what it has found"
        )


def check_same_kind(trainer: Trainer) -> None:
    """Refuses to go on with an optimizer of another kind than the checkpoint's: it would miss its settings.

    Args:
        trainer: A trainer that has read its checkpoint, and whose optimizers are configured.

    Raises:
        InputError: When there is a checkpoint whose param groups lack a setting.
    """
    states = loaded_checkpoint(trainer).get("optimizer_states", [])
    for optimizer, state in zip(trainer.optimizers, states, strict=False):
        known = {name for group in state.get("param_groups", []) for name in group}
        lacking = [name for name, value in optimizer.defaults.items() if _is_number(value) and name not in known]
        if known and lacking:
            raise InputError(
                f"the checkpoint is of another optimizer than {type(optimizer).__name__}, one without {lacking[0]}: "
                "go on with the optimizer that it was trained with"
            )


def _is_number(value: Any) -> bool:
    """Returns whether a setting is a number or several; switches are new in some versions of torch."""
    return isinstance(value, (int, float, tuple)) and not isinstance(value, bool)


def left_without_schedule(trainer: Trainer) -> str | None:
    """Returns what to say of a run that goes on without the schedule that its checkpoint had; None of any other.

    Args:
        trainer: A trainer that has read its checkpoint, and whose optimizers and schedulers are configured.
    """
    checkpoint = loaded_checkpoint(trainer)
    averages = callback_of(trainer, StochasticWeightAveraging)  # which may have put its own in the schedule's place
    if trainer.strategy.lr_scheduler_configs or not checkpoint.get("lr_schedulers") or averages:
        return None
    groups = [group for state in checkpoint["optimizer_states"] for group in state["param_groups"]]
    rates = ", ".join(dict.fromkeys(f"{lr_of(group):.4g}" for group in groups))
    return f"the checkpoint is of a run with a schedule, and this one has none: the learning rate stays at {rates}"


def unreadable(path: str, error: BaseException) -> str | None:
    """Returns why a checkpoint cannot be read, by the error that it led to; None for an error of another kind."""
    if isinstance(error, pickle.UnpicklingError):
        return (
            f"ckpt_path={path!r}: it is damaged, or holds objects, which could run any code when loaded: "
            "give a checkpoint of weights and plain values"
        )
    if isinstance(error, (RuntimeError, EOFError, AttributeError, KeyError)):
        return f"ckpt_path={path!r}: it is damaged, or no checkpoint: give another one"
    return None


def is_of_another(path: str, error: BaseException) -> str | None:
    """Returns what a checkpoint does not fit, by the error that it led to; None for an error of another kind."""
    if isinstance(error, RuntimeError) and "loading state_dict for" in str(error):
        return f"ckpt_path={path!r}: its weights are those of another model: give one of this model"
    if isinstance(error, ValueError) and "loaded state dict" in str(error):
        return f"ckpt_path={path!r}: its optimizer has other param groups: give one of this optimizer"
    if isinstance(error, KeyError) and "checkpoint contains only the model" in str(error):
        return f"ckpt_path={path!r}: it {_WEIGHTS_ALONE}"
    return None

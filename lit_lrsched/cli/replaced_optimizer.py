"""Optimizer and schedule of the command line for a model whose constructor takes neither."""

from __future__ import annotations

from collections.abc import Callable
from types import MethodType
from typing import Any, cast

from torch.optim import Optimizer

from lit_lrsched.cli.arguments import ScheduleOptions
from lit_lrsched.errors import InputError
from lit_lrsched.optim.regroup import regroup
from lit_lrsched.trainer.callbacks.apply_schedule import ApplySchedule
from lit_lrsched.trainer.lightning_package import Callback, LightningModule, is_overridden, rank_zero_info
from lit_lrsched.trainer.schedule_config import unscheduled


class TypedSchedule(ApplySchedule):
    """The schedule of the command line, which counts more than one of the module's own callbacks.

    Lightning lets these (``configure_callbacks``) take the place of callbacks of their class and of its base classes.
    """


def apply_to(model: LightningModule, options: ScheduleOptions) -> list[Callback]:
    """Gives a model the optimizer, and returns the callback that gives it the schedule; says what is replaced."""
    if options.optimizer is not None:
        own = model.configure_optimizers if is_overridden("configure_optimizers", model) else None
        optimizer = options.optimizer

        def configure_optimizers(model: LightningModule) -> Optimizer:
            return _in_place_of(own, optimizer, model)

        cast("Any", model).configure_optimizers = MethodType(configure_optimizers, model)
        rest = "" if options.lr_scheduler is not None else ", its schedule included"
        rank_zero_info(f"--optimizer takes the place of {type(model).__name__}.configure_optimizers{rest}.")
    if options.lr_scheduler is None:
        return []
    return [TypedSchedule(options.lr_scheduler, **options.of_schedule(), replace=True)]


def _in_place_of(own: Callable[[], Any] | None, optimizer: Any, model: LightningModule) -> Optimizer:
    """Returns the optimizer that was asked for, over the param groups of the module's own where it has some."""
    module, present = type(model).__name__, []
    try:
        present = unscheduled(own()) if own else []
    except Exception as error:
        # What is replaced need not work: its schedule may not fit this run, say.
        rank_zero_info(f"{module}.configure_optimizers fails, so its param groups are not known: {error}")
    if len(present) > 1:
        raise InputError(
            f"--optimizer is one optimizer, and {module}.configure_optimizers returns {len(present)}: leave it out"
        )
    if not present:
        made: Optimizer = optimizer(model.parameters())
        return made
    regrouped, kept = regroup(optimizer, present[0])
    if kept:
        rank_zero_info(f"{module}'s {kept}.")
    return regrouped

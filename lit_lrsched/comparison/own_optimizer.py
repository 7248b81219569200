"""The optimizer that a module brings itself: asked once what it is, and anew for every run."""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from dataclasses import replace

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lit_lrsched.comparison.engine.bare_trainer import bare_trainer, quietly
from lit_lrsched.comparison.engine.regime import Regime
from lit_lrsched.comparison.engine.training import OptimizerCallable
from lit_lrsched.comparison.own_schedule import OWN, OwnSchedule, check_tells_its_steps, own_schedule
from lit_lrsched.comparison.racing_optimizer import RacingOptimizer, Regrouped, checked, described_optimizer, given
from lit_lrsched.errors import InputError
from lit_lrsched.optim.param_groups import scales_left_out, undo_schedulers
from lit_lrsched.optim.training_loop import SchedulerConfig, TrainingLoop
from lit_lrsched.trainer.fit_plan import Configured, DoesNotFit, configure
from lit_lrsched.trainer.lightning_internals import begin_fit
from lit_lrsched.trainer.lightning_package import (
    LightningDataModule,
    LightningModule,
    Trainer,
    is_overridden,
    trainer_for,
)


def ask(module: LightningModule, data: LightningDataModule, regime: Regime, epochs: int) -> RacingOptimizer:
    """Asks a fresh module for its optimizer and its schedule, as a ``Trainer.fit`` of so many epochs would.

    Args:
        module: The module.
        data: Its data.
        regime: Which batches train, and how their gradients make steps.
        epochs: Epochs of the run.

    Raises:
        InputError: When it has none, or several, or one whose rate cannot be set.
    """
    optimizer, configs, loop = _asked(module, data, regime, epochs)
    schedule, notes = None, []
    if configs and takes("lr_scheduler", module):
        of_argument = own_schedule(optimizer, configs, loop).name
        notes.append(f"The schedules race in place of its lr_scheduler, {of_argument}.")
    elif configs:
        try:
            check_tells_its_steps(optimizer)
            schedule = own_schedule(optimizer, configs, loop)
        except InputError as error:
            notes.append(f"Its own schedule does not race: {error}.")
        else:
            notes.append(f"Its own schedule, {schedule.name}, races as {OWN!r}.")
    own = _described(module, optimizer, configs, schedule, tuple(notes))
    if schedule is not None and (peak := float(schedule.rates[:, 0].max()) / own.lr) > 1.01:
        own = replace(own, notes=(*own.notes, f"Its highest rate is {peak:.3g} times the peak rate that it races at."))
    return own


def ask_with_schedule(
    module: LightningModule, data: LightningDataModule, regime: Regime, epochs: int, steps: int | None
) -> RacingOptimizer:
    """Asks a fresh module for its optimizer, and for its schedule too where that is an argument of the module.

    Args:
        module: The module.
        data: Its data.
        regime: Which batches train, and how their gradients make steps.
        epochs: Epochs of the run.
        steps: Optimizer steps of the run, where it ends within the last of its epochs.

    Raises:
        InputError: When it has no optimizer, or several, or one whose rate cannot be set, or a schedule that will stop
            training.
    """
    optimizer, configs, loop = _asked(module, data, regime, epochs, steps)
    return _described(module, optimizer, configs, own_schedule(optimizer, configs, loop) if configs else None)


def _asked(
    module: LightningModule,
    data: LightningDataModule,
    regime: Regime,
    epochs: int,
    steps: int | None = None,
) -> tuple[Optimizer, Sequence[SchedulerConfig], TrainingLoop]:
    configured = _configured(module, data, regime, epochs, steps)
    if not any(optimizer.param_groups for optimizer in configured.optimizers):
        name = type(module).__name__
        raise InputError(f"{name} has no optimizer, so there is no rate to set: give optimizer, or return one from it")
    (optimizer,) = configured.optimizers
    return optimizer, configured.configs, configured.loop


def _described(
    module: LightningModule,
    optimizer: Optimizer,
    configs: Sequence[SchedulerConfig],
    schedule: OwnSchedule | None,
    notes: tuple[str, ...] = (),
) -> RacingOptimizer:
    returned = [one.scheduler for one in configs]
    by_hand = [
        one
        for one in vars(module).values()
        if isinstance(one, LRScheduler) and one.optimizer is optimizer and one not in returned
    ]
    undo_schedulers([optimizer], [*returned, *by_hand])
    name = type(module).__name__
    if by_hand:
        kept = ", ".join(type(one).__name__ for one in by_hand)
        notes = (*notes, f"{name} keeps {kept} to itself, to step it by hand: it is left out.")
    if text := scales_left_out(optimizer):
        notes = (*notes, f"{text[0].upper()}{text[1:]}.")
    return checked(
        described_optimizer(optimizer, list(module.parameters()), module=name, schedule=schedule, notes=notes)
    )


def _configured(
    module: LightningModule, data: LightningDataModule, regime: Regime, epochs: int, steps: int | None
) -> Configured:
    with quietly():
        trainer = _trainer(module, regime, epochs, steps)
        try:
            return configure(trainer, module, data)
        except DoesNotFit:
            if steps is None and trainer.num_training_batches == math.inf:
                raise InputError(
                    "the training data has no length, so a race has no end: give data with a length, or "
                    "limit_train_batches"
                ) from None
            raise
        except RuntimeError as error:
            if "multiple optimizers" not in str(error):
                raise
            raise InputError(
                f"{type(module).__name__} has several optimizers, and only the rate of one can be set: return one from "
                "it"
            ) from None


def _trainer(module: LightningModule, regime: Regime, epochs: int, steps: int | None) -> Trainer:
    return bare_trainer(trainer_for(module), epochs, steps, accelerator="cpu", devices=1, **regime.counts())


def in_place_of_own(
    make: OptimizerCallable,
    module: LightningModule,
    data: LightningDataModule,
    regime: Regime,
    epochs: int,
    steps: int | None = None,
) -> RacingOptimizer:
    """Describes an optimizer that is given: in the param groups of the module's own where it has some, as in ``fit``.

    Args:
        make: Takes parameters and returns the optimizer.
        module: A fresh module.
        data: Its data.
        regime: Which batches train, and how their gradients make steps.
        epochs: Epochs of the run.
        steps: Optimizer steps of the run, where it ends within the last of its epochs.

    Raises:
        InputError: When there is no rate of its own to set, or an optimizer is given in place of what makes one.
    """
    _check_is_none_yet(make)
    if not is_overridden("configure_optimizers", module) or takes("optimizer", module):
        with quietly():
            begin_fit(_trainer(module, regime, epochs, steps), module, data)  # a module may make its layers in setup
        return given(make, module.parameters())
    note = f"It takes the place of {type(module).__name__}.configure_optimizers, its schedule included"
    try:
        optimizer, configs, _ = _asked(module, data, regime, epochs, steps)
        own = _described(module, optimizer, configs, None, ())
    except Exception as error:  # what is replaced need not work, as long as setup does
        if not any(True for _ in module.parameters()):
            raise
        note = f"{note}; that fails, so its param groups are not known: {error}."
        return given(make, module.parameters(), (note,))
    parameters = list(module.parameters())
    if own.holds_others or own.members == (tuple(range(len(parameters))),):
        return given(make, parameters, (f"{note}.",))
    return given(Regrouped(make, own), parameters, (f"{note}; its param groups stay.",))


def _check_is_none_yet(make: object) -> None:
    if isinstance(make, Optimizer):
        kind = type(make).__name__
        raise InputError(f"optimizer={kind}(...) has its parameters already: give what makes one, like {kind} itself")


def takes(argument: str, module: LightningModule) -> bool:
    """Returns whether a module takes what makes its optimizer or schedule as an argument, for the race to choose.

    As in ``fit``, the argument's type has to tell: ``optimizer: str`` or one without a type means something else.
    """
    owner = next(base for base in type(module).__mro__ if "configure_optimizers" in vars(base))
    if "__init__" not in vars(owner) or argument not in inspect.signature(owner).parameters:
        return False
    kind = str(inspect.signature(owner).parameters[argument].annotation)
    return any(word in kind for word in ("Callable", "Optimizer", "Schedule"))

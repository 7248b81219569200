"""The optimizer that a module brings itself: asked once what it is, and anew for every run."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from torch.optim import SGD, Adam, AdamW, Optimizer

from lit_lrsched.comparison.engine.recorder import NotVectorizable
from lit_lrsched.comparison.engine.sequential import quietly
from lit_lrsched.errors import InputError
from lit_lrsched.optim.param_groups import get_value, settings_of, undo_schedulers
from lit_lrsched.optim.scheduled_lr import ScheduledLR
from lit_lrsched.trainer.fit_plan import configure
from lit_lrsched.trainer.lightning_internals import optimizers_in


@dataclass(frozen=True)
class OwnOptimizer:
    """What a module's ``configure_optimizers`` returns, without its schedule.

    Args:
        func: The optimizer's class.
        module: Name of the module's class.
        groups: The settings of each param group.
        members: The parameters of each group, by their place in ``module.parameters()``.
        count: How many parameters the module has.
        schedule: Name of the schedule that comes with it; None without.
        is_whole: Whether one group holds all that can be trained, so that the class and its settings say everything.
    """

    func: type[Optimizer]
    module: str
    groups: tuple[Mapping[str, Any], ...]
    members: tuple[tuple[int, ...], ...]
    count: int
    schedule: str | None
    is_whole: bool

    @property
    def lr(self) -> float:
        """The rate of the first param group, in proportion to which the others are set."""
        return get_value(self.groups[0], "lr")

    def __call__(self, parameters: Iterable[Any]) -> Optimizer:
        """Makes the same optimizer for another module of this kind, or one of its first group for other parameters.

        Raises:
            NotVectorizable: When its class cannot be made from param groups for sure.
        """
        if self.func not in (SGD, Adam, AdamW):
            raise NotVectorizable(f"the optimizer {self.func.__name__} is not SGD, Adam or AdamW")
        given = list(parameters)
        if len(given) != self.count:
            return self.func([{"params": given, **self.groups[0]}])
        groups = zip(self.groups, self.members, strict=True)
        return self.func([{"params": [given[place] for place in places], **group} for group, places in groups])

    def written(self) -> partial[Optimizer]:
        """Returns the class with its settings, ready to be written as configuration.

        Raises:
            InputError: When these do not say everything.
        """
        if not self.is_whole:
            raise InputError(
                f"the optimizer of {self.module} has param groups, or leaves parameters out, which no configuration "
                "says, so there is nothing to export: set the rates in configure_optimizers"
            )
        return partial(self.func, **self._settings())

    def __str__(self) -> str:
        """Returns it in a few words."""
        settings = {name: value for name, value in self._settings().items() if name != "lr"}
        listed = ", ".join(f"{name}={value}" for name, value in settings.items())
        return f"{self.module}'s own {self.func.__name__}{f' ({listed})' if listed else ''}"

    def _settings(self) -> dict[str, Any]:
        """Returns the first group's settings that the class does not have by default."""
        known = inspect.signature(self.func).parameters
        return {name: value for name, value in self.groups[0].items() if name in known and value != known[name].default}


def ask(module: LightningModule, data: LightningDataModule, epochs: int) -> OwnOptimizer:
    """Asks a fresh module for its optimizer, as a ``Trainer.fit`` of so many epochs would.

    Raises:
        InputError: When it has none, or several.
    """
    name = type(module).__name__
    try:
        with quietly():
            trainer = Trainer(
                max_epochs=epochs,
                accelerator="cpu",
                devices=1,
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
            )
            configured = configure(trainer, module, data)
    except RuntimeError as error:
        if "multiple optimizers" not in str(error):
            raise
        raise InputError(
            f"{name} has several optimizers, and a race sets the rate of one: return one from it"
        ) from None
    optimizers, configs = configured.optimizers, configured.configs
    if not any(optimizer.param_groups for optimizer in optimizers):
        raise InputError(f"{name} has no optimizer, so there is no rate to race: give optimizer, or return one from it")
    (optimizer,) = optimizers
    schedulers = [config.scheduler for config in configs]
    undo_schedulers([optimizer], schedulers)
    everything = list(module.parameters())
    place = {parameter: number for number, parameter in enumerate(everything)}
    parameters = [group["params"] for group in optimizer.param_groups]
    trained = {parameter for parameter in everything if parameter.requires_grad}
    own = OwnOptimizer(
        func=type(optimizer),
        module=name,
        groups=tuple(_plain(group) for group in optimizer.param_groups),
        members=tuple(tuple(place.get(parameter, -1) for parameter in group) for group in parameters),
        count=len(everything),
        schedule=_name(schedulers[0]) if schedulers else None,
        is_whole=len(parameters) == 1 and trained <= set(parameters[0]),
    )
    if own.lr <= 0:
        raise InputError(f"the first param group of {name}'s optimizer has the rate {own.lr:g}: give it one above 0")
    return own


def unscheduled(returned: Any) -> Optimizer:
    """Returns the one optimizer of what ``configure_optimizers`` returned, at the rates that it was given."""
    (optimizer,), schedulers = optimizers_in(returned)
    each = [one.get("scheduler") if isinstance(one, Mapping) else one for one in schedulers]
    undo_schedulers([optimizer], [scheduler for scheduler in each if scheduler is not None])
    found: Optimizer = optimizer
    return found


def _name(scheduler: Any) -> str:
    return type(scheduler.schedule if isinstance(scheduler, ScheduledLR) else scheduler).__name__


def _plain(group: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value.item() if isinstance(value, torch.Tensor) else value for name, value in settings_of(group).items()
    }

"""The optimizer of a race: its class and param groups, set to a peak rate, and made anew for every run."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from lit_lrsched.comparison.engine.optimizers import HOOKED, KINDS, not_vectorized
from lit_lrsched.comparison.engine.recorder import NotVectorizable
from lit_lrsched.comparison.engine.training import OptimizerCallable
from lit_lrsched.comparison.own_schedule import OwnSchedule
from lit_lrsched.errors import InputError
from lit_lrsched.optim.dummy_optimizer import DummyOptimizer
from lit_lrsched.optim.param_groups import (
    base_lr_of,
    check_lrs,
    forget_base_lr,
    get_value,
    group_names,
    momentum_argument,
    momentum_of,
    set_value,
    settings_of,
)
from lit_lrsched.optim.regroup import regroup
from lit_lrsched.optim.torch_internals import steps_in_its_own_way


@dataclass(frozen=True, eq=False)
class RacingOptimizer:
    """An optimizer as a race knows it.

    Args:
        func: Its class.
        groups: The settings of each param group.
        defaults: The settings of a group that brings none.
        members: The parameters of each group, by their place in ``module.parameters()``.
        count: How many parameters the module has.
        module: Name of the module's class whose own it is; None where it was given.
        make: What was given: it takes parameters and returns the optimizer; a :class:`Regrouped` where these are in
            the param groups of a module's own. None for a module's own.
        schedule: The schedule that a module's own comes with.
        hooked: Whether more happens at the steps of a module's own than its class does.
        notes: What else there is to say of it, in sentences.
    """

    func: type[Optimizer]
    groups: tuple[Mapping[str, Any], ...]
    defaults: Mapping[str, Any]
    members: tuple[tuple[int, ...], ...]
    count: int
    module: str | None = None
    make: OptimizerCallable | None = None
    schedule: OwnSchedule | None = None
    hooked: bool = False
    notes: tuple[str, ...] = ()

    @property
    def keeps_groups(self) -> bool:
        """Whether its param groups are those of a module's own."""
        return self.make is None or isinstance(self.make, Regrouped)

    @property
    def lr(self) -> float:
        """The rate of the first param group, in proportion to which the others are set."""
        return get_value(self.groups[0], "lr")

    @property
    def momentum(self) -> float:
        """The momentum, or first beta, of the first group; 0 where it has none."""
        return get_value(self.groups[0], "momentum")

    @property
    def weight_decay(self) -> float:
        """The weight decay of the first group that has one; 0 where none has."""
        return _first_decay(self.groups)

    def differs(self, quantity: str) -> bool:
        """Whether its param groups have other values of this."""
        return len({get_value(group, quantity) for group in self.groups}) > 1

    def __call__(self, parameters: Iterable[Any]) -> Optimizer:
        """Makes the same optimizer for another module of this kind.

        Raises:
            NotVectorizable: When its class cannot be made from param groups for sure.
        """
        if self.make is not None:
            return self.make(parameters)
        if self.func not in KINDS:
            raise NotVectorizable(not_vectorized(self.func))
        if self.hooked:
            raise NotVectorizable(HOOKED)
        given = list(parameters)
        if len(given) != self.count or self.holds_others:
            raise NotVectorizable("its optimizer holds parameters that are not among the module's")
        known = inspect.signature(self.func).parameters
        defaults = {name: value for name, value in self.defaults.items() if name in known}
        return self.func(self.groups_of(given), **defaults)

    @property
    def holds_others(self) -> bool:
        """Whether it holds parameters that are not among the module's."""
        return -1 in {place for places in self.members for place in places}

    def groups_of(self, parameters: Sequence[Any]) -> list[dict[str, Any]]:
        """Returns its param groups, of the parameters of another module of this kind."""
        return [
            {"params": [parameters[place] for place in places], **group}
            for group, places in zip(self.groups, self.members, strict=True)
        ]

    def dummy(self) -> Optimizer:
        """Returns an optimizer with these param groups that trains nothing, for trying schedulers."""
        return DummyOptimizer(self.groups, self.defaults)

    def check_axes(self, momenta: bool, weight_decays: bool) -> None:
        """Refuses to race momenta, or weight decays, of an optimizer that has none.

        Raises:
            InputError: When a param group has none.
        """
        if momenta and any(momentum_of(group) is None for group in self.groups):
            raise InputError(f"{self.func.__name__} has no momentum: leave momenta out")
        if weight_decays and any("weight_decay" not in group for group in self.groups):
            raise InputError(f"{self.func.__name__} has no weight decay: leave weight_decays out")

    def written(self, lr: float, momentum: float | None, weight_decay: float | None) -> dict[str, Any]:
        """Returns class and arguments with which ``--optimizer`` sets up these param groups; None leaves a value.

        Raises:
            InputError: When no arguments do.
        """
        if self.hooked and self.make is None:
            raise InputError(
                f"{self.whose} has hooks, or a step, of its own, which no configuration sets up: set the rate in "
                "configure_optimizers"
            )
        arguments = {**self._settings(), "lr": lr}
        wanted = self.dummy()
        set_to(wanted, lr, momentum, weight_decay)
        if len(self.groups) > 1:
            # ``fit --optimizer`` keeps a module's own param groups: the rate that it gives is that of the highest one.
            reference = _reference([base_lr_of(group) for group in self.groups], get_value(self.defaults, "lr"))
            arguments["lr"] = lr * (reference / self.lr)
            decays = [get_value(group, "weight_decay") for group in self.groups]
            if weight_decay is None and self.differs("weight_decay"):
                arguments.pop("weight_decay", None)  # so that each group keeps its own
            elif weight_decay is not None and any(decays):
                weight_decay *= _reference(decays, get_value(self.defaults, "weight_decay")) / self.weight_decay
        if weight_decay is not None:
            arguments["weight_decay"] = weight_decay
        if momentum is not None:
            arguments.update(momentum_argument({**self.defaults, **arguments}, momentum))
        if not self._sets_up(partial(self.func, **arguments), wanted):
            raise InputError(
                f"no configuration sets up the param groups of {self.whose} ({self.groups_in_words()}), "
                "so there is nothing to export: set the rates in configure_optimizers"
            )
        return arguments

    def _sets_up(self, make: Callable[..., Optimizer], wanted: Optimizer) -> bool:
        made, _ = regroup(make, self.dummy())
        found = (_plain(group) for group in made.param_groups)
        return all(
            one.keys() == other.keys() and all(_same(one[name], other[name]) for name in one)
            for one, other in zip(found, map(_plain, wanted.param_groups), strict=True)
        )

    def __str__(self) -> str:
        """Returns it in a few words."""
        if self.module is None:
            return f"{self.func.__name__}, as given"
        settings = {name: value for name, value in self._settings().items() if name != "lr"}
        listed = ", ".join(f"{name}={value}" for name, value in settings.items())
        return f"{self.module}'s own {self.func.__name__}{f' ({listed})' if listed else ''}"

    @property
    def whose(self) -> str:
        """What messages call it."""
        return f"{self.module}'s optimizer" if self.module else "the optimizer"

    def groups_in_words(self) -> str:
        """Returns the name and the rate of each group, and its momentum and weight decay where groups differ in it."""
        differing = [quantity for quantity in ("momentum", "weight_decay") if self.differs(quantity)]
        found = []
        for name, group in zip(group_names(self.dummy()), self.groups, strict=True):
            others = ", ".join(f"{quantity} {get_value(group, quantity):g}" for quantity in differing)
            found.append(f"{name} {get_value(group, 'lr'):g}{f' ({others})' if others else ''}")
        return ", ".join(found)

    def _settings(self) -> dict[str, Any]:
        """Returns the first group's settings that the class does not have by default."""
        known = inspect.signature(self.func).parameters
        return {name: value for name, value in self.groups[0].items() if name in known and value != known[name].default}


@dataclass(frozen=True, eq=False)
class Regrouped:
    """Makes an optimizer in the param groups of a module's own, as ``fit --optimizer`` does.

    Args:
        make: Takes param groups and returns the optimizer.
        own: The module's own.
    """

    make: OptimizerCallable
    own: RacingOptimizer

    def __call__(self, parameters: Iterable[Any]) -> Optimizer:
        """Makes it for a module of this kind, given all of its parameters."""
        return regroup(self.make, _Groups(self.own.groups_of(list(parameters)), dict(self.own.defaults)))[0]


class _Groups(Optimizer):
    """Param groups, and no step: of ``Optimizer`` itself torch would change the class."""


def described_optimizer(optimizer: Optimizer, parameters: Sequence[nn.Parameter], **origin: Any) -> RacingOptimizer:
    """Describes an optimizer, set to the rates that it was given, of a module with these parameters.

    Raises:
        InputError: When it has no rate to set.
    """
    check_lrs(optimizer)
    place = {parameter: number for number, parameter in enumerate(parameters)}
    members = [group["params"] for group in optimizer.param_groups]
    return RacingOptimizer(
        func=type(optimizer),
        groups=tuple(_plain(group) for group in optimizer.param_groups),
        defaults=_plain(optimizer.defaults),
        members=tuple(tuple(place.get(parameter, -1) for parameter in group) for group in members),
        count=len(parameters),
        hooked=steps_in_its_own_way(optimizer),
        **origin,
    )


def given(make: OptimizerCallable, parameters: Iterable[nn.Parameter], notes: tuple[str, ...] = ()) -> RacingOptimizer:
    """Describes the optimizer that a callable makes of a module's parameters.

    Raises:
        InputError: When its first param group has no rate, or its rate cannot be set.
    """
    everything = list(parameters)
    return checked(described_optimizer(make(everything), everything, make=make, notes=notes))


def checked(optimizer: RacingOptimizer) -> RacingOptimizer:
    """Refuses an optimizer whose first param group has no rate above 0."""
    if optimizer.lr <= 0:
        raise InputError(
            f"the first param group of {optimizer.whose} has the rate {optimizer.lr:g}: give it one above 0"
        )
    return optimizer


def set_to(optimizer: Optimizer, lr: float, momentum: float | None = None, weight_decay: float | None = None) -> None:
    """Sets the param groups of an optimizer to a peak rate, a momentum and a weight decay.

    Args:
        optimizer: The optimizer, at its own values.
        lr: The rate of the first group; the others keep their ratio to it.
        momentum: The momentum, or first beta, of all groups. None leaves theirs.
        weight_decay: That of the first group that has one; the others keep their ratio to it, and 0 stays 0. Where no
            group has any, all get it. None leaves theirs.

    >>> import torch
    >>> weights = [nn.Parameter(torch.zeros(1)) for _ in range(3)]
    >>> groups = [{"params": [w], "lr": lr, "weight_decay": d} for w, lr, d in zip(weights, (1, 2, 3), (0.0, 0.1, 0.2))]
    >>> optimizer = torch.optim.SGD(groups)
    >>> set_to(optimizer, 0.5, momentum=0.9, weight_decay=0.4)
    >>> [(group["lr"], group["momentum"], group["weight_decay"]) for group in optimizer.param_groups]
    [(0.5, 0.9, 0.0), (1.0, 0.9, 0.4), (1.5, 0.9, 0.8)]
    """
    groups = optimizer.param_groups
    first, decay = get_value(groups[0], "lr"), _first_decay(groups)
    if momentum is not None:
        set_momentum(optimizer, momentum)
    for group in groups:
        rate = get_value(group, "lr")
        set_value(group, "lr", lr if rate == first else lr * (rate / first))
        forget_base_lr(group)
        if weight_decay is not None:
            ratio = get_value(group, "weight_decay") / decay if decay else 1.0
            set_value(group, "weight_decay", weight_decay * ratio)


def set_momentum(optimizer: Optimizer, momentum: float) -> None:
    """Sets the momentum, or first beta, of all param groups."""
    for group in optimizer.param_groups:
        set_value(group, "momentum", momentum)


def _first_decay(groups: Sequence[Mapping[str, Any]]) -> float:
    return next(filter(None, (get_value(group, "weight_decay") for group in groups)), 0.0)


def _reference(values: list[float], default: float) -> float:
    """Returns the value that ``--optimizer`` replaces by its own where a module has param groups."""
    return default if default in values else max(values)


def _plain(group: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.item() if isinstance(value, Tensor) else value for name, value in settings_of(group).items()}


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, (tuple, list)):
        return len(one) == len(other) and all(map(_same, one, other))
    return math.isclose(one, other, rel_tol=1e-9) if isinstance(one, float) else bool(one == other)

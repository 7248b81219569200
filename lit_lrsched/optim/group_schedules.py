"""Which schedule drives which value of which param group."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch.optim import Optimizer

from lit_lrsched.errors import InputError, did_you_mean, shown
from lit_lrsched.optim.param_groups import QUANTITIES, base_values_of, group_names, set_base
from lit_lrsched.schedules.core import Schedule, as_schedule
from lit_lrsched.schedules.plateau import Plateau


class BaseValue(NamedTuple):
    """A value of a param group that a schedule multiplies.

    Args:
        group: The param group's number.
        quantity: ``"lr"``, ``"momentum"`` or ``"weight_decay"``.
        base: The value at a factor of 1.
    """

    group: int
    quantity: str
    base: float


class GroupSchedule(NamedTuple):
    """A schedule and the values that it multiplies."""

    schedule: Schedule
    values: list[BaseValue]


def check_groups(groups: object) -> None:
    """Checks that groups are a mapping from names to schedules.

    Raises:
        InputError: When they are not.
    """
    if groups is None:
        return
    if not isinstance(groups, Mapping) or not all(isinstance(name, str) for name in groups):
        raise InputError(f"groups={shown(groups)} is no dict of schedules: write one, like {{'momentum': Linear()}}")
    for name, schedule in groups.items():
        as_schedule(schedule, f"groups[{name!r}]")


def group_schedules(optimizer: Optimizer, schedule: Schedule, others: Mapping[str, Schedule]) -> list[GroupSchedule]:
    """Returns the schedules of an optimizer, each with the values that it multiplies.

    Args:
        optimizer: The optimizer.
        schedule: The schedule of every learning rate that has none of its own.
        others: Schedules by what they drive: ``"momentum"``, ``"lr/backbone"``.

    Raises:
        InputError: When one of the others drives what the optimizer does not have, or what is 0.

    >>> import torch
    >>> from lit_lrsched import Constant, Linear
    >>> optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9)
    >>> for one in group_schedules(optimizer, Linear(), {"momentum": Constant()}):
    ...     print(type(one.schedule).__name__, *map(tuple, one.values))
    Linear (0, 'lr', 0.1)
    Constant (0, 'momentum', 0.9)
    """
    names = group_names(optimizer)
    quantities = {quantity: (quantity, range(len(names))) for quantity in QUANTITIES[1:]}
    each = {f"{quantity}/{name}": (quantity, [i]) for quantity in QUANTITIES for i, name in enumerate(names)}
    known: dict[str, tuple[str, Any]] = {**quantities, **each}
    owner: dict[tuple[int, str], Schedule] = {(index, "lr"): schedule for index in range(len(names))}
    # One group's own schedule goes before the one for all groups, in whatever order they are given.
    for key in sorted(others, key=lambda key: key.count("/")):
        if key not in known:
            raise InputError(f"groups: unknown key {key!r}{did_you_mean(key, known)}: write one of {', '.join(known)}")
        if isinstance(others[key], Plateau):
            raise InputError(f"groups: {key!r} cannot follow a metric: only the schedule of all learning rates can")
        quantity, indices = known[key]
        for index in indices:
            owner[index, quantity] = others[key]
    _check_bases(optimizer, others, known)
    found: dict[int, GroupSchedule] = {}
    for (index, quantity), driver in owner.items():
        group = optimizer.param_groups[index]
        base = base_values_of(group).get(quantity, 0.0)
        if base == 0 and quantity != "lr":
            continue  # as in the group without weight decay: zero times a factor is zero
        set_base(group, quantity, base)
        found.setdefault(id(driver), GroupSchedule(driver, [])).values.append(BaseValue(index, quantity, base))
    return list(found.values())


def _check_bases(optimizer: Optimizer, others: Mapping[str, Schedule], known: Mapping[str, tuple[str, Any]]) -> None:
    """Refuses schedules of values that are 0 in all their groups: 0 times any factor is 0."""
    for key in others:
        quantity, indices = known[key]
        bases = [base_values_of(group).get(quantity, 0.0) for group in optimizer.param_groups]
        if quantity == "lr" or any(bases[index] for index in indices):
            continue
        if key != quantity and any(bases):
            raise InputError(
                f"groups: {key!r} is 0 in this optimizer, and 0 times any factor is 0: "
                f"leave it out, or give that group a {quantity}"
            )
        example = 0.01 if quantity == "weight_decay" else 0.9
        raise InputError(
            f"{type(optimizer).__name__} has no {quantity} to schedule, it is 0: give it one, like {quantity}={example}"
        )

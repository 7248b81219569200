"""Param groups: their names, and where they keep learning rate, momentum and weight decay."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from torch import Tensor
from torch.optim import Optimizer

QUANTITIES = ("lr", "momentum", "weight_decay")


def group_names(optimizer: Optimizer) -> list[str]:
    """Returns what the param groups are called: their ``name`` if no other has it, or ``group0``, ``group1``, ..."""
    names = [group.get("name") for group in optimizer.param_groups]
    return [str(name) if names.count(name) == 1 and name else f"group{index}" for index, name in enumerate(names)]


def get_value(group: dict[str, Any], quantity: str) -> Any:
    if quantity == "momentum" and "betas" in group:
        return group["betas"][0]
    return group.get(quantity, 0.0)


def set_value(group: dict[str, Any], quantity: str, value: float) -> None:
    """Sets a param group's ``lr``, ``momentum`` (the first beta of Adam and its like) or ``weight_decay``."""
    if quantity == "momentum" and "betas" in group:
        group["betas"] = (value, *group["betas"][1:])
    elif isinstance(group[quantity], Tensor):
        # A compiled or capturable optimizer keeps its rate in a tensor, which must stay the same tensor.
        group[quantity].fill_(value)
    else:
        group[quantity] = value


class GroupValue(NamedTuple):
    """Where a value of an optimizer stands, and the name under which it is logged."""

    name: str
    quantity: str
    optimizer: int
    group_number: int
    group: dict[str, Any]
    key: str

    def read(self) -> float:
        """Returns the value."""
        value = self.group[self.key]
        return float(value[0] if self.key == "betas" else value)


def group_values(optimizers: Sequence[Optimizer], quantities: Collection[str] = QUANTITIES) -> list[GroupValue]:
    """Returns the learning rates, momenta and weight decays of optimizers, in this order, or some of these."""
    found = []
    for quantity in (known for known in QUANTITIES if known in quantities):
        for number, optimizer in enumerate(optimizers):
            prefix = f"{quantity}/optimizer{number}" if len(optimizers) > 1 else quantity
            for index, (name, group) in enumerate(zip(group_names(optimizer), optimizer.param_groups, strict=True)):
                # The momentum of Adam and its like is their first beta.
                key = "betas" if quantity == "momentum" and "betas" in group else quantity
                if group.get(key) is not None:
                    found.append(GroupValue(f"{prefix}/{name}", quantity, number, index, group, key))
    return found


def values_of(optimizers: Sequence[Optimizer], quantities: Collection[str] = QUANTITIES) -> dict[str, float]:
    """Returns what optimizers are set to, by the name under which it is logged.

    >>> import torch
    >>> backbone, head = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    >>> groups = [{"params": [backbone], "lr": 0.01, "name": "backbone"}, {"params": [head]}]
    >>> values_of([torch.optim.SGD(groups, lr=0.1, momentum=0.9)], ["lr"])
    {'lr/backbone': 0.01, 'lr/group1': 0.1}
    """
    return {slot.name: slot.read() for slot in group_values(optimizers, quantities)}

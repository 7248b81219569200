"""Where an optimizer keeps what is scheduled, and the names under which it is logged."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from torch.optim import Optimizer

from lit_lrsched.scheduled_lr import QUANTITIES, group_names


class Slot(NamedTuple):
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


def slots_of(optimizers: Sequence[Optimizer], quantities: Collection[str] = QUANTITIES) -> list[Slot]:
    """Returns the learning rates, momenta and weight decays of optimizers, in this order, or some of these."""
    found = []
    for quantity in (known for known in QUANTITIES if known in quantities):
        for number, optimizer in enumerate(optimizers):
            prefix = f"{quantity}/optimizer{number}" if len(optimizers) > 1 else quantity
            for index, (name, group) in enumerate(zip(group_names(optimizer), optimizer.param_groups, strict=True)):
                # The momentum of Adam and its like is their first beta.
                key = "betas" if quantity == "momentum" and "betas" in group else quantity
                if group.get(key) is not None:
                    found.append(Slot(f"{prefix}/{name}", quantity, number, index, group, key))
    return found


def values_of(optimizers: Sequence[Optimizer], quantities: Collection[str] = QUANTITIES) -> dict[str, float]:
    """Returns what optimizers are set to, by the name under which it is logged.

    >>> import torch
    >>> backbone, head = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    >>> groups = [{"params": [backbone], "lr": 0.01, "name": "backbone"}, {"params": [head]}]
    >>> values_of([torch.optim.SGD(groups, lr=0.1, momentum=0.9)], ["lr"])
    {'lr/backbone': 0.01, 'lr/group1': 0.1}
    """
    return {slot.name: slot.read() for slot in slots_of(optimizers, quantities)}

"""An optimizer that trains nothing, for trying schedulers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from lit_lrsched.errors import InputError
from lit_lrsched.optim.torch_internals import add_param_group, seem_stepped

# Each tick of a torch scheduler follows from the one before: ten million take a minute or two, and a gigabyte.
_MOST_TICKS = 10_000_000


def check_replayable(scheduler: str, ticks: int) -> None:
    """Refuses a run with too many ticks to step a scheduler through.

    Raises:
        InputError: When the run has more than ten million ticks.

    >>> check_replayable("OneCycleLR", 10**9)
    Traceback (most recent call last):
    lit_lrsched.errors.InputError: OneCycleLR needs 1,000,000,000 ticks to be shown, ...
    """
    if ticks > _MOST_TICKS:
        raise InputError(
            f"{scheduler} needs {ticks:,} ticks to be shown, and {_MOST_TICKS:,} is the most: "
            "step it once an epoch, or take one of lit_lrsched's schedules, which need no steps before"
        )


class DummyOptimizer(Optimizer):
    """Has param groups like a real optimizer, with one unused parameter in each.

    No scheduler warns that it has to be stepped first.

    Args:
        groups: Values of each group, such as ``lr``; ``params`` are ignored.
        defaults: The optimizer's defaults, in which schedulers look for what can be scheduled.

    >>> dummy = DummyOptimizer([{"lr": 0.1}], {"lr": 0.1, "momentum": 0.9})
    >>> scheduler = torch.optim.lr_scheduler.ExponentialLR(dummy, 0.5)
    >>> scheduler.step()
    >>> dummy.param_groups[0]["lr"], dummy.param_groups[0]["momentum"]
    (0.05, 0.9)
    """

    add_param_group = add_param_group  # type: ignore[assignment]  # as a method, without self

    def __init__(self, groups: Iterable[Mapping[str, Any]], defaults: Mapping[str, Any]) -> None:
        own = [
            {
                **{key: value.clone() if isinstance(value, Tensor) else value for key, value in group.items()},
                "params": [torch.nn.Parameter(torch.zeros(1, 1))],  # of two dimensions: Muon takes no other
            }
            for group in groups
        ]
        super().__init__(own, dict(defaults))
        seem_stepped(self, lambda: None)

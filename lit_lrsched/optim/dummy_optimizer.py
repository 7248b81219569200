"""An optimizer that trains nothing, for schedulers to be tried on."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from lit_lrsched.errors import InputError

# Each tick of a torch scheduler follows from the one before: ten million take a minute or two, and a gigabyte.
_MOST_TICKS = 10_000_000


def check_replayable(scheduler: str, ticks: int) -> None:
    """Refuses to step a scheduler through a run that is too long to look at.

    Raises:
        InputError: When the run has more than ten million ticks.

    >>> check_replayable("OneCycleLR", 10**9)
    Traceback (most recent call last):
    lit_lrsched.errors.InputError: OneCycleLR has to be stepped 1,000,000,000 times to be seen, ...
    """
    if ticks > _MOST_TICKS:
        raise InputError(
            f"{scheduler} has to be stepped {ticks:,} times to be seen, and {_MOST_TICKS:,} is the most: "
            "step it once an epoch, or take one of lit_lrsched's schedules, which need no steps before"
        )


class DummyOptimizer(Optimizer):
    """Has param groups like a real optimizer, with a parameter of no consequence in each.

    A scheduler finds that it has stepped before, so none warns of a wrong order.

    Args:
        groups: Values of each group, such as ``lr``; ``params`` are ignored.
        defaults: The optimizer's defaults, in which schedulers look for what can be scheduled.

    >>> stand_in = DummyOptimizer([{"lr": 0.1}], {"lr": 0.1, "momentum": 0.9})
    >>> scheduler = torch.optim.lr_scheduler.ExponentialLR(stand_in, 0.5)
    >>> scheduler.step()
    >>> stand_in.param_groups[0]["lr"], stand_in.param_groups[0]["momentum"]
    (0.05, 0.9)
    """

    # As torch wraps it, the first call loads the compiler, which takes two seconds and has nothing to do here.
    add_param_group: Callable[[Optimizer, dict[str, Any]], None] = inspect.unwrap(Optimizer.add_param_group)  # type: ignore[assignment]

    def __init__(self, groups: Iterable[Mapping[str, Any]], defaults: Mapping[str, Any]) -> None:
        own = [
            {
                **{key: value.clone() if isinstance(value, Tensor) else value for key, value in group.items()},
                "params": [torch.nn.Parameter(torch.zeros(1))],
            }
            for group in groups
        ]
        super().__init__(own, dict(defaults))

        def step() -> None:
            """Trains nothing."""

        step._wrapped_by_lr_sched = self._opt_called = True  # type: ignore[attr-defined]
        self.step = step  # type: ignore[method-assign, assignment]

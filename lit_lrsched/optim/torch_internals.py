"""torch's private names, all that this package uses, each behind a function. Checked with torch 2.13."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, SequentialLR


def parts_of(scheduler: LRScheduler) -> list[LRScheduler]:
    """Returns the schedulers inside a ``SequentialLR`` or ``ChainedScheduler``: no public name leads to them."""
    return list(getattr(scheduler, "_schedulers", []))


def milestones_of(scheduler: SequentialLR) -> list[int]:
    """Returns the ticks at which a ``SequentialLR`` goes on to its next part: it has no public name for them."""
    return list(scheduler._milestones)


def seem_stepped(optimizer: Optimizer, step: Callable[[], Any]) -> None:
    """Gives an optimizer a ``step`` for which no scheduler warns that the optimizer has to be stepped first."""
    step._wrapped_by_lr_sched = True  # type: ignore[attr-defined]  # schedulers wrap a step without this mark
    optimizer._opt_called = True  # type: ignore[attr-defined]  # and look for this one on their first tick
    optimizer.step = step  # type: ignore[method-assign, assignment]


# As torch wraps it, the first call loads the compiler, which takes two seconds and is of no use to a dummy.
add_param_group: Callable[[Optimizer, dict[str, Any]], None] = inspect.unwrap(Optimizer.add_param_group)

"""What is called as an optimizer takes a step: once, whichever way its class takes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from lit_lrsched.optim.torch_internals import call_first


def around_steps(
    optimizer: Optimizer, before: Callable[[], None] | None = None, after: Callable[[], None] | None = None
) -> list[RemovableHandle]:
    """Calls functions as each step of an optimizer begins and ends, and returns what ends that.

    An optimizer's ``step`` may call that of its base class, and then both call the hooks of the optimizer. Calls are
    nested: what is given last is called last as a step begins, and first as it ends.

    Args:
        optimizer: An optimizer that tells of its steps.
        before: What to call as a step begins.
        after: What to call as it ends.

    >>> import torch
    >>> class Printing(torch.optim.SGD):
    ...     def step(self, closure=None):
    ...         print("step")
    ...         return super().step(closure)
    >>> _, optimizer = [kind([torch.nn.Parameter(torch.zeros(1))]) for kind in (torch.optim.SGD, Printing)]
    >>> handles = around_steps(optimizer, lambda: print("before"), lambda: print("after"))
    >>> handles += around_steps(optimizer, after=lambda: print("at once"))
    >>> optimizer.step()
    before
    step
    at once
    after
    """
    begun = 0

    def begin(*_: Any) -> None:
        nonlocal begun
        begun += 1
        if begun == 1 and before:
            before()

    def end(*_: Any) -> None:
        nonlocal begun
        begun -= 1
        if begun == 0 and after:
            after()

    handles = [optimizer.register_step_pre_hook(begin), optimizer.register_step_post_hook(end)]
    call_first(optimizer, handles[1])
    return handles


def let_go(handles: list[RemovableHandle]) -> None:
    """Ends what hooks do, and empties the list: the optimizers may be those of the next run too."""
    while handles:
        handles.pop().remove()

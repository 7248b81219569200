"""A scheduler that is stepped for a module: the module's own calls of ``step`` do nothing."""

from __future__ import annotations

from typing import Any

from torch.optim.lr_scheduler import LRScheduler


class KeptScheduler(LRScheduler):
    """What a module gets of a scheduler that is stepped for it: all of it, with a :meth:`step` that does nothing.

    A module with manual optimization, or with a ``lr_scheduler_step`` of its own, may step its schedulers each batch,
    each epoch, sometimes, or never. In every case :meth:`advance` alone moves the schedule on.

    Args:
        scheduler: The scheduler, which sets the values.

    >>> import torch
    >>> optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    >>> kept = KeptScheduler(torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5))
    >>> kept.step()
    >>> kept.get_last_lr(), kept.was_called
    ([0.1], True)
    """

    def __init__(self, scheduler: LRScheduler) -> None:
        # The base class's __init__ would set the optimizer's values.
        self.scheduler = scheduler
        self.was_called = False

    def __getattr__(self, name: str) -> Any:
        if name == "scheduler":  # a copy that has nothing yet
            raise AttributeError(name)
        return getattr(self.scheduler, name)

    def advance(self) -> None:
        """Steps the scheduler."""
        self.scheduler.step()

    def step(self, *_: Any, **__: Any) -> None:
        """Only notes that it was called."""
        self.was_called = True

    def step_update(self, *_: Any, **__: Any) -> None:
        """The same, by the name that timm's schedulers have for a step within an epoch."""
        self.was_called = True

    def get_last_lr(self) -> list[Any]:
        """Returns the scheduler's."""
        return self.scheduler.get_last_lr()

    def get_lr(self) -> list[Any]:
        """Returns the scheduler's."""
        return self.scheduler.get_lr()

    def state_dict(self) -> dict[str, Any]:
        """Returns the scheduler's."""
        return self.scheduler.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Hands it on to the scheduler."""
        self.scheduler.load_state_dict(state_dict)


def kept_by(scheduler: LRScheduler) -> LRScheduler:
    """Returns the scheduler inside a :class:`KeptScheduler`; any other as it is."""
    return scheduler.scheduler if isinstance(scheduler, KeptScheduler) else scheduler

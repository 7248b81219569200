"""The processes of a race, one a device, as a Lightning strategy starts them: each trains its share of the runs."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch

from lit_lrsched.errors import InputError
from lit_lrsched.trainer.lightning_internals import runs_script_again, spawns_functions
from lit_lrsched.trainer.lightning_package import Strategy

T = TypeVar("T")


class Ranks:
    """The processes of a race and this one's place among them.

    Args:
        strategy: The trainer's. One that runs the script once a device, such as ``ddp``, or is run so by a cluster.

    Raises:
        InputError: When the strategy forks or spawns functions, which cannot carry a race along.
    """

    def __init__(self, strategy: Strategy) -> None:
        if spawns_functions(strategy):
            raise InputError("runs cannot be forked or spawned over devices: give the strategy ddp, or one device")
        self._strategy = strategy
        self.count: int = getattr(strategy, "world_size", 1)
        self.rank: int = getattr(strategy, "global_rank", 0)

    @property
    def device(self) -> torch.device:
        """Where this process trains. The CPU stands in for devices without double precision, such as Apple's."""
        device = self._strategy.root_device
        return device if device.type in ("cpu", "cuda") else torch.device("cpu")

    def launch(self, work: Callable[[], None]) -> None:
        """Starts the other processes, where nobody has done so yet, and works."""
        launcher = self._strategy.launcher
        if launcher is None:
            work()
            return
        try:
            launcher.launch(work)
        except BaseException:
            if runs_script_again(self._strategy):
                launcher.kill(signal.SIGTERM)  # they would wait for this one
            raise

    def share(self, everything: Sequence[T]) -> Sequence[T]:
        """Returns what this process is to do. It depends on nothing that others have done already."""
        return everything[self.rank :: self.count]

    @contextmanager
    def first_alone(self) -> Iterator[bool]:
        """Waits until every process is here. Then the first goes on, told by True, and the others wait for it.

        Only now are they connected: while they are, a metric would count the runs of all processes as one.
        """
        if self.count > 1:
            self._strategy.setup_environment()
            self._strategy.barrier()
        yield self.rank == 0
        if self.count > 1:
            self._strategy.barrier()
            torch.distributed.destroy_process_group()

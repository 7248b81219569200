"""Ctrl-C and SIGTERM, as a trainer passes them on."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM.

    Args:
        number: The signal.
        announced: Whether the command that goes on has been printed already.
    """

    def __init__(self, number: int = signal.SIGINT, announced: bool = False) -> None:
        super().__init__()
        self.number = number
        self.announced = announced


@contextmanager
def interrupts_of_lightning() -> Iterator[None]:
    """Raises the interrupt that a trainer caught: it exits with status 1, and makes the process deaf to Ctrl-C."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as error:
        if not isinstance(error.__context__, KeyboardInterrupt):
            raise
        signal.signal(signal.SIGINT, before)
        raise error.__context__ from None

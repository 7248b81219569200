"""Which exceptions are a mistake of whoever typed the command, to be answered in a line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from traceback import walk_tb

from torch.multiprocessing.spawn import ProcessRaisedException

from lit_lrsched.cli.parse_errors import mistake_behind
from lit_lrsched.errors import InputError
from lit_lrsched.trainer.lightning_package import MisconfigurationException

_LIGHTNING = {"lightning", "pytorch_lightning"}
# What lies on the way from the command to Lightning; any other package on it is the user's own.
_BETWEEN = {"lit_lrsched", "jsonargparse", "torch", "contextlib", "lightning_utilities", "functools", "__main__"}


def mistake_in(error: BaseException, set_up: bool) -> BaseException | None:
    """Returns the mistake that an exception tells of; None where it is a fault of a program.

    Args:
        error: An :class:`InputError`, or what Lightning raises of its own accord, or anything that one of them led to.
        set_up: Whether nothing has been trained yet. Then a ``ValueError`` of Lightning's is about the arguments.
    """
    ours = mistake_behind(error, (InputError,))
    if ours is not None:
        return ours
    kinds = (MisconfigurationException, ValueError) if set_up else (MisconfigurationException,)
    theirs = mistake_behind(error, kinds)
    while theirs is not None and not raised_by_lightning(theirs):  # jsonargparse wraps it in a ValueError of its own
        theirs = mistake_behind(theirs.__cause__ or theirs.__context__, kinds)
    return theirs


def raised_by_lightning(error: BaseException) -> bool:
    """Returns whether Lightning raised an exception, with no code of the user's on the way.

    >>> raised_by_lightning(ValueError("the user's own"))
    False
    """
    packages = [frame.f_globals.get("__name__", "").partition(".")[0] for frame, _ in walk_tb(error.__traceback__)]
    return packages[-1:] != [] and packages[-1] in _LIGHTNING and {*packages} <= _LIGHTNING | _BETWEEN


@contextmanager
def mistakes_of_spawned_processes() -> Iterator[None]:
    """Raises as one of this process a mistake that a spawned one has ended with, of which it tells the traceback alone.

    Raises:
        InputError: For such a mistake.
    """
    try:
        yield
    except ProcessRaisedException as error:
        name, _, mistake = str(error).rstrip().rpartition("\n")[2].partition(": ")
        kinds: list[type] = [InputError, *InputError.__subclasses__()]
        if name in [f"{kind.__module__}.{kind.__qualname__}" for kind in kinds]:
            raise InputError(mistake) from error
        raise

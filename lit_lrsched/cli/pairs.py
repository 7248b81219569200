"""What stands on a command line, as options with their values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest


def pairs_of(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yields each argument as an option with its value: what follows ``=``, else the next argument.

    >>> list(pairs_of(["--steps=5", "--lr", "0.1"]))
    [('--steps', '5'), ('--lr', '0.1'), ('0.1', '')]
    """
    for argument, following in zip_longest(arguments, arguments[1:], fillvalue=""):
        option, equals, value = argument.partition("=")
        yield option, value if equals else following

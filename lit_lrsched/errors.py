"""The one exception for a user's mistake, and the words that help to mend it."""

from __future__ import annotations

import difflib
import traceback
from collections.abc import Iterable
from pathlib import Path


class InputError(ValueError):
    """A value that a person gave and that cannot work: one line with the value, the reason and the fix.

    The command line prints it as ``error: ...`` and exits with status 2. Any other exception is a defect, ours or of
    the code that the user brought, and keeps its traceback.

    A message is cut in its middle when it is too long to read: its beginning names the value, its end the fix.

    >>> len(str(InputError(f"factor={'1' * 1_000_000!r} is not a formula: write arithmetic like '1 - progress'")))
    600
    """

    def __init__(self, message: str) -> None:
        super().__init__(cut(message, _LONGEST))


# No message of ours with values of a usual length comes near it.
_LONGEST = 600


def cut(text: str, most: int) -> str:
    """Returns a text without its middle when it has more than so many characters.

    >>> cut("a line that nobody reads to its end", 20)
    'a line th ... ts end'
    """
    if len(text) <= most:
        return text
    head = (most - 5) * 3 // 5
    return f"{text[:head]} ... {text[head + 5 - most :]}"


def shown(value: object) -> str:
    """Returns a value as a message shows it: in one line, and no longer than a line.

    >>> shown("5 %"), shown([1, 2]), len(shown("x" * 1000))
    ("'5 %'", '[1, 2]', 100)
    >>> shown(10**5000)  # which Python refuses to write out
    'a value of type int'
    """
    try:
        return cut(" ".join(repr(value).split()), 100)
    except Exception:
        return f"a value of type {type(value).__name__}"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Returns `` (did you mean 'X'?)`` for the nearest known name, or an empty string.

    >>> did_you_mean("Cosin", ["Cosine", "Linear"])
    " (did you mean 'Cosine'?)"
    >>> did_you_mean("xyzzy", ["Cosine", "Linear"])
    ''
    """
    by_folded = {name.casefold(): name for name in known}
    near = difflib.get_close_matches(word.casefold(), by_folded, n=1)
    return f" (did you mean {by_folded[near[0]]!r}?)" if near else ""


def described(error: Exception) -> str:
    """Returns an exception in one line: its type, its message, and the line that raised it, if that is not ours.

    >>> import json
    >>> try:
    ...     json.loads("[")
    ... except ValueError as error:
    ...     print(described(error))
    JSONDecodeError: Expecting value: line 1 column 2 (char 1) (decoder.py, line ...)
    """
    frames = traceback.extract_tb(error.__traceback__)
    is_ours = not frames or Path(__file__).parent in Path(frames[-1].filename).parents
    place = "" if is_ours else f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})"
    message = cut(" ".join(str(error).split()), 100)
    return f"{type(error).__name__}{f': {message}' if message else ''}{place}"

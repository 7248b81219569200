"""The one exception for a user's mistake, and the words that help to mend it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """A value that a person gave and that cannot work: one line with the value, the reason and the fix.

    The command line prints it as ``error: ...`` and exits with status 2. Any other exception is a defect, ours or of
    the code that the user brought, and keeps its traceback.
    """


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

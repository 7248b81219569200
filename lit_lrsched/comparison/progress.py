"""The bar that counts trainings."""

from __future__ import annotations

import sys
import time
from typing import NoReturn

from tqdm import tqdm


def progress_bar(trainings: int, shown: bool) -> tqdm[NoReturn]:
    """Returns a bar that counts trainings; those that run count by the share of them that is done."""
    return tqdm(
        total=trainings,
        unit="training",
        bar_format="{l_bar}{bar}| {n:.0f}/{total} [{elapsed}<{remaining}, {rate_fmt}]",
        dynamic_ncols=True,
        file=sys.stdout,
        mininterval=0.1 if _redraws() else 10,  # seconds; where a line stays, one now and then
        delay=1e-6,  # not drawn before the first training counts: what is said until then has lines of its own
        disable=not shown,
    )


def count(bar: tqdm[NoReturn], trainings: float) -> None:
    """Counts on. The first share is shown at once, also where it is no terminal: the trainings run.

    The last share fills the bar, since many add up to a little less or more, of which tqdm warns.
    """
    is_first = bar.n == 0 < trainings
    left = (bar.total or 0) - bar.n
    bar.update(trainings if left - trainings > 1e-6 else left)
    if is_first:
        bar.refresh()
        bar.last_print_t = time.time()  # a bar that was never drawn would not be closed with a line of its own


def _redraws() -> bool:
    """Tells whether a line can be drawn anew: on a terminal, and in a notebook, whose output is none."""
    return sys.stdout.isatty() or type(sys.stdout).__module__.partition(".")[0] == "ipykernel"

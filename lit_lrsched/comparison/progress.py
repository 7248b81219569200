"""The bar that counts trainings, and how long they will take."""

from __future__ import annotations

import sys
import time
from datetime import timedelta
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


def how_long(each: float, left: int, places: int) -> str:
    """Says how long trainings take, one after another, and what would be quicker.

    Args:
        each: Seconds of the first.
        left: How many others there are.
        places: How many could train at once on this machine.

    >>> how_long(2.0, 19, places=1)
    'The first run took 2.0 s: the other 19 take about 0:00:38.'
    >>> how_long(20.0, 19, places=8)
    "The first run took 20.0 s: the other 19 take about 0:06:20. ray='local' trains 8 at once."
    """
    text = f"The first run took {each:.1f} s: the other {left} take about {timedelta(seconds=round(each * left))}."
    # Starting workers takes seconds: in a minute nothing is gained.
    return f"{text} ray='local' trains {places} at once." if places > 1 and each * left > 60 else text


def _redraws() -> bool:
    """Tells whether a line can be drawn anew: on a terminal, and in a notebook, whose output is none."""
    return sys.stdout.isatty() or type(sys.stdout).__module__.partition(".")[0] == "ipykernel"

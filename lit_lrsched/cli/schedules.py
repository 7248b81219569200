"""The subcommand ``schedules``: all of them, in a line each. Loads neither torch nor Lightning."""

from __future__ import annotations

import re
import shutil
import sys

from lit_lrsched import schedules
from lit_lrsched.cli.help_pages import plain
from lit_lrsched.errors import InputError
from lit_lrsched.plans.console import writable
from lit_lrsched.plans.plan import plan_of
from lit_lrsched.plans.sparkline import sparkline
from lit_lrsched.schedules.core import Schedule
from lit_lrsched.schedules.custom import Custom
from lit_lrsched.schedules.examples import EXAMPLES, HORIZON, LOSS

SUMMARY = "List the schedules, in a line each, with their shape."
_WIDTH = 18


def run() -> None:
    """Prints the list.

    Raises:
        InputError: When there are arguments.
    """
    if sys.argv[2:]:
        raise InputError(f"schedules takes no arguments, and got {' '.join(sys.argv[2:])}: leave them out")
    width = max(60, shutil.get_terminal_size((100, 24)).columns)
    for name in [*EXAMPLES, Custom.__name__]:
        shown = sketch(name)
        line = f"{name:<{_WIDTH}}{shown:<{_WIDTH}}{in_short(getattr(schedules, name))}"
        print(printable(line if len(line) <= width else f"{line[: width - 3]}..."))
    print(
        "\nlit-lrsched fit --lr_scheduler NAME trains with one, --lr_scheduler.help NAME explains it.\n"
        "torch's own have the names they have there: StepLR, CosineAnnealingLR, ReduceLROnPlateau, ..."
    )


def sketch(name: str, width: int = _WIDTH - 2) -> str:
    """Returns the example of a schedule in one line; nothing for one that looks like whatever it carries."""
    if name not in EXAMPLES:
        return ""
    plan = plan_of(EXAMPLES[name], HORIZON, metric=LOSS if name == "Plateau" else ())
    return sparkline([plan.at(step)["factor"] for step in range(0, HORIZON.steps, 5)], width)


def in_short(kind: type[Schedule]) -> str:
    """Returns the first sentence of what a class says of itself, without its formula.

    >>> in_short(schedules.WarmupCosine), in_short(schedules.Cosine)
    ('Linear warmup, then Cosine to end over the rest', 'Half a cosine wave')
    """
    first = " ".join((kind.__doc__ or "").partition("\n\n")[0].split())
    return re.split(r"\.$|: ", plain(first))[0]


def printable(line: str) -> str:
    """Returns a line in what standard output can write: where it knows no Unicode, blocks become digits."""
    digits = {ord(block): str(height) for height, block in enumerate("▁▂▃▄▅▆▇█", start=1)}
    return writable(line, sys.stdout.encoding or "ascii", digits)

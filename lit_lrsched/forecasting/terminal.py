"""A forecast on the terminal: what it rests on, a table for each length, and the verdict, in 100 columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TextIO

from lit_lrsched.forecasting.words import Row
from lit_lrsched.plans.console import console_on
from lit_lrsched.plans.numbers import decimals_of, number


def show(
    said: Sequence[str],
    tables: Sequence[tuple[int, Sequence[Row], Sequence[str]]],
    verdict: str,
    file: TextIO | None = None,
) -> None:
    """Prints it.

    Args:
        said: What the forecast rests on, one sentence each.
        tables: For each length its rows, best first, and the names of the schedules that are tied there.
        verdict: The verdict.
        file: Where to; None for standard output.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    console = console_on(file)
    for sentence in said:
        console.print(sentence)
    for length, rows, tied in tables:
        table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
        table.add_column(f"after {length:,} steps", no_wrap=True)
        for title in ("peak lr", "loss", "95 % interval"):
            table.add_column(title, justify="right", no_wrap=True)
        places = decimals_of([(row["low"], row["high"]) for row in rows], [row["loss"] for row in rows])
        for place, row in enumerate(rows):
            is_tied = row["schedule"] in tied
            table.add_row(
                row["schedule"] + " *" * (is_tied and len(tied) > 1),
                f"{row['lr']:g}",
                number(row["loss"], places),
                f"{number(row['low'], places)} to {number(row['high'], places)}",
                style="bold green" if place == 0 else "green" if is_tied else "",
            )
        console.print()
        console.print(table)
    console.print()
    if any(len(tied) > 1 for _, _, tied in tables):
        console.print(Text("Each schedule at its best peak rate; * cannot be told from the best.", style="dim"))
    else:
        console.print(Text("Each schedule at its best peak rate.", style="dim"))
    console.print(Text(verdict, style="bold"))

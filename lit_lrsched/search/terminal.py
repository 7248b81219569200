"""A search on the terminal: a table of the rates, and the answer in a sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from lit_lrsched.plans.console import console_on, writable
from lit_lrsched.plans.numbers import NOTHING, number, three_digits
from lit_lrsched.search.judgement import Judgement
from lit_lrsched.search.words import sentence

_MOST = 14  # rates, so that all fits a screen
_ASCII = str.maketrans({NOTHING: "-", "◀": "<"})


def show(
    rows: Sequence[Mapping[str, Any]],
    found: Judgement,
    judged_by: str,
    metric: str | None,
    file: TextIO | None = None,
) -> None:
    """Prints the table, of many rates those around the suggested one, and the answer.

    Args:
        rows: The table, one row a rate.
        found: What the losses say.
        judged_by: The name of the loss.
        metric: The name of another validation metric in the table.
        file: Where to; None for standard output.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    console = console_on(file)

    def safe(text: str) -> str:
        return writable(text, console.encoding, _ASCII)

    table = Table(box=SIMPLE_HEAD, padding=(0, 0, 0, 1), pad_edge=False, show_edge=False)
    for title in ("rate", judged_by, "95 % interval", *([metric] if metric else []), "diverged"):
        table.add_column(safe(title), justify="right", no_wrap=True)
    table.add_column("", justify="left", no_wrap=True)
    places = {name: three_digits([row[name] for row in rows]) for name in ("loss", *([metric] if metric else []))}
    nearest = min(range(len(rows)), key=lambda place: abs(rows[place]["lr"] / found.suggested - 1))
    first = max(0, min(nearest - _MOST // 2, len(rows) - _MOST))
    for row in rows[first:][:_MOST]:
        marks = marks_of(row["lr"], rows, found)
        cells = [f"{row['lr']:.3g}", number(row["loss"], places["loss"])]
        ends = [number(row[end], places["loss"]) for end in ("low", "high")]
        cells.append(NOTHING if row["low"] is None else " to ".join(ends))
        cells += [number(row[metric], places[metric])] if metric else []
        cells += [str(row["diverged"] or ""), f"◀ {', '.join(marks)}" if marks else ""]
        style = "bold green" if "suggested" in marks else "red" if row["diverged"] else ""
        table.add_row(*map(safe, cells), style=style)
    console.print(table)
    console.print()
    if (more := len(rows) - _MOST) > 0:
        console.print(Text(f"{more} more rates: --csv FILE, or table in Python.", style="dim"))
    console.print(Text(safe(sentence(found, judged_by)), style="bold"))


def marks_of(lr: float, rows: Sequence[Mapping[str, Any]], found: Judgement) -> list[str]:
    """Returns what a rate of the table is, or is nearest to: the best, the suggested, the largest safe one."""
    wanted = {"best": found.best, "suggested": found.suggested, "largest safe": found.largest_safe}
    return [
        name
        for name, value in wanted.items()
        if lr == min((row["lr"] for row in rows), key=lambda one: max(one / value, value / one))
    ]

"""The comparison on the terminal: a table that fits 100 columns, and the verdict in two sentences."""

from __future__ import annotations

from typing import TextIO

from lit_lrsched.comparison.evidence.summary import Summary
from lit_lrsched.comparison.evidence.verdict import edges, overlap_in_words, spending_in_words, verdict
from lit_lrsched.comparison.report.words import (
    decimals,
    difference_interval,
    probability,
    shortened,
    shortened_apart,
    tuned_beside_rate,
)
from lit_lrsched.plans.console import console_on, writable
from lit_lrsched.plans.numbers import NOTHING, number

_NAME = 18  # the longest name that is shown whole
_ASCII = str.maketrans({NOTHING: "-", "↑": "^", "↓": "v", "…": "."})


def show(summary: Summary, file: TextIO | None = None, most: int | None = None) -> None:
    """Prints the table, what has to be known to read it, and the verdict.

    On a terminal of fewer columns the least important ones are left out.

    Args:
        summary: What the race says.
        file: Where to; None for standard output. What is no terminal gets plain text of 100 columns.
        most: How many schedules the table has at most, the best first; None for all.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    console = console_on(file)

    def safe(text: str) -> str:
        return writable(text, console.encoding, _ASCII)

    columns = _columns(summary)
    gap = 2
    if _width(columns, gap) > console.width:
        gap = 1
    for least in ("worst\nseed", f"epochs\nto {_target(summary)}", "diver-\nged", "mom.", "weight\ndecay", "interval"):
        if _width(columns, gap) > console.width:
            columns.pop(least, None)
    # The box itself puts one column between two cells.
    table = Table(box=SIMPLE_HEAD, padding=(0, 0, 0, gap - 1), pad_edge=False, show_edge=False)
    for title in columns:
        is_name = title == "schedule"
        table.add_column(safe(title), justify="left" if is_name else "right", vertical="bottom", no_wrap=True)
    shown = list(zip(summary.schedules, zip(*columns.values(), strict=True), strict=True))[:most]
    for row, cells in shown:
        style = "bold green" if row.schedule == summary.best else "green" if row.schedule in summary.tied else ""
        table.add_row(*map(safe, cells), style=style)
    console.print(table)
    console.print()
    seeds = summary.seeds
    means = f"{summary.metric} of seed {seeds[0]}"
    if len(seeds) > 1:
        which = f"{len(seeds)} seeds" if summary.spending is None else "the seeds that each has had"
        means = f"mean {summary.metric} over {which}"
    if len(summary.tied) > 1:
        means += "; * cannot be told from the best"
    notes = [f"{means}."]
    if any(row.against_best and row.against_best.low is not None for row in summary.schedules):
        level = f"{100 * (1 - summary.alpha):g} %"
        notes.append(f"vs best: paired difference, seed by seed, with its simultaneous {level} interval.")
    for note in notes:
        console.print(Text(safe(note), style="dim"))
    for sentence in spending_in_words(summary.spending) if summary.spending else ():
        console.print(Text(safe(sentence), style="dim"))
    for sentence in edges(summary):
        console.print(Text(safe(sentence), style="dim"))
    if overlap := overlap_in_words(summary):
        console.print(Text(safe(overlap), style="dim"))
    for sentence in verdict(summary):
        console.print(Text(safe(sentence), style="bold"))


def _columns(summary: Summary) -> dict[str, list[str]]:
    """Returns the cells of each column by its title."""
    rows, places = summary.schedules, decimals(summary)
    arrows = {"highest": " ↑", "lowest": " ↓", None: ""}
    columns = {
        "schedule": [
            name + " *" * (len(summary.tied) > 1 and row.schedule in summary.tied)
            for name, row in zip(shortened_apart([row.schedule for row in rows], _NAME), rows, strict=True)
        ],
        "mean": [number(row.mean, places) for row in rows],
        "vs\nbest": [number(d.gain, places, sign=True) if (d := row.against_best) else NOTHING for row in rows],
        "interval": [difference_interval(row.against_best, places) for row in rows],
        "p vs\nbest": [probability(row.against_best) for row in rows],
        "worst\nseed": [number(row.worst, places) for row in rows],
        "peak\nlr": [f"{row.lr:g}{arrows[row.edge]}" for row in rows],
    }
    if "momentum" in tuned_beside_rate(summary):
        columns["mom."] = [f"{row.momentum:g}" for row in rows]
    if "weight_decay" in tuned_beside_rate(summary):
        columns["weight\ndecay"] = [f"{row.weight_decay:g}" for row in rows]
    if summary.reference is not None:
        title = f"p vs\n{shortened(summary.reference, 10)}"
        columns[title] = [probability(row.against_reference) for row in rows]
    if summary.spending is not None:
        columns["seeds"] = [str(row.seeds) for row in rows]
    columns["diver-\nged"] = [str(row.diverged) for row in rows]
    if summary.target is not None:
        title = f"epochs\nto {_target(summary)}"
        columns[title] = [NOTHING if row.epochs_to_target is None else str(row.epochs_to_target) for row in rows]
    return columns


def _target(summary: Summary) -> str:
    return number(summary.target, decimals(summary))


def _width(columns: dict[str, list[str]], gap: int) -> int:
    from rich.cells import cell_len

    widest = [
        max(cell_len(line) for text in (title, *cells) for line in text.split("\n")) for title, cells in columns.items()
    ]
    return sum(widest) + gap * (len(widest) - 1)

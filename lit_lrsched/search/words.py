"""What a search found, in words and as a table of plain numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from lit_lrsched.search.judgement import Judgement, interval
from lit_lrsched.search.trainings import Outcome


def table_of(outcome: Outcome) -> list[dict[str, Any]]:
    """Returns one dict a rate: ``lr loss low high diverged``, and the other validation metric where there is one.

    ``loss`` is the mean over the seeds, ``low`` and ``high`` its 95 % interval; None where a seed diverged, whose loss
    means nothing. ``diverged`` counts these.
    """
    rows = []
    for place, lr in enumerate(outcome.lrs):
        count = int(outcome.diverged[place].sum())
        losses = outcome.losses[place]
        low, high = (None, None) if count else interval(losses)
        row = {"lr": float(lr), "loss": None if count else float(losses.mean()), "low": low, "high": high}
        if outcome.metric:
            values = outcome.metrics[outcome.metric][place]
            row[outcome.metric] = float(values.mean()) if np.isfinite(values).all() else None
        rows.append({**row, "diverged": count})
    return rows


def sentence(found: Judgement, judged_by: str) -> str:
    """Returns the answer in one sentence."""
    if found.edge is not None:
        end = "lowest" if found.edge == "low" else "highest"
        where = f"{judged_by} is best at {found.best:.3g}, on the edge of the range: the {end} rate tried"
        text = f"{where}, so try {'lower' if found.edge == 'low' else 'higher'} ones (lrs) before you use {lr(found)}"
    elif found.flat is not None:
        low, high = found.flat
        text = f"Use {lr(found)}: {judged_by} is flat, anything from {low:.3g} to {high:.3g} is within 5 % of the best"
    else:
        low, high = found.interval
        text = (
            f"Use {lr(found)}, the largest rate whose {judged_by} cannot be told from the best's, at {found.best:.3g} "
            f"(95 %: {low:.3g} to {high:.3g})"
        )
    return f"{text}; {safe(found)}."


def lr(found: Judgement) -> str:
    """Returns the suggested rate as text."""
    return f"{found.suggested:.3g}"


def safe(found: Judgement) -> str:
    """Returns up to where no seed diverged, as text."""
    if found.all_safe:
        return f"no seed diverged at any rate, up to {found.largest_safe:.3g}"
    return f"no seed diverged up to {found.largest_safe:.3g}"

"""The table of a race as plain data."""

from __future__ import annotations

import dataclasses
from typing import Any

from lit_lrsched.comparison.evidence.summary import Summary


def table_of(summary: Summary) -> list[dict[str, Any]]:
    """Returns a dict a schedule, best first: its row of the summary, with the comparisons spelled out.

    >>> from lit_lrsched.comparison.evidence.runs import Run, RunKey
    >>> from lit_lrsched.comparison.evidence.summary import summarize
    >>> runs = [
    ...     Run(RunKey(name, 0.1, 0.0, 0.0, seed), validation=0.9, test=value + seed / 100)
    ...     for name, value in [("constant", 0.75), ("cosine", 0.8125)] for seed in range(8)
    ... ]
    >>> for row in table_of(summarize(runs, metric="test_acc", mode="max", reference="constant")):
    ...     print(row["schedule"], row["lr"], round(row["mean"], 4), row["gain"], row["p"], row["tied"])
    cosine 0.1 0.8475 None None True
    constant 0.1 0.785 -0.0625 0.0078125 False
    """
    rows = []
    for row in summary.schedules:
        plain = {field.name: getattr(row, field.name) for field in dataclasses.fields(row)}
        best, reference = plain.pop("against_best"), plain.pop("against_reference")
        rows.append(
            {
                **plain,
                "gain": best and best.gain,
                "gain_low": best and best.low,
                "gain_high": best and best.high,
                "p": best and best.p_corrected,
                "gain_over_reference": reference and reference.gain,
                "p_over_reference": reference and reference.p_corrected,
                "tied": row.schedule in summary.tied,
            }
        )
    return rows

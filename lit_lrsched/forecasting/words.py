"""A forecast in words and numbers: the verdict, what it rests on, and the tables of the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lit_lrsched.plans.numbers import percent

Row = Mapping[str, Any]


def listed(names: Sequence[str]) -> str:
    """Returns names as a sentence has them.

    >>> listed(["a"]), listed(["a", "b", "c"])
    ('a', 'a, b and c')
    """
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def opening(runs: Sequence[Any]) -> str:
    """Returns what the forecast is made from.

    Args:
        runs: The logged runs.
    """
    lengths, peaks = [run.length for run in runs], [run.path.peak for run in runs]
    return f"{len(runs)} runs of {_range(lengths, ',')} steps, peak rates {_range(peaks, 'g')}."


def _range(values: Sequence[float], form: str) -> str:
    low, high = min(values), max(values)
    return f"{low:{form}}" if high - low < 1e-3 * high else f"{low:{form}} to {high:{form}}"


def law_in_words(chosen: str, errors: Mapping[str, float], beats_baseline: bool) -> str:
    """Returns which law is used and how far off each was on runs left out.

    Args:
        chosen: The name of the law.
        errors: The mean relative error of each law on runs left out, by name; that of the baseline last.
        beats_baseline: Whether the law does better than the baseline.
    """
    *others, baseline = (f"{name} {percent(error)}" for name, error in errors.items() if name != chosen)
    text = (
        f"Law: {chosen}, on average {percent(errors[chosen])} off on runs left out ({', '.join((*others, baseline))})."
    )
    if not beats_baseline:
        text += f" It does no better than a {list(errors)[-1]} alone: these runs do not show what schedules do."
    return text


def verdict(undecided: Sequence[Row], others: Sequence[Row]) -> list[str]:
    """Returns the answer for one length, in a sentence or some more.

    Args:
        undecided: The rows that cannot be told from the best, the best first.
        others: The other rows of that length, best first.
    """
    best = undecided[0]
    names = list(dict.fromkeys(row["schedule"] for row in undecided))
    peaks = [f"{lr:g}" for lr in sorted({row["lr"] for row in undecided if row["schedule"] == names[0]})]
    what = f"a loss of {best['loss']:.4g} after {best['steps']:,} steps"
    if len(names) > 1:
        shown = names if len(names) <= 6 else [*names[:5], f"{len(names) - 5} more"]
        found = [f"Cannot tell: {listed(shown)} differ by less than such forecasts are off by."]
        found.append(f"The best forecast is {best['schedule']} at the peak rate {best['lr']:g}: {what}.")
        surest = min((*undecided, *others), key=lambda row: float(row["high"]))
        if surest is not best:
            ends = f"its interval ends at {surest['high']:.4g}, that of the best forecast at {best['high']:.4g}"
            found.append(f"The surest is {surest['schedule']} at {surest['lr']:g}: {ends}.")
    elif others or len(undecided) > 1:
        behind = [row for row in others if row["schedule"] != names[0]]
        lead = f", {percent(1 - best['loss'] / behind[0]['loss'])} below {behind[0]['schedule']}" if behind else ""
        found = [f"{names[0]} at the peak rate {best['lr']:g} is best: {what}{lead}."]
        if len(peaks) > 1:
            found.append(f"Its peak rate cannot be told: {listed(peaks)} are too close.")
    else:
        found = [f"{names[0]} at the peak rate {best['lr']:g}: {what}."]
    return found

"""The schedule with the lowest forecast, out of a family of decays, and how it is written down."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lit_lrsched.class_paths import to_plain
from lit_lrsched.forecasting.candidates import warmup_of
from lit_lrsched.forecasting.logged_run import LoggedRun
from lit_lrsched.schedules.core import Schedule
from lit_lrsched.schedules.shapes import Piecewise

FAMILY = "the lowest of decays over 5 to 100 % of the run, of the powers 0.5 to 3"
_SHARES = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_POWERS = (0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
_POINTS = 12  # of a curved decay


def family_of(runs: Sequence[LoggedRun], length: int) -> dict[str, Schedule]:
    """Returns the family: the warmup of the runs, a constant stretch, and ``end + (1 - end) * (1 - v)**power``.

    v runs from 0 to 1 over the decay. None ends lower than the runs did: the laws are not known there.

    Args:
        runs: The logged runs.
        length: How many steps the schedules are for.
    """
    warmup = min(warmup_of(runs), length // 5)
    end = min(float(run.path.rate_at(run.steps[-1] - 1)) / run.path.peak for run in runs)
    end = 0.0 if end < 0.01 else round(end, 3)
    return {
        f"decay {100 * share:g} % of power {power:g}": _decay(warmup, length, share, power, end)
        for share in _SHARES
        for power in _POWERS
    }


def _decay(warmup: int, length: int, share: float, power: float, end: float) -> Piecewise:
    begin = max(round((1 - share) * length), warmup)
    points = {0: 0.0, warmup: 1.0, begin: 1.0}  # the last of those at the same step counts
    for v in np.linspace(0, 1, 2 if power == 1 else _POINTS)[1:].tolist():
        points[begin + round(v * (length - begin))] = round(end + (1 - end) * (1 - v) ** power, 5)
    # A warmup lasts as long in a longer run, and a decay as large a part of it.
    times = [f"{step}st" if step <= warmup else f"{100 * step / length:.7g}%" for step in points]
    return Piecewise([*zip(times, points.values(), strict=True)])


def export_schedule(path: Path, schedule: Schedule, lr: float, length: int, note: str) -> None:
    """Writes a schedule as YAML for ``lit-lrsched fit --config``; the optimizer's class is left to the user.

    Args:
        path: The file.
        schedule: The schedule.
        lr: Its peak rate.
        length: How many steps it is for.
        note: What it is, for the comment above it.
    """
    import yaml  # type: ignore[import-untyped]

    content = {
        "lr_scheduler": to_plain(schedule),
        "lr_interval": "step",
        "trainer": {"max_epochs": -1, "max_steps": length},
    }
    text = yaml.safe_dump(content, sort_keys=False, default_flow_style=None)
    path.write_text(f"# {note}\n# its peak rate: --optimizer.lr {lr:g}\n{text}", encoding="utf-8")

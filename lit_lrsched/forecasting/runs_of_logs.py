"""The run that a log holds, and what has to be said of how it was read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lit_lrsched.errors import InputError
from lit_lrsched.forecasting.log_columns import Log, logged_path
from lit_lrsched.forecasting.logged_run import LoggedRun
from lit_lrsched.forecasting.rate_path import RatePath


class RunOfLog(NamedTuple):
    """A run that was read.

    Args:
        run: The run.
        loss: The name of its loss.
        notes: What was assumed or left aside on the way, one sentence each.
    """

    run: LoggedRun
    loss: str
    notes: list[str]


def run_of(
    log: Log, wanted: str | None, planned: RatePath | None = None, length: int | None = None, offset: int = 0
) -> RunOfLog:
    """Returns the run that a log holds.

    Args:
        log: The log.
        wanted: The name of the loss. None: the first that looks like one.
        planned: The rate of every step, where it is known. None: the rates are those logged.
        length: How many steps the run has, where the rates are those logged. None: as many as the last row says.
        offset: How many more steps are done after a logged loss than its row says.

    Raises:
        InputError: When a column is missing, or the run tells nothing.
    """
    used = log.loss(wanted)
    path = planned or logged_path(log.rate(), length or log.last_step(used))
    steps, losses = log.columns[used]
    try:
        run = LoggedRun(steps + offset, losses, path, Path(log.name).stem)
    except InputError as error:
        others = [name for name in log.columns if name != used and name not in log.rates()]
        raise InputError(f"{error} (the loss is {used}, not {', '.join(others)})" if others else str(error)) from error
    of_rates = _on_logged_rates(log, used) if planned is None else _on_planned_rates(log, planned)
    return RunOfLog(
        run, used, [*_on_loss(log, wanted), *_on_order(log, used), *_on_end(log, run), *_on_groups(log), *of_rates]
    )


def _on_loss(log: Log, wanted: str | None) -> Iterator[str]:
    used, *others = log.losses() if wanted is None else [wanted]
    others = [name for name in others if not name.startswith("loss/")]
    if others:
        yield f"The loss is {used}, not {', '.join(others)}: name another with loss."


def _on_order(log: Log, used: str) -> Iterator[str]:
    steps = log.columns[used].steps[log.columns[used].known]
    if (np.diff(steps) < 0).any():
        yield "Rows out of order, as of a resumed run, are sorted by step; of one step the last finite loss counts."


def _on_end(log: Log, run: LoggedRun) -> Iterator[str]:
    last = int(run.steps[-1])
    if run.length - last > np.diff(run.steps).max(initial=0):
        yield f"{log.name} has its last loss after {last:,} of {run.length:,} steps."


def _on_logged_rates(log: Log, used: str) -> Iterator[str]:
    rate = log.rate()
    steps = np.unique(rate.steps[rate.known])
    changes = np.diff(logged_path(rate).rate_at(steps)) != 0
    if (changes & (np.diff(steps) > 1)).any():
        yield "Between logged rows the learning rate is interpolated."
    if steps[0] > 1:
        yield "Where a log begins late, the rate is taken to rise from 0 until there."
    if steps[-1] < log.columns[used].last:
        yield "Where a log's rates end before its losses, the last one is taken to stay."


def _on_planned_rates(log: Log, planned: RatePath) -> Iterator[str]:
    """Looks at the step of a logged rate and the one before: some log the rate of the step done, some of the next."""
    rates = log.rates()
    if not rates:
        return
    name, rate = next(iter(rates.items()))
    inside = rate.known & (rate.steps < planned.length)  # the next rate after the last step is none of the run's
    steps, logged = rate.steps[inside], rate.values[inside]
    near = [planned.rate_at(np.maximum(steps - before, 0)) for before in (0, 1)]
    off = np.min([np.abs(one - logged) for one in near], axis=0)
    if (off > 0.01 * planned.peak).any():
        place = int(np.argmax(off))
        yield (
            f"{log.name}: {name} at step {steps[place]:,.0f} is {logged[place]:.4g}, and {near[0][place]:.4g} by "
            "the schedule that is stated, which is taken."
        )


def _on_groups(log: Log) -> Iterator[str]:
    rates = log.rates()
    if len(rates) < 2 or not next(iter(rates.values())).known.any():
        return
    name, *others = rates
    first = logged_path(rates[name])
    ratios = []
    for other in others:
        steps, values = rates[other]
        used = first.rate_at(np.clip(steps, 0, first.length - 1))
        known = rates[other].known & (steps < first.length) & (used > 0)
        ratios.append(values[known] / used[known])
    if all(np.allclose(ratio, 1, rtol=1e-4) for ratio in ratios):
        return
    kept = all(np.allclose(ratio, np.median(ratio), rtol=1e-3) for ratio in ratios if len(ratio))
    words = "keep their ratio to it" if kept else "do not keep their ratio to it, which no law knows of"
    yield f"The learning rate is that of the first param group, {name}; those of {', '.join(others)} {words}."

"""What theory says of the rates that a race chooses: the best peak of each schedule, from its convex bound."""

from __future__ import annotations

from lit_lrsched.comparison.engine.recorder import NotVectorizable
from lit_lrsched.comparison.grid import Grid
from lit_lrsched.schedules.core import Horizon
from lit_lrsched.theory.bound import bound_of_factors


def best_peaks(grid: Grid, horizon: Horizon | None) -> dict[str, float]:
    """Returns the best peak of each schedule's convex bound, in its own units: ratios are what counts.

    A schedule whose rates follow a metric, or cannot be known before the run, has none.

    Args:
        grid: What races.
        horizon: How long a run lasts; None where it is not known.
    """
    found: dict[str, float] = {}
    if horizon is None:
        return found
    keys = grid.keys()
    for key in {key.schedule: key for key in keys}.values():
        try:
            (training,) = grid.trainings([key], horizon)
        except NotVectorizable:
            continue
        rates = training.rates[:, 0] / key.lr
        bound = bound_of_factors(rates.tolist())
        if bound is not None and training.plateau is None:
            found[key.schedule] = bound.peak
    return found

"""What is asked of a forecast: schedules at peak rates and lengths, and what of it lies outside the runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from lit_lrsched.errors import InputError
from lit_lrsched.forecasting.logged_run import LoggedRun
from lit_lrsched.forecasting.rate_path import RatePath
from lit_lrsched.forecasting.schedule_paths import path_of
from lit_lrsched.forecasting.words import listed
from lit_lrsched.schedules.checks import check_positive, check_whole
from lit_lrsched.schedules.compose import Chain, Phase
from lit_lrsched.schedules.core import Horizon, Schedule
from lit_lrsched.schedules.decays import Cosine, Linear, OneMinusSqrt
from lit_lrsched.schedules.shapes import Constant, InverseSqrt

LONGER = 3.0  # times the longest run: beyond, a forecast says that it is far


class Candidate(NamedTuple):
    """One thing that is asked.

    Args:
        schedule: Name of the schedule.
        lr: Base learning rate.
        steps: Length of the run.
        path: The rate of every step.
    """

    schedule: str
    lr: float
    steps: int
    path: RatePath


def warmup_of(runs: Sequence[LoggedRun]) -> int:
    """Returns the median warmup of runs in steps, at most a fifth of the shortest run."""
    return min(int(np.median([run.path.warmup for run in runs])), min(run.length for run in runs) // 5)


def usual_schedules(runs: Sequence[LoggedRun]) -> dict[str, Schedule]:
    """Returns the catalogue's main shapes, with the warmup of the runs."""
    warmup = warmup_of(runs)
    rise = [Phase(Linear(0.0, 1.0), f"{warmup}st", "warmup")] if warmup else []
    shapes: dict[str, list[Phase]] = {
        "constant": [Phase(Constant())],
        "linear to 0": [Phase(Linear())],
        "cosine to 0": [Phase(Cosine())],
        "cosine to 0.1": [Phase(Cosine(end=0.1))],
        "1-sqrt to 0": [Phase(OneMinusSqrt())],
        "inverse sqrt": [Phase(InverseSqrt(f"{max(warmup, 1)}st"))],
        **{f"cooldown {share} %": [Phase(Constant()), Phase(Linear(), f"{share}%")] for share in (10, 20, 40)},
    }
    return {name: Chain([*rise, *phases]) for name, phases in shapes.items()}


def candidates_of(schedules: Mapping[str, Schedule], lrs: Sequence[float], steps: Sequence[int]) -> list[Candidate]:
    """Returns every schedule at every base rate and length.

    Raises:
        InputError: When a number is out of range, or a schedule does not fit a length.
    """
    for lr in lrs:
        check_positive("lrs", lr, example=3e-4)
    for length in steps:
        check_whole("steps", length, least=2)
    found = []
    for name, schedule in schedules.items():
        if schedule.driven_by_metric:
            raise InputError(f"schedules: {name!r} follows a metric, which a forecast does not know: leave it out")
        for length in steps:
            try:
                unit = path_of(schedule, Horizon(length), 1.0)
            except InputError as error:
                raise InputError(f"the schedule {name!r} over {length:,} steps: {error}") from error
            found += [Candidate(name, lr, length, RatePath(unit.steps, lr * unit.rates, length)) for lr in lrs]
    return found


def outside(candidates: Sequence[Candidate], runs: Sequence[LoggedRun]) -> list[str]:
    """Returns in words what of the question lies outside what the runs cover."""
    found = []
    longest = max(int(run.steps[-1]) for run in runs)
    if far := sorted({one.steps for one in candidates if one.steps > LONGER * longest}):
        found.append(f"{_numbers(far)} steps are more than {LONGER:g} times the longest run ({longest:,})")
    peaks = [run.path.peak for run in runs]
    if high := sorted({one.path.peak for one in candidates if one.path.peak > 1.001 * max(peaks)}):
        found.append(f"no run had a rate above {max(peaks):g} (asked: {_numbers(high)}), and it may diverge there")
    if low := sorted({one.path.peak for one in candidates if one.path.peak < 0.5 * min(peaks)}):
        found.append(f"no run had a peak rate as low as {_numbers(low)}")
    least = min(float(run.path.rate_at(run.steps[-1] - 1)) / run.path.peak for run in runs)
    ends = {one.schedule: float(one.path.rates[-1]) / one.path.peak for one in candidates}
    if deep := [name for name, end in ends.items() if end < least / 2 - 0.01]:
        found.append(f"no run ended below {least:.2g} of its peak, as {listed(deep)} would")
    climbing = dict.fromkeys(one.schedule for one in candidates if one.path.climbs)
    if climbing and not any(run.path.climbs for run in runs):
        found.append(f"no run's rate rose again after it had fallen, as that of {listed([*climbing])} would")
    return found


def _numbers(values: Sequence[float]) -> str:
    return listed([f"{value:,}" if isinstance(value, int) else f"{value:g}" for value in values])

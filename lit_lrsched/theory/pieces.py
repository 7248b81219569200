"""A curve of any length as straight pieces: as few steps as its shape needs, every step of a short or restless one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import NamedTuple

from lit_lrsched.schedules.core import Horizon, ScheduleLike, as_schedule, check_horizon, factor_at

_SHORT = 4096  # steps: a run as short as that is looked at whole
_MOST = 32_768  # steps to look at, before all of them are: a million take a second or more
_EVERY = 256  # pieces over a run, at least
_NEAR_END = 32  # and a piece is no longer than this part of what is left of the run after it
_OFF = 2e-3  # how far a curve may be off the straight line, as a share of its value or of the mean after it


class Pieces(NamedTuple):
    """The values at chosen steps, the first and the last among them; in between the curve is taken for straight."""

    steps: list[int]
    values: list[float]


def pieces_of(at: Callable[[int], float], steps: int, edges: Iterable[int] = ()) -> Pieces:
    """Returns a curve as straight pieces.

    Up to 4,096 steps the pieces are the steps themselves, and so they are where a curve turns too often to be thinned.
    Otherwise each piece is cut in three, unevenly, until the curve at the cuts is within 0.2 % of the straight line: of
    its value there and of the mean over the rest of the run. A spike that is shorter than 1/256 of the run, and at no
    edge, may be missed.

    Args:
        at: The value at a step, at least 0.
        steps: How many steps there are, at least 1.
        edges: Steps at which the curve may jump or bend.

    >>> pieces_of(lambda step: 1 - step / 1_000_000, 1_000_000).values[-1]
    1.00000000...e-06
    """
    if steps <= _SHORT:
        return Pieces([*range(steps)], [at(step) for step in range(steps)])
    known = {step: at(step) for step in _first_steps(steps, edges)}
    floor = 1e-12 * max(known.values())
    waiting = [*pairwise(sorted(known))]  # taken from the end of the run to its beginning
    area = known[steps - 1]  # of the pieces that are done, which lie after the next one
    while waiting:
        left, right = waiting.pop()
        begin, end = known[left], known[right]
        if right - left > 1:
            if len(known) > min(_MOST, steps // 4):
                return Pieces([*range(steps)], [at(step) for step in range(steps)])
            cuts = _cuts(left, right)
            known |= {step: at(step) for step in cuts}
            allowed = _OFF * area / (steps - right) + floor
            if any(
                abs(known[step] - (begin + (end - begin) * (step - left) / (right - left)))
                > allowed + _OFF * known[step]
                for step in cuts
            ):
                waiting += pairwise([left, *cuts, right])
                continue
        area += (right - left) * (begin + end) / 2
    chosen = sorted(known)
    return Pieces(chosen, [known[step] for step in chosen])


def _cuts(left: int, right: int) -> list[int]:
    """Returns one or two steps inside a piece, unevenly, so that neither a period nor luck hides from them."""
    share = 0.25 + 0.2 * (left * 0.618034 % 1.0)
    return sorted({left + max(1, int(part * (right - left))) for part in (share, share + 0.35)})


def _first_steps(steps: int, edges: Iterable[int]) -> set[int]:
    """Returns steps spread over the run, ever closer towards its end, where each counts for more."""
    found = {0, steps - 1}
    found |= {step for edge in edges for step in range(edge - 1, edge + 2) if 0 <= step < steps}
    step = steps - 1
    while step > 0:
        found.add(step)
        step -= max(1, min(steps // _EVERY, (steps - step) // _NEAR_END))
    return found


def pieces_of_schedule(schedule: ScheduleLike, horizon: Horizon, edges: Iterable[int] = ()) -> Pieces:
    """Returns a schedule over a horizon as straight pieces: see :func:`pieces_of`.

    Args:
        schedule: A :class:`~lit_lrsched.Schedule` or a function ``(step, horizon) -> float``.
        horizon: How long training lasts.
        edges: Steps to have among the pieces' ends, besides those of the schedule's phases.

    Raises:
        InputError: When an argument is of the wrong type, or the schedule does not fit the horizon.
    """
    schedule = as_schedule(schedule)
    check_horizon(horizon)
    edges = [*edges, *(edge for span in schedule.spans(horizon) for edge in (span.start, span.stop))]
    return pieces_of(lambda step: factor_at(schedule, step, horizon), horizon.steps, edges)

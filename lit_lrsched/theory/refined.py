"""A schedule refined by the gradient norms of an earlier run."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from itertools import pairwise

from lit_lrsched.class_paths import to_plain
from lit_lrsched.errors import InputError, shown
from lit_lrsched.schedules.checks import check_positive, is_finite
from lit_lrsched.schedules.shapes import Piecewise

_MOST = 1000  # values that the norms are summed up in
_OFF = 0.002  # how far the points may be off the curve, as a share of its peak


def refined(norms: Sequence[float], smoothing: float = 0.1) -> Piecewise:
    """Returns the schedule that the gradient norms of a run ask for: small where gradients were large.

    The factor at a step is in proportion to ``w_t sum_{s>t} w_s`` with ``w = G^-2``, where G is the running median of
    the norms, and the highest is 1. The sum goes on to the end of the run, with the last norm there, so that equal
    norms give exactly ``Linear()``.

    Args:
        norms: The norm of the whole gradient, logged at equal distances over a run; at least 2, each above 0.
        smoothing: Width of the running median as a share of the run, above 0 and below 1.

    Returns:
        Points in percent of the horizon, so that a run of any length can follow it.

    Raises:
        InputError: When there are fewer than two norms, one is not a finite number above 0, or the smoothing is out of
            range.

    Source: Defazio et al. 2023, "When, Why and How Much?", https://arxiv.org/abs/2310.07831, theorem 3 and the
    algorithm for schedule refinement. It is made for SGD; the norms of another optimizer's run are a guess.

    >>> refined([2.0] * 50)
    Piecewise(points=(('0%', 1.0), ('100%', 0.0)))
    """
    check_positive("smoothing", smoothing, example=0.1)
    if smoothing >= 1:
        raise InputError(f"smoothing={shown(smoothing)} is a share of the run: give a number below 1, like 0.1")
    if len(norms) < 2:
        raise InputError(f"norms={shown(norms)} are too few: give the gradient norms of a whole run, at least 2")
    norms = [_number(norm) for norm in norms]
    for place, norm in enumerate(norms):
        if not (is_finite(norm) and norm > 0):
            raise InputError(f"norms[{place}]={shown(norm)} has to be a finite number above 0: leave such steps out")
    smooth = _running_median(_summed_up(norms), smoothing)
    least = min(smooth)
    weights = [(least / norm) ** 2 for norm in smooth]  # in proportion to G^-2, and at most 1
    factors, after = [0.0], weights[-1]
    for weight in reversed(weights):
        factors.append(weight * after)
        after += weight
    factors.reverse()
    highest, last = max(factors), len(factors) - 1
    points = _few_points([factor / highest for factor in factors])
    return Piecewise([(_percent(place / last), factor) for place, factor in points])


def as_yaml(schedule: Piecewise) -> str:
    """Returns a schedule as YAML for ``lit-lrsched fit --config``.

    >>> print(as_yaml(refined([2.0, 2.0])))
    lr_scheduler:
      class_path: lit_lrsched.Piecewise
      init_args:
        points:
        - ["0%", 1.0]
        - ["100%", 0.0]
    <BLANKLINE>
    """
    plain = to_plain(schedule)
    points = "".join(f"    - {json.dumps(point)}\n" for point in plain["init_args"]["points"])
    return f"lr_scheduler:\n  class_path: {plain['class_path']}\n  init_args:\n    points:\n{points}"


def _number(norm: float) -> float:
    """Returns a number of numpy or torch as one of Python, and anything else as it is."""
    try:
        return norm if isinstance(norm, (bool, str)) else float(norm)
    except (TypeError, ValueError):
        return norm


def _summed_up(norms: Sequence[float]) -> list[float]:
    """Returns the medians of at most a thousand equal parts."""
    count = min(_MOST, len(norms))
    cuts = [len(norms) * part // count for part in range(count + 1)]
    return [statistics.median(norms[start:stop]) for start, stop in pairwise(cuts)]


def _running_median(values: Sequence[float], share: float) -> list[float]:
    half = int(share * len(values)) // 2
    return [statistics.median(values[max(0, place - half) : place + half + 1]) for place in range(len(values))]


def _few_points(factors: Sequence[float]) -> list[tuple[int, float]]:
    """Returns the points that a curve needs, so that the straight lines between them come close to it everywhere."""
    kept, waiting = {0, len(factors) - 1}, [(0, len(factors) - 1)]
    while waiting:
        left, right = waiting.pop()
        slope = (factors[right] - factors[left]) / (right - left)
        off, place = max((abs(factors[left] + slope * (n - left) - factors[n]), n) for n in range(left, right + 1))
        if off > _OFF:
            kept.add(place)
            waiting += [(left, place), (place, right)]
    return [(place, round(factors[place], 6)) for place in sorted(kept)]


def _percent(share: float) -> str:
    return f"{100 * share:.4f}".rstrip("0").rstrip(".") + "%"

"""What the losses of many rates say, on losses whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lit_lrsched.errors import InputError
from lit_lrsched.search import judgement
from lit_lrsched.search.judgement import diverged, judge
from lit_lrsched.search.rates import scouted, spread, where_something_happens

LRS = spread(1e-3, 10, 25)  # a sixth of a decade apart
NONE = np.zeros((len(LRS), 4), bool)


def valley(center: float, width: float = 1.0, noise: float = 0.0, seed: int = 0) -> np.ndarray:
    """Losses of 4 seeds, lowest at a rate given in decades, twice as high e**0.5 away for a width of 1."""
    away = (np.log10(LRS) - center) / width
    random = np.random.default_rng(seed)
    return np.exp(0.5 * away**2)[:, None] * (1 + noise * random.standard_normal((len(LRS), 4)))


@settings(max_examples=25)
@given(
    center=st.floats(-2.5, 0.5),
    width=st.floats(0.5, 2.0),
    scale=st.floats(1e-6, 1e6),
)
def test_the_best_is_the_lowest_point_whatever_the_unit_of_the_loss(center, width, scale):
    found = judge(LRS, scale * valley(center, width), NONE)
    # The fit is cut off a unit of log above the lowest loss, where the narrowest valley is half a decade wide.
    assert np.log10(found.best) == pytest.approx(center, abs=0.05)
    assert found.interval[0] == pytest.approx(found.interval[1]) == pytest.approx(found.best)
    assert found.edge is None


def test_the_suggested_rate_is_within_one_percent_and_not_told_from_the_best():
    # Of rates a sixth of a decade apart the next above the best has e**(1 / 6**2 / 2) = 1.014 times its loss, in a
    # valley twice as wide e**(1 / 12**2 / 2) = 1.0035, and the one after that e**(1 / 6**2 / 2) again.
    noise = 1 + 0.03 * np.array([[1, -1, 2, -2], [2, 1, -2, -1]])[np.arange(len(LRS)) % 2]
    at = LRS[12]
    assert judge(LRS, valley(np.log10(at)) * noise, NONE).suggested == pytest.approx(at, rel=0.03)
    assert judge(LRS, valley(np.log10(at), 2.0) * noise, NONE).suggested == LRS[13]
    # Without noise every difference is told.
    assert judge(LRS, valley(np.log10(at), 2.0), NONE).suggested == pytest.approx(at, rel=0.01)


@settings(max_examples=25)
@given(st.integers(1, len(LRS) - 1), st.floats(-3, 1), st.integers(0, 1000))
def test_no_rate_above_the_largest_safe_one_is_suggested(place, center, seed):
    broken = NONE.copy()
    broken[place, 2] = True
    found = judge(LRS, valley(center, 1.0, 0.05, seed), broken)
    assert found.largest_safe == LRS[place - 1]
    assert found.best <= found.suggested <= found.largest_safe
    assert LRS[0] <= found.interval[0] <= found.best <= found.interval[1] <= found.largest_safe
    assert not found.all_safe


def test_edges_are_said_and_a_cliff_is_none():
    assert judge(LRS, valley(-4.0), NONE).edge == "low"
    assert judge(LRS, valley(2.0), NONE).edge == "high"
    broken = NONE.copy()
    broken[20:] = True
    cliff = judge(LRS, valley(2.0), broken)
    assert (cliff.edge, cliff.largest_safe) == (None, LRS[19])


def test_a_flat_loss_is_called_flat():
    random = np.random.default_rng(3)
    losses = np.ones((len(LRS), 4)) * (1 + 0.01 * random.standard_normal((len(LRS), 4)))
    losses[:5] += 1.0
    low, high = judge(LRS, losses, NONE).flat
    assert (low, high) == (pytest.approx(LRS[6], rel=0.5), LRS[-1])
    assert judge(LRS, valley(-1.0, 0.5, 0.01), NONE).flat is None


def test_a_seed_that_diverges_at_the_lowest_rate_is_refused():
    with pytest.raises(InputError, match=r"a seed diverged at the lowest rate tried, 0\.001: give lower rates"):
        judge(LRS, valley(-1.0), ~NONE)


def test_losses_below_zero_are_judged_too():
    losses = valley(-1.0, 1.0, 0.01) - 3.0
    assert np.log10(judge(LRS, losses, NONE).best) == pytest.approx(-1.0, abs=0.1)


def test_seeds_without_any_loss_are_judged_too():
    losses = valley(-1.0, 1.0, 0.01)
    losses[:, :2] = 0.0
    found = judge(LRS, losses, NONE)
    assert np.log10(found.best) == pytest.approx(-1.0, abs=0.1)
    assert np.isfinite(found.interval).all()


def test_the_interval_holds_the_best_rate_most_of_the_time():
    held = 0
    for seed in range(100):
        low, high = judge(LRS, valley(-1.0, 1.0, 0.1, seed), NONE).interval
        held += low <= 0.1 <= high
    assert 90 <= held <= 99


def test_what_diverged_means():
    untrained = np.array([1.0, 1.2])
    losses = np.array([[0.5, 0.6], [1.5, 1.7], [1.6, 1.7], [np.inf, 1.0], [0.5, np.nan]])
    # The best ends 0.5 and 0.6 below the start, 0.55 on average: 1.55 and 1.75 are the most.
    expected = [[False, False], [False, False], [True, False], [True, False], [False, True]]
    assert diverged(np.zeros((5, 2), bool), [(losses, untrained)]).tolist() == expected
    broken = np.zeros((5, 2), bool)
    broken[0, 0] = True
    assert diverged(broken, [(losses, untrained)])[0].tolist() == [True, False]


def stability_in_numpy(curvatures: np.ndarray, beta: float, lrs: np.ndarray) -> np.ndarray:
    """The final losses of gradient descent with momentum on a quadratic, from 4 starts, ``[L, 4]``."""
    start = np.random.default_rng(0).standard_normal((len(curvatures), 4))
    w, v = np.broadcast_to(start, (len(lrs), *start.shape)).copy(), 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(300):
            v = beta * v + curvatures[:, None] * w
            w = w - lrs[:, None, None] * v
        return 0.5 * (curvatures[:, None] * w**2).sum(axis=1), 0.5 * (curvatures[:, None] * start**2).sum(axis=0)


@pytest.mark.parametrize("beta", [0.0, 0.9])
def test_the_largest_safe_rate_of_quadratics_is_the_stable_one(beta):
    random = np.random.default_rng(1)
    for _ in range(100):
        curvatures = 10 ** random.uniform(-2, 2, 5)
        limit = 2 * (1 + beta) / curvatures.max()
        lrs = spread(limit / 100 * random.uniform(0.5, 2), limit * 100, 40)
        losses, start = stability_in_numpy(curvatures, beta, lrs)
        broken = diverged(~np.isfinite(losses), [(losses, start)])
        found = judge(lrs, losses, broken)
        (place,) = np.flatnonzero(lrs == found.largest_safe)
        assert lrs[place] <= limit < lrs[place + 1]


def test_noise_moves_the_answer_little(monkeypatch):
    """The loss of a published complaint about ramps: a parabola in log rate, which still falls at the highest."""
    monkeypatch.setattr(judgement, "_RESAMPLES", 19)
    lrs = spread(1e-8, 1.0, 24)
    x = np.linspace(-50, 50, len(lrs))
    curve = (4000 - 30 * x - x**2) / 1000
    broken = np.zeros((len(lrs), 4), bool)
    for losses in (curve, curve[::-1], 0.2 + ((x - 10) / 15) ** 2):
        answers = []
        for seed in range(100):
            noise = np.random.default_rng(seed).uniform(-0.1, 0.1, (len(lrs), 4))
            answers.append(judge(lrs, losses[:, None] + noise, broken).best)
        assert max(answers) / min(answers) <= 1.5


def test_whole_runs_go_where_short_ones_show_that_something_happens():
    lrs = scouted(0.1, 24)
    assert len(lrs) == 12
    assert (lrs[0], lrs[-1]) == (1e-4, 100)
    losses = np.where(lrs < 1, 1 - np.minimum(lrs, 0.5), 5.0)
    low, high = where_something_happens(lrs, losses, losses > 2, 1.0, 5)
    # 0.658 is the first to gain half of 0.5, and 2.31 breaks down; a rate five times lower goes as far in whole runs.
    assert (lrs[7], low, high) == (0.658, pytest.approx(0.187 / 5), 2.31)


def test_where_nothing_trains_all_rates_that_hold_are_looked_at():
    lrs = scouted(1.0, 8)
    found = where_something_happens(lrs, np.ones(4), np.array([False, False, False, True]), 1.0, 5)
    assert found == (lrs[0], lrs[3])


def test_where_the_lowest_rate_diverged_in_short_runs_whole_ones_try_all():
    lrs = scouted(1.0, 8)
    assert where_something_happens(lrs, np.ones(4), np.ones(4, bool), 1.0, 5) == (lrs[0], lrs[3])

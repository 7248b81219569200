"""Every recipe against a table worked by hand, and what it promises."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lit_lrsched.errors import InputError
from lit_lrsched.schedules.compose import Chain, Phase
from lit_lrsched.schedules.core import Horizon, Schedule, table
from lit_lrsched.schedules.decays import Cosine, Linear, OneMinusSqrt, Rex
from lit_lrsched.schedules.recipes import (
    CosineRestarts,
    OneCycle,
    WarmupCosine,
    WarmupInverseSqrt,
    WarmupLinear,
    WarmupStableDecay,
)
from lit_lrsched.schedules.shapes import Constant, InverseSqrt

ROOT2 = math.sqrt(2)

GOLDEN: list[tuple[Schedule, list[float]]] = [
    # W = 3: 1/4, 2/4, 3/4; then 1 down to 0.2 in 4 steps, 0.2 each
    (WarmupLinear("3st", end=0.2), [0.25, 0.5, 0.75, 1.0, 0.8, 0.6, 0.4]),
    # asked for 0: t/3
    (WarmupLinear("3st", start=0.0), [0.0, 1 / 3, 2 / 3, 1.0, 0.75, 0.5, 0.25]),
    # W = 3, then half of 1 + cos 0, 45, 90, 135 degrees
    (WarmupCosine("3st"), [0.25, 0.5, 0.75, 1.0, (1 + 1 / ROOT2) / 2, 0.5, (1 - 1 / ROOT2) / 2]),
    # W = 3, then 1/sqrt(1 + s/4) = sqrt(4/(4 + s)), s = 0, 1, 2, 3
    (WarmupInverseSqrt("3st"), [0.25, 0.5, 0.75, 1.0, 2 / math.sqrt(5), 2 / math.sqrt(6), 2 / math.sqrt(7)]),
    # W = 1: 1/2; then 0.1 + 0.9/sqrt(1 + s/2)
    (
        WarmupInverseSqrt("1st", every="2st", end=0.1),
        [0.5, 1.0, 0.1 + 0.9 / math.sqrt(1.5), 0.1 + 0.9 / ROOT2, 0.1 + 0.9 / math.sqrt(2.5), 0.1 + 0.9 / math.sqrt(3)],
    ),
    # W = 1: 1/2; 4 - 1 = 2 steps at 1; 4 of cooldown 1 - sqrt(0, 1/4, 1/2, 3/4)
    (
        WarmupStableDecay("1st", decay="4st"),
        [0.5, 1.0, 1.0, 1.0, 0.5, 1 - 1 / ROOT2, 1 - math.sqrt(3) / 2],
    ),
    (WarmupStableDecay("1st", decay="2st", shape=Linear(end=0.5), start=0.1), [0.1, 1.0, 1.0, 1.0, 1.0, 1.0, 0.75]),
    # up in 2 steps from 0.2: 0.2, 0.6, 1; down in 4 to 0: 1, 3/4, 1/2, 1/4
    (OneCycle("2st", low=0.2, end=0.0, shape="linear"), [0.2, 0.6, 1.0, 0.75, 0.5, 0.25]),
    # cosine between the same: half way at half time, at a quarter 0.5 * (1 + 1/sqrt 2)
    (OneCycle("2st", low=0.2, end=0.0), [0.2, 0.6, 1.0, (1 + 1 / ROOT2) / 2, 0.5, (1 - 1 / ROOT2) / 2]),
    # up in 2, down in 2 to 0.2, then to 0.1 in 2
    (OneCycle("2st", "2st", low=0.2, end=0.1, shape="linear"), [0.2, 0.6, 1.0, 0.6, 0.2, 0.15]),
    # cycles of 1, 3 and 9 steps: half of 1 + cos 0; 0, 60, 120; 0, 20, 40 degrees
    (
        CosineRestarts("1st", multiplier=3),
        [1.0, 1.0, 0.75, 0.25, *[(1 + math.cos(math.radians(angle))) / 2 for angle in (0, 20, 40)]],
    ),
    # cycles of 2: half way between 1 and 0.2
    (CosineRestarts("2st", end=0.2), [1.0, 0.6, 1.0, 0.6, 1.0, 0.6, 1.0]),
]


@pytest.mark.parametrize(
    ("schedule", "factors"), GOLDEN, ids=lambda value: str(value) if isinstance(value, Schedule) else ""
)
def test_golden(schedule: Schedule, factors: list[float]) -> None:
    assert table(schedule, Horizon(len(factors))) == pytest.approx(factors, rel=1e-14, abs=1e-16)


def test_the_momentum_runs_opposite() -> None:
    # the rate goes 0.04 to 1 in 2 steps and back in 4: the momentum 1 to 0.9 in 2 steps and back in 4
    momentum = OneCycle("2st", shape="linear", momentum=0.9).companions()["momentum"]
    assert table(momentum, Horizon(6)) == pytest.approx([1.0, 0.95, 0.9, 0.925, 0.95, 0.975])
    momentum = OneCycle("2st", "2st", shape="linear", momentum=0.9).companions()["momentum"]
    assert table(momentum, Horizon(6)) == pytest.approx([1.0, 0.95, 0.9, 0.95, 1.0, 1.0])
    assert OneCycle("2st").companions() == {}


def test_a_recipe_is_its_chain() -> None:
    horizon = Horizon(50, 5)
    chains = {
        WarmupLinear("2ep"): [Phase(Linear(1 / 11, 1.0), "2ep", "warmup"), Phase(Linear(), name="decay")],
        WarmupCosine("2ep", end=0.1): [
            Phase(Linear(1 / 11, 1.0), "2ep", "warmup"),
            Phase(Cosine(end=0.1), name="decay"),
        ],
        WarmupInverseSqrt("2ep"): [
            Phase(Linear(1 / 11, 1.0), "2ep", "warmup"),
            Phase(InverseSqrt("11st"), name="decay"),
        ],
        WarmupStableDecay("2ep", "20%", start=0.5): [
            Phase(Linear(0.5, 1.0), "2ep", "warmup"),
            Phase(Constant(), name="stable"),
            Phase(OneMinusSqrt(), "20%", "cooldown"),
        ],
        OneCycle(): [Phase(Cosine(1 / 25, 1.0), "30%", "up"), Phase(Cosine(1.0, 1 / 250_000), name="down")],
    }
    for recipe, phases in chains.items():
        assert recipe.chain(horizon) == Chain(phases)  # type: ignore[attr-defined]
        assert table(recipe, horizon) == table(Chain(phases), horizon)


def test_spans() -> None:
    horizon = Horizon(100, 10)
    assert WarmupLinear("1ep").spans(horizon) == [("warmup", 0, 10), ("decay", 10, 100)]
    assert WarmupLinear("0.1%").spans(horizon) == [("decay", 0, 100)]
    assert WarmupStableDecay("1ep", "20%").spans(horizon) == [
        ("warmup", 0, 10),
        ("stable", 10, 80),
        ("cooldown", 80, 100),
    ]
    assert OneCycle().spans(horizon) == [("up", 0, 30), ("down", 30, 100)]
    assert OneCycle(down="30%").spans(horizon) == [("up", 0, 30), ("down", 30, 60), ("annihilate", 60, 100)]
    assert CosineRestarts("20st", 2).spans(horizon) == [("cycle 1", 0, 20), ("cycle 2", 20, 60), ("cycle 3", 60, 100)]
    assert CosineRestarts("40st").spans(horizon) == [("cycle 1", 0, 40), ("cycle 2", 40, 80), ("cycle 3", 80, 100)]


def test_restarts_at_every_boundary_and_nowhere_else() -> None:
    # Closed form against counting: a logarithm in place of the whole numbers is off by one at some of these.
    for multiplier in (1, 2, 3, 10):
        for period in (1, 3, 7, 125):
            restarts, start, length = set(), 0, period
            while start < 5000:
                restarts.add(start)
                start, length = start + length, length * multiplier
            factors = table(CosineRestarts(f"{period}st", multiplier), Horizon(5000))
            assert {step for step, factor in enumerate(factors) if factor == 1.0} == restarts


def test_restarts_hold_past_the_horizon() -> None:
    restarts = CosineRestarts("3st", end=0.25)
    assert [restarts(step, Horizon(6)) for step in (6, 7, 99)] == [0.25, 0.25, 0.25]
    # cut off in the middle of a cycle: cos of 60 degrees
    assert [restarts(step, Horizon(4)) for step in (4, 99)] == pytest.approx([0.25 + 0.75 * 0.75] * 2)


DURATIONS = st.one_of(
    st.integers(1, 9).map(lambda value: f"{value}st"),
    st.integers(1, 9).map(lambda value: f"{value / 10}ep"),
    st.integers(1, 45).map(lambda value: f"{value}%"),
)
HORIZONS = st.builds(Horizon, st.integers(20, 300), st.integers(1, 10))


@settings(derandomize=True, deadline=None, max_examples=100)
@given(horizon=HORIZONS, warmup=DURATIONS, decay=DURATIONS)
def test_warmups_rise_evenly_to_exactly_1_and_never_train_at_0(horizon: Horizon, warmup: str, decay: str) -> None:
    recipes: list[Schedule] = [
        WarmupLinear(warmup),
        WarmupCosine(warmup),
        WarmupInverseSqrt(warmup),
        WarmupStableDecay(warmup, decay),
    ]
    for recipe in recipes:
        factors = table(recipe, horizon)
        first = factors.index(1.0)  # the join with what follows is exact
        assert factors[:first] == pytest.approx([(t + 1) / (first + 1) for t in range(first)], rel=1e-14)
        assert min(factors) > 0
        assert max(factors) == 1.0
        assert all(later <= earlier for earlier, later in zip(factors[first:], factors[first + 1 :], strict=False))
        assert recipe(horizon.steps, horizon) == recipe(horizon.steps + 9, horizon) <= factors[-1]


@settings(derandomize=True, deadline=None, max_examples=200)
@given(horizon=HORIZONS, up=DURATIONS, down=st.none() | DURATIONS, shape=st.sampled_from(["cosine", "linear"]))
def test_one_cycle_joins_at_its_peak_and_at_its_foot(horizon: Horizon, up: str, down: str | None, shape: str) -> None:
    cycle = OneCycle(up, down, momentum=0.9, shape=shape)  # type: ignore[arg-type]
    momentum = cycle.companions()["momentum"]
    found = {span.name: span for span in cycle.spans(horizon)}
    if "up" in found:
        assert cycle(0, horizon) == 1 / 25
        assert momentum(0, horizon) == 1.0
    if "down" in found:
        assert cycle(found["down"].start, horizon) == 1.0
        assert momentum(found["down"].start, horizon) == 0.9
    if "annihilate" in found:
        assert cycle(found["annihilate"].start, horizon) == 1 / 25
        assert momentum(found["annihilate"].start, horizon) == 1.0
    assert cycle(horizon.steps, horizon) == cycle(horizon.steps + 7, horizon) == 1 / 250_000
    assert min(table(cycle, horizon)) > 0


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: WarmupLinear(5), "warmup=5 has no unit"),
        (lambda: WarmupLinear("0st"), "warmup='0st' lasts no time"),
        (lambda: WarmupCosine("5ep", end=-1.0), "end=-1.0 has to be"),
        (lambda: WarmupCosine("5ep", start=math.nan), "start=nan has to be"),
        (lambda: WarmupInverseSqrt("5ep", every="x"), "every='x' is not a duration"),
        (lambda: WarmupStableDecay("5ep", 10), "decay=10 has no unit"),
        (lambda: WarmupStableDecay("5ep", "10ep", shape=Rex), r"shape=.*is not a schedule: write Rex\(...\)"),
        (lambda: OneCycle(up=0.3), "up=0.3 has no unit"),
        (lambda: OneCycle(down="-1ep"), "down='-1ep' is negative: write a positive number"),
        (lambda: OneCycle(low=-1.0), "low=-1.0 has to be"),
        (lambda: OneCycle(momentum=-1.0), "momentum=-1.0 has to be"),
        (lambda: OneCycle(shape="cos"), r"shape='cos' is unknown.*: write 'cosine' or 'linear'"),
        (lambda: CosineRestarts("5ep", multiplier=0), "multiplier=0 has to be a whole number of at least 1"),
        (lambda: CosineRestarts("5ep", multiplier=1.5), "multiplier=1.5 has to be a whole number"),
        (lambda: CosineRestarts("5ep", end=-1.0), "end=-1.0 has to be"),
    ],
)
def test_refused_at_construction(build: object, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        build()  # type: ignore[operator]
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "recipe", [WarmupLinear("12ep"), WarmupCosine("12ep"), WarmupInverseSqrt("120%"), WarmupStableDecay("12ep", "1ep")]
)
def test_a_warmup_longer_than_the_horizon_is_refused(recipe: Schedule) -> None:
    message = "warmup='.*' needs 120 steps but training has 100: shorten the warmup or raise max_epochs"
    with pytest.raises(InputError, match=message):
        recipe(0, Horizon(100, 10))


@pytest.mark.parametrize("recipe", [WarmupStableDecay("6ep", "60%"), OneCycle(up="60%", down="6ep")])
def test_phases_longer_than_the_horizon_are_refused(recipe: Schedule) -> None:
    with pytest.raises(
        InputError, match="phases need 120 steps but training has 100: shorten a phase or raise max_epochs"
    ):
        recipe(0, Horizon(100, 10))


def test_a_warmup_as_long_as_the_horizon_fits() -> None:
    assert table(WarmupLinear("3st"), Horizon(3)) == [0.25, 0.5, 0.75]
    assert table(WarmupStableDecay("2st", "2st", shape=Linear()), Horizon(4)) == pytest.approx([1 / 3, 2 / 3, 1.0, 0.5])

"""Every shape against a table worked by hand, and what it refuses."""

import math

import pytest

from lit_lrsched.errors import InputError
from lit_lrsched.schedules.core import Horizon, Schedule, table
from lit_lrsched.schedules.decays import Cosine, Linear, OneMinusSqrt, Polynomial, Rex
from lit_lrsched.schedules.shapes import (
    Constant,
    Exponential,
    InverseSqrt,
    InverseTime,
    MultiStep,
    Piecewise,
    Step,
    Triangle,
)

ROOT2, ROOT3 = math.sqrt(2), math.sqrt(3)

# Factors at steps 0, 1, 2, ... of a horizon of 4 steps, or as many as are listed; two steps an epoch.
GOLDEN: list[tuple[Schedule, list[float]]] = [
    (Constant(0.3), [0.3, 0.3, 0.3, 0.3]),
    # u = 0, 1/4, 1/2, 3/4: 0.2 + 0.8 * (1 - u)
    (Linear(end=0.2), [1.0, 0.8, 0.6, 0.4]),
    # rising over 2 steps, then held: 0.5 + 0.5 * u with u = 0, 1/2, 1, 1
    (Linear(start=0.5, end=1.0, over="1ep"), [0.5, 0.75, 1.0, 1.0]),
    # half of 4 steps: u = 0, 1/2, 1, 1
    (Linear(over="50%"), [1.0, 0.5, 0.0, 0.0]),
    # cos of 0, 45, 90, 135 degrees = 1, 1/sqrt 2, 0, -1/sqrt 2; half of 1 + cos
    (Cosine(), [1.0, (1 + 1 / ROOT2) / 2, 0.5, (1 - 1 / ROOT2) / 2]),
    # the same times 0.8, plus 0.2: at a half 0.6
    (Cosine(end=0.2, over="2st"), [1.0, 0.6, 0.2, 0.2]),
    # (1 - u)^2 = 1, 9/16, 1/4, 1/16
    (Polynomial(power=2.0), [1.0, 0.5625, 0.25, 0.0625]),
    # (1 - u)^(1/2) = 1, sqrt(3)/2, 1/sqrt 2, 1/2; times 1/2 plus 1/2
    (Polynomial(power=0.5, end=0.5), [1.0, 0.5 + ROOT3 / 4, 0.5 + ROOT2 / 4, 0.75]),
    # 1 - sqrt(u) = 1, 1 - 1/2, 1 - 1/sqrt 2, 1 - sqrt(3)/2
    (OneMinusSqrt(), [1.0, 0.5, 1 - 1 / ROOT2, 1 - ROOT3 / 2]),
    # (1 - u)/(1 - u/2) = 1/1, (3/4)/(7/8) = 6/7, (1/2)/(3/4) = 2/3, (1/4)/(5/8) = 2/5
    (Rex(), [1.0, 6 / 7, 2 / 3, 2 / 5]),
    # gamma^(t/2) = 1, sqrt(1/4), 1/4, 1/8
    (Exponential(gamma=0.25), [1.0, 0.5, 0.25, 0.125]),
    # gamma^floor(t/3)
    (Step(every="3st", gamma=0.1), [1.0, 1.0, 1.0, 0.1]),
    # milestones at step 1 and step 2 (one epoch): 0, 1, 2, 2 passed
    (MultiStep(["1st", "1ep"], gamma=0.5), [1.0, 0.5, 0.25, 0.25]),
    # 1/(1 + 3 t/2) = 1, 1/2.5, 1/4, 1/5.5
    (InverseTime(alpha=3.0), [1.0, 0.4, 0.25, 2 / 11]),
    # 1/sqrt(1 + t) = 1, 1/sqrt 2, 1/sqrt 3, 1/2
    (InverseSqrt(every="1st"), [1.0, 1 / ROOT2, 1 / ROOT3, 0.5]),
    # 0.4 + 0.6/sqrt(1 + 3t/3) at t = 0 and 3: 1 and 0.4 + 0.6/sqrt 2
    (InverseSqrt(every="3st", end=0.4), [1.0, 0.4 + 0.6 * ROOT3 / 2, 0.4 + 0.6 * math.sqrt(3 / 5), 0.4 + 0.6 / ROOT2]),
    # period 4: 0, 1/2, 1, 1/2 of the way from 0.2 to 1; the second cycle has half the height
    (Triangle(period="4st", low=0.2, shrink=0.5), [0.2, 0.6, 1.0, 0.6, 0.2, 0.4, 0.6, 0.4]),
    # an odd period never shows its peak: 0, 2/3, 2/3
    (Triangle(period="3st", low=0.0), [0.0, 2 / 3, 2 / 3, 0.0]),
    # 0.1 held until step 1, up by 0.45 a step to 1 at step 3, held
    (Piecewise([("1st", 0.1), ("3st", 1.0)]), [0.1, 0.1, 0.55, 1.0, 1.0]),
    (Piecewise([("0st", 0.7)]), [0.7, 0.7, 0.7, 0.7]),
]


@pytest.mark.parametrize(
    ("schedule", "factors"), GOLDEN, ids=lambda value: str(value) if isinstance(value, Schedule) else ""
)
def test_golden(schedule: Schedule, factors: list[float]) -> None:
    horizon = Horizon(max(4, len(factors)), steps_per_epoch=2)
    assert table(schedule, horizon)[: len(factors)] == pytest.approx(factors, rel=1e-14, abs=1e-16)


def test_exponential_and_inverse_time_are_exact_at_the_start_of_an_epoch() -> None:
    for steps_per_epoch in (1, 7, 11):
        horizon = Horizon(60 * steps_per_epoch, steps_per_epoch)
        assert table(Exponential(0.99), horizon, "epoch") == [0.99**n for n in range(60)]
        assert table(InverseTime(0.01), horizon, "epoch") == [1 / (1 + 0.01 * n) for n in range(60)]


def test_a_percentage_that_rounds_to_no_steps() -> None:
    horizon = Horizon(20)
    assert table(Linear(end=0.5, over="1%"), horizon) == [0.5] * 20  # over as soon as it begins
    assert Step(every="1%", gamma=0.5)(3, horizon) == 0.125  # a stair lasts at least a step


def test_spans() -> None:
    horizon = Horizon(20, steps_per_epoch=5)
    assert Cosine(over="2ep").spans(horizon) == [("Cosine", 0, 10), ("held", 10, 20)]
    assert Cosine().spans(horizon) == [("Cosine", 0, 20)]
    assert Cosine(over="9ep").spans(horizon) == [("Cosine", 0, 20)]
    assert Linear(over="1%").spans(horizon) == [("held", 0, 20)]
    assert Triangle("8st").spans(horizon) == [("cycle 1", 0, 8), ("cycle 2", 8, 16), ("cycle 3", 16, 20)]
    assert Step("8st").spans(horizon) == [("Step", 0, 20)]


def test_lists_become_tuples_so_that_schedules_hash() -> None:
    assert MultiStep(["1ep", "2ep"]) == MultiStep(("1ep", "2ep"))
    assert Piecewise([["0st", 1.0], ["1ep", 0.5]]) == Piecewise((("0st", 1.0), ("1ep", 0.5)))
    assert len({MultiStep(["1ep"]), MultiStep(("1ep",)), Piecewise([["0st", 1.0]])}) == 2


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Constant(-1.0), "factor=-1.0 has to be a finite number of at least 0"),
        (lambda: Constant(math.nan), "factor=nan has to be"),
        (lambda: Constant(True), "factor=True has to be"),
        (lambda: Linear(start=math.inf), "start=inf has to be"),
        (lambda: Linear(end=-0.1), "end=-0.1 has to be"),
        (lambda: Linear(over=30), "over=30 has no unit: write '30ep' .epochs., '30st' .optimizer steps. or '30%'"),
        (lambda: Linear(over="30"), "over='30' has no unit: write '30ep'"),
        (lambda: Linear(over="-3ep"), "over='-3ep' is negative"),
        (lambda: Linear(over="0ep"), "over='0ep' lasts no time"),
        (lambda: Cosine(over="3 hours"), "over='3 hours' is not a duration"),
        (lambda: Polynomial(power=0.0), "power=0.0 has to be a finite number above 0"),
        (lambda: Rex(end=-1), "end=-1 has to be"),
        (lambda: OneMinusSqrt(start=-1), "start=-1 has to be"),
        (lambda: Exponential(gamma=0.0), "gamma=0.0 has to be a finite number above 0"),
        (lambda: Exponential(gamma=0.9, every=1), "every=1 has no unit"),
        (lambda: InverseTime(alpha=-1.0), "alpha=-1.0 has to be"),
        (lambda: InverseSqrt(every="0st"), "every='0st' lasts no time"),
        (lambda: Step(every="1ep", gamma=-0.5), "gamma=-0.5 has to be"),
        (lambda: MultiStep([]), "milestones is empty"),
        (lambda: MultiStep("30ep"), "milestones='30ep' is not a list"),
        (lambda: MultiStep(["30ep", 60]), r"milestones\[1\]=60 has no unit"),
        (lambda: MultiStep(["30ep", "50%", "20ep"]), "milestones are out of order: '20ep' comes after '30ep'"),
        (lambda: MultiStep(["30ep", "30ep"]), "milestones are out of order"),
        (lambda: Triangle("10st", shrink=0.0), "shrink=0.0 has to be"),
        (lambda: Triangle("10st", shrink=1.5), "shrink=1.5 makes the cycles grow"),
        (lambda: Triangle("10st", low=-0.1), "low=-0.1 has to be"),
        (lambda: Piecewise([]), "points is empty"),
        (lambda: Piecewise([("1ep",)]), r"points\[0\]=\('1ep',\) is not a point"),
        (lambda: Piecewise([(0, 1.0)]), r"points\[0\]=0 has no unit"),
        (lambda: Piecewise([("0st", -1.0)]), r"points\[0\] factor=-1.0 has to be"),
        (lambda: Piecewise([("2ep", 1.0), ("1ep", 0.5)]), "points are out of order: '1ep' comes after '2ep'"),
    ],
)
def test_refused_at_construction(build: object, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        build()  # type: ignore[operator]
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        # 50% of 100 steps is step 50, before 6 epochs of 10
        (
            MultiStep(["6ep", "50%"]),
            r"milestones are out of order in 100 steps: '50%' \(step 50\) comes after '6ep' \(step 60\)",
        ),
        (Piecewise([("6ep", 1.0), ("50%", 0.0)]), "points are out of order in 100 steps"),
        (Exponential(gamma=1e9, every="1st"), "Exponential returned inf at step 35 of 100"),
    ],
)
def test_refused_when_the_horizon_is_known(schedule: Schedule, message: str) -> None:
    with pytest.raises(InputError, match=message):
        table(schedule, Horizon(100, steps_per_epoch=10))

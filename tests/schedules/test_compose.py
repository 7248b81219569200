"""Chains, products and repetitions: each child on its own clock."""

import math

import pytest

from lit_lrsched.errors import InputError
from lit_lrsched.schedules.compose import Chain, Phase, Product, Repeat
from lit_lrsched.schedules.core import Horizon, as_schedule, table
from lit_lrsched.schedules.decays import Cosine, Linear
from lit_lrsched.schedules.plateau import Plateau
from lit_lrsched.schedules.recipes import CosineRestarts, OneCycle, WarmupCosine
from lit_lrsched.schedules.shapes import Constant, Exponential, Step


def not_a_number(step: int, horizon: Horizon) -> float:
    return math.nan if step == 1 else 1.0


def shrinking(step: int, horizon: Horizon) -> float:
    """Depends on its whole horizon, so that it shows which one it was given."""
    return step / 100 + 1 / horizon.steps


def test_chain_golden() -> None:
    # 4 steps up: 0.2 + 0.8 t/4; then 8 - 4 = 4 steps down on a clock of their own: 1 - t/4; end at step 8
    chain = Chain([Phase(Linear(0.2, 1.0), lasts="4st"), Phase(Linear())])
    assert table(chain, Horizon(8)) == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 0.75, 0.5, 0.25])
    assert [chain(step, Horizon(8)) for step in (8, 9, 100)] == [0.0, 0.0, 0.0]


def test_each_phase_has_its_own_clock_and_horizon() -> None:
    # 100 steps, 10 an epoch: phases of 20 (2ep), 50 (the rest) and 30 (30%)
    chain = Chain([Phase(shrinking, "2ep"), Phase(shrinking), Phase(shrinking, "30%")])
    factors = table(chain, Horizon(100, 10))
    assert factors[0] == 1 / 20
    assert factors[19] == 0.19 + 1 / 20
    assert factors[20] == 1 / 50
    assert factors[69] == 0.49 + 1 / 50
    assert factors[70] == 1 / 30
    assert factors[99] == 0.29 + 1 / 30
    # a nested epoch is still an epoch: 1 epoch of 10 steps in a phase of 20
    nested = Chain([Phase(Step("1ep", gamma=0.5), "20st"), Phase(Constant())])
    assert table(nested, Horizon(30, 10))[8:12] == [1.0, 1.0, 0.5, 0.5]


def test_percentages_that_add_up_to_the_whole_always_fit() -> None:
    # Rounded one by one, 33% + 33% + 34% of 50 would be 17 + 17 + 17 = 51 steps
    chain = Chain([Phase(Constant(0.1), "33%"), Phase(Constant(0.2), "33%"), Phase(Constant(0.3), "34%")])
    for steps in range(1, 400):
        factors = table(chain, Horizon(steps))
        assert factors == sorted(factors)
        assert all(abs(factors.count(f) - share * steps) <= 1 for f, share in ((0.1, 0.33), (0.2, 0.33), (0.3, 0.34)))
    # 2.5 + 0 + 2.5 steps: both halves cannot be 3
    halves = Chain([Phase(Constant(0.1), "50%"), Phase(Constant(0.2)), Phase(Constant(0.3), "50%")])
    assert table(halves, Horizon(5)) == [0.1, 0.1, 0.1, 0.3, 0.3]


def test_a_last_phase_in_percent_has_its_share_however_the_first_rounded() -> None:
    for steps in range(1, 200):
        chain = Chain([Phase(Constant(0.1), "13%"), Phase(Constant(0.2)), Phase(Constant(0.3), "20%")])
        assert table(chain, Horizon(steps)).count(0.3) == math.floor(steps * 20 / 100 + 0.5)


def test_a_phase_that_rounds_to_no_steps_is_skipped() -> None:
    chain = Chain([Phase(Constant(0.1), "1%"), Phase(Constant(0.5)), Phase(Constant(0.9), "1%")])
    assert table(chain, Horizon(20)) == [0.5] * 20
    # nothing but such phases: what is held is the end of the last
    assert table(Chain([Phase(Linear(end=0.3), "1%")]), Horizon(20)) == [0.3] * 20
    assert Chain([Phase(Linear(end=0.3), "1%")]).spans(Horizon(20)) == [("held", 0, 20)]


def test_a_shorter_chain_holds_its_end() -> None:
    chain = Chain([Phase(Linear(end=0.5), "4st"), Phase(Exponential(0.5, every="1st"), "2st")])
    # the second phase is 1, 1/2 and, at its end and ever after, 1/4
    assert table(chain, Horizon(9))[4:] == [1.0, 0.5, 0.25, 0.25, 0.25]
    # a phase of whole restarts ends low: it does not start once more
    assert table(Chain([Phase(CosineRestarts("2st", end=0.1), "4st")]), Horizon(6))[3:] == pytest.approx(
        [0.55, 0.1, 0.1]
    )
    assert table(Chain([Phase(Repeat(Linear(), "2st"), "4st")]), Horizon(6))[3:] == [0.5, 0.0, 0.0]


def test_chain_refuses() -> None:
    with pytest.raises(InputError, match="phases is empty"):
        Chain([])
    with pytest.raises(InputError, match=r"phases\[1\]=Linear\(.*\) is not a phase: write Phase"):
        Chain([Phase(Linear(), "3ep"), Linear()])  # type: ignore[list-item]
    with pytest.raises(InputError, match="phases 0 and 2 all take what remains: give lasts to all of them but one"):
        Chain([Phase(Linear()), Phase(Linear(), "3ep"), Phase(Linear())])
    with pytest.raises(InputError, match="lasts=3 has no unit"):
        Phase(Linear(), 3)
    chain = Chain([Phase(Linear(), "20st"), Phase(Cosine(), "10ep")])
    message = "phases need 120 steps but training has 100: shorten a phase or raise max_epochs"
    with pytest.raises(InputError, match=message):
        chain(0, Horizon(100, 10))
    with pytest.raises(InputError, match=message):
        chain.spans(Horizon(100, 10))
    assert len(table(chain, Horizon(120, 10))) == 120


def test_repeat_golden() -> None:
    # cycles of 3 on a horizon of 3: 1, 2/3, 1/3; then half of it; the last one cut off
    factors = table(Repeat(Linear(), every="3st", shrink=0.5), Horizon(8))
    assert factors == pytest.approx([1, 2 / 3, 1 / 3, 0.5, 1 / 3, 1 / 6, 0.25, 1 / 6])


def test_repeat_holds_past_the_horizon() -> None:
    assert [Repeat(Linear(), every="3st")(step, Horizon(6)) for step in (5, 6, 7, 99)] == [1 / 3, 0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    "wrap",
    [
        lambda child: Chain([Phase(Constant(), "2st"), Phase(child)]),
        lambda child: Product([Constant(), child]),
        lambda child: Repeat(child, every="4st"),
        lambda child: Plateau(child),
    ],
)
def test_a_child_that_returns_nan_is_named(wrap: object) -> None:
    with pytest.raises(InputError, match="not_a_number returned nan at step 1 of"):
        table(wrap(not_a_number), Horizon(12))  # type: ignore[operator]


@pytest.mark.parametrize(
    ("child", "message"),
    [
        (Plateau(), r"=Plateau follows a metric, .* wrap the whole instead, Plateau\(schedule=...\)"),
        (OneCycle(momentum=0.9), "=OneCycle schedules momentum too, which a composition cannot carry: leave that out"),
    ],
)
def test_children_that_do_not_fit_are_refused(child: object, message: str) -> None:
    for wrap in (Phase, lambda it: Product([Linear(), it]), lambda it: Repeat(it, "2ep")):
        with pytest.raises(InputError, match=message):
            wrap(child)  # type: ignore[arg-type]


def test_other_wrong_compositions_are_refused() -> None:
    with pytest.raises(InputError, match="schedules is empty"):
        Product([])
    with pytest.raises(InputError, match="every=3 has no unit"):
        Repeat(Linear(), every=3)
    with pytest.raises(InputError, match=r"shrink=2\.0 makes the cycles grow"):
        Repeat(Linear(), every="3st", shrink=2.0)


def test_spans_flatten_nested_chains_in_global_steps() -> None:
    inner = Chain([Phase(Linear(0.1, 1.0), "5st", "rise"), Phase(Cosine(), "50%")])  # 5 + 20 of 40, 15 held
    chain = Chain(
        [Phase(WarmupCosine("10%"), "2ep"), Phase(inner, "40st"), Phase(shrinking, "20st"), Phase(Constant(), "10st")]
    )
    assert chain.spans(Horizon(100, 10)) == [
        ("warmup", 0, 2),
        ("decay", 2, 20),
        ("rise", 20, 25),
        ("Cosine", 25, 45),
        ("held", 45, 60),
        ("shrinking", 60, 80),
        ("Constant", 80, 90),
        ("held", 90, 100),
    ]


def test_spans_of_the_rest() -> None:
    assert Repeat(Linear(), "8st").spans(Horizon(20)) == [("cycle 1", 0, 8), ("cycle 2", 8, 16), ("cycle 3", 16, 20)]
    assert Product([Linear(), Linear()]).spans(Horizon(20)) == [("Linear * Linear", 0, 20)]
    assert Plateau(WarmupCosine("5st")).spans(Horizon(20)) == [("warmup", 0, 5), ("decay", 5, 20)]
    assert as_schedule(shrinking).spans(Horizon(20)) == [("shrinking", 0, 20)]


def test_companions() -> None:
    assert Linear().companions() == {}
    assert as_schedule(shrinking).companions() == {}
    assert OneCycle().companions() == {}
    assert set(OneCycle(momentum=0.9).companions()) == {"momentum"}
    assert Plateau(OneCycle(momentum=0.9)).companions() == OneCycle(momentum=0.9).companions()

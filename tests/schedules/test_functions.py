"""A plain function is a schedule wherever one goes: wrapped once, named in messages, written by its path."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from lit_lrsched import (
    Chain,
    Custom,
    Horizon,
    Linear,
    OneCycle,
    Phase,
    Plateau,
    Product,
    Repeat,
    ScheduledLR,
    WarmupStableDecay,
    table,
)
from lit_lrsched import preview as preview_of
from lit_lrsched.class_paths import from_plain, to_plain
from lit_lrsched.errors import InputError
from lit_lrsched.plans.plan import plan_of
from lit_lrsched.schedules.core import Schedule, as_schedule

HORIZON = Horizon(8, steps_per_epoch=2)


def halved(step: int, horizon: Horizon) -> float:
    return 0.5


def scaled(step: int, horizon: Horizon, by: float) -> float:
    return by * step / horizon.steps


def nan(step: int, horizon: Horizon) -> float:
    return float("nan")


WRAPPED = {
    "Phase": lambda function: Phase(function).schedule,
    "Product": lambda function: Product([function]).schedules[0],
    "Repeat": lambda function: Repeat(function, "2st").schedule,
    "Plateau": lambda function: Plateau(function).schedule,
    "WarmupStableDecay": lambda function: WarmupStableDecay("1st", "2st", shape=function).shape,
    "ScheduledLR": lambda function: ScheduledLR(sgd(), function, HORIZON).schedule,
}


def sgd() -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)


@pytest.mark.parametrize("door", WRAPPED)
def test_every_door_wraps_once(door):
    inside = WRAPPED[door](halved)
    assert isinstance(inside, Schedule)
    assert inside == as_schedule(halved)
    assert WRAPPED[door](inside) is inside
    assert (inside.describe(), inside.spans(HORIZON), inside.companions()) == ("halved", [("halved", 0, 8)], {})
    assert not inside.driven_by_metric


@pytest.mark.parametrize("door", WRAPPED)
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("Cosine", r"='Cosine' is not a schedule: write Linear\(...\), say, or a function"),
        (Linear, r"is not a schedule: write Linear\(...\), with its arguments, or a function"),
        (None, "=None is not a schedule"),
    ],
)
def test_every_door_refuses_what_is_no_schedule(door, wrong, message):
    with pytest.raises(InputError, match=message) as caught:
        WRAPPED[door](wrong)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("function", [nan, partial(nan)], ids=["function", "partial"])
def test_messages_name_the_function(function):
    for schedule in (function, Chain([Phase(function)]), Product([function]), Plateau(function)):
        with pytest.raises(InputError, match=r"^nan returned nan at step 0 of 8"):
            table(schedule, HORIZON)


def test_configuration_names_the_function_as_the_command_line_takes_it():
    chain = Chain([Phase(halved, "2st"), Phase(Linear())])
    plain = to_plain(chain)
    path = f"{__name__}.halved"
    assert plain["init_args"]["phases"][0]["init_args"]["schedule"] == {
        "class_path": "lit_lrsched.Custom",
        "init_args": {"function": path},
    }
    again = from_plain(plain)
    assert again == Chain([Phase(Custom(path), "2st"), Phase(Linear())])
    assert table(again, HORIZON) == table(chain, HORIZON)
    # a function with arguments is written with them
    assert table(from_plain(to_plain(Product([partial(scaled, by=2.0)]))), HORIZON)[1] == 0.25
    with pytest.raises(InputError, match="cannot be written as configuration"):
        to_plain(Phase(lambda step, horizon: 1.0))


def test_what_a_class_takes_by_its_kwargs_is_given_to_it():
    plain = {"class_path": f"{__name__}.scaled", "init_args": {"by": 2.0}, "dict_kwargs": {"step": 3}}
    assert from_plain(plain).keywords == {"by": 2.0, "step": 3}


def test_a_path_to_what_a_custom_cannot_carry_is_refused(monkeypatch):
    monkeypatch.setitem(globals(), "plateau", Plateau())
    monkeypatch.setitem(globals(), "cycle", OneCycle(momentum=0.9))
    with pytest.raises(InputError, match=r"function=Plateau follows a metric, .* Plateau\(schedule=...\)"):
        Custom(f"{__name__}.plateau")
    with pytest.raises(InputError, match="function=OneCycle schedules momentum too"):
        Custom(f"{__name__}.cycle")


def test_functions_written_by_version_0_1_still_load():
    plain = {"class_path": "lit_lrsched.Phase", "init_args": {"schedule": {"class_path": f"{__name__}.halved"}}}
    phase = from_plain(plain)
    assert table(Chain([phase]), HORIZON) == [0.5] * 8
    assert phase.schedule.describe() == "halved"


def test_a_function_may_be_constant_on_purpose():
    assert plan_of(as_schedule(halved), HORIZON).is_function
    assert not plan_of(Linear(), HORIZON).is_function


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("Cosine", HORIZON), r"schedule='Cosine' is not a schedule: write Linear\(...\), say, or a function"),
        ((Linear, HORIZON), r"schedule=<class .*Linear'> is not a schedule: write Linear\(...\), with its arguments"),
        ((None, HORIZON), "schedule=None is not a schedule"),
        (({"a": Linear(), "b": 3}, HORIZON), r"schedule\['b'\]=3 is not a schedule"),
        (({"class_path": "Linear"}, HORIZON), r"schedule\['class_path'\]='Linear' is not a schedule"),
        (({}, HORIZON), r"schedule=\{\} is not a dict of schedules by name: write one, like \{'a': Linear\(\)\}"),
        (({1: Linear()}, HORIZON), r"schedule=\{1: Linear.* is not a dict of schedules by name"),
        (([Linear()], HORIZON), r"schedule=\[Linear.* is not a schedule"),
        ((Linear(), 100), r"horizon=100 is not a horizon: give one, like Horizon\(steps=1000\)"),
        ((Linear(), HORIZON, "steps"), r"interval='steps' is unknown \(did you mean 'step'\?\)"),
        ((Linear(), HORIZON, "step", -1.0), r"lr=-1.0 has to be a finite number above 0"),
    ],
)
def test_preview_refuses_in_a_line(arguments, message):
    with pytest.raises(InputError, match=message) as caught:
        preview_of(*arguments)
    assert "\n" not in str(caught.value)


def test_preview_takes_functions():
    rows = preview_of({"half": halved, "line": Linear()}, HORIZON, lr=0.2).table
    assert [(row["schedule"], row["first"]) for row in rows] == [("half", 0.1), ("line", 0.2)]


def test_table_refuses_in_a_line():
    with pytest.raises(InputError, match=r"^schedule=3 is not a schedule"):
        table(3, HORIZON)
    with pytest.raises(InputError, match=r"^horizon=100 is not a horizon: give one, like Horizon\(steps=1000\)$"):
        table(Linear(), 100)

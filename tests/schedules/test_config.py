"""Every schedule can be written in YAML, parsed, printed and parsed again to the same thing."""

import dataclasses
from collections.abc import Callable
from typing import Union

import numpy as np
import pytest
import yaml
from jsonargparse import ArgumentParser, set_parsing_settings

from lit_lrsched.class_paths import WrittenAs, to_plain
from lit_lrsched.schedules.compose import Chain, Phase, Product
from lit_lrsched.schedules.core import Horizon, Schedule, table
from lit_lrsched.schedules.custom import halve_every_epoch
from lit_lrsched.schedules.decays import Cosine, Linear
from lit_lrsched.schedules.plateau import Plateau
from lit_lrsched.schedules.recipes import WarmupLinear
from tests.catalogue import CATALOGUE


@pytest.fixture(scope="module")
def parse() -> Callable[..., tuple[Schedule, str]]:
    set_parsing_settings(subclasses_enabled=[Schedule])
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", action="config")
    parser.add_argument("--s", type=Union[Schedule, None])

    def parsed(*args: str) -> tuple[Schedule, str]:
        config = parser.parse_args(list(args))
        return parser.instantiate(config).s, parser.dump(config)

    return parsed


def written(value: object) -> object:
    """Writes a schedule the way a person would in YAML."""
    if isinstance(value, WrittenAs):  # a plain function, which a composition wraps
        return f"{value.function.__module__}.{value.function.__name__}"
    if isinstance(value, (Schedule, Phase)):
        fields = {field.name: written(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return fields if isinstance(value, Phase) else {"class_path": type(value).__name__, "init_args": fields}
    if isinstance(value, tuple):
        return [written(one) for one in value]
    return value


@pytest.mark.parametrize("name", CATALOGUE)
def test_round_trip(name: str, parse: Callable[..., tuple[Schedule, str]]) -> None:
    first, printed = parse("--config", yaml.safe_dump({"s": written(CATALOGUE[name])}))
    again, printed_again = parse("--config", printed)
    assert first == again == CATALOGUE[name]
    assert printed_again == printed
    assert hash(first) == hash(again)
    assert table(first, Horizon(40, 5)) == table(CATALOGUE[name], Horizon(40, 5))


def test_numbers_of_numpy_are_written_as_numbers() -> None:
    assert yaml.safe_load(yaml.safe_dump(to_plain(Linear(end=np.float64(0.5)))))["init_args"]["end"] == 0.5


def test_options(parse: Callable[..., tuple[Schedule, str]]) -> None:
    assert parse("--s", "Linear", "--s.over", "30ep")[0] == Linear(over="30ep")
    args = ["--s", "Plateau", "--s.schedule", "WarmupLinear", "--s.schedule.warmup", "10%", "--s.patience", "3"]
    assert parse(*args)[0] == Plateau(WarmupLinear("10%"), patience=3)


def test_short_names_and_functions_in_yaml(parse: Callable[..., tuple[Schedule, str]]) -> None:
    text = """
    s:
      class_path: Chain
      init_args:
        phases:
        - schedule: {class_path: Linear, init_args: {start: 0.1, end: 1}}
          lasts: 5ep
        - schedule:
            class_path: Product
            init_args:
              schedules: [Cosine, lit_lrsched.schedules.custom.halve_every_epoch]
    """
    expected = Chain([Phase(Linear(0.1, 1.0), "5ep"), Phase(Product([Cosine(), halve_every_epoch]))])
    assert parse("--config", text)[0] == expected


@pytest.mark.parametrize(
    ("over", "message"),
    [("30", "has no unit: write '30ep'"), ("3.5", "has no unit: write '3.5ep'"), ("3hours", "is not a duration")],
)
@pytest.mark.parametrize("form", ["option", "yaml"])
def test_a_wrong_duration_is_refused_with_our_message(
    form: str, over: str, message: str, parse: Callable[..., tuple[Schedule, str]]
) -> None:
    args = (
        ["--s", "Linear", "--s.over", over]
        if form == "option"
        else ["--config", f"s: {{class_path: Linear, init_args: {{over: {over}}}}}"]
    )
    with pytest.raises(ValueError, match=message):
        parse(*args)

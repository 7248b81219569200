"""By what a race knows the model that it was for: whatever of the user's decides what a run does."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from lit_lrsched.comparison.described import described, digest_of
from tests.training import Small

smoothing = 0.1
settings: dict[str, float] = {"smoothing": 0.1}
options = SimpleNamespace(smoothing=0.1)
weights = torch.ones(2)
criterion = nn.CrossEntropyLoss()
activation = torch.tanh
losses = ModuleType("losses")
losses.smoothed = lambda scores: cross_entropy(scores, scores, label_smoothing=0.1)
losses.other = 0.1


@dataclass
class Settings:
    smoothing: float = 0.1

    def scaled(self, by: float) -> float:
        return by * self.smoothing


chosen = Settings()


def by_helper(scores):
    return cross_entropy(scores, scores, label_smoothing=smoothing)


USES = {
    "number": (lambda s: cross_entropy(s, s, label_smoothing=smoothing), {"smoothing": 0.3}),
    "number, in a helper": (lambda s: by_helper(s), {"smoothing": 0.3}),
    "number, in a list": (lambda s: [cross_entropy(s, s, label_smoothing=smoothing) for _ in s], {"smoothing": 0.3}),
    "dict": (lambda s: cross_entropy(s, s, label_smoothing=settings["smoothing"]), {"settings": {"smoothing": 0.3}}),
    "namespace": (lambda s: options.smoothing * s, {"options": SimpleNamespace(smoothing=0.3)}),
    "dataclass": (lambda s: chosen.smoothing * s, {"chosen": Settings(0.3)}),
    "tensor": (lambda s: cross_entropy(s, s, weight=weights), {"weights": torch.tensor([1.0, 9.0])}),
    "criterion": (lambda s: criterion(s, s), {"criterion": nn.CrossEntropyLoss(label_smoothing=0.3)}),
    "criterion's weights": (lambda s: criterion(s, s), {"criterion": nn.CrossEntropyLoss(weight=weights)}),
    "function of a library": (lambda s: activation(s), {"activation": torch.relu}),
}


@pytest.mark.parametrize("use", list(USES))
def test_the_values_that_code_takes_from_outside_tell_it_apart(use, monkeypatch):
    function, change = USES[use]
    before = digest_of(described(function))
    assert digest_of(described(function)) == before
    for name, value in change.items():
        monkeypatch.setitem(globals(), name, value)
    assert digest_of(described(function)) != before


def test_those_members_of_a_module_that_code_names_tell_it_apart(monkeypatch):
    def uses(scores):
        return losses.smoothed(scores)

    before = digest_of(described(uses))
    monkeypatch.setattr(losses, "other", 0.3)
    assert digest_of(described(uses)) == before
    monkeypatch.setattr(losses, "smoothed", lambda scores: cross_entropy(scores, scores, label_smoothing=0.3))
    assert digest_of(described(uses)) != before


class Scaled(nn.Module):
    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale


class Private:
    def __init__(self, value: float) -> None:
        self._value = value

    def factor(self, step: int, horizon: Any) -> float:
        return self._value


class Remembers:
    def __init__(self, value: float) -> None:
        self._value = value
        self._table: list[float] | None = None
        self._seen: dict[int, float] = {}

    @cached_property
    def _root(self) -> float:
        return self._value**0.5

    def __call__(self, step: int, horizon: Any) -> float:
        if self._table is None:
            self._table = [self._root / (1 + step) for step in range(10)]
        return self._seen.setdefault(step, self._table[step])


class Slotted:
    __slots__ = ("_value",)

    def __init__(self, value: float) -> None:
        self._value = value

    def __call__(self) -> float:
        return self._value


def small(**attributes: Any) -> Small:
    module = Small()
    for name, value in attributes.items():
        setattr(module, name, value)
    return module


@pytest.mark.parametrize(
    "kind",
    [
        lambda value: small(factor=torch.tensor(value)),
        lambda value: small(factors=[1.0, value]),
        lambda value: small(settings={"factor": value}),
        lambda value: small(scaled=partial(torch.mul, value)),
        lambda value: small(criterion=nn.CrossEntropyLoss(label_smoothing=value)),
        lambda value: small(part=nn.Sequential(Scaled(value))),
        lambda value: small(training_step=lambda batch, index: value * batch.sum()),
        lambda value: Private(value),
        lambda value: Remembers(value),
        lambda value: small(part=Scaled(1.0), factor=Slotted(value)),
        lambda value: Private(value).factor,
        lambda value: partial(Settings(value).scaled, 2),
    ],
)
def test_what_an_instance_holds_tells_it_apart(kind):
    assert described(kind(0.1)) == described(kind(0.1))
    assert described(kind(0.1)) != described(kind(0.3))


def test_what_an_object_remembers_of_its_use_does_not_tell_it_apart():
    used = Remembers(0.1)
    before = described(used)
    assert used(3, None) == used(3, None)
    assert described(used) == before


def test_a_set_of_functions_is_the_same_in_another_process():
    def made() -> set[Any]:  # elsewhere in memory each time
        return {lambda value, number=number: value + number for number in range(3)}

    assert described(made()) == described(made())


def test_neither_weights_nor_where_files_lie_tell_a_module_apart():
    module = small(log_file="/tmp/one", folder=Path("/tmp/one"))
    trained = copy.deepcopy(module)
    nn.init.zeros_(trained.weights)
    trained.log_file, trained.folder = "/tmp/two", Path("/tmp/two")
    assert described(trained) == described(module)


def test_the_code_of_python_and_of_installed_packages_is_not_looked_into():
    def uses_libraries(path):
        return Path(path).exists() or np.mean([1.0])

    (_, (_, (_, _, outside))) = described(uses_libraries)
    assert outside == {"Path": described(Path)}
    assert len(described(Path)) == 1


def test_each_function_is_described_once_however_many_call_it():
    names = [f"f{number}" for number in range(40)]
    calls = ["+".join(f"{name}(x)" for name in names[number + 1 :]) or "x" for number in range(40)]
    project: dict[str, Any] = {"__name__": "project"}
    exec("\n".join(f"def {name}(x): return {call}" for name, call in zip(names, calls, strict=True)), project)
    assert len(str(described(project["f0"]))) < 100_000


@pytest.mark.parametrize(
    "value",
    [
        torch.ones(2, dtype=torch.bfloat16),
        torch.ones(2, 2).to_sparse(),
        torch.ones(2, device="meta"),
        nn.LazyLinear(3),
        np.array(["a", None], dtype=object),
        torch.float16,
        object(),
    ],
    ids=["bfloat16", "sparse", "meta", "lazy", "objects", "dtype", "object"],
)
def test_any_value_can_be_described(value):
    assert digest_of(described(value)) == digest_of(described(copy.deepcopy(value)))

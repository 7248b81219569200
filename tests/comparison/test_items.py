"""What a step takes out of a tensor by ``item()`` computes as the number would; where it has to be known is told."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.func import vmap
from torch.nn import functional as F

from lit_lrsched.comparison.engine.counts import Count, Counts
from lit_lrsched.comparison.engine.forms import Followable
from lit_lrsched.comparison.engine.items import Item, known
from lit_lrsched.comparison.engine.recorder import NotVectorizable
from lit_lrsched.comparison.engine.training import Training
from tests.comparison.ordinary_modules import Classifier, Ordinary
from tests.comparison.test_ordinary_modules import EPOCHS, STEPS, seeded, trainings
from tests.comparison.test_vectorized import SGD, alone, race

VALUES = torch.tensor([0.5, -2.0, 3.25, 1.0])


def of_all_runs(formula: Callable[[Any], Any], values: Tensor = VALUES) -> Tensor:
    """Returns the formula of the number of each run, computed for all runs at once."""

    def step(tensor: Tensor) -> Tensor:
        with Followable():
            result = formula(tensor.item())
        return result.tensor() if isinstance(result, Item) else result

    return vmap(step)(values)


FORMULAS: dict[str, Callable[[Any], Any]] = {
    "sums": lambda number: 3 - (number + 2) - number,
    "products": lambda number: number * 3 / 7 * (2 * number),
    "powers": lambda number: (number + 0.5) ** 2 + 2 ** (number * 1.0),
    "division": lambda number: 1 / number + number // 1 + number % 3,
    "signs": lambda number: abs(-number) - -number,
    "rounded": lambda number: round(number / 3, 2) + round(number * 123.0, -1),
    "rounds of a sum": lambda number: sum([number, number, 1.5]) / 3,
    "numpy": lambda number: np.mean([number, 2 * number]) + np.float64(0.5) * number + number * np.int64(3),
    "a tensor": lambda number: torch.tensor(number) + torch.as_tensor(2 * number),
    "a tensor of several": lambda number: torch.tensor([number, number + 1]).sum(),
    "with tensors": lambda number: number * torch.tensor(2.0) - torch.tensor(3.0) / number,
    "in functions": lambda number: torch.add(torch.ones(2), number).sum() + torch.ones(()).mul(number),
    "with a count": lambda number: Count(Counts(2, 5), lambda epoch, index: epoch + index) * number,
}


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize("values", [VALUES, torch.tensor([1, 5, -3, 2])], ids=["floats", "whole numbers"])
def test_an_item_computes_as_the_number(name: str, values: Tensor) -> None:
    expected = [float(FORMULAS[name](value)) for value in values.tolist()]
    np.testing.assert_allclose(of_all_runs(FORMULAS[name], values), expected, rtol=1e-6)


def test_a_list_of_one_number_is_the_number() -> None:
    def step(tensor: Tensor) -> Tensor:
        with Followable():
            return torch.tensor(tensor.tolist() + 1)

    assert vmap(step)(VALUES).tolist() == (VALUES + 1).tolist()


def test_an_item_stays_as_it_is_whatever_becomes_of_the_tensor_and_of_its_copies() -> None:
    def step(tensor: Tensor) -> tuple[Tensor, Tensor]:
        with Followable():
            tensor = tensor + 0.0
            first = tensor.item()
            second = first
            second += 1
            tensor += 10
        return first.tensor(), second.tensor()

    first, second = vmap(step)(VALUES)
    assert first.tolist() == VALUES.tolist()
    assert second.tolist() == (VALUES + 1).tolist()


def test_a_power_of_whole_numbers_may_be_no_whole_number() -> None:
    with pytest.raises(NotVectorizable, match="branches on the values"):
        of_all_runs(lambda number: 2**number, torch.tensor([1, -1]))


def test_an_item_has_double_precision_until_it_meets_a_tensor() -> None:
    few = of_all_runs(lambda number: torch.tensor((number + 1e9) - 1e9))
    assert few.tolist() == VALUES.tolist()
    assert of_all_runs(lambda number: number / 3 * torch.ones(())).dtype == torch.float32
    assert of_all_runs(lambda number: torch.tensor(number / 3), torch.tensor([1, 2])).dtype == torch.float32
    assert of_all_runs(lambda number: torch.tensor(number + 1), torch.tensor([1, 2])).dtype == torch.int64


def test_tensors_are_made_of_plain_numbers_as_before() -> None:
    with Followable():
        assert torch.tensor([1.0], requires_grad=True).requires_grad
        assert torch.as_tensor([1, 2], dtype=torch.float64).dtype == torch.float64
        assert torch.tensor([]).shape == (0,)


def test_what_all_runs_share_is_a_plain_number() -> None:
    shared = torch.tensor(2.5)

    def step(tensor: Tensor) -> Tensor:
        with Followable():
            assert type(shared.item()) is float
            return tensor * shared.item()

    assert vmap(step)(VALUES).tolist() == (2.5 * VALUES).tolist()


@pytest.mark.parametrize(
    "ask",
    [
        *(bool, float, int, hash, round, math.exp, range, lambda one: float(f"{one:.3f}")),
        *(lambda one: one > 1, lambda one: one == 1),
    ],
)
def test_what_has_to_be_known_is_told(ask: Callable[[Any], Any]) -> None:
    with pytest.raises((NotVectorizable, ValueError), match=r"a step branches on the values of its tensors|own"):
        of_all_runs(lambda number: torch.tensor(ask(number)))


def test_as_text_it_says_that_each_run_has_its_own() -> None:
    said = []

    def step(tensor: Tensor) -> Tensor:
        with Followable():
            said.append(f"{tensor:.3f} {tensor.item():.3f} {tensor.item()} {tensor.item()!r}")
        return tensor

    vmap(step)(VALUES)
    assert said == [" ".join(["(each run's own)"] * 4)]


def test_the_item_of_one_run_is_known() -> None:
    one = Item(torch.tensor(2.5), "a test")
    assert known({"a": [one, 3]}) == {"a": [2.5, 3]}
    assert (float(one), int(one), bool(one), f"{one:.2f}", str(one)) == (2.5, 2, True, "2.50", "2.5")
    assert one == Item(torch.tensor(2.5), "a test")
    assert one < 3
    assert round(one) == 2
    assert operator.index(Item(torch.tensor(3), "a test")) == 3


def test_a_sum_of_items_that_are_zero_at_first_is_each_runs_own() -> None:
    class Certain(Classifier):
        """Counts rows of which there are none before training."""

        def build(self) -> None:
            super().build()
            self.certain, self.excess = 0, 0.0

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            highest = self(batch[0]).amax(1)
            self.certain += (highest > 10).sum().item()
            self.excess += (highest - 10).relu().mean().item()

        def on_validation_epoch_end(self) -> None:
            self.log_dict({"val_certain": float(self.certain), "val_excess": self.excess})

    training, make = Training(3, np.full(EPOCHS * STEPS, 10.0)), seeded(Ordinary(Certain, "table"))
    together, single = race([training], make, epochs=EPOCHS)[0], alone(training, make, SGD, EPOCHS)
    assert single["val_certain"].min() > 0
    for name in ("val_certain", "val_excess"):
        np.testing.assert_allclose(together[name], single[name], rtol=1e-4)


@pytest.mark.parametrize("of", [lambda tensor: tensor.item(), lambda tensor: (tensor > 0).sum().item() + "a"])
def test_what_no_number_can_do_is_told(of: Callable[[Tensor], Any]) -> None:
    class Wrong(Classifier):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            logits = self(batch[0])
            of(logits)
            return F.cross_entropy(logits, batch[1])

    with pytest.raises(NotVectorizable):
        race(trainings(), seeded(Ordinary(Wrong, "table")), epochs=EPOCHS)

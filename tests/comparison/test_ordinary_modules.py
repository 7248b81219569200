"""Ordinary modules train together as ``Trainer.fit`` trains each alone; what cannot says why."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import seed_everything

from lit_lrsched.comparison.engine.recorder import NotVectorizable
from lit_lrsched.comparison.engine.training import Training
from tests.comparison.ordinary_modules import ALONE, TOGETHER, Ordinary
from tests.comparison.test_vectorized import alone, race

pytestmark = [
    pytest.mark.filterwarnings("ignore::lightning.pytorch.utilities.warnings.PossibleUserWarning"),
    pytest.mark.filterwarnings("ignore:.*litlogger.*"),
]

EPOCHS, STEPS = 2, 3
# Not Adam: where a gradient is zero in theory, as of a bias before BatchNorm, it makes whole steps of rounding.
SGD = partial(torch.optim.SGD, lr=0.05, momentum=0.9)


def seeded(entry: Ordinary) -> Callable[[int], Any]:
    def make(seed: int) -> Any:
        seed_everything(seed, verbose=False)
        return entry.make()

    return make


def trainings(rate: float = 0.05) -> list[Training]:
    rates = np.linspace(rate, rate / 4, EPOCHS * STEPS)
    return [Training(seed, rates * factor, name=str(factor)) for seed, factor in ((3, 1), (3, 2), (8, 1))]


@pytest.mark.parametrize("name", [name for name, entry in TOGETHER.items() if not entry.random])
def test_every_run_equals_fit(name: str) -> None:
    make = seeded(TOGETHER[name])
    together = race(trainings(), make, optimizer=SGD, epochs=EPOCHS)
    for run, training in enumerate(trainings()):
        single = alone(training, make, SGD, EPOCHS)
        np.testing.assert_array_equal(together[run]["rates"], single["rates"])
        logged = together[run].keys() - {"diverged", "rates"}
        # Frozen parameters are not among those that are returned.
        assert {key for key in single.keys() - logged if "." not in key} == {"rates"}
        for key in logged:
            np.testing.assert_allclose(together[run][key], single[key], rtol=0, atol=1e-5, err_msg=key)


@pytest.mark.parametrize("reason", ALONE)
def test_what_trains_alone_is_told_why(reason: str) -> None:
    with pytest.raises(NotVectorizable, match=reason) as told:
        race(trainings(), seeded(ALONE[reason]), epochs=EPOCHS)
    assert "\n" not in str(told.value)

"""Modules put together at random train together as ``Trainer.fit`` trains each alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from lit_lrsched import Linear
from lit_lrsched.comparison.builds import build_from, steps_per_epoch
from lit_lrsched.comparison.engine.bare_trainer import quietly
from lit_lrsched.comparison.engine.clipping import Clip
from lit_lrsched.comparison.engine.regime import Regime
from lit_lrsched.comparison.engine.sequential import race_one_by_one
from lit_lrsched.comparison.engine.training import Chunk
from lit_lrsched.comparison.engine.vectorized import VectorizedRace
from lit_lrsched.comparison.evidence.runs import RunKey
from lit_lrsched.comparison.grid import grid_of
from lit_lrsched.schedules.core import Horizon
from tests.comparison.drawn_modules import Drawn, drawn

EPOCHS = 2


def both_ways(one: Drawn) -> tuple[Chunk, list[tuple[Chunk, Any]]]:
    """Returns runs of two seeds, one at two rates: all in one program, and each by ``Trainer.fit``, with its module."""
    build, modules = build_from(one.module, one.data), list[Any]()

    def kept(seed: int) -> Any:
        made = build(seed)
        modules.append(made[0])
        return made

    given: dict[str, Any] = {"lrs": None, "momenta": None, "seeds": [3, 8], "optimizer": None}
    grid = grid_of(build, {"linear": Linear()}, epochs=EPOCHS, regime=one.regime, **given)
    (_, _, lr, higher, _), schedule = grid.lrs, [*grid.schedules][-1]  # its own, where it has one
    keys = [
        RunKey(schedule, rate, grid.optimizer.momentum, grid.optimizer.weight_decay, seed)
        for rate, seed in ((lr, 3), (lr, 8), (higher, 3))
    ]
    steps = steps_per_epoch(build, 3, one.regime)
    trainings = grid.trainings(keys, Horizon(EPOCHS * steps, steps))
    options: dict[str, Any] = {"epochs": EPOCHS, "device": torch.device("cpu"), "regime": one.regime}
    (together,) = VectorizedRace(build, trainings, optimizer=grid.optimizer, keep_weights=True, workers=1, **options)
    alone = race_one_by_one(kept, [key.seed for key in keys], [*map(grid.configure, keys)], **options)
    return together, [(chunk, modules[-1]) for chunk in alone]


def assert_alike(one: Drawn) -> None:
    with quietly():
        together, alone = both_ways(one)
    for place, run in enumerate(together.runs):
        single, module = alone[run]
        np.testing.assert_allclose(together.rates[place], single.rates[0], rtol=1e-12)
        weights = {name: parameter.detach().numpy()[None] for name, parameter in module.named_parameters()}
        for found, expected in (
            ({"loss": together.losses, **together.weights}, {"loss": single.losses, **weights}),
            (together.curves, single.curves),
            (together.final, single.final),
        ):
            assert found.keys() <= expected.keys()  # not among what is returned are weights that do not change
            assert expected.keys() - found.keys() <= weights.keys()
            for name, values in found.items():
                told = f"{name} {one}"
                np.testing.assert_allclose(values[place], expected[name][0], rtol=1e-4, atol=2e-5, err_msg=told)


@pytest.mark.parametrize(
    "one",
    [
        Drawn(terms=("penalty",)),
        Drawn(logged=("one name", "one name, by step")),
        Drawn(logged=("by step and epoch", "no logger")),
        Drawn(rows=48, order="by its own generator"),
        Drawn(layers="layer norm", parts=("Teacher",)),
        Drawn(parts=("Temperature",), regime=Regime(clip=Clip(0.1))),
        Drawn(parts=("Kept", "Items")),
    ],
)
def test_what_differed_once(one: Drawn) -> None:
    assert_alike(one)


@pytest.mark.sampled(6)
@pytest.mark.parametrize("number", range(200))
def test_what_was_drawn_trains_together_as_alone(number: int) -> None:
    assert_alike(drawn(number))

"""The optimizers of the vectorized engine, step by step against torch's own, and gradient clipping."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lit_lrsched.comparison.builds import build_from
from lit_lrsched.comparison.engine.clipping import Clip
from lit_lrsched.comparison.engine.optimizers import KINDS, Values, vectorized_update
from lit_lrsched.comparison.engine.recorder import NotVectorizable
from lit_lrsched.comparison.engine.regime import PLAIN, Regime
from lit_lrsched.comparison.engine.training import Training
from lit_lrsched.comparison.engine.vectorized import VectorizedRace
from tests.foreign import MLP, Data
from tests.training import quiet_trainer

optim = torch.optim
RUNS, STEPS, SHAPES = 3, 5, {"a": (3, 4), "b": (5, 2)}
CASES: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {}),
    ("SGD", {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    ("SGD", {"momentum": 0.9, "dampening": 0.3, "maximize": True}),
    ("Adam", {"amsgrad": True, "weight_decay": 0.1}),
    ("AdamW", {"weight_decay": 0.3, "betas": (0.8, 0.95)}),
    ("NAdam", {"momentum_decay": 0.1}),
    ("NAdam", {"weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("RMSprop", {}),
    ("RMSprop", {"centered": True, "momentum": 0.9, "weight_decay": 0.1}),
    ("Adagrad", {"lr_decay": 0.1, "weight_decay": 0.1, "initial_accumulator_value": 0.5}),
    ("Muon", {}),
    ("Muon", {"adjust_lr_fn": "match_rms_adamw", "nesterov": False, "weight_decay": 0.3}),
]


@pytest.fixture
def doubles() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)  # NAdam keeps a product in this, whatever its parameters are
    yield
    torch.set_default_dtype(torch.float32)


def made(name: str, parameters: dict[str, nn.Parameter], options: dict[str, Any]) -> torch.optim.Optimizer:
    """With a group a parameter, of which the second has no weight decay."""
    second = {} if "weight_decay" not in options else {"weight_decay": 0.0}
    groups = [{"params": [parameters["a"]]}, {"params": [parameters["b"]], **second}]
    kind: Any = getattr(optim, name)
    return kind(groups, **{"lr": 0.1, **options})  # type: ignore[no-any-return]


@pytest.mark.parametrize(("name", "options"), CASES)
def test_each_step_is_torchs(name: str, options: dict[str, Any], doubles: None) -> None:
    if not hasattr(optim, name):
        pytest.skip(f"this torch has no {name}")
    draw = torch.Generator().manual_seed(0)
    start = {key: torch.randn(RUNS, *shape, generator=draw) for key, shape in SHAPES.items()}
    grads = [{key: torch.randn(RUNS, *shape, generator=draw) for key, shape in SHAPES.items()} for _ in range(STEPS)]
    rates, momenta, decays = torch.rand(3, STEPS, RUNS, 2, generator=draw)
    one = made(name, {key: nn.Parameter(start[key][0]) for key in SHAPES}, options).param_groups[0]
    if not one.get("momentum", "betas" in one):
        momenta = torch.zeros_like(momenta)
    own = torch.tensor([one["weight_decay"], 0.0]).expand_as(decays)
    decays = decays * own.sign()

    parameters = {key: value.clone() for key, value in start.items()}
    example = {key: nn.Parameter(value[0]) for key, value in start.items()}
    names = {parameter: key for key, parameter in example.items()}
    update = vectorized_update(made(name, example, options), names, [decays[:, run].numpy() for run in range(RUNS)])
    slots = update.slots(parameters)
    values = Values(rates, momenta, decays)
    # In two parts, as two epochs would have it.
    parts = [(slice(0, 2), 0), (slice(2, STEPS), 2)]
    steps = [
        step
        for now, first in parts
        for step in update.coefficients(Values(*(each[now] for each in values)), first, torch.float64)
    ]
    for grad, step in zip(grads, steps, strict=True):
        update.update_(parameters, grad, slots, step)

    for run in range(RUNS):
        single = {key: nn.Parameter(value[run].clone()) for key, value in start.items()}
        optimizer = made(name, single, options)
        for step in range(STEPS):
            for number, group in enumerate(optimizer.param_groups):
                lr, momentum, decay = (float(each[step, run, number]) for each in values)
                group.update({"lr": lr, "weight_decay": decay})
                if "betas" in group:
                    group["betas"] = (momentum, group["betas"][1])
                elif "momentum" in group:
                    group["momentum"] = momentum
            for key, parameter in single.items():
                parameter.grad = grads[step][key][run].clone()
            optimizer.step()
        for key, parameter in single.items():
            torch.testing.assert_close(parameters[key][run], parameter.detach(), rtol=1e-12, atol=1e-12)


class Matrices(MLP):
    """Without biases, which Muon does not take."""

    def __init__(self) -> None:
        super().__init__(hidden=6)
        self.network = nn.Sequential(nn.Linear(10, 6, bias=False), nn.ReLU(), nn.Linear(6, 1, bias=False))


TRAINED: dict[str, tuple[dict[str, Any], Regime]] = {
    "NAdam": ({"weight_decay": 0.1}, Regime(clip=Clip(0.05))),
    "RMSprop": ({"centered": True, "momentum": 0.5}, Regime(3, Clip(0.01, "value"))),  # steps of 3 and of 1 batch
    "Adagrad": ({"lr_decay": 0.1, "initial_accumulator_value": 0.1}, Regime(2)),
    "AdamW": ({"weight_decay": 0.1}, Regime(5, Clip(0.05))),  # more than an epoch has
    "Muon": ({}, PLAIN),
}


@pytest.mark.parametrize("name", TRAINED)
def test_a_race_trains_as_a_trainer_does(name: str) -> None:
    if not hasattr(optim, name):
        pytest.skip(f"this torch has no {name}")
    options, regime = TRAINED[name]
    optimizer = partial(getattr(optim, name), lr=0.01, **options)
    build = build_from(Matrices, partial(Data, 16, rows=64))
    steps = 2 * regime.steps_in(4)
    trainings = [Training(seed, np.full(steps, 0.01)) for seed in range(2)]
    race = VectorizedRace(build, trainings, optimizer=optimizer, epochs=2, keep_weights=True, regime=regime)
    (chunk,) = list(race)
    # Muon rounds to bfloat16: where a gradient differs in its last place, a step may differ by 2^-8 of itself.
    tolerance = 8 * 0.01 * 2**-7 if name == "Muon" else 1e-5
    for run, training in enumerate(trainings):
        module, data = build(training.seed)
        module.configure_optimizers = lambda module=module: optimizer(module.parameters())
        quiet_trainer(max_epochs=2, **regime.options()).fit(module, data)
        for key, parameter in module.named_parameters():
            np.testing.assert_allclose(chunk.weights[key][run], parameter.detach(), rtol=0, atol=tolerance)


def test_complex_parameters_are_told_where_their_parts_have_steps_of_their_own() -> None:
    parameter = nn.Parameter(torch.zeros(2, dtype=torch.complex64))
    vectorized_update(optim.SGD([parameter], lr=0.1), {parameter: "a"}, [])
    with pytest.raises(NotVectorizable, match="it has complex parameters, and RMSprop steps in each of their parts"):
        vectorized_update(optim.RMSprop([parameter], lr=0.1), {parameter: "a"}, [])


@pytest.mark.parametrize("algorithm", ["norm", "value"])
def test_clipping_is_torchs(algorithm: Any) -> None:
    draw = torch.Generator().manual_seed(1)
    grads = {key: torch.randn(RUNS, *shape, generator=draw) for key, shape in SHAPES.items()}
    grads["a"][1] *= 1e-3
    grads["b"][1] *= 1e-3  # below the limit: left as it is
    clipped = Clip(0.5, algorithm)(grads)
    for run in range(RUNS):
        single = {key: nn.Parameter(grad[run]) for key, grad in grads.items()}
        for key, parameter in single.items():
            parameter.grad = grads[key][run].clone()
        if algorithm == "norm":
            nn.utils.clip_grad_norm_(single.values(), 0.5)
        else:
            nn.utils.clip_grad_value_(single.values(), 0.5)
        for key, parameter in single.items():
            torch.testing.assert_close(clipped[key][run], parameter.grad)


def test_all_of_them_are_known() -> None:
    assert {kind.__name__ for kind in KINDS} == {name for name, _ in CASES if hasattr(optim, name)}

"""How a race builds a module and its data anew for every seed, from a class, a function or an instance."""

from __future__ import annotations

import copy
import inspect
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn

from lit_lrsched.comparison.engine.regime import Regime
from lit_lrsched.comparison.engine.setting_up import Build, set_up
from lit_lrsched.errors import InputError
from lit_lrsched.trainer.lightning_package import (
    CombinedLoader,
    LightningDataModule,
    LightningModule,
    either,
    is_overridden,
    isolate_rng,
    seed_everything,
    trainer_for,
)

_SEEDED = ("PL_GLOBAL_SEED", "PL_SEED_WORKERS")  # where Lightning notes the seed

WITHOUT_LENGTH = "its training data has no length"
"""Why runs are trained one by one on a stream."""


def build_from(
    model: Callable[[], LightningModule] | LightningModule,
    data: Callable[..., LightningDataModule] | LightningDataModule,
) -> Build:
    """Returns what seeds everything with a seed and builds the module and its data.

    Args:
        model: The module's class, a function that makes one, or an instance as the pattern.
        data: Likewise; what takes ``seed`` gets the seed.

    Raises:
        InputError: For anything else; when it is called, where a function makes anything else, or an instance of data
            with a seed does not keep all of its arguments as hyperparameters.
    """
    if isinstance(model, nn.Module) or not callable(model):
        _check("model", model, LightningModule)
    if not callable(data):
        _check("data", data, LightningDataModule)

    def build(seed: int) -> tuple[LightningModule, LightningDataModule]:
        seed_everything(seed, verbose=False)
        module = _fresh_model(model) if isinstance(model, either(LightningModule)) else model()
        made = module, _fresh_data(data, seed)
        _check("model", made[0], LightningModule)
        _check("data", made[1], LightningDataModule)
        _check_goes_together(*made)
        return made

    return build


@contextmanager
def untouched() -> Iterator[None]:
    """Leaves random generators, and where Lightning notes a seed, as they were."""
    before = {name: os.environ.get(name) for name in _SEEDED}
    try:
        with isolate_rng():
            yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _check(name: str, value: object, kind: type) -> None:
    if not isinstance(value, either(kind)):
        hint = ", such as LightningDataModule.from_datasets" if kind is LightningDataModule else ""
        raise InputError(
            f"{name} is of the class {type(value).__name__}: give a {kind.__name__}, its class, or "
            f"a function that makes one{hint}"
        )


def _check_goes_together(module: LightningModule, data: LightningDataModule) -> None:
    if trainer_for(module) is not trainer_for(data):
        module_of, data_of = (trainer_for(one).__module__.partition(".trainer")[0] for one in (module, data))
        raise InputError(
            f"{type(module).__name__} is made with {module_of} and {type(data).__name__} with {data_of}, and no "
            "trainer takes both: import Lightning from one of the two"
        )


def drawn_anew(model: Any) -> list[str]:
    """Returns what there is to say of a model that is given as an instance: how every seed gets weights of its own."""
    if not isinstance(model, either(LightningModule)):
        return []
    return [
        f"{type(model).__name__} is an instance: every seed draws its weights anew, layer by layer (reset_parameters); "
        "a class or a function keeps what __init__ or a checkpoint sets."
    ]


def steps_per_epoch(build: Build, seed: int, regime: Regime) -> int | None:
    """Returns how many optimizer steps an epoch has, as a trainer counts them; None where the data have no length.

    Args:
        build: Takes a seed and returns the module and its data.
        seed: The seed.
        regime: Which batches train, and how their gradients make steps.

    Raises:
        InputError: When a share of the batches is less than one.
    """
    batches, limit = _batches_per_epoch(build, seed), regime.limit("train")
    if batches is None:
        return regime.steps_in(limit) if isinstance(limit, int) else None
    return regime.steps_in(regime.batches("train", batches))


def _batches_per_epoch(build: Build, seed: int) -> int | None:
    _, data = build(seed)
    with set_up(data, "fit"):
        loader = data.train_dataloader()
    if isinstance(loader, (Mapping, list, tuple)):
        loader = CombinedLoader(loader, "max_size_cycle")
    if not isinstance(loader, either(CombinedLoader)):
        return _length_of(loader)
    iter(loader)  # which has no length before
    try:
        return _length_of(loader)
    finally:
        loader.reset()


def _length_of(loader: Any) -> int | None:
    try:
        return len(loader)
    except TypeError:
        return None


def check_automatic(module: LightningModule, what: str) -> None:
    """Refuses a module that optimizes by hand.

    Args:
        module: The module.
        what: What asks, such as ``a race``.

    Raises:
        InputError: When it does.
    """
    if not module.automatic_optimization:
        raise InputError(
            f"{type(module).__name__} optimizes by hand (automatic_optimization=False), so its optimizers and their "
            f"steps are its own: {what} needs a module that leaves them to the trainer"
        )


def check_test_data(module: LightningModule, data: LightningDataModule) -> None:
    """Refuses a module or data without a test part: a race judges schedules on data that chose nothing.

    Raises:
        InputError: When one has none.
    """
    for hook, owner in (("test_step", module), ("test_dataloader", data)):
        if not is_overridden(hook, owner):
            raise InputError(
                f"{type(owner).__name__} has no {hook}: a race tunes each schedule on the validation data and judges "
                "it on test data, so that what is judged has chosen nothing; add test_step and test_dataloader"
            )


def _fresh_model(pattern: LightningModule) -> LightningModule:
    """Copies a module and draws its weights anew, as torch's own layers draw them."""
    module = copy.deepcopy(pattern)
    for part in module.modules():
        own = list(part.parameters(recurse=False))
        reset = getattr(part, "reset_parameters", None)
        if callable(reset):
            reset()
        elif own:
            raise InputError(
                f"{type(part).__name__} has weights but no reset_parameters, and every seed needs fresh ones: "
                "give a class or a function that makes the model"
            )
    return module


def _fresh_data(data: Callable[..., LightningDataModule] | LightningDataModule, seed: int) -> LightningDataModule:
    if callable(data):
        return data(seed=seed) if "seed" in inspect.signature(data).parameters else data()
    parameters = inspect.signature(type(data)).parameters.values()
    names = [one.name for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)]
    takes_any = any(one.kind is one.VAR_KEYWORD for one in parameters)
    if "seed" not in data.hparams or not ("seed" in names or takes_any):
        return copy.deepcopy(data)
    if lost := [name for name in names if name not in data.hparams]:  # of which the default would take the place
        kind = type(data).__name__
        raise InputError(
            f"{kind} is built anew for every seed, and its hyperparameters do not tell its {', '.join(lost)}: give a "
            f"function that makes it, like lambda seed: {kind}(..., seed=seed)"
        )
    arguments = {name: value for name, value in data.hparams.items() if takes_any or name in names}
    return type(data)(**{**arguments, "seed": seed})

"""What is planned for a resumed run, before it starts, is what it then uses."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.optim import lr_scheduler as torch_schedulers

from lit_lrsched import FromTorch, Horizon, Plateau, WarmupLinear, schedule_config
from lit_lrsched.errors import InputError
from lit_lrsched.optim.run_plan import plan_run
from lit_lrsched.optim.training_loop import scheduler_config
from lit_lrsched.plans.plan import Plan
from lit_lrsched.trainer.fit_plan import DoesNotFit, configure, plan_fit, training_loop_of
from lit_lrsched.trainer.resumed_run import resumed_run
from tests.catalogue import CATALOGUE
from tests.training import Numbers, SaveAt, Small, quiet_trainer, scheduled, sgd, used_by

pytestmark = pytest.mark.filterwarnings("ignore:Resumed", "ignore:Detected call of", "ignore:A `OneCycleLR`")

BEFORE = {"max_epochs": 5}  # of 4 batches
RUNS: dict[str, dict[str, Any]] = {
    "same": BEFORE,
    "longer": {"max_epochs": 8},
    "shorter": {"max_epochs": 3},
    "so many steps": {"max_epochs": -1, "max_steps": 26},
}
POLICIES = ("replan", "keep", "stretch", "error")
OURS = {
    **{name: schedule for name, schedule in CATALOGUE.items() if not isinstance(schedule, Plateau)},
    "OneCycleLR": FromTorch("OneCycleLR"),
    "StepLR": FromTorch("StepLR", {"step_size": "20%"}),
}
TORCH: dict[str, Callable[[int], Callable[..., Any]]] = {
    "CosineAnnealingLR": lambda ticks: partial(torch_schedulers.CosineAnnealingLR, T_max=ticks),
    "LinearLR": lambda ticks: partial(torch_schedulers.LinearLR, start_factor=0.1, total_iters=ticks),
    "PolynomialLR": lambda ticks: partial(torch_schedulers.PolynomialLR, total_iters=ticks),
    "OneCycleLR": lambda ticks: partial(torch_schedulers.OneCycleLR, max_lr=1.0, total_steps=ticks + 1),
    "CosineAnnealingWarmRestarts": lambda ticks: partial(torch_schedulers.CosineAnnealingWarmRestarts, T_0=3),
    "ExponentialLR": lambda ticks: partial(torch_schedulers.ExponentialLR, gamma=0.9),
    "MultiStepLR": lambda ticks: partial(torch_schedulers.MultiStepLR, milestones=[2, ticks // 2]),
    "SequentialLR": lambda ticks: partial(_warmed_up, ticks),
}


def _warmed_up(ticks: int, optimizer: torch.optim.Optimizer) -> torch_schedulers.LRScheduler:
    return torch_schedulers.SequentialLR(
        optimizer,
        [
            torch_schedulers.LinearLR(optimizer, 0.1, total_iters=2),
            torch_schedulers.CosineAnnealingLR(optimizer, T_max=ticks),
        ],
        milestones=[2],
    )


class PlannedAtStart(Callback):
    """Plans as the callbacks do."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        configs = [scheduler_config(config) for config in trainer.lr_scheduler_configs]
        self.plan = plan_run(trainer.optimizers, configs, training_loop_of(trainer), resumed=resumed_run(trainer))


def previewed(module: Small, ckpt: Path, data: Any = None, **options: Any) -> Plan:
    trainer = quiet_trainer(**options)
    module.train_dataloader = lambda: data or Numbers()  # type: ignore[method-assign]
    configured = configure(trainer, module, checkpoint=str(ckpt), weights_only=True)
    return plan_fit(trainer, configured)[0]


def check(make: Callable[[], Small], ckpt: Path, **options: Any) -> None:
    """Trains on, and holds what is used against what was planned."""
    planned = PlannedAtStart()
    try:
        plan = previewed(make(), ckpt, **options)
    except DoesNotFit as refusal:
        with pytest.raises(InputError, match=re.escape(str(refusal))):
            used_by(make(), planned, ckpt=ckpt, **options)
        return
    used = used_by(make(), planned, ckpt=ckpt, **options)
    steps = range(plan.begun, plan.begun + len(used.rates))
    assert [[plan.at(step)["lr/group0"]] for step in steps] == used.rates
    assert [[plan.at(step)["momentum/group0"]] for step in steps] == used.momenta
    assert [planned.plan.at(step) for step in range(plan.horizon.steps)] == [
        plan.at(step) for step in range(plan.horizon.steps)
    ]


def some(cases: list[Any], name: str, run_all: bool, count: int = 3) -> list[Any]:
    return cases if run_all else random.Random(name).sample(cases, count)


@pytest.mark.sampled(14)
@pytest.mark.parametrize("interval", ["step", "epoch"])
@pytest.mark.parametrize("name", OURS)
def test_our_schedules(name, interval, tmp_path, run_all):
    def make(policy: str) -> Small:
        return Small(scheduled(OURS[name], interval=interval, on_horizon_change=policy))

    saver = SaveAt(tmp_path)
    used_by(make("replan"), saver, **BEFORE)
    for run, policy, stop in some(list(product(RUNS, POLICIES, range(1, 12))), f"{name} {interval}", run_all):
        check(lambda policy=policy: make(policy), saver.paths[stop - 1], **RUNS[run])


@pytest.mark.sampled(8)
@pytest.mark.parametrize("interval", ["step", "epoch"])
@pytest.mark.parametrize("name", TORCH)
def test_schedulers_of_torch(name, interval, tmp_path, run_all):
    def make(run: dict[str, Any]) -> Small:
        epochs = run["max_epochs"] if run["max_epochs"] > 0 else 7
        ticks = epochs * (4 if interval == "step" else 1)

        def configure_optimizers(module: LightningModule) -> dict[str, Any]:
            optimizer = sgd(module)
            scheduler = TORCH[name](ticks)(optimizer)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": interval}}

        return Small(configure_optimizers)

    saver = SaveAt(tmp_path)
    used_by(make(BEFORE), saver, **BEFORE)
    for run, stop in some(list(product(RUNS, range(1, 12))), f"{name} {interval}", run_all):
        ends_early = name == "OneCycleLR" and run in ("longer", "so many steps")
        if ends_early:  # the checkpoint's total_steps, beyond which it raises
            plan = previewed(make(RUNS[run]), saver.paths[stop - 1], **RUNS[run])
            assert plan.broken is not None
            assert "Tried to step" in plan.broken
            continue
        check(lambda run=run: make(RUNS[run]), saver.paths[stop - 1], **RUNS[run])


@pytest.mark.parametrize("policy", ["replan", "keep", "stretch"])
@pytest.mark.parametrize("batches", [2, 8])
def test_epochs_of_another_length(batches, policy, tmp_path):
    def make() -> Small:
        return Small(scheduled(WarmupLinear("1ep"), on_horizon_change=policy))

    saver = SaveAt(tmp_path, "on_train_epoch_end")
    used_by(make(), saver, **BEFORE)
    for path in saver.paths[:3]:
        check(make, path, data=Numbers(batches), **BEFORE)


@pytest.mark.parametrize("policy", ["replan", "keep", "stretch"])
def test_what_was_trained_already_is_shown_as_it_was(policy, tmp_path):
    saver = SaveAt(tmp_path)
    make = partial(scheduled, WarmupLinear("1ep"), on_horizon_change=policy)
    whole = used_by(Small(make()), saver, **BEFORE)
    plan = previewed(Small(make()), saver.paths[9], max_epochs=8)
    assert plan.begun == 10
    assert [[plan.at(step)["lr/group0"]] for step in range(10)] == whole.rates[:10]


class Halving(Small):
    def factor(self, step: int, horizon: Horizon) -> float:
        return 0.5 ** (step // self.trainer.num_training_batches)


def test_a_method_of_the_module_is_asked_as_it_is(tmp_path):
    def make() -> Halving:
        return Halving(lambda own: schedule_config(sgd(own), own.factor, own.trainer))

    saver = SaveAt(tmp_path)
    used_by(make(), saver, **BEFORE)
    plan = previewed(make(), saver.paths[9], max_epochs=8)
    assert plan.at(plan.begun)["lr/group0"] == 0.1 * 0.5**2


class Needs(Small):
    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["what it has saved"]


def test_a_defect_of_the_module_is_no_damage_to_the_checkpoint(tmp_path):
    saver = SaveAt(tmp_path)
    used_by(Small(scheduled(WarmupLinear("1ep"))), saver, **BEFORE)
    with pytest.raises(KeyError, match="what it has saved"):
        previewed(Needs(scheduled(WarmupLinear("1ep"))), saver.paths[9], max_epochs=8)


def test_resumed_twice_shows_the_first_part_too(tmp_path):
    first, second = SaveAt(tmp_path), SaveAt(tmp_path)
    make = partial(scheduled, WarmupLinear("1ep"), on_horizon_change="stretch")
    used_by(Small(make()), first, **BEFORE)
    half = used_by(Small(make()), second, ckpt=first.paths[9], max_epochs=8)
    plan = previewed(Small(make()), second.paths[4], max_epochs=8)
    assert plan.begun == 15
    assert [[plan.at(step)["lr/group0"]] for step in range(10, 15)] == half.rates[:5]


def test_what_a_recorded_plateau_has_cut_is_kept(tmp_path):
    class Stalls(Small):
        def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
            self.log("val_loss", 1.0, batch_size=1)

    make = scheduled(Plateau(monitor="val_loss", patience=0, factor=0.5))
    saver = SaveAt(tmp_path, "on_train_epoch_end")
    used_by(Stalls(make), saver, val=Numbers(1), **BEFORE)
    plan = previewed(Stalls(make), saver.paths[2], **BEFORE)
    # The first value is the best; the second and the third halve.
    assert plan.at(plan.begun)["lr/group0"] == pytest.approx(0.1 / 4)

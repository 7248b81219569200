"""Without a trainer: the loops that the documentation shows, in plain PyTorch and in Fabric."""

from __future__ import annotations

import copy
import json
import pickle
import re
import warnings
from pathlib import Path

import pytest
import torch
from lightning.fabric import Fabric
from torch import nn
from torch.optim.lr_scheduler import SequentialLR, StepLR
from torch.utils.data import DataLoader, TensorDataset

from lit_lrsched import Cosine, Horizon, InputError, Linear, Plateau, ScheduledLR, WarmupCosine, table
from lit_lrsched.optim.param_groups import values_of

torch.manual_seed(0)
DATA = TensorDataset(torch.rand(20, 3), torch.rand(20, 1))
EPOCHS, STEPS = 3, 5
EXPECTED = [0.1 * factor for factor in table(WarmupCosine(warmup="20%"), Horizon(EPOCHS * STEPS, STEPS))]


def test_plain_pytorch():
    rates = []
    model, loader = nn.Linear(3, 1), DataLoader(DATA, batch_size=4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    horizon = Horizon(EPOCHS * len(loader), steps_per_epoch=len(loader))
    scheduler = ScheduledLR(optimizer, WarmupCosine(warmup="20%"), horizon)
    for _ in range(EPOCHS):
        for x, y in loader:
            optimizer.zero_grad()
            nn.functional.mse_loss(model(x), y).backward()
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
    assert rates == EXPECTED


def fabric_loop(start: Path | None, stop: int, save: Path | None = None) -> list[float]:
    rates = []
    fabric = Fabric(accelerator="cpu", devices=1)
    model, optimizer = (module := nn.Linear(3, 1)), torch.optim.SGD(module.parameters(), lr=0.1)
    model, optimizer = fabric.setup(model, optimizer)
    loader = fabric.setup_dataloaders(DataLoader(DATA, batch_size=4))
    horizon = Horizon(EPOCHS * len(loader), steps_per_epoch=len(loader))
    scheduler = ScheduledLR(optimizer, WarmupCosine(warmup="20%"), horizon)
    state = {"model": model, "optimizer": optimizer, "scheduler": scheduler, "epoch": 0}
    if start:
        fabric.load(start, state)
    while state["epoch"] < stop:
        for x, y in loader:
            optimizer.zero_grad()
            fabric.backward(nn.functional.mse_loss(model(x), y))
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
        state["epoch"] += 1
    if save:
        fabric.save(save, state)
    return rates


def test_fabric(tmp_path):
    assert fabric_loop(None, EPOCHS) == EXPECTED
    assert fabric_loop(None, 1, save=tmp_path / "state.ckpt") == EXPECTED[:STEPS]
    assert fabric_loop(tmp_path / "state.ckpt", EPOCHS) == EXPECTED[STEPS:]


@pytest.mark.parametrize("wrapped", [True, False])
def test_fabric_wraps_the_optimizer_and_either_will_do(wrapped):
    fabric = Fabric(accelerator="cpu", devices=1)
    module = nn.Linear(3, 1)
    bare = torch.optim.SGD(module.parameters(), lr=0.1)
    model, optimizer = fabric.setup(module, bare)
    scheduler = ScheduledLR(optimizer if wrapped else bare, WarmupCosine(warmup="20%"), Horizon(15, 5))
    scheduler.wait_for_optimizer()
    rates = []
    for batch in range(16):
        rates.append(bare.param_groups[0]["lr"])
        fabric.backward(model(torch.ones(1, 3)).sum())
        if batch != 2:  # a step that is left out, and that a schedule which waits does not count
            optimizer.step()
        scheduler.step()
    assert rates == [*EXPECTED[:3], *EXPECTED[2:]]


def test_a_plateau_in_a_plain_loop():
    optimizer = torch.optim.SGD(nn.Linear(3, 1).parameters(), lr=0.1)
    scheduler = ScheduledLR(optimizer, Plateau(patience=1, factor=0.5), Horizon(6, 1), interval="epoch")
    rates = []
    for loss in (1.0, 0.9, 0.9, 0.9, 0.8, 0.8):
        rates.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
        scheduler.observe(loss)
    # 0.9 sets the best; two more of it are one more than patience; then 0.8 is better
    assert rates == pytest.approx([0.1, 0.1, 0.1, 0.1, 0.05, 0.05])


@pytest.mark.parametrize(("interval", "ticks"), [("step", 6), ("epoch", 3)])
def test_a_plateau_that_is_shown_no_metric_is_told_at_the_end_of_training(interval, ticks):
    optimizer = torch.optim.SGD(nn.Linear(3, 1).parameters(), lr=0.1)
    scheduler = ScheduledLR(optimizer, Plateau(), Horizon(6, 2), interval=interval)
    for _ in range(ticks - 1):
        optimizer.step()
        scheduler.step()
    optimizer.step()
    with pytest.warns(UserWarning, match="Plateau was shown no val_loss in all of training, and changed nothing"):
        scheduler.step()
    optimizer.step()
    scheduler.step()  # once


def test_a_metric_is_no_number_of_a_tick():
    scheduler = ScheduledLR(torch.optim.SGD(nn.Linear(3, 1).parameters(), lr=0.1), Plateau(), Horizon(6, 2))
    for metric in (0.25, torch.tensor(0.25)):
        with pytest.raises(InputError, match=r"step\(.*0\.25.*\) takes the number of a tick, no metric: call observe"):
            scheduler.step(metric)
    assert scheduler.last_epoch == 0


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda both: pickle.loads(pickle.dumps(both))], ids=["copy", "pickle"]
)
def test_a_copy_of_a_scheduler_that_waits_for_its_optimizer_waits_for_the_copy(copied):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    scheduler = ScheduledLR(optimizer, Linear(), Horizon(4))
    scheduler.wait_for_optimizer()
    optimizer, scheduler = copied((optimizer, scheduler))
    scheduler.step()
    assert scheduler.get_last_lr() == [0.1]
    optimizer.step()
    scheduler.step()
    assert scheduler.get_last_lr() == pytest.approx([0.075])


def by_hand(optimizer):
    optimizer.param_groups[0]["lr"] = 0.5


OTHERS = {
    "by hand": lambda optimizer: lambda: by_hand(optimizer),
    "torch's": lambda optimizer: StepLR(optimizer, 1, 0.5).step,
    "another of ours": lambda optimizer: ScheduledLR(optimizer, Cosine(), Horizon(4)).step,
}


@pytest.mark.parametrize("other", list(OTHERS))
def test_what_else_sets_the_rate_is_told_once(other):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    scheduler = ScheduledLR(optimizer, Linear(), Horizon(4))
    sets_it_too = OTHERS[other](optimizer)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for _ in range(4):
            optimizer.step()
            scheduler.step()
            sets_it_too()
    (warning,) = [one for one in told if "where Linear has" in str(one.message)]  # the other one may say so as well
    assert re.match(
        r"the learning rate is .* where Linear.* has set 0\.\d+: something else sets it", str(warning.message)
    )
    assert warning.filename == __file__


def test_the_parts_of_torchs_sequence_set_it_by_turns():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    parts = [ScheduledLR(optimizer, Linear(0.2, 1.0), Horizon(2)), ScheduledLR(optimizer, Linear(), Horizon(2))]
    scheduler, used = SequentialLR(optimizer, parts, [2]), []
    for _ in range(4):
        used += [optimizer.param_groups[0]["lr"]]
        optimizer.step()
        scheduler.step()
    assert used == pytest.approx([0.02, 0.06, 0.1, 0.05])


def test_a_scheduler_made_anew_starts_from_what_the_optimizer_was_given():
    def on(optimizer: torch.optim.Optimizer) -> ScheduledLR:
        return ScheduledLR(optimizer, Linear(), Horizon(4), groups={"momentum": Linear(), "weight_decay": Linear()})

    def made() -> torch.optim.AdamW:
        return torch.optim.AdamW([nn.Parameter(torch.zeros(1))], lr=0.1, betas=(0.8, 0.9), weight_decay=0.4)

    old = on(made())
    old.step(4)  # where all three are 0
    assert values_of([on(old.optimizer).optimizer]) == {
        "lr/group0": 0.1,
        "momentum/group0": 0.8,
        "weight_decay/group0": 0.4,
    }
    old.step(2)
    optimizer = made()
    optimizer.load_state_dict(old.optimizer.state_dict())
    scheduler = on(optimizer)  # made once its optimizer has the checkpoint's values
    scheduler.load_state_dict(old.state_dict())
    assert values_of([optimizer]) == {"lr/group0": 0.05, "momentum/group0": 0.4, "weight_decay/group0": 0.2}


def test_a_scheduler_made_anew_knows_what_a_group_that_joined_late_was_given():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.8)
    scheduler = ScheduledLR(optimizer, Linear(), Horizon(4), groups={"momentum": Linear()})
    optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(1))], "lr": 0.04, "momentum": 0.6})
    scheduler.step()
    scheduler.step()
    again = ScheduledLR(optimizer, Linear(), Horizon(4), groups={"momentum": Linear()})
    assert values_of([again.optimizer])["lr/group1"] == pytest.approx(0.04)
    assert values_of([again.optimizer])["momentum/group1"] == 0.6


def test_a_state_may_be_written_as_json():
    def on(*rates: float) -> ScheduledLR:
        groups = [{"params": [nn.Parameter(torch.zeros(1))], "lr": rate} for rate in rates]
        return ScheduledLR(torch.optim.SGD(groups), Linear(), Horizon(4))

    scheduler = on(0.1)
    scheduler.optimizer.param_groups[0]["lr"] = 0.2  # by what searches for a rate
    scheduler.take_rates()
    scheduler.optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(1))], "lr": 0.04})
    scheduler.step()
    resumed = on(0.1, 0.04)
    resumed.load_state_dict(json.loads(json.dumps(scheduler.state_dict())))
    assert resumed.get_last_lr() == scheduler.get_last_lr() == pytest.approx([0.15, 0.03])

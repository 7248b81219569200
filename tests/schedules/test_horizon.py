"""A horizon that does not know how long an epoch is: nothing takes an epoch for a step."""

from __future__ import annotations

import csv
import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from torch.optim import lr_scheduler

from lit_lrsched import (
    ApplySchedule,
    Chain,
    Constant,
    Cosine,
    Custom,
    Exponential,
    Formula,
    FromTorch,
    Horizon,
    Linear,
    MultiStep,
    OneCycle,
    Phase,
    Piecewise,
    Plateau,
    Repeat,
    ScheduledLR,
    Step,
    WarmupCosine,
    table,
)
from lit_lrsched.errors import InputError
from lit_lrsched.plans.preview import preview, show
from tests.training import Endless, Small, used_by

STEPS = Horizon(100)
FIX = r"needs to know how many steps an epoch has: give Horizon\(steps=\.\.\., steps_per_epoch=\.\.\.\)$"


def sawtooth(step: int, horizon: Horizon) -> float:
    return 1 - (step % horizon.steps_per_epoch) / horizon.steps_per_epoch


COUNT_EPOCHS = {
    "warmup": WarmupCosine(warmup="2ep"),
    "over": Linear(over="2ep"),
    "a phase": Chain([Phase(Linear(0.1, 1.0), "2ep"), Phase(Cosine())]),
    "inside a phase": Chain([Phase(Linear(0.1, 1.0, over="2ep"), "20st"), Phase(Cosine())]),
    "a cycle": Repeat(Linear(), every="2ep"),
    "a default": Exponential(0.9),
    "steps": Step("2ep"),
    "milestones": MultiStep(["10st", "2ep"]),
    "points": Piecewise([("0st", 0.1), ("2ep", 1.0)]),
    "one cycle": OneCycle(up="2ep"),
    "under a plateau": Plateau(WarmupCosine(warmup="2ep")),
    "ticks of torch's": FromTorch("ExponentialLR", {"gamma": 0.9}, every="1ep"),
    "arguments of torch's": FromTorch("StepLR", {"step_size": "2ep"}),
    "epoch in a formula": Formula("1 / (1 + epoch)"),
    "epochs in a formula": Formula("1 - step / steps * 0.5 if epochs > 1 else 1"),
    "a function by its path": Custom("lit_lrsched.schedules.custom.halve_every_epoch"),
    "a function": sawtooth,
}


@pytest.mark.parametrize("case", COUNT_EPOCHS)
def test_epochs_of_unknown_length_are_refused_with_the_fix(case):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    for use in (
        lambda: table(COUNT_EPOCHS[case], STEPS),
        lambda: ScheduledLR(optimizer, COUNT_EPOCHS[case], STEPS),
        lambda: preview(COUNT_EPOCHS[case], STEPS),
    ):
        with pytest.raises(InputError, match=FIX) as caught:
            use()
        assert "\n" not in str(caught.value)
    assert len(table(COUNT_EPOCHS[case], Horizon(100, steps_per_epoch=10))) == 100


def test_a_horizon_takes_whole_numbers_of_numpy():
    horizon = Horizon(np.int64(550), np.int32(11))
    assert horizon == Horizon(550, 11)
    assert (type(horizon.steps), type(horizon.steps_per_epoch)) == (int, int)
    for wrong in (np.float64(550), np.bool_(True), True, 0, 5.0, "550"):
        with pytest.raises(InputError, match="a horizon needs steps to be a whole number of at least 1, got"):
            Horizon(wrong)


def test_the_message_names_what_counts_epochs():
    with pytest.raises(InputError, match=f"^'2ep' {FIX}"):
        table(WarmupCosine(warmup="2ep"), STEPS)
    with pytest.raises(InputError, match=f"^interval='epoch' {FIX}"):
        table(Linear(), STEPS, "epoch")
    with pytest.raises(InputError, match=f"^epochs {FIX}"):
        _ = STEPS.epochs
    with pytest.raises(InputError, match=rf"^sawtooth \(unsupported operand type.*NoneType.*\) {FIX}"):
        table(sawtooth, STEPS)


@pytest.mark.parametrize("horizon", [STEPS, Horizon(100, steps_per_epoch=10)])
def test_a_type_error_of_the_functions_own_says_where_it_was_raised(horizon: Horizon):
    def broken(step: int, horizon: Horizon) -> float:
        return step + "1"

    with pytest.raises(InputError) as caught:
        table(broken, horizon)
    assert type(caught.value) is InputError  # not NoEpochs: the epochs have nothing to do with it
    line = inspect.getsourcelines(broken)[1] + 1
    assert str(caught.value) == (
        "broken fails at step 0 of 100 with TypeError: unsupported operand type(s) for +: 'int' and 'str' "
        f"(test_horizon.py, line {line}): correct it so that it holds at every step"
    )
    assert isinstance(caught.value.__cause__, TypeError)


def test_a_preview_without_epochs_shows_steps(in_tmp, capsys):
    shown = preview(WarmupCosine(warmup="10%"), STEPS, lr=0.1)
    assert [list(row) for row in shown.table] == [["moment", "step", "lr"]] * 3
    assert [row["step"] for row in shown.table] == [0, 10, 99]
    figure, _ = shown.plot()
    figure.canvas.draw()
    (axes,) = figure.axes
    assert (axes.get_xlabel(), axes.get_xlim()) == ("step", (0, 100))
    both = preview({"a": Linear(), "b": Cosine()}, STEPS).table
    assert list(both[0])[3] == "at step"
    shows_zero = preview(Linear(over="50st"), STEPS)
    assert show(shows_zero, csv="ticks.csv") == 1
    out = capsys.readouterr().out
    assert out.startswith("100 steps\n")
    assert "the learning rate is 0 from step 50 on" in out.replace("\n", " ")
    with Path("ticks.csv").open(newline="") as file:
        ticks = list(csv.reader(file))
    assert ticks[:2] == [["step", "factor"], ["0", "1.0"]]
    assert len(ticks) == 101
    # an epoch of one step is another thing
    assert list(preview(Linear(), Horizon(5, 1)).table[0])[1:3] == ["step", "epoch"]


@pytest.mark.parametrize(
    ("recorded", "now"),
    [
        ([10, 1], Horizon(10)),  # as once a horizon of steps alone was written
        ([10, 10], Horizon(10)),  # and data without length
        ([10, None], Horizon(10)),
        ([10, None], Horizon(10, 5)),  # known since
    ],
)
def test_a_checkpoint_of_the_same_steps_is_no_change(recorded, now, recwarn):
    def make(horizon: Horizon, schedule: Any = Linear()) -> ScheduledLR:  # noqa: B008
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
        return ScheduledLR(optimizer, schedule, horizon, on_horizon_change="error")

    before = make(Horizon(*recorded))
    for _ in range(4):
        before.step()
    state = before.state_dict()
    assert state["horizon"] == recorded
    after = make(now)
    after.load_state_dict(state)
    assert after.resumed == "Resumed at step 4 of 10: learning rate 0.06 -> 0.06"
    after.step()
    assert after.get_last_lr() == [0.1 * table(Linear(), now)[5]]
    assert not recwarn
    with pytest.raises(InputError, match=r"planned 10 steps.* and this run plans 20 steps"):
        make(Horizon(20, now.steps_per_epoch)).load_state_dict(state)
    if now.steps_per_epoch:  # the length that is known now is the one that counts
        follows = make(now, Step("1ep", 0.5))
        follows.load_state_dict(state)
        assert follows.get_last_lr() == [0.1]
        follows.step()
        assert follows.get_last_lr() == [0.05]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"data": Endless(), "max_epochs": -1, "max_steps": 12}, "the training data has no length"),
        ({"callbacks": [GradientAccumulationScheduler({0: 1, 1: 2})]}, "GradientAccumulationScheduler gives epochs"),
    ],
    ids=["no length", "changing accumulation"],
)
def test_a_trainer_whose_epochs_have_no_length_says_why(options, reason):
    def fit(schedule: Any, **arguments: Any) -> list[float]:
        others = {key: value for key, value in options.items() if key != "callbacks"}
        return used_by(
            Small(), ApplySchedule(schedule, **arguments), *options.get("callbacks", []), **others
        ).first_rates

    assert fit(Linear())[0] == 0.1
    for schedule, arguments in (
        (WarmupCosine(warmup="2ep"), {}),
        (Formula("0.5 ** epoch"), {}),
        (sawtooth, {}),
        (Linear(), {"interval": "epoch"}),
        (Linear(), {"groups": {"momentum": Linear(over="2ep")}}),
    ):
        with pytest.raises(InputError, match=f"^{reason}.*: give durations in steps or percent"):
            fit(schedule, **arguments)


MODULE = """
import torch
from lightning.pytorch import LightningModule
from torch.utils.data import DataLoader, IterableDataset


class Stream(IterableDataset):
    def __iter__(self):
        return iter(torch.ones(8, 4))


class Streamed(LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)

    def training_step(self, batch, batch_idx):
        return self.layer(batch).pow(2).mean()

    def train_dataloader(self):
        return DataLoader(Stream(), batch_size=2)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)
"""


def test_data_without_length_by_the_command(command, monkeypatch):
    Path("streamed.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(Path.cwd()))
    run = ["--model=streamed.Streamed", "--trainer.max_steps=12", "--trainer.max_epochs=-1"]
    assert command("preview", *run, "--lr_scheduler=WarmupCosine", "--lr_scheduler.warmup=25%") == 0
    assert command.out.startswith("12 steps\n")
    assert "epoch" not in command.out
    for subcommand in ("fit", "preview"):
        assert command(subcommand, *run, "--lr_scheduler=WarmupCosine", "--lr_scheduler.warmup=2ep") != 0
        said = " ".join((command.out + command.err).split())
        assert "the training data has no length, so its epochs have none: give durations in steps or percent" in said
    # torch's own move on at the end of each epoch, of which nobody knows when it comes: that is said, and no failure
    assert command("preview", *run, "--lr_scheduler=ExponentialLR", "--lr_scheduler.gamma=0.5") == 0
    said = " ".join(command.out.split())
    assert (
        "ExponentialLR moves on once an epoch, and how long epochs are is not known here: shown as it begins." in said
    )
    assert command("fit", *run, "--lr_scheduler=ExponentialLR", "--lr_scheduler.gamma=0.5") == 0
    assert "learning rate followed the plan (12 of 12 steps)" in command.out


def test_torchs_scheduler_alone_needs_epochs_too():
    from lit_lrsched.optim.run_plan import plan_of_torch

    with pytest.raises(InputError, match=f"^interval='epoch' {FIX}"):
        plan_of_torch(lambda optimizer: lr_scheduler.ExponentialLR(optimizer, 0.5), STEPS)
    by_step = plan_of_torch(lambda optimizer: lr_scheduler.ExponentialLR(optimizer, 0.5), STEPS, "step")
    assert by_step.at(3)["lr/group0"] == 0.125
    assert table(Constant(), STEPS) == [1.0] * 100

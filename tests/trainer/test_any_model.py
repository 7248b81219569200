"""Models that are not ours, through the command line."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.demos.boring_classes import BoringModel

from lit_lrsched import ApplySchedule, Cosine, Horizon, WarmupCosine, table
from lit_lrsched.cli.schedule_cli import ScheduleCLI
from tests.reading import run_folder, scalars

WARMUP = ["--lr_scheduler", "WarmupCosine", "--lr_scheduler.warmup", "25%"]
SHORT = ["--trainer.max_epochs=2", "--trainer.limit_train_batches=4", "--trainer.limit_val_batches=1"]
SHORT += ["--trainer.log_every_n_steps=1"]  # Lightning warns of intervals that are longer than an epoch
BORING = ["fit", "--model", "lightning.pytorch.demos.boring_classes.BoringModel", *SHORT, "--lr_logger.each_step=true"]
FACTORS = table(WarmupCosine("25%"), Horizon(8, 4))


class Quiet(LightningModule):
    """A model with two param groups and a schedule of its own, and no data."""

    def __init__(self, width: int = 34) -> None:
        super().__init__()
        self.backbone = torch.nn.Linear(width, 4)
        self.head = torch.nn.Linear(4, 1)

    def training_step(self, batch, batch_idx):
        x, y = batch
        return torch.nn.functional.binary_cross_entropy_with_logits(self.head(self.backbone(x)), y)

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.training_step(batch, batch_idx))

    def configure_optimizers(self):
        groups = [
            {"params": self.backbone.parameters(), "lr": 0.01, "name": "backbone"},
            {"params": self.head.parameters(), "name": "head"},
        ]
        optimizer = torch.optim.SGD(groups, lr=0.1, momentum=0.9)
        return [optimizer], [torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)]


class ManyGroups(Quiet):
    """Five param groups with four rates."""

    def configure_optimizers(self):
        layers = [self.backbone.weight, self.backbone.bias, self.head.weight, self.head.bias]
        extra = torch.nn.Parameter(torch.zeros(1))
        rates = [0.1, 0.2, 0.3, 0.4, 0.4]
        return torch.optim.SGD([{"params": [p], "lr": lr} for p, lr in zip([*layers, extra], rates, strict=True)])


QUIET = [
    "fit",
    "--model",
    "tests.trainer.test_any_model.Quiet",
    "--data",
    "IonosphereDataModule",
    *SHORT,
    "--lr_logger.each_step=true",
]


@pytest.fixture(autouse=True)
def _listening(caplog):
    caplog.set_level("INFO", logger="lightning.pytorch")


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
def test_neither_option_leaves_the_model_alone(command, caplog):
    assert command(*BORING) == 0
    assert "takes the place" not in caplog.text
    assert scalars(run_folder(), "lr/group0") == pytest.approx([0.1] * 4 + [0.01] * 4)  # its own StepLR(1)


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
def test_a_schedule_alone_keeps_the_optimizer(command, caplog):
    assert command(*BORING, *WARMUP) == 0
    assert "WarmupCosine takes the place of BoringModel's StepLR, on the base rate 0.1." in caplog.messages
    assert scalars(run_folder(), "lr/group0") == pytest.approx([0.1 * factor for factor in FACTORS], rel=1e-6)


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
def test_both_are_replaced(command, caplog):
    assert command(*BORING, *WARMUP, "--optimizer", "AdamW", "--optimizer.lr", "3e-4") == 0
    assert "--optimizer takes the place of BoringModel.configure_optimizers." in caplog.messages
    assert scalars(run_folder(), "lr/group0") == pytest.approx([3e-4 * factor for factor in FACTORS], rel=1e-6)


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
def test_an_optimizer_alone_drops_the_schedule_and_says_so(command, caplog):
    assert command(*BORING, "--optimizer", "AdamW", "--optimizer.lr", "3e-4") == 0
    replaced = "--optimizer takes the place of BoringModel.configure_optimizers, its schedule included."
    assert replaced in caplog.messages
    assert scalars(run_folder(), "lr/group0") == pytest.approx([3e-4] * 8)


class Applies(Quiet):
    """Brings its schedule in a callback."""

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def configure_callbacks(self):
        return [ApplySchedule(Cosine())]


@pytest.mark.parametrize(("typed", "last"), [([], Cosine()), (WARMUP, WarmupCosine("25%"))], ids=["its own", "typed"])
def test_a_schedule_of_the_modules_callbacks_gives_way_to_the_typed_one(typed, last, command):
    planned = [0.1 * factor for factor in table(last, Horizon(8, 4))]
    options = ["--model=tests.trainer.test_any_model.Applies", *typed]
    assert command(*QUIET, *options) == 0
    assert scalars(run_folder(), "lr/group0") == pytest.approx(planned, rel=1e-6)
    assert command("preview", *QUIET[1:-1], *options, "--png=null", "--csv=plan.csv") == 0
    with open("plan.csv", encoding="utf-8") as rows:
        assert [float(row["lr/group0"]) for row in csv.DictReader(rows)] == pytest.approx(planned)


def test_groups_keep_their_rates_and_may_have_schedules_of_their_own(command):
    Path("groups.yaml").write_text(
        "lr_scheduler: {class_path: WarmupCosine, init_args: {warmup: 25%}}\n"
        "lr_groups:\n"
        "  lr/head: {class_path: Constant, init_args: {factor: 0.5}}\n"
        "  momentum: {class_path: Linear, init_args: {start: 1.0, end: 0.5}}\n"
    )
    assert command(*QUIET, "--config", "groups.yaml", "--lr_logger.momentum=true") == 0
    assert scalars(run_folder(), "lr/backbone") == pytest.approx([0.01 * factor for factor in FACTORS], rel=1e-6)
    assert scalars(run_folder(), "lr/head") == pytest.approx([0.05] * 8)
    assert scalars(run_folder(), "momentum/head") == pytest.approx([0.9 * (1 - 0.5 * step / 8) for step in range(8)])


def test_the_schedule_of_a_group_is_typed_under_its_name(command):
    options = ["--lr_scheduler=Constant", "--lr_groups.lr/head", "Linear", "--lr_groups.lr/head.end=0.5"]
    assert command(*QUIET, *options) == 0
    assert scalars(run_folder(), "lr/backbone") == pytest.approx([0.01] * 8)
    assert scalars(run_folder(), "lr/head") == pytest.approx([0.1 * (1 - 0.5 * step / 8) for step in range(8)])


def test_the_first_line_has_the_rates_of_all_groups(command):
    assert command(*QUIET, *WARMUP) == 0
    assert "with SGD (lr 0.01, 0.1) and WarmupCosine(warmup=25%)," in command.out
    model = ["--model=tests.trainer.test_any_model.ManyGroups"]
    assert command(*QUIET, *model) == 0
    assert "with SGD (lr 0.1 to 0.4 in 5 param groups) and no schedule," in command.out


def test_a_model_that_takes_the_options_but_not_the_groups_gets_them_from_outside(command):
    options = ["--lr_scheduler", "Constant", "--optimizer", "SGD", "--optimizer.lr=0.1", "--optimizer.momentum=0.9"]
    Path("groups.yaml").write_text("lr_groups: {momentum: {class_path: Linear, init_args: {start: 1.0, end: 0.5}}}\n")
    assert command("fit", "--config=groups.yaml", *options, *SHORT, "--lr_logger.momentum=true") == 0
    assert scalars(run_folder(), "momentum/group0") == pytest.approx([0.9 * (1 - 0.5 * step / 8) for step in range(8)])


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([*QUIET, "--lr_interval", "epoch"], "--lr_interval says nothing by itself: give --lr_scheduler too"),
        ([*QUIET, *WARMUP, "--lr_groups", "{lr/haed: Constant}"], "did you mean 'lr/head'?"),
        ([*QUIET, *WARMUP[:3], "10ep"], "needs 40 steps but training has 8"),
    ],
)
def test_mistakes(command, arguments, told):
    assert command(*arguments) == 2
    assert told in command.err
    assert not list(Path().glob("lightning_logs/*"))


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
def test_in_a_command_of_ones_own(in_tmp, monkeypatch):
    class MyCLI(ScheduleCLI):
        pass

    monkeypatch.setattr("sys.argv", ["mine.py", "fit", *SHORT, *WARMUP, "--trainer.enable_progress_bar=false"])
    cli = MyCLI(BoringModel)
    assert cli.trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(
        0.1 * WarmupCosine("25%")(8, Horizon(8, 4)), abs=1e-12
    )
    assert cli.trainer.global_step == 8

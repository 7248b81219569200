"""Files that version 0.1.0 wrote, before modules moved: they load, and train on at the same rates, bit for bit."""

from __future__ import annotations

import csv
from functools import partial
from pathlib import Path

import pytest
import torch
from torch.optim import SGD

import lit_lrsched
from lit_lrsched import IonosphereClassifier, IonosphereDataModule
from tests.training import quiet_trainer

WRITTEN = Path(__file__).parent / "fixtures" / "version_0_1"
BY_THE_COMMAND = ("chain", "plateau", "onecycle", "torch")
STEPS, RESUMED_AT = 66, 33


def rates_of(file: Path) -> dict[int, float]:
    with file.open(newline="") as rows:
        column = "lr" if file.name == "rates.csv" else "lr/group0"
        return {int(row["step"]): float(row[column]) for row in csv.DictReader(rows) if row[column]}


@pytest.mark.sampled(4)
@pytest.mark.parametrize("name", BY_THE_COMMAND)
@pytest.mark.parametrize("resumed", [False, True], ids=["from the start", "resumed"])
def test_the_command_trains_from_what_it_saved(command, name, resumed):
    checkpoint = ["--ckpt_path", str(WRITTEN / name / "epoch_3.ckpt")] if resumed else []
    assert command("fit", "--config", str(WRITTEN / name / "config.yaml"), *checkpoint) == 0
    used = rates_of(Path("lightning_logs/version_0/metrics.csv"))
    first = RESUMED_AT if resumed else 0
    before = rates_of(WRITTEN / name / "rates.csv")
    assert used == {step: rate for step, rate in before.items() if step >= first}
    assert len(used) == STEPS - first


def test_classes_are_found_where_they_lived(command):
    options = ["--trainer.limit_train_batches=2", "--trainer.limit_val_batches=1", "--trainer.limit_test_batches=1"]
    assert command("fit", "--config", str(WRITTEN / "old_paths.yaml"), *options) == 0
    # At the end of the warmup, an epoch long; the fall of the momentum has just begun.
    assert command("preview", "--config", str(WRITTEN / "old_paths.yaml"), "--csv", "old.csv", "--png", "") == 0
    with Path("old.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert float(rows[11]["lr/group0"]) == 0.2
    assert float(rows[11]["momentum/group0"]) == pytest.approx(0.9 * (1 - 0.1 * 11 / 66))


@pytest.mark.parametrize("name", [*BY_THE_COMMAND, "python"])
def test_load_from_checkpoint(name):
    module = IonosphereClassifier.load_from_checkpoint(WRITTEN / name / "epoch_3.ckpt", weights_only=True)
    assert module(torch.zeros(2, 34)).shape == (2, 1)
    assert module.hparams.hidden == 34


def test_python_trains_on():
    module = IonosphereClassifier.load_from_checkpoint(WRITTEN / "python" / "epoch_3.ckpt", weights_only=True)
    used: list[float] = []
    module.on_before_optimizer_step = lambda optimizer: used.append(optimizer.param_groups[0]["lr"])
    trainer = quiet_trainer(max_epochs=6)
    trainer.fit(module, IonosphereDataModule(), ckpt_path=WRITTEN / "python" / "epoch_3.ckpt", weights_only=True)
    before = rates_of(WRITTEN / "python" / "rates.csv")
    assert used == [before[step] for step in range(RESUMED_AT, STEPS)]


def test_what_is_written_now_names_public_paths():
    schedule = lit_lrsched.WarmupStableDecay("1ep", "20%", shape=lit_lrsched.Rex())
    module = IonosphereClassifier(optimizer=partial(SGD, lr=0.1), lr_scheduler=schedule)
    assert module.hparams.lr_scheduler["class_path"] == "lit_lrsched.WarmupStableDecay"
    assert module.hparams.lr_scheduler["init_args"]["shape"]["class_path"] == "lit_lrsched.Rex"
    assert module.hparams.optimizer["class_path"] == "torch.optim.SGD"

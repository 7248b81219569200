"""Which way a metric is better follows from its name, is said, and has to be given where the name does not tell."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch.optim.lr_scheduler import ReduceLROnPlateau

from lit_lrsched import ApplySchedule, Constant, IonosphereClassifier, IonosphereDataModule, Plateau, compare
from lit_lrsched.class_paths import from_plain, to_plain
from lit_lrsched.comparison.evidence.runs import RunKey
from lit_lrsched.comparison.grid import Grid
from lit_lrsched.comparison.racing_optimizer import given
from lit_lrsched.errors import InputError
from lit_lrsched.schedules.core import Horizon
from lit_lrsched.schedules.direction import direction_of
from tests.training import Numbers, Validated, scheduled, used_by

FALL = """
    val_loss loss train/loss_epoch valLoss val-error val_err MAE val_mse RMSE RMSLE val_perplexity ppl val_nll
    loss/dataloader_idx_0 test.cer bits_bpc MeanSquaredError
"""
RISE = """
    val_acc accuracy acc1 top5_acc val/f1 F1Score MulticlassF1Score BinaryAUROC val_auc AveragePrecision recall R2Score
    r2 score val_iou mIoU dice BLEU mAP val_map_50 ndcg@10 MulticlassAccuracy val_acc/dataloader_idx_1
"""
UNTOLD = """
    loss_acc dice_loss brier_score neg_mean_squared_error one_minus_acc metric lossless glossary custom val accumulated
    recalled_things time lr entropy val_elbo
"""


@pytest.mark.parametrize(
    ("names", "expected"), [(FALL, "min"), (RISE, "max"), (UNTOLD, None)], ids=["fall", "rise", "untold"]
)
def test_words_of_a_name(names, expected):
    assert {name: direction_of(name) for name in names.split()} == dict.fromkeys(names.split(), expected)


def test_a_plateau_goes_by_the_name_unless_its_mode_is_given():
    rising, falling = Plateau(monitor="val_acc", patience=0), Plateau(monitor="val_loss", patience=0)
    assert rising.update(rising.update(rising.start(), 0.5), 0.6).factor == 1.0
    assert rising.update(rising.update(rising.start(), 0.5), 0.4).factor == 0.1
    assert falling.update(falling.update(falling.start(), 0.5), 0.4).factor == 1.0
    assert Plateau(monitor="val_acc", mode="min").direction == "min"
    assert Plateau(monitor="custom", mode="max").direction == "max"
    with pytest.raises(InputError, match=r"^monitor='custom' does not tell .*: give mode='min' .* or mode='max' when"):
        Plateau(monitor="custom")


@pytest.mark.parametrize("mode", [None, "min"])
def test_plain_values_say_what_was_given(mode):
    plateau = Plateau(monitor="val_acc", mode=mode)
    plain = to_plain(plateau)
    assert plain["init_args"]["mode"] == mode
    assert from_plain(yaml.safe_load(yaml.safe_dump(plain))) == plateau


class Rising(Validated):
    """Logs an accuracy that rises all the time, and a loss that falls."""

    def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        epoch = self.trainer.current_epoch
        self.log_dict({"val_acc": 0.1 * (epoch + 1), "val_loss": 1 / (epoch + 1)}, batch_size=1)


def rates(**options: Any) -> list[float]:
    return used_by(Rising(), ApplySchedule(**options), val=Numbers(1), max_epochs=5).epochs()


def test_a_monitor_that_is_given_beside_the_plateau_brings_its_own_direction():
    for options in (
        {"schedule": Plateau(patience=0), "monitor": "val_acc"},
        {"schedule": Plateau(monitor="val_acc", patience=0)},
        {"schedule": Plateau(monitor="val_acc", patience=0), "monitor": "val_loss"},
    ):
        assert rates(**options) == [0.1] * 5  # it gets better all the time
    # what is given counts, whatever the name says
    assert rates(schedule=Plateau(monitor="val_acc", mode="min", patience=0))[-1] < 0.001
    with pytest.raises(InputError, match="monitor='custom' does not tell"):
        rates(schedule=Plateau(), monitor="custom")


WRONG = r"ReduceLROnPlateau\(mode='min'\) cuts the rate while 'val_acc' gets better: give mode='max'"


def test_torchs_plateau_that_goes_the_wrong_way_is_refused():
    with pytest.raises(InputError, match=f"{WRONG}.*or if that is what you want, Plateau"):
        rates(schedule=ReduceLROnPlateau, monitor="val_acc")
    with pytest.raises(InputError, match=WRONG):
        used_by(Rising(scheduled(ReduceLROnPlateau, monitor="val_acc")), val=Numbers(1))
    patient = partial(ReduceLROnPlateau, patience=0)
    assert rates(schedule=partial(patient, mode="max"), monitor="val_acc") == [0.1] * 5
    assert rates(schedule=patient, monitor="val_loss") == [0.1] * 5
    with pytest.raises(InputError, match=r"ReduceLROnPlateau\(mode='max'\) .* 'val_loss' gets better: give mode='min'"):
        rates(schedule=partial(patient, mode="max"), monitor="val_loss")


class OwnPlateau(IonosphereClassifier):
    """With torch's plateau as it comes, on an accuracy."""

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        return {"optimizer": optimizer, "lr_scheduler": ReduceLROnPlateau(optimizer), "monitor": "val_acc"}


def test_by_the_command(command):
    for subcommand in ("fit", "preview"):
        assert command(subcommand, "--lr_scheduler=ReduceLROnPlateau", "--lr_monitor=val_acc") != 0
        said = " ".join((command.out + command.err).split())
        assert "cuts the rate while 'val_acc' gets better: give mode='max', or" in said
        assert "Traceback" not in said
        assert not [*Path().glob("lightning_logs/*")]
    by_hand = ["preview", "--epochs=5", "--steps_per_epoch=4"]
    assert command(*by_hand, "--lr_scheduler=ReduceLROnPlateau", "--lr_monitor=val_acc") == 1
    assert "cuts the rate while 'val_acc' gets better" in " ".join(command.out.split())
    assert command(*by_hand, "--lr_scheduler=Plateau", "--lr_monitor=val_acc") == 0
    assert "until val_acc stalls (then x 0.1, patience 10, mode max)" in command.out
    assert command("fit", "--lr_scheduler=Plateau", "--lr_scheduler.monitor=custom") == 2
    assert "monitor='custom' does not tell by its name which way is better" in command.err
    assert command("preview", "--model=tests.schedules.test_direction.OwnPlateau") == 1
    assert "failure: ReduceLROnPlateau(mode='min') cuts the rate while 'val_acc' gets better" in " ".join(
        command.out.split()
    )
    assert command("preview", "--lr_scheduler=ReduceLROnPlateau", "--lr_monitor=val_loss", "--lr_interval=epoch") == 0


RACE = {"lrs": [1e-5, 0.1], "seeds": 3, "epochs": 2, "momenta": [0.0]}


def test_a_race_over_a_loss_crowns_the_lowest(in_tmp):
    def race(**options: Any) -> Any:
        schedules = {"constant": Constant()}
        return compare(IonosphereClassifier, IonosphereDataModule, schedules, folder="race", **RACE, **options)

    assert race(metric="val_loss").summary.mode == "min"
    assert race(metric="val_loss").summary.schedules[0].lr == 0.1
    assert race(metric="val_loss", mode="max").summary.schedules[0].lr == 1e-5  # what is given counts
    assert race().summary.mode == "max"
    with pytest.raises(InputError, match="metric='custom' does not tell by its name which way is better"):
        race(metric="custom")


def opening(output: str) -> list[str]:
    """What a race says before its first training: the count of trainings, what races, and the direction."""
    lines = output.splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("Optimizer: "))
    assert first == 1
    return lines[: first + 3]


def test_a_race_says_which_way_before_it_starts(command):
    schedules = ["--schedules={constant: Constant, none: {class_path: Constant, init_args: {factor: 1e-6}}}"]
    small = [*schedules, "--lrs=[0.1]", "--momenta=[0.0]", "--seeds=3", "--trainer.max_epochs=2", "--folder=race"]
    assert command("compare", *small, "--metric=val_loss") == 0
    assert "val_loss tunes: lower is better." in opening(command.out)
    summary = json.loads(Path("race/summary.json").read_text())
    assert "lower is better" in Path("race/report.html").read_text()
    assert "constant" in json.dumps(summary["schedules"][0])  # the other does not learn
    assert command("compare", *small, "--metric=custom") == 2
    assert "metric='custom' does not tell by its name which way is better: give mode=" in command.err
    assert command("compare", *small) == 0
    assert "val_acc tunes: higher is better." in opening(command.out)


def test_both_engines_follow_the_same_metric():
    def sgd(parameters: Any) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, lr=1.0)

    optimizer = given(sgd, [torch.nn.Parameter(torch.zeros(1))])
    grid = Grid({"ours": Plateau(), "torch's": ReduceLROnPlateau}, [0.1], [None], [0], optimizer, monitor="val_acc")
    (training,) = grid.trainings([RunKey("ours", 0.1, 0.0, 0.0, 0)], Horizon(4, 2))
    assert training.plateau is not None
    assert (training.plateau.monitor, training.plateau.direction) == ("val_acc", "max")
    with pytest.raises(InputError, match=WRONG):
        grid.trainings([RunKey("torch's", 0.1, 0.0, 0.0, 0)], Horizon(4, 2))

"""What is given to `fit` beside a schedule: shipped files, an optimizer without a class, checkpoints, the trainer."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
import yaml

import lit_lrsched
from tests.reading import run_folder

SHIPPED = Path(lit_lrsched.__file__).parent / "configs"
SHORT = ["--trainer.max_epochs=1", "--trainer.enable_progress_bar=false"]
FOREIGN = ["--model=tests.foreign.MLP", "--data=tests.foreign.Data"]


def test_a_shipped_name_is_one_of_config_alone(command, in_tmp):
    before = {path: hashlib.sha256(path.read_bytes()).digest() for path in SHIPPED.rglob("*.yaml")}
    race = ["compare", "--schedules=Constant", "--lrs=0.1", "--momenta=0", "--seeds=1", "--trainer.max_epochs=1"]
    (in_tmp / "article").mkdir()
    assert command(*race, "--folder=race", "--export", "article/linear.yaml") == 0
    assert yaml.safe_load((in_tmp / "article" / "linear.yaml").read_text())["lr_scheduler"]
    assert {path: hashlib.sha256(path.read_bytes()).digest() for path in SHIPPED.rglob("*.yaml")} == before


def test_a_file_of_the_users_comes_before_a_shipped_one(command, in_tmp):
    assert command("fit", "-c", "article/linear.yaml", "--print_config") == 0
    assert yaml.safe_load(command.out)["lr_scheduler"]["class_path"] == "torch.optim.lr_scheduler.LinearLR"
    (in_tmp / "article").mkdir()
    (in_tmp / "article" / "linear.yaml").write_text("lr_scheduler: Cosine")
    assert command("fit", "-c", "article/linear.yaml", "--print_config") == 0
    assert yaml.safe_load(command.out)["lr_scheduler"]["class_path"] == "lit_lrsched.Cosine"


@pytest.mark.parametrize(
    ("typed", "value"), [([], None), (["--compile"], True), (["--compile=false"], False), (["--compile", "true"], True)]
)
def test_compile_is_a_switch(command, typed, value):
    assert command("compare", *typed, "--seeds=3", "--print_config") == 0
    assert yaml.safe_load(command.out)["compile"] is value


def optimizer_of(command, *arguments: str) -> dict:
    assert command("fit", *arguments, "--print_config") == 0, command.err
    return yaml.safe_load(command.out)["optimizer"]


def test_arguments_of_the_optimizer_without_its_class(command):
    told = optimizer_of(command, "--optimizer.momentum=0.9")
    assert told["class_path"] == "torch.optim.SGD"
    assert (told["init_args"]["lr"], told["init_args"]["momentum"]) == (0.1, 0.9)  # at the default's rate
    Path("adam.yaml").write_text("optimizer: {class_path: Adam, init_args: {lr: 0.01}}")
    told = optimizer_of(command, "--config=adam.yaml", "--optimizer.lr=0.3")
    assert (told["class_path"], told["init_args"]["lr"]) == ("torch.optim.Adam", 0.3)
    Path("none.yaml").write_text("optimizer: null")
    assert optimizer_of(command, "--config=none.yaml", "--optimizer.lr=0.3")["init_args"]["lr"] == 0.3
    assert command("fit", *FOREIGN, "--optimizer.lr=0.3") == 2
    assert command.err.startswith("error: no class was chosen for the optimizer of MLP: give it first, like --opt")
    Path("model.yaml").write_text("model: {class_path: lit_lrsched.IonosphereClassifier, init_args: {optimizer: Adam}}")
    assert command("fit", "--config=model.yaml", "--optimizer.lr=0.3") == 2
    assert "no class was chosen for the optimizer of IonosphereClassifier" in command.err


def test_a_checkpoint_of_the_users_beside_ours(command):
    assert command("fit", *SHORT) == 0
    first = run_folder() / "checkpoints/last.ckpt"
    assert command("fit", *SHORT, "--trainer.callbacks+=ModelCheckpoint") == 0, command.err
    keys = torch.load(run_folder(1) / "checkpoints/last.ckpt", weights_only=True)["callbacks"]
    kinds = sorted(key.partition("{")[0] for key in keys if "heckpoint" in key)
    assert kinds == ["LastCheckpoint", "ModelCheckpoint"]
    # An earlier checkpoint goes on without a warning, with ours alone and with another beside it.
    longer = ["fit", "--trainer.max_epochs=2", "--trainer.enable_progress_bar=false", "--ckpt_path", str(first)]
    assert command(*longer) == 0
    assert command.err == ""
    assert command(*longer, "--trainer.max_epochs=3", "--trainer.callbacks+=ModelCheckpoint") == 0
    assert command.err == ""


def test_a_device_is_written_into_a_configuration(command):
    given = ["--trainer.callbacks=StochasticWeightAveraging", "--trainer.callbacks.swa_lrs=0.1"]
    for number, options in enumerate([given, ["--config=0.yaml"]]):
        assert command("fit", *options, "--print_config") == 0
        Path(f"{number}.yaml").write_text(command.out)
        assert "device: cpu\n" in command.out


@pytest.mark.parametrize("subcommand", ["fit", "preview"])
def test_a_progress_bar_of_the_users_takes_the_place_of_ours(command, subcommand):
    assert command(subcommand, SHORT[0], "--trainer.callbacks=RichProgressBar") == 0, command.err


class Unwilling(lit_lrsched.IonosphereClassifier):
    """Fails for a reason of its own."""

    def setup(self, stage: str) -> None:
        raise ValueError("of my own")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--trainer.val_check_interval=1000"], "`val_check_interval` (1000) must be less than or equal to"),
        (["--trainer.max_epochs=-5"], "`max_epochs` must be"),
        (["--lr_scheduler=StepLR", "--lr_scheduler.step_size=0"], "set step_size=1"),
    ],
)
def test_what_lightning_refuses_is_told_in_a_line(command, arguments, told):
    assert command("fit", *SHORT, *arguments) == 2
    assert command.err.startswith("error: ")
    assert command.err.count("\n") == 1
    assert told in command.err
    assert "Training " not in command.out
    assert not Path("lightning_logs").exists()


def test_what_is_typed_may_be_longer_than_the_name_of_a_file(command):
    seeds = [*range(1, 101)]
    text = yaml.safe_dump({"lr_scheduler": "Cosine", "trainer": {"max_epochs": 7}, "run_name": "x" * 250})
    assert command("compare", "--seeds", ",".join(map(str, seeds)), "--print_config") == 0
    assert yaml.safe_load(command.out)["seeds"] == seeds
    assert command("fit", "--config", text, "--print_config") == 0
    assert yaml.safe_load(command.out)["trainer"]["max_epochs"] == 7


def test_switches_of_an_optimizer_that_exclude_each_other_are_told_in_a_line(command):
    switches = ["--optimizer=AdamW", "--optimizer.fused=true", "--optimizer.foreach=true"]
    assert command("fit", *SHORT, *switches) == 2
    told = "`fused` and `foreach` cannot be `True` together: correct them"
    assert command.err == f"error: optimizer: it refuses its arguments: {told}\n"


@pytest.mark.parametrize("command_of", [["find", "--points=5", "--png=null"], ["compare", "--schedules=Constant"]])
def test_the_configuration_of_a_run_serves_what_asks_about_it(command, command_of):
    assert command("fit", *SHORT, "--lr_scheduler=Linear", "--run_name=mine") == 0
    saved = [*command_of, "--config=lightning_logs/mine/config.yaml", "--seeds=2", "--lrs=0.1,0.2"]
    assert command(*saved) == 0, command.err
    assert command(*saved, "--ckpt_path=last") == 2
    assert command.err == f"error: ckpt_path='last': the runs of {command_of[0]} begin anew: leave it out\n"


def test_what_a_users_module_raises_keeps_its_traceback(command):
    with pytest.raises(ValueError, match="of my own"):
        command("fit", *SHORT, "--model=tests.cli.test_setup.Unwilling")

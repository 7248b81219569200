"""What runs are called, by default and by ``--run_name``, also beside a logger of one's own and after a resume."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from jsonargparse import Namespace
from lightning.pytorch.loggers import MLFlowLogger, TensorBoardLogger, WandbLogger

from lit_lrsched.cli.run_name import default_name, name_loggers
from lit_lrsched.errors import InputError

SHORT = ["fit", "--trainer.enable_progress_bar=false", "--trainer.log_every_n_steps=1"]
FOREIGN = ["--model=tests.foreign.Decayed", "--data=tests.foreign.Data", "--data.rows=32"]
ONCE = "--trainer.max_epochs=1"


class Board(TensorBoardLogger):
    def __init__(self, save_dir: str = "board") -> None:
        super().__init__(save_dir)


def of(path: str, **arguments: object) -> Namespace:
    return Namespace(class_path=path, init_args=Namespace(**arguments))


def folders() -> list[str]:
    return sorted(path.name for path in Path("lightning_logs").iterdir())


@pytest.mark.parametrize(
    ("config", "name"),
    [
        ({"lr_scheduler": of("lit_lrsched.Cosine", end=0.0), "optimizer": of("torch.optim.SGD", lr=0.1)}, "Cosine-0.1"),
        ({"model": of("my.Net", lr_scheduler=of("my_schedules.Saw"), optimizer=of("SGD", lr=1e-05))}, "Saw-1e-05"),
        ({"lr_scheduler": of("OneCycleLR", max_lr=0.5), "optimizer": of("torch.optim.SGD", lr=0.1)}, "OneCycleLR-0.5"),
        ({"lr_scheduler": of("Linear"), "model": of("my.Net", learning_rate=0.02)}, "Linear-0.02"),
        ({"model": Namespace(lr=3)}, "Net-3"),
        ({"model": Namespace(class_path="my.Net", init_args=None)}, "Net"),
    ],
)
def test_schedule_and_peak_rate_make_the_name(config, name):
    assert default_name(Namespace(config), "Net") == name


@pytest.mark.filterwarnings("ignore:Resumed")
def test_a_run_takes_the_next_free_name_and_a_resumed_one_keeps_its_own(command):
    named = [*SHORT, *FOREIGN, "--run_name=base line"]
    for _ in range(2):
        assert command(*named, ONCE, "--lr_scheduler=Cosine") == 0, command.err
    assert folders() == ["base line", "base line-v1"]
    assert "--logdir 'lightning_logs/base line-v1'" in command.out
    # With its own configuration, which has the name without the number, and from the newest checkpoint.
    own = ["--config", "lightning_logs/base line-v1/config.yaml", "--ckpt_path=last"]
    assert command("fit", *own, "--trainer.max_epochs=2") == 0, command.err
    assert command("validate", *own) == 0, command.err
    assert folders() == ["base line", "base line-v1"]
    assert Path("lightning_logs/base line-v1/config_until_step_1.yaml").exists()
    # Another name asks for another run, which begins at the checkpoint.
    checkpoint = "lightning_logs/base line/checkpoints/last.ckpt"
    branch = [*SHORT, *FOREIGN, "--lr_scheduler=Cosine", "--trainer.max_epochs=3", "--ckpt_path", checkpoint]
    assert command(*branch, "--run_name=branch") == 0, command.err
    assert folders() == ["base line", "base line-v1", "branch"]
    assert yaml.safe_load(Path("lightning_logs/base line/config.yaml").read_text())["trainer"]["max_epochs"] == 1


def test_a_logger_of_the_users_gets_the_name_where_it_has_one(command):
    logger = ["--trainer.logger=CSVLogger", "--trainer.logger.save_dir=logs", "--trainer.logger.name=mine"]
    assert command(*SHORT, *FOREIGN, ONCE, *logger, "--run_name=first") == 0, command.err
    assert Path("logs/mine/first/metrics.csv").exists()
    before = sorted(Path().rglob("*"))
    assert command(*SHORT, *FOREIGN, ONCE, *logger, "--run_name=first") == 2
    assert command.err.startswith("error: an earlier run is in logs/mine/first: give the logger another name")
    assert command(*SHORT, *FOREIGN, ONCE, *logger, "--trainer.logger.version=7", "--run_name=first") == 2
    assert "trainer.logger.version=7 names the run already" in command.err
    assert sorted(Path().rglob("*")) == before


@pytest.mark.parametrize(("kind", "option"), [(WandbLogger, "name"), (MLFlowLogger, "run_name")])
def test_other_loggers_keep_the_name_elsewhere(kind, option):
    logger = of(f"lightning.pytorch.loggers.{kind.__name__}")
    name_loggers([True, logger], "mine")
    name_loggers(logger, "mine")  # as in the configuration of such a run
    assert logger.init_args == Namespace({option: "mine"})
    with pytest.raises(InputError, match=f"{option}='mine' names the run already"):
        name_loggers(logger, "other")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["fit", "--run_name=a/b"], "run_name='a/b' cannot be the name of a folder"),
        (["fit", "--run_name="], "cannot be the name of a folder"),
        (["fit", "--run_name=..", ONCE], "cannot be the name of a folder"),
        (["fit", "--run_name=a", "--trainer.logger=false"], "names no run where trainer.logger is false"),
        (["fit", "--run_name=a", "--trainer.logger=tests.foreign.Tracker"], "Tracker has no argument run_name or name"),
        (["fit", "--run_name=a", "--trainer.logger=tests.cli.test_run_name.Board"], "Board has no argument version"),
        (["compare", "--run_name=a"], "give compare a folder (--folder)"),
    ],
)
def test_a_name_that_would_name_nothing_is_refused(command, arguments, told):
    assert command(*arguments) == 2
    assert told in command.err
    assert command.err.count("\n") == 1
    assert not Path("lightning_logs").exists()


def test_preview_takes_the_options_of_fit(command):
    options = ["--run_name=mine", "--lr_scheduler=Cosine", "--png=null"]
    assert command("preview", *options, ONCE) == 0
    assert command("preview", *options, "--epochs=2", "--steps_per_epoch=3") == 0

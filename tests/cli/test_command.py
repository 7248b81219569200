"""The command line, end to end on the real data."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from lit_lrsched import Exponential, Horizon, InverseTime, IonosphereClassifier, Linear, table
from lit_lrsched.__main__ import main
from lit_lrsched.class_paths import import_path
from lit_lrsched.cli.loggers import NewRunLogger, default_logger
from lit_lrsched.comparison.engine.recorder import recording_class
from lit_lrsched.ionosphere.article import inverse_time
from tests.reading import run_folder, scalar_tags, scalars

ROOT = Path(__file__).parents[2]

CLOSED_FORMS = {
    "constant": [0.1] * 50,
    "linear": [0.1 - min(n, 30) / 600 for n in range(50)],
    "exponential": [0.1 * 0.99**n for n in range(50)],
    "custom": [0.1 / (1 + 0.01 * n) for n in range(50)],
}


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_tensorboard_holds_the_learning_rate_of_every_epoch(command, name):
    options = ["--trainer.limit_val_batches=0", "--trainer.limit_test_batches=1"]
    assert command("fit", "--config", f"article/{name}.yaml", *options) == 0
    # an event file keeps single precision
    assert scalars(run_folder(), "lr/group0") == pytest.approx(CLOSED_FORMS[name], rel=1e-6)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["Linear", "--lr_scheduler.end=0.5", "--lr_scheduler.over=3ep"], Linear(1.0, 0.5, "3ep")),
        (["Exponential", "--lr_scheduler.gamma=0.9"], Exponential(0.9)),
        (["InverseTime", "--lr_scheduler.alpha=0.01"], InverseTime(0.01)),
        (["Formula", "--lr_scheduler.factor=1/(1+0.01*epoch)"], InverseTime(0.01)),
        (["Custom", "--lr_scheduler.function=tests.cli.test_command.halved"], lambda step, horizon: 0.5),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
@pytest.mark.parametrize("interval", ["step", "epoch"])
def test_own_schedules_by_name(command, arguments, expected, interval):
    options = ["--trainer.max_epochs=5", "--trainer.limit_val_batches=0", f"--lr_interval={interval}"]
    assert command("fit", "--lr_scheduler", *arguments, *options, "--lr_logger.each_step=true") == 0
    by_step = table(expected, Horizon(55, 11), "step")
    used = scalars(run_folder(), "lr/group0")
    first_of_epoch = [by_step[step - step % 11] for step in range(55)]
    assert used == pytest.approx([0.1 * f for f in (by_step if interval == "step" else first_of_epoch)], rel=1e-6)


def halved(step: int, horizon: Horizon) -> float:
    return 0.5


@pytest.mark.sampled(4)
@pytest.mark.parametrize(
    ("name", "given", "options"),
    [
        ("StepLR", {"step_size": 2, "gamma": 0.5}, []),
        ("MultiStepLR", {"milestones": [2, 4], "gamma": 0.5}, []),
        ("CosineAnnealingLR", {"T_max": 5}, []),
        # Nothing is ever twice as good as before, so the rate falls.
        ("ReduceLROnPlateau", {"mode": "max", "patience": 0, "threshold": 1.0}, ["--lr_monitor=val_acc"]),
        ("LambdaLR", {"lr_lambda": inverse_time}, []),
        ("OneCycleLR", {"max_lr": 0.3, "total_steps": 56}, ["--lr_interval=step"]),
    ],
)
def test_torch_schedulers_by_name(command, name, given, options):
    arguments = {key: import_path(value) if callable(value) else value for key, value in given.items()}
    arguments = [f"--lr_scheduler.{key}={value}" for key, value in arguments.items()]
    assert command("fit", "--lr_scheduler", name, *arguments, *options, "--trainer.max_epochs=5") == 0
    saved = yaml.safe_load((run_folder() / "config.yaml").read_text())
    assert saved["lr_scheduler"]["class_path"] == f"torch.optim.lr_scheduler.{name}"
    metrics = scalars(run_folder(), "val_acc") if name == "ReduceLROnPlateau" else []
    per_epoch = 11 if "--lr_interval=step" in options else 1
    expected = rates_of_torch(name, given, per_epoch, metrics)
    assert scalars(run_folder(), "lr/group0") == pytest.approx(expected, rel=1e-6)


def rates_of_torch(name: str, given: dict, per_epoch: int, metrics: list[float]) -> list[float]:
    """What torch's scheduler sets by itself in five epochs, of which each moves it so many times."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9)
    scheduler = getattr(torch.optim.lr_scheduler, name)(optimizer, **given)
    rates = []
    for tick in range(5 * per_epoch):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step(*metrics[tick : tick + 1])
    assert len(set(rates)) > 1
    return rates


@pytest.fixture
def trained(command):
    """A finished run of two epochs, with what it printed."""
    assert command("fit", "--trainer.max_epochs=2", "--optimizer=SGD", "--optimizer.lr=0.5") == 0
    return command.out


def test_fit_says_what_it_trains_and_ends_with_the_test_metrics_and_the_checkpoint(trained, command):
    first = "Training IonosphereClassifier (1,225 parameters) on IonosphereDataModule with SGD (lr 0.5) and "
    assert f"{first}LinearLR, 2 epochs, on cpu.\n" in trained
    assert "lr=" in trained
    assert re.search(r"test_loss +0\.\d{4}\n +test_acc +0\.\d{4}\n", trained)
    checkpoint = run_folder() / "checkpoints" / "last.ckpt"
    assert trained.endswith(f"TensorBoard: tensorboard --logdir {run_folder()}\nCheckpoint: {checkpoint}\n")
    assert checkpoint.is_file()
    assert command.err == ""
    told = {f"{stage}_{metric}" for stage in ("train", "val", "test") for metric in ("loss", "acc")}
    assert scalar_tags(run_folder()) == {*told, "lr/group0", "loss/train", "loss/val"}
    assert scalars(run_folder(), "loss/val") == scalars(run_folder(), "val_loss")


SHORT = ["--trainer.max_epochs=1", "--trainer.log_every_n_steps=1"]
FOREIGN = ["--model=tests.foreign.MLP", "--data=tests.foreign.Data", *SHORT]


def test_the_bar_ends_with_the_last_rate_that_was_used(command):
    assert command("fit", *FOREIGN, "--optimizer=SGD", "--optimizer.lr=0.5", "--lr_scheduler=Linear") == 0
    steps = int(re.search(r"followed the plan \((\d+) of", command.out)[1])
    assert re.findall(r"lr=([\d.e-]+)", command.out)[-1] == f"{0.5 / steps:.4g}"  # and not the 0 behind the last


def test_test_data_are_for_those_who_ask(command):
    assert command("fit", "--trainer.max_epochs=1", "--test=false") == 0
    assert "test_acc" not in command.out
    told = dict(re.findall(r"^  (val_\w+) +([\d.]+)$", command.out, flags=re.MULTILINE))
    assert {name: float(value) for name, value in told.items()} == {
        name: pytest.approx(scalars(run_folder(), name)[-1], abs=5e-5) for name in ("val_loss", "val_acc")
    }
    assert command("fit", *FOREIGN, "--lr_scheduler=Linear", "--optimizer=SGD", "--optimizer.lr=0.1") == 0
    assert " with SGD (lr 0.1) and Linear, 1 epoch, on cpu." in command.out
    assert "test_acc" not in command.out
    assert "Metrics of the last validation (--test true for the test part):\n  val_" in command.out
    assert command("fit", *FOREIGN, "--test", "true") == 0
    assert "Test metrics of the final weights:\n  test_" in command.out


def test_a_checkpoint_gives_the_same_numbers_as_its_run(trained, command):
    metrics = dict(re.findall(r"(test_\w+) +([\d.]+)", trained))
    checkpoint = str(run_folder() / "checkpoints" / "last.ckpt")

    assert command("test", "--ckpt_path", checkpoint) == 0
    again = dict(re.findall(r"(test_\w+) +│ +([\d.]+)", command.out))
    assert {name: f"{float(value):.4f}" for name, value in again.items()} == metrics

    assert command("validate", "--ckpt_path", checkpoint) == 0
    again = dict(re.findall(r"(val_\w+) +│ +([\d.]+)", command.out))
    assert {name: float(value) for name, value in again.items()} == {
        name: pytest.approx(scalars(run_folder(), name)[-1], rel=1e-6) for name in ("val_loss", "val_acc")
    }

    assert command("predict", "--ckpt_path", checkpoint) == 0
    file = re.search(r"351 predictions: (\S+)", command.out)
    assert file[1] == str(run_folder() / "predictions.csv")
    header, *lines = Path(file[1]).read_text().splitlines()
    assert header == "row,prediction"
    assert [int(line.split(",")[0]) for line in lines] == list(range(351))
    assert all(0 <= float(line.split(",")[1]) <= 1 for line in lines)


def test_what_is_found_out_about_a_checkpoint_goes_into_its_run(trained, command):
    saved = (run_folder() / "config.yaml").read_text()
    checkpoint = str(run_folder() / "checkpoints" / "last.ckpt")
    before = {name: scalars(run_folder(), name) for name in ("val_loss", "test_loss")}
    for subcommand in ("validate", "test", "predict"):
        assert command(subcommand, "--ckpt_path", checkpoint) == 0
    assert [path.name for path in run_folder().parent.iterdir()] == [run_folder().name]
    assert (run_folder() / "config.yaml").read_text() == saved
    for name in ("val_loss", "test_loss"):  # at the step of the checkpoint, which is the last: behind what was there
        assert scalars(run_folder(), name) == pytest.approx([*before[name], before[name][-1]], rel=1e-6)
    assert "epoch" not in scalar_tags(run_folder())
    moved = Path(checkpoint).rename("elsewhere.ckpt")
    assert command("test", "--ckpt_path", str(moved)) == 0  # of no run: it gets a folder of its own
    name = run_folder().name
    assert sorted(path.name for path in Path("lightning_logs").iterdir()) == [name, f"{name}-v1"]


TWO_OUTPUTS = """
import torch
from tests.foreign import MLP, Data


class Net(MLP):
    def predict_step(self, batch, batch_idx):
        return torch.cat([batch[1], -batch[1]], dim=1)


class Rows(Data):
    def predict_dataloader(self):
        return torch.utils.data.DataLoader(self.rows, batch_size=64)
"""


def test_a_model_of_several_outputs_has_a_column_for_each(command):
    Path("two_outputs.py").write_text(TWO_OUTPUTS)
    module = ["--model=two_outputs.Net", "--data=two_outputs.Rows"]
    assert command("fit", *module, *SHORT) == 0
    assert command("predict", *module, "--ckpt_path", str(run_folder() / "checkpoints" / "last.ckpt")) == 0
    header, *lines = (run_folder() / "predictions.csv").read_text().splitlines()
    assert header == "row,prediction_0,prediction_1"
    assert [line.split(",")[0] for line in lines] == [str(number) for number in range(128)]
    assert all(float(line.split(",")[1]) == -float(line.split(",")[2]) for line in lines)


OTHERWISE = """
import torch
from tests.foreign import MLP, Data


class Mean(MLP):
    def test_step(self, batch, batch_idx, dataloader_idx=0):
        self.step("test", batch)

    def predict_step(self, batch, batch_idx, dataloader_idx=0):
        return batch[0].mean()


class ByName(MLP):
    def predict_step(self, batch, batch_idx):
        return {"y": batch[1]}


class Ragged(MLP):
    def predict_step(self, batch, batch_idx):
        return batch[0][:, : 1 + batch_idx]


class Small(MLP):
    def validation_step(self, batch, batch_idx):
        self.log("val_loss", 2.5e-7)


class Lazy(MLP):
    def __init__(self):
        super().__init__()
        self.network = torch.nn.LazyLinear(1)


class Rows(Data):
    def predict_dataloader(self):
        return torch.utils.data.DataLoader(self.rows, batch_size=64)


class Two(Rows):
    def predict_dataloader(self):
        return [super(Two, self).predict_dataloader()] * 2

    test_dataloader = predict_dataloader
"""


def test_other_predictions_than_rows_are_not_written_and_it_says_so(command):
    Path("otherwise.py").write_text(OTHERWISE)
    for model, data in [("Mean", "Rows"), ("ByName", "Rows"), ("Ragged", "Rows"), ("Mean", "Two")]:
        assert command("predict", f"--model=otherwise.{model}", f"--data=otherwise.{data}") == 0
        assert command.out.count("No predictions.csv is written: ") == 1
    assert not list(Path().rglob("predictions.csv"))


def test_several_loaders_are_tested_after_a_fit(command):
    Path("otherwise.py").write_text(OTHERWISE)
    assert command("fit", "--model=otherwise.Mean", "--data=otherwise.Two", "--test=true", *SHORT) == 0
    for number in (0, 1):
        assert re.search(rf"test_loss/dataloader_idx_{number} +0\.\d{{4}}\n", command.out)


def test_small_metrics_keep_their_digits(command):
    Path("otherwise.py").write_text(OTHERWISE)
    assert command("fit", "--model=otherwise.Small", "--data=otherwise.Rows", *SHORT) == 0
    assert "  val_loss  2.5e-07\n" in command.out


def test_lazy_parameters_train(command):
    Path("otherwise.py").write_text(OTHERWISE)
    options = ["--trainer.limit_val_batches=0", *SHORT]
    assert command("fit", "--model=otherwise.Lazy", "--data=otherwise.Rows", *options) == 0
    assert "Training Lazy (lazy parameters) on Rows" in command.out


def test_a_checkpoint_may_lie_in_the_topmost_folder(monkeypatch):
    monkeypatch.setattr(Path, "is_file", lambda _: True)
    logger = default_logger("logs", None, "Cosine", "/last.ckpt", trains=True, by_hand=False)
    assert isinstance(logger, NewRunLogger)


def test_a_checkpoint_holds_plain_values_and_the_options_that_were_given(trained):
    model = IonosphereClassifier.load_from_checkpoint(run_folder() / "checkpoints" / "last.ckpt", weights_only=True)
    assert model.hparams.optimizer["init_args"]["lr"] == 0.5
    assert model.optimizer(model.parameters()).param_groups[0]["lr"] == 0.5
    assert model(torch.zeros(2, 34)).shape == (2, 1)


def test_a_saved_configuration_runs_again(trained, command):
    assert command("fit", "--config", str(run_folder() / "config.yaml")) == 0
    assert scalars(run_folder(1), "train_loss") == scalars(run_folder(), "train_loss")


def test_in_features_follow_the_data(command):
    rows = [f"{n % 7},{n % 5},{n % 3},{'yes' if n % 2 else 'no'}" for n in range(60)]
    Path("small.csv").write_text("\n".join(rows))
    options = ["--data=CSVDataModule", "--data.path=small.csv", "--trainer.max_epochs=1"]
    assert command("fit", *options) == 0
    checkpoint = run_folder() / "checkpoints" / "last.ckpt"
    assert IonosphereClassifier.load_from_checkpoint(checkpoint, weights_only=True).hparams.in_features == 3
    assert command("test", *options[:2], "--ckpt_path", str(checkpoint)) == 0


def test_print_config_parses_again_to_the_same(command):
    for config in [[], ["--config", "article/linear.yaml"], ["--config", "article/custom.yaml"]]:
        assert command("fit", *config, "--print_config") == 0
        first = command.out
        Path("printed.yaml").write_text(first)
        assert command("fit", "--config", "printed.yaml", "--print_config") == 0
        assert command.out == first


def test_a_line_for_each_epoch(command):
    options = ["--lr_logger.print_each_epoch=true", "--trainer.max_epochs=3"]
    assert command("fit", "--config", "article/linear.yaml", *options) == 0
    assert [line for line in command.out.splitlines() if line.startswith("Epoch 0: ")][-1:] == [
        "Epoch 0: SGD lr 0.1000 -> 0.0983"
    ]
    assert "Epoch 2: SGD lr 0.0967 -> 0.0950" in command.out


GOOD_ROWS = "".join(f"0.{n},1.5,{'g' if n % 2 else 'b'}\n" for n in range(10, 40))


@pytest.mark.parametrize(
    ("text", "told"), [(None, ["bad.csv", "file"]), (GOOD_ROWS + "1,abc,g\n", ["row 31, column 2", "'abc'"])]
)
def test_bad_data_is_refused_in_one_line(command, text, told):
    if text is not None:
        Path("bad.csv").write_text(text)
    assert_refused(command, ["--data=CSVDataModule", "--data.path=bad.csv"], *told)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("--data.seed=x", ["seed", "'x'", "int"]),
        ("--data=CSVDataModule --data.path=good.csv --data.positive=h", ["'h'", "'b'", "'g'"]),
        ("--data=CSVDataModule", ["path"]),
        ("--data.batch_size=0", ["batch_size=0"]),
        ("--lr_scheduler ExponentialLr", ["'ExponentialLr'", "did you mean 'ExponentialLR'"]),
        ("--lr_scheduler ExponentialLR", ["ExponentialLR needs gamma", "--lr_scheduler.gamma"]),
        ("--lr_scheduler ReduceLROnPlateau", ["monitor='val_loss'"]),
        ("--optimizer Adem", ["'Adem'", "did you mean 'Adam'"]),
        ("--optimizer SGD --optimizer.lr=fast", ["optimizer.lr", "'fast'", "float"]),
        ("--model.hidden=0", ["hidden=0"]),
        ("--trainer.max_epochs=many", ["trainer.max_epochs", "'many'", "int"]),
        ("--trainer.max_epochs=-1 --lr_scheduler Linear", ["max_epochs=-1", "max_steps"]),
        ("--trainer.accelerator=cuda", ["CUDA"]),
        ("--config nowhere.yaml", ["nowhere.yaml"]),
    ],
)
def test_mistakes_are_answered_in_one_line(command, arguments, told):
    if "cuda" in arguments and torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    Path("good.csv").write_text(GOOD_ROWS)
    assert_refused(command, arguments.split(), *told)


def assert_refused(command, arguments, *told):
    assert command("fit", *arguments) == 2
    assert command.err.startswith("error: ")
    assert command.err.count("\n") == 1
    assert len(command.err) < 300
    for words in told:
        assert words in command.err
    assert {path.name for path in Path().rglob("*")} <= {"good.csv", "bad.csv"}
    assert "Epoch" not in command.out


def run_process(*arguments: str, cwd: Path) -> str:
    command = [sys.executable, "-m", "lit_lrsched", *arguments]
    result = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=300)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_two_processes_agree_with_one(tmp_path):
    options = ["--trainer.max_epochs=3", "--trainer.accelerator=cpu", "--config=article/exponential.yaml"]
    for name, devices in {"one": "1", "two": "2"}.items():
        (tmp_path / name).mkdir()
        strategy = ["--trainer.strategy=ddp"] if devices == "2" else []
        run_process("fit", *options, f"--trainer.devices={devices}", *strategy, cwd=tmp_path / name)
    assert [path.name for path in (tmp_path / "two/lightning_logs").iterdir()] == ["ExponentialLR-0.1"]
    one, two = (scalars(tmp_path / name / "lightning_logs/ExponentialLR-0.1", "lr/group0") for name in ("one", "two"))
    assert one == two
    assert len(two) == 3
    two_devices = ["--trainer.accelerator=cpu", "--trainer.devices=2", "--trainer.strategy=ddp"]
    assert "No predictions.csv is written: that takes one process" in run_process("predict", *two_devices, cwd=tmp_path)


def test_a_race_before_leaves_short_names_as_they_are(command):
    recorded = recording_class(IonosphereClassifier)
    assert command("fit", "--model", recorded.__name__, "--trainer.fast_dev_run=true") == 0


def test_a_log_of_both_streams_has_its_lines_in_order(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO())  # as of a pipe or a file
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "argv", ["lit-lrsched", "--version"])
    main()
    assert stream.buffer.getvalue().startswith(b"lit_lrsched")

"""``--ckpt_path``: what the command says of a checkpoint, and what it shows of the run that goes on from it."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lit_lrsched.cli.checkpoint import checkpoint_path
from lit_lrsched.cli.loggers import default_logger
from lit_lrsched.cli.run_folder import RunFolder
from tests.foreign import MLP
from tests.reading import rows_of

RUN = Path("lightning_logs/run")
LAST = str(RUN / "checkpoints/last.ckpt")
QUIET = ["--run_name=run", "--trainer.enable_progress_bar=false"]
LINEAR = ["--lr_scheduler=Linear", "--lr_scheduler.end=0.1"]


def logged(tag: str, run: Path = RUN) -> dict[int, float]:
    events = EventAccumulator(str(run))
    events.Reload()
    return {point.step: point.value for point in events.Scalars(tag)}


@pytest.mark.filterwarnings("ignore:Resumed")
@pytest.mark.parametrize("policy", ["replan", "keep", "stretch"])
def test_preview_shows_what_the_resumed_run_uses(command, policy):
    longer = [*QUIET, *LINEAR, f"--on_horizon_change={policy}", "--trainer.max_epochs=5", "--ckpt_path", LAST]
    assert command("fit", *QUIET, *LINEAR, "--trainer.max_epochs=3") == 0
    assert command("preview", *longer, "--csv=every.csv") == 0
    assert "resumed here" in command.out
    rows = rows_of("every.csv")
    assert [row["done"] for row in rows] == ["1"] * 33 + ["0"] * 22
    # 3 epochs of 11 steps, then 2 more
    past = [0.1 * (1 - 0.9 * step / 33) for step in range(33)]
    to_come = {
        "replan": [0.1 * (1 - 0.9 * step / 55) for step in range(33, 55)],
        "keep": [0.01] * 22,
        "stretch": [0.01] * 22,
    }[policy]
    assert [float(row["lr/group0"]) for row in rows] == pytest.approx(past + to_come)
    assert command("fit", *longer) == 0, command.err
    used, planned = logged("lr/group0"), logged("lr/group0", RUN / "planned")
    assert planned == pytest.approx({step: float(rows[step]["lr/group0"]) for step in planned})
    assert list(planned) == list(range(55))
    assert {step: value for step, value in used.items() if step >= 33}.items() <= planned.items()


@pytest.mark.filterwarnings("ignore:Resumed")
def test_a_length_that_torch_takes_from_the_checkpoint(command):
    linear = [*QUIET, "--lr_scheduler=LinearLR", "--lr_scheduler.start_factor=0.5", "--optimizer=SGD"]
    linear += ["--optimizer.lr=0.1"]
    assert command("fit", *linear, "--lr_scheduler.total_iters=4", "--trainer.max_epochs=4") == 0
    longer = [*linear, "--lr_scheduler.total_iters=8", "--trainer.max_epochs=8", "--ckpt_path", LAST]
    assert command("preview", *longer, "--csv=every.csv") == 0
    rates = [float(row["lr/group0"]) for row in rows_of("every.csv")]
    assert rates == pytest.approx([0.05, 0.0625, 0.075, 0.0875, 0.1, 0.1, 0.1, 0.1])
    told = (
        "LinearLR is made for total_iters=4 and moves on 8 times in this run, once an epoch: this is the checkpoint's, "
        "in place of the configured 8: take FromTorch('LinearLR'), which plans anew"
    )
    assert f"warning: {told}" in command.out
    assert command("fit", *longer) == 0
    assert f"warning: {told}" in command.out
    assert list(logged("lr/group0", RUN / "planned").values()) == pytest.approx(rates)
    assert list(logged("lr/group0").values()) == pytest.approx(rates)


OF_TORCH = [*QUIET, "--model=tests.foreign.Grouped", "--data=tests.foreign.Data", "--data.batch_size=16"]
OF_TORCH += ["--trainer.log_every_n_steps=1"]


@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`", "ignore:.*ended before the epoch ended")
def test_a_scheduler_of_torch_goes_on_within_an_epoch_that_max_time_cut_short(command):
    # Lightning alone counts the cut epoch as done, and would go without its other five steps.
    run = ["fit", *OF_TORCH, "--trainer.max_epochs=3", "--lr_logger.each_step=true"]
    assert command(*run, "--trainer.max_time=00:00:00:00", "--trainer.min_steps=11") == 0
    assert "learning rate followed the plan (11 of 11 steps; 24 were planned)" in command.out
    assert command(*run, "--ckpt_path", LAST) == 0
    assert "learning rate followed the plan (13 of 13 steps from step 11)" in command.out
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))])
    one_cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=24)
    expected = {}
    for step in range(24):
        expected[step] = one_cycle.get_last_lr()[0]
        optimizer.step()
        one_cycle.step()
    assert logged("lr/first") == pytest.approx(expected)


@pytest.mark.parametrize("subcommand", ["fit", "preview"])
@pytest.mark.parametrize("finder", ["BatchSizeFinder", "LearningRateFinder"])
def test_a_search_that_would_lose_the_checkpoint_is_refused(command, finder, subcommand):
    command("fit", *OF_TORCH, "--trainer.max_epochs=1")
    longer = [*OF_TORCH, "--trainer.max_epochs=2", f"--trainer.callbacks={finder}", "--ckpt_path", LAST]
    assert command(subcommand, *longer) == 2
    told = f"error: {finder} would put the resumed run back to its first step: leave it out when resuming, and set "
    assert told in command.err
    assert [path.name for path in Path("lightning_logs").iterdir()] == ["run"]


@pytest.mark.filterwarnings("ignore:SWA is currently", "ignore:Swapping scheduler", "ignore:\\s*Unable to serialize")
def test_averaging_of_weights_is_announced_beside_a_scheduler_of_torch_too(command):
    averaging = ["--trainer.callbacks=StochasticWeightAveraging", "--trainer.callbacks.swa_lrs=0.05"]
    with pytest.warns(UserWarning, match="the plan holds until then") as told:
        assert command("fit", *OF_TORCH, *averaging, "--trainer.max_epochs=3") == 0
    assert [str(one.message) for one in told if "the plan holds until then" in str(one.message)] == [
        "StochasticWeightAveraging sets the learning rate itself from its swa_epoch_start on: the plan holds until then"
    ]


@pytest.mark.filterwarnings("ignore:Resumed")
@pytest.mark.parametrize("policy", ["keep", "stretch"])
def test_a_kept_curve_at_0_is_a_warning(command, policy):
    assert command("fit", *QUIET, "--lr_scheduler=Linear", "--trainer.max_epochs=1") == 0
    longer = [*QUIET, "--lr_scheduler=Linear", f"--on_horizon_change={policy}", "--trainer.max_epochs=3"]
    told = (
        "warning: the learning rate is 0 from step 11 (epoch 1) to the end: that trains nothing: "
        f"on_horizon_change='{policy}' follows the curve of the checkpoint: choose 'replan', or end it above 0\n"
    )
    for subcommand in ("preview", "fit"):
        assert command(subcommand, *longer, "--ckpt_path", LAST) == 0
        assert told in command.out


def test_the_last_checkpoint_is_that_of_the_newest_run(command):
    for hidden in (3, 5):
        assert command("fit", *QUIET, "--trainer.max_epochs=1", f"--model.hidden={hidden}") == 0
    longer = [*QUIET, "--trainer.max_epochs=2", "--ckpt_path=last"]
    assert command("preview", *longer) == 0, command.err
    assert "resumed here" in command.out
    assert command("fit", *longer) == 0, command.err
    assert {path.name for path in Path("lightning_logs").iterdir()} == {"run", "run-v1"}
    run = Path("lightning_logs/run-v1")
    assert torch.load(run / "checkpoints/last.ckpt", weights_only=True)["global_step"] == 22
    assert yaml.safe_load((run / "config.yaml").read_text())["trainer"]["max_epochs"] == 2


@pytest.mark.parametrize("written", ["meta.pt", "latest"])
def test_a_folder_that_several_processes_wrote_is_a_checkpoint(command, in_tmp, written):
    folder = Path("lightning_logs/run/checkpoints/last.ckpt")
    folder.mkdir(parents=True)
    torch.save({"global_step": 7, "epoch": 1}, folder / written)
    assert checkpoint_path("last") == checkpoint_path(str(folder)) == str(folder)
    assert command("preview", "--ckpt_path=last") == 2
    assert command.err == (
        f"error: ckpt_path='{folder}' was written by several processes, and a preview, which is one, cannot read it: "
        "leave it out; the fit says at which step it goes on\n"
    )
    assert RunFolder(str(folder)).goes_on("lightning_logs/run")
    goes_on = default_logger(".", None, "new", str(folder), trains=True, by_hand=False)
    assert goes_on.version == ("run" if written == "meta.pt" else "new")  # DeepSpeed's does not say how far it was


def test_what_lightning_looks_up_is_left_to_it(command, monkeypatch):
    assert command("fit", "--ckpt_path=registry:net") == 2
    assert "is in Lightning's registry of models: install litmodels, or give a file" in command.err
    litmodels = ModuleType("litmodels")
    litmodels.__spec__ = ModuleSpec("litmodels", None)
    monkeypatch.setitem(sys.modules, "litmodels", litmodels)
    for given in ("best", "hpc", "registry:net:version:2", "s3://bucket/last.ckpt"):
        assert checkpoint_path(given) == given
    assert command("preview", "--ckpt_path=registry:net") == 2
    told = "is looked up by the fit, and a preview cannot: give its file, or leave it out"
    assert command.err == f"error: ckpt_path='registry:net' {told}\n"


@pytest.mark.parametrize("subcommand", ["fit", "preview", "test"])
def test_no_last_checkpoint(command, subcommand):
    assert command(subcommand, "--ckpt_path=last") == 2
    assert command.err == "error: ckpt_path='last': there is no checkpoint in lightning_logs: train first\n"
    assert not Path("lightning_logs").exists()


def test_the_configuration_until_then_is_kept(command):
    first = [*QUIET, "--trainer.max_epochs=1"]
    assert command("fit", *first) == 0
    before = (RUN / "config.yaml").read_text()
    assert command("fit", *first, "--ckpt_path", LAST) == 0
    assert "Nothing is left to train" in command.out
    assert (RUN / "config.yaml").read_text() == before
    assert command("fit", *QUIET, "--trainer.max_epochs=2", "--ckpt_path", LAST) == 0
    assert (RUN / "config_until_step_11.yaml").read_text() == before
    assert yaml.safe_load((RUN / "config.yaml").read_text())["trainer"]["max_epochs"] == 2


@pytest.mark.sampled(5)
@pytest.mark.parametrize("subcommand", ["fit", "preview"])
@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("cut", "it is damaged"),
        ("folder", "is a folder: give the file in it, such as last.ckpt"),
        ("absent", "there is no such checkpoint"),
        ("weights", "it has weights alone, and a run cannot go on from these"),
        ("another model", "its weights are those of another model: give one of this model"),
    ],
)
def test_a_checkpoint_that_does_not_serve(command, subcommand, kind, told):
    short = [*QUIET, "--trainer.max_epochs=1", "--trainer.limit_train_batches=1"]
    if kind not in ("folder", "absent"):
        assert command("fit", *short) == 0
        checkpoint = torch.load(LAST, weights_only=True)
        if kind == "weights":
            checkpoint = {key: checkpoint[key] for key in ("state_dict", "global_step", "pytorch-lightning_version")}
        elif kind == "another model":
            checkpoint["state_dict"] = {"other": torch.zeros(1)}
        torch.save(checkpoint, "a.ckpt")
        if kind == "cut":
            Path("a.ckpt").write_bytes(Path("a.ckpt").read_bytes()[:900])
    elif kind == "folder":
        Path("a.ckpt").mkdir()
    folders = sorted(Path("lightning_logs").glob("*"))
    assert command(subcommand, *short, "--ckpt_path=a.ckpt") == 2
    (line,) = [line for line in command.err.splitlines() if line.startswith("error")]
    assert line.startswith("error: ckpt_path='a.ckpt'")
    assert told in line
    assert sorted(Path("lightning_logs").glob("*")) == folders


@pytest.mark.filterwarnings("ignore:Resumed")
def test_a_new_peak_rate_counts_and_is_told_in_the_first_line(command):
    options = [*QUIET, *LINEAR, "--optimizer=SGD"]
    assert command("fit", *options, "--optimizer.lr=0.1", "--trainer.max_epochs=1") == 0
    assert command("fit", *options, "--optimizer.lr=0.5", "--trainer.max_epochs=2", "--ckpt_path", LAST) == 0
    assert "with SGD (lr 0.5) and Linear" in command.out
    assert logged("lr/group0")[21] == pytest.approx(0.5 * (1 - 0.9 * 21 / 22))


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("before", "now", "lacks"),
    [("Adam", "SGD", "momentum"), ("SGD", "Adam", "betas"), ("RMSprop", "SGD", "dampening"), ("Adam", "AdamW", "")],
)
def test_a_checkpoint_of_another_optimizer(command, before, now, lacks):
    options = [*QUIET, "--lr_scheduler=Constant", "--trainer.limit_train_batches=1"]
    assert command("fit", *options, f"--optimizer={before}", "--trainer.max_epochs=1") == 0
    for subcommand, refused in (("preview", 1), ("fit", 2)):
        resumed = [*options, f"--optimizer={now}", "--trainer.max_epochs=2", "--ckpt_path", LAST]
        assert command(subcommand, *resumed) == (refused if lacks else 0)
        told = f"the checkpoint is of another optimizer than {now}, one without {lacks}: go on with"
        assert (told in " ".join((command.out + command.err).split())) == bool(lacks)


class ByHand(MLP):
    """Optimizes by hand: with two optimizers after each batch, or with one after every second."""

    def __init__(self, optimizers: int = 2) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.automatic_optimization = False

    def training_step(self, batch, batch_idx):
        loss = self.step("train", batch)
        self.manual_backward(loss)
        for optimizer in self.own_optimizers:
            if len(self.own_optimizers) == 2 or batch_idx % 2:
                optimizer.step()
                optimizer.zero_grad()
        self.log("batch", float(batch_idx), on_step=True, on_epoch=False)

    @property
    def own_optimizers(self):
        return [found] if not isinstance(found := self.optimizers(), list) else found

    def configure_optimizers(self):
        parts = [self.network[0], self.network[-1]][: self.hparams.optimizers]
        return [torch.optim.SGD(part.parameters(), lr=0.1) for part in parts]


@pytest.mark.parametrize("optimizers", [1, 2])
def test_what_a_module_logs_that_optimizes_by_hand_is_there_once(command, optimizers):
    options = ["--model=tests.cli.test_resume.ByHand", f"--model.optimizers={optimizers}", "--data=tests.foreign.Data"]
    options += ["--data.batch_size=16", *QUIET, "--trainer.log_every_n_steps=1", "--lr_logger.each_step=true"]
    options += ["--trainer.callbacks=ModelCheckpoint", "--trainer.callbacks.save_top_k=-1"]
    assert command("fit", *options, "--trainer.max_epochs=3") == 0, command.err
    (first,) = RUN.glob("checkpoints/epoch=0*.ckpt")
    assert command("fit", *options, "--trainer.max_epochs=3", "--ckpt_path", str(first)) == 0, command.err
    events = EventAccumulator(str(RUN))
    events.Reload()
    for tag in [tag for tag in events.Tags()["scalars"] if tag.startswith(("batch", "lr/"))]:
        assert [point.step for point in events.Scalars(tag)] == list(range(24)), tag
    assert command("test", *options, "--ckpt_path", str(first)) == 0, command.err
    assert set(logged("test_loss")) == {8}

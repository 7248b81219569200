"""Forecasts against what is known: the exact loss of SGD on least squares, and curves of real language models."""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
import yaml
from lightning.pytorch import Callback, LightningModule, Trainer

from lit_lrsched import (
    Constant,
    Cosine,
    CosineRestarts,
    Horizon,
    InputError,
    Linear,
    LoggedRun,
    WarmupCosine,
    WarmupStableDecay,
    forecast,
    table,
)
from lit_lrsched.forecasting.best_schedule import family_of
from lit_lrsched.forecasting.discrepancy import USUAL, Sizes, usual_sizes
from lit_lrsched.forecasting.fitting import fit, observed
from lit_lrsched.forecasting.judgement import undecided
from lit_lrsched.forecasting.laws import BASELINE
from lit_lrsched.forecasting.log_columns import logged_path, read_csv
from lit_lrsched.forecasting.reading import read_runs
from lit_lrsched.forecasting.words import verdict
from tests.forecasting.least_squares import expected_losses

DATA = Path(__file__).parents[2].parent / "shared" / "data" / "llm_curves"
needs_data = pytest.mark.skipif(not DATA.exists(), reason=f"the curves of language models are not there: {DATA}")

ASKED = {
    "constant": Constant(),
    "linear": Linear(),
    "cosine": Cosine(),
    "wsd": WarmupStableDecay("2%", "20%", Linear()),
}


@cache
def sgd(name: str, lr: float, steps: int) -> LoggedRun:
    rates = lr * np.array(table(ASKED[name], Horizon(steps)))
    counts = np.arange(20, steps + 1, 20)
    return LoggedRun(counts, expected_losses(rates)[counts], rates, f"{name} at {lr:g}")


@cache
def of_sgd():
    runs = [sgd("constant", 0.05, 1000), sgd("linear", 0.05, 1000), sgd("wsd", 0.1, 1000)]
    return forecast(runs, ASKED, lrs=[0.05, 0.1], steps=[1000, 2000])


def test_sgd_on_least_squares_is_forecast():
    found = of_sgd()
    inside = 0
    for row in found.table:
        true = sgd(row["schedule"], row["lr"], row["steps"]).losses[-1]
        assert row["loss"] == pytest.approx(true, rel=0.05), row
        inside += row["low"] <= true <= row["high"]
    assert inside >= 0.8 * len(found.table)


def test_the_schedule_that_is_best_is_not_ruled_out():
    true = {(name, lr): sgd(name, lr, 2000).losses[-1] for name in ASKED for lr in (0.05, 0.1)}
    assert min(true, key=true.get)[0] in of_sgd().tied


def test_a_table_is_sorted_and_its_curve_ends_there():
    found = of_sgd()
    losses = [row["loss"] for row in found.table]
    assert losses == sorted(losses)
    assert list(found.table[0]) == ["schedule", "lr", "steps", "loss", "low", "high"]
    row = found.table[0]
    curve = found.curve(row["schedule"], row["lr"], row["steps"])
    assert curve.steps[-1] == row["steps"]
    ends = curve.losses[-1], curve.low[-1], curve.high[-1]
    assert ends == pytest.approx((row["loss"], row["low"], row["high"]), rel=1e-4)


def test_a_wider_level_is_wider():
    found = of_sgd()
    for narrow, wide in zip(found.at_level(0.8), found.table, strict=True):
        assert wide["low"] < narrow["low"] < narrow["loss"] < narrow["high"] < wide["high"]


def test_steps_at_the_rate_0_come_before_a_forecast():
    """The laws have no loss before the first step whose rate is above 0."""
    frozen = np.append(np.zeros(600), sgd("linear", 0.1, 400).rates)
    run = LoggedRun([200, *range(620, 1001, 20)], [5.0, *sgd("linear", 0.1, 400).losses], frozen)
    runs = [sgd("constant", 0.05, 1000), sgd("wsd", 0.1, 1000), run]
    found = forecast(runs, {"late": lambda step, horizon: step > 600})
    curve = found.curve("late", 0.1, 1000)
    assert curve.steps[0] == 602
    assert np.isfinite(curve.losses).all()
    assert (np.diff(curve.losses) < 0).all()


def test_only_what_was_asked_has_a_curve():
    with pytest.raises(InputError, match=r"schedule='Cosin' was not asked for \(did you mean 'cosine'\?\)"):
        of_sgd().curve("Cosin", 0.1, 1000)


def test_a_forecast_is_a_screen_and_a_picture():
    found = of_sgd()
    text = repr(found)
    assert found.verdict.split(".")[0] in " ".join(text.split())
    assert len(text.splitlines()) < 40
    assert max(map(len, text.splitlines())) <= 100
    assert "data:image/png;base64," in found._repr_html_()
    figure, axes = found.plot()
    assert axes.figure is figure
    assert axes.get_yticklabels()[0].get_text().startswith(found.table[0]["schedule"])


def test_what_is_far_is_said():
    runs = [sgd("constant", 0.05, 1000), sgd("linear", 0.05, 1000), sgd("wsd", 0.1, 1000)]
    verdict = forecast(runs, {"cosine": Cosine()}, lrs=[0.4], steps=[5000]).verdict
    assert "5,000 steps are more than 3 times the longest run (1,000)" in verdict
    assert "no run had a rate above 0.1 (asked: 0.4)" in verdict


def test_rates_that_rise_again_are_told_where_no_run_has_such():
    runs = [sgd("constant", 0.05, 1000), sgd("linear", 0.05, 1000)]
    asked = {"restarts": CosineRestarts("20%"), "cosine": Cosine()}
    told = "no run's rate rose again after it had fallen, as that of restarts would"
    assert told in forecast(runs, asked, lrs=[0.05], steps=[1000]).verdict
    rates = 0.05 * np.array(table(asked["restarts"], Horizon(1000)))
    counts = np.arange(20, 1001, 20)
    such = LoggedRun(counts, expected_losses(rates)[counts], rates, "restarts")
    assert told not in forecast([*runs, such], asked, lrs=[0.05], steps=[1000]).verdict


@pytest.mark.sampled(2)
@pytest.mark.parametrize(("warmup", "length"), [(0, 30), (48, 240), (200, 1000), (2160, 72_000)])
def test_the_family_fits_its_length(warmup, length):
    rates = np.minimum(np.arange(length) / max(warmup, 1), 1.0) * np.linspace(1, 0, length) + 1e-9
    run = LoggedRun([length // 2, length], [3.0, 2.0], rates)
    for name, schedule in family_of([run], length).items():
        factors = table(schedule, Horizon(length))
        assert max(factors) == 1.0, name
        assert factors[-1] < 1.0, name
        assert np.argmax(factors) == run.path.warmup, name


def test_the_surest_is_said_where_it_is_not_the_lowest():
    rows = [
        {"schedule": "wide", "lr": 0.2, "steps": 10, "loss": 1.0, "low": 0.5, "high": 2.0},
        {"schedule": "narrow", "lr": 0.1, "steps": 10, "loss": 1.1, "low": 1.0, "high": 1.2},
    ]
    assert (
        verdict(rows, [])[-1]
        == "The surest is narrow at 0.1: its interval ends at 1.2, that of the best forecast at 2."
    )
    assert not any("surest" in sentence for sentence in verdict(rows[::-1], []))
    assert not any("surest" in sentence for sentence in verdict(rows[:1], rows[1:]))


def test_a_lead_is_a_part_of_the_other_loss():
    rows = [
        {"schedule": name, "lr": 0.1, "steps": 10, "loss": loss, "low": loss, "high": loss}
        for name, loss in (("a", 1.0), ("b", 4.0))
    ]
    assert verdict(rows[:1], rows[1:]) == ["a at the peak rate 0.1 is best: a loss of 1 after 10 steps, 75 % below b."]


def usual_at(floor: float) -> Sizes:
    rates = 0.05 * np.array([table(ASKED[name], Horizon(500)) for name in ("constant", "linear")])
    counts = np.arange(10, 501, 10)
    runs = [LoggedRun(counts, expected_losses(row, noise=0.0, floor=floor)[counts], row) for row in rates]
    points, units = observed(runs)
    return usual_sizes(fit(BASELINE, points, units), points)


def test_more_is_open_where_the_loss_falls_fast():
    assert usual_at(floor=10.0) == USUAL  # falls by 1 % over a doubling
    fast = usual_at(floor=0.01)  # by 30 %
    assert fast.length / USUAL.length == fast.shape / USUAL.shape == pytest.approx((0.3 / 0.025) ** 0.5, rel=0.3)
    assert (fast.peak, fast.own) == (USUAL.peak, USUAL.own)


def test_differences_larger_than_their_error_are_told():
    shared = 0.1**2 * np.ones((3, 3)) + 0.001**2 * np.eye(3)  # all are off together, hardly from each other
    assert undecided(np.array([1.02, 1.0, 1.001]), shared, freedom=20.0).tolist() == [1, 2]
    assert undecided(np.array([1.02, 1.0, 1.001]), 0.1**2 * np.eye(3), freedom=20.0).tolist() == [1, 2, 0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lrs": [0.0]}, "lrs=0.0 has to be a finite number above 0"),
        ({"steps": [0]}, "steps=0 has to be a whole number of at least 2"),
        ({"schedules": {}}, "nothing is asked"),
        ({"schedules": [Cosine()]}, "schedules has to be a dict"),
        ({"schedules": {"a": WarmupStableDecay("5ep", "5ep")}}, "counts in epochs, and a forecast in steps"),
        ({"lrs": 0.1}, "lrs=0.1 is no list: give one, like "),
        ({"steps": 50_000}, "steps=50000 is no list: give one, like "),
        ({"steps": "1000"}, "steps='1000' is no list"),
        ({"schedules": {1: Cosine()}}, "schedules has to be a dict of schedules by name"),
        ({"schedules": {"a": Constant(0.0)}}, "'a' over 1,000 steps: Constant is 0 at every step of 1000"),
        ({"schedules": {"a": WarmupCosine("900st")}, "steps": [1000, 500]}, "'a' over 500 steps: warmup='900st' needs"),
    ],
)
def test_questions_that_cannot_be_answered(arguments, message):
    with pytest.raises(InputError, match=message):
        forecast([sgd("constant", 0.05, 1000), sgd("linear", 0.05, 1000)], **arguments)


@pytest.mark.parametrize("runs", [None, 3])
def test_runs_that_are_none(runs):
    with pytest.raises(InputError, match=f"runs: {runs} is not a run"):
        forecast(runs)


def test_a_best_schedule_has_a_length():
    assert of_sgd().best_schedule(1000)[2] > of_sgd().best_schedule()[2]
    with pytest.raises(InputError, match="steps=0 has to be a whole number of at least 2"):
        of_sgd().best_schedule(0)


def of_25m(name: str) -> LoggedRun:
    log = read_csv(DATA / "25M" / f"{name}.csv", name)
    column = log.columns["loss"]
    return LoggedRun(column.steps, column.values, logged_path(log.rate()), name)


@needs_data
def test_curves_of_a_language_model_are_forecast():
    """Six curves that were not seen, three of them of other shapes and two three times as long, to 0.2 %."""
    found = forecast([of_25m(name) for name in ("cosine_24000", "constant_24000", "wsdcon_9")])
    unseen = ("constant_72000", "cosine_72000", "wsd_20000_24000", "wsdld_20000_24000", "wsdcon_3", "wsdcon_18")
    errors, inside = [], []
    for name in unseen:
        run = of_25m(name)
        curve = found.of_path(run.path)
        off = np.interp(run.steps, curve.steps, curve.losses) / run.losses - 1
        errors.append(np.abs(off).mean())
        inside.append(float(np.interp(run.steps[-1], curve.steps, curve.low)) <= run.losses[-1])
    assert np.mean(errors) <= 0.002
    assert all(inside)


def test_the_command_reads_a_list_of_foreign_logs(command):
    for name in ("constant", "linear", "wsd"):
        run = sgd(name, 0.05, 1000)
        with open(f"{name}.csv", "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["step", "loss"])
            writer.writerows(zip(run.steps, run.losses, strict=True))
    wsd = {
        "class_path": "WarmupStableDecay",
        "init_args": {"warmup": "2%", "decay": "20%", "shape": {"class_path": "Linear"}},
    }
    entries = [{"log": f"{name}.csv", "lr": "5e-2", "steps": 1000} for name in ("constant", "linear", "wsd")]
    for entry, schedule in zip(entries, ("Constant", "Linear", wsd), strict=True):
        entry["schedule"] = schedule
    Path("runs.yaml").write_text(yaml.safe_dump(entries))
    asked = ["--schedules", "Cosine,Linear", "--steps", "1000,2000"]
    assert command("forecast", "runs.yaml", *asked, "--csv=t.csv", "--png=p.png", "--export=best.yaml") == 0
    assert "3 runs of 1,000 steps, peak rates 0.05." in command.out
    rows = list(csv.DictReader(Path("t.csv").read_text().splitlines()))
    assert {(row["schedule"], row["steps"]) for row in rows} == {
        (name, steps) for name in ("Cosine", "Linear") for steps in ("1000", "2000")
    }
    assert Path("p.png").read_bytes().startswith(b"\x89PNG")
    assert command("fit", "--config=best.yaml", "--optimizer=SGD", "--optimizer.lr=0.05", "--trainer.max_steps=30") == 0
    assert "followed the plan (30 of 30 steps)" in command.out


def test_the_command_reads_what_fit_wrote(command):
    step = ["StepLR", "--lr_scheduler.step_size=2"]
    # In epochs, logged step by step, at the rates of the model's own optimizer, and one after a metric.
    foreign = ["--model=tests.foreign.Grouped", "--data=tests.foreign.Data"]
    cases = (
        (["Linear"], "TensorBoardLogger", []),
        (step, "CSVLogger", []),
        (["WarmupCosine", "--lr_scheduler.warmup=1ep"], "TensorBoardLogger", foreign),
        (["ReduceLROnPlateau"], "CSVLogger", ["--lr_monitor=val_loss"]),
    )
    for schedule, logger, more in cases:
        where = ["--trainer.logger", logger, "--trainer.logger.save_dir=."]
        assert command("fit", "--lr_scheduler", *schedule, "--trainer.max_epochs=3", *where, *more) == 0, command.err
    folders = sorted(map(str, Path("lightning_logs").iterdir()))
    assert command("forecast", *folders, "--steps=33") == 0, command.err
    assert "4 runs of 6 to 33 steps" in command.out
    # The rates are those of the schedule, whatever was logged, but where a metric decides.
    assert "interpolated" not in command.out
    assert "version_3: its configuration has no schedule that is a function of the step" in command.out
    said = " ".join(command.out.split())
    assert "that of the first param group, lr/first; those of lr/last keep their ratio to it." in said


class UsedRates(Callback):
    """Records the rate of every optimizer step of the last training."""

    of_last: ClassVar[list[float]] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.of_last.clear()

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        self.of_last.append(optimizer.param_groups[0]["lr"])


@pytest.mark.sampled(4)
@pytest.mark.parametrize("logger", [[], ["--trainer.logger=TensorBoardLogger", "--trainer.logger.save_dir=."]])
@pytest.mark.parametrize(
    "schedule",
    [
        ["WarmupCosine", "--lr_scheduler.warmup=2ep"],
        ["MultiStep", "--lr_scheduler.milestones=[2ep, 4ep]"],
        ["Cosine", "--lr_interval=epoch"],
        ["CosineAnnealingLR", "--lr_scheduler.T_max=6"],
        # Worse at each validation; its rates are those logged, which are held until they change.
        ["Plateau", "--lr_scheduler.patience=0", "--lr_scheduler.threshold=9", "--lr_scheduler.threshold_mode=abs"],
    ],
)
def test_a_schedule_that_changes_with_the_epochs_is_read(command, schedule, logger):
    """With an epoch of 6 steps, the last of a single batch, and a log with a validation in every other epoch."""
    options = ["--trainer.max_epochs=6", "--trainer.accumulate_grad_batches=2", "--trainer.check_val_every_n_epoch=2"]
    hook = "--trainer.callbacks=tests.forecasting.test_forecast.UsedRates"
    assert command("fit", "--lr_scheduler", *schedule, *options, *logger, hook) == 0, command.err
    (folder,) = Path("lightning_logs").iterdir()
    read = read_runs(folder)
    assert len(UsedRates.of_last) == 36
    assert read.runs[0].rates == pytest.approx(UsedRates.of_last, rel=1e-5)
    assert not any("interpolated" in note for note in read.notes)


LISTED = "[{{log: a.csv, schedule: Constant, {}}}]"  # a YAML list of one foreign log


@pytest.mark.parametrize(
    ("files", "arguments", "message"),
    [
        ({}, [], "error: name the runs"),
        ({}, ["no.csv"], "error: no.csv does not exist"),
        ({}, ["a.csv", "--png=p.jpg"], "png='p.jpg' cannot be written: a picture ends in .png, .pdf or .svg"),
        ({"a.csv": "step,lr\n1,0.1\n"}, ["a.csv"], "has no column that looks like a loss: it has lr"),
        ({"a.csv": "step,loss\n1,2.0\n"}, ["a.csv"], "has no column 'lr' with the learning rate"),
        ({"a.csv": "lr,loss\n1,2.0\n"}, ["a.csv"], "has no column 'step'"),
        ({"a.csv": "step;lr;loss\n1;1;2\n"}, ["a.csv"], "it has step;lr;loss: give the one with the optimizer steps"),
        ({"a.csv": "step,lr,loss,loss\n1,1,2,3\n"}, ["a.csv"], "a.csv has two columns 'loss': rename or delete one"),
        ({"a.csv": "step\n"}, ["a.csv"], "has no rows"),
        (
            {"a.json": '{"log_history": []}'},
            ["a.json"],
            "a.json is JSON: write what it logs, such as log_history, as a",
        ),
        ({"a.csv": "\n[\n{}\n]\n"}, ["a.csv"], "a.csv is JSON"),
        ({"a.csv": "step,key,value\n1,loss,2\n1,lr,1\n"}, ["a.csv"], "has a row for each value of any metric"),
        ({"a.csv": "step,lr,loss\n1e19,1,3\n2e19,1,2\n"}, ["a.csv"], "a.csv has the step 1e+19: count optimizer steps"),
        ({"a.csv": "step,lr,loss\n1,1,tensor(3.0)\n"}, ["a.csv"], "a.csv has no finite number in its column 'loss'"),
        ({"a.yaml": "[{log: a.csv, lr: 1}]"}, ["a.yaml"], "a.yaml, a.csv: lr is stated without the schedule"),
        ({"a.yaml": LISTED.format("lr: true")}, ["a.yaml"], "a.yaml, a.csv: lr=True has to be a finite number above 0"),
        (
            {"a.csv": "step,lr,loss_scale,nll\n" + "".join(f"{step},1,8,2\n" for step in range(9))},
            ["a.csv"],
            "from 8 to 8: a forecast needs a loss that falls in training (the loss is loss_scale, not nll)",
        ),
        ({"a.csv": 'step,lr,loss\n"' + 70_000 * "1\n"}, ["a.csv"], "a.csv cannot be read: field larger than"),
        ({"a.csv": "step,lr,loss\n1,0.1,3\n2,0.1,2\n"}, ["a.csv"], "single run of a constant rate"),
        (
            {"a.csv": "step,lr,loss\n1,1,3\n", "b.csv": "step,lr,val_loss\n1,1,3\n"},
            ["a.csv", "b.csv"],
            "different loss",
        ),
        ({"a.csv": "step,lr,loss\n1,1,3\n"}, ["a.csv", "--loss=los"], "no column 'los' (did you mean 'loss'?)"),
        ({"a.yaml": "{log: a.csv}"}, ["a.yaml"], "a.yaml is no list of runs"),
        ({"a.yaml": "[{file: a.csv}]"}, ["a.yaml"], "unknown key 'file'"),
        ({"a.yaml": "["}, ["a.yaml"], "cannot be read as YAML"),
        ({"a.yaml": LISTED.format("lr: fast")}, ["a.yaml"], "a.yaml, a.csv: lr='fast' has to be a finite number"),
        (
            {"a.yaml": LISTED.format("lr: 1, steps: 3")},
            ["a.yaml"],
            "a.csv: steps=3 has to be a whole number of at least 9",
        ),
        ({"a.yaml": LISTED.format("steps: 9")}, ["a.yaml"], "a.yaml, a.csv: there is no peak rate for the schedule"),
        *(
            ({"a.yaml": f"[{{log: a.csv, lr: 1, schedule: {schedule}}}]"}, ["a.yaml"], f"a.yaml, a.csv: {told}")
            for schedule, told in (
                ("{class_path: Cosine, end: 0.1}", "'end' stands beside class_path: put it into init_args"),
                ("Plateau", "Plateau follows a metric: log its rates in a column lr"),
                ("{class_path: torch.optim.lr_scheduler.StepLR}", "StepLR is no schedule of this package"),
                ("3", "schedule=3 is not a schedule"),
                ("null", "schedule=None is not a schedule"),
            )
        ),
        ({"a.yaml": "[{log: a.csv, loss: [a]}]"}, ["a.yaml"], "a.csv has no column ['a']: it has loss"),
        ({"a.csv": "step,lr,loss\n1,-1,3\n2,1,2\n"}, ["a.csv"], "a: rates have to be finite numbers of at least 0"),
        ({"a.csv": "step,lr,loss\n-2,1,3\n-1,1,2\n"}, ["a.csv"], "a.csv has no number in its column 'lr'"),
        ({"a.csv": "step,lr,loss\n1,x,3\n2,x,2\n"}, ["a.csv"], "a.csv has no number in its column 'lr'"),
        ({"a.csv": "step,lr,loss\n1,,3\n9,0.1,2\n"}, ["a.csv"], "a.csv has its learning rate at step 9 alone"),
    ],
)
def test_a_mistake_is_one_line(command, files, arguments, message):
    Path("a.csv").write_text("step,loss\n1,3.0\n9,2.0\n")
    for name, text in files.items():
        Path(name).write_text(text)
    assert command("forecast", *arguments) == 2
    assert message in command.err
    assert command.err.count("\n") == 1
    assert command.out == ""

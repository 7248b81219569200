"""``lit-lrsched preview`` and what it finds."""

from __future__ import annotations

import contextlib
import inspect
import re
import shlex
import subprocess
import sys
import textwrap
from functools import partial
from pathlib import Path

import pytest
import yaml
from torch.optim import lr_scheduler as torch_schedulers

import lit_lrsched
from lit_lrsched import Cosine, Horizon, Linear, Rex, WarmupCosine, WarmupLinear, table
from lit_lrsched.cli.schedules import sketch
from lit_lrsched.optim.run_plan import plan_of_torch
from lit_lrsched.plans.audit import audit
from lit_lrsched.plans.curve import sample
from lit_lrsched.plans.picture import Look, gallery, picture
from lit_lrsched.plans.plan import plan_of
from lit_lrsched.plans.preview import by_name, preview
from lit_lrsched.plans.view import View
from lit_lrsched.schedules.compose import Chain, Phase, Product
from lit_lrsched.schedules.core import Schedule
from lit_lrsched.schedules.examples import EXAMPLES
from lit_lrsched.schedules.formula import Formula
from lit_lrsched.schedules.plateau import Plateau
from lit_lrsched.schedules.recipes import OneCycle
from lit_lrsched.schedules.shapes import Constant, Exponential, Triangle
from lit_lrsched.trainer.logged_names import logged_names
from tests.catalogue import CATALOGUE
from tests.reading import rows_of, run_folder

CONFIGS = Path(lit_lrsched.__file__).parent / "configs"
SHIPPED = sorted(str(path.relative_to(CONFIGS)) for path in CONFIGS.glob("*/*.yaml"))
BY_HAND = ["preview", "--epochs=50", "--steps_per_epoch=10"]


def nan(step: int, horizon: Horizon) -> float:
    return float("nan")


# --- the command


def test_a_run(command):
    options = ["--lr_scheduler=WarmupCosine", "--lr_scheduler.warmup=5ep", "--csv=every.csv"]
    assert command("preview", *options) == 0
    lines = [line.split() for line in command.out.splitlines() if line.strip()]
    assert lines[0] == ["550", "steps,", "50", "epochs", "of", "11"]
    # 0.1 / 56 at first, and 0.1 * (1 + cos(pi * 494 / 495)) / 2 at last
    assert lines[3][-3:] == ["0", "0", "0.001786"]
    assert " ".join(lines[4]) == "warmup ends, decay begins, peak 55 5 0.1"
    assert lines[5][-3:] == ["549", "49.91", "1.007e-06"]
    rows = rows_of("every.csv")
    factors = table(WarmupCosine("5ep"), Horizon(550, 11))
    assert [float(row["lr/group0"]) for row in rows] == [0.1 * factor for factor in factors]
    assert [(int(row["step"]), int(row["epoch"])) for row in rows] == [(step, step // 11) for step in range(550)]
    assert Path("preview.png").stat().st_size > 10_000
    assert not Path("lightning_logs").exists()


def test_a_trainer_without_anything_around_it(command):
    assert command("preview", "--trainer.max_epochs=2", "--trainer.barebones=true") == 0, command.err
    assert "22 steps, 2 epochs of 11" in command.out


def test_by_hand_the_same_curve(command):
    options = ["--lr_scheduler=WarmupCosine", "--lr_scheduler.warmup=5ep", "--png=null"]
    assert command("preview", *options, "--csv=run.csv") == 0
    table_of_run = command.out.replace("run.csv", "")
    hand = ["--epochs=50", "--steps_per_epoch=11", "--lr=0.1", "--trainer.max_epochs=3"]
    assert command("preview", *hand, *options, "--csv=hand.csv") == 0
    assert command.out.replace("hand.csv", "") == table_of_run
    assert Path("run.csv").read_text().replace("lr/group0", "lr") == Path("hand.csv").read_text()
    assert not Path("preview.png").exists()


def test_a_configuration_written_by_fit(command):
    assert command("fit", "--trainer.max_epochs=2", "--trainer.limit_test_batches=1") == 0
    assert "learning rate followed the plan (22 of 22 steps)\n" in command.out
    saved = str(run_folder() / "config.yaml")
    assert command("preview", "--config", saved) == 0
    assert "22 steps, 2 epochs of 11" in command.out
    assert command(*BY_HAND, "--config", saved) == 0
    assert len(list(Path("lightning_logs").iterdir())) == 1


@pytest.mark.parametrize("schedules", ["[Linear,Cosine]", "Linear,Cosine", "{a: Linear, b: {class_path: Cosine}}"])
@pytest.mark.parametrize("start", [["preview"], BY_HAND], ids=["run", "by hand"])
def test_side_by_side(command, start, schedules):
    assert command(*start, "--schedules", schedules, "--csv=every.csv") == 0
    names = ["a", "b"] if "a:" in schedules else ["Linear", "Cosine"]
    rows = [line.split() for line in command.out.splitlines() if line.strip()]
    assert [row[0] for row in rows[3:5]] == names
    assert {row["schedule"] for row in rows_of("every.csv")} == set(names)


@pytest.mark.parametrize("start", [["preview"], BY_HAND], ids=["run", "by hand"])
@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("--png=.", "'.' cannot be written: it is a folder"),
        ("--png=plots", "'plots' cannot be written: it is a folder"),
        ("--csv=plots", "'plots' cannot be written: it is a folder"),
        ("--png=curve", "'curve' cannot be written: a picture ends in .png, .pdf or .svg"),
    ],
)
def test_a_name_that_no_file_can_have_is_refused_before_the_output(command, start, option, told):
    Path("plots").mkdir()
    assert command(*start, "--lr_scheduler=Cosine", option) == 2
    assert command.err == f"error: {told}: give another file\n"
    assert command.out == ""
    assert [path.name for path in Path().iterdir()] == ["plots"]


def test_a_recorded_metric(command):
    Path("metric.csv").write_text("epoch,val_loss\n" + "".join(f"{n},1.0\n" for n in range(50)))
    options = ["--lr_scheduler=Plateau", "--lr_scheduler.patience=19"]
    assert command(*BY_HAND, *options) == 0
    assert "Plateau is held at 1 until val_loss stalls (then x 0.1, patience 19, mode min)" in command.out
    assert command(*BY_HAND, *options, "--metric=metric.csv") == 0
    # the first value is the best; the 20 after it are no better, and are known after 21 epochs of 10 steps
    assert "metric stalls: x 0.1     210      21" in command.out
    assert "metric stalls: x 0.01    410      41" in command.out


@pytest.mark.parametrize("start", [["preview"], BY_HAND], ids=["run", "by hand"])
@pytest.mark.parametrize(
    "what", ["lr_scheduler=Cosine", "lr_scheduler=StepLR --lr_scheduler.step_size=9", "schedules=Rex"]
)
def test_a_metric_that_no_schedule_follows_is_refused(command, start, what):
    Path("metric.csv").write_text("val_loss\n1.0\n")
    assert command(*start, *f"--{what}".split(), "--lr_monitor=val_loss", "--metric=metric.csv") == 2
    told = "metric='metric.csv' is for a schedule that follows a metric, as Plateau does: leave it out"
    assert command.err == f"error: {told}\n"


@pytest.mark.parametrize("start", [["preview"], BY_HAND], ids=["run", "by hand"])
def test_a_metric_is_replayed_for_the_schedules_that_follow_it(command, start):
    Path("metric.csv").write_text("val_loss\n" + 50 * "1.0\n")
    asked = "{constant: Constant, plateau: {class_path: Plateau, init_args: {patience: 19}}}"
    assert command(*start, f"--schedules={asked}", "--metric=metric.csv", "--png=null") == 0
    assert "plateau: Plateau follows the recorded val_loss, 50 values (x 0.1, patience 19, mode min)." in command.out
    Path("longer.csv").write_text("val_loss\n" + 60 * "1.0\n")
    of_torch = ["--lr_scheduler=ReduceLROnPlateau", "--lr_monitor=val_loss"]
    assert command(*start, *of_torch, "--metric=longer.csv", "--png=null") == 0
    assert "ReduceLROnPlateau follows the recorded val_loss, 60 values for 50 validations." in command.out
    two = "{a: Plateau, b: {class_path: Plateau, init_args: {monitor: val_acc}}}"
    assert command(*start, f"--schedules={two}", "--metric=metric.csv") == 2
    assert "is one metric, and the schedules follow val_acc, val_loss: preview them apart" in command.err


def test_a_metric_from_the_folder_of_a_run(command):
    options = ["--lr_scheduler=Plateau", "--lr_scheduler.patience=3", "--png=null"]
    for number, logger in enumerate(["TensorBoardLogger", "CSVLogger"]):
        run = ["--trainer.max_epochs=2", f"--trainer.logger={logger}", "--trainer.logger.save_dir=."]
        assert command("fit", *run, "--trainer.logger.name=run", f"--trainer.logger.version={number}") == 0
        assert command(*BY_HAND, *options, f"--metric=run/version_{number}") == 0
        assert "Plateau follows the recorded val_loss, 2 values for 50 validations (x 0.1" in command.out
    assert command(*BY_HAND, *options, "--metric=run/version_0", "--lr_monitor=val_los") == 2
    assert "'run/version_0' has no 'val_los' (did you mean 'val_loss'?)" in command.err
    Path("empty").mkdir()
    assert command(*BY_HAND, *options, "--metric=empty") == 2
    assert "it has neither metrics.csv nor event files with values" in command.err


def test_repeated_jumps_are_one_line(command):
    assert command(*BY_HAND, "--lr_scheduler=Step", "--lr_scheduler.every=10ep", "--png=null") == 0
    # at 100, 200, 300 and 400 of 500 steps
    assert "jumps, 4 times 100 ... 400 10 ... 40 0.1 ... 0.0001" in " ".join(command.out.split())
    milestones = "--lr_scheduler.milestones=['10ep','20ep']"
    assert command(*BY_HAND, "--lr_scheduler=MultiStep", milestones, "--png=null") == 0
    assert command.out.count("jumps ") == 2


@pytest.mark.parametrize(
    ("name", "begins"), [("a.png", b"\x89PNG"), ("a.pdf", b"%PDF"), ("a.svg", b"<?xml"), ("b/a.png", b"\x89PNG")]
)
def test_the_picture_is_of_the_kind_that_its_name_says(command, name, begins):
    assert command(*BY_HAND, "--lr_scheduler=Linear", f"--png={name}") == 0
    assert Path(name).read_bytes().startswith(begins)
    assert f"Picture: {name}" in command.out


@pytest.mark.parametrize("start", [["preview"], BY_HAND], ids=["run", "by hand"])
def test_the_look_of_the_picture(command, start):
    assert command(*start, "--lr_scheduler=Cosine", "--log", "--title=", "--size=4,3", "--png=a.svg") == 0
    text = Path("a.svg").read_text()
    assert 'width="288pt" height="216pt"' in text  # 72 points an inch
    assert "Cosine" not in text
    assert command(*start, "--lr_scheduler=Cosine", "--title=My run", "--png=a.svg") == 0
    assert "My run" in Path("a.svg").read_text()
    assert command(*start, "--lr_scheduler=Cosine", "--size=4") == 2
    assert "size=[4.0] is not a width and a height from 1 to 100 inches: give two, like 9,4.5" in command.err
    several = f"--schedules=[{','.join(['Cosine'] * 9)}]"
    assert command(*start, several, "--log", "--png=a.svg") == 2
    assert "title, log and size are for a picture of up to 8 schedules, and these are 9: leave them out" in command.err


@pytest.mark.parametrize(
    ("arguments", "absent"),
    [
        (["--lr_scheduler=Plateau", "--lr_scheduler.schedule=Linear"], ["torch", "lightning"]),
        (["--lr_scheduler=StepLR", "--lr_scheduler.step_size=9", "--config=run.yaml"], ["lightning"]),
    ],
)
def test_by_hand_loads_no_more_than_it_needs(arguments, absent, tmp_path):
    model = {"class_path": "lit_lrsched.IonosphereClassifier", "init_args": {"hidden": 3}}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump({"model": model, "trainer": {"max_epochs": 3}}))
    code = (
        f"import sys; sys.argv[1:] = {[*BY_HAND, *arguments]}\n"
        "from lit_lrsched.__main__ import main\n"
        "try: main()\n"
        f"except SystemExit as stop: assert not stop.code; print([name for name in {absent} if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"


@pytest.fixture(scope="module")
def parser_of_fit():
    """The parser alone: to build all of them for every file takes a while."""
    from lit_lrsched.cli.command import Command

    found = []

    class Parsing(Command):
        def parse_arguments(self, parser, args):
            found.append(self._subcommand_parsers["fit"])
            raise StopIteration

    with contextlib.suppress(StopIteration):
        Parsing()
    return found[0]


@pytest.mark.sampled(5)
@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_configurations_parse_print_and_parse_again(command, parser_of_fit, name):
    first = parser_of_fit.dump(parser_of_fit.parse_args(["--config", str(CONFIGS / name)]))
    Path("printed.yaml").write_text(first)
    assert parser_of_fit.dump(parser_of_fit.parse_args(["--config", "printed.yaml"])) == first
    written = yaml.safe_load((CONFIGS / name).read_text())["lr_scheduler"]
    short_name = written if isinstance(written, str) else written["class_path"]
    assert yaml.safe_load(first)["lr_scheduler"]["class_path"].endswith(f".{short_name}")
    assert command(*BY_HAND, "--config", name, "--png=null") == 0
    assert "failure" not in command.out
    assert "warning" not in command.out


OURS = sorted(name for name in lit_lrsched.__all__ if isinstance(getattr(lit_lrsched, name), type))
SCHEDULES = [name for name in OURS if issubclass(getattr(lit_lrsched, name), Schedule) and name != "Schedule"]
EXPLAINED = [name for name in SCHEDULES if name != "FromTorch"]  # on a page of our own
TORCH = sorted({*torch_schedulers.__all__} - {"LRScheduler", "SequentialLR", "ChainedScheduler"})


@pytest.mark.parametrize("name", [*SCHEDULES, *TORCH])
def test_help_of_every_class(command, name):
    assert command(*BY_HAND, f"--lr_scheduler.help={name}") == 0
    owner = getattr(lit_lrsched, name, None) or getattr(torch_schedulers, name)
    words = " ".join(command.out.split())
    parameters = inspect.signature(owner).parameters
    arguments = {name for name, one in parameters.items() if one.kind is not one.VAR_POSITIONAL}
    arguments -= {"optimizer", "last_epoch"}
    assert [argument for argument in arguments if f"--lr_scheduler.{argument}" not in words] == []
    if name in EXPLAINED:
        assert words.startswith(f"{name} ")
        assert "`" not in words
    else:
        module = "lit_lrsched" if name in SCHEDULES else "torch.optim.lr_scheduler"
        assert f"--lr_scheduler.help={module}.{name}" in words
    if name in SCHEDULES:
        summary = " ".join(owner.__doc__.split("\n\n")[0].split()).rstrip(".")
        if name in EXPLAINED:
            summary = re.sub(r":class:`(\w+)`", r"\1", summary).replace("``", "")
        assert summary in words
        described = words.count("(type:") + words.count("(required, type:") + words.count("default:")
        assert described >= len(owner.__dataclass_fields__)


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_the_example_of_every_class_works(command, name):
    assert command("fit", "--lr_scheduler.help", name) == 0
    page, _, example = command.out.partition("\nexample")
    assert page.split()[1] == sketch(name, 40)
    assert ("30ep epochs, 500st optimizer steps" in page) == ("type: duration" in " ".join(page.split()))
    if "--config" in example.splitlines()[0]:
        Path("example.yaml").write_text(textwrap.dedent(example.split("\n", 1)[1]))
        arguments = [*BY_HAND, "--config=example.yaml"]
    else:
        arguments = shlex.split(example.splitlines()[1])[1:]
    assert command(*arguments, "--csv=every.csv", "--png=null") == 0
    assert "failure" not in command.out
    horizon = Horizon(len(rows_of("every.csv")), 10)
    assert [float(row["factor"]) for row in rows_of("every.csv")] == table(EXAMPLES[name], horizon)


# --- mistakes


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("--lr_scheduler=Linera", ["'Linera'", "did you mean 'Linear'"]),
        ("--lr_scheduler=Exponential", ["Exponential needs gamma", "--lr_scheduler.gamma"]),
        ("--lr_scheduler=Piecewise --lr_scheduler.points=[[0st,1],[0st,2]]", ["out of order"]),
        ('--lr_scheduler=Chain --lr_scheduler.phases=[{"schedule":"Linera"}]', ["'Linera'", "did you mean 'Linear'"]),
        ('--lr_scheduler=Chain --lr_scheduler.phases=[{"schedule":"Linear"},{"schedule":"Rex"}]', ["lasts"]),
        ("--lr_scheduler=Formula --lr_scheduler.factor=1/(1+eppch)", ["'eppch'", "did you mean 'epoch'"]),
        ("--lr_scheduler=Custom --lr_scheduler.function=nowhere.f", ["'nowhere'"]),
        ("--lr_scheduler=Plateau --lr_scheduler.mode=mx", ["'mx'", "'min', 'max'"]),
        ("--lr_scheduler=FromTorch --lr_scheduler.scheduler=StpLR", ["'StpLR'", "did you mean 'StepLR'"]),
        ("--lr_scheduler=StepLR --lr_scheduler.step_size=x", ["step_size", "'x'", "an int"]),
        ("--lr_scheduler=Linear --lr_interval=week", ["'week'", "step", "epoch"]),
        ("--lr_scheduler=Plateau --metric=nowhere.csv", ["nowhere.csv", "cannot be read"]),
        ("--lr_scheduler=Linear --png=picture.xyz", ["picture.xyz", "xyz"]),
        ("--lr_scheduler=Linear --epochs=0", ["epochs=0"]),
        ("--lr_scheduler=Linear --epochs=x", ["epochs", "'x'", "an int"]),
        ("--schedules=Linear,Cosin", ["'Cosin'", "did you mean 'Cosine'"]),
        ("", ["there is no schedule to preview: give --lr_scheduler, such as --lr_scheduler Cosine"]),
    ],
)
def test_a_mistake_is_told_in_a_line(command, arguments, told):
    assert command(*BY_HAND, *arguments.split()) == 2
    assert command.err.startswith("error: ")
    assert command.err.count("\n") == 1
    assert len(command.err) < 300
    for words in told:
        assert words in command.err


ONE_CYCLE = "--lr_scheduler=OneCycleLR --lr_scheduler.max_lr=0.1"
FAILURES = [
    ("--lr_scheduler=WarmupLinear --lr_scheduler.warmup=60ep", ["600 steps", "500", "shorten the warmup"]),
    ('--lr_scheduler=Chain --lr_scheduler.phases=[{"schedule":"Linear","lasts":"600st"}]', ["600 steps", "500"]),
    ("--lr_scheduler=Formula --lr_scheduler.factor=1-2*progress", ["step 251", "at least 0"]),
    ("--lr_scheduler=Custom --lr_scheduler.function=tests.cli.test_preview.nan", ["nan returned nan at step 0"]),
    ("--lr_scheduler=Linear --lr_scheduler.over=5ep", ["0 from step 50 (epoch 5) on", "last 450 of 500 steps"]),
    ("--lr_scheduler=Step --lr_scheduler.every=99ep", ["never changes"]),
    ("--lr_scheduler=StepLR --lr_scheduler.step_size=99", ["StepLR never changes", "step_size=99"]),
    (ONE_CYCLE, ["cannot be made", "total_steps", "correct its arguments"]),
    (f"{ONE_CYCLE} --lr_scheduler.total_steps=500", ["total_steps=500 and moves on 50 times", "set interval='step'"]),
    (f"{ONE_CYCLE} --lr_scheduler.total_steps=9", ["training will stop", "9", "set total_steps=50"]),
    (
        f"{ONE_CYCLE} --lr_scheduler.total_steps=50 --lr_interval=step",
        ["total_steps=50 and moves on 500 times", "set interval='epoch'"],
    ),
    (
        "--lr_scheduler=CosineAnnealingLR --lr_scheduler.T_max=50 --lr_interval=step",
        ["T_max=50 and moves on 500 times", "set interval='epoch'"],
    ),
    ("--lr_scheduler=CosineAnnealingLR --lr_scheduler.T_max=30", ["T_max=30 and moves on 50 times", "climbs again"]),
    ('--lr_scheduler=Linear --lr_groups={"momentun":"Linear"}', ["'momentun'", "did you mean 'momentum'"]),
    (
        '--lr_scheduler=StepLR --lr_scheduler.step_size=9 --lr_groups={"momentum":"Linear"}',
        ["groups go with lit_lrsched's schedules: wrap it, FromTorch('StepLR')"],
    ),
]


@pytest.mark.parametrize(("arguments", "told"), FAILURES)
def test_a_failure_is_told_in_a_line_and_by_the_status(command, arguments, told):
    assert command(*BY_HAND, *arguments.split(), "--png=null") == 1
    (line,) = [line for line in command.out.splitlines() if line.startswith(("failure", "warning"))]
    for words in told:
        assert words in line
    assert command.err == ""


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("--trainer.max_epochs=-1 --lr_scheduler=Linear", ["max_epochs=-1", "max_steps"]),
        ("--trainer.max_epochs=-1", ["max_epochs=-1", "max_steps"]),
        ("--lr_scheduler=WarmupLinear --lr_scheduler.warmup=60ep", ["660 steps", "550"]),
        (
            "--lr_scheduler=ReduceLROnPlateau --lr_scheduler.mode=max --lr_monitor=val_f1",
            ["'val_f1'", "does not log", "*_acc"],
        ),
        (
            "--lr_scheduler=Plateau --lr_scheduler.monitor=val_los --lr_scheduler.mode=min",
            ["'val_los'", "does not log"],
        ),
        ("--lr_scheduler=ReduceLROnPlateau", ["monitor='val_loss'"]),
        ("--optimizer=SGD --optimizer.lr=0 --lr_scheduler=Linear", ["0 at every step", "give the optimizer a rate"]),
        ("--schedules=Linear,WarmupLinear", ["WarmupLinear needs warmup"]),
    ],
)
def test_failures_of_a_run(command, arguments, told):
    incomplete = "--schedules" in arguments  # so there is nothing to preview
    assert command("preview", *arguments.split(), "--png=null") == (2 if incomplete else 1)
    (line,) = [line for line in (command.out + command.err).splitlines() if line.startswith(("failure", "error"))]
    assert line.startswith("error: schedules: " if incomplete else "failure: ")
    for words in told:
        assert words in line
    assert not Path("lightning_logs").exists()


# --- the audit


def findings(schedule, interval="step", steps=500, steps_per_epoch=10):
    make = plan_of_torch if isinstance(schedule, partial) else plan_of
    plan = make(schedule, Horizon(steps, steps_per_epoch), interval)
    return [str(finding) for finding in audit(plan, sample(plan))]


@pytest.mark.parametrize("name", CATALOGUE)
def test_the_catalogue_has_no_failures_where_it_means_none(name):
    found = findings(CATALOGUE[name], steps=100)
    assert not [finding for finding in found if finding.startswith("failure")]


WARNINGS = [
    (Linear(0.1, 1.0), "step", "rises until the last step: the warmup is longer than the run"),
    (Triangle("25ep"), "step", None),
    (Triangle("40ep"), "step", "climbs again from step 400 (epoch 40) on"),
    (Triangle("100ep"), "step", "rises until the last step"),
    (Chain([Phase(Linear(), "80%"), Phase(Linear(0.0, 0.5))]), "step", "climbs again from step 400 (epoch 40) on"),
    (Linear(0.0, 1.0, "10ep"), "step", "the learning rate is 0 until step 1"),
    (
        WarmupLinear("5st"),
        "epoch",
        "'warmup' lasts 5 steps, but the learning rate changes only once an epoch, every 10",
    ),
    (WarmupLinear("5st"), "step", None),
    (WarmupLinear("5st", start=1.0), "step", "the warmup does not rise: it goes from 1 to 1: give a lower start"),
    (WarmupLinear("25st"), "epoch", None),
    (Constant(0.3), "step", None),
    (Plateau(), "step", None),
    (OneCycle(), "epoch", None),
    (Product([Linear(), Exponential(0.99)]), "epoch", None),
    (partial(torch_schedulers.CosineAnnealingLR, T_max=50), "epoch", None),
    (partial(torch_schedulers.CosineAnnealingLR, T_max=49), "epoch", None),
    (partial(torch_schedulers.LinearLR, total_iters=30), "epoch", None),
    (partial(torch_schedulers.LinearLR, total_iters=80), "epoch", "it gets 62 % of its way: set total_iters=50"),
    (partial(torch_schedulers.MultiStepLR, milestones=[10, 90]), "epoch", "milestones=90"),
    (partial(torch_schedulers.ExponentialLR, gamma=0.9), "epoch", None),
    (Formula("0.5"), "step", "never changes"),
    (partial(torch_schedulers.LambdaLR, lr_lambda=lambda epoch: 0.5), "epoch", "never changes"),
]


@pytest.mark.parametrize(("schedule", "interval", "told"), WARNINGS)
def test_warnings(schedule, interval, told):
    found = findings(schedule, interval)
    assert len(found) == (told is not None)
    if told:
        assert found[0].startswith("warning: ")
        assert told in found[0]


@pytest.mark.parametrize("schedule", [Linear(0.0, 1.0), partial(torch_schedulers.LambdaLR, lr_lambda=lambda n: n / 5)])
def test_a_warmup_from_0_by_epochs_trains_nothing_in_a_single_one(schedule):
    why = "the learning rate is 0 at every step, which trains nothing: it changes only once an epoch"
    assert findings(schedule, "epoch", steps=10) == [f"failure: {why}: set interval='step'"]
    assert not findings(schedule, "step", steps=1)  # who asks for a single step tries something else


def test_a_configuration_behind_an_option_of_fit_counts(command):
    Path("run.yaml").write_text(yaml.safe_dump({"lr_scheduler": "Cosine"}))
    assert command(*BY_HAND, "--trainer.accelerator", "cpu", "-c", "run.yaml", "--lr=0.3", "--csv=every.csv") == 0
    assert float(rows_of("every.csv")[1]["lr"]) == 0.3 * table(Cosine(), Horizon(500))[1]


@pytest.mark.parametrize(
    ("typed", "rate"),
    [
        (["--optimizer={class_path: SGD, init_args: {lr: 3e-1}}"], 0.3),
        (["--optimizer", "SGD", "--optimizer.lr", "0.3"], 0.3),
        ([], 0.01),  # of the configuration
        (["--optimizer=SGD"], None),  # which takes its place, its rate included
    ],
)
def test_by_hand_the_rate_of_the_optimizer_counts(command, typed, rate):
    Path("run.yaml").write_text(yaml.safe_dump({"optimizer": {"class_path": "Adam", "init_args": {"lr": 0.01}}}))
    assert command(*BY_HAND, "--config=run.yaml", "--lr_scheduler=Constant", *typed, "--csv=every.csv") == 0
    first = rows_of("every.csv")[0]
    assert float(first["lr" if rate else "factor"]) == (rate or 1.0)


@pytest.mark.parametrize("start", [["preview"], BY_HAND], ids=["run", "by hand"])
def test_side_by_side_with_schedules_of_other_values(command, start):
    options = ["--lr_groups={momentum: Linear}", "--optimizer=SGD", "--optimizer.lr=0.1", "--optimizer.momentum=0.9"]
    assert command(*start, "--schedules=Constant,Rex", *options, "--png=null", "--csv=every.csv") == 0
    columns = [name for name in rows_of("every.csv")[0] if name.startswith("momentum")]
    assert len(columns) == 1
    assert len({row[columns[0]] for row in rows_of("every.csv")}) > 100


class Logs:
    def training_step(self):
        self.log("train/loss", 1, on_step=True)
        for stage in ("fast", "slow"):
            self.log(f"{stage}_acc", 1)

    def validation_step(self):
        name = "val_f1"
        self.log(name=name, value=1)
        self.log_dict({"a": 1, "b": 2})


class LogsWhatNobodyKnows(Logs):
    def test_step(self, names):
        for name in names:
            self.log(name, 1)


class LogsSums:
    def validation_step(self, part):
        self.log(part + "loss", 1)
        prefix = part + "/"
        self.log_dict({prefix + "f1": 1})


class LogsWhatIsPut:
    def put(self, name, value):
        if name is None:
            name = "loss"
        self.log(name, value)


class LogsWhatGrows:
    def validation_step(self):
        name = "val"
        name += "_loss"
        self.log(name, 1)


def test_names_that_are_changed_may_be_any():
    for logs, known in ((LogsWhatIsPut, "loss"), (LogsWhatGrows, "val")):
        names = logged_names([logs])
        assert names.include(known)
        assert not names.complete


def test_names_that_a_source_logs():
    names = logged_names([Logs])
    assert names.complete
    for name in ("train/loss", "train/loss_epoch", "train/loss_step", "slow_acc", "val_f1", "a", "b/dataloader_idx_1"):
        assert names.include(name), name
    assert not names.include("val_acc_top5")
    assert not names.include("loss")
    assert not logged_names([LogsWhatNobodyKnows]).complete
    added = logged_names([LogsSums])
    assert added.complete
    assert [added.include(name) for name in ("val_loss", "test/f1", "val/f1_top5", "acc")] == [True, True, False, False]


# --- the pictures


def test_the_picture_shows_what_the_table_says():
    figure, _ = preview(OneCycle(momentum=0.9), Horizon(500, 10), lr=0.1).plot()
    rate, momentum = figure.axes[:2]
    (line,) = [line for line in rate.lines if len(line.get_xdata()) > 1]
    assert list(line.get_ydata()) == [0.1 * factor for factor in table(OneCycle(), Horizon(500, 10))]
    assert (line.get_xdata()[0], line.get_xdata()[-1]) == (0, 49.9)
    assert [text.get_text() for text in rate.texts[:2]] == ["up", "down"]
    assert momentum.get_ylabel() == "momentum factor"
    assert rate.get_xlim() == (0, 50)


def texts_in(schedules, **look):
    views = {name: View.of(plan_of(one, Horizon(100))) for name, one in schedules.items()}
    return picture(views, Look(**look)).axes[0]


def test_names_stand_at_the_ends_or_where_the_ends_meet_on_the_curves():
    apart = texts_in({"high": Linear(end=0.5), "low": Linear(end=0.1)})
    assert [text.get_position()[0] for text in apart.texts] == [1.025, 1.025]
    meeting = texts_in({"line": Linear(), "wave": Cosine(), "late": Rex()})
    for text, schedule in zip(meeting.texts, (Linear(), Cosine(), Rex()), strict=True):
        x, y = text.get_position()
        assert 0 < x < 1
        low, high = meeting.get_ylim()
        assert low + y * (high - low) == pytest.approx(schedule(round(100 * x), Horizon(100)), abs=0.02)
    assert len({text.get_position() for text in meeting.texts}) == 3


def test_a_logarithmic_scale():
    axes = texts_in({"a": Cosine(end=0.01), "b": Exponential(gamma=0.9, every="1st")}, log=True)
    assert axes.get_yscale() == "log"
    lowest = 0.9**99
    assert 0 < axes.get_ylim()[0] < lowest
    assert texts_in({"none": Constant(0.0)}, log=True).get_yscale() == "linear"  # there is nothing to scale


def test_several_in_one_picture_or_in_many():
    few = {name: CATALOGUE[name] for name in list(CATALOGUE)[:5]}
    figure, _ = preview(few, Horizon(100, 10)).plot()
    assert {text.get_text() for text in figure.axes[0].texts} == set(few)
    views = {name: View.of(plan_of(schedule, Horizon(100, 10))) for name, schedule in CATALOGUE.items()}
    assert [axes.get_title("left") for axes in picture(views).axes if axes.get_visible()] == list(CATALOGUE)
    in_rows = gallery(views, columns=7).axes
    assert len(in_rows) == 35
    assert [axes.get_title("left") for axes in in_rows if axes.get_visible()] == list(CATALOGUE)


def test_a_picture_of_no_more_than_a_step():
    shown = preview(WarmupLinear("10%"), Horizon(1))
    assert len(shown.table) == 1
    figure, _ = shown.plot()
    figure.canvas.draw()


def test_names_of_schedules_in_a_list():
    step = partial(torch_schedulers.StepLR, step_size=3)
    assert list(by_name([Linear(), step.func, Linear(), Linear()])) == ["Linear", "StepLR", "Linear 2", "Linear 3"]
    other = partial(torch_schedulers.StepLR, step_size=3, gamma=0.5)
    assert list(by_name([step, other])) == ["StepLR", "StepLR(gamma=0.5)"]
    both = [WarmupCosine("5%"), WarmupCosine("10%", end=0.1), WarmupCosine("10%", end=0.1)]
    named = ["WarmupCosine(warmup=5%)", "WarmupCosine(warmup=10%, end=0.1)", "WarmupCosine(warmup=10%, end=0.1) 2"]
    assert list(by_name(both)) == named
    nested = [Product([Linear()]), Product([Constant()])]  # no argument of theirs goes into a name
    assert list(by_name(nested)) == ["Product", "Product 2"]


def test_a_long_run_may_come_close_to_zero():
    assert findings(WarmupCosine("5%"), steps=1_000_000, steps_per_epoch=1000) == []

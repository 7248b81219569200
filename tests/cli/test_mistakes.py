"""What people get wrong: each mistake is answered in one line that names the value, the reason and the fix."""

from __future__ import annotations

import dataclasses
import math
import traceback
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import OptimizerCallable
from torch.multiprocessing.spawn import ProcessRaisedException
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import ExponentialLR, LRScheduler, StepLR

from lit_lrsched import ApplySchedule, FromTorch, Horizon, ScheduledLR, schedule_config, table
from lit_lrsched import schedules as catalogue
from lit_lrsched.class_paths import from_plain
from lit_lrsched.cli.mistakes import mistakes_of_spawned_processes
from lit_lrsched.errors import InputError
from lit_lrsched.optim.run_plan import plan_of_torch
from lit_lrsched.plans.curve import sample
from lit_lrsched.plans.plan import plan_of
from lit_lrsched.schedules.compose import Chain, Phase
from lit_lrsched.schedules.core import Schedule
from lit_lrsched.schedules.custom import Custom
from lit_lrsched.schedules.decays import Cosine, Linear
from lit_lrsched.schedules.formula import Formula
from lit_lrsched.schedules.plateau import Plateau
from lit_lrsched.schedules.shapes import Triangle
from lit_lrsched.trainer.callbacks.start_audit import TrainingRefused
from tests.catalogue import CATALOGUE
from tests.training import Tiny, tiny_trainer

HERE = "tests.cli.test_mistakes"
HORIZON = Horizon(40, steps_per_epoch=4)
QUICK = ["preview", "--epochs=5", "--steps_per_epoch=3"]


def raises(step, horizon):
    raise RuntimeError("no luck\nat all")


def takes_one(step):
    return 1.0


def halving(optimizer: Optimizer, every: int = 1) -> LRScheduler:
    return StepLR(optimizer, every, 0.5)


def unannotated(optimizer):
    return halving(optimizer)


RETURNS = {
    "array": np.ones(3),
    "tensor": torch.ones(3),
    "none": None,
    "complex": 1j,
    "text": "1.0",
    "list": [1.0],
    "huge": 10**5000,
}


def returns_array(step, horizon):
    return RETURNS["array"]


@dataclasses.dataclass
class Shape:
    width: int = 3


class Named(LightningModule):
    def __init__(self, width: int = 3, **others: int) -> None:
        super().__init__()


class Shaped(LightningModule):
    def __init__(self, shape: Shape, optimizer: OptimizerCallable = SGD) -> None:
        super().__init__()


def assert_short_line(error):
    assert "\n" not in str(error)
    assert len(str(error)) < 400


def refused(command, arguments, *told):
    assert command(*arguments) == 2, command.out + command.err
    assert command.err.startswith("error: ")
    assert command.err.count("\n") == 1
    assert len(command.err) < 300
    for words in told:
        assert words in command.err
    assert not list(Path().glob("lightning_logs/*"))


@pytest.mark.parametrize("road", ["fit", "quick preview"])  # the parsers of the others are those of fit
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("--lr_scheduler Triangle --lr_scheduler.perido 3ep", ["Triangle", "'perido' (did you mean 'period'?)"]),
        ("--lr_scheduler WarmupLinear --lr_scheduler.warm_up 3ep", ["'warm_up' (did you mean 'warmup'?)"]),
        ("--lr_scheduler WarmupLinear --lr_scheduler.warmup 0.05", ["warmup='0.05' has no unit: write '5%'"]),
        ("--lr_scheduler WarmupLinear --lr_scheduler.warmup=-5%", ["warmup='-5%' is negative", "'10%'"]),
        ("--lr_scheduler WarmupLinear --lr_scheduler.warmup -5%", ["expected one argument", "--option=-1"]),
        ("--lr_scheduler.warmup 5%", ["'warmup' belongs to a class", "--lr_scheduler WarmupLinear"]),
        ("--lr_scheduler MultiStep --lr_scheduler.milestones 10ep,x", ["milestones[1]='x' is not a duration"]),
        ("--lr_scheduler foo.Bar", ["'foo.Bar' does not fit: there is no module 'foo'"]),
        ("--lr_scheduler torch.optim.lr_scheduler.StepRL", ["has no 'StepRL' (did you mean 'StepLR'?)"]),
        ("--lr_scheduler FromTorch --lr_scheduler.scheduler StepLR --lr_scheduler.arguments 3", ["expected a dict"]),
        (f"--lr_scheduler {HERE}.halving --lr_scheduler.every 2", ["to a function, and only", "but optimizer"]),
        (f"--lr_scheduler {HERE}.unannotated", ["to be a function that is annotated to return LRScheduler"]),
        ("--lr_scheduler=", ["lr_scheduler='' is no value: give one, or leave it out"]),
        ("--lr_schduler Linear", ["--lr_schduler", "did you mean '--lr_scheduler'"]),
    ],
)
def test_a_mistake_in_the_schedule(command, road, arguments, told):
    refused(command, [*(QUICK if road == "quick preview" else [road]), *arguments.split()], *told)


@pytest.mark.parametrize("road", ["fit", "quick preview"])  # the parsers of the others are those of fit
@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("lr_scheduler: {class_path: WarmupLinear, warmup: 5%}", ["init_args: {warmup: 5%}"]),
        (
            "lr_scheduler: {class_path: WarmupLinear, warmup: 5%, init_args: {end: 0.1}}",
            ["arguments stand beside class_path", "init_args: {warmup: 5%, end: 0.1}"],
        ),
        ("lr_scheduler: {type: WarmupLinear, warmup: 5%}", ["'type'", "{class_path: WarmupLinear, init_args: {warm"]),
        ("lr_scheduler: {class_path: WarmupLinear, init_args: {warm_up: 5%}}", ["(did you mean 'warmup'?)"]),
        ("lr_scheduler: {class_path: Chain, init_args: {phases: [Linear, Cosine]}}", ["{schedule: Linear, lasts: "]),
        (f"lr_scheduler: {{class_path: {HERE}.halving, init_args: {{every: 2}}}}", ["to a function, and only a class"]),
        ("lr_groups: {momentum: Linera}", ["lr_groups", "'Linera' (did you mean 'Linear'?)"]),
        ("lr_schedule: Linear", ["lr_schedule", "did you mean"]),
        ("", ["config='mine.yaml' is empty"]),
        ("# nothing", ["config='mine.yaml' is empty"]),
        ("lr_scheduler: [Linear\nmodel: {", ["config='mine.yaml', line 2", "correct the YAML there"]),
        ("lr_scheduler:\n  class_path: Linear\n\tinit_args: 3", ["config='mine.yaml', line 3"]),
        ("- Linear\n- Cosine", ["config='mine.yaml' holds no options"]),
        ("Linear", ["config='mine.yaml' holds no options"]),
    ],
)
def test_a_mistake_in_a_file(command, road, text, told):
    Path("mine.yaml").write_text(text)
    arguments = [*(QUICK if road == "quick preview" else [road]), "--config", "mine.yaml"]
    if road == "quick preview" and text.startswith("lr_schedule:"):
        told = ["lr_schedule"]
    refused(command, arguments, *told)


@pytest.mark.parametrize("road", ["fit", "preview", "compare"])
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("--batch_size 3", ["--batch_size 3 (did you mean '--data.batch_size'?)"]),
        ("--model foo.Bar", ["'foo.Bar' does not fit: there is no module 'foo'"]),
        ("--model CNN", ["there is no class 'CNN'", "with its module, like my_module.CNN"]),
        ("--data CNN", ["there is no class 'CNN'", "with its module"]),
        (f"--model {HERE}.Fooreign", [f"module '{HERE}' has no 'Fooreign'"]),
        ("--model ./mine.py", ["'./mine.py' does not fit: it is a file", "mine.MyClass"]),
        (f"--model {HERE}.returns_array", ["it is no LightningModule of lightning.pytorch", "annotated to return one"]),
        (f"--model {HERE}.Shaped --model.shape.widht 3", ["Shaped has no option 'shape.widht'", "--model.help Shaped"]),
        (
            f"--model {HERE}.Shaped --model.optimizer Adam --model.optimizer.lrr 3",
            ["Adam has no option 'lrr'"],
        ),
        ("--optimizer foo.Bar", ["there is no module 'foo'"]),
        ("--optimizer SGD --optimizer.learning_rate 0.1", ["'learning_rate' (did you mean 'lr'?)"]),
        ("--optimizer SGD --optimizer.lr=-0.1", ["optimizer", "Invalid learning rate: -0.1"]),
        ("--optimizer SGD --optimizer.momentum=-1", ["optimizer", "Invalid momentum value: -1.0"]),
        ("--optimizer AdamW --optimizer.betas=[0.9,1.5]", ["optimizer", "Invalid beta parameter"]),
    ],
)
def test_a_mistake_in_the_rest(command, road, arguments, told):
    Path("mine.py").write_text("class MyClass:\n    def f(self, x: int) -> int: return 3\n")
    refused(command, [road, *arguments.split()], *told)


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        (
            "lacks",
            "import torch\nimport no_such_package",
            "No module named 'no_such_package' (lacks.py, line 2): install it",
        ),
        (
            "fails",
            "def f():\n    return 1 / 0\nf()",
            "ZeroDivisionError: division by zero (fails.py, line 2): correct it",
        ),
        ("half", "class Net(:", "invalid syntax (half.py, line 1)"),
    ],
)
def test_a_module_that_cannot_be_imported(command, name, text, told):
    Path(f"{name}.py").write_text(text)
    refused(command, ["fit", "--model", f"{name}.Net"], f"model: '{name}.Net' ", told)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("fit --lr 0.1", ["--lr", "did you mean '--optimizer.lr'"]),
        ("fit --lr=0.1", ["--lr", "did you mean '--optimizer.lr'"]),
        ("fit --learning_rate 0.1", ["did you mean '--optimizer.lr'"]),
        ("fit --epochs 3", ["did you mean '--trainer.max_epochs'"]),
        ("fit --max_epochs 3", ["did you mean '--trainer.max_epochs'"]),
        ("compare --lrs=-1", ["lrs: -1.0 is no learning rate"]),
        ("compare --lrs 0.1,-3", ["lrs: -3.0 is no learning rate"]),
        ("compare --lrs 0.1,abc", ["lrs", "expected a float"]),
        ("compare --momenta 0.9,1.5", ["momenta: 1.5"]),
        ("compare --seeds 0", ["seeds is empty"]),
        ("compare --schedules Linear,WarmupLinear", ["WarmupLinear needs warmup", "init_args: {warmup: VALUE}"]),
        ("compare --schedules own,Linear", ["compare races it as 'own', and preview shows it without --schedules"]),
        ("compare --schedules WarmupLinear,Linear", ["WarmupLinear needs warmup", "init_args: {warmup: VALUE}"]),
        ("compare --schedules Linear,Cosin", ["'Cosin' (did you mean 'Cosine'?)"]),
        ("preview --schedules WarmupLinear,StepLR", ["WarmupLinear needs warmup"]),
        ("preview --epochs=5 --steps_per_epoch=3 --schedules Cosine,StepLR", ["StepLR needs step_size"]),
        ("preview --epochs=5 --steps_per_epoch=3 --schedules StepLR,Cosine", ["StepLR needs step_size"]),
        ("preview --schedules CyclicLR,LambdaLR", ["CyclicLR needs base_lr, max_lr"]),
        ("preview --epochs=5 --steps_per_epoch=3 --lr_scheduler Cosine --lr=-1", ["lr=-1.0 has to be", "above 0"]),
        (
            "preview --epochs=5 --steps_per_epoch=3 --lr_scheduler StepLR --lr_scheduler.step_size 2 --lr=-1",
            ["lr=-1.0"],
        ),
        ("preview --epochs=5 --steps_per_epoch=3 --lr_scheduler Cosine --optimizer.lr=-1", ["lr=-1.0 has to be"]),
        ("fit --lr_scheduler FromTorch --lr_scheduler.scheduler StepLR --lr_scheduler.arguments.stp 3", ["no 'stp'"]),
        (
            'fit --lr_groups {"momentum":{"class_path":"Cosine","init_args":{"endd":0}}}',
            ["see --lr_scheduler.help Cosine"],
        ),
        ("fit --trainer.callbacks.monitor x", ["'monitor' belongs to a class", "--trainer.callbacks EarlyStopping"]),
        ("fit --trainer.logger TensorboardLogger", ["'TensorboardLogger' (did you mean 'TensorBoardLogger'?)"]),
        ("fit --lr_scheduler Formula --lr_scheduler.factor 9**9**9", ["formula '9**9**9'", "change it"]),
        ("fit --trainer.callbacks ModelCheckpoint --trainer.callbacks.save_top_k=-2", ["error: Invalid", "save_top_k"]),
        ("fit --optimizer Adam --optimizer.name x", ["optimizer: Adam has no option 'name': see --optimizer.help"]),
        ('fit --optimizer={"class_path":"SGD","init_args":{"type":0}}', ["optimizer: SGD has no option 'type'"]),
        ('fit --optimizer={"class_path":"SGD","type":0}', ["stand beside", "{class_path: SGD, init_args: {type: 0}}"]),
        ('fit --optimizer={"type":"SGD","lr":0}', ["'type' is no way to name a class: write {class_path: SGD, init"]),
        ('fit --trainer.callbacks=[{"class_path":"EarlyStopping","patience":3}]', ["stand beside class_path"]),
        (
            f"fit --model {HERE}.Named --model.bias 3",
            ["Named has no option 'bias' (what its **kwargs", "--model.dict_kwargs.bias)"],
        ),
        (f"fit --model {HERE}.Named --model.widht 3", ["Named has no option 'widht' (did you mean 'width'?): see"]),
    ],
)
def test_a_mistake_of_one_command(command, arguments, told):
    refused(command, arguments.split(), *told)


def test_a_million_characters_are_cut(command):
    value = "1+" * 60_000 + "1"  # as long as the system lets an argument be
    assert command("fit", "--lr_scheduler", "Formula", f"--lr_scheduler.factor={value}") == 2
    assert len(command.err) < 300
    assert "120,001 characters" in command.err
    for option in ("--trainer.max_epochs", "--optimizer", "--model", "--lr_scheduler", "--nonsense"):
        assert command("fit", f"{option}={value}") == 2
        assert len(command.err) < 700, option
        assert command.err.count("\n") == 1
    assert len(str(InputError("x" * 1_000_000))) == 600


@pytest.mark.parametrize(
    ("arguments", "name", "value"),
    [
        ("--lr_scheduler MultiStep --lr_scheduler.milestones 10ep,20ep", "milestones", ["10ep", "20ep"]),
        ("--lr_scheduler MultiStep --lr_scheduler.milestones=10%,20%", "milestones", ["10%", "20%"]),
        ("--lr_scheduler MultiStep --lr_scheduler.milestones 10ep", "milestones", ["10ep"]),
        ("--lr_scheduler MultiStepLR --lr_scheduler.milestones 10,20", "milestones", [10, 20]),
    ],
)
def test_lists_with_commas_of_a_class(command, arguments, name, value):
    assert command("fit", *arguments.split(), "--print_config") == 0
    assert yaml.safe_load(command.out)["lr_scheduler"]["init_args"][name] == value


def test_lists_with_commas_of_the_race(command):
    arguments = "--lrs 0.1,0.3 --momenta 0.9 --seeds 3,4 --schedules Linear,Cosine"
    assert command("compare", *arguments.split(), "--print_config") == 0
    saved = yaml.safe_load(command.out)
    assert (saved["lrs"], saved["momenta"], saved["seeds"]) == ([0.1, 0.3], [0.9], [3, 4])
    assert [one["class_path"] for one in saved["schedules"]] == ["lit_lrsched.Linear", "lit_lrsched.Cosine"]
    assert command("compare", "--seeds=5", "--schedules=Linear", "--print_config") == 0
    assert yaml.safe_load(command.out)["seeds"] == 5


@pytest.mark.parametrize("function", ["raises", "takes_one", "returns_array"])
def test_a_function_that_fails_ends_the_command_in_a_line(command, function):
    refused(
        command,
        ["fit", "--lr_scheduler", "Custom", f"--lr_scheduler.function={HERE}.{function}"],
        function,
        "step 0 of 550",
    )


def test_what_a_function_raises_is_told_with_its_place():
    with pytest.raises(
        InputError, match=r"raises fails at step 0 of 40 with RuntimeError: no luck at all \(.*\.py, line"
    ):
        table(raises, HORIZON)
    with pytest.raises(InputError, match="raises fails") as caught:
        table(Custom(f"{HERE}.raises"), HORIZON)
    assert isinstance(caught.value.__cause__, RuntimeError)


@pytest.mark.parametrize("kind", RETURNS)
def test_what_a_function_returns_must_be_a_number(kind):
    with pytest.raises(InputError, match=r"returned .* at step 0 of 40: a factor must be"):
        table(lambda step, horizon: RETURNS[kind], HORIZON)


@pytest.mark.parametrize("one", [1, True, np.float32(1), np.ones(()), torch.ones(())])
def test_any_single_number_will_do(one):
    assert table(lambda step, horizon: one, Horizon(2)) == [1.0, 1.0]


NO_SCHEDULES = {
    "text": ("Cosine", r"schedule='Cosine' is text: give the schedule itself, like Cosine\(\)"),
    "a class": (Cosine, r"is a class: give the schedule itself, Cosine\(...\)"),
    "a partial class": (
        partial(Cosine, end=0.1),
        r"is none: give the schedule itself, Cosine\(...\), in Hydra without",
    ),
    "another class": (SGD, "is a class"),
    "a number": (0.5, "schedule=0.5 is no schedule"),
    "a list": ([Cosine()], "is no schedule"),
    "an empty dict": ({}, "names no class"),
    "a dict of nonsense": ({"type": "Cosine"}, "names no class: write it as class_path"),
    "a class_path that is none": ({"class_path": 3}, "names no class"),
    "a class_path that leads nowhere": (
        {"class_path": "no.such.Thing"},
        "'no.such.Thing': there is no module 'no': correct the path",
    ),
    "a wrong argument": ({"class_path": "lit_lrsched.Cosine", "init_args": {"ned": 1}}, "'ned' .did you mean 'end'"),
    "a missing argument": ({"class_path": "lit_lrsched.Step"}, "refuses its arguments: .*every"),
    "an argument beside them": (
        {"class_path": "lit_lrsched.Cosine", "end": 0.1},
        "'end' stands beside class_path: put it into init_args",
    ),
    "a class_path to a module": (
        {"class_path": "torch.optim.lr_scheduler"},
        "'torch.optim.lr_scheduler' is of type module: name a class or a function instead",
    ),
    "arguments that are none": ({"class_path": "lit_lrsched.Cosine", "init_args": [1]}, "are not arguments by name"),
    "a scheduler that is bound": (
        ExponentialLR(SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1), 0.9),
        "is bound to an optimizer already",
    ),
}


@pytest.mark.parametrize("case", [*NO_SCHEDULES, "None"])
def test_apply_schedule_refuses_what_is_no_schedule(case):
    value, message = NO_SCHEDULES.get(case, (None, "schedule=None is no schedule"))
    with pytest.raises(InputError, match=message):
        ApplySchedule(value)


@pytest.mark.parametrize("case", NO_SCHEDULES)
def test_schedule_config_refuses_what_is_no_schedule(case):
    value, message = NO_SCHEDULES[case]
    with pytest.raises(InputError, match=message):
        schedule_config(SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1), value, trainer=None)


def test_scheduled_lr_refuses_other_types():
    optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    for arguments, message in {
        (None, Linear(), HORIZON): "optimizer=None is no torch optimizer",
        (optimizer, "Linear", HORIZON): "schedule='Linear' is not a schedule",
        (optimizer, Linear, HORIZON): r"is not a schedule: write Linear\(...\)",
        (optimizer, None, HORIZON): "schedule=None is not a schedule",
        (optimizer, Linear(), 40): r"horizon=40 is not a horizon: give one, like Horizon\(steps=1000\)",
        (optimizer, Linear(), HORIZON, "week"): "interval='week' is unknown: write 'step' or 'epoch'",
        (optimizer, Linear(), HORIZON, "step", "momentum"): "groups='momentum' is no dict of schedules",
        (
            optimizer,
            Linear(),
            HORIZON,
            "step",
            None,
            "kep",
        ): r"on_horizon_change='kep' is unknown \(did you mean 'keep'",
    }.items():
        with pytest.raises(InputError, match=message):
            ScheduledLR(*arguments)
    with pytest.raises(InputError, match=r"groups\['momentum'\]='Linear' is not a schedule"):
        ScheduledLR(optimizer, Linear(), HORIZON, groups={"momentum": "Linear"})


FORMULAS = [
    "1e400", "-1e400", "9**9**9", "9**9**9**9", "9999**99999999", "1" * 5000, "9" * 400, "9" * 400 + "*step",
    "1e308*10",
    "(" * 500 + "1" + ")" * 500, "-" * 1500 + "1", "-" * 90 + "-1", "1+" * 900 + "1", "x" * 1_000_000, "(" * 1_000_000,
    "not " * 400 + "1", "1 is 1", "1 in step", "~step", "(1)(2)", "min()", "min(1)", "sqrt(step)(1)", "abs(abs)", "\0",
    "\ud800", "ceil(1e400)", "exp(exp(exp(9)))", "0**-1", "nan", "inf", "lambda: 1", "a:=1", "f'{step}'",
    "step<<99999999",
    "step if step else", "1\n+1", "2**step**step", "log(-1)", "min(step, 'a')", "...", "None", "step[0]", "*step", "",
]  # fmt: skip


@pytest.mark.parametrize("formula", FORMULAS, ids=lambda formula: repr(formula[:20]))
def test_a_hostile_formula_is_refused_in_a_short_line(formula):
    with pytest.raises(InputError) as caught:
        table(Formula(formula), HORIZON)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


WORDS = [
    "step", "steps", "epoch", "progress", "pi", "sqrt", "exp", "max", "floor", "(", ")", "+", "-", "*", "**", "/", "//",
    "%", ",", " if ", " else ", " and ", " not ", "<", "==", "9", "0.5", "1e400", "1e-400", "~", "[", ".", ":=",
]  # fmt: skip


@given(st.lists(st.sampled_from(WORDS), max_size=12).map("".join) | st.text(max_size=20))
def test_any_text_is_a_formula_or_is_refused(text):
    try:
        factors = table(Formula(text), HORIZON)
    except InputError as error:
        assert_short_line(error)
    else:
        assert all(0 <= factor < math.inf for factor in factors)


@given(
    st.text(max_size=12)
    | st.from_regex(r"[ +-]?[0-9.,e_]{0,12} ?(ep|st|%|epochs)?")
    | st.floats()
    | st.integers()
    | st.none()
    | st.booleans()
    | st.sampled_from(["1" * 5000 + "st", "9" * 15 + "ep", "9" * 15 + "%", "x" * 1_000_000, 10**400, 10**5000])
)
def test_anything_is_a_duration_or_is_refused(duration):
    for schedule in (Linear, partial(Triangle, low=0.5), partial(Phase, Linear())):
        try:
            made = schedule(over=duration) if schedule is Linear else schedule(duration)
            factors = table(Chain([made]) if isinstance(made, Phase) else made, HORIZON)
        except InputError as error:
            assert_short_line(error)
        else:
            assert all(0 <= factor < math.inf for factor in factors)


WRONG = [
    None, "", "x", "5ep", "0.1", -1, 0, 1, 2.5, math.nan, math.inf, -math.inf, True, [], ["x"], [1], {}, {"a": 1},
    10**400, 10**5000, -(10**5000), 1j, b"x", object(), int, set(), ("5ep", 1.0), [("5ep", 1.0)], [["5ep"]], 1e308,
    5e-324, "9" * 15 + "ep", "0.000001%", lambda: 1, lambda step, horizon: 1.0, raises, Linear, Linear(), Plateau(),
    [Linear], [Phase(Linear())],
]  # fmt: skip
EXAMPLES = {type(schedule): schedule for schedule in CATALOGUE.values()}
EXAMPLES |= {Phase: Phase(Linear(), "5st"), FromTorch: FromTorch("StepLR", {"step_size": 3})}


def test_every_schedule_is_among_the_examples():
    public = {getattr(catalogue, name) for name in catalogue.__all__}
    assert {one for one in public if isinstance(one, type) and issubclass(one, Schedule)} - {Schedule} <= {*EXAMPLES}


@pytest.mark.parametrize("kind", EXAMPLES, ids=lambda kind: kind.__name__)
def test_arguments_of_a_wrong_type_are_refused_or_work(kind):
    for field in dataclasses.fields(kind):
        for value in WRONG:
            try:
                made = dataclasses.replace(EXAMPLES[kind], **{field.name: value})
                schedule = Chain([made]) if kind is Phase else made
                factors = table(schedule, HORIZON)
                schedule.spans(HORIZON), schedule.companions(), hash(schedule)
            except InputError as error:
                assert_short_line(error)
            else:
                assert all(0 <= factor < math.inf for factor in factors)


LONG = Horizon(10**9, steps_per_epoch=1000)


def test_a_run_too_long_to_replay_is_refused_before_it_is_played():
    one_cycle = partial(torch.optim.lr_scheduler.OneCycleLR, max_lr=1.0, total_steps=10**9)
    with pytest.raises(InputError, match=r"OneCycleLR needs 1,000,000,000 ticks to be shown"):
        plan_of_torch(one_cycle, LONG, "step")
    with pytest.raises(InputError, match=r"OneCycleLR needs 1,000,000,000 ticks to be shown"):
        sample(plan_of(FromTorch("OneCycleLR"), LONG))
    assert len(sample(plan_of_torch(one_cycle, Horizon(50, 10), "step")).steps) == 50


@pytest.mark.parametrize("name", CATALOGUE)
def test_a_billion_steps_are_looked_at_here_and_there(name):
    assert len(sample(plan_of(CATALOGUE[name], LONG)).steps) < 200_000


class OfMine(LRScheduler):
    def get_lr(self):
        raise KeyError("lr0")


def test_a_torch_scheduler_that_cannot_be_made():
    optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    with pytest.raises(InputError, match=r"the scheduler cannot be made: KeyError: 'lr0' \(test_mistakes.py, line"):
        schedule_config(optimizer, OfMine, trainer=None)
    with pytest.raises(InputError, match=r"the scheduler cannot be made: TypeError: StepLR.* missing .* 'step_size'"):
        schedule_config(optimizer, partial(StepLR, gamma=0.5), trainer=None)
    with pytest.raises(InputError, match="schedule returned None, which is no torch scheduler"):
        schedule_config(optimizer, lambda optimizer: None, trainer=None)
    with pytest.raises(InputError, match="class_path=3 is not text"):
        from_plain({"class_path": 3})


@pytest.mark.parametrize("make", [Linear(), partial(ExponentialLR, gamma=0.9)], ids=["ours", "torch's"])
def test_an_interval_that_lightning_would_never_step_at_is_refused(make):
    with pytest.raises(InputError, match=r"interval='steps' is unknown \(did you mean 'step'\?\)"):
        tiny_trainer(callbacks=[ApplySchedule(make, interval="steps")]).fit(Tiny(Tiny.make_optimizer))


def as_spawned(error: Exception) -> ProcessRaisedException:
    """What torch raises where a process that it has spawned ends with an exception."""
    told = "".join(traceback.format_exception(error))
    return ProcessRaisedException(f"\n\n-- Process 0 terminated with the following error:\n{told}", 0, 1)


def test_a_mistake_of_a_spawned_process_is_one_here():
    with pytest.raises(InputError, match=r"^'1' is no duration: give a unit$"), mistakes_of_spawned_processes():
        raise as_spawned(InputError("'1' is no duration: give a unit"))
    with pytest.raises(InputError, match=r"^too late \(audit='warn' trains anyway\)$"), mistakes_of_spawned_processes():
        raise as_spawned(TrainingRefused("too late"))
    with pytest.raises(ProcessRaisedException), mistakes_of_spawned_processes():
        raise as_spawned(ValueError("the user's own"))

"""Only one module knows the keys of a param group."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import torch
from torch.optim import SGD, Adam, Optimizer
from torch.optim.lr_scheduler import ChainedScheduler, CyclicLR, LinearLR, LRScheduler, OneCycleLR

import lit_lrsched
from lit_lrsched.errors import InputError
from lit_lrsched.optim.param_groups import base_values_of, check_lrs, group_values, set_value, undo_schedulers

PACKAGE = Path(lit_lrsched.__file__).parent
MODULES = [path for path in sorted(PACKAGE.rglob("*.py")) if path != PACKAGE / "optim" / "param_groups.py"]
# No other thing has keys of these names; the values of a param group are a matter of how they are read.
KEYS = ("betas", "initial_lr")
VALUES = ("lr", "momentum", "weight_decay")
# Recorded runs, what a finder has tried, and the arguments of a class are no param groups.
NOT_GROUPS = ("curves", "results", "parameters", "arguments", "row", "rows", "entry", "best", "surest")


def keys_read(source: str) -> list[str]:
    """Returns where a source reads or writes the keys of a param group."""
    tree = ast.parse(source)
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and node.value in KEYS and id(node) not in docstrings:
            found.append(f"line {node.lineno}: {node.value!r}")
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant) and node.slice.value in VALUES:
            of = node.value
            if isinstance(of, ast.Subscript) and getattr(of.value, "id", "") == "rows":
                of = of.value
            owner = of.attr if isinstance(of, ast.Attribute) else getattr(of, "id", "")
            if owner not in NOT_GROUPS:
                found.append(f"line {node.lineno}: {ast.unparse(node)}")
    return found


@pytest.mark.parametrize("path", MODULES, ids=[str(path.relative_to(PACKAGE)) for path in MODULES])
def test_no_other_module_knows_the_keys(path):
    assert keys_read(path.read_text()) == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ('group["lr"] = 0.1', ["line 1: group['lr']"]),
        ('optimizer.param_groups[0]["weight_decay"]', ["line 1: optimizer.param_groups[0]['weight_decay']"]),
        ('group.pop("initial_lr", None)', ["line 1: 'initial_lr'"]),
        ('"""Adam has betas."""\nrecord.curves["lr"]', []),
    ],
)
def test_what_is_found(source, found):
    assert keys_read(source) == found


def optimizer_of(kind: type[Optimizer], **options: float) -> Optimizer:
    return kind([torch.nn.Parameter(torch.zeros(1))], lr=0.1, **options)


@pytest.mark.parametrize(
    ("optimizer", "momentum"), [(optimizer_of(SGD, momentum=0.9), 0.9), (optimizer_of(Adam), 0.9)], ids=["SGD", "Adam"]
)
@pytest.mark.parametrize(
    ("make", "lr"),
    [
        (lambda optimizer: OneCycleLR(optimizer, max_lr=0.5, total_steps=10), 0.5),
        (lambda optimizer: CyclicLR(optimizer, base_lr=0.01, max_lr=0.5, step_size_up=3), 0.5),
        (lambda optimizer: ChainedScheduler([OneCycleLR(optimizer, max_lr=0.5, total_steps=10)]), 0.5),
        (lambda optimizer: LinearLR(optimizer), 0.1),
    ],
    ids=["OneCycleLR", "CyclicLR", "ChainedScheduler", "LinearLR"],
)
@pytest.mark.filterwarnings("ignore:Detected call of")
def test_what_schedulers_set_is_undone(optimizer, momentum, make, lr):
    before = {key: value for key, value in optimizer.param_groups[0].items() if key not in ("lr", "initial_lr")}
    base = optimizer.param_groups[0]["lr"]
    scheduler: LRScheduler = make(optimizer)
    scheduler.step()
    undo_schedulers([optimizer], [scheduler])
    assert base_values_of(optimizer.param_groups[0]) == {"lr": lr, "momentum": momentum, "weight_decay": 0.0}
    after = {key: value for key, value in optimizer.param_groups[0].items() if key not in ("lr", "initial_lr")}
    assert {key: value for key, value in after.items() if key in before} == before
    assert not {"max_lr", "min_lr", "max_momentum", "base_momentum"} & after.keys()
    optimizer.param_groups[0]["lr"] = base
    del optimizer.param_groups[0]["initial_lr"]


@pytest.mark.parametrize(("kind", "other"), [(torch.float32, 0.1001), (torch.bfloat16, 0.102)])
def test_a_value_in_a_tensor_is_compared_as_well_as_it_can_be_held(kind, other):
    optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=torch.tensor(0.1, dtype=kind))
    (value,) = group_values([optimizer], ["lr"])
    assert value.read() != 0.1
    assert value.is_set_to(0.1)
    assert not value.is_set_to(other)


def test_a_value_in_a_tensor_of_whole_numbers_is_compared_exactly():
    (value,) = group_values([SGD([torch.nn.Parameter(torch.zeros(1))], lr=torch.tensor(1))], ["lr"])
    assert value.is_set_to(1.0)
    assert not value.is_set_to(2.0)


def test_a_rate_in_a_tensor_of_whole_numbers_is_refused():
    optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=torch.tensor(1))
    with pytest.raises(InputError, match=r"in a tensor of whole numbers: .* give it as torch.tensor\(1.0\)"):
        check_lrs(optimizer)


@pytest.mark.parametrize("lr", [float("nan"), float("inf"), torch.tensor(float("nan"))])
def test_a_rate_that_is_not_finite_is_refused(lr):
    optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    with pytest.raises(InputError, match=r"the lr of the param group group0 is (nan|inf): give a finite one"):
        check_lrs(optimizer)


def test_an_optimizer_with_a_schedule_of_its_own_is_refused():
    class Ranger(SGD):
        disable_lr_scheduler = False

    optimizer = Ranger([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    with pytest.raises(InputError, match=r"Ranger has a schedule of its own, .* give it disable_lr_scheduler=True"):
        check_lrs(optimizer)
    optimizer.disable_lr_scheduler = True
    check_lrs(optimizer)


def test_an_optimizer_without_momentum_is_not_given_one():
    group = {"lr": 0.1}
    with pytest.raises(KeyError):
        set_value(group, "momentum", 0.9)

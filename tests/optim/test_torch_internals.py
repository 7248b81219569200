"""torch's private names: where they stand, and that the installed torch has them."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import torch
from torch.optim import SGD
from torch.optim.lr_scheduler import ChainedScheduler, ConstantLR, LinearLR, SequentialLR

import lit_lrsched
from lit_lrsched.optim import torch_internals
from lit_lrsched.optim.dummy_optimizer import DummyOptimizer
from tests.training import lookahead

PACKAGE = Path(lit_lrsched.__file__).parent
MODULES = [path for path in sorted(PACKAGE.rglob("*.py")) if not path.stem.endswith("_internals")]
OF_NAMED_TUPLES = ("_replace", "_asdict", "_fields")
# Ours: what a recording module notes stands on the user's own module, where a public name could be the user's.
OF_RECORDERS = (
    "_recorded",
    "_recorded_stage",
    "_recorded_step",
    "_recorded_loader",
    "_metrics_logged",
    "_counts",
    "_rates",
)


def private_names_of_others(source: str) -> list[str]:
    """Returns the private names that a source takes from elsewhere: it neither defines nor sets them."""
    tree = ast.parse(source)
    own = {node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    own |= {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
    }
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    imported = {
        part
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module != "__future__"
        for name in [f"{node.module}.{alias.name}" for alias in node.names]
        for part in name.split(".")
    }
    private = {name for name in (used - own) | imported if name.startswith("_") and not name.endswith("__")}
    return sorted(private - {*OF_NAMED_TUPLES, *OF_RECORDERS})


@pytest.mark.parametrize("path", MODULES, ids=[str(path.relative_to(PACKAGE)) for path in MODULES])
def test_no_other_module_takes_private_names_from_elsewhere(path):
    assert private_names_of_others(path.read_text()) == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("trainer.fit_loop._should_accumulate()", ["_should_accumulate"]),
        ("from torch._inductor import compile", ["_inductor"]),
        ("class A:\n    def f(self):\n        self._x = 1\n\n\ndef g(a):\n    return a._x + a._replace()", []),
    ],
)
def test_what_is_found(source, found):
    assert private_names_of_others(source) == found


def optimizer() -> SGD:
    return SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)


def test_the_hook_that_is_called_first():
    one, called = optimizer(), []
    one.register_step_post_hook(lambda *_: called.append("registered before"))
    handle = one.register_step_post_hook(lambda *_: called.append("first"))
    torch_internals.call_first(one, handle)
    one.step()
    assert called == ["first", "registered before"]


def test_the_parts_of_schedulers():
    one = optimizer()
    parts = [ConstantLR(one), LinearLR(one)]
    sequential = SequentialLR(one, parts, milestones=[3])
    assert torch_internals.parts_of(sequential) == parts
    assert torch_internals.milestones_of(sequential) == [3]
    assert torch_internals.parts_of(ChainedScheduler(parts)) == parts
    assert torch_internals.parts_of(parts[0]) == []


def test_a_dummy_seems_stepped():
    # Warnings are errors: torch knows both marks still.
    scheduler = LinearLR(DummyOptimizer([{"lr": 0.1}], {"lr": 0.1}))
    scheduler.step()
    scheduler.step()
    real = optimizer()
    LinearLR(real)
    assert hasattr(real.step, "_wrapped_by_lr_sched")
    real.step()
    assert real._opt_called


def test_an_optimizer_tells_its_steps_by_the_init_of_torch():
    told = []
    one = optimizer()
    assert torch_internals.tells_its_steps(one)
    one.register_step_post_hook(lambda *_: told.append(one))
    one.step()
    assert told == [one]
    wrapped = lookahead(one)
    assert not torch_internals.tells_its_steps(wrapped)
    wrapped.register_step_post_hook(lambda *_: told.append(wrapped))
    wrapped.step()
    assert wrapped not in told


def test_what_a_scheduler_has_wrapped_tells_as_little_once_torch_hooks_the_class():
    told = []
    wrapped = lookahead(optimizer())
    LinearLR(wrapped)
    wrapped.zero_grad()
    assert type(wrapped).step.hooked
    assert not torch_internals.tells_its_steps(wrapped)
    wrapped.register_step_post_hook(lambda *_: told.append(wrapped))
    wrapped.step()
    assert not told


def test_param_groups_are_added_without_the_compiler():
    assert torch_internals.add_param_group is not torch.optim.Optimizer.add_param_group
    one = optimizer()
    torch_internals.add_param_group(one, {"params": [torch.nn.Parameter(torch.zeros(1))]})
    assert [group["lr"] for group in one.param_groups] == [0.1, 0.1]


def test_operators_are_known():
    add_ = torch.ops.aten.add_.Tensor
    assert torch_internals.schema_of(add_).is_mutable
    assert torch_internals.schema_of(len) is None
    changed, other = torch.ones(2), torch.ones(2)
    assert torch_internals.name_of(add_) == "add_"
    assert torch_internals.name_of(len) == ""
    shown, (found,) = torch_internals.aliased(add_, (changed, other), {})
    assert found is changed
    assert shown == [found]
    _, (found,) = torch_internals.aliased(torch.ops.aten.add.out, (other, other), {"out": changed})
    assert found is changed
    (found,), none = torch_internals.aliased(torch.ops.aten.view.default, (other, [2]), {})
    assert found is other
    assert none == []
    assert torch_internals.unsafe_view().name() == "aten::_unsafe_view"

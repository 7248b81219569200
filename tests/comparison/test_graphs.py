"""Graphs of plain operations: they do what the function does that they were traced from, with less."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lit_lrsched.comparison.engine.even import EVEN, LANES, UNEVEN
from lit_lrsched.comparison.engine.graphs import Graph
from lit_lrsched.comparison.engine.replay import _BINDINGS, _NUMBERWISE, _WRITING, _writing_form
from lit_lrsched.optim.torch_internals import name_of, schema_of

aten = torch.ops.aten

# Instructions on a growing list of values ``[4, 4]``: each takes two of them and makes one.
FRESH: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": torch.add,
    "mul": torch.mul,
    "relu": lambda a, b: a.relu(),
    "tanh": lambda a, b: a.tanh(),
    "where": lambda a, b: torch.where(a > b, a, b),
    "mean": lambda a, b: a.mean(1, keepdim=True) + b,
    "bmm": lambda a, b: torch.bmm(a[None], b[None])[0] / 4,
    "bias": lambda a, b: (a[None, :1] + torch.bmm(a[None], b[None]))[0] / 4,
    "ones": lambda a, b: a * torch.ones_like(b),
    "zeros": lambda a, b: torch.zeros_like(a),
    "constant": lambda a, b: torch.full((4, 4), 0.5) * 2 + torch.ones(4, 4).sum(0),
    "copy": lambda a, b: a.clone(),
}
SHOWING: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "transpose": lambda a, b: a.t(),
    "view": lambda a, b: a.reshape(16).view(4, 4),
    "detach": lambda a, b: a.detach(),
}
CHANGING: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add_": lambda a, b: a.add_(b),
    "relu_": lambda a, b: a.relu_(),
    "into": lambda a, b: torch.addcmul(b, b, a, out=a),
    "copy_": lambda a, b: a.copy_(b),
}
ALL = FRESH | SHOWING | CHANGING
PROGRAMS = st.lists(st.tuples(st.sampled_from(list(ALL)), st.integers(0, 30), st.integers(0, 30)), max_size=12)


def function_of(program: list[tuple[str, int, int]], outputs: list[int]) -> Callable[..., Any]:
    """Takes a state and two more values, any of which it may change; returns a new state, and copies of values."""

    def function(state: Tensor, x: Tensor, y: Tensor) -> Any:
        values, memory = [state, x, y], [0, 1, 2]
        for name, first, second in program:
            i, j = first % len(values), second % len(values)
            a, b = values[i], values[j]
            if name in CHANGING and i != j and memory[i] == memory[j]:
                continue  # what comes of it is not defined
            values.append(ALL[name](a, b))
            memory.append(len(values) if name in FRESH else memory[i])
        copies = [values[place % len(values)].clone() for place in outputs]
        return copies[0], copies[1:]

    return function


@given(PROGRAMS, st.lists(st.integers(0, 30), min_size=1, max_size=4))
def test_a_graph_does_what_its_function_does_time_after_time(
    program: list[tuple[str, int, int]], outputs: list[int]
) -> None:
    generator = torch.Generator().manual_seed(1)
    state, *others = (torch.randn(4, 4, generator=generator) for _ in range(3))
    function = function_of(program, outputs)
    graph = Graph(function, state.clone(), *(other.clone() for other in others), carried=0)
    wanted, wanted_others = state.clone(), [other.clone() for other in others]
    found, found_others = state.clone(), [other.clone() for other in others]
    seen: list[tuple[Tensor, Tensor]] = []
    for _ in range(3):
        wanted, wanted_rest = function(wanted, *wanted_others)
        found, found_rest = graph.outputs(graph.run(found, *found_others))
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6, equal_nan=True)
        seen += zip(found_rest, wanted_rest, strict=True)
    for one, other in [*seen, *zip(found_others, wanted_others, strict=True)]:  # no later run changed what was returned
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6, equal_nan=True)


def operations(function: Callable[..., Any], *args: Tensor, carried: int | None = None) -> list[str]:
    nodes = Graph(function, *args, carried=carried).flat.graph.nodes
    return [name_of(node.target) for node in nodes if schema_of(node.target)]


X = torch.linspace(-1, 1, 12).view(3, 4)


@pytest.mark.parametrize(
    ("function", "left"),
    [
        (lambda x: x.transpose(0, 1).transpose(1, 0) * 2, ["mul"]),
        (lambda x: x.detach().view(3, 4) * 2, ["mul"]),
        (lambda x: x.view(3, 4, 1).transpose(1, 2).view(3, 4) * 2, ["mul"]),
        (lambda x: (x * 2) * torch.ones_like(x) + 1, ["mul", "add"]),
        (lambda x: x.sum(1) + x.mean(1), ["sum", "div", "add"]),
        (lambda x: x + torch.full((4,), 3.0).exp() / 2, ["add"]),
        (lambda x: (x * 2) + (x * 2), ["mul", "add"]),
        (lambda x: (x * 2, x * 3)[0], ["mul"]),
    ],
    ids=[
        "there and back",
        "views of the same",
        "by another way",
        "ones",
        "sum and mean",
        "constants",
        "twice",
        "never used",
    ],
)
def test_what_changes_nothing_is_left_out(function: Callable[[Tensor], Tensor], left: list[str]) -> None:
    assert operations(function, X) == left
    torch.testing.assert_close(Graph(function, X).run(X)[0], function(X))


@given(
    st.lists(st.integers(1, 5), min_size=3, max_size=3), st.sampled_from([[0], [1], [2], [-1], [1, 2]]), st.booleans()
)
def test_a_mean_is_torchs_in_every_bit(shape: list[int], dims: list[int], keepdim: bool) -> None:
    numbers = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    (found,) = Graph(lambda x: x.mean(dims, keepdim), numbers).run(numbers)
    assert torch.equal(found, numbers.mean(dims, keepdim))


def test_a_product_with_ones_stays_where_its_copy_matters() -> None:
    def function(x: Tensor) -> Tensor:
        return (x * torch.ones_like(x)).add_(1)

    x = X.clone()
    assert operations(function, x) == ["mul", "add_"]
    torch.testing.assert_close(Graph(function, x).run(x)[0], X + 1)
    assert torch.equal(x, X)


def test_a_constant_that_is_returned_is_made_anew_each_time() -> None:
    graph = Graph(lambda x: torch.zeros_like(x), X)
    graph.run(X)[0].add_(5)
    assert not graph.run(X)[0].any()


def test_a_state_is_not_copied_where_it_becomes_the_same_argument_again() -> None:
    def counting(total: Tensor, last: Tensor, x: Tensor) -> Any:
        return {"total": total.add_(x).clone(), "last": last.clone()}

    total, last = torch.zeros(3, 4), torch.ones(3, 4)
    graph = Graph(lambda state, x: counting(*state, x), (total, last), X, carried=0)
    after = graph.outputs(graph.run(total, last, X))
    assert after["total"] is total
    assert after["last"] is last
    assert torch.equal(total, X)


@pytest.mark.parametrize(
    ("function", "wanted"),
    [
        (lambda state, x: (state[1].clone(), state[0].clone()), (3.0, 1.0)),  # they change places
        (lambda state, x: (state[0].clone(), state[0].clone()), (1.0, 1.0)),
        (lambda state, x: (state[0].clone(), state[0].add_(x) * 0 + 3), (1.0, 3.0)),  # changed after it was copied
        (lambda state, x: (state[0].clone(), state[0]), (1.0, 1.0)),
    ],
)
def test_a_state_is_copied_where_it_has_to_be(
    function: Callable[..., tuple[Tensor, Tensor]], wanted: tuple[float, float]
) -> None:
    state = (torch.full((3, 4), 1.0), torch.full((3, 4), 3.0))
    found = Graph(function, state, X, carried=0).run(*state, X)
    assert [float(value[0, 0]) for value in found] == list(wanted)
    assert found[0] is not found[1]


def test_what_becomes_of_a_state_is_told() -> None:
    def function(state: dict[str, Tensor], x: Tensor) -> Any:
        after = {
            "kept": state["kept"].clone(),
            "read": state["read"].clone(),
            "shown": state["shown"].clone(),
            "added to": state["added to"].add_(x).clone(),
            "highest": torch.maximum(state["highest"], x),
            "set anew": torch.empty_like(state["set anew"]).copy_(torch.ones(())),
            "moved": state["kept"] + 0,
        }
        return after, state["read"] + x, state["shown"]

    state = dict.fromkeys(("kept", "read", "shown", "added to", "highest", "set anew", "moved"), torch.zeros(3, 4))
    found = Graph(function, state, X, carried=0).effects
    names = list(state)
    changed, used, renewed = ({names[place] for place in places} for places in found[:3])
    assert not found.writes_elsewhere
    assert changed >= {"added to", "highest", "set anew", "moved"}
    assert changed.isdisjoint({"kept", "read"})
    assert used >= changed | {"read", "shown", "kept"}
    assert renewed == {"set anew"}


def test_what_is_written_beside_a_state_is_told() -> None:
    def function(state: Tensor, x: Tensor) -> list[Tensor]:
        x.mul_(2)
        return [state + x]

    assert Graph(function, X, X.clone(), carried=0).effects.writes_elsewhere


def test_what_is_written_through_a_view_is_no_renewal() -> None:
    def function(state: Tensor, x: Tensor) -> list[Tensor]:
        fresh = torch.zeros_like(state)
        fresh[0].copy_(x[0])
        return [fresh]

    assert Graph(function, torch.zeros(3, 4), X, carried=0).effects.renewed == set()
    assert Graph(lambda state, x: [torch.zeros_like(state)], X, X, carried=0).effects.renewed == {0}


def test_results_take_the_place_of_what_nobody_needs() -> None:
    def function(x: Tensor) -> Tensor:
        return ((x + 1).relu() * x).exp()

    graph = Graph(function, X)
    before = X.clone()
    torch.testing.assert_close(graph.run(X)[0], function(X))
    assert torch.equal(X, before)
    code = graph.run.__self__.code  # type: ignore[attr-defined]
    assert code.count("out = ") == 2
    assert "relu_" in code


def test_nothing_takes_the_place_of_what_another_view_shows() -> None:
    def function(x: Tensor) -> Tensor:
        base = x + 1
        row = aten._unsafe_view.default(base, [12])  # which does not declare that it is a view
        return row.relu().view(3, 4) + base

    torch.testing.assert_close(Graph(function, X - 1).run(X - 1)[0], function(X - 1))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, within its compiler
def test_compiled_it_does_the_same(run_all: bool) -> None:
    if not run_all:
        pytest.skip("compiling takes a C++ compiler and half a minute: run with --all")

    def step(state: Tensor, x: Tensor) -> Any:
        return state.add_(x.relu()).clone(), (x * torch.ones_like(x)).sum()

    state = torch.zeros(3, 4)
    graph = Graph(step, state, X, carried=0)
    graph.compile([state, X])
    for turn in (1, 2):
        state, total = graph.run(state, X)
        torch.testing.assert_close(state, turn * X.relu())
        torch.testing.assert_close(total, X.sum())


FLOATS = [torch.tensor([0.5, 2.0, 3.0]), torch.tensor([1.5, 0.25, 2.0]), torch.tensor([0.1, 0.2, 0.3])]
SQUARES = [torch.arange(8.0).view(2, 2, 2), torch.arange(8.0, 16.0).view(2, 2, 2)]

# Arguments for operators that do not take numbers alone.
EXAMPLES: dict[str, tuple[Any, ...]] = {
    "where": (FLOATS[0] > 1, *FLOATS[1:]),
    "clone": (FLOATS[0],),
    "bmm": tuple(SQUARES),
    "sum": (SQUARES[0], [1, 2], True),
    "mean": (SQUARES[0], [1], True),
    "amax": (SQUARES[0], [1], True),
    "amin": (SQUARES[0], [1], True),
    "argmax": (SQUARES[0], 1, True),
    "cat": (FLOATS, 0),
    "stack": (FLOATS, 1),
    "index_select": (SQUARES[0], 1, torch.tensor([1, 0, 1])),
    "gather": (SQUARES[0], 2, torch.tensor([[[1], [0]], [[0], [1]]])),
    "transpose": (SQUARES[0], 1, 2),
    "permute": (SQUARES[0], [2, 0, 1]),
    "select": (SQUARES[0], 1, 1),
    "unsqueeze": (FLOATS[0], 1),
    "squeeze": (FLOATS[0][None], 0),
    "unbind": (SQUARES[0], 1),
    "split_with_sizes": (FLOATS[0], [1, 2]),
    "view": (SQUARES[0], [4, -1]),
    "expand": (FLOATS[0], [2, 3]),
    "fill_": (FLOATS[0], 2.0),
    "copy_": tuple(FLOATS[:2]),
    "lerp_": tuple(FLOATS),
}


def calls_of(name: str) -> list[tuple[Any, tuple[Any, ...], Any]]:
    """The forms of an operator that take some arguments, with these and with what comes of them."""
    calls = []
    packet = getattr(aten, name)
    for operator in (getattr(packet, overload) for overload in packet.overloads()):
        arguments = schema_of(operator).arguments
        needed = [argument for argument in arguments if not argument.has_default_value()]
        if str(needed[0].type) != "Tensor" and name not in EXAMPLES:
            continue  # numbers alone
        values = [2.0 if str(argument.type) == "number" else x for argument, x in zip(needed, FLOATS, strict=False)]
        args = EXAMPLES.get(name) or tuple(values)
        try:
            calls.append((operator, args, operator(*_copies(args))))
        except (RuntimeError, TypeError):
            assert name in EXAMPLES or any(argument.kwarg_only for argument in needed)  # another form takes these
    return calls


@pytest.mark.parametrize("name", _BINDINGS)
def test_a_binding_calls_its_operator(name: str) -> None:
    calls = calls_of(name)
    assert calls
    for _, args, wanted in calls:
        torch.testing.assert_close(_BINDINGS[name](*_copies(args)), wanted, rtol=0, atol=0)


@pytest.mark.parametrize("name", _NUMBERWISE)
def test_an_operation_on_each_number_writes_where_it_is_told(name: str) -> None:
    calls = [(form, args, wanted) for operator, args, wanted in calls_of(name) if (form := _writing_form(operator))]
    assert calls
    for form, args, wanted in calls:
        out = torch.empty_like(wanted)
        assert form[0](*args, **{str(form[1]): out}) is out
        torch.testing.assert_close(out, wanted, rtol=0, atol=0)
        assert _BINDINGS[name](*args, out=out.zero_()) is out
        torch.testing.assert_close(out, wanted, rtol=0, atol=0)


def test_the_other_writing_forms_write() -> None:
    grad, result = FLOATS[0].clone(), FLOATS[1] - 1
    wanted = aten.threshold_backward.default(grad, result, 0)
    form, where = _WRITING[aten.threshold_backward.default]
    assert where is not None
    torch.testing.assert_close(form(grad, result, 0, **{where: grad}), wanted)
    torch.testing.assert_close(grad, wanted)


def _copies(args: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(arg.clone() if isinstance(arg, Tensor) else arg for arg in args)


@given(st.integers(1, 70), st.integers(1, 130), st.integers(1, 70), st.booleans(), st.booleans(), st.integers(0, 15))
def test_a_product_rounds_alike_wherever_its_matrices_lie(
    rows: int, inner: int, columns: int, left: bool, right: bool, offset: int
) -> None:
    generator = torch.Generator().manual_seed(1)

    def many(height: int, width: int, turned: bool) -> Tensor:
        one = torch.randn(*((width, height) if turned else (height, width)), generator=generator)
        lying = torch.empty(48 * one.numel() + offset)[offset:].view(48, *one.shape).copy_(one)
        return lying.transpose(1, 2) if turned else lying

    a, b = many(rows, inner, left), many(inner, columns, right)
    products = Graph(torch.bmm, a, b).run(a, b)[0]
    assert torch.equal(products, products[:1].expand_as(products))


def elementwise() -> list[Any]:
    """All operators that compute a number from each number, and take tensors and numbers alone."""
    found = []
    for name in dir(aten):
        packet = getattr(aten, name)
        for operator in (getattr(packet, overload) for overload in getattr(packet, "overloads", list)()):
            tags, schema = operator.tags, operator._schema
            is_one = torch.Tag.pointwise in tags or name.endswith("_backward")
            if is_one and not schema.is_mutable and torch.Tag.nondeterministic_seeded not in tags:
                found.append(operator)
    return found


def arguments_of(operator: Any) -> list[Any]:
    kinds = {"Tensor": lambda: 4 * torch.rand(64) + 0.01, "number": lambda: 0.7, "float": lambda: 0.7}
    needed = [a for a in operator._schema.arguments if not (a.has_default_value() or a.kwarg_only)]
    return [kinds.get(str(argument.type), bool)() for argument in needed]


@pytest.mark.filterwarnings("ignore")
def test_only_some_operators_round_the_rest_otherwise() -> None:
    torch.manual_seed(1)
    uneven, tried = set(), 0
    for operator in elementwise():
        for _ in range(50):
            args = arguments_of(operator)
            part = [arg[:48].clone() if isinstance(arg, Tensor) else arg for arg in args]
            try:
                found, wanted = operator(*part), operator(*args)
            except (RuntimeError, TypeError, ValueError, IndexError):
                break
            if not isinstance(wanted, Tensor) or wanted.shape != (64,) or not wanted.is_floating_point():
                break
            tried += 1
            if not torch.equal(found.nan_to_num(), wanted[:48].nan_to_num()):
                uneven.add(name_of(operator))
    assert tried > 5_000
    assert uneven - {"binary_cross_entropy_backward"} <= {*UNEVEN}  # which divides by the number of numbers


def lying(tensor: Tensor, how: str) -> Tensor:
    """Returns a view of shape ``[R, 5, 3]`` or so that lies in memory in one way or another."""
    if how == "turned":
        return tensor.mT.contiguous().mT
    if how == "with gaps":
        return tensor.repeat_interleave(2, dim=-1)[..., ::2]
    return tensor[..., :1].expand_as(tensor) if how == "expanded" else tensor


@given(
    st.sampled_from([operator for operator in EVEN if not schema_of(operator).is_mutable]),
    st.integers(1, 7),
    st.integers(1, 7),
    st.lists(st.sampled_from(["as it is", "turned", "with gaps", "expanded"]), min_size=2, max_size=2),
)
def test_no_run_depends_on_how_many_run_beside_it(operator: Any, rows: int, columns: int, how: list[str]) -> None:
    generator = torch.Generator().manual_seed(1)
    whole = [0.9 * torch.rand(5 * LANES, rows, columns, generator=generator) + 0.01 for _ in range(2)]
    needed = [a for a in schema_of(operator).arguments if not a.kwarg_only and str(a.type) in ("Tensor", "number")]
    needed = [argument for argument in needed if not argument.has_default_value() or "softplus" in operator.name()]
    count = sum(str(argument.type) == "Tensor" for argument in needed)

    def function(*leaves: Tensor) -> Any:
        tensors = iter([lying(tensor, one) for tensor, one in zip(leaves, how, strict=False)])
        return operator(*[next(tensors) if str(argument.type) == "Tensor" else 0.7 for argument in needed])

    found = []
    for runs in (LANES, 2 * LANES, 5 * LANES):
        leaves = [tensor[:runs].clone() for tensor in whole[:count]]
        (out,) = Graph(function, *leaves).run(*leaves)
        torch.testing.assert_close(out, function(*leaves), rtol=1e-6, atol=1e-7)
        found.append(out[:LANES])
    assert all(torch.equal(out, found[0]) and out.stride() == found[0].stride() for out in found)


def test_what_is_changed_in_place_rounds_alike_too() -> None:
    numbers = torch.rand(2 * LANES, 3)

    def function(x: Tensor) -> Tensor:
        return torch.nn.functional.silu(x * 1, inplace=True)

    part = numbers[:LANES].clone()
    assert torch.equal(Graph(function, part).run(part)[0], Graph(function, numbers).run(numbers)[0][:LANES])


@pytest.mark.parametrize(
    ("function", "turned"),
    [
        (lambda x, w: torch.bmm(x, w.transpose(1, 2)), {1}),
        (lambda x, w: torch.bmm(x, w), set()),
        (lambda x, w: torch.bmm(torch.bmm(x, w.transpose(1, 2)), w), set()),
        (lambda x, w: x + w.transpose(1, 2), set()),
    ],
)
def test_matrices_that_products_take_transposed_are_told(
    function: Callable[[Tensor, Tensor], Tensor], turned: set[int]
) -> None:
    assert Graph(function, torch.ones(4, 3, 3), torch.ones(4, 3, 3)).turned() == turned


def test_arguments_that_are_viewed_in_another_shape_are_told() -> None:
    assert Graph(
        lambda x, w: x.view(4, 9) + w.reshape(4, 9).sum(), torch.ones(4, 3, 3), torch.ones(4, 3, 3)
    ).viewed() == {0, 1}
    assert Graph(lambda x, w: x * w.transpose(1, 2), torch.ones(4, 3, 3), torch.ones(4, 3, 3)).viewed() == set()

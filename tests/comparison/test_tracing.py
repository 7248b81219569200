"""What a function does, written down: what is taken down, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from lit_lrsched.comparison.engine.recorder import NotVectorizable
from lit_lrsched.comparison.engine.tracing import Like, trace

aten = torch.ops.aten
X = torch.linspace(-1, 1, 12).view(3, 4)


def flat(function: Callable[..., Any], *args: Tensor, **forms: Callable[..., Any]) -> Any:
    return trace(function, list(args), {getattr(aten, name).default: form for name, form in forms.items()})


def operators(traced: Any) -> list[Any]:
    return [node.target for node in traced.graph.nodes if node.op == "call_function"]


def test_operators_are_taken_down_in_their_order_with_what_they_compute() -> None:
    traced = flat(lambda x, y: [(x + y).t(), x], X, X[:, :1])
    assert operators(traced) == [aten.add.Tensor, aten.t.default]
    likes = [node.meta["like"] for node in traced.graph.nodes if node.op == "call_function"]
    assert likes == [
        Like(torch.Size([3, 4]), (4, 1), torch.float32, X.device),
        Like(torch.Size([4, 3]), (1, 4), torch.float32, X.device),
    ]
    assert likes[0].nbytes == 48
    assert Like.of(likes[1].empty()) == likes[1]
    found, same = traced.module().forward(2 * X, X[:, :1])
    torch.testing.assert_close(found, (2 * X + X[:, :1]).t())
    torch.testing.assert_close(same, 2 * X)


def test_tracing_changes_nothing_and_running_does() -> None:
    x = X.clone()
    traced = flat(lambda x: [x.add_(1)], x)
    assert torch.equal(x, X)
    traced.module().forward(x)
    torch.testing.assert_close(x, X + 1)


def test_an_operator_with_several_outputs_may_leave_one_out() -> None:
    x, weight = torch.ones(1, 1, 4), torch.ones(1, 1, 2)

    def function(x: Tensor) -> Any:
        grads = aten.convolution_backward(
            x[:, :, :3], x, weight, [1], [1], [0], [1], False, [0], 1, [False, True, False]
        )
        assert grads[0] is None
        return [grads[1], *x.unbind(2)]

    traced = flat(function, x)
    for found, wanted in zip(traced.module().forward(x), function(x), strict=True):
        torch.testing.assert_close(found, wanted)


def test_a_form_is_traced_in_place_of_an_operator() -> None:
    assert operators(flat(lambda x: [x.relu()], X, relu=lambda x: x.clamp_min(0))) == [aten.clamp_min.default]
    assert operators(flat(lambda x: [x.relu()], X, relu=lambda x: NotImplemented)) == [aten.relu.default]


def test_a_tensor_from_elsewhere_is_a_constant() -> None:
    traced = flat(lambda x: [x + X, torch.tensor(2.0).mul_(3)], X)
    run = traced.module().forward
    for _ in range(2):  # what is made within is made anew each time
        found, made = run(X)
        torch.testing.assert_close(found, 2 * X)
        assert float(made) == 6


def test_rows_that_numbers_choose_are_taken_down() -> None:
    order = torch.tensor([2, 0, 1])
    traced = flat(lambda x, order: [x[order], x[1, order]], X, order)
    for found, wanted in zip(traced.module().forward(X + 1, order), ((X + 1)[order], (X + 1)[1, order]), strict=True):
        torch.testing.assert_close(found, wanted)


def _branches(x: Tensor) -> Any:
    return [x + 1] if x.sum() > 0 else [x]


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (_branches, "branches on the values"),
        (lambda x: [x * float(x[0, 0])], "branches on the values"),
        (lambda x: [x[x > 0]], "branches on the values"),
        (lambda x: [x.nonzero()], "branches on the values"),
        (lambda x: [x] if torch.equal(x, x) else [], "branches on the values"),
        (lambda x: [x + torch.rand(4)], "draws random numbers"),
        (lambda x: [x.bernoulli()], "draws random numbers"),
        (lambda x: [x + X.add_(0)], "changes a tensor that is no"),
        (lambda x: [X[0].copy_(x[0])], "changes a tensor that is no"),
    ],
)
def test_what_depends_on_values_or_is_not_its_own_is_refused(function: Callable[..., Any], reason: str) -> None:
    state, before = torch.get_rng_state(), X.clone()
    with pytest.raises(NotVectorizable, match=reason):
        flat(function, X.clone())
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(before, X)

"""A graph as the quickest calls that do the same: results take the place of what nobody needs any more."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph, Node

from lit_lrsched.comparison.engine.memory import Memory
from lit_lrsched.comparison.engine.simplify import is_like
from lit_lrsched.comparison.engine.tracing import Flat
from lit_lrsched.optim.torch_internals import name_of, schema_of

aten = torch.ops.aten

# Operators whose function in `torch` takes the same arguments: calling these takes half as long as calling operators.
# The first ones write into `out` what they compute; the `out` of some others is a copy of it.
_NUMBERWISE = (
    *("add", "sub", "mul", "div", "neg", "exp", "log", "sqrt", "rsqrt", "abs", "sign", "tanh", "sigmoid", "log1p"),
    *("pow", "addcmul", "addcdiv", "lerp", "where", "clamp_min", "maximum", "minimum"),
    *("gt", "ge", "lt", "le", "eq", "ne", "logical_and", "logical_or", "logical_not"),
)
_OTHERS = (
    *("relu", "relu_", "clone", "bmm", "sum", "mean", "amax", "amin", "argmax", "cat", "stack"),
    *("index_select", "gather", "transpose", "permute", "select", "unsqueeze", "squeeze", "unbind", "split_with_sizes"),
)
# Likewise methods of tensors.
_METHODS = (
    *("view", "expand", "add_", "sub_", "mul_", "div_", "neg_", "exp_", "log_", "sqrt_"),
    *("addcmul_", "addcdiv_", "lerp_", "copy_", "fill_", "zero_"),
)
_BINDINGS: dict[str, Callable[..., Any]] = {
    **{name: getattr(torch, name) for name in (*_NUMBERWISE, *_OTHERS)},
    **{name: getattr(Tensor, name) for name in _METHODS},
}

# What else can write into an argument: by which form, and the name under which it takes this; None for the first one.
_WRITING: dict[Any, tuple[Any, str | None]] = {
    aten.relu.default: (aten.relu_.default, None),
    aten.threshold_backward.default: (aten.threshold_backward.grad_input, "grad_input"),
}


def replay(flat: Flat) -> Callable[..., list[Tensor]]:
    """Returns a function of a graph's arguments, one by one, that does what the graph does."""
    quick = flat.copy()
    _in_place(quick.graph)
    for node in quick.graph.nodes:
        node.target = _binding(node.target)
    module = quick.module()
    for name, constant in list(module.named_buffers()):  # what a module's own dictionary holds is found sooner
        delattr(module, name)
        vars(module)[name] = constant
    run: Callable[..., list[Tensor]] = module.forward
    return run


def _in_place(graph: Graph) -> None:
    """Lets operations on each number write into an argument that nobody needs any more."""
    memory = Memory(graph)
    last = memory.last
    owner: dict[Node, Node] = {}
    for node, place in memory.place.items():
        root = memory.root[node]
        owner[node] = owner[root] if root is not node else node
        form = _writing_form(node.target)
        if form is None:
            continue
        free = next((a for a in node.all_input_nodes if _makes_room(a, node, owner, last, place)), None)
        if free is not None:
            node.target, name = form
            node.kwargs = {**node.kwargs, name: free} if name else node.kwargs
            owner[node] = owner[free]
            last[owner[free]] = last[node]


def _makes_room(argument: Node, node: Node, owner: dict[Node, Node], last: dict[Node, int], place: int) -> bool:
    """Returns whether a result may take the place of an argument."""
    whose = owner[argument]
    return (
        whose.op == "call_function"  # neither an argument of the graph nor a constant
        and last[whose] == place
        and is_like(node, argument)
        and not any(owner[other] is whose for other in node.all_input_nodes if other is not argument)
    )


@cache
def _writing_form(operator: Any) -> tuple[Any, str | None] | None:
    """Returns the form of an operator that writes into an argument: see above."""
    if name_of(operator) not in _NUMBERWISE:
        return _WRITING.get(operator)
    wanted = [(argument.name, str(argument.type)) for argument in schema_of(operator).arguments]
    for name in operator.overloadpacket.overloads():
        form = getattr(operator.overloadpacket, name)
        arguments = schema_of(form).arguments
        if [(a.name, str(a.type)) for a in arguments if not a.is_out] == wanted and arguments[-1].name == "out":
            return form, "out"
    return None


def _binding(operator: Any) -> Any:
    """Returns what calls an operator from Python."""
    return _BINDINGS.get(name_of(operator), operator)

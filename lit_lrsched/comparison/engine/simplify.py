"""What a traced graph can do without: ``vmap``, ``grad`` and metrics leave much that changes nothing."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.fx import Node
from torch.fx.node import map_arg

from lit_lrsched.comparison.engine.memory import LIKE, Memory
from lit_lrsched.comparison.engine.tracing import Flat
from lit_lrsched.optim.torch_internals import draws, schema_of, unsafe_view

aten = torch.ops.aten

_VIEWS = (aten.expand.default, aten.view.default, unsafe_view(), aten.transpose.int)
_SAME_MEMORY = (aten.alias.default, aten.detach.default)
_FROM_NOTHING = (aten.scalar_tensor.default, aten.full.default, aten.zeros.default, aten.ones.default)


def simplify(flat: Flat, carried: range) -> None:
    """Takes out of a graph what changes nothing, is computed twice, or is the same in every run.

    Args:
        flat: The graph, as it was traced.
        carried: The places of the arguments that the first outputs become in the next run, in their order.
    """
    _without_idle_operations(flat)
    _with_constants(flat)
    _without_ones(flat)
    _without_repetition(flat)
    flat.graph.eliminate_dead_code()
    _without_copies(flat, carried)


def _operations(flat: Flat) -> list[Node]:
    return [node for node in flat.graph.nodes if schema_of(node.target) is not None]


def _replace(flat: Flat, node: Node, by: Node) -> None:
    node.replace_all_uses_with(by)
    flat.graph.erase_node(node)


def is_like(node: Node, other: Node) -> bool:
    """Returns whether two values have the same shape, strides and type."""
    return bool(node.meta["like"] == other.meta["like"])


def _without_idle_operations(flat: Flat) -> None:
    """Takes out views that show what is there, and products with 1."""
    for node in _operations(flat):
        before = node.args[0] if node.args else None
        if not isinstance(before, Node):
            continue
        if node.target in _VIEWS:
            shown = _shown(node)
            if shown is not node:
                _replace(flat, node, shown)
        elif node.target in _SAME_MEMORY or (node.target is aten.mul.Scalar and node.args[1] == 1):
            _replace(flat, node, before)


def _shown(view: Node) -> Node:
    """Returns the first of the values that a view is a view of, and looks like; the view itself if there is none."""
    found = before = view
    while before.target in _VIEWS:
        before = before.args[0]  # type: ignore[assignment]  # a view of a node
        if is_like(view, before):
            found = before
    return found


def _with_constants(flat: Flat) -> None:
    """Computes now what depends on no argument."""
    memory = Memory(flat.graph)
    values: dict[Node, Any] = {}
    for node in flat.graph.nodes:
        root = memory.root[node]
        if root in memory.changed or root in memory.held or draws(node):
            continue
        if node.op == "get_attr":
            values[node] = flat.constants[str(node.target)]
        elif node.target in LIKE:
            values[node] = node.target(node.args[0].meta["like"].empty(), *node.args[1:], **node.kwargs)
        elif node.target in _FROM_NOTHING:
            values[node] = node.target(*node.args, **node.kwargs)
        elif node.op == "call_function" and node.all_input_nodes and values.keys() >= {*node.all_input_nodes}:
            args, kwargs = map_arg((node.args, node.kwargs), values.__getitem__)
            values[node] = node.target(*args, **kwargs)
    for node, value in values.items():
        if node.op == "get_attr" or not isinstance(value, Tensor) or values.keys() >= {*node.users}:
            continue
        name = f"constant_{node.name}"
        flat.constants[name] = value
        with flat.graph.inserting_before(node):
            constant = flat.graph.get_attr(name)
        constant.meta["like"] = node.meta["like"]
        node.replace_all_uses_with(constant)


def _without_ones(flat: Flat) -> None:
    """Takes out products with a tensor of ones: the weights of means."""
    memory = Memory(flat.graph)
    for node in _operations(flat):
        if node.target is not aten.mul.Tensor or not memory.is_private(node):
            continue
        before, weights = node.args
        if (
            isinstance(before, Node)
            and isinstance(weights, Node)
            and weights.op == "get_attr"
            and is_like(node, before)
            and memory.is_settled(before, node)
            and bool((flat.constants[str(weights.target)] == 1).all())
        ):
            _replace(flat, node, before)


def _without_repetition(flat: Flat) -> None:
    """Takes out what is computed twice; memory that changes is let be, and each output keeps its own."""
    memory = Memory(flat.graph)
    first: dict[str, Node] = {}
    for node in _operations(flat):
        roots = {memory.root[shown] for shown in (node, *node.all_input_nodes)}
        if memory.root[node] not in memory.held and memory.changed.keys().isdisjoint(roots):
            same = first.setdefault(f"{node.target}{node.args}{node.kwargs}", node)
            if same is not node:
                node.replace_all_uses_with(same)


def _without_copies(flat: Flat, carried: range) -> None:
    """Returns the memory of an argument itself, rather than a copy, where it becomes that argument in the next run."""
    memory = Memory(flat.graph)
    arguments = list(flat.graph.find_nodes(op="placeholder"))
    (outputs,) = flat.graph.output_node().args
    for place, node in zip(carried, list(outputs), strict=False):  # type: ignore[arg-type]  # a list of nodes
        if node.target is not aten.clone.default or len(node.users) > 1:
            continue
        before, argument = node.args[0], arguments[place]
        if (
            memory.root[before] is argument
            and argument not in memory.held
            and is_like(node, argument)
            and memory.is_settled(argument, node)
            and outputs.count(node) == 1  # type: ignore[union-attr]
        ):
            memory.held[argument] += 1
            _replace(flat, node, before)

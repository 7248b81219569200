"""Functions of tensors as flat graphs of plain operations: traced once, run without dispatch, or compiled."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node
from torch.fx.graph import CodeGen

from lit_lrsched.comparison.engine.draws import DRAWN
from lit_lrsched.comparison.engine.recorder import NotVectorizable
from lit_lrsched.optim.torch_internals import (
    compiled,
    draws,
    schema_of,
    traced,
    tree_flatten,
    tree_leaves,
    tree_unflatten,
    unsafe_view,
)

aten = torch.ops.aten

# How MKL rounds a product of small matrices depends on their address, and so on a run's place among the runs, unless it
# is told otherwise before its first product. One who computed before sees equal results up to the last bits.
os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")


def _bmm(a: Tensor, b: Tensor) -> Any:
    # With a single row or column there is nothing for a matrix library to gain, and how it rounds them depends on
    # their address: a run's result would depend on its place among the runs.
    if a.shape[2] == 1:
        return a * b
    if a.shape[1] == 1:
        return (a.transpose(1, 2) * b).sum(1, keepdim=True)
    if b.shape[2] == 1:
        return (a * b.transpose(1, 2)).sum(2, keepdim=True)
    return NotImplemented


_IN_PLACE_OF: dict[Any, Callable[..., Any]] = {aten.bmm.default: _bmm, **DRAWN}
_VIEWS = (aten.expand.default, aten.view.default, unsafe_view())


class Graph:
    """A function of trees of tensors, as a graph of plain operations on their leaves.

    What the function changes in place, a run of the graph changes in place; tracing changes nothing.

    Args:
        function: What to trace. It must do the same operations whatever the values in its arguments.
        args: Trees of tensors with the shapes that every run will have.

    Raises:
        NotVectorizable: When the function branches on values.
    """

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        leaves, inside = tree_flatten(args)

        def flat(*leaves: Tensor) -> list[Tensor]:
            outputs, self._outside = tree_flatten(function(*tree_unflatten(leaves, inside)))
            return outputs

        try:
            self.module: GraphModule = traced(flat, leaves, _IN_PLACE_OF)
        except NotVectorizable:
            raise
        except Exception as error:  # whatever a step does with tensors that have no values
            raise NotVectorizable(_reason(error)) from error
        for node in self.module.graph.nodes:
            if draws(node):
                raise NotVectorizable(f"a step draws random numbers by {node.target}")
        _without_idle_operations(self.module)
        _without_repetition(self.module)
        self.module.graph.set_codegen(CodeGen())  # takes the leaves one by one, with no tree to flatten at every call
        self.module.recompile()
        self.run: Callable[..., list[Tensor]] = self.module.forward

    def compile(self, leaves: list[Tensor]) -> None:
        """Compiles the graph for leaves like these, and for the number of threads that torch has now.

        ``torch.compile`` would guard every call, which takes longer than the smaller operations do.
        """
        with torch.no_grad():
            self.run = compiled(self.module, leaves)

    def outputs(self, leaves: list[Tensor]) -> Any:
        """Returns the leaves of a run as the tree that the function returned."""
        return tree_unflatten(leaves, self._outside)

    def example(self) -> Any:
        """Returns zeros like the tree that the function returned."""
        (nodes,) = self.module.graph.output_node().args  # a node may come twice: a loss that is logged as it is
        like = [node.meta["val"] for node in tree_leaves(nodes)]
        return self.outputs([torch.zeros(tensor.shape, dtype=tensor.dtype, device=tensor.device) for tensor in like])

    def peak_bytes(self) -> int:
        """Returns the most memory that a run holds at one time, arguments included."""
        nodes = list(self.module.graph.nodes)
        root = _roots(self.module)
        last: dict[Node, int] = {}
        for place, node in enumerate(nodes):
            for used in (node, *node.all_input_nodes):
                last[root[used]] = len(nodes) if root[used].op == "placeholder" else place
        freed: dict[int, int] = {}
        held = peak = 0
        for place, node in enumerate(nodes):
            if root[node] is node:
                tensors = [leaf for leaf in tree_leaves(node.meta.get("val")) if isinstance(leaf, Tensor)]
                size = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
                held += size
                freed[last[node]] = freed.get(last[node], 0) + size
            peak = max(peak, held)
            held -= freed.get(place, 0)
        return peak


def _roots(module: GraphModule) -> dict[Node, Node]:
    """Returns for each node the one whose memory it shows."""
    root: dict[Node, Node] = {}
    for node in module.graph.nodes:
        shows = False
        if node.op == "call_function":
            # What is no operator takes an item of the several outputs of one.
            schema = schema_of(node.target)
            shows = schema is None or any(argument.alias_info for argument in schema.arguments)
        root[node] = root[node.all_input_nodes[0]] if shows else node
    return root


def _without_idle_operations(module: GraphModule) -> None:
    """Takes out views that change nothing and products with 1, of which ``vmap`` leaves many."""
    for node in list(module.graph.nodes):
        if node.target in _VIEWS:
            before, after = node.args[0].meta["val"], node.meta["val"]
            idle = before.shape == after.shape and before.stride() == after.stride()
        else:
            idle = node.target is aten.mul.Scalar and node.args[1] == 1
        if idle:
            node.replace_all_uses_with(node.args[0])
            module.graph.erase_node(node)


def _without_repetition(module: GraphModule) -> None:
    """Takes out what is computed twice or not used, of which metrics leave much; memory that changes is let be."""
    root = _roots(module)
    operations = [node for node in module.graph.nodes if schema_of(node.target) is not None]
    changing = {root[node] for node in operations if schema_of(node.target).is_mutable}
    first: dict[str, Node] = {}
    for node in operations:
        if changing.isdisjoint(root[shown] for shown in (node, *node.all_input_nodes)):
            same = first.setdefault(f"{node.target}{node.args}{node.kwargs}", node)
            if same is not node:
                node.replace_all_uses_with(same)
    module.graph.eliminate_dead_code()


def _reason(error: Exception) -> str:
    text = str(error)
    if "randomness" in text:
        return "a step draws random numbers into a tensor that all runs share"
    if "data-dependent" in text or ".item()" in text or "aten::_local_scalar_dense" in text or "dynamic" in text:
        return "a step branches on the values of its tensors"
    return f"torch.func cannot follow a step: {(text or type(error).__name__).splitlines()[0]}"

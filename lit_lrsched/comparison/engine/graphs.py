"""Functions of tensors as flat graphs of plain operations: traced once, run without dispatch, or compiled."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from lit_lrsched.comparison.engine.counts import OF_EACH_RUN
from lit_lrsched.comparison.engine.draws import DRAWN
from lit_lrsched.comparison.engine.effects import Effects, effects
from lit_lrsched.comparison.engine.even import EVEN
from lit_lrsched.comparison.engine.lists import READS, Appended
from lit_lrsched.comparison.engine.memory import Memory
from lit_lrsched.comparison.engine.mkl import ROUNDS_ALIKE
from lit_lrsched.comparison.engine.recorder import NotVectorizable
from lit_lrsched.comparison.engine.replay import replay
from lit_lrsched.comparison.engine.simplify import is_like, simplify
from lit_lrsched.comparison.engine.tracing import trace
from lit_lrsched.optim.torch_internals import (
    compiled,
    tree_flatten,
    tree_leaves,
    tree_unflatten,
)

aten = torch.ops.aten


def _bmm(a: Tensor, b: Tensor) -> Any:
    if ROUNDS_ALIKE:
        if b.shape[2] > 1 or a.shape[1] == 1:
            return NotImplemented
        row = torch.bmm(b.transpose(1, 2), a.transpose(1, 2))  # for a column MKL takes five times as long as for a row
        return row.transpose(1, 2)
    # With a single row or column there is little for a matrix library to gain, and even when it is asked to round alike
    # everywhere, how it rounds these depends on their address.
    if a.shape[2] == 1:
        return a * b
    if a.shape[1] == 1:
        return (a.transpose(1, 2) * b).sum(1, keepdim=True)
    if b.shape[2] == 1:
        return (a * b.transpose(1, 2)).sum(2, keepdim=True)
    return NotImplemented


def _mean(tensor: Tensor, dims: list[int] | None, keepdim: bool = False, *, dtype: torch.dtype | None = None) -> Any:
    is_plain = tensor.device.type == "cpu" and tensor.dtype in (torch.float32, torch.float64)
    if not is_plain or dtype is not None or not dims:
        return NotImplemented
    # As torch does it, with a sum that is often there already.
    return tensor.sum(dims, keepdim) / math.prod(tensor.shape[dim] for dim in dims)


_IN_PLACE_OF: dict[Any, Callable[..., Any]] = {aten.bmm.default: _bmm, aten.mean.dim: _mean, **DRAWN, **EVEN}


class Graph:
    """A function of trees of tensors, as a graph of plain operations on their leaves.

    What the function changes in place, a run of the graph changes in place; tracing changes nothing.

    Args:
        function: What to trace. It must do the same operations whatever the values in its arguments.
        args: Trees of tensors with the shapes that every run will have.
        carried: Which of these the first output takes the place of in the next run; none by default. It may then be the
            same memory.

    Raises:
        NotVectorizable: When the function branches on values.
    """

    def __init__(self, function: Callable[..., Any], *args: Any, carried: int | None = None) -> None:
        leaves, inside = tree_flatten(args)

        def flat(*leaves: Tensor) -> list[Tensor]:
            outputs, self._outside = tree_flatten(function(*tree_unflatten(leaves, inside)))
            return outputs

        try:
            self.flat = trace(flat, leaves, _IN_PLACE_OF)
        except NotVectorizable:
            raise
        except Exception as error:  # whatever torch.func says of a step that it cannot follow
            raise NotVectorizable(_reason(error)) from error
        sizes = [len(tree_leaves(arg)) for arg in args]
        first = sum(sizes[:carried])
        self._carried = range(first, first + (0 if carried is None else sizes[carried]))
        simplify(self.flat, self._carried)

    @cached_property
    def run(self) -> Callable[..., list[Tensor]]:
        """What runs the graph: it takes the leaves of the arguments, and returns those of what the function returns."""
        return replay(self.flat)

    def compile(self, leaves: list[Tensor]) -> None:
        """Compiles the graph for leaves like these, and for the number of threads that torch has now.

        ``torch.compile`` would guard every call, which takes longer than the smaller operations do.
        """
        with torch.no_grad():
            self.run = compiled(self.flat.module(), leaves)

    @cached_property
    def effects(self) -> Effects:
        """What it does with the leaves of what it carries."""
        return effects(self.flat.graph, self._carried)

    def outputs(self, leaves: list[Tensor]) -> Any:
        """Returns the leaves of a run as the tree that the function returned."""
        return tree_unflatten(leaves, self._outside)

    @cached_property
    def example(self) -> Any:
        """Returns zeros like the tree that the function returned."""
        (nodes,) = self.flat.graph.output_node().args  # a node may come twice: a loss that is logged as it is
        likes = [node.meta["like"] for node in tree_leaves(nodes)]
        return self.outputs([torch.zeros(like.shape, dtype=like.dtype, device=like.device) for like in likes])

    def changed(self) -> set[int]:
        """Returns which arguments, by their place, a run changes in place."""
        memory = Memory(self.flat.graph)
        return {place for place, argument in self._arguments() if argument in memory.changed}

    def turned(self) -> set[int]:
        """Returns which arguments, by their place, are matrices that most of its products take as transposed ones."""
        score: Counter[Node] = Counter()
        for product in self.flat.graph.find_nodes(op="call_function", target=aten.bmm.default):
            right = product.args[1]
            is_turned = right.target is aten.transpose.int
            score[right.args[0] if is_turned else right] += 1 if is_turned else -1
        return {place for place, argument in self._arguments() if score[argument] > 0}

    def viewed(self) -> set[int]:
        """Returns which arguments, by their place, are viewed in another shape, which depends on how they lie."""
        root = Memory(self.flat.graph).root
        views = [node for node in self.flat.graph.nodes if node.target in (aten.view.default, aten.as_strided.default)]
        shown = {root[view] for view in views if is_like(view.args[0], root[view])}  # as it is, or changed in place
        return {place for place, argument in self._arguments() if argument in shown}

    def _arguments(self) -> Iterator[tuple[int, Node]]:
        return enumerate(self.flat.graph.find_nodes(op="placeholder"))

    def peak_bytes(self) -> int:
        """Returns the most memory that a run holds at one time, arguments included."""
        nodes = list(self.flat.graph.nodes)
        memory = Memory(self.flat.graph)
        freed: dict[int, int] = {}
        held = peak = 0
        for place, node in enumerate(nodes):
            if memory.root[node] is node:
                size = sum(like.nbytes for like in tree_leaves(node.meta.get("like", [])))
                held += size
                last = len(nodes) if node.op == "placeholder" else memory.last[node]
                freed[last] = freed.get(last, 0) + size
            peak = max(peak, held)
            held -= freed.get(place, 0)
        return peak


def _reason(error: Exception) -> str:
    text = str(error)
    if "randomness" in text:
        return "a step draws random numbers into a tensor that all runs share"
    if "setup_context" in text:
        return "torch.func cannot follow a step: it calls an autograd.Function without setup_context"
    if Appended.__name__ in text:  # where a function wants tensors
        return READS
    if "data pointer" in text:
        return "a step takes the numbers out of its tensors, as numpy() does"
    of_values = ("data-dependent", ".item()", "aten::_local_scalar_dense", "dynamic", OF_EACH_RUN)
    if any(part in text for part in of_values):
        return "a step branches on the values of its tensors"
    return f"torch.func cannot follow a step: {(text or type(error).__name__).splitlines()[0]}"

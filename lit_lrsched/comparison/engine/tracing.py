"""Writes down what a function of tensors does, as a flat graph of plain operations.

Everything is computed for real, on copies of the arguments: it takes as long as one call, where tracing on tensors
without values, as ``make_fx`` does, takes thirty times as long.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph, GraphModule, Node
from torch.fx.node import map_aggregate
from torch.utils.weak import WeakTensorKeyDictionary

from lit_lrsched.comparison.engine.memory import Memory
from lit_lrsched.comparison.engine.recorder import NotVectorizable
from lit_lrsched.optim.torch_internals import TorchDispatchMode, aliased, draws, tree_leaves

aten = torch.ops.aten


@dataclass(frozen=True)
class Like:
    """What a graph knows of a tensor: all but its numbers."""

    shape: torch.Size
    strides: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device

    @classmethod
    def of(cls, tensor: Tensor) -> Like:
        """Returns what is known of a tensor."""
        # Where a size is 1 the stride says nothing.
        strides = tuple(stride if size > 1 else 0 for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
        return cls(tensor.shape, strides, tensor.dtype, tensor.device)

    @property
    def nbytes(self) -> int:
        """Bytes that the numbers take."""
        # Along a stride of 0 all are the same one; a size of 1 counts for nothing either.
        sizes = [size for size, stride in zip(self.shape, self.strides, strict=True) if stride or not size]
        return math.prod(sizes) * self.dtype.itemsize

    def empty(self) -> Tensor:
        """Returns a tensor like this, with any numbers."""
        return torch.empty_strided(self.shape, self.strides, dtype=self.dtype, device=self.device)


@dataclass(frozen=True)
class Flat:
    """A graph of operators without any structure.

    Args:
        graph: Its nodes, each with a :class:`Like` of what it computes, or a list of these, as ``meta["like"]``.
        constants: What its nodes of the kind ``get_attr`` are, by their targets.
    """

    graph: Graph
    constants: dict[str, Tensor]

    def copy(self) -> Flat:
        """Returns another graph of the same operations on the same constants."""
        graph = Graph()
        graph.output(graph.graph_copy(self.graph, {}))
        return Flat(graph, self.constants)

    def module(self) -> GraphModule:
        """Returns what runs the graph: its ``forward`` takes the arguments one by one."""
        return GraphModule(self.constants, self.graph)


def trace(function: Callable[..., list[Any]], leaves: list[Tensor], forms: Mapping[Any, Callable[..., Any]]) -> Flat:
    """Returns what a function does.

    Args:
        function: Takes tensors one by one, and returns tensors and constants. It may change its arguments.
        leaves: Example arguments, which stay as they are.
        forms: By operator, a function that is traced in its place, unless it returns ``NotImplemented``.

    Raises:
        NotVectorizable: When the function asks for a value that depends on its arguments, draws random numbers, or
            changes a tensor of its own.
    """
    recording = _Recording(forms)
    copies = [_copy(leaf.detach()) for leaf in leaves]
    for place, copy in enumerate(copies):
        recording.know(copy, recording.graph.placeholder(f"arg{place}"))
    with recording:
        outputs = function(*copies)
    recording.graph.output(map_aggregate(outputs, recording.node_of))
    return Flat(recording.graph, recording.constants)


class _Recording(TorchDispatchMode):  # type: ignore[no-untyped-call]  # of its parent's __init_subclass__
    def __init__(self, forms: Mapping[Any, Callable[..., Any]]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.graph = Graph()
        self.constants: dict[str, Tensor] = {}
        self._forms = forms
        self._foreign: set[int] = set()  # memory of constants
        self._nodes = WeakTensorKeyDictionary()

    def know(self, tensor: Tensor, node: Node) -> None:
        """Takes down that a tensor is what a node computes."""
        node.meta["like"] = Like.of(tensor)
        self._nodes[tensor] = node

    def node_of(self, value: Any) -> Any:
        """Returns the node that computes a tensor, and all else as it is; a tensor from elsewhere is a constant."""
        if not isinstance(value, Tensor):
            return value
        if value not in self._nodes:
            name = f"constant_{len(self.constants)}"
            self.constants[name] = value
            self._foreign.add(value.untyped_storage().data_ptr())
            self.know(value, self.graph.get_attr(name))
        return self._nodes[value]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        form = self._forms.get(func)
        if form is not None:
            with self:
                out = form(*args, **kwargs)
            if out is not NotImplemented:
                return out
        if func is aten.lift_fresh.default:
            func = aten.clone.default  # a constant that was just made, and may be changed
        arguments, keywords = map_aggregate((args, kwargs), self.node_of)
        node = self.graph.call_function(func, arguments, keywords)
        if draws(node):
            raise NotVectorizable(f"a step draws random numbers by {func}")
        _, changed = aliased(func, args, kwargs)
        if any(tensor.untyped_storage().data_ptr() in self._foreign for tensor in changed):
            raise NotVectorizable("a step changes a tensor that is no parameter, no buffer and no result of its own")
        out = func(*args, **kwargs)
        told = _told_by(func, args, kwargs, out)
        if told and not self._is_fixed(map_aggregate(told, self.node_of)):
            raise NotVectorizable("a step branches on the values of its tensors")
        if isinstance(out, Tensor):
            self.know(out, node)
        elif isinstance(out, (list, tuple)):
            tensors = {place: part for place, part in enumerate(out) if isinstance(part, Tensor)}
            node.meta["like"] = [Like.of(part) for part in tensors.values()]
            for place, part in tensors.items():
                self.know(part, self.graph.call_function(operator.getitem, (node, place)))
        return out

    def _is_fixed(self, nodes: Any) -> bool:
        """Returns whether nodes compute the same whatever the arguments are."""
        memory = Memory(self.graph)
        return all(origin.op != "placeholder" for node in nodes for origin in memory.origins(node))


def _copy(tensor: Tensor) -> Tensor:
    """Returns a copy that lies in memory as its pattern does: once where all along a dimension are the same."""
    once = tensor
    for dim, stride in enumerate(tensor.stride()):
        once = once.narrow(dim, 0, 1) if stride == 0 and tensor.shape[dim] else once
    return once.clone().expand(tensor.shape)


def _told_by(operator: Any, args: Any, kwargs: Any, out: Any) -> list[Tensor]:
    """Returns the tensors whose numbers decide what else an operator returned than numbers in tensors."""
    if operator is aten.index.Tensor:  # a mask chooses as many as it holds, numbers choose one each
        return [index for index in args[1] if index is not None and index.dtype in (torch.bool, torch.uint8)]
    is_known = out is None or isinstance(out, (Tensor, list, tuple))
    if is_known and torch.Tag.dynamic_output_shape not in operator.tags:
        return []
    return [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]

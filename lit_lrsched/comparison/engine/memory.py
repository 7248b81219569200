"""Which values of a graph share memory, and what has a part in them."""

from __future__ import annotations

from collections import Counter
from functools import cached_property

import torch
from torch.fx import Graph, Node

from lit_lrsched.optim.torch_internals import aliased, schema_of

aten = torch.ops.aten

#: Operators that make a tensor of one number in the shape of another.
LIKE = (aten.ones_like.default, aten.zeros_like.default, aten.full_like.default)

# Operators that take from a tensor its shape alone.
_OF_SHAPE = (
    *LIKE,
    *(aten.empty_like.default, aten.new_empty.default, aten.new_zeros.default, aten.new_ones.default),
    aten.new_full.default,
)


class Memory:
    """Which values of a graph share memory, and when it changes.

    Attributes:
        root: For each node the one whose memory it shows.
        place: For each node its place in the graph.
        changed: For each root the places of the operations that change it; without those that nothing changes.
        last: For each root the place where its memory is made or used last.
        held: How many outputs show the memory of each root; none as long as the graph has no outputs.
    """

    def __init__(self, graph: Graph) -> None:
        self.root: dict[Node, Node] = {}
        self.place: dict[Node, int] = {}
        self.changed: dict[Node, list[int]] = {}
        self.last: dict[Node, int] = {}
        for place, node in enumerate(graph.nodes):
            self.place[node] = place
            shown, changed = _shared(node)
            self.root[node] = self.root[shown] if shown else node
            for one in changed:
                self.changed.setdefault(self.root[one], []).append(place)
            self.last |= {self.root[used]: place for used in (node, *node.all_input_nodes)}
        outputs = [node for node in graph.find_nodes(op="output") for node in node.all_input_nodes]
        self.held = Counter(self.root[node] for node in outputs)

    def is_private(self, node: Node) -> bool:
        """Returns whether a node's own memory never changes and is no output's."""
        return self.root[node] is node and node not in self.changed and node not in self.held

    def is_settled(self, node: Node, at: Node) -> bool:
        """Returns whether the memory that a node shows no longer changes after another."""
        return self.changed.get(self.root[node], [-1])[-1] < self.place[at]

    def origins(self, node: Node) -> set[Node]:
        """Returns all roots that have a part in the numbers that a node's memory ever holds, its own among them."""
        found, left = set[Node](), [self.root[node]]
        while left:
            root = left.pop()
            if root not in found:
                found.add(root)
                left += self._parts[root]
        return found

    @cached_property
    def _parts(self) -> dict[Node, set[Node]]:
        """For each root those of the values that are computed, or written, into its memory."""
        parts: dict[Node, set[Node]] = {}
        for node in self.place:
            given = () if node.target in _OF_SHAPE else node.all_input_nodes
            parts.setdefault(self.root[node], set()).update(self.root[part] for part in given)
        return parts


def _shared(node: Node) -> tuple[Node | None, list[Node]]:
    """Returns which argument's memory a value shows, if any, and which arguments an operation changes."""
    schema = schema_of(node.target)
    if schema is None:  # what is no operator takes an item of the several outputs of one
        return (node.all_input_nodes[0] if node.op == "call_function" else None), []
    shared, changed = aliased(node.target, node.args, node.kwargs)
    if "unsafe" in schema.name:  # views that do not declare themselves
        return node.all_input_nodes[0], changed
    shows = any(value.alias_info for value in schema.returns)
    return (shared[0] if shows else None), changed

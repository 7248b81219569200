"""What a graph does with the state that it carries: by this a validation is known that nothing comes to depend on."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import torch
from torch.fx import Graph, Node

from lit_lrsched.comparison.engine.simplify import LIKE, Memory
from lit_lrsched.optim.torch_internals import tree_leaves

_OF_SHAPE = (*LIKE, torch.ops.aten.empty_like.default)  # what they are given has a shape, and no other part in it


class Effects(NamedTuple):
    """What becomes of the parts of a state, each given by its place.

    Args:
        changed: What comes out as anything but what went in.
        used: What is changed, or has a part in anything else that comes out.
        renewed: What comes out the same whatever goes in.
    """

    changed: set[int]
    used: set[int]
    renewed: set[int]


def effects(graph: Graph, carried: range) -> Effects:
    """Returns the effects of a graph.

    Args:
        graph: The graph.
        carried: The places of its arguments that are the state, which its first outputs are after it, in their order.
    """
    memory = Memory(graph)
    arguments = graph.find_nodes(op="placeholder")
    outputs = tree_leaves(graph.output_node().args)
    found = Effects(set(), set(), set())
    made_of = _made_of(memory)
    for place, (argument, after) in enumerate(zip((arguments[i] for i in carried), outputs, strict=False)):
        if after is not argument or argument in memory.changed:
            found.changed.add(place)
        if place in found.changed or len(argument.users) > 1 or outputs.count(argument) > 1:
            found.used.add(place)
        if all(node.op != "placeholder" for node in _all_of(memory.root[after], made_of)):
            found.renewed.add(place)
    return found


def _made_of(memory: Memory) -> dict[Node, set[Node]]:
    """Returns for the root of each memory those of the values that are computed, or written, into it."""
    made_of: dict[Node, set[Node]] = {}
    for node in memory.place:
        parts: Collection[Node] = () if node.target in _OF_SHAPE else node.all_input_nodes
        made_of.setdefault(memory.root[node], set()).update(memory.root[part] for part in parts)
    return made_of


def _all_of(node: Node, made_of: dict[Node, set[Node]]) -> set[Node]:
    """Returns a value, what it is made of, what this is made of, and so on."""
    found, left = set[Node](), [node]
    while left:
        node = left.pop()
        if node not in found:
            found.add(node)
            left += made_of[node]
    return found

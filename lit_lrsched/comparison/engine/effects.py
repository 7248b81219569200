"""What a graph does with the state that it carries: by this a validation is known that nothing comes to depend on."""

from __future__ import annotations

from typing import NamedTuple

from torch.fx import Graph

from lit_lrsched.comparison.engine.memory import Memory
from lit_lrsched.optim.torch_internals import tree_leaves


class Effects(NamedTuple):
    """What becomes of the parts of a state, each given by its place.

    Args:
        changed: What comes out as anything but what went in.
        used: What is changed, or has a part in anything else that comes out.
        renewed: What comes out the same whatever goes in.
        writes_elsewhere: Whether anything is changed that is not carried, such as parameters.
    """

    changed: set[int]
    used: set[int]
    renewed: set[int]
    writes_elsewhere: bool


def effects(graph: Graph, carried: range) -> Effects:
    """Returns the effects of a graph.

    Args:
        graph: The graph.
        carried: The places of its arguments that are the state, which its first outputs are after it, in their order.
    """
    memory = Memory(graph)
    arguments = graph.find_nodes(op="placeholder")
    outputs = tree_leaves(graph.output_node().args)
    others = (argument for place, argument in enumerate(arguments) if place not in carried)
    found = Effects(set(), set(), set(), any(argument in memory.changed for argument in others))
    for place, (argument, after) in enumerate(zip((arguments[i] for i in carried), outputs, strict=False)):
        if after is not argument or argument in memory.changed:
            found.changed.add(place)
        if place in found.changed or len(argument.users) > 1 or outputs.count(argument) > 1:
            found.used.add(place)
        if all(node.op != "placeholder" for node in memory.origins(after)):
            found.renewed.add(place)
    return found

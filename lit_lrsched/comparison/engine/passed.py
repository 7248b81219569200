"""Tensors that what is called for a batch keeps in attributes of the module, for what is called after it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from lit_lrsched.comparison.engine.held import own_attributes
from lit_lrsched.comparison.engine.stand_ins import StandIn
from lit_lrsched.optim.torch_internals import tree_flatten, tree_leaves, tree_unflatten
from lit_lrsched.trainer.lightning_package import LightningModule

_PREFIX = "passed/"


class Passed:
    """Attributes of a module that a step, or a hook before it, sets for the hooks after it: tensors of one batch.

    They are a part of the state within a batch, and gone after it. Which they are is found out from calls that are
    watched.

    Args:
        module: The module.

    Attributes:
        names: Their names.
        at_first: Whether they are what they were before the first batch, rather than gone.
    """

    def __init__(self, module: LightningModule) -> None:
        self._module = module
        self._first: dict[str, Any] = {}
        self._trees: dict[str, Any] = {}
        self.names: set[str] = set()
        self.at_first = False

    def watch(self, before: Mapping[str, Any]) -> None:
        """Notes which attributes a call has set to tensors, given all of them before it."""
        for name, value in own_attributes(self._module).items():
            if _are_tensors(value) and value is not before.get(name) and name not in self.names:
                self.names.add(name)
                self._first |= {name: before[name]} if name in before else {}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Sets them for a call to what was kept in the batch so far."""
        held = vars(self._module)
        for name in self.names:
            held.pop(name, None)
            leaves = [tensor for key, tensor in state.items() if key.startswith(f"{_PREFIX}{name}/")]
            if leaves:
                held[name] = tree_unflatten(leaves, self._trees[name])
            elif not self.at_first:
                held[name] = StandIn(f"self.{name} is used after the batch for which it was set")
            elif name in self._first:
                held[name] = self._first[name]

    def saved(self) -> dict[str, Tensor]:
        """Returns them after a call."""
        held, state = own_attributes(self._module), dict[str, Tensor]()
        for name in self.names:
            if _are_tensors(held.get(name)):
                leaves, self._trees[name] = tree_flatten(held[name])
                state |= {f"{_PREFIX}{name}/{place}": leaf for place, leaf in enumerate(leaves)}
        return state


def _are_tensors(value: Any) -> bool:
    """Returns whether a value is a tensor, or tensors in a dict or tuple: steps append to lists."""
    leaves = [] if isinstance(value, list) else tree_leaves(value)
    return len(leaves) > 0 and all(isinstance(leaf, Tensor) for leaf in leaves)


def without_passed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Returns a state after a batch."""
    return {name: tensor for name, tensor in state.items() if not name.startswith(_PREFIX)}

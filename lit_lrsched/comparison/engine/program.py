"""The program that trains many runs at once: their state side by side, and the steps on it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from typing import Any

import torch
from torch import Tensor
from torch.func import grad_and_value, vmap

from lit_lrsched.comparison.engine.batches import Rows
from lit_lrsched.comparison.engine.clipping import Clip
from lit_lrsched.comparison.engine.graphs import Graph
from lit_lrsched.comparison.engine.optimizers import GroupedUpdate, Values
from lit_lrsched.comparison.engine.pure_module import PureModule, Tensors
from lit_lrsched.comparison.engine.recorder import Stage
from lit_lrsched.optim.torch_internals import tree_leaves, tree_map, tree_structure, tree_unflatten

# Vector instructions take up to 16 numbers at a time and treat the rest one by one, which may round otherwise. With a
# multiple of 16 runs there is no rest, so that no run's result depends on how many others run beside it.
LANES = 16

# Keys of successive steps lie this far apart: room for as many calls of dropout within a step.
_STRIDE = 1 << 24


@dataclass(frozen=True)
class Member:
    """All that trainings of one seed share."""

    parameters: Tensors
    constants: Tensors
    rows: dict[Stage, Rows]

    @property
    def sizes(self) -> dict[Stage, tuple[int, ...]]:
        """Rows in each batch of an epoch, by stage."""
        return {stage: rows.sizes for stage, rows in self.rows.items()}


class Stack:
    """R members side by side on a device, and what becomes of them.

    Args:
        members: The member that each run starts from; the same object where runs share a seed.
        pure: The module.
        update: The optimizer.
        keys: What each run's dropout is drawn from, int64 ``[R]``.
        device: Where to put them.
    """

    def __init__(
        self, members: Sequence[Member], pure: PureModule, update: GroupedUpdate, keys: Tensor, device: torch.device
    ) -> None:
        self.runs = len(members)
        self.keys = keys.to(device)
        self.parameters = _side_by_side([member.parameters for member in members], device)
        self.constants = _side_by_side([member.constants for member in members], device)
        self.slots = update.slots(self.parameters)
        self.state = _side_by_side([pure.start()] * self.runs, device)
        different = list({id(member): member for member in members}.values())
        place = {id(member): i for i, member in enumerate(different)}
        self._which = torch.tensor([place[id(member)] for member in members], device=device)
        self._data: dict[Stage, list[Tensor]] = {}
        self._order: dict[Stage, Tensor] = {}
        for stage in members[0].rows:
            leaves = [tree_leaves(member.rows[stage].data) for member in different]
            self._data[stage] = [torch.cat(parts).to(device) for parts in zip(*leaves, strict=True)]
            first = torch.tensor([0, *(len(parts[0]) for parts in leaves[:-1])]).cumsum(0)
            order = torch.stack([member.rows[stage].order for member in different], dim=1)
            self._order[stage] = (order + first[:, None]).to(device)

    def batches(self, stage: Stage, epoch: int, sizes: tuple[int, ...]) -> Iterator[list[Tensor]]:
        """Yields an epoch's batches: their leaves, ``[R, B, ...]``."""
        order = self._order[stage][epoch][self._which]
        for size, rows in zip(sizes, torch.split(order, list(sizes), dim=1), strict=True):
            flat = rows.flatten()
            yield [leaf.index_select(0, flat).view(self.runs, size, *leaf.shape[1:]) for leaf in self._data[stage]]

    def broken(self) -> Tensor:
        """Returns for each run whether a training loss or a weight became nan or infinite."""
        finite = self.state["loss/train"].isfinite()
        for parameter in self.parameters.values():
            finite &= parameter.reshape(self.runs, -1).isfinite().all(dim=1)
        return ~finite


class Program:
    """Everything that R runs do, as graphs that one stack after another is put through.

    Args:
        pure: The module.
        update: The optimizer.
        member: An example of what the runs start from.
        runs: R.
        device: Where the stacks lie.
        clip: How gradients are clipped.
    """

    def __init__(
        self,
        pure: PureModule,
        update: GroupedUpdate,
        member: Member,
        runs: int,
        device: torch.device,
        clip: Clip | None = None,
    ) -> None:
        self._pure = pure
        self._update = update
        self._clip = clip
        self._sizes = member.sizes
        self._structure = {stage: tree_structure(rows.data) for stage, rows in member.rows.items()}
        self._device = device
        self._steps: dict[tuple[Stage, int], Graph] = {}
        self._ends: dict[Stage, Graph] = {}
        self._example = self.stack([member] * runs, torch.zeros(runs, dtype=torch.int64))

    def trace(self) -> None:
        """Traces all graphs now, rather than each when it is first needed."""
        for stage, sizes in self._sizes.items():
            for size in sizes:
                self._step(stage, size)
            self._end(stage)

    def compile(self) -> None:
        """Compiles the steps, for the number of threads that torch has now."""
        for (stage, size), graph in self._steps.items():
            graph.compile(tree_leaves(self._arguments(stage, size)))

    def peak_bytes(self) -> int:
        """Returns the working set of the largest training step."""
        return self._step("train", max(self._sizes["train"])).peak_bytes()

    def stack(self, members: Sequence[Member], keys: Tensor) -> Stack:
        """Returns R runs that start from these members."""
        return Stack(members, self._pure, self._update, keys, self._device)

    def train_epoch(self, stack: Stack, epoch: int, values: Values) -> dict[str, Tensor]:
        """Trains for an epoch at values ``[steps, R, groups]``; returns what is logged, ``[R]`` by name."""
        fixed = tree_leaves((stack.parameters, stack.constants, stack.slots))
        first = epoch * len(values.rates)
        table = self._coefficients(stack, values, first)
        steps = torch.arange(first, first + len(values.rates), device=self._device)
        driven = ([*fixed, row, stack.keys, step] for row, step in zip(table, steps, strict=True))
        return self._through(stack, "train", epoch, driven)

    def evaluate(self, stack: Stack, stage: Stage, epoch: int) -> dict[str, Tensor]:
        """Validates or tests; returns what is logged, ``[R]`` by name."""
        return self._through(stack, stage, epoch, repeat(tree_leaves((stack.parameters, stack.constants))))

    def _through(self, stack: Stack, stage: Stage, epoch: int, arguments: Iterable[list[Tensor]]) -> dict[str, Tensor]:
        state, sizes = list(stack.state.values()), self._sizes[stage]
        for size, batch, before in zip(sizes, stack.batches(stage, epoch, sizes), arguments, strict=False):
            state = self._step(stage, size).run(*before, *state, *batch)
        end = self._end(stage)
        values: Tensors
        stack.state, values = end.outputs(end.run(*tree_leaves((stack.parameters, stack.constants)), *state))
        return values

    def _step(self, stage: Stage, size: int) -> Graph:
        if (stage, size) not in self._steps:
            function = self._train if stage == "train" else partial(self._evaluate, stage)
            self._steps[stage, size] = Graph(function, *self._arguments(stage, size))
        return self._steps[stage, size]

    def _end(self, stage: Stage) -> Graph:
        if stage not in self._ends:
            stack = self._example
            self._ends[stage] = Graph(partial(self._end_epoch, stage), stack.parameters, stack.constants, stack.state)
        return self._ends[stage]

    def _arguments(self, stage: Stage, size: int) -> tuple[Any, ...]:
        """Returns example arguments of a step, as trees."""
        stack = self._example
        batches = zip(self._sizes[stage], stack.batches(stage, 0, self._sizes[stage]), strict=True)
        batch = next(batch for found, batch in batches if found == size)
        if stage != "train":
            return stack.parameters, stack.constants, stack.state, batch
        groups = len(self._update.updates)
        still = torch.zeros(1, stack.runs, groups, dtype=torch.float64, device=self._device)
        coefficients = self._coefficients(stack, Values(still, still, still), 0)[0]
        step = torch.zeros((), dtype=torch.int64, device=self._device)
        return stack.parameters, stack.constants, stack.slots, coefficients, stack.keys, step, stack.state, batch

    def _train(
        self,
        parameters: Tensors,
        constants: Tensors,
        slots: dict[str, Tensors],
        coefficients: Tensor,
        keys: Tensor,
        step: Tensor,
        state: Tensors,
        batch: list[Tensor],
    ) -> Tensors:
        """Takes one step of all runs: parameters and slots change in place, the new state is returned."""
        gradients = vmap(grad_and_value(self._pure.loss, has_aux=True), randomness="error")
        grads, (_, state) = gradients(
            parameters, constants, state, tree_unflatten(batch, self._structure["train"]), keys + step * _STRIDE
        )
        if self._clip is not None:
            grads = self._clip(grads)
        self._update.update_(parameters, grads, slots, coefficients)
        return state

    def _evaluate(
        self, stage: Stage, parameters: Tensors, constants: Tensors, state: Tensors, batch: list[Tensor]
    ) -> Tensors:
        evaluate = vmap(partial(self._pure.evaluate, stage), randomness="error")
        return evaluate(parameters, constants, state, tree_unflatten(batch, self._structure[stage]))

    def _end_epoch(
        self, stage: Stage, parameters: Tensors, constants: Tensors, state: Tensors
    ) -> tuple[Tensors, Tensors]:
        """Returns the state for the next epoch, and what is logged."""
        end = vmap(partial(self._pure.end_epoch, stage, rows=sum(self._sizes[stage])), randomness="error")
        # What is reset is one tensor for all runs until it is copied; metrics add to it in place.
        return tree_map(Tensor.contiguous, end(parameters, constants, state))  # type: ignore[no-any-return]

    def _coefficients(self, stack: Stack, values: Values, first: int) -> Tensor:
        dtype = next(iter(stack.parameters.values())).dtype
        return self._update.coefficients(values, first).to(dtype)


def _side_by_side(trees: Sequence[Tensors], device: torch.device) -> Tensors:
    return {name: torch.stack([tree[name] for tree in trees]).to(device) for name in trees[0]}

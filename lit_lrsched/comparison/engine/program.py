"""The program that trains many runs at once: the steps, as graphs, that a stack of them is put through."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import repeat
from typing import Any

import torch
from torch import Tensor
from torch.func import grad_and_value, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from lit_lrsched.comparison.engine.counts import Counts
from lit_lrsched.comparison.engine.draws import KeyedDraws
from lit_lrsched.comparison.engine.effects import Effects
from lit_lrsched.comparison.engine.feeds import Feed, feeds_of, place_of, stage_of
from lit_lrsched.comparison.engine.forms import Followable
from lit_lrsched.comparison.engine.graphs import Graph
from lit_lrsched.comparison.engine.hooks import is_first
from lit_lrsched.comparison.engine.items import known
from lit_lrsched.comparison.engine.lists import extend
from lit_lrsched.comparison.engine.metrics import Kept, Tensors, is_of
from lit_lrsched.comparison.engine.optimizers import GroupedUpdate, Values
from lit_lrsched.comparison.engine.passed import without_passed
from lit_lrsched.comparison.engine.probe import same
from lit_lrsched.comparison.engine.pure_module import PureModule
from lit_lrsched.comparison.engine.recorder import STAGES, ChangesItself, NotVectorizable, Stage, in_a_line
from lit_lrsched.comparison.engine.regime import Regime
from lit_lrsched.comparison.engine.stack import Member, Stack, side_by_side
from lit_lrsched.optim.torch_internals import (
    tree_leaves,
    tree_map,
    tree_structure,
    tree_unflatten,
    writes_into_shared,
)

# Keys of successive steps lie this far apart: room for as many draws within a step.
_STRIDE = 1 << 24

# Likewise of the parts of a step: itself, the hooks on its gradients, and the hook after it.
_STRIDE_OF_PARTS = 1 << 22

# Where the steps of each stage begin, and how far apart those of its loaders.
_FIRST_KEY: dict[Stage, int] = {"train": 0, "val": 1 << 38, "test": 1 << 39}
_NEXT_LOADER = 1 << 32


@dataclass(frozen=True)
class Traced:
    """A graph, and what is known of it.

    Args:
        graph: The graph; None for hooks that are called run by run, since they branch on values.
        counts: For which epochs and batches it is right.
        weights: What a step logs, and with which weight.
    """

    graph: Graph | None
    counts: Counts
    weights: dict[str, int]


class Program:
    """Everything that R runs do, as graphs that one stack after another is put through.

    Args:
        pure: The module.
        update: The optimizer.
        member: An example of what the runs start from.
        runs: R.
        device: Where the stacks lie.
        epochs: Epochs of training.
        regime: Which batches train, and how their gradients make steps.
        turned: Names of the parameters whose matrices lie transposed in memory.
        shared: Names of the constants that are the same for all runs.
        anew: Names of the metrics that the test begins with new ones of.

    Attributes:
        draws: Whether a step draws random numbers.
        hooks_view: Whether hooks around an epoch view parameters in another shape than they can where they lie.
    """

    def __init__(
        self,
        pure: PureModule,
        update: GroupedUpdate,
        member: Member,
        runs: int,
        device: torch.device,
        epochs: int,
        regime: Regime,
        turned: Collection[str],
        shared: Collection[str],
        anew: Collection[str],
    ) -> None:
        self._pure = pure
        self._anew = anew
        self._turned = turned
        self._shared = shared
        self._update = update
        self._regime = regime
        self._sizes = member.sizes
        self._feeds = {stage: feeds_of(stage, member.rows) for stage in STAGES}
        self._structure = {feed: tree_structure(rows.data) for feed, rows in member.rows.items()}
        self._device = device
        self._epochs = epochs
        self._traced: dict[tuple[Any, ...], list[Traced]] = {}
        self._example = self.stack([member] * runs, torch.zeros(runs, dtype=torch.int64))
        self.draws = self.hooks_view = False

    def trace(self) -> None:
        """Traces all graphs now, rather than each when it is first needed."""
        kept: Kept = {}
        for epoch in range(self._epochs):
            self._trace_hooks("start", "train", epoch, kept)
            if kept:
                raise NotVectorizable(f"{self._pure.name_of(next(iter(kept)))} grows from epoch to epoch")
            self._trace_steps("train", epoch, kept)
            if self._feeds["val"]:
                self._trace_stage("val", epoch, kept)
            self._trace_hooks("end", "train", epoch, kept)
        if self._feeds["test"]:
            self._trace_hooks("last", "train", self._epochs, kept)
            self._renew(kept)
            self._trace_stage("test", self._epochs, kept)

    def logged(self, *stages: Stage) -> set[str] | None:
        """Returns the names of all that is logged in these stages; None where hooks decide it run by run.

        Args:
            stages: The stages, all of them traced.
        """
        if None in [graph for stage in stages for graph in self._graphs(stage, "start", "step", "end")]:
            return None
        return set[str]().union(*(self._pure.names.get(stage, ()) for stage in stages))

    def compile(self) -> None:
        """Compiles the steps, for the number of threads that torch has now."""
        for (kind, feed, size), graphs in self._traced.items():
            for traced in graphs:
                if kind in ("step", "part") and traced.graph:
                    traced.graph.compile(tree_leaves(self._arguments(feed, size)))

    def peak_bytes(self) -> int:
        """Returns the working set of the largest training step, without what all runs share."""
        constants = self._example.constants
        return self._largest_steps()["train"].peak_bytes() - sum(constants[name][0].nbytes for name in self._shared)

    def turned(self) -> list[str]:
        """Returns the names of the parameters whose matrices would be multiplied faster if they lay transposed."""
        graphs = self._largest_steps()
        turned = graphs["train"].turned().difference(*(graph.viewed() for graph in graphs.values()))
        return [name for place, name in enumerate(self._example.parameters) if place in turned]

    def _largest_steps(self) -> dict[Feed, Graph]:
        found = {}
        for feed, sizes in self._sizes.items():
            whole = [place for place in range(len(sizes)) if self._kind(feed, place) == "step"]
            found[feed] = self._step_graph(feed, 0, max(whole, key=lambda place: sizes[place]))[0]
        return found

    def stack(self, members: Sequence[Member], keys: Tensor) -> Stack:
        """Returns R runs that start from these members."""
        return Stack(members, self._pure, self._update, self._regime, keys, self._device, self._turned, self._shared)

    @cached_property
    def validates_idly(self) -> bool:
        """Whether a validation leaves nothing that training, or a later validation, comes to depend on."""
        if not self._feeds["val"]:
            return True
        validation = self._effects("val", "start", "step", "end")
        if any(effects.writes_elsewhere for effects in validation):
            return False
        used = set[int]().union(*(effects.used for effects in self._effects("train", "start", "part", "step", "end")))
        changed = set[int]().union(*(effects.changed for effects in validation))
        renewed = set.intersection(*(effects.renewed for effects in self._effects("val", "end")))
        changed.discard([*self._example.state].index("left out"))  # to be told by one validation is enough
        emptied = self._pure.emptied["end", "val"]
        if not self._kept("train", "part", "step").isdisjoint(emptied | self._pure.emptied["start", "val"]):
            return False
        return changed <= renewed - used and self._kept("val", "step") <= emptied

    def _kept(self, stage: Stage, *kinds: str) -> set[str]:
        """Returns which lists the steps of a stage append to."""
        steps = [graph for graph in self._graphs(stage, *kinds) if graph]
        return {name for graph in steps for name, items in graph.example[1].items() if items}

    def _graphs(self, stage: Stage, *kinds: str) -> list[Graph | None]:
        found = [
            graphs for (kind, feed, _), graphs in self._traced.items() if stage_of(feed) == stage and kind in kinds
        ]
        return [traced.graph for graphs in found for traced in graphs]

    def _effects(self, stage: Stage, *kinds: str) -> list[Effects]:
        everything = set(range(len(self._example.state)))
        anything = Effects(everything, everything, set(), True)  # what hooks may do that are called run by run
        return [graph.effects if graph else anything for graph in self._graphs(stage, *kinds)]

    def train_epoch(self, stack: Stack, epoch: int, values: Values, validates: bool = True) -> dict[str, Tensor]:
        """Trains for an epoch, or for the first steps of one, and validates.

        Args:
            stack: The runs.
            epoch: 0-based epoch.
            values: What its groups are set to at each optimizer step, ``[steps, R, groups]``.
            validates: Whether it validates.

        Returns:
            Everything that was logged so far, its last value, ``[R]`` by name.
        """
        of_epoch = self._call_hooks("start", stack, "train", epoch)
        fixed = tree_leaves((stack.parameters, stack.constants, stack.slots, stack.sums))
        first = epoch * self._regime.steps_in(len(self._sizes["train"]))
        steps = zip(self._coefficients(stack, values, first), values.rates.unbind(), strict=True)
        given = ([*fixed, *step, rates, stack.keys] for step, rates in steps for _ in range(self._regime.accumulate))
        of_epoch |= self._take_steps(stack, "train", epoch, given)
        if validates and self._feeds["val"]:
            self._evaluate_stage(stack, "val", epoch)
        stack.logged |= of_epoch  # of names that validation logs too, an epoch of training ends with its own
        self._call_hooks("end", stack, "train", epoch)
        return dict(stack.logged)

    def test(self, stack: Stack) -> dict[str, Tensor]:
        """Ends training and tests; returns what is logged, ``[R]`` by name."""
        self._call_hooks("last", stack, "train", self._epochs)
        stack.renew(self._anew)
        self._renew(stack.kept)
        stack.logged = {}
        self._evaluate_stage(stack, "test", self._epochs)
        return stack.logged

    def _evaluate_stage(self, stack: Stack, stage: Stage, epoch: int) -> None:
        self._call_hooks("start", stack, stage, epoch)
        fixed = tree_leaves((stack.parameters, stack.constants))
        self._take_steps(stack, stage, epoch, repeat([*fixed, stack.keys]))
        self._call_hooks("end", stack, stage, epoch)

    def _take_steps(self, stack: Stack, stage: Stage, epoch: int, arguments: Iterable[list[Tensor]]) -> Tensors:
        """Takes the steps of an epoch; what they log is reduced to a number a run.

        Returns what is of the whole epoch, rather than of its last step.
        """
        state, weights = list(stack.state.values()), dict[str, int]()
        loss = list(stack.state).index("loss/train")
        for feed in self._feeds[stage]:
            batches, clocks = stack.batches(feed, epoch), self._clocks(epoch, len(self._sizes[feed]))
            for index, (batch, before, clock) in enumerate(zip(batches, arguments, clocks, strict=False)):
                graph, logged = self._step_graph(feed, epoch, index)
                after = graph.run(*before, clock, *state, *batch)
                if any(graph.example[1].values()):
                    extend(stack.kept, graph.outputs(after)[1])
                state = after[: len(state)]
                if stage == "train":
                    stack.note_loss(state[loss])
                for name, weight in logged.items():
                    weights[name] = weights.get(name, 0) + weight
        stack.state = dict(zip(stack.state, state, strict=True))
        of_epoch: Tensors = {}
        for name, weight in weights.items():
            total, reduction = stack.state[f"sum/{stage}/{name}"], self._pure.logs[stage][name].name
            # The next epoch may write into the memory of the state.
            stack.logged[name] = total / weight if reduction == "mean" else total.clone()
            if reduction != "last":
                of_epoch[name] = stack.logged[name]
        return of_epoch

    def _call_hooks(self, kind: str, stack: Stack, stage: Stage, epoch: int) -> Tensors:
        """Calls the hooks at the start or the end of an epoch, or after the last one; returns what they log."""
        if not self._pure.has(kind, stage, epoch):
            return {}
        traced = self._hook_graph(kind, stage, epoch, stack.kept)
        values: Tensors
        if traced.graph:
            leaves = tree_leaves((stack.parameters, stack.constants, stack.state, stack.kept))
            after = traced.graph.run(*leaves, next(self._clocks(epoch, 1)))
            stack.state, values = traced.graph.outputs(after)
        else:
            values = self._call_run_by_run(kind, stack, stage, epoch)
        stack.logged |= values
        self._forget(kind, stage, stack.kept)
        return values

    def _call_run_by_run(self, kind: str, stack: Stack, stage: Stage, epoch: int) -> Tensors:
        clock = next(self._clocks(epoch, 1))
        states, logged = [], []
        for run in range(stack.runs):
            self._pure.calls.counts = Counts(epoch, 0)
            before = {name: stack.constants[name][run].clone() for name in self._shared}
            trees = (stack.parameters, stack.constants, stack.state, stack.kept)
            mine: tuple[Tensors, Tensors, Tensors, Kept] = known(tree_map(lambda tensor, run=run: tensor[run], trees))
            try:
                state, values = self._pure.around_epoch(kind, stage, *mine, clock)
            except NotVectorizable:
                raise
            except Exception as error:  # of one run's numbers, or what a trainer brings; what else is wrong, fit tells
                raise NotVectorizable(f"a hook or a metric would stop all runs ({in_a_line(error)})") from error
            states.append(state)
            logged.append(values)
            _check_fixed(name for name, tensor in before.items() if not same(tensor, stack.constants[name][run]))
        stack.state = side_by_side(states, self._device)
        unknown = torch.full((stack.runs,), torch.nan, device=self._device)
        return {
            name: torch.stack(
                [values.get(name, stack.logged.get(name, unknown)[run]) for run, values in enumerate(logged)]
            )
            for name in dict.fromkeys(name for values in logged for name in values)
        }

    def _trace_stage(self, stage: Stage, epoch: int, kept: Kept) -> None:
        self._trace_hooks("start", stage, epoch, kept)
        self._trace_steps(stage, epoch, kept)
        self._trace_hooks("end", stage, epoch, kept)

    def _trace_steps(self, stage: Stage, epoch: int, kept: Kept) -> None:
        for feed in self._feeds[stage]:
            for index in range(len(self._sizes[feed])):
                extend(kept, self._step_graph(feed, epoch, index)[0].example[1])

    def _trace_hooks(self, kind: str, stage: Stage, epoch: int, kept: Kept) -> None:
        if self._pure.has(kind, stage, epoch):
            self._hook_graph(kind, stage, epoch, kept)
            self._forget(kind, stage, kept)

    def _forget(self, kind: str, stage: Stage, kept: Kept) -> None:
        for name in self._pure.emptied[kind, stage]:
            kept.pop(name, None)

    def _renew(self, kept: Kept) -> None:
        for key in [key for key in kept if is_of(key, self._anew)]:
            del kept[key]

    def _step_graph(self, feed: Feed, epoch: int, index: int) -> tuple[Graph, dict[str, int]]:
        """Returns the graph of a step, and what it logs with which weight."""
        size = self._sizes[feed][index]
        kind = self._kind(feed, index)
        graphs = self._traced.setdefault((kind, feed, size), [])
        for traced in graphs:
            if traced.graph and traced.counts.serve(epoch, index):
                return traced.graph, traced.weights
        self._pure.calls.counts = counts = Counts(epoch, index)
        function = partial(self._train, kind) if feed == "train" else partial(self._evaluate, feed)
        arguments = self._arguments(feed, size)
        try:
            graph = Graph(function, *arguments, carried=len(arguments) - 2)  # the state, before the batch
        except NotVectorizable as error:
            if self._pure.calls.own_tensors or not writes_into_shared(error.__cause__):
                raise
            self._pure.calls.own_tensors = True
            graph = Graph(function, *arguments, carried=len(arguments) - 2)
        graphs.append(Traced(graph, counts, self._pure.weights))
        return graph, self._pure.weights

    def _kind(self, feed: Feed, index: int) -> str:
        """Returns whether a batch makes a step, or its gradients are a part of those of a later one."""
        whole = feed != "train" or self._regime.make_a_step(index, len(self._sizes["train"]))
        return "step" if whole else "part"

    def _hook_graph(self, kind: str, stage: Stage, epoch: int, kept: Kept) -> Traced:
        first = kind == "start" and is_first(stage, epoch)  # when more hooks are called
        graphs = self._traced.setdefault((kind, stage, first), [])
        for traced in graphs:
            if traced.counts.serve(epoch, 0):
                return traced
        stack, counts = self._example, Counts(epoch, 0)
        self._pure.calls.counts = counts
        function = vmap(partial(self._pure.around_epoch, kind, stage), in_dims=(0, 0, 0, 0, None), randomness="error")

        def contiguous(*args: Any) -> Any:
            # What is reset is one tensor for all runs until it is copied; metrics add to it in place.
            with Followable():
                return tree_map(Tensor.contiguous, function(*args))

        arguments = (stack.parameters, stack.constants, stack.state, kept, next(self._clocks(epoch, 1)))
        graph: Graph | None = None
        try:
            graph = Graph(contiguous, *arguments, carried=2)  # the state
            names = [*stack.parameters, *stack.constants]
            changed = {names[place] for place in graph.changed() if place < len(names)}
            _check_fixed(changed.intersection(self._shared))
        except ChangesItself:
            raise
        except NotVectorizable as error:
            self.hooks_view |= "view size" in str(error)
            counts = Counts(epoch, 0)  # called run by run, it sees every epoch as it is
        graphs.append(Traced(graph, counts, {}))
        return graphs[-1]

    def _arguments(self, feed: Feed, size: int) -> tuple[Any, ...]:
        """Returns example arguments of a step, as trees."""
        stack = self._example
        batches = zip(self._sizes[feed], stack.batches(feed, 0), strict=True)
        batch = next(batch for found, batch in batches if found == size)
        clock = next(self._clocks(0, 1))
        if feed != "train":
            return stack.parameters, stack.constants, stack.keys, clock, stack.state, batch
        groups = len(self._update.updates)
        still = torch.zeros(1, stack.runs, groups, dtype=torch.float64, device=self._device)
        coefficients = next(self._coefficients(stack, Values(still, still, still), 0))
        own = stack.parameters, stack.constants, stack.slots, stack.sums
        return *own, coefficients, still[0], stack.keys, clock, stack.state, batch

    def _clocks(self, epoch: int, steps: int) -> Iterator[Tensor]:
        """Yields epoch and batch index of each step, int64 ``[2]``."""
        indices = torch.arange(steps, device=self._device)
        return iter(torch.stack([torch.full_like(indices, epoch), indices], dim=1).unbind())

    def _train(
        self,
        kind: str,
        parameters: Tensors,
        constants: Tensors,
        slots: dict[str, Tensors],
        sums: Tensors,
        coefficients: tuple[Tensor, ...],
        rates: Tensor,
        keys: Tensor,
        clock: Tensor,
        state: Tensors,
        batch: list[Tensor],
    ) -> tuple[Tensors, Kept]:
        """Trains all runs on a batch: parameters, slots and sums change in place, the new state is returned."""
        loss = grad_and_value(self._pure.loss, has_aux=True)
        gradients = vmap(loss, in_dims=(0, 0, 0, 0, None, 0), randomness="different")
        inputs = tree_unflatten(batch, self._structure["train"])
        with self._followed("train", keys, clock):
            grads, (_, (state, kept, output)) = gradients(parameters, constants, state, inputs, clock, rates)
        if kind == "part":
            self._regime.add_(grads, sums)
        else:
            grads = self._regime.of_step_(grads, sums)
            if self._pure.sees_gradients:
                see = vmap(self._pure.see_gradients, in_dims=(0, 0, 0, 0, 0, None, 0), randomness="different")
                with self._followed("train", keys, clock, part=1):
                    grads, state, more = see(parameters, constants, state, inputs, grads, clock, rates)
                extend(kept, more)
            grads = grads if self._pure.clips else self._regime.clipped(grads)
            self._update.update_(parameters, grads, slots, coefficients)
        if self._pure.ends_batches:
            end = vmap(self._pure.end_batch, in_dims=(0, 0, 0, 0, 0, None), randomness="different")
            with self._followed("train", keys, clock, part=2):
                state, more = end(parameters, constants, state, inputs, output, clock)
            extend(kept, more)
        return without_passed(state), kept

    def _evaluate(
        self,
        feed: Feed,
        parameters: Tensors,
        constants: Tensors,
        keys: Tensor,
        clock: Tensor,
        state: Tensors,
        batch: list[Tensor],
    ) -> tuple[Tensors, Kept]:
        step = partial(self._pure.evaluate, feed)
        evaluate = vmap(step, in_dims=(0, 0, 0, 0, None), randomness="different")
        with self._followed(feed, keys, clock):
            state, kept = evaluate(parameters, constants, state, tree_unflatten(batch, self._structure[feed]), clock)
        return without_passed(state), kept

    @contextmanager
    def _followed(self, feed: Feed, keys: Tensor, clock: Tensor, part: int = 0) -> Iterator[None]:
        """Lets a part of a step be traced that draws, or does what torch.func has no rule for."""
        start = _FIRST_KEY[stage_of(feed)] + (place_of(feed) or 0) * _NEXT_LOADER
        step = clock[0] * len(self._sizes[feed]) + clock[1] + start
        first = keys + step * _STRIDE + part * _STRIDE_OF_PARTS
        # Of the ways to compute attention this one is made of operations that torch.func knows.
        with Followable(), sdpa_kernel(SDPBackend.MATH), KeyedDraws(first) as draws:
            yield
        if draws.calls and feed not in self._pure.drawing:
            raise NotVectorizable("a step seeds the generator that it draws from")
        self.draws |= draws.calls > 0

    def _coefficients(self, stack: Stack, values: Values, first: int) -> Iterator[tuple[Tensor, ...]]:
        dtype = next(iter(stack.parameters.values())).dtype
        return self._update.coefficients(values, first, dtype)


def _check_fixed(changed: Iterable[str]) -> None:
    """Refuses hooks that change what lies in memory once for all runs."""
    for name in changed:
        raise ChangesItself(f"a hook changes self.{name}, which it did not when it was called first")

"""A LightningModule's own steps as pure functions of parameters, states and batch, ready for ``torch.func``."""

from __future__ import annotations

import pickle
import random
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, SupportsIndex, cast

import numpy as np
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.model_helpers import is_overridden
from lightning.pytorch.utilities.seed import isolate_rng
from lightning.pytorch.utilities.signature_utils import is_param_in_hook_signature
from torch import Tensor, nn
from torch.func import functional_call
from torchmetrics import Metric

from lit_lrsched.comparison.engine.counts import Count, Counts, Formula
from lit_lrsched.comparison.engine.forms import FixedGradients, OwnTensors
from lit_lrsched.comparison.engine.held import contents, own_attributes, settings
from lit_lrsched.comparison.engine.hooks import (
    END_OF,
    FIRST,
    LAST,
    MOST_VARIANTS,
    REFUSED_HOOKS,
    START_OF,
    STEP_OF,
    Schedule,
)
from lit_lrsched.comparison.engine.metrics import Kept, Metrics, Tensors
from lit_lrsched.comparison.engine.recorder import (
    ChangesItself,
    Logged,
    NotVectorizable,
    Recorder,
    Reduction,
    Stage,
    TrainerView,
    in_a_line,
    recording_class,
)
from lit_lrsched.comparison.engine.tallies import Tallies
from lit_lrsched.comparison.engine.torchmetrics_internals import branchless_metrics
from lit_lrsched.optim.torch_internals import has_gradient_hooks, tree_leaves


class _Steps(nn.Module):
    """Lets ``functional_call`` reach any method of the module, not ``forward`` alone."""

    def __init__(self, module: LightningModule) -> None:
        super().__init__()
        self.module = module

    def forward(self, methods: Sequence[str], *args: Any) -> Any:
        return [getattr(self.module, method)(*args) for method in methods][-1]


class _Appended(list[Any]):
    """Stands for a list that a step appends to: what earlier steps appended is not in it, so it must not be read."""

    def __len__(self) -> int:
        raise NotVectorizable("a step reads a list of what earlier steps appended")

    def __iter__(self) -> Iterator[Any]:
        raise NotVectorizable("a step reads a list of what earlier steps appended")

    def __getitem__(self, place: SupportsIndex | slice) -> Any:
        raise NotVectorizable("a step reads a list of what earlier steps appended")

    def taken(self) -> list[Any]:
        """Returns what was appended."""
        return list(super().__iter__())


class PureModule:
    """A LightningModule whose steps can be called as pure functions.

    The module is taken over: it must not be used otherwise afterwards.

    Args:
        module: The module, freshly built.
        trained: The parameters that its optimizer updates.
        groups: How many param groups they are in.
        batches: One batch of every stage that shall run.
        schedule: How often its steps run.

    Raises:
        NotVectorizable: When a step is more than a pure function of parameters and batch, as far as running it once
            shows.

    Attributes:
        trained: Names of the trained parameters that have a gradient.
        logs: What the steps of each stage log, and how it is reduced.
        names: What steps and hooks of each stage log, as far as they were called.
        counts: Where the next call stands; set before a call, asked after it.
        weights: What the last step logged, and with which weight.
        emptied: Which lists are empty after the hooks at the start and at the end of each stage's epochs.
        own_tensors: Whether each run has its own of the tensors that a step makes for all runs alike.
    """

    def __init__(
        self,
        module: LightningModule,
        trained: set[Tensor],
        groups: int,
        batches: dict[Stage, Any],
        schedule: Schedule,
    ) -> None:
        if not module.automatic_optimization:
            raise NotVectorizable("it optimizes by hand (automatic_optimization=False)")
        for hook in (*REFUSED_HOOKS, *(LAST if "test" in batches else ())):
            if is_overridden(hook, module):
                raise NotVectorizable(f"it overrides {hook}")
        for name, parameter in module.named_parameters():
            if has_gradient_hooks(parameter):
                raise NotVectorizable(f"{name} has a hook on its gradient")
        self._stages = list(batches)
        self._schedule = schedule
        self._groups = groups
        self._hooks = {hook for hooks in (FIRST, *START_OF.values(), *END_OF.values()) for hook in hooks}
        self._hooks = {hook for hook in self._hooks if is_overridden(hook, module)}
        self._takes_index = {
            stage: is_param_in_hook_signature(getattr(module, STEP_OF[stage]), "batch_idx", min_args=2)
            for stage in batches
        }
        self._module = module
        module.__class__ = recording_class(type(module))
        vars(module)["_trainer_view"] = TrainerView(
            cast("Recorder", module), schedule.steps["train"], schedule.regime.accumulate, schedule.epochs
        )
        self._steps = _Steps(module)
        self._metrics = Metrics(module)
        self._tallies = Tallies(module)
        self.logs: dict[Stage, dict[str, Reduction]] = {stage: {} for stage in batches}
        self.names: dict[Stage, set[str]] = {stage: set() for stage in batches}
        self._logged_metrics: dict[Stage, dict[str, Metric]] = {stage: {} for stage in batches}
        self.counts = Counts(0, 0)
        self.weights: dict[str, int] = {}
        self.emptied: dict[tuple[str, Stage], set[str]] = {}
        self.own_tensors = False
        self._called: set[str] = set()
        self._lists: set[str] = set()
        self._changing: set[str] = set()
        self._probing = True
        try:
            used = self._probe(batches)
        except NotVectorizable:
            raise
        except Exception as error:  # of a step that misses what a trainer brings; what else is wrong with it, fit tells
            raise NotVectorizable(f"a step cannot be called by itself ({in_a_line(error)})") from error
        self._probing = False
        parameters = dict(module.named_parameters())
        self.trained = [name for name, p in parameters.items() if p in trained and p.requires_grad and name in used]
        if not self.trained:
            raise NotVectorizable("training_step has no gradient in any parameter of the optimizer")

    def tensors(self, module: LightningModule) -> tuple[Tensors, Tensors, Tensors]:
        """Returns copies of another such module's tensors.

        Returns:
            The trained parameters, the buffers that its steps change, and all else that a step reads.
        """
        everything = {
            name: tensor.detach().clone() for name, tensor in (*module.named_parameters(), *module.named_buffers())
        }
        trained = {name: everything.pop(name) for name in self.trained}
        changing = {f"buffer/{name}": everything.pop(name) for name in sorted(self._changing)}
        return trained, changing, everything

    def start(self) -> Tensors:
        """Returns the state before training, beside buffers: the loss, metrics, and the sums of what is logged."""
        state = {"loss/train": torch.zeros(()), **self._metrics.start(), **self._tallies.start()}
        for stage in self._stages:
            state |= self._sums(stage)
        return state

    def loss(
        self, parameters: Tensors, constants: Tensors, state: Tensors, batch: Any, clock: Tensor, rates: Tensor
    ) -> tuple[Tensor, tuple[Tensors, Kept]]:
        """Returns the batch's share of the loss of a step, the new state, and what was appended to lists.

        Args:
            parameters: The trained parameters.
            constants: All other tensors of the module that do not change.
            state: The state before the step.
            batch: The batch.
            clock: Epoch and batch index, int64 ``[2]``.
            rates: The learning rates of the step, ``[groups]``.
        """
        output, state, kept = self._step("train", parameters, constants, state, batch, clock, rates)
        loss = _loss_of(output)
        accumulate = self._schedule.regime.accumulate
        share = loss / accumulate if accumulate > 1 else loss
        return share, ({**state, "loss/train": loss.detach()}, kept)

    def evaluate(
        self, stage: Stage, parameters: Tensors, constants: Tensors, state: Tensors, batch: Any, clock: Tensor
    ) -> tuple[Tensors, Kept]:
        """Returns state and lists after ``validation_step`` or ``test_step``, with every layer in evaluation mode."""
        return self._step(stage, parameters, constants, state, batch, clock)[1:]

    def is_first(self, stage: Stage, epoch: int) -> bool:
        """Returns whether training starts with this epoch."""
        return stage == "train" and epoch == 0

    def name_of(self, key: str) -> str:
        """Returns in words which list it is that was kept under this key."""
        return f"self.{key[5:]}" if key.startswith("self/") else self._metrics.name_of(key)

    def has_start(self, stage: Stage, epoch: int) -> bool:
        """Returns whether anything happens before an epoch's first step."""
        return not self._hooks.isdisjoint(self._starts(stage, epoch))

    def start_epoch(
        self, stage: Stage, parameters: Tensors, constants: Tensors, state: Tensors, kept: Kept, clock: Tensor
    ) -> tuple[Tensors, Tensors]:
        """Returns the state after the hooks that run before an epoch's first step, and what they log."""
        hooks = self._starts(stage, self.counts.now[0])
        return self._around(stage, hooks, parameters, constants, state, kept, clock)

    def end_epoch(
        self, stage: Stage, parameters: Tensors, constants: Tensors, state: Tensors, kept: Kept, clock: Tensor
    ) -> tuple[Tensors, Tensors]:
        """Returns the state for the next epoch, and what metrics and hooks log at the end of this one.

        What steps log as numbers is not among it: that is in the state, by ``sum/stage/name``.
        """
        state, values = self._around(stage, END_OF[stage], parameters, constants, state, kept, clock)
        return {**state, **self._sums(stage)}, values

    def _around(
        self,
        stage: Stage,
        hooks: Sequence[str],
        parameters: Tensors,
        constants: Tensors,
        state: Tensors,
        kept: Kept,
        clock: Tensor,
    ) -> tuple[Tensors, Tensors]:
        """Calls hooks; returns the state after them, and what is logged."""
        self.counts.clock = clock
        self._metrics.load_all(state, kept)
        for name in self._lists:
            setattr(self._module, name, list(kept.get(f"self/{name}", [])))
        recorded: dict[str, Logged] = {}
        called = [hook for hook in hooks if hook in self._hooks]
        if called:
            self._tallies.load(state)
            _, state, recorded = self._call(stage, called, parameters, constants, state)
            state |= self._tallies.saved()
        metrics = self._logged_metrics[stage] if hooks is END_OF[stage] else {}
        logged: dict[str, Any] = {**metrics, **{name: entry.value for name, entry in recorded.items()}}
        self.names[stage].update(logged)
        values = {
            name: value.compute().float() if isinstance(value, Metric) else value for name, value in logged.items()
        }
        for value in logged.values():
            if isinstance(value, Metric):
                value.reset()  # as Lightning does with the metrics that it is given to log
        return {**state, **self._metrics.saved_all()}, values

    def _starts(self, stage: Stage, epoch: int) -> tuple[str, ...]:
        return (*(FIRST if self.is_first(stage, epoch) else ()), *START_OF[stage])

    def _step(
        self,
        stage: Stage,
        parameters: Tensors,
        constants: Tensors,
        state: Tensors,
        batch: Any,
        clock: Tensor,
        rates: Tensor | None = None,
    ) -> tuple[Any, Tensors, Kept]:
        self.counts.clock = clock
        self._metrics.load(state)
        self._tallies.load(state)
        for name in self._lists:
            setattr(self._module, name, _Appended())
        output, state, recorded = self._call(stage, [STEP_OF[stage]], parameters, constants, state, batch, rates=rates)
        states, kept = self._metrics.saved()
        state |= states | self._tallies.saved()
        for name in self._lists:
            kept[f"self/{name}"] = self._taken(name)
        self.names[stage].update(recorded)
        rows = rows_of(batch)
        self.weights = {}
        for name, logged in recorded.items():
            if isinstance(logged.value, Metric):
                self._logged_metrics[stage][name] = logged.value
                continue
            key = f"sum/{stage}/{name}"
            self.weights[name] = logged.weight or rows
            state[key] = logged.reduction.folded(state[key], logged.value, self.weights[name])
        return output, state, kept

    def _taken(self, name: str) -> list[Any]:
        appended = getattr(self._module, name)
        if not isinstance(appended, _Appended):
            raise NotVectorizable(f"a step sets self.{name} anew")
        taken = appended.taken()
        if not all(isinstance(leaf, Tensor) for leaf in tree_leaves(taken)):
            raise NotVectorizable(f"a step appends more than tensors to self.{name}")
        return taken

    def _call(
        self,
        stage: Stage,
        methods: Sequence[str],
        parameters: Tensors,
        constants: Tensors,
        state: Tensors,
        *batch: Any,
        rates: Tensor | None = None,
    ) -> tuple[Any, Tensors, dict[str, Logged]]:
        """Calls methods with the module's tensors set; returns the last output, the state and what was logged."""
        recorder: Any = self._module
        recorder._recorded, recorder._recorded_stage, recorder._recorded_step = {}, stage, bool(batch)
        recorder._counts = counts = self.counts
        recorder._steps_taken = self._steps_taken(stage, methods)
        recorder._rates = rates
        tensors = {f"module.{name}": tensor for name, tensor in (*parameters.items(), *constants.items())}
        for name in self._changing:
            tensors[f"module.{name}"] = state[f"buffer/{name}"]
        index = (Count(counts, lambda epoch, index: index),) if batch and self._takes_index[stage] else ()
        made = OwnTensors(next(iter(parameters.values()))) if self.own_tensors else nullcontext()
        with branchless_metrics(), FixedGradients(), made, nullcontext() if stage == "train" else self._evaluating():
            before, numbers = settings(self._module, self._lists), self._tallies.numbers()
            output = functional_call(self._steps, tensors, (methods, *batch, *index))
            if self._probing:
                self._tallies.watch(numbers)
            with self._tallies.set_back(numbers):
                after = settings(self._module, self._lists)
        # The first call of a method may set how layers compute, as it may when training starts.
        is_first, self._called = not self._called.issuperset(methods), self._called.union(methods)
        if after != before and not is_first:
            changed = min(name for name in {**before, **after} if before.get(name) != after.get(name))
            raise ChangesItself(f"{methods[-1]} changes self.{changed}")
        # What a method assigns to a buffer, rather than changes in place, is in the dictionary afterwards.
        state = {**state, **{f"buffer/{name}": tensors[f"module.{name}"] for name in self._changing}}
        return output, state, recorder._recorded

    def _steps_taken(self, stage: Stage, methods: Sequence[str]) -> Formula:
        """Returns how many optimizer steps are taken when these methods are called."""
        regime = self._schedule.regime
        steps, accumulate = regime.steps_in(self._schedule.steps["train"]), regime.accumulate
        if STEP_OF["train"] in methods:
            return lambda epoch, index: epoch * steps + index // accumulate
        if stage == "test" or not {*FIRST, *START_OF["train"]}.isdisjoint(methods):
            return lambda epoch, index: epoch * steps
        return lambda epoch, index: (epoch + 1) * steps

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        modes = {layer: layer.training for layer in self._module.modules()}
        self._module.eval()
        try:
            yield
        finally:
            for layer, mode in modes.items():
                layer.training = mode

    def _sums(self, stage: Stage) -> Tensors:
        device = self._module.device
        return {
            f"sum/{stage}/{name}": torch.tensor(reduction.start, device=device)
            for name, reduction in self.logs[stage].items()
        }

    def _probe(self, batches: dict[Stage, Any]) -> set[str]:
        """Runs every hook and step once, for what it logs, changes and leaves without a gradient."""
        module = self._module
        before = {
            name: tensor.detach().clone() for name, tensor in (*module.named_parameters(), *module.named_buffers())
        }
        attributes = _attributes(module)
        others = _other_generators()
        used: list[set[str]] = []
        with isolate_rng(), torch.enable_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a metric of one batch may have little to go by
            self._probe_hooks("start", "train", self._starts("train", 0))
            self._probe_steps("train", batches["train"], used)
            if "val" in batches:
                self._probe_stage("val", batches["val"])
            self._probe_hooks("end", "train", END_OF["train"])
            self._probe_hooks("start", "train", self._starts("train", 1))
            if "test" in batches:
                self._probe_stage("test", batches["test"])
            if others != _other_generators():
                raise NotVectorizable("a step draws from Python's or NumPy's generator, not from torch's")
        for name, parameter in module.named_parameters():
            if not _same(parameter, before[name]):
                raise NotVectorizable(f"a step changes the parameter {name!r} itself")
        self._changing = {name for name, tensor in module.named_buffers() if not _same(tensor, before[name])}
        self._tallies.begin_anew()
        for name, held in _attributes(module).items():
            emptied = name in self._lists and getattr(module, name) == []
            if attributes.get(name) != held and not emptied:
                raise NotVectorizable(f"a step changes self.{name}, and the end of its epoch does not undo it")
        self._metrics.settle()
        return used[0]

    def _probe_stage(self, stage: Stage, batch: Any) -> None:
        self._probe_hooks("start", stage, START_OF[stage])
        self._probe_steps(stage, batch, [])
        self._probe_hooks("end", stage, END_OF[stage])

    def _probe_hooks(self, kind: str, stage: Stage, hooks: Sequence[str]) -> None:
        drawn = torch.get_rng_state()
        called = [hook for hook in hooks if hook in self._hooks]
        recorded = self._call(stage, called, {}, {}, {})[2] if called else {}
        metrics = [logged.value for logged in recorded.values()]
        if hooks is END_OF[stage]:
            metrics += self._logged_metrics[stage].values()
        for metric in metrics:
            if isinstance(metric, Metric):
                metric.reset()
        if not torch.equal(drawn, torch.get_rng_state()):
            raise NotVectorizable(f"it draws random numbers in {called[-1]}")
        lists = {f"self/{name}" for name in self._lists if getattr(self._module, name) == []}
        self.emptied[kind, stage] = self._metrics.empty() | lists

    def _probe_steps(self, stage: Stage, batch: Any, used: list[set[str]]) -> None:
        module = self._module
        seen: list[Counts] = []
        for place in self._schedule.places(stage):
            if any(counts.serve(*place) for counts in seen):
                continue
            if len(seen) == MOST_VARIANTS:
                raise NotVectorizable(f"a step differs for over {MOST_VARIANTS} values of batch_idx or current_epoch")
            self.counts = Counts(*place)
            lengths = _lengths(module)
            rates = torch.zeros(self._groups) if stage == "train" else None
            output, _, recorded = self._call(stage, [STEP_OF[stage]], {}, {}, {}, batch, rates=rates)
            for name, logged in recorded.items():
                if isinstance(logged.value, Metric):
                    self._logged_metrics[stage][name] = logged.value
                elif self.logs[stage].setdefault(name, logged.reduction) != logged.reduction:
                    raise NotVectorizable(f"{name!r} is logged in more than one way")
            self._lists |= {name for name, length in _lengths(module).items() if length > lengths.get(name, 0)}
            if stage == "train":
                _loss_of(output).backward()  # type: ignore[no-untyped-call]
                used.append({name for name, parameter in module.named_parameters() if parameter.grad is not None})
                module.zero_grad()
                if used[-1] != used[0]:
                    raise NotVectorizable("which parameters have a gradient depends on batch_idx or current_epoch")
            seen.append(self.counts)


def rows_of(batch: Any) -> int:
    """Returns the number of rows of a batch: the length of its first tensor."""
    return len(next(leaf for leaf in tree_leaves(batch) if isinstance(leaf, Tensor) and leaf.dim()))


def _loss_of(output: Any) -> Tensor:
    loss = output.get("loss") if isinstance(output, Mapping) else output
    if not isinstance(loss, Tensor):
        raise NotVectorizable(f"training_step returns {type(output).__name__}, not a loss")
    return loss


def _same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.equal(a.detach().nan_to_num(), b.nan_to_num())


def _other_generators() -> tuple[Any, bytes]:
    return random.getstate(), pickle.dumps(np.random.get_state())


def _attributes(module: LightningModule) -> dict[str, Any]:
    """Returns what the module holds beside its layers and tensors."""
    held = {name: (value, contents(value, set())) for name, value in own_attributes(module).items()}
    return {name: id(value) if within is None else within for name, (value, within) in held.items()}


def _lengths(module: LightningModule) -> dict[str, int]:
    return {name: len(value) for name, value in own_attributes(module).items() if type(value) is list}

"""A LightningModule's own steps as pure functions of parameters, states and batch, ready for ``torch.func``."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from lit_lrsched.comparison.engine.calls import Calls
from lit_lrsched.comparison.engine.feeds import Feed, stage_of
from lit_lrsched.comparison.engine.first_batches import check_first_batches
from lit_lrsched.comparison.engine.forms import left_out
from lit_lrsched.comparison.engine.held import copies_of, tensors_of
from lit_lrsched.comparison.engine.hooks import BEFORE_OPTIMIZER, OF_EVERY_BATCH, REFUSED_HOOKS, Schedule, hooks_of
from lit_lrsched.comparison.engine.metrics import Kept, Metrics, Tensors
from lit_lrsched.comparison.engine.probe import loss_of, output_for_hook, probe
from lit_lrsched.comparison.engine.recorder import NotVectorizable, Stage
from lit_lrsched.optim.torch_internals import has_gradient_hooks, tree_flatten, tree_leaves, tree_unflatten
from lit_lrsched.trainer.lightning_package import LightningModule, is_overridden


class PureModule:
    """A LightningModule whose steps can be called as pure functions.

    The module is taken over: it must not be used otherwise afterwards.

    Args:
        module: The module, freshly built.
        trained: The parameters that its optimizer updates.
        groups: How many param groups they are in.
        batches: One batch of every feed that shall run.
        schedule: How often its steps run.

    Raises:
        NotVectorizable: When a step is more than a pure function of parameters and batch, as far as running it once
            shows.

    Attributes:
        calls: Calls of its methods: their counts are set before a call of a function here, and asked after it.
        trained: Names of the trained parameters that have a gradient.
        logs: What the steps of each stage log, and how it is reduced.
        names: What steps and hooks of each stage log, as far as they were called.
        weights: What the last step logged, and with which weight.
        emptied: Which lists are empty after the hooks at the start and at the end of each stage's epochs.
        drawing: Which feeds' steps draw from torch's generator, called by themselves.
        sees_gradients: Whether it has a hook that is called with the gradients of each step.
        clips: Whether one of them takes the place of the trainer's clipping.
        ends_batches: Whether it has a hook that is called after each step of the optimizer.
    """

    def __init__(
        self,
        module: LightningModule,
        trained: set[Tensor],
        groups: int,
        batches: dict[Feed, Any],
        schedule: Schedule,
    ) -> None:
        if not module.automatic_optimization:
            raise NotVectorizable("it optimizes by hand (automatic_optimization=False)")
        for hook in REFUSED_HOOKS:
            if is_overridden(hook, module):
                raise NotVectorizable(f"it overrides {hook}")
        for name, parameter in module.named_parameters():
            if has_gradient_hooks(parameter):
                raise NotVectorizable(f"{name} has a hook on its gradient")
        for hook in OF_EVERY_BATCH:
            if schedule.regime.accumulate > 1 and is_overridden(hook, module):
                raise NotVectorizable(f"it overrides {hook}, and gradients add up over batches")
        self._schedule = schedule
        self._module = module
        self._groups = groups
        self.calls = Calls(module, schedule)
        self._metrics = Metrics(module)
        self._around = {stage: self.calls.around_step(stage) for stage in map(stage_of, batches)}
        self._see = self.calls.overridden(BEFORE_OPTIMIZER)
        self.sees_gradients = bool(self._see)
        self.clips = is_overridden("configure_gradient_clipping", module)
        self.ends_batches = bool(self._around["train"][1])
        found = probe(self.calls, self._metrics, batches, schedule, groups)
        self.logs, self._logged_metrics, self.emptied = found.logs, found.metrics, found.emptied
        self._anew, self.drawing = found.anew, found.drawing
        self.names: dict[Stage, set[str]] = {stage: set() for stage in self._around}
        self.weights: dict[str, int] = {}
        parameters = dict(module.named_parameters())
        self.trained = [n for n, p in parameters.items() if p in trained and p.requires_grad and n in found.used]
        if not self.trained:
            raise NotVectorizable("training_step has no gradient in any parameter of the optimizer")
        self.calls.changing -= {*self.trained}
        others = sorted(found.used.difference(self.trained))
        if self.sees_gradients and others:
            # It adds up from step to step: only an optimizer sets it to zero.
            raise NotVectorizable(f"{self._see[0]} may see the gradient of {others[0]}, which no optimizer trains")

    def tensors(self, module: LightningModule) -> tuple[Tensors, Tensors, Tensors]:
        """Returns copies of another such module's tensors.

        Returns:
            The trained parameters, what else its steps change, such as buffers, and all else that a step reads.
        """
        everything = copies_of(tensors_of(module))
        trained = {name: everything.pop(name) for name in self.trained}
        changing = {f"changing/{name}": everything.pop(name) for name in sorted(self.calls.changing)}
        return trained, changing, everything

    def start(self) -> Tensors:
        """Returns the rest of the state before training: the loss, metrics, counts, and the sums of what is logged."""
        state = {
            "loss/train": torch.zeros(()),
            "left out": torch.zeros((), dtype=torch.bool),
            **self._metrics.start(),
            **self.calls.tallies.start(),
        }
        for stage in self.logs:
            state |= self._sums(stage)
        return state

    def check_first_batches(self, batches: dict[Feed, Any], shared: Collection[str]) -> None:
        """Refuses layers that compute with what they keep of their first batch.

        Args:
            batches: One batch of every feed.
            shared: Names of the constants that are the same for all runs.

        Raises:
            NotVectorizable: When they do.
        """
        check_first_batches(self.calls, batches, partial(self._results, shared))

    def loss(
        self, parameters: Tensors, constants: Tensors, state: Tensors, batch: Any, clock: Tensor, rates: Tensor
    ) -> tuple[Tensor, tuple[Tensors, Kept, list[Tensor]]]:
        """Returns the batch's share of the loss of a step, the new state, what was appended to lists, and the output.

        The output is the tensors that the hook after the optimizer's step is given: none where there is no such hook.

        Args:
            parameters: The trained parameters.
            constants: All other tensors of the module that do not change.
            state: The state before the step.
            batch: The batch.
            clock: Epoch and batch index, int64 ``[2]``.
            rates: The learning rates of the step, ``[groups]``.
        """
        self.weights = {}
        methods = self._around["train"][0]
        output, state, kept = self._step("train", methods, parameters, constants, state, batch, clock, rates=rates)
        loss = loss_of(output)
        accumulate = self._schedule.regime.accumulate
        share = loss / accumulate if accumulate > 1 else loss
        self._output, self._structure = tree_flatten(output_for_hook(output, share) if self.ends_batches else {})
        handed = [leaf for leaf in self._output if isinstance(leaf, Tensor)]
        # As a backward takes it, a loss may have a dimension.
        return share.reshape(()), ({**state, "loss/train": loss.detach().reshape(())}, kept, handed)

    def see_gradients(
        self,
        parameters: Tensors,
        constants: Tensors,
        state: Tensors,
        batch: Any,
        gradients: Tensors,
        clock: Tensor,
        rates: Tensor,
    ) -> tuple[Tensors, Tensors, Kept]:
        """Returns gradients, state and lists after the hooks that are called with the gradients of a step."""
        seen = {name: gradient.clone() for name, gradient in gradients.items()}
        options = {"gradients": seen, "rates": rates}
        state, kept = self._step("train", self._see, parameters, constants, state, batch, clock, **options)[1:]
        return seen, state, kept

    def end_batch(
        self, parameters: Tensors, constants: Tensors, state: Tensors, batch: Any, handed: list[Tensor], clock: Tensor
    ) -> tuple[Tensors, Kept]:
        """Returns state and lists after the hook that is called when the optimizer has made its step."""
        hooks, tensors = self._around["train"][1], iter(handed)
        leaves = [next(tensors) if isinstance(leaf, Tensor) else leaf for leaf in self._output]
        output = tree_unflatten(leaves, self._structure)
        return self._step("train", hooks, parameters, constants, state, batch, clock, output=output)[1:]

    def evaluate(
        self, feed: Feed, parameters: Tensors, constants: Tensors, state: Tensors, batch: Any, clock: Tensor
    ) -> tuple[Tensors, Kept]:
        """Returns state and lists after ``validation_step`` or ``test_step``, with every layer in evaluation mode."""
        self.weights = {}
        before, after = self._around[stage_of(feed)]
        return self._step(feed, [*before, *after], parameters, constants, state, batch, clock)[1:]

    def name_of(self, key: str) -> str:
        """Returns in words which list it is that was kept under this key."""
        return f"self.{key[5:]}" if key.startswith("self/") else self._metrics.name_of(key)

    def has(self, kind: str, stage: Stage, epoch: int) -> bool:
        """Returns whether anything happens before or after an epoch's steps, or after the last epoch."""
        return kind == "end" or bool(self.calls.overridden(hooks_of(kind, stage, epoch)))

    def around_epoch(
        self,
        kind: str,
        stage: Stage,
        parameters: Tensors,
        constants: Tensors,
        state: Tensors,
        kept: Kept,
        clock: Tensor,
    ) -> tuple[Tensors, Tensors]:
        """Returns the state after hooks, and what metrics and hooks log.

        What steps log as numbers is not among it: that is in the state, by ``sum/stage/name``.

        Args:
            kind: ``"start"`` before an epoch's first step, ``"end"`` after its last, ``"last"`` when training ends.
            stage: The stage.
            parameters: The trained parameters.
            constants: All other tensors of the module that do not change.
            state: The state before.
            kept: What steps have appended to lists.
            clock: Epoch and batch index, int64 ``[2]``.
        """
        calls = self.calls
        calls.counts.clock = clock
        with left_out() as numbers:
            self._metrics.load_all(state, kept)
            calls.lists.load(kept, unread=() if kind == "end" else self._anew.difference(kept))
            called = calls.overridden(hooks_of(kind, stage, calls.counts.now[0]))
            logged: dict[str, Any] = dict(self._logged_metrics[stage]) if kind == "end" else {}
            # Those of an evaluation Lightning computes as its loader ends, before hooks may reset them.
            values = {} if stage == "train" else _values(logged)
            if called:
                calls.tallies.load(state)
                for hook in called:
                    _, state, recorded = calls(stage, [hook], parameters, constants, state)
                    of_hook = {name: entry.value for name, entry in recorded.items()}
                    logged |= of_hook
                    values |= _values(of_hook)
                state |= calls.tallies.saved()
            values |= _values({name: value for name, value in logged.items() if name not in values})
        state = _with_left_out(state, numbers)
        self.names[stage].update(logged)
        for value in [*logged.values(), *(calls.given_to_log(stage) if kind == "end" else ())]:
            if isinstance(value, Metric):
                value.reset()
        anew = self._sums(stage) if kind == "end" else {}
        return {**state, **self._metrics.saved_all(), **anew}, values

    def _results(self, shared: Collection[str], feed: Feed, batch: Any) -> list[Tensor]:
        """Returns all that comes out of a first step on tensors as another run may have them."""
        parameters, changing, constants = self.tensors(self._module)
        for tensors in (parameters, {name: constants[name] for name in constants.keys() - shared}):
            for tensor in tensors.values():
                if tensor.is_floating_point():
                    tensor.mul_(1.25)
        state, clock = self.start() | changing, torch.zeros(2, dtype=torch.int64)
        if feed == "train":
            out: Any = self.loss(parameters, constants, state, batch, clock, torch.zeros(self._groups))
        else:
            out = self.evaluate(feed, parameters, constants, state, batch, clock)
        return [leaf for leaf in tree_leaves((parameters, constants, out)) if isinstance(leaf, Tensor)]

    def _step(
        self,
        feed: Feed,
        methods: Sequence[str],
        parameters: Tensors,
        constants: Tensors,
        state: Tensors,
        batch: Any,
        clock: Tensor,
        **options: Any,
    ) -> tuple[Any, Tensors, Kept]:
        """Calls a step, or hooks around it; returns what it returns, the state, and what was appended to lists."""
        calls = self.calls
        calls.counts.clock = clock
        self._metrics.load(state)
        calls.tallies.load(state)
        calls.lists.begin_step()
        rows = rows_of(batch)  # before a step takes it apart
        with left_out() as numbers:
            output, state, recorded = calls(feed, methods, parameters, constants, state, batch, **options)
        state = _with_left_out(state, numbers)
        stage = stage_of(feed)
        states, kept = self._metrics.saved()
        state |= states | calls.tallies.saved()
        kept |= calls.lists.saved()
        self.names[stage].update(recorded)
        for name, logged in recorded.items():
            if isinstance(logged.value, Metric):
                continue
            if name in self.weights:
                raise NotVectorizable(f"{name!r} is logged by a step and by {methods[-1]}")
            key = f"sum/{stage}/{name}"
            self.weights[name] = rows if logged.weight is None else logged.weight
            state[key] = logged.reduction.folded(state[key], logged.value, self.weights[name])
        return output, state, kept

    def _sums(self, stage: Stage) -> Tensors:
        device = self._module.device
        return {
            f"sum/{stage}/{name}": torch.tensor(reduction.start, device=device)
            for name, reduction in self.logs[stage].items()
        }


def _values(logged: Mapping[str, Any]) -> Tensors:
    return {name: value.compute().float() if isinstance(value, Metric) else value for name, value in logged.items()}


def _with_left_out(state: Tensors, numbers: list[Tensor]) -> Tensors:
    return state | {"left out": torch.stack([state["left out"], *numbers]).any()} if numbers else state


def rows_of(batch: Any) -> int:
    """Returns the number of rows of a batch: the length of its first tensor."""
    return len(next(leaf for leaf in tree_leaves(batch) if isinstance(leaf, Tensor) and leaf.dim()))

"""Calls of a module's own methods: its tensors set for them, what they log recorded, what they change watched."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torchmetrics import Metric

from lit_lrsched.comparison.engine.averages import average_without_branches
from lit_lrsched.comparison.engine.counts import Count, Counts, Formula
from lit_lrsched.comparison.engine.feeds import Feed, place_of, stage_of
from lit_lrsched.comparison.engine.forms import FixedGradients, OwnTensors
from lit_lrsched.comparison.engine.held import attributes_of_layers, is_filled, own_attributes, settings
from lit_lrsched.comparison.engine.hooks import (
    AFTER_BATCH,
    BEFORE_BATCH,
    BEFORE_OPTIMIZER,
    FIRST,
    LAST,
    START_OF,
    STEP_OF,
    ZEROING,
    Schedule,
)
from lit_lrsched.comparison.engine.items import Marked
from lit_lrsched.comparison.engine.lists import Lists
from lit_lrsched.comparison.engine.metrics import Tensors
from lit_lrsched.comparison.engine.outside import Outside
from lit_lrsched.comparison.engine.passed import Passed
from lit_lrsched.comparison.engine.recorder import (
    STAGES,
    ChangesItself,
    Logged,
    NotVectorizable,
    Recorder,
    Stage,
    TrainerView,
    ZeroedView,
    recording_class,
)
from lit_lrsched.comparison.engine.tallies import Tallies
from lit_lrsched.comparison.engine.torchmetrics_internals import branchless_metrics
from lit_lrsched.trainer.lightning_package import LightningModule, is_overridden, is_param_in_hook_signature


class Calls:
    """Calls methods of a module as functions of the tensors that are given.

    Args:
        module: The module, freshly built. It is taken over, and must not be used otherwise afterwards.
        schedule: How often its steps run.

    Attributes:
        counts: Where the next call stands; set before a call, asked after it.
        tallies: The numbers that it counts with.
        changing: Names of the tensors that its methods change; they are a part of every state.
        lists: The lists that its steps append to.
        passed: What is kept of a batch for what is called after its step.
        own_tensors: Whether each run has its own of the tensors that a step makes for all runs alike.
        watches: Whether it is found out what changes.
        bare: Ids of tensors of which a method has taken ``data``, as far as that was found out.
        noted: What methods have set as they were called first, by name.
    """

    def __init__(self, module: LightningModule, schedule: Schedule) -> None:
        self._schedule = schedule
        self._takes_index = {
            STEP_OF[stage]: is_param_in_hook_signature(getattr(module, STEP_OF[stage]), "batch_idx", min_args=2)
            for stage in map(stage_of, schedule.steps)
        }
        self.module = module
        self._outside = Outside(module)
        module.__class__ = recording_class(type(module))
        vars(module)["_trainer_view"] = TrainerView(
            cast("Recorder", module),
            max_epochs=schedule.epochs,
            num_training_batches=schedule.steps["train"],
            accumulate_grad_batches=schedule.regime.accumulate,
            estimated_stepping_batches=schedule.total,
            gradient_clip_val=schedule.regime.clip and schedule.regime.clip.value,
            gradient_clip_algorithm=schedule.regime.clip and schedule.regime.clip.algorithm,
        )
        vars(module)["_metrics_logged"] = {stage: {} for stage in STAGES}
        average_without_branches(module)
        self._methods = _Methods(module)
        self._called: set[tuple[Feed, str]] = set()
        self._before_batches: dict[str, dict[str, Any]] | None = None
        self.counts = Counts(0, 0)
        self.tallies = Tallies(module)
        self.changing: set[str] = set()
        self.lists = Lists(module)
        self.passed = Passed(module)
        self.own_tensors = False
        self.watches = True
        self.bare: set[int] = set()
        self.noted: list[str] = []
        self._with_gradient = [name for name, parameter in module.named_parameters() if parameter.requires_grad]

    def overridden(self, hooks: Sequence[str]) -> list[str]:
        """Returns which of these hooks the module has."""
        return [hook for hook in hooks if is_overridden(hook, self.module)]

    def around_step(self, stage: Stage) -> tuple[list[str], list[str]]:
        """Returns what is called for a batch: up to its step, and after it, in training after the optimizer's."""
        before = self.overridden([BEFORE_BATCH[stage]])
        zeroing = self.overridden(ZEROING) if stage == "train" else []
        return [*before, STEP_OF[stage], *zeroing], self.overridden([AFTER_BATCH[stage]])

    def kept(self) -> list[str]:
        """Returns the names of the attributes that are others than before the first batch: of layers, and passed on."""
        before, now = self._before_batches or {}, attributes_of_layers(self.module)
        return [f"self.{name}" for name in sorted(self.passed.names)] + [
            f"self.{path}.{name}"
            for path, attributes in before.items()
            for name in sorted(attributes.keys() | now[path].keys())
            if attributes.get(name) is not now[path].get(name)
        ]

    def given_to_log(self, stage: Stage) -> list[Metric]:
        """Returns the metrics that were given to log in a stage so far: as its epochs end, Lightning resets them."""
        recorder: Any = self.module
        return [*recorder._metrics_logged[stage].values()]

    @contextmanager
    def before_batches(self) -> Iterator[None]:
        """Sets these for a while to what they were before the first batch."""
        called, now = self._called, attributes_of_layers(self.module)
        self._called, self.passed.at_first = set(), True
        self._set_layers(self._before_batches or {})
        try:
            yield
        finally:
            self._called, self.passed.at_first = called, False
            self._set_layers(now)

    def _set_layers(self, attributes: Mapping[str, Mapping[str, Any]]) -> None:
        for path, held in attributes.items():
            layer = self.module.get_submodule(path)
            for name in own_attributes(layer).keys() - held.keys():
                del vars(layer)[name]
            vars(layer).update(held)

    def __call__(
        self,
        feed: Feed,
        methods: Sequence[str],
        parameters: Tensors,
        constants: Tensors,
        state: Tensors,
        batch: Any = None,
        *,
        output: Any = None,
        gradients: Tensors | None = None,
        rates: Tensor | None = None,
    ) -> tuple[Any, Tensors, dict[str, Logged]]:
        """Calls methods, one after the other.

        Args:
            feed: In which stage, and from which of its loaders the batch is.
            methods: Their names.
            parameters: The trained parameters.
            constants: All other tensors of the module that do not change.
            state: The state before, of which the tensors that change are set.
            batch: The batch, for a step and the hooks around it.
            output: What the step has returned, for the hook after it.
            gradients: Those of the trained parameters, for hooks that may change them: they are changed here.
            rates: The learning rates of the step, ``[groups]``.

        Returns:
            What the step among them returns, the state after them, and what was logged.
        """
        recorder: Any = self.module
        gradients = {} if gradients is None else gradients
        of_batch, stage = batch is not None, stage_of(feed)
        if of_batch and self._before_batches is None:
            self._before_batches = attributes_of_layers(self.module)
        recorder._recorded, recorder._recorded_stage, recorder._recorded_step = {}, stage, of_batch
        recorder._recorded_loader = place_of(feed) if of_batch else None
        recorder._counts = self.counts
        recorder._steps_taken = self._steps_taken(stage, methods)
        recorder._rates = rates
        tensors = {f"module.{name}": tensor for name, tensor in (*parameters.items(), *constants.items())}
        for name in self.changing:
            tensors[f"module.{name}"] = state[f"changing/{name}"]
        for name, before_hooks in gradients.items():
            tensors[f"module.{name}"] = parameters[name].detach()
            tensors[f"module.{name}"].grad = before_hooks
        given = {method: self._arguments(method, batch, place_of(feed)) for method in methods}
        made = OwnTensors(next(iter(parameters.values()))) if self.own_tensors else nullcontext()
        trained = (tensors[f"module.{n}"] for n in self._with_gradient if f"module.{n}" in tensors)
        fixed = FixedGradients(trained, are_seen=set(methods).issubset(BEFORE_OPTIMIZER))
        at_first = dict(tensors)
        with branchless_metrics(), fixed, made, nullcontext() if stage == "train" else self._evaluating():
            self.passed.load(state)
            attributes = own_attributes(self.module)
            before, numbers = self._settings(of_batch), self.tallies.numbers()
            with Marked() if self.watches and of_batch else nullcontext():
                output = functional_call(self._methods, tensors, (given, output))
            if self.watches:
                self.tallies.watch(numbers)
                self.bare |= fixed.bare
                if of_batch:
                    self.passed.watch(attributes)
            with self.tallies.set_back(numbers):
                after = self._settings(of_batch)
        self._check_settings(feed, methods, before, after)
        for name in [*parameters, *constants]:
            if tensors[f"module.{name}"] is not at_first[f"module.{name}"]:
                raise ChangesItself(f"{methods[-1]} sets self.{name} anew, which it did not when it was called first")
        for name in gradients:
            gradient = tensors[f"module.{name}"].grad
            if gradient is None:
                raise NotVectorizable(f"{methods[-1]} takes the gradient of {name} away")
            gradients[name] = gradient
        for name in self.changing:
            if tensors[f"module.{name}"].shape != state[f"changing/{name}"].shape:
                raise ChangesItself(f"{methods[-1]} changes the shape of self.{name}")
        # What a method assigns to a buffer, rather than changes in place, is in the dictionary afterwards.
        state = {**state, **{f"changing/{name}": tensors[f"module.{name}"] for name in self.changing}}
        if of_batch:
            state |= self.passed.saved()
        return output, state, recorder._recorded

    def _arguments(self, method: str, batch: Any, loader: int | None) -> tuple[Any, ...]:
        """Returns what a trainer gives a method, beside what its step has returned."""
        recorder: Any = self.module
        if method == "teardown":
            return ("fit",)
        if method == "on_after_backward" or batch is None:
            return ()
        index = Count(self.counts, lambda epoch, index: index)
        if method == "optimizer_zero_grad":
            return recorder.current_epoch, index, ZeroedView(recorder._rates)
        if method == "configure_gradient_clipping":
            trainer = recorder.trainer
            return recorder.optimizers(), trainer.gradient_clip_val, trainer.gradient_clip_algorithm
        if method in (*BEFORE_OPTIMIZER, *ZEROING):
            return (recorder.optimizers(),)
        if loader is not None and not is_param_in_hook_signature(getattr(self.module, method), "dataloader_idx"):
            raise NotVectorizable(f"there are several loaders, and {method} takes no dataloader_idx")
        given = (batch, index) if self._takes_index.get(method, True) else (batch,)
        return given if loader is None else (*given, loader)

    def _check_settings(
        self, feed: Feed, methods: Sequence[str], before: Mapping[str, Any], after: Mapping[str, Any]
    ) -> None:
        """Refuses methods that change how the module computes, but for what they may set when they are called first."""
        calls = {(feed, method) for method in methods}
        is_first, self._called = not self._called.issuperset(calls), self._called.union(calls)
        for name in sorted({**before, **after}):
            is_changed = before.get(name) != after.get(name)
            if is_changed and not (is_first and self._may_set(methods, name, before.get(name), after.get(name))):
                raise ChangesItself(f"{methods[-1]} changes {name}")
            if is_changed:
                self.noted.append(name)

    def _may_set(self, methods: Sequence[str], name: str, before: Any, after: Any) -> bool:
        """Returns whether methods may set this when they are called first: whether no earlier step knew it otherwise.

        Whether an attribute of the module itself stays as it is, is seen after an epoch.
        """
        if not name.startswith("self."):
            return False
        if name.removeprefix("self.") in vars(self.module):
            return True
        is_of_a_run = isinstance(after, (dict, tuple))  # as an item is told, and a tensor
        if {*FIRST, *START_OF["train"]}.issuperset(methods):
            return not is_of_a_run
        if set(STEP_OF.values()).isdisjoint(methods):
            return False
        # Layers note the size of their input, configurations the kind of problem, and some steps begin with a layer in
        # evaluation mode.
        is_noted = before in (None, repr(None)) and not is_of_a_run
        return is_noted or is_filled(before, after) or name.endswith(".training")

    def _settings(self, of_batch: bool) -> dict[str, Any]:
        """Returns what decides, beside tensors and counts, how the module computes, by name."""
        found = settings(self.module, self.passed.names, self.lists.ids(), of_layers=self.watches and not of_batch)
        own = {f"self.{name}": value for name, value in found.items()}
        return {**own, **self._outside.now()}

    def _steps_taken(self, stage: Stage, methods: Sequence[str]) -> Formula:
        """Returns how many optimizer steps are taken when these methods are called."""
        regime, batches, total = self._schedule.regime, self._schedule.steps["train"], self._schedule.total
        steps, accumulate = regime.steps_in(batches), regime.accumulate
        if not {STEP_OF["train"], *BEFORE_OPTIMIZER}.isdisjoint(methods):
            return lambda epoch, index: epoch * steps + index // accumulate
        if AFTER_BATCH["train"] in methods:  # an epoch's last batch makes a step in any case
            rest = accumulate - 1
            return lambda epoch, index: epoch * steps + (index + 1 + (index + 1 == batches) * rest) // accumulate
        if not {*FIRST, *START_OF["train"]}.isdisjoint(methods):
            return lambda epoch, index: epoch * steps
        ended = 0 if stage == "test" or not set(LAST).isdisjoint(methods) else 1  # 0 where all epochs lie before

        def taken(epoch: Any, index: Any) -> Any:
            over = (epoch + ended) * steps - total  # of an epoch that training ends within
            return total + over * (over < 0)

        return taken

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        modes = {layer: layer.training for layer in self.module.modules()}
        self.module.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            for layer, mode in modes.items():
                layer.training = mode


class _Methods(nn.Module):
    """Lets ``functional_call`` reach any method of the module, not ``forward`` alone."""

    def __init__(self, module: LightningModule) -> None:
        super().__init__()
        self.module = module

    def forward(self, given: dict[str, tuple[Any, ...]], output: Any) -> Any:
        for method, args in given.items():
            args = (output, *args) if method in AFTER_BATCH.values() else args
            returned = getattr(self.module, method)(*args)
            if method in STEP_OF.values():
                output = returned
            elif isinstance(returned, int) and returned == -1:
                raise NotVectorizable(f"{method} ends an epoch before its last batch")
            elif method == "optimizer_zero_grad" and not args[-1].is_zeroed:
                raise NotVectorizable("optimizer_zero_grad does not call the optimizer's zero_grad")
        return output

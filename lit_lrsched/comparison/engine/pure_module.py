"""A LightningModule's own steps as pure functions of parameters, metric states and batch, ready for ``torch.func``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.model_helpers import is_overridden
from lightning.pytorch.utilities.seed import isolate_rng
from lightning.pytorch.utilities.signature_utils import is_param_in_hook_signature
from torch import Tensor, nn
from torch.func import functional_call
from torchmetrics import Metric, MetricCollection
from torchmetrics.aggregation import BaseAggregator

from lit_lrsched.comparison.engine.dropout import KeyedDropout
from lit_lrsched.comparison.engine.recorder import BatchIndex, Log, NotVectorizable, Stage, recording_class
from lit_lrsched.comparison.engine.torchmetrics_internals import (
    branchless_metrics,
    defaults_of,
    has_seen_data,
    shows_nan,
    without_compute_groups,
)
from lit_lrsched.optim.torch_internals import tree_leaves

Tensors = dict[str, Tensor]

STEP_OF: dict[Stage, str] = {"train": "training_step", "val": "validation_step", "test": "test_step"}
_END_OF: dict[Stage, str] = {
    "train": "on_train_epoch_end",
    "val": "on_validation_epoch_end",
    "test": "on_test_epoch_end",
}

# What a module may override and still be its steps, its epoch ends and nothing else. Hooks of prediction, of
# checkpoints and of tear-down never run here.
_REFUSED_HOOKS = (
    *("configure_model", "configure_sharded_model", "setup", "configure_gradient_clipping", "backward"),
    *("optimizer_step", "optimizer_zero_grad", "lr_scheduler_step", "on_before_zero_grad", "on_before_backward"),
    *("on_after_backward", "on_before_optimizer_step", "transfer_batch_to_device", "on_before_batch_transfer"),
    *("on_after_batch_transfer", "on_fit_start", "on_train_start", "on_train_epoch_start", "on_train_batch_start"),
    *("on_train_batch_end", "on_validation_start", "on_validation_epoch_start", "on_validation_batch_start"),
    *("on_validation_batch_end", "on_validation_end", "on_validation_model_eval", "on_validation_model_train"),
    *("on_test_start", "on_test_epoch_start", "on_test_batch_start", "on_test_batch_end", "on_test_model_eval"),
    "configure_callbacks",
)


class _Steps(nn.Module):
    """Lets ``functional_call`` reach any method of the module, not ``forward`` alone."""

    def __init__(self, module: LightningModule) -> None:
        super().__init__()
        self.module = module

    def forward(self, method: str, *args: Any) -> Any:
        return getattr(self.module, method)(*args)


class PureModule:
    """A LightningModule whose steps can be called as pure functions.

    The module is taken over: it must not be used otherwise afterwards.

    Args:
        module: The module, freshly built.
        trained: The parameters that its optimizer updates.
        batches: One batch of every stage that shall run.

    Raises:
        NotVectorizable: When a step is more than a pure function of parameters and batch, as far as running it once
            shows.
    """

    def __init__(self, module: LightningModule, trained: set[Tensor], batches: dict[Stage, Any]) -> None:
        if not module.automatic_optimization:
            raise NotVectorizable("it optimizes by hand (automatic_optimization=False)")
        for hook in _REFUSED_HOOKS:
            if is_overridden(hook, module):
                raise NotVectorizable(f"it overrides {hook}")
        self._stages = list(batches)
        self._ends = {stage for stage in batches if is_overridden(_END_OF[stage], module)}
        self._takes_index = {
            stage: is_param_in_hook_signature(getattr(module, STEP_OF[stage]), "batch_idx", min_args=2)
            for stage in batches
        }
        self._module = module
        module.__class__ = recording_class(type(module))
        self._steps = _Steps(module)
        self._metrics = self._prepared_metrics()
        self._logs: dict[Stage, dict[str, Log]] = {}
        self._logged_metrics: dict[Stage, dict[str, Metric]] = {stage: {} for stage in batches}
        used = self._probe(batches)
        parameters = dict(module.named_parameters())
        self.trained = [name for name, p in parameters.items() if p in trained and p.requires_grad and name in used]
        if not self.trained:
            raise NotVectorizable("training_step has no gradient in any parameter of the optimizer")

    def tensors(self, module: LightningModule) -> tuple[Tensors, Tensors]:
        """Returns copies of the trained parameters, and of all else that a step reads, of another such module."""
        everything = {
            name: tensor.detach().clone() for name, tensor in (*module.named_parameters(), *module.named_buffers())
        }
        return {name: everything.pop(name) for name in self.trained}, everything

    def start(self) -> Tensors:
        """Returns the state before training: of the metrics, and of the sums of what is logged."""
        state = {f"loss/{stage}": torch.zeros(()) for stage in self._stages if stage == "train"}
        for path, metric in self._metrics.items():
            # A list among the defaults was refused: all of them are tensors.
            state |= {f"metric/{path}/{name}": torch.clone(value) for name, value in defaults_of(metric).items()}
        for stage in self._stages:
            state |= self._sums(stage)
        return state

    def loss(
        self, parameters: Tensors, constants: Tensors, state: Tensors, batch: Any, key: Tensor
    ) -> tuple[Tensor, Tensors]:
        """Returns the loss that ``training_step`` returns, and the new state."""
        with KeyedDropout(key):
            loss, state = self._step("train", parameters, constants, state, batch)
        return loss, {**state, "loss/train": state["loss/train"] + loss.detach()}

    def evaluate(self, stage: Stage, parameters: Tensors, constants: Tensors, state: Tensors, batch: Any) -> Tensors:
        """Returns the state after ``validation_step`` or ``test_step``, with every layer in evaluation mode."""
        with self._evaluating():
            return self._step(stage, parameters, constants, state, batch)[1]

    def end_epoch(
        self, stage: Stage, parameters: Tensors, constants: Tensors, state: Tensors, rows: int
    ) -> tuple[Tensors, Tensors]:
        """Returns the state for the next epoch, and the value of everything that the stage logs.

        Args:
            stage: The stage whose epoch ends.
            parameters: The trained parameters.
            constants: All other tensors of the module.
            state: The state after the epoch's last step.
            rows: Number of rows that the epoch's batches held together.
        """
        values = {}
        for name, log in self._logs[stage].items():
            total = state[f"sum/{stage}/{name}"]
            values[name] = total / rows if log.reduce == "mean" else total
        self._load(state)
        at_end: dict[str, Tensor | Metric] = {}
        if stage in self._ends:
            recorded = self._record(stage, parameters, constants, _END_OF[stage], at_end=True)[1]
            at_end = {name: value for name, (_, value, _) in recorded.items()}
        for name, value in (*self._logged_metrics[stage].items(), *at_end.items()):
            values[name] = value.compute().float() if isinstance(value, Metric) else value
        for value in (*self._logged_metrics[stage].values(), *at_end.values()):
            if isinstance(value, Metric):
                value.reset()  # as Lightning does with the metrics that it is given to log
        return {**self._saved(state), **self._sums(stage)}, values

    def _prepared_metrics(self) -> dict[str, Metric]:
        metrics = {}
        for path, metric in self._module.named_modules():
            if isinstance(metric, MetricCollection):
                without_compute_groups(metric)
            if not isinstance(metric, Metric):
                continue
            if any(isinstance(default, list) for default in defaults_of(metric).values()):
                raise NotVectorizable(f"the metric {type(metric).__name__} {path!r} keeps every batch it has seen")
            if hasattr(metric, "validate_args"):
                metric.validate_args = False  # it checks by looking at the data
            if isinstance(metric, BaseAggregator):
                shows_nan(metric)
            # The other way of `forward` reduces by a count of updates that a traced step would freeze.
            vars(metric)["full_state_update"] = True
            metrics[path] = metric
        return metrics

    def _probe(self, batches: dict[Stage, Any]) -> set[str]:
        """Runs every step once, for what it logs, changes and leaves without a gradient."""
        module = self._module
        before = {name: tensor.detach().clone() for name, tensor in module.named_buffers()}
        attributes = _attributes(module)
        with isolate_rng(), branchless_metrics():
            for stage, batch in batches.items():
                with nullcontext() if stage == "train" else self._evaluating(), torch.enable_grad():
                    output, recorded = self._record(stage, {}, {}, STEP_OF[stage], *self._arguments(stage, batch))
                self._logs[stage] = {
                    name: log for name, (log, value, _) in recorded.items() if isinstance(value, Tensor)
                }
                if stage == "train":
                    _loss_of(output).backward()  # type: ignore[no-untyped-call]
        for name, tensor in module.named_buffers():
            if not torch.equal(tensor, before[name]):
                owner = name.rpartition(".")[0]
                kind = type(module.get_submodule(owner)).__name__
                raise NotVectorizable(f"{kind} {owner!r} updates the buffer {name.rpartition('.')[2]!r} at every step")
        for name, held in _attributes(module).items():
            if attributes.get(name) != held:
                raise NotVectorizable(f"a step changes self.{name}")
        for metric in self._metrics.values():
            metric.reset()
        used = {name for name, parameter in module.named_parameters() if parameter.grad is not None}
        module.zero_grad()
        return used

    def _step(
        self, stage: Stage, parameters: Tensors, constants: Tensors, state: Tensors, batch: Any
    ) -> tuple[Tensor, Tensors]:
        self._load(state)
        output, recorded = self._record(stage, parameters, constants, STEP_OF[stage], *self._arguments(stage, batch))
        state = self._saved(state)
        rows = rows_of(batch)
        for name, (log, value, batch_size) in recorded.items():
            if isinstance(value, Metric):
                self._logged_metrics[stage][name] = value
                continue
            key = f"sum/{stage}/{name}"
            state[key] = _folded(log, state[key], value, batch_size or rows)
        return (_loss_of(output) if stage == "train" else torch.zeros(())), state

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        modes = {layer: layer.training for layer in self._module.modules()}
        self._module.eval()
        try:
            yield
        finally:
            for layer, mode in modes.items():
                layer.training = mode

    def _arguments(self, stage: Stage, batch: Any) -> tuple[Any, ...]:
        return (batch, BatchIndex()) if self._takes_index[stage] else (batch,)

    def _record(
        self, stage: Stage, parameters: Tensors, constants: Tensors, method: str, *args: Any, at_end: bool = False
    ) -> tuple[Any, dict[str, tuple[Log, Tensor | Metric, int | None]]]:
        recorder: Any = self._module
        recorder._recorded, recorder._recording, recorder._at_end = {}, stage, at_end
        tensors = {f"module.{name}": tensor for name, tensor in (*parameters.items(), *constants.items())}
        with branchless_metrics():
            output = functional_call(self._steps, tensors, (method, *args))
        return output, recorder._recorded

    def _sums(self, stage: Stage) -> Tensors:
        device = self._module.device
        logs = self._logs[stage].items()
        return {f"sum/{stage}/{name}": torch.tensor(log.start, device=device) for name, log in logs}

    def _load(self, state: Tensors) -> None:
        for path, metric in self._metrics.items():
            for name in defaults_of(metric):
                setattr(metric, name, state[f"metric/{path}/{name}"])
            has_seen_data(metric)

    def _saved(self, state: Tensors) -> Tensors:
        saved = dict(state)
        for path, metric in self._metrics.items():
            saved |= {f"metric/{path}/{name}": getattr(metric, name) for name in defaults_of(metric)}
        return saved


def rows_of(batch: Any) -> int:
    """Returns the number of rows of a batch: the length of its first tensor."""
    return len(next(leaf for leaf in tree_leaves(batch) if isinstance(leaf, Tensor) and leaf.dim()))


def _loss_of(output: Any) -> Tensor:
    loss = output.get("loss") if isinstance(output, Mapping) else output
    if not isinstance(loss, Tensor):
        raise NotVectorizable(f"training_step returns {type(output).__name__}, not a loss")
    return loss


def _folded(log: Log, total: Tensor, value: Tensor, rows: int) -> Tensor:
    if log.reduce == "mean":
        return total + value * rows
    if log.reduce == "sum":
        return total + value
    if log.reduce == "last":
        return value
    return torch.minimum(total, value) if log.reduce == "min" else torch.maximum(total, value)


def _attributes(module: LightningModule) -> dict[str, tuple[int, int]]:
    """Identity and size of whatever the module holds beside its layers and tensors."""
    return {
        name: (id(value), len(value) if isinstance(value, (list, dict, set)) else 0)
        for name, value in vars(module).items()
        if not name.startswith("_") and name != "training"
    }

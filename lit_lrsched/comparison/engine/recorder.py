"""What a step logs, recorded without a trainer; and what a step can ask a trainer for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection

from lit_lrsched.comparison.engine.clipping import Clip
from lit_lrsched.comparison.engine.counts import OF_EACH_RUN, Count, Counts, Formula, Symbol
from lit_lrsched.comparison.engine.torchmetrics_internals import value_of_batch
from lit_lrsched.trainer.lightning_package import DummyLogger, LightningModule, either

Stage = Literal["train", "val", "test"]
STAGES: tuple[Stage, ...] = ("train", "val", "test")


class NotVectorizable(Exception):
    """Why runs of this module cannot be trained in one program, in one line."""


class ChangesItself(NotVectorizable):
    """A module that changes how it computes while it trains."""


def in_a_line(error: Exception) -> str:
    """Returns the kind of an error, and the first line of what it says."""
    return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"


@dataclass(frozen=True)
class UnknownValue:
    """Stands for a value that a traced step cannot know; of use as long as nobody looks at it.

    Args:
        reason: Why it is not known.
    """

    reason: str


@dataclass(frozen=True)
class Reduction:
    """How the values that a step logs under one name become one number an epoch."""

    name: str
    start: float

    def folded(self, total: Tensor, value: Tensor, weight: int) -> Tensor:
        """Returns the total with one value more."""
        if self.name == "mean":
            return total + value * weight
        if self.name == "sum":
            return total + value
        if self.name == "last":
            return value
        return torch.minimum(total, value) if self.name == "min" else torch.maximum(total, value)


_REDUCTIONS = {
    "mean": Reduction("mean", 0.0),
    "sum": Reduction("sum", 0.0),
    "min": Reduction("min", float("inf")),
    "max": Reduction("max", float("-inf")),
    "last": Reduction("last", 0.0),  # logged by step alone: what remains at the end of the epoch is the last value
}


@dataclass(frozen=True)
class Logged:
    """A value that was logged.

    Args:
        value: The value, or the metric that will have it at the end of the epoch.
        reduction: How it is reduced.
        weight: The batch size that was given with it.
    """

    value: Tensor | Metric
    reduction: Reduction
    weight: int | None


class Recorder:
    """Mixed into the module's class: keeps what it logs and refuses what a pure function cannot know."""

    device: torch.device
    parameters: Callable[[], Iterable[Tensor]]
    # Set by PureModule around each call.
    _recorded: dict[str, Logged]
    _recorded_stage: Stage
    _recorded_step: bool  # whether it is a step rather than another hook
    _recorded_loader: int | None  # which of the loaders of the stage a step is for; None where there is one
    _metrics_logged: dict[Stage, dict[int, Metric]]  # by their ids; also those that are logged by step alone
    _counts: Counts
    _steps_taken: Formula  # the optimizer steps taken so far
    _rates: Tensor | None  # the learning rates, [groups]; None where it is no training step
    _trainer_view: TrainerView

    def log(
        self,
        name: str,
        value: Any,
        prog_bar: bool = False,
        logger: bool | None = None,
        on_step: bool | None = None,
        on_epoch: bool | None = None,
        reduce_fx: str | Callable[..., Any] = "mean",
        *_: Any,
        add_dataloader_idx: bool = True,
        batch_size: int | None = None,
        **__: Any,
    ) -> None:
        """Keeps what a step logs, as Lightning's ``log`` takes it."""
        if OF_EACH_RUN in name:
            raise NotVectorizable("a step logs under a name that differs from run to run")
        if isinstance(value, Mapping):
            raise NotVectorizable(f"{name!r} is logged as a mapping")
        if isinstance(value, Metric):
            self._metrics_logged[self._recorded_stage][id(value)] = value
        step_of_training = self._recorded_step and self._recorded_stage == "train"
        on_step = step_of_training if on_step is None else on_step
        on_epoch = not step_of_training if on_epoch is None else on_epoch
        both = on_step and on_epoch
        of_loader = add_dataloader_idx and self._recorded_loader is not None
        suffix = f"/dataloader_idx_{self._recorded_loader}" if of_loader else ""
        if on_epoch:
            reduce = getattr(reduce_fx, "__name__", str(reduce_fx))
            if reduce not in _REDUCTIONS:
                raise NotVectorizable(f"{name!r} is logged with reduce_fx={reduce!r}")
            kept = value if isinstance(value, Metric) else self._number(name, value)
            for key in (name, f"{name}_epoch") if both else (name,):
                self._keep(key + suffix, kept, reduce, batch_size)
        if on_step and step_of_training:  # Lightning shows callbacks no others
            now = value_of_batch(value) if isinstance(value, Metric) else value
            if now is not None:
                self._keep(f"{name}_step" if both else name, self._number(name, now), "last", batch_size)

    def log_dict(self, dictionary: Mapping[str, Any] | MetricCollection, *args: Any, **kwargs: Any) -> None:
        """Keeps several values, likewise."""
        for name, value in dictionary.items():
            self.log(name, value, *args, **kwargs)

    @property
    def current_epoch(self) -> Any:
        """The epoch, which a step may look at."""
        return Count(self._counts, lambda epoch, index: epoch)

    @property
    def global_step(self) -> Any:
        """The optimizer steps taken so far."""
        return Count(self._counts, self._steps_taken)

    @property
    def trainer(self) -> TrainerView:
        """What stands for the trainer."""
        return self._trainer_view

    @property
    def logger(self) -> Any:
        """A logger that keeps nothing."""
        return DummyLogger()

    def print(self, *_: Any, **__: Any) -> None:
        """Says nothing: of many runs at once nobody could tell whose words these are."""

    def all_gather(self, data: Any, *_: Any, **__: Any) -> Any:
        """Returns what a single process has to gather."""
        return data

    def optimizers(self, use_pl_optimizer: bool = True) -> OptimizerView:
        """Returns what stands for the optimizer."""
        if self._rates is None:
            raise NotVectorizable("a learning rate is looked at outside of training_step")
        return OptimizerView(self._rates)

    def clip_gradients(
        self,
        optimizer: Any,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clips the gradients of a step, as Lightning's method of this name does."""
        value, algorithm = self.trainer.gradient_clip_val, self.trainer.gradient_clip_algorithm
        for given, own in ((gradient_clip_val, value), (gradient_clip_algorithm, algorithm)):
            if None not in (given, own) and given != own:
                raise NotVectorizable(f"it clips gradients by {given}, and its trainer by {own}")
        way: Any = (gradient_clip_algorithm or algorithm or "norm").lower()
        clip = Clip(gradient_clip_val or value or 0.0, way)
        if clip.value > 0:
            clip.apply_(self.parameters())

    def lr_schedulers(self) -> OptimizerView:
        """Returns what stands for the scheduler."""
        return self.optimizers()

    def _number(self, name: str, value: Any) -> Tensor:
        if isinstance(value, UnknownValue):
            raise NotVectorizable(f"{name!r} is logged, and {value.reason}")
        if isinstance(value, Symbol):
            value = value.tensor()
        if not isinstance(value, Tensor):
            value = torch.as_tensor(value, dtype=torch.get_default_dtype(), device=self.device)
        if value.numel() != 1:
            raise NotVectorizable(f"{name!r} is logged with {value.numel()} values")
        number: Tensor = value.detach().float().reshape(())
        return number

    def _keep(self, name: str, value: Tensor | Metric, reduction: str, weight: int | None) -> None:
        if name in self._recorded:
            raise NotVectorizable(f"a step logs {name!r} twice")
        self._recorded[name] = Logged(value, _REDUCTIONS[reduction], weight)


def recording_class(kind: type[LightningModule]) -> type[LightningModule]:
    """Returns the subclass of a module's class whose ``log`` is recorded.

    A module that exists already becomes one of it, so that its steps, which call ``self.log``, find that of the
    recorder: behind a ``log`` of its own, and before Lightning's. There is no other way to its methods: a wrapper would
    not be the ``self`` of the steps. Named as the local class that it is, so that the short name still means the
    module's class to whoever looks through subclasses.
    """
    names = {"__module__": kind.__module__, "__qualname__": f"recording_class.<locals>.{kind.__name__}"}
    parent = next(base for base in either(LightningModule) if issubclass(kind, base))
    return type(kind.__name__, (kind, type(Recorder.__name__, (Recorder, parent), {})), names)


class TrainerView:
    """Stands for the trainer while a step is traced.

    Args:
        module: The module whose step it is.
        settings: What a trainer knows before it begins, by name.
    """

    _module: Recorder
    num_training_batches: int
    gradient_clip_val: float | None
    gradient_clip_algorithm: str | None
    log_every_n_steps = 50  # a trainer's, if nobody sets it
    is_global_zero = True
    sanity_checking = False
    world_size = 1
    global_rank = local_rank = node_rank = 0

    def __init__(self, module: Recorder, **settings: Any) -> None:
        vars(self).update(_module=module, **settings)

    @property
    def current_epoch(self) -> Any:
        """The epoch."""
        return self._module.current_epoch

    @property
    def global_step(self) -> Any:
        """The optimizer steps taken so far."""
        return self._module.global_step

    @property
    def is_last_batch(self) -> bool:
        """Whether no batch of the epoch comes after this one."""
        if not self._module._recorded_step or not self.training:
            raise _refused("trainer.is_last_batch outside of training", "is_last_batch")
        batches = self.num_training_batches
        return bool(self._module._counts.answer(lambda epoch, index: index + 1 == batches))

    @property
    def logger(self) -> Any:
        """A logger that keeps nothing."""
        return self._module.logger

    @property
    def training(self) -> bool:
        """Whether it trains."""
        return self._module._recorded_stage == "train"

    @property
    def validating(self) -> bool:
        """Whether it validates."""
        return self._module._recorded_stage == "val"

    @property
    def testing(self) -> bool:
        """Whether it tests."""
        return self._module._recorded_stage == "test"

    @property
    def optimizers(self) -> list[OptimizerView]:
        """The optimizer, of which only the rates can be seen."""
        return [self._module.optimizers()]

    def __getattr__(self, name: str) -> Any:
        raise _refused(f"trainer.{name}", name)

    def __setattr__(self, name: str, value: Any) -> None:
        raise ChangesItself(f"it sets self.trainer.{name}")


class OptimizerView:
    """Stands for the optimizer, or what steps its schedule, while a step is traced.

    Args:
        rates: The learning rates of the step, ``[groups]``.
    """

    def __init__(self, rates: Tensor) -> None:
        self._rates = rates

    @property
    def optimizer(self) -> OptimizerView:
        """The optimizer that Lightning wraps."""
        return self

    @property
    def param_groups(self) -> list[_Group]:
        """The param groups."""
        return [_Group(rate) for rate in self._rates.unbind()]

    def get_last_lr(self) -> list[Tensor]:
        """Returns the rates."""
        return list(self._rates.unbind())

    def __getattr__(self, name: str) -> Any:
        raise _refused(f"optimizers().{name}", name)


class ZeroedView(OptimizerView):
    """Likewise, where the optimizer shall set its gradients to zero: those of a step begin anew in any case.

    Attributes:
        is_zeroed: Whether it was asked to.
    """

    is_zeroed = False

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Notes that it was asked to."""
        self.is_zeroed = True


class _Group:
    def __init__(self, rate: Tensor) -> None:
        self._rate = rate

    def __getitem__(self, key: str) -> Tensor:
        if key != "lr":
            raise NotVectorizable(f"a step uses the {key} of a param group")
        return self._rate


def _refused(what: str, name: str) -> Exception:
    return AttributeError(name) if name.startswith("__") else NotVectorizable(f"a step uses self.{what}")


def _refusal(what: str) -> property:
    def refuse(self: Any) -> Any:
        raise NotVectorizable(f"a step uses self.{what}")

    return property(refuse)


for _name in ("fabric", "manual_backward"):
    setattr(Recorder, _name, _refusal(_name))

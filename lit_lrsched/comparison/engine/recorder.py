"""What a step logs, recorded without a trainer; and what a step must not ask a trainer for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torchmetrics import Metric, MetricCollection

Stage = Literal["train", "val", "test"]


class NotVectorizable(Exception):
    """Why runs of this module cannot be trained in one program, in one line."""


@dataclass(frozen=True)
class Log:
    """How the values that a step logs under one name become one number an epoch."""

    reduce: str
    start: float


_REDUCTIONS = {
    "mean": Log("mean", 0.0),
    "sum": Log("sum", 0.0),
    "min": Log("min", float("inf")),
    "max": Log("max", float("-inf")),
    "last": Log("last", 0.0),  # logged by step alone: what remains at the end of the epoch is the last value
}


class BatchIndex(int):
    """Stands for ``batch_idx``: one traced step serves every batch, so nothing may depend on it."""


def _refuse_index(*_: object) -> Any:
    raise NotVectorizable("a step depends on batch_idx")


for _name in (
    *("__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__", "__bool__", "__index__", "__hash__", "__mod__"),
    *("__add__", "__radd__", "__sub__", "__rsub__", "__mul__", "__rmul__", "__floordiv__", "__truediv__"),
):
    setattr(BatchIndex, _name, _refuse_index)


class Recorder:
    """Mixed into the module's class: keeps what it logs and refuses what a pure function cannot know."""

    device: torch.device
    # Set by PureModule around each call.
    _recorded: dict[str, tuple[Log, Tensor | Metric, int | None]]
    _recording: Stage
    _at_end: bool

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
        batch_size: int | None = None,
        **__: Any,
    ) -> None:
        """Keeps what a step logs, as Lightning's ``log`` takes it."""
        if isinstance(value, Mapping):
            raise NotVectorizable(f"{name!r} is logged as a mapping")
        if on_epoch is None:
            on_epoch = self._at_end or self._recording != "train"
        reduce = getattr(reduce_fx, "__name__", str(reduce_fx)) if on_epoch else "last"
        if reduce not in _REDUCTIONS:
            raise NotVectorizable(f"{name!r} is logged with reduce_fx={reduce!r}")
        if not isinstance(value, (Tensor, Metric)):
            value = torch.as_tensor(value, dtype=torch.get_default_dtype(), device=self.device)
        if isinstance(value, Tensor):
            if value.numel() != 1:
                raise NotVectorizable(f"{name!r} is logged with {value.numel()} values")
            value = value.detach().float().reshape(())
        self._recorded[name] = (_REDUCTIONS[reduce], value, batch_size)

    def log_dict(self, dictionary: Mapping[str, Any] | MetricCollection, *args: Any, **kwargs: Any) -> None:
        """Keeps several values, likewise."""
        for name, value in dictionary.items():
            self.log(name, value, *args, **kwargs)


def recording_class(kind: type[LightningModule]) -> type[LightningModule]:
    """Returns the subclass of a module's class whose ``log`` is recorded.

    A module that exists already becomes one of it, so that its steps, which call ``self.log``, find that of the
    recorder. There is no other way to its methods: a wrapper would not be the ``self`` of the steps. Named as the local
    class that it is, so that the short name still means the module's class to whoever looks through subclasses.
    """
    names = {"__module__": kind.__module__, "__qualname__": f"recording_class.<locals>.{kind.__name__}"}
    return type(kind.__name__, (Recorder, kind), names)


def _refusal(what: str) -> property:
    def refuse(self: Any) -> Any:
        raise NotVectorizable(f"a step uses self.{what}")

    return property(refuse)


for _name in ("trainer", "fabric", "current_epoch", "global_step", "optimizers", "lr_schedulers", "manual_backward"):
    setattr(Recorder, _name, _refusal(_name))

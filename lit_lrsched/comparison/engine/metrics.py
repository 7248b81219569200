"""The metric objects of a module: their states go into every call and come out of it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.func import vmap
from torchmetrics import Metric, MetricCollection
from torchmetrics.aggregation import BaseAggregator

from lit_lrsched.comparison.engine.forms import Followable
from lit_lrsched.comparison.engine.graphs import Graph
from lit_lrsched.comparison.engine.recorder import NotVectorizable, UnknownValue
from lit_lrsched.comparison.engine.torchmetrics_internals import (
    branchless_metrics,
    defaults_of,
    has_seen_data,
    say_of_batch,
    settings_of,
    treats_nan_without_branches,
    without_compute_groups,
)
from lit_lrsched.optim.torch_internals import tree_flatten, tree_unflatten
from lit_lrsched.trainer.lightning_package import LightningModule

Tensors = dict[str, Tensor]
#: What steps append to lists, by the list: nothing is read of it before the end of the epoch.
Kept = dict[str, list[Any]]
_Way = Literal["forward", "update", "later"]


def is_of(key: str, metrics: Collection[str]) -> bool:
    """Returns whether a state, or a list of what steps append, belongs to one of these metrics."""
    return any(key == f"update/{path}" or key.startswith(f"metric/{path}/") for path in metrics)


class _Call(NamedTuple):
    """How a metric was called, and whether for the value of the batch."""

    forward: bool
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class Metrics:
    """All metrics of a module.

    A state that is a tensor is part of the runs' state. A state that is a list is not read before the end of the
    epoch: a step returns what it appends. Of a metric whose ``update`` branches on values, the arguments are kept
    likewise, and it is updated when the epoch ends.

    Args:
        module: The module that has them.

    Attributes:
        in_step: Whether a step, or a hook around it, is called to find out what it does.
    """

    def __init__(self, module: LightningModule) -> None:
        self._metrics: dict[str, Metric] = {}
        for path, metric in module.named_modules():
            if isinstance(metric, MetricCollection):
                without_compute_groups(metric)
            if isinstance(metric, Metric):
                self._metrics[path] = _prepared(metric)
        self._updates = {path: metric.update for path, metric in self._metrics.items()}
        self._own: dict[str, dict[str, Callable[[], Any]]] = {}
        self._later: dict[str, list[Any]] = {}  # the calls of those that are updated at the end of the epoch
        self._first_calls: dict[str, _Call] = {}
        self._drawing: set[str] = set()  # those whose update draws random numbers
        self._forwards = 0  # that are at work now, one within another
        self._asked: set[str] = set()  # those that a step computes or resets, other than by forward
        self.in_step = False
        self._like: Tensors = {}  # what a state looks like once it has seen data
        for path, metric in self._metrics.items():
            self._own[path] = {"compute": metric.compute, "reset": partial(_reset, metric)}
            _replace(metric, **{name: partial(self._watched, path, own) for name, own in self._own[path].items()})
            _replace(metric, update=partial(self._watched_update, path), forward=partial(self._watched_forward, path))

    def settle(self) -> None:
        """Finds out, from the calls that it has seen, which metrics a traced step can update."""
        self.reset()
        known: list[tuple[Metric, _Call, _Way]] = []
        for path, metric in self._metrics.items():  # all of them first: one may wrap another
            del metric.forward
            _replace(metric, update=self._updates[path], **self._own[path])
        for path, metric in self._metrics.items():
            if path not in self._first_calls:
                continue
            call = self._first_calls[path]
            # Training, validation and test often have the same metric each: what goes for one goes for the others.
            ways = (way for other, made, way in known if _alike(other, metric) and _called_alike(made, call))
            way = next(ways, None) or self._way(path, call)
            known.append((metric, call, way))
            if way == "forward":
                continue
            update = metric.update
            if way == "later":
                if path in self._drawing:
                    raise NotVectorizable(f"{self.name_of(f'update/{path}')} draws random numbers")
                self._later[path] = []
                update = partial(self._keep_call, path)
                _replace(metric, update=update)
            if call.forward or way == "later":
                _replace(metric, forward=partial(_without_value, metric, update))
        for path in sorted(self._asked):
            if path in self._later or list in map(type, defaults_of(self._metrics[path]).values()):
                name = self.name_of(f"update/{path}")
                raise NotVectorizable(f"a step computes or resets {name}, which keeps what earlier steps gave it")

    def start(self) -> Tensors:
        """Returns the states before any data."""
        self.reset()
        return self._states()

    def reset(self) -> None:
        """Resets all of them, whatever their states are."""
        for metric in self._metrics.values():
            Metric.reset(metric)  # of its own states alone
        for metric in self._metrics.values():
            type(metric).reset(metric)  # also of those that it wraps

    def load(self, state: Tensors) -> None:
        """Sets the states for a step, with every list empty."""
        for path, metric in self._metrics.items():
            for name, default in defaults_of(metric).items():
                setattr(metric, name, [] if isinstance(default, list) else state.get(f"metric/{path}/{name}", default))
            has_seen_data(metric)
        for calls in self._later.values():
            calls.clear()

    def saved(self) -> tuple[Tensors, Kept]:
        """Returns the states after a step, and what it appended to lists."""
        kept: Kept = {f"update/{path}": list(calls) for path, calls in self._later.items()}
        for path, metric in self._metrics.items():
            if path not in self._later:
                for name, default in defaults_of(metric).items():
                    if isinstance(default, list):
                        kept[f"metric/{path}/{name}"] = list(getattr(metric, name))
        return self._states(), kept

    def load_all(self, state: Tensors, kept: Kept) -> None:
        """Sets the states for a hook, with all that was kept of the epoch."""
        self.load(state)
        for path, metric in self._metrics.items():
            if path in self._later:
                type(metric).reset(metric)
                for args, kwargs in kept.get(f"update/{path}", []):
                    self._updates[path](*args, **kwargs)
                _replace(metric, update=self._updates[path])
            for name, default in defaults_of(metric).items():
                if isinstance(default, list) and path not in self._later:
                    setattr(metric, name, list(kept.get(f"metric/{path}/{name}", [])))

    def saved_all(self) -> Tensors:
        """Returns the states after a hook."""
        for path in self._later:
            _replace(self._metrics[path], update=partial(self._keep_call, path))
        return self._states()

    def empty(self) -> set[str]:
        """Returns the lists that are empty now, by key, and those of metrics that have seen no data since a reset."""
        keys = set()
        for path, metric in self._metrics.items():
            # Of those that wrap others only these count their updates.
            if not any(one.update_called for one in metric.modules() if isinstance(one, Metric)):
                keys.add(f"update/{path}")
            keys |= {f"metric/{path}/{name}" for name in defaults_of(metric) if getattr(metric, name) == []}
        return keys

    def name_of(self, key: str) -> str:
        """Returns in words the metric that has the list of this key."""
        path = key.split("/")[1]
        return f"the metric {type(self._metrics[path]).__name__} {path!r}"

    def _states(self) -> Tensors:
        states = {}
        for path, metric in self._metrics.items():
            if path not in self._later:
                for name, default in defaults_of(metric).items():
                    if isinstance(default, Tensor):
                        key = f"metric/{path}/{name}"
                        like = self._like.get(key, default)
                        value = torch.as_tensor(getattr(metric, name))
                        if (value.shape, value.dtype) != (like.shape, like.dtype):
                            # Some begin as one number and become several with the first data.
                            value = value.to(like.dtype).expand(like.shape)
                        states[key] = value.clone()
        return states

    def _watched_update(self, path: str, *args: Any, **kwargs: Any) -> None:
        self._first_calls.setdefault(path, _Call(False, args, kwargs))
        before = torch.get_rng_state()
        self._updates[path](*args, **kwargs)
        if not torch.equal(before, torch.get_rng_state()):
            self._drawing.add(path)
        for name in defaults_of(self._metrics[path]):
            value = getattr(self._metrics[path], name)
            if isinstance(value, Tensor):
                self._like[f"metric/{path}/{name}"] = value.detach().clone()

    def _watched_forward(self, path: str, *args: Any, **kwargs: Any) -> Any:
        self._first_calls.setdefault(path, _Call(True, args, kwargs))
        metric = self._metrics[path]
        self._forwards += 1
        value = type(metric).forward(metric, *args, **kwargs)
        self._forwards -= 1
        return value

    def _watched(self, path: str, method: Callable[[], Any]) -> Any:
        if self.in_step and not self._forwards:
            self._asked.add(path)
        return method()

    def _keep_call(self, path: str, *args: Any, **kwargs: Any) -> None:
        if not all(isinstance(leaf, Tensor) for leaf in tree_flatten((args, kwargs))[0]):
            raise NotVectorizable(f"{self.name_of(f'update/{path}')} is updated with more than tensors")
        self._later[path].append((args, kwargs))

    def _way(self, path: str, call: _Call) -> _Way:
        """Returns which method of a metric a traced step can call; "later" when it can call none."""
        metric = self._metrics[path]
        if call.forward and self._follows(metric.forward, call.args, call.kwargs):
            return "forward"
        return "update" if self._follows(metric.update, call.args, call.kwargs) else "later"

    def _follows(self, call: Callable[..., Any], args: Any, kwargs: Any) -> bool:
        """Returns whether a call of a metric can be traced, for two runs."""
        leaves, structure = tree_flatten((args, kwargs))
        places = [place for place, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]

        def once(state: Tensors, tensors: list[Tensor]) -> Any:
            self.load(state)
            given = [*leaves]
            for place, tensor in zip(places, tensors, strict=True):
                given[place] = tensor
            args, kwargs = tree_unflatten(given, structure)
            call(*args, **kwargs)
            return self.saved()

        two = [torch.stack([leaves[place].detach()] * 2) for place in places]
        self.reset()
        state = {name: torch.stack([value] * 2) for name, value in self._states().items()}
        try:
            with branchless_metrics(), Followable():
                Graph(vmap(once), state, two)
        except NotVectorizable:
            return False
        finally:
            self.reset()
        return True


def _alike(one: Metric, other: Metric) -> bool:
    """Tells whether two metrics that hold no data have the same settings."""
    return type(one) is type(other) and _equal(settings_of(one), settings_of(other), torch.equal)


def _called_alike(one: _Call, other: _Call) -> bool:
    """Tells whether two calls differ in nothing but what their tensors hold, which tracing does not look at."""
    return _equal(one, other, lambda a, b: a.shape == b.shape and a.dtype == b.dtype)


def _equal(one: Any, other: Any, tensors_equal: Callable[[Tensor, Tensor], bool]) -> bool:
    leaves, structure = tree_flatten(one)
    others, structure_of_other = tree_flatten(other)
    return structure == structure_of_other and all(
        type(a) is type(b) and (tensors_equal(a, b) if isinstance(a, Tensor) else bool(a == b))
        for a, b in zip(leaves, others, strict=True)
    )


def _prepared(metric: Metric) -> Metric:
    if hasattr(metric, "validate_args"):
        metric.validate_args = False  # it checks by looking at the data
    if isinstance(metric, BaseAggregator):
        treats_nan_without_branches(metric)
    # The other way of `forward` reduces by a count of updates that a traced step would freeze.
    vars(metric)["full_state_update"] = True
    return metric


def _replace(metric: Metric, **methods: Any) -> None:
    vars(metric).update(methods)  # those of the object alone


def _reset(metric: Metric) -> None:
    before = {name: getattr(metric, name) for name in defaults_of(metric)}
    type(metric).reset(metric)
    for name, state in before.items():
        if isinstance(state, Tensor):
            # A tensor like the one before: of each run its own, so that it can be added to in place.
            setattr(metric, name, torch.empty_like(state).copy_(getattr(metric, name)))


def _without_value(metric: Metric, update: Callable[..., None], *args: Any, **kwargs: Any) -> UnknownValue:
    update(*args, **kwargs)
    value = UnknownValue(f"what {type(metric).__name__} says of one batch depends on branches")
    say_of_batch(metric, value)
    return value

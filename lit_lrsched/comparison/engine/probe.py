"""What a module logs, changes and leaves without a gradient, found out by calling its hooks and steps."""

from __future__ import annotations

import io
import pickle
import random
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from lit_lrsched.comparison.engine.calls import Calls
from lit_lrsched.comparison.engine.counts import Counts
from lit_lrsched.comparison.engine.feeds import Feed, feeds_of, stage_of
from lit_lrsched.comparison.engine.held import contents, copies_of, is_filled, own_attributes, tensors_of
from lit_lrsched.comparison.engine.hooks import BEFORE_OPTIMIZER, MOST_VARIANTS, Schedule, hooks_of, is_first
from lit_lrsched.comparison.engine.metrics import Metrics
from lit_lrsched.comparison.engine.recorder import (
    STAGES,
    ChangesItself,
    Logged,
    NotVectorizable,
    Reduction,
    Stage,
    in_a_line,
)
from lit_lrsched.optim.torch_internals import tree_leaves, tree_map, version_of
from lit_lrsched.trainer.lightning_package import LightningModule, isolate_rng

#: Nobody else seeds with it, nor with the next one.
SEED = 0x1B873593_CC9E2D51


@dataclass(frozen=True)
class Probed:
    """What was found out.

    Args:
        logs: What the steps of each stage log as numbers, and how these are reduced.
        metrics: What they log as metric objects.
        emptied: Which lists are empty after the hooks at the start and at the end of each stage's epochs, or hold
            then what nobody reads.
        anew: Which lists the hooks at the start of an epoch empty, and none at its end.
        used: Names of the parameters that have a gradient.
        drawing: Which feeds' steps draw from torch's generator.
    """

    logs: dict[Stage, dict[str, Reduction]]
    metrics: dict[Stage, dict[str, Metric]]
    emptied: dict[tuple[str, Stage], set[str]] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    anew: set[str] = field(default_factory=set)
    drawing: set[Feed] = field(default_factory=set)


def probe(calls: Calls, metrics: Metrics, batches: Mapping[Feed, Any], schedule: Schedule, groups: int) -> Probed:
    """Calls every hook and step, and finds out what the calls and metrics need to know of them.

    One batch of each size is enough, and one epoch, as long as a call would do the same in the others: what it asks of
    batch and epoch tells.

    Args:
        calls: Calls of the module, which was freshly built.
        metrics: Its metrics.
        batches: One batch of every feed that shall run.
        schedule: How often the steps run.
        groups: How many param groups there are.

    Raises:
        NotVectorizable: When a step is more than a pure function of parameters and batch, as far as this shows.
    """
    try:
        return _Probe(calls, metrics, batches, schedule, groups).run()
    except NotVectorizable:
        raise
    except Exception as error:  # of a step that misses what a trainer brings; what else is wrong with it, fit tells
        raise NotVectorizable(f"a step cannot be called by itself ({in_a_line(error)})") from error


# What is called: a step, or hooks of a kind; of which feed; and with how many rows, or, of hooks, whether as training
# starts, when there are more.
_Key = tuple[str, Feed, int]


class _Probe:
    def __init__(
        self, calls: Calls, metrics: Metrics, batches: Mapping[Feed, Any], schedule: Schedule, groups: int
    ) -> None:
        self._calls = calls
        self._module = calls.module
        self._metrics = metrics
        self._batches = batches
        self._feeds = {stage: feeds_of(stage, batches) for stage in STAGES}
        self._schedule = schedule
        self._groups = groups
        self._seen: dict[_Key, list[Counts]] = {}
        self._found = Probed({stage: {} for stage in STAGES}, {stage: {} for stage in STAGES})
        self._logged_for: dict[tuple[Stage, str], Feed] = {}
        self._named: dict[_Key, list[tuple[Counts, set[str]]]] = {}  # the metrics that are logged, and where
        self._named_here = set[str]()
        self._filled: dict[tuple[str, Stage], set[str]] = {}  # which lists hold anything after hooks
        self._undone: dict[str, set[str]] = {}  # which of them hooks of a kind have emptied
        self._given: dict[Stage, int] = {}  # how many metrics were logged when the stage ended first

    def run(self) -> Probed:
        module, calls = self._module, self._calls
        before = {
            name: (tensor, version_of(tensor), tensor.detach().clone()) for name, tensor in tensors_of(module).items()
        }
        places = _places(module)
        attributes, others = _attributes(module), other_generators()
        with isolate_rng(), torch.enable_grad(), warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")  # a metric of one batch may have little to go by
            torch.manual_seed(SEED)
            for epoch in range(self._schedule.epochs):
                # In the second, hooks find lists that hold something.
                if not self._is_known(epoch) or (epoch == 1 and calls.lists.keys()):
                    self._epoch(epoch)
            if self._feeds["test"]:
                self._hooks("last", "train", self._schedule.epochs)
                self._stage("test", self._schedule.epochs)
            if others != other_generators():
                raise NotVectorizable("a step draws from Python's or NumPy's generator, not from torch's")
        for name, tensor in tensors_of(module).items():
            was, version, numbers = before[name]
            # What is written may be the numbers that were there, as an average of weights is before they change.
            written = tensor is not was or version_of(tensor) != version or not same(tensor, numbers)
            if written or id(tensor) in calls.bare:
                calls.changing.add(name)
        if _places(module) < places:
            raise NotVectorizable("a step lets two of its tensors share their memory")
        self._check_metrics()
        calls.watches = False
        calls.tallies.begin_anew()
        self._note_lists()
        idle = self._found.anew | (calls.lists.keys() - self._filled.get(("last", "train"), calls.lists.keys()))
        for name, held in _attributes(module).items():
            at_first = attributes.get(name)
            is_idle = calls.lists.are_all_of(name, idle) or name in calls.passed.names
            if at_first != held and not is_idle and not is_filled(at_first, held):
                raise NotVectorizable(f"a step changes self.{name}, and the end of its epoch does not undo it")
        self._metrics.settle()
        return self._found

    def _check_metrics(self) -> None:
        """Refuses metrics that are logged in some epochs alone: in the others Lightning keeps the value of the last."""
        for epoch in range(self._schedule.epochs):
            for called, places in self._called_in(epoch):
                named = self._named[called]
                names = set[str]().union(*(own for _, own in named))
                left = names.difference(*(own for counts, own in named if any(counts.serve(epoch, i) for i in places)))
                if left:
                    raise NotVectorizable(f"{min(left)!r} is a metric that is logged in some epochs alone")

    def _note_lists(self) -> None:
        """Notes which lists are empty after which hooks."""
        found, keys = self._found, self._calls.lists.keys()
        for called, filled in self._filled.items():
            found.emptied[called] |= keys - filled
        at_start, at_end = (
            set[str]().union(*(found.emptied.get((kind, stage), set()) for stage in ("train", "val")))
            for kind in ("start", "end")
        )
        found.anew.update(at_start & self._undone["start"] - at_end)
        found.emptied["end", "train"] |= found.anew

    def _is_known(self, epoch: int) -> bool:
        """Returns whether everything in an epoch would be as it was in those that were gone through."""
        return len(self._seen) > 0 and all(
            any(counts.serve(epoch, index) for counts in self._seen.get(called, ()))
            for called, places in self._called_in(epoch)
            for index in places
        )

    def _called_in(self, epoch: int) -> Iterator[tuple[_Key, Sequence[int]]]:
        """Yields what is called in an epoch of training, and for which batches."""
        stages: list[Stage] = ["train", "val"]
        for stage in stages:
            for feed in self._feeds[stage]:
                sizes = self._schedule.sizes[feed]
                for size in {*sizes}:
                    yield _key_of_step(feed, size), [index for index, other in enumerate(sizes) if other == size]
            for kind in ("start", "end"):
                if self._feeds[stage] and self._calls.overridden(hooks_of(kind, stage, epoch)):
                    yield _key_of_hooks(kind, stage, epoch), range(1)

    def _epoch(self, epoch: int) -> None:
        self._hooks("start", "train", epoch)
        self._steps("train", epoch)
        if self._feeds["val"]:
            self._stage("val", epoch)
        self._hooks("end", "train", epoch)

    def _stage(self, stage: Stage, epoch: int) -> None:
        self._hooks("start", stage, epoch)
        metrics, ended = self._found.metrics[stage], set[Feed]()
        for feed in self._feeds[stage]:
            before = {name: metric.update_count for name, metric in metrics.items()}
            self._steps(feed, epoch)
            for name, count in before.items():  # Lightning computes a metric when the loader that it is logged for ends
                if self._logged_for[stage, name] in ended and metrics[name].update_count != count:
                    raise NotVectorizable(f"{name!r} is a metric that batches of a later loader update too")
            ended.add(feed)
        self._hooks("end", stage, epoch)

    def _hooks(self, kind: str, stage: Stage, epoch: int) -> None:
        self._calls.counts = Counts(epoch, 0)
        seen = self._seen.setdefault(_key_of_hooks(kind, stage, epoch), [])
        seen.append(self._calls.counts)
        called = self._calls.overridden(hooks_of(kind, stage, epoch))
        before = self._calls.lists.filled()
        drawn = torch.get_rng_state()
        recorded = self._call_hooks(kind, stage, called) if called else {}
        if not torch.equal(drawn, torch.get_rng_state()):
            raise NotVectorizable(f"it draws random numbers in {called[-1]}")
        if kind == "last" and recorded:
            raise NotVectorizable(f"it logs in {called[-1]}")
        metrics = [logged.value for logged in recorded.values()]
        names = {name for name, logged in recorded.items() if isinstance(logged.value, Metric)}
        self._named.setdefault(_key_of_hooks(kind, stage, epoch), []).append((self._calls.counts, names))
        if kind == "end":
            given = self._calls.given_to_log(stage)
            if len(given) != self._given.setdefault(stage, len(given)):
                raise NotVectorizable(f"the metric {type(given[-1]).__name__} is logged in some epochs alone")
            metrics += given
        for metric in metrics:
            if isinstance(metric, Metric):
                metric.reset()
        known, empty = self._found.emptied, self._metrics.empty()
        known[kind, stage] = known[kind, stage] & empty if len(seen) > 1 else empty
        after = self._calls.lists.filled()
        self._filled.setdefault((kind, stage), set()).update(after)
        self._undone.setdefault(kind, set()).update(before - after)

    def _call_hooks(self, kind: str, stage: Stage, hooks: Sequence[str]) -> dict[str, Logged]:
        """Calls hooks; at a start once more, where they note something: a program has what they do from then on."""
        calls, tensors = self._calls, tensors_of(self._module)
        start = copies_of(tensors) if kind == "start" else {}
        numbers, calls.noted = calls.tallies.numbers(), []
        recorded = calls(stage, hooks, {}, {}, {})[2]
        if noted := calls.noted if start else []:
            end = copies_of(tensors)
            for name, tensor in tensors.items():
                tensor.data.copy_(start[name])  # without a trace: that hooks write into a tensor is yet to be seen
            with calls.tallies.set_back(numbers):
                calls(stage, hooks, {}, {}, {})
            if not all(same(tensor, end[name]) for name, tensor in tensors.items()):
                raise ChangesItself(f"{hooks[-1]} computes otherwise when it is called first, and sets {noted[0]}")
        return recorded

    def _steps(self, feed: Feed, epoch: int) -> None:
        calls, lists = self._calls, self._calls.lists
        for index, size in enumerate(self._schedule.sizes[feed]):
            seen = self._seen.setdefault(_key_of_step(feed, size), [])
            is_known = any(counts.serve(epoch, index) for counts in seen)
            if is_known and index > 0:  # the first is called in any case, for what the end of the epoch needs
                continue
            of_feed = [found for (what, of, _), found in self._seen.items() if (what, of) == ("step", feed)]
            if not is_known and sum(map(len, of_feed)) == MOST_VARIANTS:
                raise NotVectorizable(f"a step differs for over {MOST_VARIANTS} values of batch_idx or current_epoch")
            calls.counts = Counts(epoch, index)
            before, drawn, self._named_here = lists.lengths(), torch.get_rng_state(), set[str]()
            self._metrics.in_step = True
            self._step(feed, size)
            self._metrics.in_step = False
            lists.watch(before)
            if torch.initial_seed() != SEED:
                raise NotVectorizable("a step seeds the generator that it draws from")
            if not torch.equal(drawn, torch.get_rng_state()):
                self._found.drawing.add(feed)
            if not is_known:
                seen.append(calls.counts)
                self._named.setdefault(_key_of_step(feed, size), []).append((calls.counts, self._named_here))

    def _step(self, feed: Feed, size: int) -> None:
        module, calls = self._module, self._calls
        whole = self._batches[feed]
        if size != self._schedule.sizes[feed][0]:  # as the last one has fewer
            whole = tree_map(lambda leaf: leaf[torch.arange(size, device=leaf.device) % len(leaf)], whole)
        batch = tree_map(lambda leaf: leaf, whole)  # a step may take its dict or list apart
        methods, after = calls.around_step(stage_of(feed))
        if feed != "train":
            self._note(feed, calls(feed, [*methods, *after], {}, {}, {}, batch)[2])
            return
        rates = torch.zeros(self._groups)
        output, state, recorded = calls(feed, methods, {}, {}, {}, batch, rates=rates)
        self._note(feed, recorded)
        loss = loss_of(output)
        loss.backward()  # type: ignore[no-untyped-call]
        used = {name for name, parameter in module.named_parameters() if parameter.grad is not None}
        if seeing := calls.overridden(BEFORE_OPTIMIZER):
            _, state, recorded = calls(feed, seeing, {}, {}, state, batch, rates=rates)
            self._note(feed, recorded)
        module.zero_grad()
        if not self._found.used:
            self._found.used.update(used)
        elif used != self._found.used:
            raise NotVectorizable("which parameters have a gradient depends on the batch or the epoch")
        if after and [*map(id, tree_leaves(batch))] != [*map(id, tree_leaves(whole))]:
            raise NotVectorizable(f"a step sets parts of its batch anew, and {after[-1]} may look at them")
        if after:
            self._note(feed, calls(feed, after, {}, {}, state, batch, output=output_for_hook(output, loss))[2])

    def _note(self, feed: Feed, recorded: Mapping[str, Logged]) -> None:
        stage = stage_of(feed)
        for name, logged in recorded.items():
            if self._logged_for.setdefault((stage, name), feed) != feed:
                raise NotVectorizable(f"{name!r} is logged for several loaders")
            if isinstance(logged.value, Metric):
                self._found.metrics[stage][name] = logged.value
                self._named_here.add(name)
            elif self._found.logs[stage].setdefault(name, logged.reduction) != logged.reduction:
                raise NotVectorizable(f"{name!r} is logged in more than one way")


def _key_of_step(feed: Feed, size: int) -> _Key:
    return "step", feed, size


def _key_of_hooks(kind: str, stage: Stage, epoch: int) -> _Key:
    return kind, stage, kind == "start" and is_first(stage, epoch)


def loss_of(output: Any) -> Tensor:
    """Returns the loss in what ``training_step`` returns.

    Raises:
        NotVectorizable: When there is none.
    """
    loss = output.get("loss") if isinstance(output, Mapping) else output
    if not isinstance(loss, Tensor):
        raise NotVectorizable(f"training_step returns {type(output).__name__}, not a loss")
    return loss


def output_for_hook(output: Any, share: Tensor) -> dict[str, Any]:
    """Returns what Lightning hands to ``on_train_batch_end``, given the batch's share of the loss of a step."""
    return {**(output if isinstance(output, Mapping) else {}), "loss": share.detach()}


def _places(module: LightningModule) -> int:
    """Returns in how many places of memory its tensors lie."""
    return len({tensor.untyped_storage().data_ptr() for tensor in tensors_of(module).values()})


def same(a: Tensor, b: Tensor) -> bool:
    """Returns whether two tensors hold the same numbers."""
    return a.shape == b.shape and torch.equal(a.detach().nan_to_num(), b.nan_to_num())


def other_generators() -> tuple[Any, bytes]:
    """Returns the states of Python's generator and of NumPy's."""
    return random.getstate(), pickle.dumps(np.random.get_state())


def _attributes(module: LightningModule) -> dict[str, Any]:
    """Returns what the module holds beside its layers and tensors."""
    layers = {id(part) for part in module.modules()}  # which hyperparameters may hold too
    held = {name: (value, contents(value, {*layers})) for name, value in own_attributes(module).items()}
    return {name: id(value) if within is None else within for name, (value, within) in held.items()}

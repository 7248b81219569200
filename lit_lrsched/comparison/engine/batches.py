"""What ``Trainer.fit`` would feed a module built from a seed: the rows, and their order in every epoch."""

from __future__ import annotations

import hashlib
import pickle
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import chain, islice
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, Subset

from lit_lrsched.comparison.engine.feeds import Feed, feeds, stage_of
from lit_lrsched.comparison.engine.hooks import OF_BATCHES, STEP_OF
from lit_lrsched.comparison.engine.probe import other_generators
from lit_lrsched.comparison.engine.recorder import NotVectorizable, Stage, in_a_line
from lit_lrsched.comparison.engine.regime import PLAIN, Regime
from lit_lrsched.comparison.engine.room import COPIES, check_memory
from lit_lrsched.comparison.engine.setting_up import Build, built, made_anew
from lit_lrsched.comparison.engine.stand_ins import StandIn
from lit_lrsched.optim.torch_internals import is_iterated_as_usual, register_pytree_node, tree_leaves, tree_map
from lit_lrsched.trainer.lightning_internals import tell_epoch
from lit_lrsched.trainer.lightning_package import LightningDataModule, LightningModule, is_overridden, rank_zero_info

# Seconds of fetching that are told beforehand, and those that are worth finding out whether the rows are known.
_LONG, _WORTH_A_LOOK = 10.0, 1.0

_Numbers = npt.NDArray[np.int32]
_Epoch = tuple[_Numbers, tuple[int, ...]]  # the rows of an epoch in order, and the sizes of its batches


@dataclass(frozen=True)
class Rows:
    """The rows of one feed, and which of them make each batch.

    Args:
        data: The rows, as the loader collates them: tensors ``[N, ...]`` in the batch's own structure.
        order: Indices of the rows in the order they come, int32 ``[epochs, used]``.
        sizes: Rows in each batch of an epoch; they sum to ``used``.
        source: What tells where the data is from; None where it was fetched too quickly to ask.
    """

    data: Any
    order: Tensor
    sizes: tuple[int, ...]
    source: bytes | None = None

    def first_batch(self) -> Any:
        """Returns the first batch of the first epoch."""
        return self._of(self.order[0, : self.sizes[0]])

    def last_batch(self) -> Any:
        """Returns the last batch of the first epoch."""
        return self._of(self.order[0, -self.sizes[-1] :])

    def _of(self, rows: Tensor) -> Any:
        return tree_map(lambda tensor: tensor[rows], self.data)

    def few(self) -> Rows:
        """Returns batches of the same sizes with few rows: enough to write down what a step does."""
        count = max(self.sizes)
        data = tree_map(lambda tensor: tensor[:count].clone(), self.data)  # a view would keep all rows in memory
        return replace(self, data=data, order=self.order % count)

    def sharing(self, others: Iterable[Rows]) -> Rows:
        """Returns the same rows with the data of another, where it is equal, so that it is held in memory once."""
        mine = tree_leaves(self.data)
        for data in {id(other.data): other.data for other in others}.values():
            if all(map(torch.equal, mine, tree_leaves(data))):
                return replace(self, data=data)
        return self


def module_and_rows(
    build: Build,
    seed: int,
    epochs: int,
    regime: Regime = PLAIN,
    free: int | None = None,
    known: Mapping[Feed, Rows] = MappingProxyType({}),
) -> tuple[LightningModule, dict[Feed, Rows], set[str]]:
    """Builds a module and the rows of all epochs, drawing from the global generator exactly as ``Trainer.fit`` does.

    Lightning's sanity check leaves the generator as it was. Then, every epoch, each loader's iterator draws one
    number for its workers, and a random sampler draws its own seed.

    Args:
        build: Seeds everything and builds the module and its data.
        seed: What to seed with.
        epochs: How many epochs to draw.
        regime: Which of the batches train, validate and test.
        free: Bytes of memory that are free for the rows. None: they are fetched whatever they take, and the module is
            not set up for the test.
        known: The rows of another seed: from the same data set, they are not fetched again.

    Returns:
        The module with its initial weights, the rows of each feed that the module and its data define, and the names
        of the metrics and buffers that the test makes anew.

    Raises:
        NotVectorizable: When batches are not rows of a data set of fixed size and content, or too many to hold.
    """
    with built(build, seed, epochs, regime) as (module, data):
        for hook in OF_BATCHES:
            if is_overridden(hook, data):
                raise NotVectorizable(f"its data module overrides {hook}")
        loaders: dict[Feed, DataLoader[Any]] = {"train": _loader(data.train_dataloader())}
        if _has(module, data, "val") and regime.limit_val:
            loaders |= _loaders("val", data.val_dataloader())
        drawn: dict[Feed, list[_Epoch]] = {feed: [] for feed in loaders}
        anew: set[str] = set()
        for epoch in range(epochs):
            for feed, loader in loaders.items():
                drawn[feed].append(_drawn(loader, stage_of(feed), epoch, regime))
        if _has(module, data, "test") and regime.limit_test:
            data.setup("test")
            if free is not None:
                anew = made_anew(module, data, epochs, regime)
            tests = _loaders("test", data.test_dataloader())
            drawn |= {feed: [_drawn(loader, "test", epochs, regime)] for feed, loader in tests.items()}
            loaders |= tests
        used = {feed: _used(loader, drawn.pop(feed), free) for feed, loader in loaders.items()}
        rows: dict[Feed, Rows] = {}
        for feed, part in used.items():
            if feed not in rows:
                alike = [other for other in used if used[other].is_of(part)]
                found = _rows([used[other] for other in alike], free, known.get(feed))
                rows |= dict(zip(alike, found, strict=True))
    return module, {feed: rows[feed] for feed in loaders}, anew


def _has(module: LightningModule, data: LightningDataModule, stage: Stage) -> bool:
    return is_overridden(STEP_OF[stage], module) and is_overridden(f"{stage}_dataloader", data)


def _loaders(stage: Stage, loaders: Any) -> dict[Feed, DataLoader[Any]]:
    # In training a list of loaders makes lists of batches, also where it has one.
    return {feed: _loader(loader) for feed, loader in feeds(stage, loaders).items()}


def _loader(loader: Any) -> DataLoader[Any]:
    if not isinstance(loader, DataLoader):
        raise NotVectorizable(f"its batches come from a {type(loader).__name__}, not from one DataLoader")
    if not is_iterated_as_usual(loader):
        raise NotVectorizable(f"its {type(loader).__name__} makes batches in a way of its own")
    if isinstance(loader.dataset, IterableDataset) or loader.batch_sampler is None:
        raise NotVectorizable("its data set is a stream, not rows that can be indexed")
    return loader


def _drawn(loader: DataLoader[Any], stage: Stage, epoch: int, regime: Regime) -> _Epoch:
    tell_epoch(loader, epoch)
    if epoch == 0 or stage == "test" or not loader.persistent_workers:  # as the loader's iterator does, when it is made
        torch.empty((), dtype=torch.int64).random_(generator=loader.generator)
    batches, most = loader.batch_sampler, _asked_for(loader, stage, regime)
    # Workers ask ahead. Beyond its last row a sampler may draw from a generator of its own, which the next epoch feels.
    ahead = None if most is None else most + (loader.prefetch_factor or 0) * loader.num_workers
    if type(batches) is not BatchSampler:
        listed = [list(batch) for batch in islice(batches or (), ahead)][:most]
        return _numbers(chain.from_iterable(listed)), tuple(map(len, listed))
    # The same without a list for every batch, which takes most of the time when there are many seeds.
    rows = _numbers(islice(batches.sampler, None if ahead is None else ahead * batches.batch_size))
    rows = rows if most is None else rows[: most * batches.batch_size]
    full, rest = divmod(len(rows), batches.batch_size)
    sizes = (batches.batch_size,) * full + ((rest,) if rest and not batches.drop_last else ())
    return rows[: sum(sizes)], sizes


def _numbers(rows: Iterable[Any]) -> _Numbers:
    # Not a list: of many long epochs it takes nine times the memory.
    try:
        return np.fromiter(rows, np.int32)
    except (TypeError, ValueError) as error:
        raise NotVectorizable(f"its sampler gives other things than numbers of rows ({in_a_line(error)})") from error


def _asked_for(loader: DataLoader[Any], stage: Stage, regime: Regime) -> int | None:
    """Returns how many batches a trainer asks for; None where it asks until there are no more."""
    try:
        return regime.batches(stage, len(loader))
    except TypeError:  # of a sampler without a length
        return limit if isinstance(limit := regime.limit(stage), int) else None


@dataclass(frozen=True)
class _Used:
    """What is known of a feed before its rows are fetched.

    Args:
        loader: Its loader.
        dataset: What its rows are rows of: where it has part of a data set, the whole.
        order: Indices into the data set, as in :class:`Rows`.
        sizes: Rows in each batch of an epoch.
        batch: The first batch.
        each: Seconds that it takes to fetch a row.
    """

    loader: DataLoader[Any]
    dataset: Any
    order: _Numbers
    sizes: tuple[int, ...]
    batch: Any
    each: float

    def is_of(self, other: _Used) -> bool:
        """Returns whether the rows of both can be fetched together."""
        return self.dataset is other.dataset and self.loader.collate_fn == other.loader.collate_fn


def _used(loader: DataLoader[Any], epochs: list[_Epoch], free: int | None) -> _Used:
    sizes = epochs[0][1]
    if not sizes or any(epoch[1] != sizes for epoch in epochs):
        raise NotVectorizable("its epochs differ in their batches, or have none")
    order = np.stack([numbers for numbers, _ in epochs])
    first = order[0, : sizes[0]].tolist()
    before, others, started = torch.get_rng_state(), other_generators(), time.perf_counter()
    try:  # before all rows, which may take long to fetch
        batch, again = (_fetched(loader.dataset, loader.collate_fn, first) for _ in range(2))
    except NotVectorizable:
        raise
    except Exception as error:  # of a data set that misses what a loader's workers bring; what else is wrong, fit tells
        raise NotVectorizable(f"its rows cannot be fetched by themselves ({in_a_line(error)})") from error
    each = (time.perf_counter() - started) / 2 / len(first)
    is_drawn = others != other_generators() or not torch.equal(before, torch.get_rng_state())
    if is_drawn or not _equal(batch, again):
        raise NotVectorizable("its rows change from one fetch to the next (random augmentation, for example)")
    if free is not None and loader.num_workers and loader.worker_init_fn:
        _check_worker(loader, first, batch)
    return _Used(loader, *_in_whole(loader.dataset, order), sizes, batch, each)


def _in_whole(dataset: Any, order: _Numbers) -> tuple[Any, _Numbers]:
    """Returns the data set that another is a part of, and the order of its rows: seeds may differ in the part alone."""
    while type(dataset) is Subset:
        indices = np.asarray(dataset.indices)
        if indices.dtype.kind != "i":  # any key may stand there
            break
        dataset, order = dataset.dataset, indices.astype(np.int32)[order]
    return dataset, order


def _rows(parts: Sequence[_Used], free: int | None, known: Rows | None) -> list[Rows]:
    """Returns the rows of feeds that have them from one data set, fetched once for all."""
    dataset, collate = parts[0].dataset, parts[0].loader.collate_fn
    # Whatever numbers the samplers give: some data sets have no length, or take those below 0.
    first, last = min(part.order.min() for part in parts), max(part.order.max() for part in parts)
    is_used = np.zeros(last - first + 1, dtype=bool)
    for part in parts:
        is_used[part.order - first] = True
    is_whole = first == 0 and bool(is_used.all())  # a limit may leave most of them out
    used: Sequence[int] = range(last + 1) if is_whole else (np.flatnonzero(is_used) + first).tolist()
    places = np.cumsum(is_used, dtype=np.int32) - 1
    each = max(part.each for part in parts)
    if free is not None:
        batch = parts[0].batch
        needed = COPIES * len(used) * bytes_of(batch) // parts[0].sizes[0]
        check_memory(f"its {len(used):,} rows", needed, free)
        if each * len(used) > _LONG:
            takes = timedelta(seconds=round(each * len(used)))
            rank_zero_info(
                f"Fetching {len(used):,} rows takes about {takes}, once for all seeds that have the same; a limit of "
                "batches takes fewer."
            )
    source = _source(dataset, collate, used) if each * len(used) > _WORTH_A_LOOK else None
    data = known.data if source and known and known.source == source else _fetched(dataset, collate, used)
    found = []
    for part in parts:
        order = torch.from_numpy(part.order if is_whole else places[part.order - first])
        rows = Rows(data, order, part.sizes, source)
        is_alike = _equal(part.batch, rows.first_batch())
        if is_alike and len(part.sizes) > 1:
            last = part.order[0, -part.sizes[-1] :].tolist()
            is_alike = _equal(_fetched(dataset, collate, last), rows.last_batch())
        if not is_alike:
            raise NotVectorizable("a batch depends on which rows it holds (padding to the longest, for example)")
        found.append(rows)
    return found


def _check_worker(loader: DataLoader[Any], rows: list[int], batch: Any) -> None:
    """Refuses a ``worker_init_fn`` that changes the rows; most only seed generators."""
    in_worker = DataLoader(
        loader.dataset,
        batch_size=len(rows),
        sampler=rows,
        num_workers=1,
        collate_fn=loader.collate_fn,
        worker_init_fn=loader.worker_init_fn,
        multiprocessing_context=loader.multiprocessing_context,
        generator=torch.Generator(),
    )
    if not _equal(batch, next(iter(in_worker))):
        raise NotVectorizable("its rows are others in a worker of its loader (worker_init_fn)")


def bytes_of(data: Any) -> int:
    """Returns the bytes that the tensors of a tree take; one that is there twice counts once."""
    return sum({id(leaf): leaf.nbytes for leaf in tree_leaves(data)}.values())


def _source(dataset: Any, collate: Callable[[Any], Any], rows: Sequence[int]) -> bytes | None:
    """Returns a digest of a data set, how it is collated, and which of its rows; None where it cannot be pickled."""
    file = _Hashed()
    try:
        _Pickler(file, protocol=5).dump((dataset, collate, rows))  # from 5 on arrays are not copied
    except Exception:  # whatever a data set raises that holds open files, or functions without a name
        return None
    return file.hash.digest()


class _Hashed:
    """A file that keeps nothing but a digest of what is written."""

    def __init__(self) -> None:
        self.hash = hashlib.sha256()

    def write(self, content: bytes) -> None:
        self.hash.update(content)


class _Pickler(pickle.Pickler):
    """Pickles equal tensors alike: torch writes down where they lie in memory."""

    def reducer_override(self, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return NotImplemented
        content = value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
        return Tensor, (str(value.dtype), tuple(value.shape), content)


def _fetched(dataset: Any, collate: Callable[[Any], Any], rows: Iterable[int]) -> Any:
    rows = list(rows)
    items = dataset.__getitems__(rows) if hasattr(dataset, "__getitems__") else [dataset[row] for row in rows]
    batch = _with_stand_ins(collate(items))
    for leaf in tree_leaves(batch):
        if not isinstance(leaf, Tensor):
            what = "None" if leaf is None else f"a {type(leaf).__name__}"
            raise NotVectorizable(f"its batches hold {what}, which is no tensor")
        if leaf.dim() == 0 or len(leaf) != len(rows):
            raise NotVectorizable("its batches hold a tensor that has no row for every item")
    return batch


def _with_stand_ins(batch: Any) -> Any:
    """Returns a batch with something else in place of its text, which no tensor holds."""
    leaves = tree_leaves(batch)
    if leaves and all(isinstance(leaf, str) for leaf in leaves):
        return _Text()
    if type(batch) is dict:
        return {key: _with_stand_ins(value) for key, value in batch.items()}
    return type(batch)(map(_with_stand_ins, batch)) if type(batch) in (list, tuple) else batch


class _Text(StandIn):
    """Stands for text in a batch, such as names of files. A tree has it, yet none of its leaves is in it."""

    def __init__(self) -> None:
        super().__init__("a step looks at the text in a batch")


register_pytree_node(_Text, lambda _: ([], None), lambda *_: _Text())


def _equal(batch: Any, other: Any) -> bool:
    leaves, others = tree_leaves(batch), tree_leaves(other)
    return len(leaves) == len(others) and all(
        a.shape == b.shape and torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip(leaves, others, strict=True)
    )

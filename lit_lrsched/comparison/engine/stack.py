"""Many runs side by side: their parameters, state and batches as tensors ``[R, ...]``."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from lit_lrsched.comparison.engine.batches import Rows
from lit_lrsched.comparison.engine.feeds import Feed, stage_of
from lit_lrsched.comparison.engine.metrics import Kept, Tensors, is_of
from lit_lrsched.comparison.engine.optimizers import GroupedUpdate
from lit_lrsched.comparison.engine.pure_module import PureModule
from lit_lrsched.comparison.engine.recorder import NotVectorizable
from lit_lrsched.comparison.engine.regime import Regime
from lit_lrsched.optim.torch_internals import tree_leaves


@dataclass(frozen=True)
class Member:
    """All that trainings of one seed share."""

    parameters: Tensors
    buffers: Tensors
    constants: Tensors
    rows: dict[Feed, Rows]

    @property
    def sizes(self) -> dict[Feed, tuple[int, ...]]:
        """Rows in each batch of an epoch, by feed."""
        return {feed: rows.sizes for feed, rows in self.rows.items()}


class Stack:
    """R members side by side on a device, and what becomes of them.

    Args:
        members: The member that each run starts from; the same object where runs share a seed.
        pure: The module.
        update: The optimizer.
        regime: Which batches train, and how their gradients make steps.
        keys: What each run's dropout is drawn from, int64 ``[R]``.
        device: Where to put them.
        turned: Names of the parameters whose matrices lie transposed in memory.
        shared: Names of the constants that are the same for all members, and lie in memory once.
    """

    def __init__(
        self,
        members: Sequence[Member],
        pure: PureModule,
        update: GroupedUpdate,
        regime: Regime,
        keys: Tensor,
        device: torch.device,
        turned: Collection[str],
        shared: Collection[str],
    ) -> None:
        self.runs = len(members)
        self.keys = keys.to(device)
        self.parameters = side_by_side([member.parameters for member in members], device)
        self.parameters |= {name: self.parameters[name].mT.contiguous().mT for name in turned}
        constants = members[0].constants
        self.constants = {name: constants[name].to(device).expand(self.runs, *constants[name].shape) for name in shared}
        rest = constants.keys() - self.constants.keys()
        self.constants |= side_by_side([{name: member.constants[name] for name in rest} for member in members], device)
        self.slots = update.slots(self.parameters)
        self.sums = regime.sums(self.parameters)
        self._start = pure.start()
        self.state = side_by_side([self._start | member.buffers for member in members], device)
        self.kept: Kept = {}
        self.logged: Tensors = {}
        of_seeds = list({id(member): member for member in members}.values())
        place = {id(member): i for i, member in enumerate(of_seeds)}
        self._which = torch.tensor([place[id(member)] for member in members], device=device)
        self._device = device
        self._rows = {feed: [member.rows[feed] for member in of_seeds] for feed in members[0].rows}
        self._data: dict[Feed, list[Tensor]] = {}
        self._starts: dict[Feed, Tensor] = {}  # where each seed's rows begin in them, int32 [seeds, 1]
        joined: dict[tuple[int, ...], list[Tensor]] = {}  # feeds may have the same data too
        for feed, rows in self._rows.items():
            different = {id(part.data): tree_leaves(part.data) for part in rows}  # seeds may have the same data
            these = tuple(different)
            if these not in joined:
                joined[these] = [_joined(parts).to(device) for parts in zip(*different.values(), strict=True)]
            self._data[feed] = joined[these]
            starts = accumulate((len(leaves[0]) for leaves in different.values()), initial=0)
            first = dict(zip(different, starts, strict=False))
            self._starts[feed] = torch.tensor([[first[id(part.data)]] for part in rows], dtype=torch.int32)
        batches_of_all_epochs = len(self._rows["train"][0].order) * len(self._rows["train"][0].sizes)
        # One table: small tensors that stay, made between large ones that go, keep the heap from using its gaps again.
        self._losses = self.state["loss/train"].new_empty(batches_of_all_epochs, self.runs)
        self._batches = 0  # trained on so far

    @property
    def losses(self) -> Tensor:
        """The training loss of each batch so far, ``[batches, R]``."""
        return self._losses[: self._batches]

    def note_loss(self, loss: Tensor) -> None:
        """Keeps the training loss of a batch, ``[R]``."""
        self._losses[self._batches] = loss
        self._batches += 1

    def renew(self, metrics: Collection[str]) -> None:
        """Gives metrics, of these names, the states that they started with."""
        start = {key: value for key, value in self._start.items() if is_of(key, metrics)}
        self.state |= side_by_side([start] * self.runs, self._device)

    def batches(self, feed: Feed, epoch: int) -> Iterator[list[Tensor]]:
        """Yields an epoch's batches: their leaves, ``[R, B, ...]``; a test is of one epoch."""
        of_seeds, place = self._rows[feed], 0 if stage_of(feed) == "test" else epoch
        order = torch.stack([part.order.select(0, place) for part in of_seeds]) + self._starts[feed]
        sizes = of_seeds[0].sizes
        for size, rows in zip(sizes, torch.split(order.to(self._device), list(sizes), dim=1), strict=True):
            # Many rows for each seed, then a few long ones for each run: less to look up than all rows for each run.
            flat = rows.flatten()
            leaves = [leaf.index_select(0, flat).view(-1, size, *leaf.shape[1:]) for leaf in self._data[feed]]
            yield [leaf.index_select(0, self._which) for leaf in leaves]

    def check_left_out(self) -> None:
        """Refuses what came of numbers that were left out, which ``Trainer.fit`` counts or refuses."""
        if self.state["left out"].any():
            raise NotVectorizable(
                "it counts (bincount) or encodes (one_hot) numbers that are not below the minlength or num_classes "
                "that it gives"
            )

    def broken(self) -> Tensor:
        """Returns for each run whether a training loss or a weight became nan or infinite."""
        finite = self.losses.isfinite().all(dim=0)
        for parameter in self.parameters.values():
            finite &= parameter.reshape(self.runs, -1).isfinite().all(dim=1)
        return ~finite


def _joined(parts: tuple[Tensor, ...]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)  # of one it would be a copy


def side_by_side(trees: Sequence[Tensors], device: torch.device) -> Tensors:
    """Returns tensors ``[R, ...]`` of those of R runs, by name."""
    return {name: torch.stack([tree[name] for tree in trees]).to(device) for name in trees[0]}

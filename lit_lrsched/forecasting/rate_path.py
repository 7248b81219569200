"""The learning rate of a whole run in few numbers: what the laws of the learning-rate curve need of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

_EVERY_STEP = 4096  # the longest run whose every step is kept
BLOCKS = 96  # of a whole run; the sums of the laws are then exact to about 1e-5 of the loss


@dataclass(frozen=True, eq=False)
class RatePath:
    """The learning rate of a run, sampled so that its integral and its changes are known everywhere.

    Args:
        steps: Steps at which the rate is known, in increasing order, from 0 to the last step.
        rates: The rate at these steps; between two of them it moves along a straight line.
        length: How many steps the run has: the last of ``steps`` plus 1.

    >>> path = RatePath.of([0.5, 1.0, 1.0, 0.5])
    >>> path.sum_until(np.array([0, 1, 4])).tolist(), path.peak
    ([0.0, 0.5, 3.0], 1.0)
    """

    steps: IntArray
    rates: FloatArray
    length: int

    @classmethod
    def of(cls, rates: npt.ArrayLike) -> RatePath:
        """Returns the path of a run whose rate is given at every step: of a long run at enough of them."""
        values = np.asarray(rates, dtype=float)
        if len(values) <= _EVERY_STEP:
            return cls(np.arange(len(values)), values, len(values))
        change = np.abs(np.diff(values))
        bend = np.abs(np.diff(values, n=2))
        largest = np.concatenate([_largest(change), _largest(bend) + 1])
        even = np.linspace(0, len(values) - 1, _EVERY_STEP // 4).astype(np.int64)
        kept = np.unique(np.clip(np.concatenate([even, *(largest + near for near in (-1, 0, 1))]), 0, len(values) - 1))
        return cls(kept, values[kept], len(values))

    def __post_init__(self) -> None:
        # The sum of the rates of the steps a to b - 1, of which the first is known: a trapezoid without its last side.
        gaps = np.diff(self.steps)
        inner = gaps * (self.rates[:-1] + self.rates[1:]) / 2 + (self.rates[:-1] - self.rates[1:]) / 2
        object.__setattr__(self, "_sums", np.concatenate([[0.0], np.cumsum(inner)]))
        object.__setattr__(self, "_tops", np.maximum.accumulate(self.rates))

    @property
    def peak(self) -> float:
        """The highest rate."""
        return float(self.rates.max())

    @property
    def warmup(self) -> int:
        """The step at which the rate is first within a thousandth of its peak."""
        return int(self.steps[np.argmax(self.rates >= 0.999 * self.peak)])

    @property
    def begun(self) -> int:
        """How many steps are done once the first is done whose rate is above 0."""
        first = int(np.argmax(self.rates > 0))
        return int(self.steps[first - 1]) + 2 if first else 1

    @property
    def climbs(self) -> bool:
        """Whether the rate rises again after it has fallen, both by more than a hundredth of its peak.

        >>> RatePath.of([0.5, 1.0, 0.5, 0.5]).climbs, RatePath.of([0.5, 0.1, 0.1, 1.0]).climbs
        (False, True)
        """
        fell = self._tops - self.rates > 0.01 * self.peak  # type: ignore[attr-defined]
        after = self.rates[np.argmax(fell) :] if fell.any() else self.rates[:1]
        return bool((after - np.minimum.accumulate(after)).max() > 0.01 * self.peak)

    def rate_at(self, steps: npt.ArrayLike) -> FloatArray:
        """Returns the rate that each step uses."""
        return np.asarray(np.interp(np.asarray(steps, dtype=float), self.steps, self.rates))

    def top_until(self, counts: npt.ArrayLike) -> FloatArray:
        """Returns the highest rate of the first so many steps."""
        places = np.searchsorted(self.steps, np.asarray(counts) - 1, side="right") - 1
        return np.asarray(np.maximum(self._tops[places], self.rate_at(np.asarray(counts) - 1)))  # type: ignore[attr-defined]

    def sum_until(self, counts: npt.ArrayLike) -> FloatArray:
        """Returns the sum of the rates of the first so many steps."""
        counts = np.asarray(counts, dtype=float)
        place = np.clip(np.searchsorted(self.steps, counts, side="right") - 1, 0, len(self.steps) - 1)
        begin = self.steps[place]
        ahead = counts - begin
        after = np.minimum(place + 1, len(self.steps) - 1)
        slope = (self.rates[after] - self.rates[place]) / np.maximum(self.steps[after] - begin, 1)
        return np.asarray(self._sums[place] + ahead * self.rates[place] + slope * ahead * (ahead - 1) / 2)  # type: ignore[attr-defined]

    def blocks(self, counts: IntArray, most: int = BLOCKS) -> Blocks:
        """Returns the changes of the rate summed in blocks, of which none crosses one of the points.

        Args:
            counts: How many steps are done at each point at which a law will be evaluated.
            most: About how many blocks.
        """
        last = int(counts.max()) - 1
        seen = np.append(self.steps[self.steps < last], last)
        rates = self.rate_at(seen)
        change = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(rates)))])
        # Half of the boundaries share out the changes, half the steps; a jump has the steps around it to itself.
        jumps = seen[1:][np.abs(np.diff(rates)) > 0.02 * self.peak]
        shares = np.linspace(0, 1, most // 2 + 1)
        by_change = np.interp(shares * change[-1], change, seen) if change[-1] > 0 else np.empty(0)
        # Near the end, where the rate may fall to 0, annealing has only begun: finer blocks there.
        late = last - np.geomspace(1, max(last, 1), most // 4)
        wanted = [by_change, shares * last, counts - 1, jumps, jumps - 1, late]
        ends = np.unique(np.clip(np.rint(np.concatenate(wanted)), 0, last).astype(np.int64))
        rate = self.rate_at(ends)
        drops = np.concatenate([[-rate[0]], rate[:-1] - rate[1:]])  # before the first step the rate was 0
        first = np.concatenate([[0], ends[:-1] + 1])
        kept = drops != 0
        before = np.concatenate([[0.0], rate[:-1]])
        single = first == ends
        return Blocks(
            drops=drops[kept],
            rates=np.maximum(np.where(single, rate, (before + rate) / 2), 1e-9 * self.peak)[kept],
            sums=((self.sum_until(first) + self.sum_until(ends)) / 2)[kept],
            middles=((first + ends) / 2)[kept],
        )


def _largest(values: FloatArray, most: int = 500) -> IntArray:
    """Returns the places of the largest of some values: the jumps and kinks of a rate."""
    return np.argpartition(values, len(values) - most)[len(values) - most :]


@dataclass(frozen=True, eq=False)
class Blocks:
    """The changes of a rate in blocks.

    Args:
        drops: By how much the rate falls in each block; a rise is negative.
        rates: The rate in the block, above 0.
        sums: The sum of the rates of all steps before the middle of the block.
        middles: The step in the middle of the block.
    """

    drops: FloatArray
    rates: FloatArray
    sums: FloatArray
    middles: FloatArray

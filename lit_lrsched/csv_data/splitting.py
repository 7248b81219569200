"""Rows split into the parts that train, validate and test, the same on every machine."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Sequence
from typing import Union

from lit_lrsched.errors import InputError

Split = Union[tuple[float, float, float], str]

_ORDERED = re.compile(r"ordered:(\d+)")


def parse_split(split: Split) -> int | tuple[float, ...]:
    """Returns the number of leading rows that train, or the three fractions.

    Raises:
        InputError: When the split is neither, or the fractions are negative or do not sum to 1.
    """
    spellings = "give three fractions that sum to 1, like [0.7, 0.15, 0.15], or 'ordered:200'"
    if not isinstance(split, (tuple, list)):
        match = _ORDERED.fullmatch(str(split))
        if match is None:
            raise InputError(f"split={split!r} is not a split: {spellings}")
        return int(match[1])
    fractions = tuple(split)
    if len(fractions) != 3:
        raise InputError(f"split={split!r} has {len(fractions)} parts: {spellings}")
    for fraction in fractions:
        if not 0 <= fraction <= 1:
            raise InputError(f"split={split!r} has the fraction {fraction}, not within 0 to 1: {spellings}")
    if not math.isclose(math.fsum(fractions), 1, abs_tol=1e-9):
        raise InputError(f"split={split!r} sums to {math.fsum(fractions):g}: {spellings}")
    return fractions


def _counts(sizes: Sequence[int], fractions: Sequence[float]) -> list[list[int]]:
    """Divides groups of rows into parts by the method of the largest remainder.

    What rounding leaves a part short of in one group counts for it in the next, so that with two groups not only the
    count of every part within a group but also its count over both is right to a row.
    """
    owed = [0.0] * len(fractions)
    table = []
    for size in sizes:
        exact = [round(size * fraction, 9) for fraction in fractions]  # 0.29 * 100 is 28.999999999999996
        counts = [math.floor(share) for share in exact]
        owed = [debt + share - count for debt, share, count in zip(owed, exact, counts, strict=True)]
        for part in sorted(range(len(owed)), key=lambda part: -owed[part])[: size - sum(counts)]:
            counts[part] += 1
            owed[part] -= 1
        table.append(counts)
    return table


def split_rows(positives: Sequence[bool], split: Split, seed: int, stratify: bool) -> tuple[list[int], ...]:
    """Returns the rows of the training, validation and test parts, each in file order."""
    total = len(positives)
    parsed = parse_split(split)
    if isinstance(parsed, int):
        rest = list(range(parsed, total))
        return list(range(min(parsed, total))), rest, rest
    # Python promises the same sequence of random() in all versions; not of shuffle(), nor does torch of randperm.
    draw = random.Random(seed).random
    keys = [draw() for _ in range(total)]
    shuffled = sorted(range(total), key=keys.__getitem__)
    groups = [[row for row in shuffled if positives[row] is kind] for kind in (False, True)] if stratify else [shuffled]
    parts: tuple[list[int], ...] = ([], [], [])
    for group, counts in zip(groups, _counts([len(group) for group in groups], parsed), strict=True):
        start = 0
        for part, count in zip(parts, counts, strict=True):
            part += group[start : start + count]
            start += count
    return tuple(sorted(part) for part in parts)

"""Where the batches of a stage come from: one data loader, or several, one after the other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, cast

from lit_lrsched.comparison.engine.recorder import Stage

#: A stage, or one of several loaders that it has: ``"val/1"``.
Feed = str


def feeds(stage: Stage, loaders: Any) -> dict[Feed, Any]:
    """Returns the loaders of a stage that evaluates, by feed.

    Args:
        stage: The stage.
        loaders: What its hook returns: a loader, or several in a list.
    """
    if not isinstance(loaders, (list, tuple)):
        return {stage: loaders}
    return {stage: loaders[0]} if len(loaders) == 1 else {f"{stage}/{i}": one for i, one in enumerate(loaders)}


def stage_of(feed: Feed) -> Stage:
    """Returns the stage of a feed."""
    return cast("Stage", feed.partition("/")[0])


def place_of(feed: Feed) -> int | None:
    """Returns which of its stage's loaders a feed is, 0-based; None where it is the only one."""
    place = feed.partition("/")[2]
    return int(place) if place else None


def feeds_of(stage: Stage, feeds: Iterable[Feed]) -> Sequence[Feed]:
    """Returns the feeds of a stage, in the order they come."""
    return [feed for feed in feeds if stage_of(feed) == stage]

"""Reads what a run wrote."""

from __future__ import annotations

from pathlib import Path


def scalars(run: Path, tag: str) -> list[float]:
    """The values of one scalar, in order, from all the event files of a run."""
    # By step: files that one process writes within a second are not always read in the order of their making.
    return [event.value for event in sorted(_events(run).Scalars(tag), key=lambda event: event.step)]


def scalar_tags(run: Path) -> set[str]:
    return set(_events(run).Tags()["scalars"])


def _events(run: Path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(run), size_guidance={"scalars": 0})
    accumulator.Reload()
    return accumulator

"""The scalars that TensorBoard's logger wrote into the folder of a run."""

from __future__ import annotations

from pathlib import Path


def scalars_in(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Returns the values of each tag with their steps, as they were written; empty where there are none."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    run.Reload()
    return {tag: [(event.step, event.value) for event in run.Scalars(tag)] for tag in run.Tags()["scalars"]}

"""The scalars and hyperparameters that TensorBoard's logger wrote into the folder of a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from lit_lrsched.hparams import hparams_of

_HPARAMS = "_hparams_/session_start_info"  # the tag of a row of the HParams tab


class Events(NamedTuple):
    """What event files hold of a run; empty where there are none.

    Args:
        scalars: The values of each tag with their steps, as they were written.
        hyperparameters: The row of the HParams tab.
    """

    scalars: Mapping[str, list[tuple[int, float]]]
    hyperparameters: Mapping[str, Any]


def events_in(folder: Path) -> Events:
    """Returns what the event files of a folder hold."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    run.Reload()
    row = run.summary_metadata.get(_HPARAMS)
    return Events(
        {tag: [(event.step, event.value) for event in run.Scalars(tag)] for tag in run.Tags()["scalars"]},
        hparams_of(row.plugin_data.content) if row else {},
    )

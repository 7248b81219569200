"""A row of TensorBoard's HParams tab."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path


def write_hparams(
    run: Path, name: str, hyperparameters: Mapping[str, str | float | bool], metrics: Mapping[str, float]
) -> None:
    """Writes the hyperparameters of a run, and the metrics known so far, as a row of the HParams tab.

    It goes to a run of its own, ``hp`` inside the run, with nothing else in it, and without a list of columns: where
    there is one TensorBoard takes it for all runs, and otherwise it makes columns of all that it finds.

    Args:
        run: The run's folder.
        name: The row's name.
        hyperparameters: The columns.
        metrics: The metrics, which become ``hp/<name>``. Those written last count.
    """
    # TensorBoard's own protobufs: torch.utils.tensorboard writes the same and takes seconds to import.
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import summary_v2
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    writer = EventFileWriter(str(run / "hp"))
    now = time.time()
    writer.add_event(Event(wall_time=now, summary=summary_v2.hparams_pb(dict(hyperparameters), trial_id=name)))
    for metric, value in metrics.items():
        summary = Summary(value=[Summary.Value(tag=f"hp/{metric}", simple_value=value)])
        writer.add_event(Event(wall_time=now, summary=summary))
    writer.close()

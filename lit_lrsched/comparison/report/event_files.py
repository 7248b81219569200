"""TensorBoard's view of a comparison: a run for each schedule, in the HParams tab and in the scalar tab alike."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterable, Mapping
from itertools import zip_longest
from pathlib import Path

from lit_lrsched.comparison.report.results import Results, learning_curves
from lit_lrsched.comparison.report.words import tuned_beside_rate
from lit_lrsched.hparams import hparams_summary


def write_event_files(results: Results, folder: Path) -> None:
    """Writes one run a schedule: its chosen setting as hyperparameters, its mean metrics, and its mean curves.

    The curves stand at their epoch, counted from 0: the learning rate as ``lr/group0``, the metric that chose the
    setting and the validation loss under their own names. The metric that judged has its mean alone.

    Args:
        results: The race.
        folder: Where the runs' folders go. What an earlier report left there is removed.
    """
    shutil.rmtree(folder, ignore_errors=True)  # event files of two reports would be drawn as one zigzag
    metric, loss = results.validation_metric, "val_loss"
    has_loss = (
        metric != loss
        and all(loss in record.metrics for record in results.records)
        and any(loss in record.curves for record in results.records)  # not in that of a run that broke off
    )
    losses = learning_curves(results, loss=loss) if has_loss else []
    names = _folders([row.schedule for row in results.summary.schedules])
    for i, curve in enumerate(results.curves):
        row = curve.schedule
        beside = {"weight_decay": row.weight_decay} if "weight_decay" in tuned_beside_rate(results.summary) else {}
        curves = {"lr/group0": curve.rates, metric: curve.mean}
        if losses and len(losses[i].mean):
            curves[loss] = losses[i].mean
        _write_run(
            folder / names[i],
            # With the race's own folder: TensorBoard would merge the trials of one name from several races.
            f"{row.schedule} ({folder.parent.name})",
            {"schedule": row.schedule, "lr": row.lr, "momentum": row.momentum, **beside},
            curves,
            {} if row.mean is None else {results.summary.metric: row.mean},
        )


def _write_run(
    folder: Path,
    trial: str,
    hyperparameters: Mapping[str, str | float],
    curves: Mapping[str, Iterable[float]],
    final: Mapping[str, float],
) -> None:
    # TensorBoard's own protobufs: torch.utils.tensorboard writes the same and takes seconds to import.
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    now = time.time()
    writer = EventFileWriter(str(folder))

    def write(summary: Summary, step: int = 0) -> None:
        writer.add_event(Event(wall_time=now, step=step, summary=summary))

    def scalars(values: Mapping[str, float]) -> Summary:
        return Summary(value=[Summary.Value(tag=name, simple_value=value) for name, value in values.items()])

    write(hparams_summary(trial, hyperparameters))
    epochs = list(zip_longest(*curves.values()))
    for epoch, values in enumerate(epochs):
        write(
            scalars({name: value for name, value in zip(curves, values, strict=True) if value is not None}), step=epoch
        )
    if final:
        write(scalars(final), step=len(epochs) - 1)
    writer.close()


def _folders(names: Iterable[str]) -> list[str]:
    """Returns a folder's name for each: what no file system objects to, and different for different names.

    >>> _folders(["cosine", "a/b", "a b", ".."])
    ['cosine', 'a_b', 'a_b_2', '_']
    """
    folders: list[str] = []
    for name in names:
        stem = re.sub(r"[^\w+-]+", "_", name)
        folder, number = stem, 1
        while folder.casefold() in map(str.casefold, folders):
            number += 1
            folder = f"{stem}_{number}"
        folders.append(folder)
    return folders

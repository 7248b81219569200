"""What each kind of logger takes of a run besides scalars: hyperparameters, the plan's picture and table, a text."""

from __future__ import annotations

import csv
import io
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from lit_lrsched.plans.curve import sample
from lit_lrsched.plans.picture import picture, thumbnail
from lit_lrsched.plans.plan import Plan
from lit_lrsched.plans.table import distinct, rows_of
from lit_lrsched.plans.view import View
from lit_lrsched.trainer.lightning_package import Trainer, either, part_of_lightning, rank_zero_warn

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger, TensorBoardLogger
    from matplotlib.figure import Figure

_kinds = part_of_lightning("loggers")


def figure_of(plan: Plan) -> Figure:
    """Returns the picture of a plan, in the size of a card where a single curve says it all."""
    view = View.of(plan)
    return thumbnail(view) if len(distinct(view.curve)) == 1 else picture({"": view})


def pixels_of(plan: Plan) -> Any:
    """Returns the picture of a plan, uint8 ``[height, width, 3]``."""
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure = figure_of(plan)
    figure.set_dpi(100)
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def is_tensorboard(logger: Logger) -> TypeGuard[TensorBoardLogger]:
    """Returns whether a logger is TensorBoard's."""
    return isinstance(logger, either(_kinds.TensorBoardLogger))


def tensorboards(trainer: Trainer) -> list[Any]:
    """Returns the ``SummaryWriter`` of every TensorBoard logger."""
    return [logger.experiment for logger in trainer.loggers if is_tensorboard(logger)]


class HeldPoints:
    """Points of scalars that go to TensorBoard together.

    Its writer is a thread, to which the training gives way at each point: of a step of 1.3 ms that takes a quarter,
    and held back for two seconds a twentieth. A point that comes later than two seconds after the last is due at once.
    """

    SECONDS = 2.0

    def __init__(self) -> None:
        self._points: list[tuple[TensorBoardLogger, Mapping[str, float], int]] = []
        self._written = -math.inf

    def add(self, logger: TensorBoardLogger, values: Mapping[str, float], step: int) -> None:
        """Takes a point, the values by name."""
        self._points.append((logger, values, step))

    def is_due(self) -> bool:
        """Returns whether there are points, and the last ones were written long enough ago."""
        return bool(self._points) and time.monotonic() - self._written >= self.SECONDS

    def write(self) -> None:
        """Writes the points, so that TensorBoard can show them."""
        for logger, values, step in self._points:
            logger.log_metrics(values, step=step)
        for logger in {logger for logger, _, _ in self._points}:
            logger.experiment.flush()
        self._points.clear()
        self._written = time.monotonic()


def write_planned_rates(trainer: Trainer, plan: Plan, most: int) -> None:
    """Writes the planned rates for TensorBoard, which has a colour for each run: as the run ``planned`` inside the run.

    Args:
        trainer: The trainer, before its first step.
        plan: The plan.
        most: About how many points.
    """
    begun = trainer.global_step
    curve = sample(plan, most).since(begun)
    for writer in tensorboards(trainer):
        planned = type(writer)(os.path.join(writer.log_dir, "planned"), purge_step=begun or None)
        for name, values in curve.values.items():
            for step, value in zip(curve.steps, values, strict=True):
                if name.startswith("lr/"):
                    planned.add_scalar(name, value, step)
        planned.close()


def write_hyperparameters(trainer: Trainer, hyperparameters: Mapping[str, Any]) -> None:
    """Gives them to every logger but TensorBoard's, except those that the module or its data logs under that name."""
    owners = [trainer.lightning_module, getattr(trainer, "datamodule", None)]
    taken = {name for owner in owners if owner is not None for name in owner.hparams}
    own = {name: value for name, value in hyperparameters.items() if name not in taken}
    for logger in trainer.loggers:
        if isinstance(logger, either(_kinds.MLFlowLogger)):
            # It refuses to change what an earlier part of the run has set.
            known = logger.experiment.get_run(logger.run_id).data.params
            logger.log_hyperparams({name: value for name, value in own.items() if name not in known})
        elif isinstance(logger, either(_kinds.WandbLogger)):  # its configuration may be the user's, or that of a sweep
            known = dict(logger.experiment.config)
            logger.log_hyperparams(own)
            now = dict(logger.experiment.config)
            changed = ", ".join(f"{name} {known[name]} -> {now[name]}" for name in known if known[name] != now[name])
            if changed:
                rank_zero_warn(f"hyperparameters take the place of those in the config of the W&B run: {changed}")
        elif not is_tensorboard(logger):
            logger.log_hyperparams(own)


def write_plan(trainer: Trainer, plan: Plan) -> None:
    """Writes picture and key moments of a plan where they can be taken.

    TensorBoard gets an image, Weights & Biases an image and a table, MLflow two artifacts, and the folder of a
    ``CSVLogger`` two files: ``schedule.png`` and ``schedule.csv``.
    """
    for logger in trainer.loggers:
        if is_tensorboard(logger):
            logger.experiment.add_image("schedule", pixels_of(plan), dataformats="HWC")
        elif isinstance(logger, either(_kinds.WandbLogger)):
            rows = _rows(plan)
            logger.log_image("schedule", [pixels_of(plan)])
            logger.log_table("schedule_moments", columns=list(rows[0]), data=[list(row.values()) for row in rows])
        elif isinstance(logger, either(_kinds.MLFlowLogger)):
            logger.experiment.log_figure(logger.run_id, figure_of(plan), "schedule.png")
            logger.experiment.log_text(logger.run_id, _as_csv(plan), "schedule.csv")
        elif folder := _folder(logger):
            figure_of(plan).savefig(folder / "schedule.png")
            (folder / "schedule.csv").write_text(_as_csv(plan), encoding="utf-8")


def write_text(trainer: Trainer, name: str, text: str) -> None:
    """Writes a sentence on the run where it can be taken: TensorBoard's texts, a summary, a tag, or a file."""
    for logger in trainer.loggers:
        if is_tensorboard(logger):
            logger.experiment.add_text(name, text)
        elif isinstance(logger, either(_kinds.WandbLogger)):
            logger.experiment.summary[name] = text
        elif isinstance(logger, either(_kinds.MLFlowLogger)):
            logger.experiment.set_tag(logger.run_id, name, text)
        elif folder := _folder(logger):
            (folder / f"{name}.txt").write_text(f"{text}\n", encoding="utf-8")


def _folder(logger: Logger) -> Path | None:
    """Returns the folder of a ``CSVLogger`` on this machine; None for any other logger."""
    if not isinstance(logger, either(_kinds.CSVLogger)) or "://" in logger.log_dir:
        return None
    folder = Path(logger.log_dir)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _rows(plan: Plan) -> list[dict[str, Any]]:
    return rows_of({"": View.of(plan)})


def _as_csv(plan: Plan) -> str:
    rows = _rows(plan)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()

"""The command ``lit-lrsched``: a :class:`ScheduleCLI` with the worked example by default."""

from __future__ import annotations

import inspect
import os
import shlex
import warnings
from collections.abc import Mapping
from typing import Any, Optional, cast, get_type_hints

import torch
from torch import Tensor, nn

from lit_lrsched.class_paths import import_from, import_path
from lit_lrsched.cli.arguments import ScheduleParser
from lit_lrsched.cli.forecast import SUMMARY as FORECAST
from lit_lrsched.cli.lightning_cli_package import LightningArgumentParser
from lit_lrsched.cli.quiet import quiet_lightning
from lit_lrsched.cli.run_folder import LastCheckpoint
from lit_lrsched.cli.schedule_cli import OWN_SUBCOMMANDS, ScheduleCLI, given_callbacks
from lit_lrsched.cli.start_line import StartLine
from lit_lrsched.errors import InputError
from lit_lrsched.ionosphere.data import IonosphereDataModule
from lit_lrsched.ionosphere.model import SGD_01, IonosphereClassifier
from lit_lrsched.plans.console import shortest_path
from lit_lrsched.trainer.callbacks.progress_bar import RunProgressBar
from lit_lrsched.trainer.lightning_package import (
    Callback,
    LightningDataModule,
    LightningModule,
    ProgressBar,
    TensorBoardLogger,
    Trainer,
    get_filesystem,
    is_overridden,
)

_LOADERS = tuple(f"{stage}_dataloader" for stage in ("train", "val", "test", "predict"))
_WIDTH = inspect.signature(IonosphereClassifier).parameters["in_features"].default


class Command(ScheduleCLI):
    """The command ``lit-lrsched``: the worked example by default."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(
            seed_everything_default=42,
            trainer_defaults={
                "max_epochs": 50,
                "enable_model_summary": False,
            },
            **kwargs,
        )

    def complete_configuration(self) -> None:
        """Gives the worked example's data to its own model alone, unless they were asked for, and makes it as wide.

        Raises:
            InputError: When another model has no data.
        """
        super().complete_configuration()
        config = self.options_of(self.config)
        parser = cast("ScheduleParser", self.parser_of(self.subcommand))
        model = _class_at(config.model.class_path)
        is_ours = issubclass(model, IonosphereClassifier)
        if "optimizer" in parser.assumed:
            _check_assumed(model, parser)
        above = cast("ScheduleParser", self.parser)
        if not (parser.was_chosen("data") or above.was_chosen(f"{self.subcommand}.data")):
            if any(getattr(model, name) is not getattr(LightningModule, name) for name in _LOADERS):
                config.data = None
            elif not is_ours:
                raise InputError(
                    f"{model.__name__} has no data: give --data with a LightningDataModule, or the model a "
                    f"train_dataloader (--data {IonosphereDataModule.__name__} trains it on the worked example's)"
                )
        width = (config.model.get("init_args") or {}).get("in_features")
        if is_ours and config.data is not None and width == _WIDTH and not parser.was_typed("model.in_features"):
            # Made here and not with the parser, where it would take `in_features` of every model for its own.
            parser.link_arguments("data", "model.init_args.in_features", _width_of, apply_on="instantiate")

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Adds the checkpoint of the last epoch and the progress bar, unless they are turned off.

        A trainer takes one progress bar, so ours gives way to one that is given.
        """
        options = self.options_of(self.config_init).trainer
        given = given_callbacks(options)
        own: list[Callback] = [StartLine()] if self.subcommand == "fit" else []
        if options.enable_checkpointing is not False and not options.barebones:
            own.append(LastCheckpoint(self.run_folder, given))
        has_bar = any(isinstance(callback, ProgressBar) for callback in given)
        if options.enable_progress_bar is not False and not options.barebones and not has_bar:
            own.append(RunProgressBar())
        self.trainer_defaults["callbacks"] = own
        return super().instantiate_trainer(**kwargs)

    def add_subcommands(self, parser: LightningArgumentParser, **kwargs: Any) -> None:
        """Lists ``forecast`` too, which runs without Lightning (:mod:`lit_lrsched.__main__`)."""
        super().add_subcommands(parser, **kwargs)
        self.add_subcommand(parser, "forecast", self.init_parser(), [], FORECAST)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Makes the worked example the default, and the model's width follow the data; adds ``--test``."""
        parser.add_argument(
            "--test",
            type=Optional[bool],
            nargs="?",
            const=True,
            help="Whether fit ends with the metrics on the test data. Default: for the worked example alone.",
        )
        cast("ScheduleParser", parser).assumable["optimizer"] = SGD_01
        parser.set_defaults(
            {
                "model": {"class_path": import_path(IonosphereClassifier)},
                "data": {"class_path": import_path(IonosphereDataModule)},
            }
        )

    def after_instantiate_classes(self) -> None:
        """Keeps quiet about the interval of steps between logs where there are none.

        Raises:
            InputError: When the worked example's model was given another width than the data have, or a model without
                ``test_step`` is to be tested.
        """
        if isinstance(self.model, IonosphereClassifier) and self.datamodule is not None:
            width = cast("nn.Linear", self.model.network[0]).in_features  # a subclass may have no such parameter
            if width != (of_data := _width_of(self.datamodule, width)):
                raise InputError(
                    f"model.in_features={width}, but {type(self.datamodule).__name__} has {of_data} features: "
                    "leave in_features out, or give the data that it was made for"
                )
        if (
            self.subcommand == "fit"
            and self.options_of(self.config).test
            and not is_overridden("test_step", self.model)
        ):
            raise InputError(
                f"--test: {type(self.model).__name__} has no test_step: give it one, or leave the option out"
            )
        if isinstance(self.model, IonosphereClassifier) or self.subcommand in OWN_SUBCOMMANDS:
            warnings.filterwarnings("ignore", message=".*is smaller than the logging interval")

    def after_fit(self) -> None:
        """Ends with metrics, the line that opens TensorBoard on this run, and the checkpoint."""
        trainer = self.trainer
        if trainer.interrupted:
            return
        if not getattr(trainer, "fast_dev_run", False):
            if self._tests_after_fit():
                of_loaders = trainer.test(self.model, self.datamodule, verbose=False)
                metrics = {name: value for metrics in of_loaders for name, value in metrics.items()}
                self._print_metrics("Test metrics of the final weights:", metrics)
            else:
                known = {name: float(value) for name, value in trainer.callback_metrics.items()}
                validation = {name: value for name, value in known.items() if name.startswith("val")}
                self._print_metrics("Metrics of the last validation (--test true for the test part):", validation)
        boards = [logger.log_dir for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
        if trainer.is_global_zero and boards:
            print(f"TensorBoard: tensorboard --logdir {shlex.quote(shortest_path(boards[0]))}")
        last = [one.best_model_path for one in trainer.checkpoint_callbacks if isinstance(one, LastCheckpoint)]
        if trainer.is_global_zero and any(last):
            print(f"Checkpoint: {shortest_path(last[0])}")

    def _tests_after_fit(self) -> bool:
        """Returns whether ``fit`` ends with the test part: where it was asked for, and in the worked example."""
        is_example = isinstance(self.model, IonosphereClassifier) and isinstance(self.datamodule, IonosphereDataModule)
        asked: bool | None = self.options_of(self.config).test
        return is_example if asked is None else asked

    def predict(self, **kwargs: Any) -> None:
        """Predicts every row and writes the predictions beside the run's configuration: a header, and a line a row.

        Rows are counted from 0 in the order of the data; a row of several predictions has a column for each. Other
        predictions than such rows, and those of several processes, are not written, which it says.
        """
        predictions: list[Any] = self.trainer.predict(**kwargs) or []
        if not predictions or not self.trainer.is_global_zero:
            return
        shapes = {one.shape[1:] if isinstance(one, Tensor) and one.ndim else None for one in predictions}
        if self.trainer.world_size > 1 or None in shapes or len(shapes) > 1:
            print(
                "No predictions.csv is written: that takes one process, one data loader, and a predict_step that "
                "returns a tensor with a row for each row of the batch, all of one shape."
            )
        else:
            rows = torch.cat([batch.reshape(len(batch), -1) for batch in predictions]).tolist()
            path = os.path.join(self.run_folder(self.trainer) or "", "predictions.csv")
            several = len(rows[0]) > 1
            header = ["row", *(f"prediction_{number}" if several else "prediction" for number in range(len(rows[0])))]
            lines = [header, *([str(number), *map(repr, row)] for number, row in enumerate(rows))]
            with get_filesystem(path).open(path, "w", encoding="utf-8") as file:
                file.writelines(",".join(line) + "\n" for line in lines)
            print(f"{len(rows)} predictions: {shortest_path(path)}")

    def _print_metrics(self, title: str, metrics: Mapping[str, float]) -> None:
        if metrics and self.trainer.is_global_zero:
            width = max(map(len, metrics))
            print(title)
            for name, value in metrics.items():
                shown = f"{value:.4f}" if value == 0 or abs(value) >= 1e-3 else f"{value:.3g}"
                print(f"  {name:<{width}}  {shown}")


def _class_at(path: str) -> type[LightningModule]:
    """Returns the class of modules that a configuration names; it may name a function that makes one."""
    found = import_from(path)
    return found if isinstance(found, type) else get_type_hints(found).get("return", LightningModule)


def _check_assumed(model: type, parser: ScheduleParser) -> None:
    """Refuses the worked example's optimizer for a model that has another, in its constructor or a configuration."""
    parameter = inspect.signature(model).parameters.get("optimizer")
    others = [one.as_dict() != SGD_01 for one in parser.configured("model.init_args.optimizer")]
    if parameter is None or parameter.default != SGD_01 or any(others):
        raise InputError(
            f"no class was chosen for the optimizer of {model.__name__}: give it first, like --optimizer AdamW"
        )


def _width_of(data: LightningDataModule, otherwise: int = _WIDTH) -> int:
    """Returns how many features a row has, where the data say so."""
    width: int = getattr(data, "num_features", otherwise)
    return width


def run() -> None:
    """Runs the command with the arguments of the process."""
    quiet_lightning()
    Command()

"""The command ``lit-lrsched``: a :class:`ScheduleCLI` with the worked example by default."""

from __future__ import annotations

import inspect
import shlex
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast, get_type_hints

import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import Tensor, nn

from lit_lrsched.class_paths import import_from, import_path
from lit_lrsched.cli.arguments import ScheduleParser
from lit_lrsched.cli.forecast import SUMMARY as FORECAST
from lit_lrsched.cli.quiet import quiet_lightning
from lit_lrsched.cli.run_folder import LastCheckpoint, shortest_path
from lit_lrsched.cli.schedule_cli import OWN_SUBCOMMANDS, ScheduleCLI, given_callbacks
from lit_lrsched.cli.start_line import StartLine
from lit_lrsched.errors import InputError
from lit_lrsched.ionosphere.data import IonosphereDataModule
from lit_lrsched.ionosphere.model import SGD_01, IonosphereClassifier
from lit_lrsched.trainer.callbacks.progress_bar import RunProgressBar

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

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parses the arguments; where there are none it shows the help."""
        if args is None and not sys.argv[1:]:
            parser.print_help()
            sys.exit()
        super().parse_arguments(parser, args)

    def before_instantiate_classes(self) -> None:
        """Gives the worked example's data to its own model alone, unless they were asked for, and makes it as wide.

        Raises:
            InputError: When another model has no data.
        """
        super().before_instantiate_classes()
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
        """Adds the checkpoint of the last epoch and the progress bar, unless they are turned off."""
        options = self.options_of(self.config_init).trainer
        own: list[Callback] = [StartLine()] if self.subcommand == "fit" else []
        if options.enable_checkpointing is not False and not options.barebones:
            own.append(LastCheckpoint(self.run_folder, given_callbacks(options)))
        if options.enable_progress_bar is not False and not options.barebones:
            own.append(RunProgressBar())
        self.trainer_defaults["callbacks"] = own
        return super().instantiate_trainer(**kwargs)

    def add_subcommands(self, parser: LightningArgumentParser, **kwargs: Any) -> None:
        """Lists ``forecast`` too, which runs without Lightning (:mod:`lit_lrsched.__main__`)."""
        super().add_subcommands(parser, **kwargs)
        self.add_subcommand(parser, "forecast", self.init_parser(), [], FORECAST)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Makes the worked example the default, and the model's width follow the data."""
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
            InputError: When the worked example's model was given another width than the data have.
        """
        if isinstance(self.model, IonosphereClassifier) and self.datamodule is not None:
            width = cast("nn.Linear", self.model.network[0]).in_features  # a subclass may have no such parameter
            if width != (of_data := _width_of(self.datamodule, width)):
                raise InputError(
                    f"model.in_features={width}, but {type(self.datamodule).__name__} has {of_data} features: "
                    "leave in_features out, or give the data that it was made for"
                )
        if isinstance(self.model, IonosphereClassifier) or self.subcommand in OWN_SUBCOMMANDS:
            warnings.filterwarnings("ignore", message=".*is smaller than the logging interval")

    def after_fit(self) -> None:
        """Ends with the test metrics and the line that opens TensorBoard on this run."""
        trainer = self.trainer
        if trainer.interrupted:
            return
        if is_overridden("test_step", self.model) and not getattr(trainer, "fast_dev_run", False):
            (metrics,) = trainer.test(self.model, self.datamodule, verbose=False)
            if trainer.is_global_zero:
                self._print_metrics(metrics)
        boards = [Path(logger.log_dir) for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
        if trainer.is_global_zero and boards:
            print(f"TensorBoard: tensorboard --logdir {shlex.quote(str(shortest_path(boards[0])))}")

    def predict(self, **kwargs: Any) -> None:
        """Predicts every row and writes the predictions, one line a row, beside the run's configuration."""
        predictions: list[Any] = self.trainer.predict(**kwargs) or []
        if predictions and self.trainer.world_size == 1 and all(isinstance(batch, Tensor) for batch in predictions):
            rows = torch.cat([batch.reshape(len(batch), -1) for batch in predictions]).tolist()
            path = Path(self.run_folder(self.trainer) or "", "predictions.csv")
            path.write_text("".join(",".join(map(repr, row)) + "\n" for row in rows), encoding="utf-8")
            print(f"{len(rows)} predictions: {shortest_path(path)}")

    def _print_metrics(self, metrics: Mapping[str, float]) -> None:
        width = max(map(len, metrics), default=0)
        print("Test metrics of the final weights:")
        for name, value in metrics.items():
            print(f"  {name:<{width}}  {value:.4f}")


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

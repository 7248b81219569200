"""The command line: a ``LightningCLI`` with a learning-rate schedule for every model."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

import yaml  # type: ignore[import-untyped]
from jsonargparse import Namespace

from lit_lrsched.cli import compare, find, preview
from lit_lrsched.cli.arguments import ScheduleOptions, ScheduleParser, add_schedule_arguments
from lit_lrsched.cli.checkpoint import checkpoint_path, explained
from lit_lrsched.cli.config_file import ConfigFile
from lit_lrsched.cli.endings import status_of
from lit_lrsched.cli.json_document import check_typed, output_for_json
from lit_lrsched.cli.jsonargparse_internals import PublicClasses
from lit_lrsched.cli.lightning_cli_internals import OpenCLI
from lit_lrsched.cli.lightning_cli_package import LightningArgumentParser
from lit_lrsched.cli.loggers import CheckpointLogger, NewRunLogger, default_logger
from lit_lrsched.cli.mistakes import mistake_in, mistakes_of_spawned_processes
from lit_lrsched.cli.new_folders import NewFolders
from lit_lrsched.cli.no_profiler import NoProfiler
from lit_lrsched.cli.replaced_optimizer import apply_to
from lit_lrsched.cli.run_folder import CONFIG, RunFolder
from lit_lrsched.cli.run_name import check_name, default_name, name_loggers
from lit_lrsched.cli.save_config import SaveConfig
from lit_lrsched.cli.typed import program, typed
from lit_lrsched.errors import InputError
from lit_lrsched.plans.console import shortest_path
from lit_lrsched.trainer.callbacks.keeper import ScheduleKeeper
from lit_lrsched.trainer.callbacks.learning_rate_logger import LearningRateLogger
from lit_lrsched.trainer.callbacks.receipt import Receipt
from lit_lrsched.trainer.callbacks.start_audit import StartAudit, TrainingRefused
from lit_lrsched.trainer.callbacks.stop_cleanly import StopCleanly
from lit_lrsched.trainer.callbacks.tensorboard_run import TensorBoardRun
from lit_lrsched.trainer.interrupts import Interrupted, interrupts_of_lightning
from lit_lrsched.trainer.lightning_package import (
    NAME,
    Callback,
    CSVLogger,
    DummyLogger,
    LightningDataModule,
    LightningModule,
    MisconfigurationException,
    TensorBoardLogger,
    Trainer,
    of_the_other,
    part_of_lightning,
    rank_zero_info,
    seed_everything,
)
from lit_lrsched.trainer.resumed_run import is_of_another, unreadable

OWN_SUBCOMMANDS = {"preview": preview.SUMMARY, "find": find.SUMMARY, "compare": compare.SUMMARY}


class ScheduleCLI(OpenCLI):
    """A ``LightningCLI`` with a learning-rate schedule for any model.

    Use it in place of ``LightningCLI``; it takes the same arguments. It adds the options ``--optimizer``,
    ``--lr_scheduler``, ``--lr_interval``, ``--lr_monitor``, ``--lr_groups`` and ``--on_horizon_change``, and
    ``--audit``: ``fit`` refuses to train what ``preview`` calls a failure. A model whose
    constructor has parameters of these names that take such values receives them. Any other model's
    ``configure_optimizers`` is left alone when none is given, keeps its optimizer when only ``--lr_scheduler`` is
    given, and gives way to both together.

    A mistake ends the process with status 2 and one line; where ``args`` are given and can be parsed, it is an
    ``InputError``. Ctrl-C ends it with status 130 and the command that goes on, SIGTERM while it trains with 143.

    Example::

        ScheduleCLI(MyModel, MyDataModule)
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._from_process = kwargs.get("args") is None
        self._start_audit: StartAudit | None = None
        own = {"parser_class": ScheduleParser, "auto_configure_optimizers": False, "save_config_callback": SaveConfig}
        try:
            for one in (*args[:2], kwargs.get("model_class"), kwargs.get("datamodule_class")):
                if isinstance(one, type) and (told := of_the_other(one)):
                    raise InputError(f"{one.__name__}: {told}")
            with output_for_json(sys.argv if self._from_process else kwargs["args"]):
                super().__init__(*args, **{**own, **kwargs})
        except Interrupted as stop:
            if not (self._from_process and stop.announced):
                raise
            sys.exit(status_of(stop))
        except (ValueError, MisconfigurationException) as error:
            mistake = mistake_in(error, set_up=not self._has_trained)
            if mistake is None:
                raise
            if not self._from_process:
                raise InputError(str(mistake)) from error
            print(f"error: {' '.join(str(mistake).split())}", file=sys.stderr)
            sys.exit(2)

    # --- The parser ---------------------------------------------------------------------------------------------------

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        """Makes a parser whose ``--config`` also takes the configurations that come with the package."""
        kwargs.setdefault("dump_header", [f"{NAME}=={part_of_lightning('').__version__}"])
        kwargs.setdefault("formatter_class", PublicClasses)
        parser = self.parser_class(**kwargs)
        parser.add_argument("--help_all", action="help", help="Show every option and exit.")
        parser.add_argument("-c", "--config", action=ConfigFile, help="Path to a configuration file in YAML or JSON.")
        return parser

    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds the options of this class, and the callbacks that are there by default.

        Raises:
            InputError: When a subclass overrides ``configure_optimizers``, which is for options that this class lacks.
        """
        if type(self).configure_optimizers is not OpenCLI.configure_optimizers:
            raise InputError(
                f"{type(self).__name__}.configure_optimizers would not be called: leave it out; --lr_interval and "
                "--lr_monitor say how a schedule is used, and the rest is for the model's configure_optimizers"
            )
        super().add_default_arguments_to_parser(parser)
        add_schedule_arguments(parser)
        parser.add_lightning_class_args(LearningRateLogger, "lr_logger")

    def add_subcommands(self, parser: LightningArgumentParser, **kwargs: Any) -> None:
        """Adds the trainer's subcommands, and ``preview``, ``find`` and ``compare``, which ask about a ``fit``."""
        super().add_subcommands(parser, **kwargs)
        for name, summary in OWN_SUBCOMMANDS.items():
            own, added = self.init_parser(**{**kwargs.get("fit", {}), "description": summary}), []
            if self._is_asked(name):
                self.add_common_arguments(own)
                added = self._add_arguments_of(name, own)
            self.add_subcommand(parser, name, own, added, summary)

    def subcommand_parser(self, trainer_class: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:
        """Makes the parser of one of the trainer's subcommands; an empty one where another is asked for."""
        if self._is_asked(subcommand):
            return super().subcommand_parser(trainer_class, subcommand, **kwargs)
        parser = self.init_parser(**kwargs)
        self.note_arguments(subcommand, parser, [])
        return parser

    def _is_asked(self, subcommand: str) -> bool:
        """Returns whether a subcommand may be run: a parser takes a tenth of a second to fill."""
        asked = {*sys.argv[1:2]} & {*self.subcommands(), *OWN_SUBCOMMANDS} if self._from_process else set()
        return subcommand in asked or not asked

    def _add_arguments_of(self, name: str, parser: LightningArgumentParser) -> list[str]:
        """Adds the arguments of ``preview``, ``find`` or ``compare``, and returns their names."""
        added = {"preview": preview, "find": find, "compare": compare}[name].add_arguments(parser)
        # so that it takes what was written for fit
        of_fit = parser.add_method_arguments(Trainer, "fit", skip={*self.subcommands()["fit"]})
        return [*added, *of_fit] if name == "preview" else added

    # --- From the configuration to objects ----------------------------------------------------------------------------

    def parse_checkpoint(self) -> None:
        """Looks into the checkpoint for hyperparameters, as Lightning does, and refuses one that cannot be loaded.

        They count more than what was given for the model: it says which.

        Raises:
            InputError: For a damaged file, one that holds objects, or where nothing goes on from it.
        """
        name = self.config.get("subcommand")
        config = self.config[name] if name else Namespace()  # type: ignore[no-untyped-call]
        if config.get("ckpt_path") is not None:
            if name in ("find", "compare"):
                raise InputError(f"ckpt_path={config.ckpt_path!r}: the runs of {name} begin anew: leave it out")
            config.ckpt_path = checkpoint_path(config.ckpt_path, config.get("trainer.default_root_dir"))
        with explained(config.get("ckpt_path"), unreadable):
            super().parse_checkpoint()
        if config.get("ckpt_path") is not None:
            self._tell_replaced(name, config, self.config[name])

    def _tell_replaced(self, subcommand: str, before: Namespace, after: Namespace) -> None:
        """Says what was typed or configured for the model and gives way to the checkpoint's hyperparameters."""
        parser = cast("ScheduleParser", self.parser_of(subcommand))
        changed = [key for key, value in before.items() if key.startswith("model.") and after.get(key) != value]
        for key in [key for key in changed if key == "model.class_path"] or changed:
            option = key.replace(".init_args.", ".").removesuffix(".class_path")
            if parser.was_typed(option) or parser.configured(key):
                rank_zero_info(f"The checkpoint's {option}={after.get(key)} takes the place of {before[key]}.")

    def instantiate_classes(self) -> None:
        """Makes trainer, model and data; ``before_instantiate_classes`` stays empty, for subclasses to fill."""
        self.complete_configuration()
        super().instantiate_classes()

    def complete_configuration(self) -> None:
        """Hands the options on to a model whose constructor has parameters of these names.

        Raises:
            InputError: When an option says nothing by itself, or the checkpoint is not there.
        """
        config = self.options_of(self.config)
        check_typed(config.get("json", False))
        model = config.get("model") or Namespace()  # type: ignore[no-untyped-call]  # a class without arguments leaves nothing to configure
        arguments = model.get("init_args", model)
        given = ScheduleOptions.given(config)
        self._from_outside = bool(given) and not self._handed_on(given, arguments)
        is_of_several = self.subcommand == "compare" or config.get("schedules")
        says_little = "lr_scheduler" not in given and given.keys() != {"optimizer"} and not is_of_several
        if self._from_outside and says_little:
            raise InputError(f"--{min(given.keys() - {'optimizer'})} says nothing by itself: give --lr_scheduler too")
        if (name := config.get("run_name")) is not None:
            check_name(name)
            if self.subcommand not in OWN_SUBCOMMANDS:
                name_loggers(config.trainer.get("logger", False), name)
            elif self.subcommand in ("find", "compare") and self._was_typed("run_name"):
                raise InputError(f"run_name={name!r} names a run of fit: give {self.subcommand} a folder (--folder)")
        self.run_folder = RunFolder(config.get("ckpt_path") if self.subcommand == "fit" else None)

    def _handed_on(self, given: dict[str, Any], arguments: Namespace) -> bool:
        """Gives the options to a constructor with these arguments; returns whether it has such parameters.

        It may have parameters of these names that mean something else, the name of an optimizer for instance, or whose
        type says nothing.
        """
        if not given.keys() <= vars(arguments).keys() or not self._would_take(arguments, given):
            return False
        # A parameter without a type takes anything: it would get the configuration of a class, and not what that makes.
        made = given.keys() & {"optimizer", "lr_scheduler", "lr_groups"}
        if any(self._would_take(arguments, {name: object()}) for name in made):
            return False
        vars(arguments).update(given)
        return True

    def _would_take(self, arguments: Namespace, given: dict[str, Any]) -> bool:
        own = {name: arguments[name] for name in given}
        vars(arguments).update(given)
        try:
            self.parser_of(self.subcommand).validate(self.options_of(self.config))
        except TypeError:
            return False
        finally:
            vars(arguments).update(own)
        return True

    def options_of(self, config: Namespace) -> Namespace:
        """Returns the part of a configuration that is the subcommand's, or all of it where there is none."""
        part: Namespace = config[self.subcommand] if self.subcommand else config
        return part

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Makes the trainer, with what this class promises of it."""
        config = self.options_of(self.config_init)
        self._schedule_options = ScheduleOptions.of(config)
        options = Namespace({**vars(config.trainer), **kwargs})  # type: ignore[no-untyped-call]
        if "callbacks" not in options:  # of a function that makes the trainer, which may take what it likes
            raise InputError("trainer_class takes no callbacks, so it can have no schedule: give it that parameter")
        is_bare = options.get("barebones", False)
        if options.get("profiler", False) is None and not is_bare:
            kwargs["profiler"] = NoProfiler()
        callbacks = given_callbacks(options)
        if self._from_outside and self.subcommand not in ("find", "compare"):  # which say what they replace
            callbacks += apply_to(self.model, self._schedule_options)
        if self.subcommand in OWN_SUBCOMMANDS:
            self.save_config_callback = None
            if "logger" in options:
                kwargs["logger"] = None if is_bare else DummyLogger()  # they write no run
        else:
            self._start_audit = StartAudit(config.audit)
            callbacks += [ScheduleKeeper(), self._start_audit, Receipt(), TensorBoardRun()]
            callbacks += [StopCleanly(self._going_on)]
            if options.get("logger") is False or is_bare:
                self.save_config_callback = None  # there is no run's folder to keep it in, and others may hold theirs
            elif "logger" in options and options.logger in (None, True):
                logger = default_logger(
                    os.path.expanduser(options.get("default_root_dir") or "."),
                    config.get("run_name"),
                    default_name(self.options_of(self.config), type(self.model).__name__),
                    config.get("ckpt_path"),
                    trains=self.subcommand == "fit",
                    by_hand=not self.model.automatic_optimization,
                )
                kwargs["logger"] = logger
                if isinstance(logger, CheckpointLogger):
                    self.save_config_callback = None  # the run keeps the configuration that it was trained with
                elif not isinstance(logger, NewRunLogger):  # the run goes on in its folder
                    self.save_config_kwargs["overwrite"] = True
        if self.save_config_callback is not None and issubclass(self.save_config_callback, SaveConfig):
            self.save_config_kwargs["folder"] = self.run_folder
        return super().instantiate_trainer(**{**kwargs, "callbacks": callbacks})

    def _was_typed(self, option: str) -> bool:
        return cast("ScheduleParser", self.parser_of(self.subcommand)).was_typed(option)

    def _going_on(self) -> list[str]:
        """Returns the command that repeats this run, to which the checkpoint is added."""
        folder = self.run_folder(self.trainer)
        if folder is None or not Path(folder, CONFIG).exists():
            return [*program(), *sys.argv[1:]]
        return [*program(), "fit", "--config", shortest_path(Path(folder, CONFIG))]

    # --- Running ------------------------------------------------------------------------------------------------------

    def preview(self, **arguments: Any) -> None:
        """Shows the learning rate that ``fit`` would use."""
        preview.preview(self.trainer, self.model, self.datamodule, self._schedule_options, **arguments)

    def compare(self, **arguments: Any) -> None:
        """Races schedules against each other.

        Raises:
            Interrupted: When it is stopped.
        """
        with self._going_on_afterwards():
            compare.compare(
                *(self.trainer, self.model, self.datamodule, self._from_seed, self._remade, self._parts()),
                self._schedule_options,
                **arguments,
            )

    def find(self, **arguments: Any) -> None:
        """Finds the peak learning rate.

        Raises:
            Interrupted: When it is stopped.
        """
        # A model that takes the options itself has them already.
        options = self._schedule_options if self._from_outside else ScheduleOptions()
        with self._going_on_afterwards():
            find.find(
                *(self.trainer, self.model, self.datamodule, self._from_seed, self._remade, self._parts()),
                options,
                **arguments,
            )

    def _parts(self) -> dict[str, Any]:
        """Returns what the configuration says of model and data, and what else was given that ``fit`` takes too.

        As plain values, without the options of schedules and what is None.
        """
        config, parser = self.options_of(self.config), self.parser_of(self.subcommand)
        plain = yaml.safe_load(parser.dump(config, skip_validation=True))
        given = yaml.safe_load(parser.dump(config, skip_validation=True, skip_default=True))
        own = {*self.arguments_of(str(self.subcommand)), *(field.name for field in fields(ScheduleOptions))}
        others = {name: value for name, value in given.items() if name not in own}
        found = {**others, **{name: plain.get(name) for name in ("model", "data")}}
        return {name: part for name, part in found.items() if part is not None}

    @contextmanager
    def _going_on_afterwards(self) -> Iterator[None]:
        """Says how to go on with trainings that are interrupted."""
        try:
            yield
        except KeyboardInterrupt as stop:
            if self.trainer.is_global_zero:
                print(f"\nInterrupted. The trainings that were finished are kept. To go on:\n  {typed()}")
            raise Interrupted(getattr(stop, "number", signal.SIGINT), announced=True) from None

    def _remade(self, _: object, change: Callable[[Any], None]) -> tuple[LightningModule, LightningDataModule]:
        """Builds model and data anew, the configuration of the model changed."""
        return self._from_seed(0, change)

    def _from_seed(
        self, seed: int, change: Callable[[Any], None] | None = None
    ) -> tuple[LightningModule, LightningDataModule]:
        """Builds model and data anew, as a ``fit`` with this seed would."""
        seed_everything(seed, verbose=False)
        config, own = self.config.clone(), self.config_dump
        self.config_dump = deepcopy(own)  # where Lightning takes what save_hyperparameters saves
        for options in (self.options_of(config), self.config_dump):
            arguments = options["data"].get("init_args", options["data"])
            if "seed" in arguments:
                arguments["seed"] = seed
            if change is not None:
                change(options["model"])
        try:
            made = self.options_of(self.parser.instantiate_classes(config))
        finally:
            self.config_dump = own
        return made.model, made.data

    def run_subcommand(self, subcommand: str) -> None:
        """Runs it. A run that is refused before it trains leaves no folder.

        Raises:
            InputError: When the audit refuses the run, or an earlier run is in its folder.
        """
        if subcommand in OWN_SUBCOMMANDS:
            getattr(self, subcommand)(**self.arguments_of(subcommand))
            return
        new = NewFolders(self.trainer.loggers if self.trainer.is_global_zero else [])
        saves = "folder" in self.save_config_kwargs and not self.save_config_kwargs.get("overwrite")
        if saves and self.trainer.is_global_zero and isinstance(self.trainer.logger, (TensorBoardLogger, CSVLogger)):
            self.run_folder.refuse_another_run(self.trainer)  # before these loggers write there
        try:
            of_another = explained(self.config[subcommand].get("ckpt_path"), is_of_another)
            with interrupts_of_lightning(), of_another, mistakes_of_spawned_processes():
                super().run_subcommand(subcommand)
        except Exception as error:
            mistake = mistake_in(error, set_up=not self._has_trained)
            if mistake is not None and not self._has_trained:
                new.remove()
            if isinstance(mistake, TrainingRefused):
                if self._from_process and not self.trainer.is_global_zero:
                    sys.exit(2)  # every process refuses, one says why
                raise InputError(f"{mistake.reason} (--audit warn trains anyway)") from error
            raise

    @property
    def _has_trained(self) -> bool:
        return self._start_audit is not None and self._start_audit.begun


def given_callbacks(trainer: Namespace) -> list[Callback]:
    """Returns the callbacks that a trainer's configuration names: none, one, or several."""
    given = trainer.callbacks
    return [given] if isinstance(given, Callback) else [*(given or [])]

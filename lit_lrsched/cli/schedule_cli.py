"""The command line: a ``LightningCLI`` with a learning-rate schedule for every model."""

from __future__ import annotations

import pickle
import shlex
import signal
import sys
import textwrap
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import MethodType
from typing import Any, Literal, Optional, Union, cast
from unittest.mock import patch

import torch
import yaml  # type: ignore[import-untyped]
from jsonargparse import Namespace, set_parsing_settings
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer, seed_everything
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.cli import ReduceLROnPlateau as _LightningPlateau
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.loggers.logger import DummyLogger
from lightning.pytorch.profilers import PassThroughProfiler
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lit_lrsched.class_paths import to_plain
from lit_lrsched.cli.class_choice import OwnArguments
from lit_lrsched.cli.comma_lists import CommaLists
from lit_lrsched.cli.loggers import OwnVersionLogger
from lit_lrsched.cli.new_folders import NewFolders
from lit_lrsched.cli.parse_errors import OneLineErrors, mistake_behind
from lit_lrsched.cli.run_folder import CONFIG, RunFolder, shortest_path
from lit_lrsched.cli.save_config import SaveConfig
from lit_lrsched.errors import InputError
from lit_lrsched.optim.clock import OnHorizonChange
from lit_lrsched.optim.from_torch import FromTorch
from lit_lrsched.optim.regroup import regroup
from lit_lrsched.plans.audit import Finding
from lit_lrsched.plans.preview import named, show
from lit_lrsched.plans.view import View
from lit_lrsched.schedules import load_all
from lit_lrsched.schedules.core import Interval, Schedule
from lit_lrsched.schedules.direction import direction_for
from lit_lrsched.trainer.callbacks.apply_schedule import ApplySchedule
from lit_lrsched.trainer.callbacks.learning_rate_logger import LearningRateLogger
from lit_lrsched.trainer.callbacks.receipt import Receipt
from lit_lrsched.trainer.callbacks.start_audit import AuditLevel, StartAudit, TrainingRefused
from lit_lrsched.trainer.callbacks.stop_cleanly import StopCleanly
from lit_lrsched.trainer.callbacks.tensorboard_run import TensorBoardRun as Storyboard
from lit_lrsched.trainer.fit_plan import DoesNotFit, configure, plans_of, view_fit
from lit_lrsched.trainer.interrupts import Interrupted, interrupts_of_lightning
from lit_lrsched.trainer.lightning_internals import optimizers_in
from lit_lrsched.trainer.lightning_package import rank_zero_info

# Without this jsonargparse takes a dataclass for one closed type and offers no subclasses.
set_parsing_settings(subclasses_enabled=[Schedule])
load_all()
# Lightning's own variant, which carries `monitor`, would make the short name ambiguous; here --lr_monitor does that.
# jsonargparse offers no local classes.
_LightningPlateau.__qualname__ = f"lightning.<locals>.{_LightningPlateau.__name__}"

OptimizerOption = Callable[[Iterable], Optimizer]  # type: ignore[type-arg]  # as jsonargparse knows it
# Only a class that is loaded can be given by its short name.
SCHEDULES_WITH_TORCH = (FromTorch,)
MISTAKES = (InputError, MisconfigurationException)
OWN_SUBCOMMANDS = {
    "preview": "Show the learning rate that fit would use, without training.",
    "compare": "Race schedules against each other over peak rates and seeds, and say which differ.",
}

_OPTIONS = ("optimizer", "lr_scheduler", "lr_interval", "lr_monitor", "lr_groups", "on_horizon_change")
LRSchedulerOption = Union[Schedule, Callable[[Optimizer], LRScheduler], None]


class ScheduleParser(CommaLists, OneLineErrors, OwnArguments):
    """Lightning's parser, which takes lists typed with commas and answers a mistake with one line and exit status 2."""


class ScheduleCLI(LightningCLI):
    """A ``LightningCLI`` with a learning-rate schedule for any model.

    Use it in place of ``LightningCLI``; it takes the same arguments. It adds the options ``--optimizer``,
    ``--lr_scheduler``, ``--lr_interval``, ``--lr_monitor``, ``--lr_groups`` and ``--on_horizon_change``, and
    ``--audit``: ``fit`` refuses to train what ``preview`` calls a failure. A model whose
    constructor has parameters of these names receives them. Any other model's ``configure_optimizers`` is left alone
    when none is given, keeps its optimizer when only ``--lr_scheduler`` is given, and gives way to both together.

    A mistake in the arguments of the process ends it with status 2 and one line; where ``args`` are given it is an
    ``InputError``.

    Example::

        ScheduleCLI(MyModel, MyDataModule)
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._from_process = kwargs.get("args") is None
        own = {
            "parser_class": ScheduleParser,
            "auto_configure_optimizers": False,
            "save_config_callback": SaveConfig,
        }
        try:
            super().__init__(*args, **{**own, **kwargs})
        except (ValueError, MisconfigurationException) as error:
            mistake = mistake_behind(error, MISTAKES)
            if mistake is None:
                raise
            if not self._from_process:
                raise InputError(str(mistake)) from error
            print(f"error: {mistake}", file=sys.stderr)
            sys.exit(2)

    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds the options of this class, and the callbacks that are there by default."""
        super().add_default_arguments_to_parser(parser)
        parser.add_argument(
            "--optimizer", type=Optional[OptimizerOption], help="The optimizer: its class and arguments."
        )
        parser.add_argument(
            "--lr_scheduler",
            type=LRSchedulerOption,
            help="The learning-rate schedule: one of lit_lrsched, or any class of torch.optim.lr_scheduler.",
        )
        parser.add_argument(
            "--lr_interval",
            type=Optional[Interval],
            help="When to step the schedule. Default: 'epoch' for torch's classes, 'step' for lit_lrsched's.",
        )
        parser.add_argument(
            "--lr_monitor", type=Optional[str], help="The metric that a metric-driven schedule follows."
        )
        parser.add_argument(
            "--lr_groups",
            type=Optional[dict[str, Schedule]],
            help="Schedules for the rest, by what they drive: momentum, weight_decay, or one group's: lr/backbone.",
        )
        parser.add_argument(
            "--on_horizon_change",
            type=Optional[OnHorizonChange],
            help="What a resumed run does when its length has changed. Default: 'replan'.",
        )
        parser.add_argument(
            "--audit",
            type=AuditLevel,
            default="error",
            help="What fit does when the schedule and the run do not go together, as preview tells: refuse to train, "
            "warn, or nothing. With fast_dev_run there is no audit.",
        )
        parser.add_lightning_class_args(LearningRateLogger, "lr_logger")

    def _add_subcommands(self, parser: LightningArgumentParser, **kwargs: Any) -> None:
        """Adds the trainer's subcommands, and those that are methods of this class."""
        every = self.subcommands()
        # A parser takes a tenth of a second to build, so where one is asked for the others are left out.
        asked = {*sys.argv[1:2]} & {*every, *OWN_SUBCOMMANDS} if self._from_process else set()
        wanted = {name: skip for name, skip in every.items() if name in asked or not asked}
        with patch.object(self, "subcommands", lambda: wanted):
            super()._add_subcommands(parser, **kwargs)
        for name, summary in OWN_SUBCOMMANDS.items():
            if asked and name not in asked:
                continue
            own = self.init_parser(description=summary)
            self._add_arguments(own)
            added = own.add_method_arguments(type(self), name, skip={"model", "datamodule"})
            if name == "preview":  # so that it takes what was written for fit
                added += own.add_method_arguments(Trainer, "fit", skip=set(every["fit"]))
            self._subcommand_method_arguments[name] = added
            self._subcommand_parsers[name] = own
            assert parser._subcommands_action is not None
            parser._subcommands_action.add_subcommand(name, own, help=summary)

    def _run_subcommand(self, subcommand: str) -> None:
        if subcommand in OWN_SUBCOMMANDS:
            try:
                getattr(self, subcommand)(**self._prepare_subcommand_kwargs(subcommand))
            except KeyboardInterrupt as stop:
                if subcommand != "compare":
                    raise
                if self.trainer.is_global_zero:
                    going_on = shlex.join(["lit-lrsched", *sys.argv[1:]])
                    print(f"\nInterrupted. The trainings that were finished are kept. To go on:\n  {going_on}")
                raise Interrupted(getattr(stop, "number", signal.SIGINT), announced=True) from None
            return
        new = NewFolders(self.trainer.loggers if self.trainer.is_global_zero else [])
        saves = "folder" in self.save_config_kwargs and not self.save_config_kwargs.get("overwrite")
        if saves and self.trainer.is_global_zero and isinstance(self.trainer.logger, (TensorBoardLogger, CSVLogger)):
            self.run_folder.refuse_another_run(self.trainer)  # before these loggers write there
        try:
            with interrupts_of_lightning():
                super()._run_subcommand(subcommand)
        except Exception as error:
            mistake = mistake_behind(error, MISTAKES)
            if mistake is not None and not self._start_audit.begun:
                new.remove()
            if isinstance(mistake, TrainingRefused):
                if self._from_process and not self.trainer.is_global_zero:
                    sys.exit(2)  # every process refuses, one says why
                raise InputError(f"{mistake.reason} (--audit warn trains anyway)") from error
            raise

    def _parse_ckpt_path(self) -> None:
        """Looks into the checkpoint for hyperparameters, as Lightning does, and refuses one that cannot be loaded."""
        try:
            super()._parse_ckpt_path()
        except pickle.UnpicklingError as error:
            raise InputError(
                f"{self._checkpoint()}: it is damaged, or holds objects, which could run any code when loaded: "
                "give a checkpoint of weights and plain values"
            ) from error
        except (RuntimeError, EOFError, AttributeError) as error:
            raise InputError(f"{self._checkpoint()}: it is damaged, or no checkpoint: give another one") from error

    def _checkpoint(self) -> str:
        return f"ckpt_path={self.config[self.config.subcommand].ckpt_path!r}"

    def before_instantiate_classes(self) -> None:
        """Hands the options on to a model whose constructor has parameters of these names."""
        config = self.config[self.subcommand] if self.subcommand else self.config
        model = config.get("model") or Namespace()  # type: ignore[no-untyped-call]  # a class without arguments leaves nothing to configure
        arguments = model.get("init_args", model)
        given = {name: config[name] for name in _OPTIONS if config.get(name) is not None}
        self._from_outside = not all(name in arguments for name in given)
        if not self._from_outside:
            for name, value in given.items():
                arguments[name] = value
        elif "lr_scheduler" not in given and given.keys() != {"optimizer"}:
            raise InputError(f"--{min(given.keys() - {'optimizer'})} says nothing by itself: give --lr_scheduler too")
        self.run_folder = RunFolder(config.get("ckpt_path") if self.subcommand == "fit" else None)
        checkpoint = config.get("ckpt_path") or "last"
        is_path = checkpoint not in ("last", "best", "hpc") and "://" not in checkpoint
        if is_path and not Path(checkpoint).exists():
            raise InputError(f"ckpt_path={checkpoint!r}: there is no such checkpoint")

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Makes the trainer, with what this class promises of it."""
        _check_optimizer(self._get(self.config_init, "optimizer"))
        options = self._get(self.config_init, "trainer")
        if options.profiler is None and not options.barebones:
            kwargs["profiler"] = _NoProfiler()
        callbacks = [*(options.callbacks or []), *self._applied_from_outside()]
        if self.subcommand in OWN_SUBCOMMANDS:
            self.save_config_callback = None
            kwargs["logger"] = DummyLogger()  # they write no run
        else:
            self._start_audit = StartAudit(self._get(self.config_init, "audit"))
            callbacks += [self._start_audit, Receipt(), Storyboard(), StopCleanly(self._going_on)]
            if options.logger is False or options.barebones:
                self.save_config_callback = None  # there is no run's folder to keep it in, and others may hold theirs
            elif options.logger in (None, True):
                kwargs["logger"] = self._logger(options.default_root_dir or ".")
        if self.save_config_callback is not None and issubclass(self.save_config_callback, SaveConfig):
            self.save_config_kwargs["folder"] = self.run_folder
        return super().instantiate_trainer(callbacks=callbacks, **kwargs)

    def _applied_from_outside(self) -> list[Callback]:
        """Gives optimizer and schedule to a model whose constructor takes neither, and says what is replaced."""
        if not self._from_outside:
            return []
        given = {name: self._get(self.config_init, name) for name in _OPTIONS}
        module, optimizer, schedule = type(self.model).__name__, given.pop("optimizer"), given.pop("lr_scheduler")
        if optimizer is not None:
            own = self.model.configure_optimizers if is_overridden("configure_optimizers", self.model) else None

            def configure_optimizers(model: LightningModule) -> Optimizer:
                return _in_place_of(own, optimizer, model)

            cast("Any", self.model).configure_optimizers = MethodType(configure_optimizers, self.model)
            rest = "" if schedule is not None else ", its schedule included"
            rank_zero_info(f"--optimizer takes the place of {module}.configure_optimizers{rest}.")
        if schedule is None:
            return []
        names = {name.removeprefix("lr_"): value for name, value in given.items() if value is not None}
        return [ApplySchedule(schedule, **names, replace=True)]

    def _logger(self, folder: str) -> TensorBoardLogger:
        """Returns the trainer's default logger; a resumed run goes on in the folder that it began in."""
        checkpoint = self._get(self.config, "ckpt_path") if self.subcommand == "fit" else None
        run = Path(checkpoint).resolve().parents[1] if checkpoint and Path(checkpoint).is_file() else None
        if run is None or run.parent != Path(folder, "lightning_logs").resolve():
            return OwnVersionLogger(folder, "lightning_logs", default_hp_metric=False)
        self.save_config_kwargs["overwrite"] = True
        # What the interrupted run logged after the checkpoint happens again: TensorBoard shall forget the first time.
        step = torch.load(cast("str", checkpoint), weights_only=True, map_location="cpu")["global_step"]
        return TensorBoardLogger(folder, "lightning_logs", run.name, default_hp_metric=False, purge_step=step)

    def _going_on(self) -> list[str]:
        """Returns the command that repeats this run, to which the checkpoint is added."""
        folder = self.run_folder(self.trainer)
        if folder is None or not Path(folder, CONFIG).exists():
            return ["lit-lrsched", *sys.argv[1:]]
        return ["lit-lrsched", "fit", "--config", str(shortest_path(Path(folder, CONFIG)))]

    def preview(
        self,
        model: LightningModule,
        datamodule: Optional[LightningDataModule] = None,
        schedules: Optional[Union[dict[str, LRSchedulerOption], list[LRSchedulerOption]]] = None,
        metric: Optional[str] = None,
        png: Optional[str] = "preview.png",
        csv: Optional[str] = None,
        epochs: Optional[int] = None,
        steps_per_epoch: Optional[int] = None,
        lr: Optional[float] = None,
        **of_fit: Any,
    ) -> None:
        """Shows the learning rate that ``fit`` would use with the same options: a table, a picture and warnings.

        Nothing is trained. Exits with status 1 when it finds a failure.

        Args:
            model: The module to train.
            datamodule: The data to train it on.
            schedules: Schedules to set side by side in place of the module's own, by name or as a list.
            metric: File with a recorded metric for a metric-driven schedule to follow: one number a line, or a CSV
                with a column of the metric's name.
            png: File for the picture.
            csv: File for every tick of the schedule.
            epochs: With steps_per_epoch: previews the schedule alone, at once, without model and data.
            steps_per_epoch: Optimizer steps in an epoch.
            lr: The base learning rate for that. By default factors are shown.
            of_fit: What else ``fit`` takes.

        Raises:
            InputError: When a file cannot be read or written.
        """
        if epochs or steps_per_epoch:
            raise InputError("epochs and steps_per_epoch belong together: give both as options of the command")
        views: dict[str, View] = {}
        refused: list[Finding] = []
        try:
            run = configure(self.trainer, model, datamodule)
        except DoesNotFit as error:
            refused.append(Finding("failure", str(error)))
        else:
            if schedules:
                options = {name: self._get(self.config_init, f"lr_{name}") for name in ("interval", "monitor")}
                plans, refused = plans_of(self.trainer, run, named(schedules), **options)
                views = {name: View.of(plan) for name, plan in plans.items()}
            else:
                views[""] = view_fit(self.trainer, run, metric)
        if status := show(views, refused, png, csv):
            sys.exit(status)

    def compare(
        self,
        model: LightningModule,
        datamodule: Optional[LightningDataModule] = None,
        schedules: Optional[Union[dict[str, LRSchedulerOption], list[LRSchedulerOption]]] = None,
        lrs: Optional[list[float]] = None,
        momenta: Optional[list[float]] = None,
        seeds: Union[int, list[int]] = 20,
        metric: str = "val_acc",
        mode: Optional[Literal["min", "max"]] = None,
        reference: Optional[str] = None,
        target: Optional[float] = None,
        engine: Literal["auto", "vectorized", "sequential"] = "auto",
        compile: Optional[bool] = None,
        folder: Optional[str] = None,
        export: Optional[str] = None,
    ) -> None:
        """Races every schedule over the same peak rates and seeds, and says which differ by more than luck.

        Each schedule is tuned on validation data and judged on test data. The same command takes an interrupted race
        up again. ``--trainer.max_epochs`` sets the length of each training. The module keeps its optimizer, unless
        ``--optimizer`` gives another; what races is said first.

        Args:
            model: The module to train.
            datamodule: The data to train it on; one that takes ``seed`` is split anew for every seed.
            schedules: What races, by name or as a list. Default: the tutorial's four and six from the catalogue. That
                of --lr_scheduler races too.
            lrs: Peak learning rates. Default: 0.1, 0.3, 1, 3 and 10 times the optimizer's own; 0.03 to 3 for the worked
                example with SGD.
            momenta: Momenta. Default: the optimizer's own; 0 and 0.9 for the worked example with SGD.
            seeds: How many seeds, or which.
            metric: The logged metric that tunes, such as val_acc; test_acc then judges.
            mode: max when the metric should be high, min when it should be low. Default: as its name tells.
            reference: The schedule to hold the others against. Default: the one called constant.
            target: Validation metric for the time to target. Default: where the reference ends.
            engine: All runs in one program (vectorized), or one Trainer.fit a run (sequential).
            compile: Whether to compile the vectorized program. Default: where it pays for itself.
            folder: Where the results go. Default: a folder of lightning_logs named after the race.
            export: File for the winning configuration, ready for fit --config.

        Raises:
            InputError: For an empty grid or an unknown metric.
        """
        from lit_lrsched.comparison import defaults
        from lit_lrsched.comparison.grid import grid_of
        from lit_lrsched.comparison.own_optimizer import OwnOptimizer
        from lit_lrsched.comparison.race import race

        direction = direction_for("metric", metric, mode)
        if datamodule is None:
            raise InputError("a race needs data with a test part: give --data")
        config = self.config[self.subcommand]
        if self._get(self.config_init, "lr_groups"):
            raise InputError("a race has no schedules for single groups or momentum: leave --lr_groups out")
        epochs = self.trainer.max_epochs or 0
        grid = grid_of(
            self._from_seed,
            self._racing(defaults.SCHEDULES if schedules is None else named(schedules)),
            lrs=lrs,
            momenta=momenta,
            seeds=tuple(range(seeds)) if isinstance(seeds, int) else tuple(seeds),
            optimizer=self._get(self.config_init, "optimizer"),
            epochs=epochs,
            interval=self._get(self.config_init, "lr_interval"),
            monitor=self._get(self.config_init, "lr_monitor"),
        )
        if export is not None and isinstance(grid.optimizer, OwnOptimizer):
            grid.optimizer.written()  # so that it is refused before the race and not after it
        size = f"{len(grid.schedules)} schedules x {len(grid.lrs)} rates x {len(grid.momenta)} momenta"
        if self.trainer.is_global_zero:
            print(f"{len(grid.entries())} trainings: {size} x {len(grid.seeds)} seeds, {epochs} epochs each.")
            print(textwrap.fill(grid.opening(), 100))
            print(f"{metric} tunes: {'higher' if direction == 'max' else 'lower'} is better.")
        parts = yaml.safe_load(self._parser("compare").dump(config, skip_validation=True))
        finished = race(
            grid,
            self._from_seed,
            {"model": type(model).__name__, "data": type(datamodule).__name__},
            identity=[parts.get("model"), parts.get("data")],
            epochs=epochs,
            metric=metric,
            mode=direction,
            reference=reference,
            target=target,
            engine=engine,
            compile=compile,
            strategy=self.trainer.strategy,
            folder=folder,
        )
        if not self.trainer.is_global_zero:
            return
        finished.show()
        if finished.summary.wider_lrs:
            print(f"The wider grid: --lrs '[{', '.join(f'{lr:g}' for lr in finished.summary.wider_lrs)}]'")
        print(f"Report: {finished.folder / 'report.html'}")
        print(f"TensorBoard: tensorboard --logdir {shlex.quote(str(finished.folder / 'tensorboard'))}")
        if export is not None:
            finished.export(export, {name: parts[name] for name in ("model", "data") if parts.get(name)})
            print(f"The best: lit-lrsched fit --config {shlex.quote(export)}")

    def _racing(self, schedules: dict[str, Any]) -> dict[str, Any]:
        """Returns the schedules that race: these, and the one that ``fit`` would use if it was given."""
        given = self._get(self.config_init, "lr_scheduler")
        if given is None or any(to_plain(given) == to_plain(schedule) for schedule in schedules.values()):
            return schedules
        (name,) = named([given])
        return {**schedules, (f"{name} (--lr_scheduler)" if name in schedules else name): given}

    def _from_seed(self, seed: int) -> tuple[LightningModule, LightningDataModule]:
        """Builds model and data anew, as a ``fit`` with this seed would."""
        seed_everything(seed, verbose=False)
        config = self.config.clone()
        data = config[self.subcommand].data
        arguments = data.get("init_args", data)
        if "seed" in arguments:
            arguments.seed = seed
        made = self.parser.instantiate_classes(config)[self.subcommand]
        return made.model, made.data


def _in_place_of(own: Callable[[], Any] | None, optimizer: Any, model: LightningModule) -> Optimizer:
    """Returns the optimizer that was asked for, over the param groups of the module's own where it has some."""
    module, present = type(model).__name__, []
    try:
        returned = own() if own else None
        present = optimizers_in(returned)[0] if returned is not None else []
    except Exception as error:
        # What is replaced need not work: its schedule may not fit this run, say.
        rank_zero_info(f"{module}.configure_optimizers fails, so its param groups are not known: {error}")
    if len(present) > 1:
        raise InputError(
            f"--optimizer is one optimizer, and {module}.configure_optimizers returns {len(present)}: leave it out"
        )
    if not present:
        made: Optimizer = optimizer(model.parameters())
        return made
    regrouped, kept = regroup(optimizer, present[0])
    if kept:
        rank_zero_info(f"{module}'s {kept}.")
    return regrouped


def _check_optimizer(make: OptimizerOption | None) -> None:
    """Refuses an optimizer whose arguments are out of range before anything is written for its run."""
    if make is None:
        return
    try:
        make([torch.nn.Parameter(torch.zeros(1, 1))])  # of two dimensions, for Muon takes no other
    except ValueError as error:
        raise InputError(f"optimizer: it refuses its arguments: {error}: correct them") from error


class _NoProfiler(PassThroughProfiler):
    """Profiles nothing, as by default, but without a generator for every hook of every callback.

    Where a step is as small as the worked example's, those take a sixteenth of the time.
    """

    _nothing = nullcontext()

    def profile(self, action_name: str) -> AbstractContextManager[Any]:  # type: ignore[override]
        return self._nothing

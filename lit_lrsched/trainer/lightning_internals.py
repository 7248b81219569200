"""Lightning's private names, each behind a function. Checked with Lightning 2.6.6."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch.optim import Optimizer

from lit_lrsched.trainer.lightning_package import (
    Callback,
    LightningDataModule,
    LightningModule,
    LRSchedulerConfig,
    Trainer,
    either,
    part_of_lightning,
)

_optimizer = part_of_lightning("core.optimizer")
_fit_loop = part_of_lightning("loops.fit_loop")
_launchers = part_of_lightning("strategies.launchers")

FIRST_HYPERPARAMETERS = "_hparams_initial"
"""The attribute in which a module keeps a copy of its hyperparameters for loggers, with all that these hold."""


def log_no_hyperparameters(data: LightningDataModule) -> None:
    """Keeps a trainer with a logger from merging them with the module's, and refusing those that differ."""
    data._log_hyperparams = False


def hyperparameters_to_log(module: LightningModule) -> dict[str, Any]:
    """Returns the hyperparameters of a module that loggers will be given, themselves: the public name is of a copy."""
    found = getattr(module, FIRST_HYPERPARAMETERS, None)
    return found if isinstance(found, dict) else {}  # OmegaConf's are plain


def begin_fit(trainer: Trainer, model: LightningModule, datamodule: LightningDataModule | None) -> None:
    """Takes the steps of ``Trainer.fit`` that come before ``configure_optimizers`` and launch no processes.

    Data, callbacks of the module, ``prepare_data``, ``setup`` and ``configure_model``: no public method stops there.
    """
    states, call = part_of_lightning("trainer.states", trainer), part_of_lightning("trainer.call", trainer)
    loop_limits = part_of_lightning("loops.utilities", trainer)
    trainer.state.fn = states.TrainerFn.FITTING
    trainer.state.status = states.TrainerStatus.RUNNING
    trainer.state.stage = states.RunningStage.TRAINING
    trainer.strategy._lightning_module = model
    loop = trainer.fit_loop
    loop.min_epochs, loop.max_epochs = loop_limits._parse_loop_limits(
        loop.min_steps, loop.max_steps, loop.min_epochs, loop.max_epochs, trainer
    )
    trainer._data_connector.attach_data(model, datamodule=datamodule)
    trainer.strategy.connect(model)
    trainer._callback_connector._attach_model_callbacks()
    trainer._callback_connector._attach_model_logging_functions()
    trainer._data_connector.prepare_data()
    call._call_setup_hook(trainer)
    call._call_configure_model(trainer)


def configured_optimizers(model: LightningModule) -> tuple[list[Optimizer], list[LRSchedulerConfig]]:
    """Calls ``configure_optimizers`` and checks what it returns as ``fit`` does: its result has many spellings."""
    optimizers, configs = _optimizer._init_optimizers_and_lr_schedulers(model)
    return optimizers, configs


def optimizers_in(returned: Any) -> tuple[list[Optimizer], list[Any]]:
    """Returns the optimizers and schedulers in any of the spellings that ``configure_optimizers`` may return."""
    optimizers, schedulers, _ = _optimizer._configure_optimizers(returned)
    return optimizers, schedulers


def loaded_checkpoint(trainer: Trainer) -> Mapping[str, Any]:
    """Returns the checkpoint that a run goes on from, while it starts: its loops are taken up only later."""
    checkpoint: Mapping[str, Any] = trainer._checkpoint_connector._loaded_checkpoint
    return checkpoint


def load_checkpoint(trainer: Trainer, path: str, weights_only: bool | None) -> None:
    """Reads a checkpoint as ``fit`` does before it makes optimizers."""
    trainer._checkpoint_connector.resume_start(path, weights_only)


def take_up_checkpoint(trainer: Trainer) -> None:
    """Takes up module and data of the checkpoint that was read, as ``fit`` does before it makes optimizers."""
    trainer._checkpoint_connector.restore_model()
    trainer._checkpoint_connector.restore_datamodule()


def is_accumulating(trainer: Trainer) -> bool:
    """Returns whether gradients are half accumulated: the optimizer step of this batch is still to come."""
    return bool(trainer.fit_loop._should_accumulate())


def resume_data_loaders(trainer: Trainer) -> None:
    """Lets stateful data loaders of a resumed run go on where they were, when they were set up before their time.

    Lightning does so while it sets up the data. To know the horizon, that was done before the trainer had taken up the
    checkpoint's loops, and the states of the loaders are still waiting.
    """
    loop = trainer.fit_loop
    if loop._combined_loader_states_to_load and loop.restarting and loop._data_fetcher is not None:
        loop._load_combined_loader_states()
        iter(loop._data_fetcher)


def has_resumable_loaders(trainer: Trainer) -> bool:
    """Returns whether all data loaders of the training can go on in the middle of an epoch, once they are set up."""
    loader = trainer.fit_loop._combined_loader
    return loader is not None and all(hasattr(one, "load_state_dict") for one in loader.flattened)


def tell_epoch(loader: Any, epoch: int) -> None:
    """Tells the sampler of a data loader which epoch begins, where it wants to know (``set_epoch``)."""
    _fit_loop._set_sampler_epoch(loader, epoch)


def callbacks_of(trainer: Trainer) -> list[Callback]:
    """Returns the trainer's callbacks: an attribute that Lightning sets from elsewhere, unknown to type checkers."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return callbacks


def set_callbacks(trainer: Trainer, callbacks: list[Callback]) -> None:
    """Gives the trainer a new list of callbacks: it may be going through the old one, which stays as it is."""
    trainer.callbacks = callbacks  # type: ignore[attr-defined]


def spawns_functions(strategy: Any) -> bool:
    """Returns whether a strategy forks or spawns functions: its launcher has no public name."""
    return isinstance(strategy.launcher, either(_launchers._MultiProcessingLauncher))


def runs_script_again(strategy: Any) -> bool:
    """Returns whether a strategy runs the script once a device: its launcher has no public name."""
    return isinstance(strategy.launcher, either(_launchers._SubprocessScriptLauncher))

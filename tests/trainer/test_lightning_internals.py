"""Lightning's private names: the installed version has each that is used."""

from __future__ import annotations

import ast
import inspect
from operator import attrgetter
from typing import Any

import pytest
from lightning.pytorch import LightningDataModule

from lit_lrsched.trainer import lightning_internals
from lit_lrsched.trainer.lightning_package import part_of_lightning
from tests.training import Tiny, tiny_trainer

NAMES = [
    "_optimizer._init_optimizers_and_lr_schedulers",
    "_optimizer._configure_optimizers",
    "loop_limits._parse_loop_limits",
    "call._call_setup_hook",
    "call._call_configure_model",
    "trainer.strategy._lightning_module",
    "trainer._data_connector.attach_data",
    "trainer._data_connector.prepare_data",
    "trainer._callback_connector._attach_model_callbacks",
    "trainer._callback_connector._attach_model_logging_functions",
    "trainer._checkpoint_connector._loaded_checkpoint",
    "trainer._checkpoint_connector.resume_start",
    "trainer._checkpoint_connector.restore_model",
    "trainer._checkpoint_connector.restore_datamodule",
    "trainer.fit_loop._should_accumulate",
    "trainer.fit_loop._combined_loader",
    "trainer.fit_loop._combined_loader_states_to_load",
    "trainer.fit_loop._load_combined_loader_states",
    "trainer.fit_loop._data_fetcher",
    "trainer.callbacks",
    "data._log_hyperparams",
    "_fit_loop._set_sampler_epoch",
    "_launchers._MultiProcessingLauncher",
    "_launchers._SubprocessScriptLauncher",
]


@pytest.fixture(scope="module")
def trainer() -> Any:
    return tiny_trainer()


@pytest.mark.parametrize("name", NAMES)
def test_the_installed_version_has_it(name, trainer):
    start, _, rest = name.partition(".")
    parts = {"call": part_of_lightning("trainer.call"), "loop_limits": part_of_lightning("loops.utilities")}
    objects = {"trainer": trainer, "data": LightningDataModule(), **parts}
    attrgetter(rest)(objects[start] if start in objects else getattr(lightning_internals, start))


def test_the_list_is_whole():
    tree = ast.parse(inspect.getsource(lightning_internals))
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr.startswith("_")}
    assert used == {part for name in NAMES for part in name.split(".")[1:] if part.startswith("_")}


def test_optimizers_in_any_spelling():
    module = Tiny(Tiny.make_optimizer)
    optimizer = module.make_optimizer()
    for returned in (optimizer, [optimizer], ([optimizer], []), {"optimizer": optimizer}):
        assert lightning_internals.optimizers_in(returned) == ([optimizer], [])

"""A row of TensorBoard's HParams tab."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def hparams_summary(name: str, hyperparameters: Mapping[str, str | float | bool]) -> Any:
    """Returns what makes a run a row of the HParams tab, to be written among its scalars: their last values join it.

    There is no list of columns: where one run has such a list TensorBoard takes it for all runs, and otherwise it makes
    columns of all that it finds.

    Args:
        name: The row's name.
        hyperparameters: The columns.
    """
    # TensorBoard's own: torch.utils.tensorboard has the same and takes seconds to import.
    from tensorboard.plugins.hparams import summary_v2

    return summary_v2.hparams_pb(dict(hyperparameters), trial_id=name)


def hparams_of(row: bytes) -> dict[str, Any]:
    """Returns the hyperparameters of a row, as an event file holds it."""
    from tensorboard.plugins.hparams import metadata

    values = metadata.parse_session_start_info_plugin_data(row).hparams
    return {name: getattr(value, value.WhichOneof("kind")) for name, value in values.items()}

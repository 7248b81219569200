"""The rate that was found, as a configuration ready for ``lit-lrsched fit --config``."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from lit_lrsched.comparison.export import options_of, plain_racing, plain_schedule, without_schedule_options
from lit_lrsched.comparison.own_schedule import OwnSchedule
from lit_lrsched.comparison.rate_arguments import Remake, model_at
from lit_lrsched.search.subject import Subject, epochs_in


def exported(subject: Subject, lr: float, epochs: int, config: Mapping[str, Any], remake: Remake) -> dict[str, Any]:
    """Returns a configuration that trains at a rate, as plain values by option.

    Args:
        subject: What was trained.
        lr: The rate of the first param group.
        epochs: Epochs of the run.
        config: The rest of the configuration: model and data, as far as they are known.
        remake: Makes the module anew, other arguments given.

    Raises:
        InputError: When no configuration sets the rate of the module's optimizer.
    """
    content, grid = deepcopy(dict(config)), subject.grid
    own, (schedule,) = grid.optimizer, grid.schedules.values()
    more: dict[str, Any] = {}
    if isinstance(schedule, OwnSchedule) and not subject.of_argument:
        # ``fit --optimizer`` would leave the module's own schedule out.
        horizon = subject.horizon
        content["model"] = model_at(
            config, lr, own, remake, regime=grid.regime, epochs=epochs_in(horizon), steps=horizon.steps
        )
    else:
        more["optimizer"] = plain_racing(own, lr)
    options = options_of(grid)
    if not isinstance(schedule, OwnSchedule) and (subject.is_given or subject.of_argument or grid.groups):
        more["lr_scheduler"] = plain_schedule(schedule)
    else:
        options = without_schedule_options(options)
    trainer = {**content.pop("trainer", {}), **options.pop("trainer"), "max_epochs": epochs}
    return {**content, **more, **options, "trainer": trainer}

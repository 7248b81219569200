"""What decides the result of a run besides its key: by it a folder's runs are told from those of another race."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch.nn.parameter import is_lazy

from lit_lrsched.class_paths import without_partial
from lit_lrsched.comparison.described import described, digest_of
from lit_lrsched.comparison.engine.regime import FULL
from lit_lrsched.comparison.engine.setting_up import Build
from lit_lrsched.comparison.grid import Grid
from lit_lrsched.comparison.own_schedule import OwnSchedule
from lit_lrsched.comparison.racing_optimizer import RacingOptimizer, Regrouped
from lit_lrsched.comparison.splits import LOOKED_FOR, Seen, check_seeded, rows_seen
from lit_lrsched.errors import shown
from lit_lrsched.optim.param_groups import get_value, momentum_of, set_value
from lit_lrsched.trainer.lightning_package import LightningModule, isolate_rng


@dataclass(frozen=True)
class Part:
    """One part of a definition.

    Args:
        words: What a message calls it.
        digest: Equal for equal parts.
    """

    words: str
    digest: str


@dataclass(frozen=True)
class Definition:
    """All that decides the result of a run besides its key.

    Args:
        parts: Model, data, optimizer, epochs, interval and monitor, by these names.
        schedules: The schedules, by the names under which they race.
    """

    parts: Mapping[str, Part] = field(default_factory=dict)
    schedules: Mapping[str, Part] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """Equal for equal definitions."""
        return digest_of(self.as_json())

    def with_schedules_of(self, other: Definition) -> Definition:
        """Returns this definition with the schedules of another beside its own."""
        return Definition(self.parts, {**other.schedules, **self.schedules})

    def differences(self, earlier: Definition) -> list[str]:
        """Returns in words where an earlier race differs; schedules that one of the two lacks may come along.

        >>> now = Definition({"epochs": Part("5", "5")}, {"rex": Part("Rex()", "1")})
        >>> now.differences(Definition({"epochs": Part("3", "3")}, {"linear": Part("Linear()", "2")}))
        ['epochs=3, here 5']
        """
        before, now = ({**_UNSAID, **one.parts} if one.parts else {} for one in (earlier, self))
        return [*_differences(before, now), *_differences(earlier.schedules, self.schedules, "schedule ")]

    def as_json(self) -> str:
        """Returns it as text."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Definition:
        """Returns what :meth:`as_json` wrote."""
        written = json.loads(text)
        return cls(*({name: Part(**part) for name, part in written[key].items()} for key in ("parts", "schedules")))


def _differences(earlier: Mapping[str, Part], now: Mapping[str, Part], kind: str = "") -> list[str]:
    found = []
    for name in sorted(earlier.keys() & now.keys()):
        before, here = earlier[name], now[name]
        if before.words != here.words:
            found.append(f"{kind}{name}={before.words}, here {here.words}")
        elif before.digest != here.digest:
            found.append(f"another {kind}{name}, {here.words}" if here.words != name else f"another {kind}{name}")
    return found


def definition_of(build: Build, grid: Grid, epochs: int, identity: Mapping[str, Any]) -> Definition:
    """Returns what decides the results of a race.

    Args:
        build: Takes a seed and returns the module and its data.
        grid: What races.
        epochs: Epochs of each training.
        identity: What ``model`` and ``data`` were made from, as far as it is known.

    Raises:
        InputError: When one seed makes different data each time.
    """
    with isolate_rng():
        module, data = build(0)
    seen = rows_seen(build), rows_seen(build)
    check_seeded(data, *seen)
    # Those of training and test stay a part of the data: by them folders of earlier versions are known, and go on.
    first = [[rows and rows[:LOOKED_FOR] for _, rows in (*each.values(),)[:2]] or None for each in seen]
    shared = {
        "model": _part(type(module).__name__, [identity.get("model"), _module(module)]),
        "data": _part(
            type(data).__name__, [identity.get("data"), described(data), first[0] if first[0] == first[1] else None]
        ),
        "content of the data": _rows(*seen),
        "optimizer": _optimizer(grid),
        "epochs": _part(str(epochs), epochs),
        "interval": _part(str(grid.interval), grid.interval),
        "monitor": _part(str(grid.monitor), grid.monitor),
        "groups": _part(", ".join(grid.groups or ()) or "None", grid.groups),
        "gradient clipping": _part(str(grid.regime.clip), grid.regime.clip),
        **{name: _part(str(value), value) for name, value in replace(grid.regime, clip=None).options().items()},
    }
    return Definition(shared, {name: _schedule(schedule) for name, schedule in grid.schedules.items()})


def _rows(one: Seen, other: Seen) -> Part:
    """Describes the rows that there are; of those that differ each time that they are made, as by noise, how many."""
    same = {stage: rows if rows == other.get(stage) else rows[0] for stage, rows in one.items()}
    return _part(", ".join(f"{n} {stage} rows" for stage, (n, _) in one.items()), same)


def _part(words: str, value: Any) -> Part:
    return Part(words, digest_of(described(value)))


def _schedule(schedule: Any) -> Part:
    if isinstance(schedule, OwnSchedule):
        factors = (schedule.rates / schedule.rates.max()).round(12)  # the rate itself is in the key
        values = [factors, schedule.momenta, schedule.weight_decays]
        return _part(schedule.name, [schedule.name, *values, schedule.plateau])
    target = without_partial(schedule)
    words = (
        shown(schedule) if dataclasses.is_dataclass(schedule) else getattr(target, "__name__", type(target).__name__)
    )
    return _part(words, schedule)


def _module(module: LightningModule) -> Any:
    return [
        described(module),
        [
            [name, None if is_lazy(p) else list(p.shape), str(p.dtype), p.requires_grad]
            for name, p in module.named_parameters()
        ],
        [[name, None if is_lazy(buffer) else described(buffer)] for name, buffer in module.named_buffers()],
    ]


def _optimizer(grid: Grid) -> Part:
    """Describes the optimizer without the rate, the momentum and the weight decay, which are in the key of a run."""
    own = grid.optimizer
    source: list[Any] = [own.members, own.count] if own.keeps_groups else []
    make = own.make.make if isinstance(own.make, Regrouped) else own.make
    if make is not None and not isinstance(without_partial(make), type):
        source.append(make)
    words = own.func.__name__ if own.make else str(own)
    return _part(words, [own.func, _without_rates(own), source])


def _without_rates(own: RacingOptimizer) -> list[dict[str, Any]]:
    """Returns the param groups with what they have beyond the key of a run: ratios, and differences of momenta."""
    found = []
    for each in own.groups:
        group = dict(each)
        set_value(group, "lr", get_value(group, "lr") / own.lr)
        if momentum_of(group) is not None:
            set_value(group, "momentum", get_value(group, "momentum") - own.momentum)
        if own.weight_decay:
            set_value(group, "weight_decay", get_value(group, "weight_decay") / own.weight_decay)
        found.append(group)
    return found


# What holds where a definition does not say it, as those of earlier versions do not.
_UNSAID = {
    "accumulate_grad_batches": _part("1", 1),
    **{f"limit_{stage}_batches": _part("1.0", 1.0) for stage in ("train", "val", "test")},
    "precision": _part(FULL, FULL),
    "steps": _part("those of a race", None),  # which a search alone says
}

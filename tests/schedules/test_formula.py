"""Formula and Custom: what a person types, worked out or refused in one line."""

import math
import random
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lit_lrsched.errors import InputError
from lit_lrsched.schedules.core import Horizon, table
from lit_lrsched.schedules.custom import Custom
from lit_lrsched.schedules.decays import Linear
from lit_lrsched.schedules.formula import Formula

HORIZON = Horizon(60, steps_per_epoch=6)


@pytest.mark.parametrize(
    ("formula", "meaning"),
    [
        ("0.5", lambda t: 0.5),
        ("1 - progress", lambda t: 1 - t / 60),
        ("(steps - step) / steps", lambda t: (60 - t) / 60),
        ("1 / (1 + 0.01 * epoch)", lambda t: 1 / (1 + 0.01 * (t / 6))),
        ("0.5 ** floor(epoch)", lambda t: 0.5 ** (t // 6)),
        ("1 - epoch / epochs", lambda t: 1 - (t / 6) / 10),
        ("(1 + cos(pi * progress)) / 2", lambda t: (1 + math.cos(math.pi * t / 60)) / 2),
        ("min(step + 1, 10) / 10 if step < 20 else 0.1", lambda t: min(t + 1, 10) / 10 if t < 20 else 0.1),
        ("max(0.1, exp(-epoch)) + ceil(progress)", lambda t: max(0.1, math.exp(-t / 6)) + math.ceil(t / 60)),
        ("abs(sin(step)) + sqrt(step)", lambda t: abs(math.sin(t)) + math.sqrt(t)),
        ("log(1 + step)", lambda t: math.log(1 + t)),
        ("1 if 3 <= step < 5 or not step else 0.5", lambda t: 1 if 3 <= t < 5 or t == 0 else 0.5),
        ("step % 4 // 2 + 1e-3", lambda t: t % 4 // 2 + 1e-3),
        ("  +progress", lambda t: t / 60),
    ],
)
def test_formula(formula: str, meaning: Callable[[int], float]) -> None:
    assert table(Formula(formula), HORIZON) == pytest.approx([meaning(t) for t in range(60)], rel=1e-15)


def test_powers_of_long_runs() -> None:
    # 5,000,000 steps are above the limit that simpleeval puts on powers
    assert Formula("1 / step ** 0.5")(5_000_000, Horizon(10_000_000)) == pytest.approx(5_000_000**-0.5)


def test_threads_do_not_mix_their_steps() -> None:
    formula, steps, interval = Formula("step + step + step + step"), list(range(4000)), sys.getswitchinterval()
    random.Random(0).shuffle(steps)
    sys.setswitchinterval(1e-6)  # so that threads do take turns in the middle of a formula
    try:
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(lambda step: formula(step, HORIZON), steps)) == [4.0 * step for step in steps]
    finally:
        sys.setswitchinterval(interval)


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("1 - progres", r"'progres' is unknown \(did you mean 'progress'\?\): use step steps epoch epochs progress pi"),
        ("sqt(step)", r"'sqt' is unknown \(did you mean 'sqrt'\?\): use sqrt exp log"),
        ("sqrt", "'sqrt' is unknown"),
        ("step(3)", "'step' is unknown"),
        ("1 if step < 3 else lr", "'lr' is unknown"),  # in the branch that a trial would not reach
        ("1 +", "invalid syntax: write arithmetic like"),
        ("", "invalid syntax"),
        ("x = 1", "invalid syntax"),
        ("1; 2", "invalid syntax"),
        ("step.real", "Attribute is not allowed"),
        ("[1, 2]", "List is not allowed"),
        ("'1'", "Constant is not allowed"),
        ("1j", "Constant is not allowed"),
        ("2 ^ step", r"BitXor is not allowed \(a power is written \*\*\)"),
        ("(lambda: 1)()", "Lambda is not allowed"),
        ("__import__('os')", "is unknown|has no place"),
        ("min(step, default=1)", "keyword is not allowed"),
        ("sqrt(1, 2)", r"takes exactly one argument \(2 given\): correct the call"),
        (0.5, "factor=0.5 is not a formula: write it as text"),
    ],
)
def test_formula_refused_at_construction(formula: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        Formula(formula)
    assert "\n" not in str(error.value)
    assert isinstance(formula, float) or repr(formula) in str(error.value)


@pytest.mark.parametrize(
    ("formula", "step", "reason"),
    [
        ("1 / abs(step - 7)", 7, "division by zero"),
        ("log(step)", 0, "math domain error|expected a positive input"),
        ("(5 - step) ** 0.5", 6, "math domain error|expected"),
        ("exp(100 * step)", 8, "math range error"),
        ("step % 0", 0, "modulo"),
    ],
)
def test_arithmetic_that_fails_names_the_formula_and_the_step(formula: str, step: int, reason: str) -> None:
    schedule = Formula(formula)
    with pytest.raises(InputError, match=f"cannot be worked out at step {step} of 60: .*({reason})") as error:
        table(schedule, HORIZON)
    assert repr(formula) in str(error.value)


def test_a_negative_formula_is_refused_when_it_is_tabulated() -> None:
    # 1 - 2 * 31/60 = -2/60
    with pytest.raises(InputError, match=r"Formula returned -0\.0333\d* at step 31 of 60"):
        table(Formula("1 - 2 * progress"), HORIZON)


def test_custom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [
        "from lit_lrsched.schedules import Linear",
        "def down(step, horizon): return 1 - step / horizon.steps",
        "def broken(step, horizon): return float('nan')",
        "line, number = Linear(), 3",
    ]
    (tmp_path / "own_schedules.py").write_text("\n".join(lines))
    (tmp_path / "needs_more.py").write_text("import a_module_that_nobody_has")
    monkeypatch.syspath_prepend(tmp_path)
    assert table(Custom("own_schedules.down"), HORIZON) == pytest.approx(table(Linear(), HORIZON))
    assert table(Custom("own_schedules.line"), HORIZON) == table(Linear(), HORIZON)
    with pytest.raises(InputError, match="broken returned nan at step 0 of 60"):
        table(Custom("own_schedules.broken"), HORIZON)
    for path, message in {
        "own_schedules.dwon": r"the module has no 'dwon' \(did you mean 'down'\?\)",
        "own_schedules.number": "is of type int: name a function",
        "own_schedules.Linear": "name a function",
        "own_scheduls.down": "there is no module 'own_scheduls'",
        "own_schedules.sub.down": "there is no module 'own_schedules.sub'",
        "down": "is not an import path: write it as 'package.module.name'",
        "own schedules.down": "is not an import path",
    }.items():
        with pytest.raises(InputError, match=message) as error:
            Custom(path)
        assert repr(path) in str(error.value)
        assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="pass the function itself where the schedule goes"):
        Custom(Linear())  # type: ignore[arg-type]
    # a module that is there but breaks is its author's to mend: the traceback stays
    with pytest.raises(ModuleNotFoundError, match="a_module_that_nobody_has"):
        Custom("needs_more.down")

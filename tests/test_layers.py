"""Who may import whom, read from the source; and what importing the package loads."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pytest

import lit_lrsched
from lit_lrsched import schedules

PACKAGE = Path(lit_lrsched.__file__).parent


@dataclass(frozen=True)
class Layer:
    """A folder, or a module of the top floor, and the packages of others that it may import.

    What is named in ``inside`` is imported in the body of a function only, so that it is loaded when it is used.
    """

    packages: str = ""
    inside: str = ""


# In this order: a layer imports those above it and itself, never one below.
LAYERS = {
    "errors": Layer(),
    "class_paths": Layer(),
    "plain": Layer(),
    "hparams": Layer(inside="tensorboard"),
    "schedules": Layer(inside="matplotlib simpleeval"),
    "theory": Layer(),
    "plans": Layer(inside="matplotlib rich tensorboard"),
    "optim": Layer("torch"),
    "trainer": Layer("torch lightning tqdm", inside="matplotlib numpy"),
    "csv_data": Layer("torch lightning numpy"),
    "ionosphere": Layer("torch lightning torchmetrics"),
    "comparison": Layer("torch lightning torchmetrics numpy tqdm", inside="matplotlib ray rich scipy tensorboard yaml"),
    "search": Layer("torch lightning numpy tqdm", inside="matplotlib rich scipy"),
    "forecasting": Layer("numpy", inside="scipy matplotlib rich tensorboard yaml"),
    "cli": Layer("torch lightning jsonargparse yaml"),
}
ENTRANCES = ("", "__main__")  # they import whatever is asked for, when it is asked for


def module_name(path: Path) -> str:
    name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    return "" if name == "__init__" else name.removesuffix(".__init__")


MODULES = {module_name(path): path.read_text() for path in sorted(PACKAGE.rglob("*.py"))}


def layer_of(module: str) -> int:
    folder = module.partition(".")[0]
    if folder not in LAYERS:
        pytest.fail(f"{module} is in no layer: move it into a folder of the design, or add its folder to this file")
    return list(LAYERS).index(folder)


class Import(NamedTuple):
    module: str
    names: tuple[str, ...]
    at_once: bool  # not in a function, nor for the type checker alone


def imports_of(source: str) -> Iterator[Import]:
    """Yields every import, those inside functions included."""

    def visit(node: ast.AST, at_once: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, (), at_once) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            # A relative import stays as it is, and is refused.
            module = "." * node.level + (node.module or "")
            yield Import(module, tuple(alias.name for alias in node.names), at_once)
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for part in node.body:
                yield from visit(part, False)
            for part in node.orelse:
                yield from visit(part, at_once)
        else:
            later = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
            for child in ast.iter_child_nodes(node):
                yield from visit(child, at_once and not later)

    return visit(ast.parse(source), True)


def own_modules(imported: Import) -> set[str]:
    """Returns the modules of this package that an import reaches."""
    package, _, rest = imported.module.partition(".")
    if package != "lit_lrsched":
        return set()
    within = {".".join(filter(None, (rest, name))) for name in imported.names}
    return (within & MODULES.keys()) or {rest}


def forbidden_imports(module: str, source: str) -> list[str]:
    own = layer_of(module)
    layer = list(LAYERS.values())[own]
    found = []
    for imported in imports_of(source):
        package = imported.module.partition(".")[0]
        packages = {*layer.packages.split(), *([] if imported.at_once else layer.inside.split())}
        if package in packages or package in sys.stdlib_module_names:
            continue
        targets = own_modules(imported)
        if not targets or any(target in ENTRANCES or layer_of(target) > own for target in targets):
            found.append(imported.module)
    return found


@pytest.mark.parametrize("module", sorted(MODULES.keys() - set(ENTRANCES)))
def test_a_module_imports_what_its_layer_may(module):
    assert forbidden_imports(module, MODULES[module]) == []


@pytest.mark.parametrize(
    ("module", "source", "found"),
    [
        ("schedules.core", "import math\nfrom lit_lrsched.errors import InputError", []),
        ("schedules.core", "import torch.nn", ["torch.nn"]),
        ("schedules.core", "if True:\n    from lit_lrsched.trainer.horizon import x", ["lit_lrsched.trainer.horizon"]),
        ("schedules.core", "from lit_lrsched import compare", ["lit_lrsched"]),
        ("schedules.core", "from lit_lrsched import plans", ["lit_lrsched"]),
        ("schedules.core", "from lit_lrsched import errors", []),
        ("schedules.core", "from .shapes import Linear", [".shapes"]),
        ("schedules.formula", "import simpleeval", ["simpleeval"]),
        ("schedules.formula", "class A:\n    def f(self):\n        import simpleeval", []),
        ("plans.preview", "from matplotlib.figure import Figure", ["matplotlib.figure"]),
        ("plans.preview", "if TYPE_CHECKING:\n    import matplotlib\nelse:\n    import rich", ["rich"]),
        ("comparison.race", "def f():\n    from lit_lrsched.cli import command", ["lit_lrsched.cli"]),
        ("comparison.race", "import unittest.mock", []),  # that is for the test below
    ],
)
def test_a_forbidden_import_is_found(module, source, found):
    assert forbidden_imports(module, source) == found


def reached(graph: dict[str, set[str]], start: str) -> set[str]:
    seen: set[str] = set()
    left = [*graph[start]]
    while left:
        module = left.pop()
        if module not in seen:
            seen.add(module)
            left += graph[module]
    return seen


def test_no_module_reaches_itself():
    graph = {
        module: {target for imported in imports_of(source) for target in own_modules(imported)} - {"", "__main__"}
        for module, source in MODULES.items()
        if module not in ENTRANCES
    }
    assert [module for module in graph if module in reached(graph, module)] == []
    assert reached({"a": {"b"}, "b": {"a"}}, "a") == {"a", "b"}


def test_the_package_patches_nothing():
    for module, source in MODULES.items():
        assert "unittest" not in {imported.module.partition(".")[0] for imported in imports_of(source)}, module
        assert "__qualname__ =" not in source, module
        assert "sys.argv[1:] =" not in source, module


def test_the_worked_example_knows_schedules_by_name_alone():
    names: set[str] = set()
    for module, source in MODULES.items():
        if module.startswith("ionosphere"):
            for imported, imported_names, _ in imports_of(source):
                if imported.startswith(("lit_lrsched.schedules", "lit_lrsched.trainer")):
                    names |= set(imported_names)
    assert names == {"schedule_config", "Interval", "Schedule", "ScheduleLike", "LightningModule"}


def loaded_by(statement: str) -> set[str]:
    """The packages that a statement loads, in a Python of its own."""
    code = f"import sys; before = set(sys.modules); {statement}; print(*sorted(set(sys.modules) - before))"
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60).stdout
    return {module.partition(".")[0] for module in output.split()}


def test_importing_the_package_loads_neither_torch_nor_lightning():
    loaded = loaded_by("import lit_lrsched")
    assert "lit_lrsched" in loaded
    assert loaded.isdisjoint({"torch", "lightning", "pytorch_lightning", "torchmetrics", "numpy", "dataclasses"})


def test_schedules_need_the_standard_library_alone():
    statement = "from lit_lrsched.schedules import load_all; load_all()"
    assert loaded_by(statement) - set(sys.stdlib_module_names) == {"lit_lrsched"}


PUBLIC_NAMES = """
    Schedule Horizon table
    Constant Linear Cosine Polynomial OneMinusSqrt Exponential Step MultiStep InverseTime InverseSqrt Rex Triangle
    Piecewise Formula Custom FromTorch Phase Chain Product Repeat
    WarmupLinear WarmupCosine WarmupStableDecay WarmupInverseSqrt OneCycle CosineRestarts Plateau
    ScheduledLR schedule_config ApplySchedule LearningRateLogger
    IonosphereClassifier CSVDataModule IonosphereDataModule preview compare find_lr ScheduleCLI InputError
    forecast LoggedRun ScheduleReport
"""


def test_every_public_name_resolves():
    assert set(PUBLIC_NAMES.split()) <= set(lit_lrsched.__all__)
    for name in lit_lrsched.__all__:
        assert getattr(lit_lrsched, name).__name__ == name
        assert name in dir(lit_lrsched)


def test_the_type_checker_sees_the_same_names():
    def seen(source: str) -> set[str]:
        names = {name for _, names, at_once in imports_of(source) if not at_once for name in names}
        return {name for name in names if name != "*"}

    assert seen(MODULES[""]) | set(schedules.__all__) == set(lit_lrsched.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'Cosin'"):
        lit_lrsched.Cosin  # noqa: B018

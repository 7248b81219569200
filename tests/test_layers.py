"""Who may import whom, read from the source; and what importing the package loads."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

import pytest

import lit_lrsched

PACKAGE = Path(lit_lrsched.__file__).parent


@dataclass(frozen=True)
class Layer:
    """Modules, which may import each other, and what else they may import: layers, and packages of others.

    What is named in ``inside`` is imported in the body of a function only, so that it is loaded when it is used.
    """

    modules: str
    layers: str = ""
    packages: str = ""
    inside: str = ""


LAYERS = {
    "errors": Layer("errors endings"),
    "schedules": Layer("schedules schedules.*", "errors", inside="simpleeval"),
    "plans": Layer("plan audit preview", "errors schedules", inside="matplotlib rich"),
    "tools": Layer("plain logged_names parse_errors comma_lists trials", "errors", inside="tensorboard yaml"),
    "torch": Layer(
        "scheduled_lr slots regroup from_torch stand_in replay kept", "errors schedules plans tools", "torch"
    ),
    "lightning": Layer(
        "lightning_package configure callbacks fit_plan interrupt progress receipt start_audit storyboard",
        "errors schedules plans tools torch",
        "torch lightning tqdm",
        inside="matplotlib numpy",
    ),
    "ionosphere": Layer(
        "ionosphere ionosphere.*",
        "errors schedules tools lightning",
        "torch lightning torchmetrics",
    ),
    "comparison": Layer(
        "comparison comparison.*",
        "errors schedules plans tools torch lightning ionosphere",
        "torch lightning torchmetrics numpy tqdm",
        inside="matplotlib rich scipy tensorboard yaml",
    ),
    # Imported by nobody but the last, and there when it is run.
    "command": Layer(
        "cli by_hand class_choice run_folder new_folders save_config",
        "errors schedules plans tools torch lightning ionosphere comparison",
        "torch lightning jsonargparse yaml",
    ),
    "entrance": Layer("__init__ __main__", inside="lit_lrsched"),
}


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(path): path.read_text() for path in sorted(PACKAGE.rglob("*.py"))}


def layer_of(module: str) -> str:
    for name, layer in LAYERS.items():
        if any(fnmatch(module, pattern) for pattern in layer.modules.split()):
            return name
    return pytest.fail(f"{module} is in no layer: put it into one in this file, and mind what it imports")


class Import(NamedTuple):
    module: str
    names: tuple[str, ...]
    at_once: bool  # not in a function, nor for the type checker alone


def imports_of(source: str) -> Iterator[Import]:
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


def forbidden_imports(module: str, source: str) -> list[str]:
    own = layer_of(module)
    layer = LAYERS[own]
    found = []
    for imported, names, at_once in imports_of(source):
        package, _, rest = imported.partition(".")
        packages = {*layer.packages.split(), *([] if at_once else layer.inside.split())}
        if package in packages or package in sys.stdlib_module_names:
            continue
        targets = [rest] if rest else [name for name in names if name in MODULES]
        if package != "lit_lrsched" or any(layer_of(target) not in (own, *layer.layers.split()) for target in targets):
            found.append(imported)
    return found


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_what_its_layer_may(module):
    assert forbidden_imports(module, MODULES[module]) == []


@pytest.mark.parametrize(
    ("module", "source", "found"),
    [
        ("schedules.core", "import math\nfrom lit_lrsched.errors import InputError", []),
        ("schedules.core", "import torch.nn", ["torch.nn"]),
        ("schedules.core", "if True:\n    from lit_lrsched.configure import x", ["lit_lrsched.configure"]),
        ("schedules.core", "from lit_lrsched import plain", ["lit_lrsched"]),
        ("schedules.core", "from .shapes import Linear", [".shapes"]),
        ("schedules.formula", "import simpleeval", ["simpleeval"]),
        ("schedules.formula", "class A:\n    def f(self):\n        import simpleeval", []),
        ("preview", "from matplotlib.figure import Figure", ["matplotlib.figure"]),
        ("preview", "if TYPE_CHECKING:\n    import matplotlib\nelse:\n    import rich", ["rich"]),
        ("comparison.race", "def f():\n    from lit_lrsched.cli import Command", ["lit_lrsched.cli"]),
        ("__main__", "def f():\n    from lit_lrsched.cli import run", []),
        ("__main__", "from lit_lrsched.cli import run", ["lit_lrsched.cli"]),
    ],
)
def test_a_forbidden_import_is_found(module, source, found):
    assert forbidden_imports(module, source) == found


def test_the_worked_example_knows_schedules_by_name_alone():
    names: set[str] = set()
    for module, source in MODULES.items():
        if layer_of(module) == "ionosphere":
            for imported, imported_names, _ in imports_of(source):
                if imported.startswith(("lit_lrsched.schedules", "lit_lrsched.configure")):
                    names |= set(imported_names)
    assert names == {"schedule_config", "Interval", "Schedule", "ScheduleLike"}


def loaded_by(statement: str) -> set[str]:
    """The packages that a statement loads, in a Python of its own."""
    code = f"import sys; before = set(sys.modules); {statement}; print(*sorted(set(sys.modules) - before))"
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60).stdout
    return {module.partition(".")[0] for module in output.split()}


def test_importing_the_package_loads_neither_torch_nor_lightning():
    loaded = loaded_by("import lit_lrsched")
    assert "lit_lrsched" in loaded
    assert loaded.isdisjoint({"torch", "lightning", "pytorch_lightning", "torchmetrics", "numpy"})


def test_schedules_need_the_standard_library_alone():
    assert loaded_by("import lit_lrsched.schedules") - set(sys.stdlib_module_names) == {"lit_lrsched"}


PUBLIC_NAMES = """
    Schedule Horizon table
    Constant Linear Cosine Polynomial OneMinusSqrt Exponential Step MultiStep InverseTime InverseSqrt Rex Triangle
    Piecewise Formula Custom FromTorch Phase Chain Product Repeat
    WarmupLinear WarmupCosine WarmupStableDecay WarmupInverseSqrt OneCycle CosineRestarts Plateau
    ScheduledLR schedule_config ApplySchedule LearningRateLogger
    IonosphereClassifier CSVDataModule IonosphereDataModule compare
"""


def test_every_public_name_resolves():
    assert set(PUBLIC_NAMES.split()) <= set(lit_lrsched.__all__)
    for name in lit_lrsched.__all__:
        assert getattr(lit_lrsched, name).__name__ == name
        assert name in dir(lit_lrsched)


def test_the_type_checker_sees_the_same_names():
    seen = {name for _, names, at_once in imports_of(MODULES["__init__"]) if not at_once for name in names}
    assert seen == set(lit_lrsched.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'Cosin'"):
        lit_lrsched.Cosin  # noqa: B018

"""The four experiments of the learning-rate tutorial on the real data: what every epoch used, and what came of it.

Trains the worked example under each configuration in ``lit_lrsched/configs/article``, as ``lit-lrsched fit --config``
does. Prints a line for each epoch and a closing table, and draws the learning rates and the accuracies into one PNG.

    python scripts/reproduce_article.py [--epochs 50] [--seed 42] [--out lightning_logs/article/article.png]
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from lightning.pytorch import Callback, LightningModule, Trainer
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

import lit_lrsched
from lit_lrsched.cli.command import Command
from lit_lrsched.cli.quiet import quiet_lightning
from lit_lrsched.optim.param_groups import values_of

CONFIGURATIONS = Path(lit_lrsched.__file__).parent / "configs" / "article"
# In colours that colour-blind people can tell apart (Okabe and Ito 2008).
EXPERIMENTS = {"constant": "#0072B2", "linear": "#D55E00", "exponential": "#009E73", "custom": "#CC79A7"}
LOGS = Path("lightning_logs")
FOLDER = LOGS / "article"


class Curves(Callback):
    """What an experiment used and reached: two values for each epoch, and the accuracy on the test rows at the end."""

    def __init__(self) -> None:
        self.rates: list[float] = []
        self.accuracies: list[float] = []
        self.test_accuracy = float("nan")

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keeps the learning rate that the epoch uses."""
        self.rates += values_of(trainer.optimizers, ["lr"]).values()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keeps the validation accuracy."""
        if not trainer.sanity_checking:
            self.accuracies.append(trainer.callback_metrics["val_acc"].item())

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keeps the test accuracy."""
        self.test_accuracy = trainer.callback_metrics["test_acc"].item()


def experiment(name: str, epochs: int, seed: int) -> Curves:
    """Trains and tests under one of the configurations."""
    arguments = {
        "config": CONFIGURATIONS / f"{name}.yaml",
        "seed_everything": seed,
        "lr_logger.print_each_epoch": True,
        "trainer.max_epochs": epochs,
        "trainer.enable_progress_bar": False,
        "trainer.logger": "TensorBoardLogger",
        "trainer.logger.save_dir": LOGS,
        "trainer.logger.name": f"{FOLDER.name}/{name}",
    }
    cli = Command(args=[f"--{option}={value}" for option, value in arguments.items()], run=False)
    curves = Curves()
    cli.trainer.callbacks.append(curves)  # type: ignore[attr-defined]
    cli.trainer.fit(cli.model, cli.datamodule)
    cli.trainer.test(cli.model, cli.datamodule, verbose=False)
    return curves


def draw(results: dict[str, Curves]) -> Figure:
    """Returns the picture: learning rates on the left, accuracies on the right."""
    figure = Figure(figsize=(10, 3.9), dpi=150, layout="constrained")
    left, right = figure.subplots(1, 2)
    # Few rows make few different accuracies: thin lines on broad ones show those that coincide.
    for (name, colour), width in zip(EXPERIMENTS.items(), (5.0, 3.4, 2.0, 0.9), strict=True):
        rates, accuracies = results[name].rates, results[name].accuracies
        left.plot(rates, color=colour, linewidth=2)
        at_end = f"  {name} {rates[-1]:.3g}"
        left.annotate(at_end, (len(rates) - 1, rates[-1]), va="center", color=colour, annotation_clip=False)
        label = f"{name}: test {results[name].test_accuracy:.1%}"
        right.plot(accuracies, color=colour, linewidth=width, solid_capstyle="round", label=label)
    left.set_title("Learning rate", loc="left", fontweight="bold")
    left.set_ylim(0)
    right.set_title("Validation accuracy", loc="left", fontweight="bold")
    right.set_ylim(top=1)
    right.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    right.legend(frameon=False, loc="lower right")
    for axes in (left, right):
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#DDDDDD", linewidth=0.6)
        axes.set_axisbelow(True)
    return figure


class Parser(argparse.ArgumentParser):
    """A parser that answers a mistake with one line."""

    def error(self, message: str) -> NoReturn:
        """Prints the line and exits with status 2."""
        self.exit(2, f"error: {message}\n")


def whole_number(least: int, most: int) -> Callable[[str], int]:
    """Returns the reader of a whole number, for the parser."""

    def read(text: str) -> int:
        if not text.isdecimal() or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} to {most}")
        return int(text)

    return read


def picture_file(text: str) -> Path:
    """Reads the name of a PNG to write, for the parser."""
    path = Path(text)
    if path.suffix.lower() != ".png" or path.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is not the name of a PNG: end it with .png")
    return path


def main() -> None:
    """Runs the experiments, one after another."""
    parser = Parser(description="The four experiments of the learning-rate tutorial on the real data.")
    parser.add_argument("--epochs", type=whole_number(1, 10_000), default=50, help="epochs of each (default: 50)")
    parser.add_argument(
        "--seed", type=whole_number(0, 2**32 - 1), default=42, help="of weights and order (default: 42)"
    )
    parser.add_argument("--out", type=picture_file, default=str(FOLDER / "article.png"), help="where the PNG goes")
    options = parser.parse_args()
    try:
        options.out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"argument --out: {options.out} cannot be written ({error.strerror}): name another folder")
    quiet_lightning()
    # The process has arguments of its own: those of this script.
    warnings.filterwarnings("ignore", message="LightningCLI's args parameter is intended to run from within Python")

    results = {}
    for name in EXPERIMENTS:
        print(f"\n{name}", flush=True)
        results[name] = experiment(name, options.epochs, options.seed)
        print(f"Test accuracy: {results[name].test_accuracy:.4f}")
    draw(results).savefig(options.out)

    print(f"\n{'experiment':<14}{'first lr':>10}{'last lr':>10}{'best val_acc':>14}{'test_acc':>10}")
    for name, curves in results.items():
        rates, best = curves.rates, max(curves.accuracies)
        print(f"{name:<14}{rates[0]:>10.4f}{rates[-1]:>10.4f}{best:>14.4f}{curves.test_accuracy:>10.4f}")
    print(f"\nPicture: {options.out}\nTensorBoard: tensorboard --logdir {FOLDER}")


if __name__ == "__main__":
    main()

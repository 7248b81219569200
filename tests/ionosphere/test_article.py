"""The script that runs the tutorial's four experiments."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import pytest
from matplotlib import colors, image

from tests.reading import run_folder, scalars

SCRIPT = Path(__file__).parents[2] / "scripts" / "reproduce_article.py"
LOGS = Path("lightning_logs/article")

CLOSED_FORMS = {
    "constant": lambda n: 0.1,
    "linear": lambda n: 0.1 - min(n, 30) / 600,
    "exponential": lambda n: 0.1 * 0.99**n,
    "custom": lambda n: 0.1 / (1 + 0.01 * n),
}


@pytest.fixture
def script(in_tmp, monkeypatch, capfd):
    """Runs the script in an empty folder; returns its exit status, what it prints and what it says of errors."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *arguments])
        capfd.readouterr()
        try:
            runpy.run_path(str(SCRIPT), run_name="__main__")
            status = 0
        except SystemExit as stop:
            status = stop.code
        return (status, *capfd.readouterr())

    return run


def parts_of(output: str) -> dict[str, str]:
    """What is printed of each experiment, and the closing table as ``table``."""
    names = [*CLOSED_FORMS, r"experiment +first lr[^\n]*"]
    found = re.fullmatch("".join(rf"\n{name}\n(.*)" for name in names), output, flags=re.DOTALL)
    assert found, output
    return dict(zip([*CLOSED_FORMS, "table"], found.groups(), strict=True))


def test_it_shows_every_epoch_and_what_came_of_it(script, command):
    status, output, errors = script("--epochs=4", "--seed=7")
    assert (status, errors) == (0, "")
    parts = parts_of(output)
    for name, rate in CLOSED_FORMS.items():
        lines = [line for line in parts[name].splitlines() if line.startswith("Epoch ")]
        assert lines == [f"Epoch {n}: SGD lr {rate(n):.4f} -> {rate(n + 1):.4f}" for n in range(4)]
        run = LOGS / name / "version_0"
        assert scalars(run, "lr/group0") == pytest.approx([rate(n) for n in range(4)], rel=1e-6)

        (accuracy,) = re.findall(r"^Test accuracy: (\d\.\d{4})$", parts[name], flags=re.MULTILINE)
        assert float(accuracy) == pytest.approx(scalars(run, "test_acc")[0], abs=1e-4)
        best = max(scalars(run, "val_acc"))
        row = f"{name} +{rate(0):.4f} +{rate(3):.4f} +{best:.4f} +{accuracy}"
        assert re.search(f"^{row}$", parts["table"], flags=re.MULTILINE)

    assert f"Picture: {LOGS}/article.png" in parts["table"]
    assert parts["table"].endswith(f"TensorBoard: tensorboard --logdir {LOGS}\n")

    # The numbers are those of the command, with the same seed and with no other.
    for number, seed in enumerate((7, 8)):
        options = ["--config=article/linear.yaml", "--trainer.max_epochs=4", f"--seed_everything={seed}"]
        assert command("fit", *options) == 0
        of_command = scalars(run_folder(number), "train_loss")
        assert (of_command == scalars(LOGS / "linear" / "version_0", "train_loss")) == (seed == 7)


def test_the_picture_holds_eight_curves(script):
    assert script("--epochs=2", "--out=pictures/article.PNG")[0] == 0
    pixels = image.imread("pictures/article.PNG", format="png")
    height, width, channels = pixels.shape
    assert 1000 <= width <= 3000
    assert 400 <= height <= 1500
    assert channels == 4
    for half in (pixels[:, : width // 2], pixels[:, width // 2 :]):
        for colour in runpy.run_path(str(SCRIPT))["EXPERIMENTS"].values():
            near = abs(half[..., :3] - colors.to_rgb(colour)).max(axis=-1) < 0.02
            assert near.sum() > 50


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--epochs=0"], ["--epochs", "'0'", "whole number from 1"]),
        (["--epochs=2.5"], ["--epochs", "'2.5'"]),
        (["--seed=-1"], ["--seed", "'-1'", "from 0"]),
        (["--seed=99999999999"], ["--seed", "4294967295"]),
        (["--out=article.txt"], ["--out", "'article.txt'", ".png"]),
        (["--out=."], ["--out", "'.'", ".png"]),
        (["--out=taken/article.png"], ["--out", "taken/article.png", "another folder"]),
        (["--epoch=3", "--sed=1"], ["--sed=1"]),
        (["linear"], ["linear"]),
    ],
)
def test_a_mistake_is_answered_in_one_line(script, in_tmp, arguments, told):
    (in_tmp / "taken").write_text("a file, not a folder")
    status, output, errors = script(*arguments)
    assert (status, output) == (2, "")
    assert errors.startswith("error: ")
    assert errors.count("\n") == 1
    for words in told:
        assert words in errors
    assert [path.name for path in in_tmp.iterdir()] == ["taken"]

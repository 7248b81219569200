"""The report as a reader has it: in headless Chromium, on a desktop by day and on a phone by night."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path

import numpy as np
import pytest

from lit_lrsched.comparison.report.page import page
from lit_lrsched.comparison.report.results import learning_curves
from lit_lrsched.comparison.report.words import decimals
from tests.comparison.test_report import SCRIPT, race, results

# What a reader does, and what the page then shows.
READER = """<script>
const found = { errors: [] };
addEventListener("error", (event) => found.errors.push(event.message));
addEventListener("load", () => {
  const names = () => [...document.querySelectorAll("table.sortable tbody tr")].map((row) => row.cells[0].textContent);
  const sorted = (title) => {
    const head = [...document.querySelectorAll("th[data-column]")].find((head) => head.textContent === title);
    head.querySelector("button").click();
    return names();
  };
  const card = document.querySelector(".card[data-curves]");
  const told = () => card.querySelector(".readout").textContent;
  const key = (name) => card.querySelector("svg").dispatchEvent(new KeyboardEvent("keydown", { key: name }));
  found.first = names();
  found.byMean = [sorted("mean"), sorted("mean")];
  found.byDifference = [sorted("difference"), sorted("difference")];
  found.before = told();
  card.querySelector("svg").focus();
  found.atTheEnd = told();
  key("ArrowLeft");
  found.before_the_end = told();
  card.querySelector("svg").blur();
  found.after = told();
  document.querySelector(".copy").click();
  found.copied = getSelection().toString();
  found.overflow = document.documentElement.scrollWidth - innerWidth;
  found.ink = getComputedStyle(document.body).color;
  document.documentElement.dataset.found = JSON.stringify(found);
});
</script>"""


@pytest.mark.skipif(not shutil.which("chromium"), reason="there is no chromium on PATH")
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (500, True)])
def test_a_reader_sorts_reads_values_and_copies(width: int, dark: bool, tmp_path: Path) -> None:
    found = results(race(seeds=5))
    html = re.sub(r"<meta http-equiv[^>]*>", "", page(found)).replace("<head>", f"<head>{READER}")
    (tmp_path / "report.html").write_text(html)
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        f"--window-size={width},900",
    ]
    flags += ["--blink-settings=preferredColorScheme=0"] if dark else []
    shown = subprocess.run(
        ["chromium", *flags, f"--user-data-dir={tmp_path}/profile", "--dump-dom", f"file://{tmp_path}/report.html"],
        capture_output=True,
        text=True,
        check=True,
    )
    told = json.loads(unescape(re.search(r'data-found="([^"]*)"', shown.stdout)[1]))
    means = {row.schedule: row.mean for row in found.summary.schedules}
    assert told["errors"] == []
    assert told["first"] == list(means)
    assert told["byMean"] == [sorted(means, key=means.get, reverse=True), sorted(means, key=means.get)]
    assert [names[-1] for names in told["byDifference"]] == [found.summary.best] * 2  # it has no difference
    assert told["before"] == told["after"] == "peak 0.3, momentum 0"
    curve = learning_curves(found)[0]
    places = decimals(found.summary)
    assert told["atTheEnd"].startswith(f"after 4 epochs: {curve.mean[3]:.{places}f} (")
    assert told["before_the_end"].startswith(f"after 3 epochs: {curve.mean[2]:.{places}f} (")
    assert told["before_the_end"].endswith(f", rate {curve.rates[3]:.3g}")
    assert told["copied"].startswith("We compared ")
    assert told["copied"].endswith("with lit_lrsched 1.2.3.")
    assert told["overflow"] <= 0
    assert told["ink"] == ("rgb(232, 234, 237)" if dark else "rgb(27, 31, 36)")


def test_the_contrast_of_the_map_is_that_of_plain_text() -> None:
    style = SCRIPT.with_suffix(".css").read_text()
    day, night = style.split("@media (prefers-color-scheme: dark)")[:2]
    for theme in (day, night):
        color = dict(re.findall(r"--(heat[a-z-]*): (#[0-9a-f]{6})", theme))
        low, high = oklab(color["heat-low"]), oklab(color["heat-high"])
        for share in np.linspace(0, 1, 401):
            ink = "high" if share > 0.755 else "mid" if share > 0.58 else "low"
            assert contrast(low + share * (high - low), oklab(color[f"heat-{ink}-ink"])) >= 4.5


TO_LMS = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


def oklab(color: str) -> np.ndarray:
    """Ottosson 2020, as CSS Color 4 mixes."""
    srgb = np.array([int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)])
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    return TO_LAB @ np.cbrt(TO_LMS @ linear)


def contrast(one: np.ndarray, other: np.ndarray) -> float:
    """WCAG 2.1, of two colours in Oklab."""

    def luminance(lab: np.ndarray) -> float:
        linear = np.linalg.solve(TO_LMS, np.linalg.solve(TO_LAB, lab) ** 3)
        return float(np.array([0.2126, 0.7152, 0.0722]) @ np.clip(linear, 0, 1))

    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)

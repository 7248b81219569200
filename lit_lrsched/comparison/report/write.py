"""What comes out of a comparison, in one folder: numbers, pictures, a page to read and TensorBoard's tabs."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from lit_lrsched.comparison.evidence.verdict import verdict
from lit_lrsched.comparison.report.event_files import write_event_files
from lit_lrsched.comparison.report.page import page
from lit_lrsched.comparison.report.pictures import write_pictures
from lit_lrsched.comparison.report.results import Results


def write_report(results: Results, folder: Path) -> None:
    """Writes ``summary.json``, ``report.html``, ``tensorboard/`` and the pictures.

    Args:
        results: The race.
        folder: Where to; made when it is not there. Files of an earlier report are replaced.
    """
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(summary_dict(results), indent=2, allow_nan=False, ensure_ascii=False)
    (folder / "summary.json").write_text(text + "\n", encoding="utf-8")
    pictures = write_pictures(results, folder)
    (folder / "report.html").write_text(page(results, pictures), encoding="utf-8")
    write_event_files(results, folder / "tensorboard")


def summary_dict(results: Results) -> dict[str, object]:
    """Returns the content of ``summary.json``: plain numbers and text, None where there is no number."""
    about = {
        field.name: getattr(results, field.name)
        for field in dataclasses.fields(results)
        if field.name not in ("records", "summary", "gain", "factors")
    }
    return {
        "verdict": list(verdict(results.summary)),
        "runs": len(results.records),
        "gain": dataclasses.asdict(results.gain) if results.gain else None,
        **about,
        "trainings_per_second": results.trainings_per_second,
        **dataclasses.asdict(results.summary),
    }

"""A notebook as a page of the site: its text as Markdown, its code in fences, its outputs as they are, in HTML."""

from __future__ import annotations

import json
import re
from html import escape
from typing import Any


def as_markdown(notebook: str) -> str:
    """Returns a notebook, given as the text of its file, as Markdown."""
    parts = []
    for cell in json.loads(notebook)["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
        else:
            parts.append(f"```python\n{source}\n```")
            parts += [f'<div class="output">{shown}</div>' for shown in map(_as_html, cell["outputs"])]
    parts.insert(1, "[Download the notebook](notebook.ipynb)")
    return "\n\n".join(parts) + "\n"


def _as_html(output: dict[str, Any]) -> str:
    """Returns an output in the richest form that it has."""
    data = output.get("data", {})
    if "text/html" in data:
        return re.sub(r"\n\s*\n", "\n", "".join(data["text/html"]))  # a blank line would end the block
    if "image/png" in data:
        return f'<img alt="" src="data:image/png;base64,{"".join(data["image/png"]).strip()}">'
    text = "".join(output.get("text") or data["text/plain"]).strip("\n")
    return "<pre>" + "&#10;".join(escape(line) for line in text.splitlines()) + "</pre>"

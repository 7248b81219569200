"""An extension of griffe, which reads the docstrings for the site's API page: roles and examples as Markdown."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object

import lit_lrsched

ROLE = re.compile(r":(?:class|func|meth|mod):`~?((?:\w+\.)*)(\w+)`")
EXAMPLE = re.compile(r"^>>> .*\n(?:.+\n?)*", re.MULTILINE)


def as_markdown(docstring: str) -> str:
    """Returns a docstring with links to public names in place of roles, and with fences around its examples.

    >>> as_markdown("See :class:`~lit_lrsched.Cosine` and :func:`as_part`.")
    'See [`Cosine`][lit_lrsched.Cosine] and `as_part`.'
    """
    linked = ROLE.sub(_reference, docstring)
    return EXAMPLE.sub(lambda match: f"```pycon\n{match[0].rstrip()}\n```\n", linked).rstrip("\n")


def _reference(match: re.Match[str]) -> str:
    name = match[2]
    return f"[`{name}`][lit_lrsched.{name}]" if name in lit_lrsched.__all__ else f"`{name}`"


class Docstrings(Extension):
    """Rewrites every docstring of the package."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Rewrites one."""
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)

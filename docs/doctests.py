"""Shows the doctests of docstrings as code: an extension of griffe, which reads docstrings for the site."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension

DOCTEST = re.compile(r"^>>> .*(?:\n(?!$).*)*", re.MULTILINE)


class Doctests(Extension):
    """Fences each doctest of an object's docstring."""

    def on_object(self, *, obj: Any, **_: Any) -> None:
        """Rewrites the docstring before it is parsed."""
        if obj.docstring:
            obj.docstring.value = DOCTEST.sub(lambda found: f"```pycon\n{found[0]}\n```", obj.docstring.value)

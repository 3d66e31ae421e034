"""Griffe extension that renders the `Example:` sections of docstrings as code."""

import re
from typing import Any

from griffe import Extension, Object


class ExampleSections(Extension):
    """Rename `Example:` to the section name that Griffe parses."""

    def on_object(self, *, obj: Object, **context: Any) -> None:
        """Rewrite the docstring of an object after it was loaded."""
        if obj.docstring is not None:
            obj.docstring.value = re.sub(r"^(\s*)Example:$", r"\1Examples:", obj.docstring.value, flags=re.MULTILINE)

"""The trace that a task's input was made in. Pure."""

from __future__ import annotations

from typing import Any

from stepout.schemas import rules
from stepout.schemas.search.locate import survey


def trace_of(value: Any) -> str | None:
    """Return the one trace that the task outputs in a JSON value name; ``None`` if they name none, or several.

    >>> trace_of({"mask": {"stepout": "output/1", "artifacts": {}, "traceparent": f"00-{7:032x}-{8:016x}-01"}})
    '00-00000000000000000000000000000007-0000000000000008-01'
    """
    if not isinstance(value, dict | list):
        return None
    named = {each.document.get("traceparent") for each in survey(value).found if isinstance(each.document, dict)}
    texts = [text for text in named - {None} if isinstance(text, str) and rules.TRACEPARENT.matches(text)]
    return texts[0] if len(texts) == 1 else None

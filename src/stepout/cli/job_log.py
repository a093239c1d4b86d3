"""The report of a job in what it printed: one line among others. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from stepout.artifacts.reading.documents.foreign import load_foreign, opened_texts
from stepout.schemas.errors import InvalidDocumentError, invalid_document
from stepout.schemas.problems import Problem
from stepout.schemas.search.locate import Found, find_documents
from stepout.schemas.text.json_text import SIZE_LIMIT, parse_json

if TYPE_CHECKING:
    from collections.abc import Iterator

_OURS: Final = '{"stepout":'
_FAILURE: Final = {"error", "cause"}
_NO_JSON: Final = {"syntax", "encoding"}
# What a part of JSON that is broken elsewhere stands behind, on its line or in the first one; never read apart from it.
_INSIDE: Final = ('":', ",", "[", "{")
_BROKEN: Final = re.compile(r"[{\[]\s*(?:[\"{\[].*)?[,:{\[]|[{\[]")


class _Line(NamedTuple):
    number: int
    text: str
    what: str


def document_in(text: str | bytes) -> str | bytes:
    r"""Return the document that a job printed among its own lines; text that is JSON as a whole is returned as it is.

    A task without a token prints its outcome as one line of standard output, and so does ``stdout:``; whatever else
    the job prints is there as well. A line counts if JSON stands at its end, behind a logger's date, say, and holds a
    task output or a pointer, or is a task's failure as it is printed. Equal ones count once.

    Args:
        text: What was read, perhaps a document's URL.

    Returns:
        The text of the one document; ``text`` itself where there is no document: who parses it then says what is wrong.

    Raises:
        InvalidDocumentError: There are several; ``problems`` names their lines.

    >>> document_in('started\n{"stepout": "output/1", "artifacts": {}}\ndone')
    '{"stepout": "output/1", "artifacts": {}}'
    """
    if len(text) > SIZE_LIMIT or not _is_mixed(text):
        return text
    whole = text if isinstance(text, str) else text.decode("utf-8", "replace")
    found: dict[str, _Line] = {}
    for line in _documents(whole):
        found.setdefault(line.text, line)
    if not found:
        return text
    if len(found) == 1:
        return next(iter(found))
    problems = [Problem(f"line {line.number}", "several", f"is {line.what}") for line in found.values()]
    advice = "Pass the one that is meant: sed -n NUMBERp FILE | stepout …"
    raise invalid_document("the text", problems, advice)


def _is_mixed(text: str | bytes) -> bool:
    """Whether it is neither JSON, nor JSON with a fault."""
    try:
        parse_json(text)
    except InvalidDocumentError as error:
        return {problem.kind for problem in error.problems} <= _NO_JSON
    return False


def _documents(text: str) -> Iterator[_Line]:
    lines = text.lstrip().split("\n")  # Not splitlines(): JSON text may hold other line separators than these.
    if _BROKEN.fullmatch(lines[0].strip()):
        return
    skipped = text[: len(text) - len(text.lstrip())].count("\n")
    for number, line in enumerate(lines, 1 + skipped):
        if "stepout" not in line and '"cause"' not in line:
            continue
        for start in sorted({line.find("["), line.find("{"), line.find(_OURS)}):
            if start < 0 or line[:start].rstrip().endswith(_INSIDE):
                continue
            found = line[start:].strip()
            if what := _what(found):
                yield _Line(number, found, what)
                break


def _what(text: str) -> str:
    """What a line's JSON is: documents of ours, a failure, or nothing that is looked for."""
    try:
        value = load_foreign(text)
        found = find_documents(value) or find_documents(opened_texts(value))
    except InvalidDocumentError:
        return ""
    if found:
        return _named(found)
    return f"the failure {value['error']!r}" if _is_failure(value) else ""


def _named(found: list[Found]) -> str:
    if len(found) > 1:
        return f"one with {len(found)} documents in it"
    _, kind, document = found[0]
    names = document.get("artifacts")
    listed = ", ".join(map(str, names)) if isinstance(names, dict) else ""
    return f"a task output ({listed or 'no artifacts'})" if kind == "output" else f"a pointer ({document.get('key')})"


def _is_failure(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == _FAILURE and isinstance(value["error"], str)

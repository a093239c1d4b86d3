"""A look into text and JSON: the beginning, decoded as it says it is, with what acts or is not seen escaped."""

from __future__ import annotations

import codecs
import json
import re
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Literal

from stepout.artifacts.reading.ranges.random_access import open_random
from stepout.artifacts.reading.whole_read import read_whole
from stepout.page.insides.kinds import is_binary
from stepout.page.model import CardProblem, TextInside
from stepout.schemas.errors import InvalidDocumentError
from stepout.schemas.text.foreign_text import shown, shown_json
from stepout.schemas.text.json_text import load_json

if TYPE_CHECKING:
    from stepout.page.insides.look import Look, ReadForLook

SHOWN: Final = 12_000
"""Characters of a text on a page."""

HEAD: Final = 4 * SHOWN
"""What is read for them, in bytes: a character of UTF-8 takes no more than four."""

_WHOLE: Final = 256 << 10  # what is no larger is read whole: it is one block
_JSON: Final = 1 << 20  # what is larger is not parsed: its beginning is shown as it is
_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_CHARSET: Final = re.compile(r';\s*charset\s*=\s*"?([A-Za-z0-9._:-]{1,40})', re.IGNORECASE)
# Python's codecs of text that read each character by itself; others take long, or are no text.
_KNOWN: Final = re.compile(
    "utf-(8|8-sig|16|32)(-[bl]e)?|ascii|iso8859-[0-9]+|cp[0-9]+|koi8-.|shift_jis|euc_..|gb.*|big5"
)
_FALLBACK: Final = "cp1252"


def look_at_text(read: ReadForLook) -> Look:
    """Read the beginning of a text.

    Raises:
        PageBudgetError: It takes more than the page may read; nothing was read.
        StoreError: It could not be read.
    """
    return as_text(read, *look_at_start(read))


def look_at_json(read: ReadForLook) -> Look:
    """Read JSON whole and indent it; of a long one, show the beginning as it is.

    Raises:
        PageBudgetError: As for ``look_at_text``.
        StoreError: It could not be read.
    """
    if read.pinned.size > _JSON:
        return as_text(read, *look_at_start(read), language="json").noting("It is too long to be indented.")
    read.budget.check(read.pinned.size)
    data = read_whole(read.pinned, read.pinned.access.verify)
    try:
        text, cut = indented(load_json(data, max_bytes=None))
    except InvalidDocumentError as error:
        message = f"It is not JSON that can be read, though its bytes are those that were written: {error}"
        found = as_text(read, data[:HEAD], read.whole(None))
        return replace(found, problem=CardProblem(error=error.error_name, message=message))
    return read.whole(TextInside(text=text, language="json", cut=cut))


def indented(value: Any) -> tuple[str, bool]:
    r"""Return JSON as a page shows it, and whether it was cut: no more is written than is shown.

    >>> indented({"a": [1, "é"]})
    ('{\n  "a": [\n    1,\n    "é"\n  ]\n}', False)
    """
    pieces, size = [], 0
    for piece in json.JSONEncoder(indent=2, ensure_ascii=False).iterencode(value):
        pieces.append(piece[: SHOWN + 1])
        size += len(piece)
        if size > SHOWN:
            break
    text = shown_json("".join(pieces)[:SHOWN])
    return text, size > SHOWN


def look_at_start(read: ReadForLook) -> tuple[bytes, Look]:
    """Return the first bytes of whatever it is, with a look that has nothing inside yet; raises as ``look_at_text``."""
    pinned, verify = read.pinned, read.pinned.access.verify
    blocks = pinned.pointer.blocks
    in_ranges = verify in (False, "pinned") or (
        blocks is not None and not (verify == "sha256" and blocks.get("algorithm") != "sha256")
    )
    if pinned.size <= _WHOLE or not in_ranges:
        read.budget.check(pinned.size)
        return read_whole(pinned, verify)[:HEAD], read.whole(None)
    read.budget.check(HEAD, requests=2)
    with closing(open_random(pinned, verify)) as file:
        start = file.read(HEAD) or b""
    return start, read.part(None, "the checksums of their blocks")


def as_text(read: ReadForLook, start: bytes, look: Look, *, language: Literal["text", "json"] = "text") -> Look:
    """Return a look with the beginning of a text in it.

    Args:
        read: What is looked into.
        start: Its first bytes.
        look: What has been found so far; nothing inside.
        language: What the text is.
    """
    if is_binary(start) and not _declared(read.pinned.pointer.media_type):
        return look.noting("These bytes are no text; nothing of them is shown.")
    whole = len(start) == read.pinned.size
    text, note = decoded(start, read.pinned.pointer.media_type, whole=whole)
    told = shown(text.replace("\r\n", "\n"), None, lines=True)
    inside = TextInside(text=told[:SHOWN], language=language, cut=not whole or len(told) > SHOWN)
    return replace(look, inside=inside).noting(note)


def decoded(start: bytes, media_type: str, *, whole: bool) -> tuple[str, str]:
    """Decode the beginning of a text.

    Args:
        start: Its bytes.
        media_type: Its ``charset`` is believed, if there is no byte-order mark.
        whole: Whether they are all; otherwise the last character may be cut.

    Returns:
        The text, and a sentence where it is not what it says, or not UTF-8 although nothing else is said.
    """
    marked = next((encoding for mark, encoding in _MARKS if start.startswith(mark)), None)
    declared = _declared(media_type)
    encoding = marked or declared or "utf-8"
    try:
        return codecs.getincrementaldecoder(encoding)().decode(start, final=whole), ""
    except UnicodeError:
        text = codecs.getincrementaldecoder(_FALLBACK)(errors="replace").decode(start)
        return text, f"It is not {encoding.upper()}, as it should be: it is shown as {_FALLBACK}."


def _declared(media_type: str) -> str | None:
    """Return the encoding that a media type names, if a page knows it."""
    found = _CHARSET.search(media_type)
    try:
        name = codecs.lookup(found[1]).name if found else ""
    except (LookupError, ValueError):
        return None
    return name if _KNOWN.fullmatch(name) else None

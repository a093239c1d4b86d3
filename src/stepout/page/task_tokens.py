"""Task tokens on a page: found where a state passes them on, and taken out of all that the page shows. Pure.

A token lets its holder end a state. A history holds it in the parameters of a state, and whatever was given it may
quote it: a cause, a result, a file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any, Final

from stepout.callbacks.delivery.redaction import MARK, Redactor

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stepout.page.model import RunPage

# A shorter value is no token of Step Functions, and would be taken out of much that is none.
_VALUE: Final = r"((?:[A-Za-z0-9+=_.~-]|\\*/|%[0-9A-Fa-f]{2}){20,2100}+)"
_BETWEEN: Final = r"[\s\\\",:=]{1,24}+"
# A member or an argument (STEPOUT_TASK_TOKEN, TaskToken, --token), a pair of a name and a value in either order; also
# within JSON in JSON, such as a MessageBody.
_NAMED: Final = re.compile(rf"(?i:token){_BETWEEN}(?:(?i:value){_BETWEEN})?{_VALUE}")
_BEFORE: Final = re.compile(
    rf"(?i:value){_BETWEEN}{_VALUE}[\\\"]{{1,8}}+{_BETWEEN}(?i:name){_BETWEEN}\w{{0,60}}(?i:token)\W"
)
# How Step Functions' own tokens look; cut short, too.
_SHAPE: Final = re.compile(r"(?<![A-Za-z0-9+/=_-])AQC(?:[A-Za-z0-9+/=_-]|\\+/|%[0-9A-Fa-f]{2}){40,}+")


def tokens_in(*texts: object) -> frozenset[str]:
    """Return the values that go by the name of a token, such as ``STEPOUT_TASK_TOKEN`` or ``TaskToken``.

    Args:
        texts: Parameters, inputs and outputs of a history: JSON as text; anything else holds none.

    >>> sorted(tokens_in('{"Environment": [{"Name": "TASK_TOKEN", "Value": "QUJDREVGR0hJSktMTU5P"}]}'))
    ['QUJDREVGR0hJSktMTU5P']
    """
    found: set[str] = set()
    for text in texts:
        if isinstance(text, str) and "token" in text.lower():
            for pattern in (_NAMED, _BEFORE):
                found.update(re.sub(r"\\+/", "/", each[1]) for each in pattern.finditer(text))
    return frozenset(found)


def without_token_shapes(text: str) -> str:
    """Return a text without what looks like a token of Step Functions.

    >>> without_token_shapes(f"given AQC{'b64+' * 12}== and failed")
    'given [redacted] and failed'
    """
    return _SHAPE.sub(MARK, text) if "AQC" in text else text


def without_tokens(page: RunPage, tokens: Iterable[str]) -> RunPage:
    """Return a page that shows none of these tokens, wherever they stand on it."""
    known = frozenset(tokens)
    return _cleaned(page, Redactor(known)) if known else page


def _cleaned(value: Any, redactor: Redactor) -> Any:
    if isinstance(value, str):
        return redactor.exact(without_token_shapes(value) if redactor.hits(value) else value)
    if is_dataclass(value) and not isinstance(value, type):
        members = {each.name: getattr(value, each.name) for each in fields(value)}
        changed = {name: new for name, each in members.items() if (new := _cleaned(each, redactor)) is not each}
        return type(value)(**{**members, **changed}) if changed else value
    if isinstance(value, tuple):
        cleaned = tuple(_cleaned(each, redactor) for each in value)
        return value if all(new is old for new, old in zip(cleaned, value, strict=True)) else cleaned
    if isinstance(value, Mapping):
        return {_cleaned(name, redactor): _cleaned(each, redactor) for name, each in value.items()}
    return value

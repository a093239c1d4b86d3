r"""The rules for the known members of a document, as the parser applies them.

They say in Python what ``pointer.schema.json`` and ``output.schema.json`` say in JSON Schema; the schemas are the
truth, and tests hold the two together. Patterns read the same in ECMA-262 and in Python: ``[0-9]`` because Python's
``\d`` takes digits of every script, and ``$(?![\s\S])`` because Python's ``$`` matches before a final newline too.
"""

from __future__ import annotations

import re
from functools import cached_property
from typing import TYPE_CHECKING, Final

from stepout.schemas.problems import Problem
from stepout.schemas.text.json_value import INTEGER_LIMIT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


_LINE: Final = r"[^\x00-\x1f\x7f-\x9f]*"
# A dollar sign in a class is spelled \x24: some validators put Python's end anchor in the place of every dollar sign.
_TCHAR: Final = r"[A-Za-z0-9!#\x24%&'*+.^_`|~-]+"
_TYPE: Final = r"[A-Za-z0-9][A-Za-z0-9!#\x24&^_.+-]{0,126}"
_QUOTED: Final = r'"(?:[ !#-\[\]-~]|\\[ -~])*"'
_BUCKET: Final = "[A-Za-z0-9._-]{3,255}"
# Access points as botocore knows them: regional, multi-region (no region), object lambda, S3 Express, Outposts.
_ARN: Final = r"arn:aws[a-z0-9-]*:s3"
_ACCESS_POINT: Final = (
    rf"{_ARN}(?:-object-lambda|express)?:[a-z0-9-]*:[0-9]{{12}}:accesspoint[/:][A-Za-z0-9.-]{{1,63}}"
    rf"|{_ARN}-outposts:[a-z0-9-]+:[0-9]{{12}}:outpost[/:][A-Za-z0-9-]{{1,63}}[/:]accesspoint[/:][A-Za-z0-9-]{{1,63}}"
)
# The years are spelled out for February 29th, so that every time that passes can be read as a datetime.
_LEAP: Final = r"(?:[1-9][0-9](?:0[48]|[2468][048]|[13579][26])|(?:[2468][048]|[13579][26])00)"
_DATE: Final = (
    r"(?:[1-9][0-9]{3}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
    rf"|02-(?:0[1-9]|1[0-9]|2[0-8]))|{_LEAP}-02-29)"
)
_TIME: Final = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,9})?"


class Text:
    """The rule for a member that is text.

    Attributes:
        body: A regular expression for the whole text.
        expected: The form in words; the ``title`` of the member in the schema.
        shortest: In characters.
        longest: In characters.
    """

    def __init__(self, body: str, expected: str, shortest: int = 0, longest: int = 1024) -> None:
        self.body, self.expected = body, expected
        self.shortest, self.longest = shortest, longest

    @cached_property  # compiled when first used: most documents have few of the members
    def matches(self) -> Callable[[str], re.Match[str] | None]:
        """``re.Pattern.fullmatch`` of the body."""
        return re.compile(self.body).fullmatch

    @cached_property
    def accepts(self) -> Callable[[str], re.Match[str] | None]:
        """The same with the limits, and without lone surrogates: all that there is to check, in one go."""
        if self.body == _LINE:
            return re.compile(rf"{_LINE[:-2]}\ud800-\udfff]{{{self.shortest},{self.longest}}}").fullmatch
        return re.compile(rf"(?!.{{{self.longest + 1}}})(?:{self.body})").fullmatch

    @property
    def pattern(self) -> str:
        """The ``pattern`` of the schema."""
        return rf"^(?:{self.body})$(?![\s\S])"

    def problems(self, value: object, location: str) -> Iterator[Problem]:
        """Yield what is wrong with ``value``."""
        if not isinstance(value, str):
            yield wrong_type(location, "string", value)
            return
        if not self.shortest <= len(value) <= self.longest:
            yield wrong_length(location)
        if not self.matches(value):
            yield wrong_pattern(location, self.expected)


_FREE: Final = "text without control characters"
_SECOND: Final = "a time as RFC 3339 has it, in UTC with Z"

POINTER_TEXTS: Final = {
    "bucket": Text(f"{_BUCKET}|{_ACCESS_POINT}", "a bucket's name, or an access point's ARN", longest=255),
    "key": Text(_LINE, _FREE, 1, 1024),
    "mediaType": Text(f"{_TYPE}/{_TYPE}(?: *; *{_TCHAR}=(?:{_TCHAR}|{_QUOTED}))*", "a media type", longest=255),
    "versionId": Text(_LINE, _FREE, 1, 1024),
    "etag": Text(_LINE, _FREE, 1, 1024),
    "bucketOwner": Text("[0-9]{12}", "an AWS account id, 12 digits"),
    "region": Text(_LINE, _FREE, 1, 64),
    "createdAt": Text(f"{_DATE}T{_TIME}Z", _SECOND),
    "expiresAt": Text(f"{_DATE}T{_TIME}Z", _SECOND),
}
CHECKSUMS: Final = {
    "sha256": Text("[0-9a-f]{64}", "64 lower-case hexadecimal digits"),
    "crc64nvme": Text("[0-9a-f]{16}", "16 lower-case hexadecimal digits"),
}
OTHER_CHECKSUM: Final = Text("[0-9a-f]+", "lower-case hexadecimal digits", longest=256)
BLOCKS_TEXTS: Final = {
    "algorithm": Text("[a-z0-9]+", "lower-case letters and digits", 1, 64),
    "place": Text("pointer|object|footer", "pointer, object or footer"),
    "digests": Text("[A-Za-z0-9+/]*={0,2}", "base64", longest=4096),
    "key": POINTER_TEXTS["key"],
    "sha256": CHECKSUMS["sha256"],
}
PRODUCER_TEXTS: Final = {
    "execution": Text(_LINE, _FREE, 1, 2048),
    "parentExecution": Text(_LINE, _FREE, 1, 2048),
    "state": Text(_LINE, _FREE, 1, 1024),
    "mapIndex": Text("[0-9]+(?:-[0-9]+)*", "an index, or a path of them such as 3-0"),
    "version": Text(_LINE, _FREE, 1, 1024),
    "nonce": Text(_LINE, _FREE, 1, 1024),
    "runId": Text(_LINE, _FREE, 1, 1024),
    "startedAt": Text(f"{_DATE}T{_TIME}Z", _SECOND),
}
TRACEPARENT: Final = Text(
    "[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}",
    "a traceparent as W3C's Trace Context has it: version, trace id, parent id and flags, in lower-case hexadecimal",
)
NAME: Final = Text("[A-Za-z_][A-Za-z0-9_]*", "a name of letters, digits and _ that does not begin with a digit")


def whole(value: object) -> int | None:
    """Return a whole number from 0 to 2**53 - 1 as ``int``, anything else as ``None``.

    ``1.0`` is an integer in JSON Schema, hence here; ``True`` is not.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if 0 <= value <= INTEGER_LIMIT and value == int(value) else None


def integer_problems(value: object, location: str) -> Iterator[Problem]:
    """Yield what is wrong with a member that is to be a whole number from 0 to 2**53 - 1."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or (isinstance(value, float) and not value.is_integer()):
        yield wrong_type(location, "integer", value)
    # In JSON Schema the limits hold for every number, whole or not.
    if isinstance(value, int | float) and number and not 0 <= value <= INTEGER_LIMIT:
        yield wrong_range(location)


# The wording, shared with the validator ----------------------------------------------------------------------------

_ARTICLES: Final = {"object": "an object", "array": "an array", "integer": "a whole number", "string": "text"}


def kind_of(value: object) -> str:
    """Return what a value is in JSON: object, array, text, number, boolean or null."""
    if value is None:
        return "null"
    kinds = ((bool, "boolean"), (int | float, "number"), (str, "text"), (list, "array"), (dict, "object"))
    return next((word for kind, word in kinds if isinstance(value, kind)), type(value).__name__)


def wrong_type(location: str, expected: str, found: object) -> Problem:
    """Kind ``"type"``; ``expected`` is a word of JSON Schema."""
    return Problem(location, "type", f"must be {_ARTICLES.get(expected, expected)}, is {kind_of(found)}")


def missing(location: str) -> Problem:
    """Kind ``"missing"``."""
    return Problem(location, "missing", "is missing")


def no_checksum(location: str) -> Problem:
    """Kind ``"missing"``, of a checksum with neither algorithm that readers verify."""
    return Problem(location, "missing", "has neither sha256 nor crc64nvme; one of them is required")


def wrong_version(location: str, expected: str) -> Problem:
    """Kind ``"version"``."""
    message = f'must be "{expected}"; a document with another number after the slash needs another stepout'
    return Problem(location, "version", message)


def wrong_length(location: str, rule: str = "") -> Problem:
    """Kind ``"length"``."""
    return Problem(location, "length", f"is empty, too short or too long{rule}")


def wrong_pattern(location: str, expected: str) -> Problem:
    """Kind ``"pattern"``."""
    return Problem(location, "pattern", f"must be {expected}")


def wrong_range(location: str) -> Problem:
    """Kind ``"range"``."""
    return Problem(location, "range", f"must be from 0 to {INTEGER_LIMIT}")


def wrong_name(location: str) -> Problem:
    """Kind ``"name"``."""
    return Problem(location, "name", f"is no artifact name: expected {NAME.expected}")


def unexpected(location: str) -> Problem:
    """Kind ``"unexpected"``."""
    return Problem(location, "unexpected", "must be absent where there is a manifest, which stands in for it")

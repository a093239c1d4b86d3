"""``SmallRequests``: one way to send requests like one that was learned, asked before the ordinary way of ``S3Store``.

A way has three answers. It returns what was achieved; or ``None``: it has sent nothing, and the next one is asked; or
it raises: something was sent, and the answer was no plain success. Then the ordinary way sends the request again, so
that errors, retries and redirects are those of ``S3Store`` whichever way was tried first.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

if TYPE_CHECKING:
    from stepout.artifacts.s3.routes.request_template import LearnedRequest
    from stepout.artifacts.store import Arrived, Download
    from stepout.artifacts.store_writes import Written


_CODE: Final = re.compile("<Code>([^<]*)</Code>")


class NoPlainSuccessError(Exception):
    """What was sent was not answered with a plain success; the request has to be sent the ordinary way."""


class ForeignAnswerError(NoPlainSuccessError):
    """The answer cannot be that of the request; the text says why."""


class SlowDownAnswerError(NoPlainSuccessError):
    """The server asks for fewer requests; this one was not carried out."""


def not_plain(status: int, text: str) -> NoPlainSuccessError:
    """Return what to raise for an answer of S3's that is no plain success.

    Args:
        status: HTTP's.
        text: Its body.
    """
    from stepout.artifacts.s3.errors import is_slow_down

    code = _CODE.search(text)
    slow = is_slow_down(status, code[1] if code else "", text)
    return (SlowDownAnswerError if slow else NoPlainSuccessError)(status)


class SmallReads(Protocol):
    """Gets objects whose keys are plain (``is_plain_key``), before anything was learned."""

    def get(self, key: str, *, size: int, version_id: str | None, if_match: str | None) -> Download | None:
        """Open a whole object that should have ``size`` bytes; ``None`` also if that is too much."""
        ...


class SmallBody(NamedTuple):
    """The bytes of a small object in one piece.

    Attributes:
        data: They.
        sha256: Theirs, hex, as it was computed before.
        unchanged: Whether they are the very bytes object that was hashed. What is not bytes may have changed since.
    """

    data: bytes
    sha256: str
    unchanged: bool


class SmallRequests(Protocol):
    """Puts and gets objects of at most ``SMALL`` bytes whose keys are plain (``is_plain_key``)."""

    def put(self, known: LearnedRequest, key: str, body: SmallBody, *, media_type: str) -> Written | None:
        """Store a whole object, by a request like one that was learned.

        Returns:
            ``None`` if nothing was sent.

        Raises:
            Exception: Any: it was sent, and what became of it is not known.
        """
        ...

    def get(self, known: LearnedRequest, key: str, *, version_id: str | None, if_match: str | None) -> Download | None:
        """Open a whole object, by a request like one that was learned; what is returned has arrived.

        Returns:
            ``None`` if nothing was sent.

        Raises:
            Exception: Any: it was sent, and the answer was no plain success.
        """
        ...


def own_answer(found: Arrived, *, version_id: str | None, if_match: str | None) -> Arrived:
    """Return what was read, if it can be the answer of a request for this version and ETag.

    Raises:
        ForeignAnswerError: It cannot.
    """
    if found.info.etag == if_match and found.info.version_id == version_id:
        return found
    from stepout.artifacts.s3.correlation import foreign_download  # a cold read does without

    said = {"ETag": found.info.etag, "VersionId": found.info.version_id}
    why = foreign_download(said, start=0, stop=None, version_id=version_id, if_match=if_match)
    if why is not None:
        raise ForeignAnswerError(why)
    return found

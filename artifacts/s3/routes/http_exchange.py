"""One HTTP/1.1 request and its answer on a connected socket, for answers of the plainest kind.

An answer is plain if it has a length, or comes in chunks for a caller that takes those, and is not too long.
Everything else, broken heads included, is ``NotPlainAnswerError``, and the caller asks again by a client that knows all
of HTTP. The standard library's own client takes longer to import than a small object takes to arrive.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_LONGEST_HEAD: Final = 32_768  # bytes; S3 limits what it sends back to 8 KB of metadata
_BLOCK: Final = 65_536
_STATUS: Final = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: [^\r\n]*)?")
_FIELD: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00\r\n]*?)[ \t]*")
_LENGTH: Final = re.compile(r"[0-9]{1,15}")
_CHUNK: Final = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\r\n]*)?\r\n")
_LONGEST_CHUNK_LINE: Final = 1024
_FORBIDDEN: Final = re.compile("[\x00\r\n]")
_LATIN_1: Final = re.compile("[\x00-\xff]*")
_BODILESS: Final = frozenset({204, 304})
_FIRST_FINAL: Final = 200


class NotPlainAnswerError(Exception):
    """The answer is none that is read here; the connection is of no use any more. The text says why, and no more."""


class HttpAnswer(NamedTuple):
    """An answer that has arrived whole.

    Attributes:
        status: E.g. 200.
        headers: By lower-case name; the values of one that came several times are joined by commas.
        body: All of it.
        reusable: Whether the connection can carry another request.
    """

    status: int
    headers: dict[str, str]
    body: memoryview
    reusable: bool


class Connected(Protocol):
    """A socket, with TLS or without, as far as it is used here."""

    def settimeout(self, value: float | None, /) -> None:
        """Limit each call, in seconds."""
        ...

    def sendall(self, data: bytes, /) -> None:
        """Send everything."""
        ...

    def recv(self, size: int, /) -> bytes:
        """Receive something; nothing at the end."""
        ...

    def recv_into(self, buffer: memoryview, /) -> int:
        """Receive something into a buffer; 0 at the end."""
        ...


def request_head(method: str, target: str, headers: Mapping[str, str]) -> bytes:
    """Return the head of a request, with the empty line after it.

    Args:
        method: E.g. ``"GET"``.
        target: Path and query, percent-encoded.
        headers: All of them, ``host`` and ``content-length`` included.

    Raises:
        ValueError: Something in it would end a line, or is not Latin-1.
    """
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    head = f"{method} {target} HTTP/1.1\r\n{lines}\r\n"
    forbidden = " " in target or any(map(_FORBIDDEN.search, [target, *headers, *headers.values()]))
    # Looked at here: the codec's own error has the whole head in it, tokens included.
    if forbidden or not _LATIN_1.fullmatch(head):
        message = "a request's head with a line break in it, or with what is not Latin-1"
        raise ValueError(message)
    return head.encode("latin-1")


def exchange(  # noqa: PLR0913 - keyword-only, each with its own meaning
    sock: Connected,
    request: bytes,
    *,
    limit: int,
    deadline: float,
    chunks: bool = False,
    clock: Callable[[], float] = time.monotonic,
) -> HttpAnswer:
    """Send a request and return its answer.

    A signal's handler runs while this waits, and may raise. The socket is not closed here, whatever happens; after any
    exception it is of no use any more.

    Args:
        sock: Connected, with nothing left to read on it.
        request: Head and body in one piece.
        limit: Bytes of the longest body that is wanted.
        deadline: When the whole of it must be over, by the clock.
        chunks: Whether a short body may come in chunks as well.
        clock: Seconds, monotonic.

    Raises:
        NotPlainAnswerError: The answer has no plain form, is longer than the limit, or ended early.
        OSError: The connection failed; ``TimeoutError`` at the deadline.
    """
    _limit_wait(sock, deadline, clock)
    sock.sendall(request)
    received = bytearray()
    while (end := received.find(b"\r\n\r\n")) < 0:
        if len(received) > _LONGEST_HEAD:
            raise NotPlainAnswerError("its head is too long")
        _limit_wait(sock, deadline, clock)
        block = sock.recv(_BLOCK)
        if not block:
            raise NotPlainAnswerError("it ended before its head did")
        received += block
    version, status, headers = parse_head(bytes(received[:end]))
    chunked = chunks and headers.get("transfer-encoding", "").lower() == "chunked"
    read = _chunked_body if chunked and "content-length" not in headers and status >= _FIRST_FINAL else _plain_body
    length = limit if read is _chunked_body else _length(status, headers)
    if length > limit:
        raise NotPlainAnswerError("its body is longer than is wanted")
    body = read(sock, received[end + 4 :], length, lambda: _limit_wait(sock, deadline, clock))
    closes = "close" in headers.get("connection", "").lower()
    return HttpAnswer(status, headers, body, reusable=version == 1 and not closes)


def _plain_body(sock: Connected, first: bytearray, length: int, wait: Callable[[], None]) -> memoryview:
    have = len(first)
    if have > length:
        raise NotPlainAnswerError("more came than its body")
    # One byte more than is due: what comes after the body in the same record of TLS would else wait inside the socket,
    # unseen, and be read as the next answer.
    body = memoryview(bytearray(length + 1))
    body[:have] = first
    while have < length:
        wait()
        count = sock.recv_into(body[have:])
        if not count:
            raise NotPlainAnswerError("it ended before its body did")
        have += count
    if have > length:
        raise NotPlainAnswerError("more came than its body")
    return body[:length].toreadonly()


def _chunked_body(sock: Connected, received: bytearray, limit: int, wait: Callable[[], None]) -> memoryview:
    while (body := joined_chunks(bytes(received), limit)) is None:
        wait()
        block = sock.recv(_BLOCK)
        if not block:
            raise NotPlainAnswerError("it ended before its body did")
        received += block
    return memoryview(body)


def joined_chunks(received: bytes, limit: int) -> bytes | None:
    r"""Return a body that came in chunks, ``None`` while it has not come whole.

    Args:
        received: What came after the head.
        limit: Bytes of the longest body that is wanted.

    Raises:
        NotPlainAnswerError: It is longer, has trailers, or is no such body.

    >>> joined_chunks(b"3\r\nabc\r\n0\r\n\r\n", 9), joined_chunks(b"3\r\nab", 9)
    (b'abc', None)
    """
    body, at = bytearray(), 0
    while True:
        line = _CHUNK.match(received, at)
        if line is None:
            if b"\n" in received[at:] or len(received) - at > _LONGEST_CHUNK_LINE:
                raise NotPlainAnswerError("its chunks cannot be read")
            return None
        start, stop = line.end(), line.end() + int(line[1], 16)
        if len(body) + stop - start > limit:
            raise NotPlainAnswerError("its body is longer than is wanted")
        if len(received) < stop + 2:
            return None
        if received[stop : stop + 2] != b"\r\n" or (start == stop and len(received) != stop + 2):
            raise NotPlainAnswerError("its chunks cannot be read")
        if start == stop:
            return bytes(body)
        body += received[start:stop]
        at = stop + 2


def parse_head(head: bytes) -> tuple[int, int, dict[str, str]]:
    r"""Read the head of an answer, without the empty line at its end.

    Returns:
        The minor version of HTTP/1, the status, and the headers by lower-case name.

    Raises:
        NotPlainAnswerError: It is no such head; a line that continues another is none either.

    >>> parse_head(b"HTTP/1.1 200 OK\r\nETag: x")
    (1, 200, {'etag': 'x'})
    """
    first, *lines = head.split(b"\r\n")
    status = _STATUS.fullmatch(first)
    if status is None:
        raise NotPlainAnswerError("its first line is not that of HTTP/1")
    headers: dict[str, str] = {}
    for line in lines:
        field = _FIELD.fullmatch(line)
        if field is None:
            raise NotPlainAnswerError("one of its headers is none")
        name, value = field[1].decode("ascii").lower(), field[2].decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return int(status[1]), int(status[2]), headers


def _length(status: int, headers: Mapping[str, str]) -> int:
    if status < _FIRST_FINAL or "transfer-encoding" in headers:
        raise NotPlainAnswerError("it comes in a form that is not read here")
    if status in _BODILESS:
        return 0
    said = headers.get("content-length", "")
    if _LENGTH.fullmatch(said) is None:  # also where it was said twice
        raise NotPlainAnswerError("it does not say how long it is")
    return int(said)


def _limit_wait(sock: Connected, deadline: float, clock: Callable[[], float]) -> None:
    left = deadline - clock()
    if left <= 0:
        raise TimeoutError("the answer took too long")
    sock.settimeout(left)

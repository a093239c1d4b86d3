"""Plain answers are read whole, and whatever is not plain is said to be so."""

from __future__ import annotations

import socket
import threading
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepout.artifacts.s3.routes.http_exchange import (
    HttpAnswer,
    NotPlainAnswerError,
    exchange,
    joined_chunks,
    parse_head,
    request_head,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

HOUR = 3600.0


def _answered(pieces: Iterable[bytes], *, limit: int = 1 << 20, ends: bool = True, chunks: bool = False) -> HttpAnswer:
    """Return what is read of an answer that comes in these pieces."""
    ours, theirs = socket.socketpair()

    def serve() -> None:
        theirs.recv(1000)
        for piece in pieces:
            theirs.sendall(piece)
        if ends:
            theirs.shutdown(socket.SHUT_WR)

    server = threading.Thread(target=serve)
    server.start()
    with ours, theirs:
        try:
            return exchange(
                ours, b"GET / HTTP/1.1\r\n\r\n", limit=limit, deadline=HOUR, chunks=chunks, clock=lambda: 0.0
            )
        finally:
            server.join()


@given(body=st.binary(max_size=300), cuts=st.lists(st.integers(0, 400), max_size=5))
def test_an_answer_is_read_whole_however_it_is_cut(body: bytes, cuts: list[int]) -> None:
    """Head and body are put together again, and the connection can go on."""
    sent = b'HTTP/1.1 200 OK\r\nETag: "x"\r\nContent-Length: %d\r\n\r\n%b' % (len(body), body)
    edges = sorted({0, len(sent), *(cut for cut in cuts if cut < len(sent))})
    found = _answered((sent[start:stop] for start, stop in pairwise(edges)), ends=False)
    assert found.status == 200
    assert found.body == body
    assert found.headers == {"etag": '"x"', "content-length": str(len(body))}
    assert found.reusable


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcd",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: +3\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n" + b"a" * 99,
        b"HTTP/1.1 200 OK\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/2 200\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA : b\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        b"HTTP/1.1 200 OK\r\nA: " + b"a" * 70_000 + b"\r\nContent-Length: 0\r\n\r\n",
    ],
)
def test_an_answer_of_another_form_is_not_plain(sent: bytes) -> None:
    """No length, two lengths, another length, another coding, a broken head: none of them is guessed at."""
    with pytest.raises(NotPlainAnswerError):
        _answered([sent], limit=50)


def _in_chunks(pieces: list[bytes]) -> bytes:
    chunks = (b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"".join(chunks) + b"0\r\n\r\n"


@given(pieces=st.lists(st.binary(min_size=1, max_size=40), max_size=5), cuts=st.lists(st.integers(0, 300), max_size=4))
def test_chunks_are_joined_where_they_are_asked_for(pieces: list[bytes], cuts: list[int]) -> None:
    """However they are cut on their way; nowhere else."""
    sent = _in_chunks(pieces)
    edges = sorted({0, len(sent), *(cut for cut in cuts if cut < len(sent))})
    blocks = [sent[start:stop] for start, stop in pairwise(edges)]
    assert _answered(blocks, ends=False, chunks=True).body == b"".join(pieces)
    with pytest.raises(NotPlainAnswerError):
        _answered(blocks)


@pytest.mark.parametrize(
    "received",
    [b"x\r\n", b"3\nabc", b"3\r\nabcd\r\n", b"0\r\nA: b\r\n\r\n", b"0\r\n\r\nmore", b"ff\r\n", b"9" * 2000],
)
def test_chunks_that_cannot_be_read_are_not_guessed_at(received: bytes) -> None:
    """No number, another length, trailers, something behind the end, or too much."""
    with pytest.raises(NotPlainAnswerError):
        joined_chunks(received, 50)


@given(st.binary(max_size=60))
def test_any_bytes_are_chunks_or_not_plain(received: bytes) -> None:
    """No other error leaves the reader of chunks."""
    try:
        assert len(joined_chunks(received, 50) or b"") <= 50
    except NotPlainAnswerError:
        return


def test_what_follows_the_body_at_once_is_not_left_for_the_next_request() -> None:
    """Under TLS it would wait inside the socket, where nobody sees it who looks whether anything has come."""
    with pytest.raises(NotPlainAnswerError, match="more came"):
        _answered([b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n", b"dataHTTP/1.1 200 OK"], ends=False)


@pytest.mark.parametrize(
    ("sent", "reusable"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", True),
        (b"HTTP/1.1 204 No Content\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\nConnection: Close\r\nContent-Length: 0\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", False),
    ],
)
def test_an_answer_says_whether_the_connection_can_go_on(sent: bytes, *, reusable: bool) -> None:
    """It cannot where the server closes it, or speaks HTTP/1.0."""
    found = _answered([sent])
    assert found.reusable is reusable
    assert not found.body


def test_an_answer_that_does_not_come_ends_at_the_deadline() -> None:
    """Whether the server is silent, or the time was up before."""
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(TimeoutError):
        exchange(ours, b"GET / HTTP/1.1\r\n\r\n", limit=10, deadline=0.01, clock=lambda: 0.0)
    times = iter([0.0, 5.0])
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(TimeoutError):
        exchange(ours, b"GET / HTTP/1.1\r\n\r\n", limit=10, deadline=1.0, clock=lambda: next(times))


@given(st.binary(max_size=200))
def test_any_bytes_are_a_head_or_not_plain(head: bytes) -> None:
    """No other error leaves the reader of heads."""
    try:
        version, status, _ = parse_head(b"HTTP/1.1 200 OK\r\n" + head)
    except NotPlainAnswerError:
        return
    assert (version, status) == (1, 200)


def test_a_requests_head_is_written_as_it_is_sent() -> None:
    """Line by line, with an empty one at its end."""
    assert request_head("GET", "/a?b=c", {"host": "h", "if-match": '"x"'}) == (
        b'GET /a?b=c HTTP/1.1\r\nhost: h\r\nif-match: "x"\r\n\r\n'
    )


@pytest.mark.parametrize(
    ("target", "headers"),
    [("/a\r\nb", {}), ("/a b", {}), ("/", {"a": "b\nc"}), ("/", {"a\r\nb": "c"}), ("/", {"a": "b\0"})],
)
def test_no_value_can_end_a_line_of_a_requests_head(target: str, headers: dict[str, str]) -> None:
    """So nobody can add a header through a value."""
    with pytest.raises(ValueError, match="line break"):
        request_head("GET", target, headers)


def test_a_head_that_cannot_be_sent_does_not_show_itself() -> None:
    """The codec's own error would have all of it."""
    with pytest.raises(ValueError, match="Latin-1") as caught:
        request_head("GET", "/", {"authorization": "the-token", "x-amz-meta-name": "\u0142"})
    assert "the-token" not in repr(caught.value)
    assert not isinstance(caught.value, UnicodeError)
    assert caught.value.__context__ is None

"""Requests over the standard library's sockets: connections are kept, never shared, and hosts are verified."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import sys
import threading

import pytest
from support.forked_child import begin_child, exit_code
from support.plain_server import plain_answer, plain_server
from urllib3.util import wait_for_read

from stepout.artifacts.s3.routes.direct_connections import DirectConnections, Server, connected
from stepout.artifacts.s3.routes.http_exchange import NotPlainAnswerError

REQUEST = b"GET / HTTP/1.1\r\n\r\n"
ANSWER = plain_answer(b"data")


def _ask(connections: DirectConnections) -> bytes:
    return bytes(connections.exchange(REQUEST, limit=100, seconds=60).body)


def test_a_connection_is_used_again_until_it_has_been_idle_for_long() -> None:
    """By the clock on the wall, which goes on while a process is frozen."""
    moment = [1000.0]
    with plain_server(ANSWER) as server:
        connections = DirectConnections(Server("127.0.0.1", server.port, False), now=lambda: moment[0])
        assert [_ask(connections), _ask(connections)] == [b"data"] * 2
        assert server.connections == 1
        for change in (60.0, -30.0):  # a clock that was set back says nothing about idleness
            moment[0] += change
            before = server.connections
            assert _ask(connections) == b"data"
            assert server.connections == before + 1


@pytest.mark.parametrize("failure", [b"", b"HTTP/1.1 200 OK\r\n\r\n"])
def test_an_idle_connection_that_fails_is_replaced_once(failure: bytes) -> None:
    """A server may have closed it just then; a new one that fails is an error."""
    answers = [ANSWER, failure, ANSWER, ANSWER, failure, failure]
    with plain_server(lambda _: answers.pop(0)) as server:
        connections = DirectConnections(Server("127.0.0.1", server.port, False))
        assert [_ask(connections) for _ in range(3)] == [b"data"] * 3
        assert server.connections == 2
        with pytest.raises((OSError, NotPlainAnswerError)):
            [_ask(connections) for _ in range(2)]


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("late", [plain_answer(b"evil"), b"HTTP/1.1 408 Request Timeout\r\n\r\n"])
def test_what_comes_unasked_on_an_idle_connection_is_no_answer(
    late: bytes, tls: bool, certificate: tuple[str, ssl.SSLContext]
) -> None:
    """Whatever has come by the time of the next request, that one goes over another connection."""
    with plain_server(ANSWER + late, tls=certificate[1] if tls else None) as server:
        connections = DirectConnections(Server("localhost", server.port, tls, certificate[0] if tls else None))
        with pytest.raises(NotPlainAnswerError, match="more came"):
            _ask(connections)
        late_again = threading.Event()

        def answer(_: str) -> bytes:
            late_again.set()
            return ANSWER

        server.answer = answer
        assert _ask(connections) == b"data"
        assert late_again.wait(60)
        server.say(late)
        (kept,) = [sock for sock, _ in connections._idle]
        wait_for_read(kept, 60)
        assert _ask(connections) == b"data"
        assert (len(server.requests), server.connections) == (3, 3)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_an_alarm_of_the_job_is_no_failure_of_an_idle_connection() -> None:
    """What a handler raises may be an OSError; it comes up, and nothing is asked again."""

    def handler(*_: object) -> None:
        raise TimeoutError("the job's own")

    main = threading.get_ident()

    def answer(_: str) -> bytes | None:
        if len(server.requests) == 1:
            return ANSWER
        signal.pthread_kill(main, signal.SIGUSR1)
        return None

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with plain_server(answer) as server:
            connections = DirectConnections(Server("127.0.0.1", server.port, False))
            assert _ask(connections) == b"data"
            with pytest.raises(TimeoutError, match="the job's own"):
                _ask(connections)
            assert (len(server.requests), server.connections) == (2, 1)
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_connection_that_the_server_ends_is_not_kept() -> None:
    """It says so in the answer."""
    with plain_server(plain_answer(b"data", headers="Connection: close\r\n")) as server:
        connections = DirectConnections(Server("127.0.0.1", server.port, False))
        assert [_ask(connections), _ask(connections)] == [b"data"] * 2
        assert server.connections == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_leaves_its_parents_connection_alone() -> None:
    """Each has its own; the parent goes on over the one that it had."""
    with plain_server(ANSWER) as server:
        connections = DirectConnections(Server("127.0.0.1", server.port, False))
        _ask(connections)
        assert exit_code(begin_child(lambda: 0 if _ask(connections) == b"data" else 1)) == 0
        assert _ask(connections) == b"data"
        assert (len(server.requests), server.connections) == (3, 2)


def test_threads_have_a_connection_each() -> None:
    """No two requests are on one at once."""
    gate = threading.Barrier(4)

    def answer(_: str) -> bytes:
        gate.wait(60)
        return ANSWER

    with plain_server(answer) as server:
        connections = DirectConnections(Server("127.0.0.1", server.port, False))
        found: list[bytes] = []
        threads = [threading.Thread(target=lambda: found.append(_ask(connections))) for _ in range(4)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        assert (found, server.connections) == ([b"data"] * 4, 4)


def test_each_address_of_a_name_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that refuses is followed by the next; the last one's refusal is the error."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        refusing = (socket.AF_INET, socket.SOCK_STREAM, 6, "", closed.getsockname())
        with plain_server(ANSWER) as server:
            taking = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", server.port))
            found = [refusing, taking]
            monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
            with connected("s3.example.com", 80, 60.0, lambda: 0.0) as sock:
                assert sock.getpeername()[1] == server.port
            found.pop()
            with pytest.raises(ConnectionRefusedError):
                connected("s3.example.com", 80, 60.0, lambda: 0.0)
            found.clear()
            with pytest.raises(OSError, match="no address"):
                connected("s3.example.com", 80, 60.0, lambda: 0.0)


def test_nothing_is_opened_when_the_time_is_up() -> None:
    """The limit is that of the whole request."""
    with pytest.raises(TimeoutError):
        connected("127.0.0.1", 1, 1.0, lambda: 2.0)


@pytest.mark.parametrize(
    ("server", "header"),
    [
        (Server("s3.amazonaws.com", 443, True), "s3.amazonaws.com"),
        (Server("s3.example.com", 443, False), "s3.example.com:443"),
        (Server("::1", 80, False), "[::1]"),
        (Server("::1", 9000, True), "[::1]:9000"),
    ],
)
def test_a_host_header_is_written_as_clients_write_it(server: Server, header: str) -> None:
    """The port only where it is not the scheme's."""
    assert server.host_header == header


# TLS ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["trusted", "another name", "another authority"])
def test_a_server_with_tls_shows_who_it_is(
    case: str, certificate: tuple[str, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its certificate must be of its name and of an authority that is trusted, which this one is by few."""
    authority, context = certificate
    with plain_server(ANSWER, tls=context) as server:
        trusted = None if case == "another authority" else authority
        connections = DirectConnections(
            Server("s3.example.com" if case == "another name" else "localhost", server.port, True, trusted)
        )
        address = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", server.port))
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [address])
        if case == "trusted":
            assert [_ask(connections), _ask(connections)] == [b"data"] * 2
            assert server.connections == 1
        else:
            with pytest.raises(ssl.SSLCertVerificationError):
                _ask(connections)
            assert server.requests == []

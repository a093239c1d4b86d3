"""Names that the system's resolver does not answer for: nobody waits longer than for a connection."""

from __future__ import annotations

import os
import signal
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from support.bad_networks import SilentResolver
from support.forked_child import begin_child, exit_code
from support.plain_server import PlainServer, plain_answer, plain_server

from stepout.artifacts.s3.clients import make_client
from stepout.artifacts.s3.connections.cancellation import cancellable
from stepout.artifacts.s3.connections.watch import ConnectionWatch, Shared
from stepout.artifacts.s3.routes import direct_connections
from stepout.artifacts.s3.routes.direct_connections import DirectConnections, Server, looked_up
from stepout.artifacts.s3.store import S3Store
from stepout.artifacts.store import RequestCancelledError
from stepout.schemas.errors import StepoutError, StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

KEYS: dict[str, Any] = {"aws_access_key_id": "a", "aws_secret_access_key": "b"}
ANSWER = plain_answer(b"data", headers='ETag: "e"\r\nLast-Modified: Sun, 22 Nov 2026 12:00:00 GMT\r\n')


@pytest.fixture
def server() -> Iterator[PlainServer]:
    """Where the name leads."""
    with plain_server(ANSWER) as found:
        yield found


@pytest.fixture
def silent(server: PlainServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[SilentResolver]:
    """A resolver that does not answer for one name: another one each time, as threads stay behind."""
    with SilentResolver(monkeypatch, ("127.0.0.1", server.port), f"silent-{server.port}.test") as found:
        yield found


def _store(host: str) -> S3Store:
    return S3Store(make_client(endpoint_url=f"http://{host}:80", region="us-east-1", tries=1, **KEYS), "bucket")


def test_requests_give_up_together_on_a_name_that_is_not_answered_for(
    silent: SilentResolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One question was asked; each request has its error after its own wait, and it says what was waited for."""
    monkeypatch.setattr("stepout.artifacts.s3.connections.pools.OPEN_SECONDS", 0.5)
    store, gate = _store(silent.host), threading.Barrier(4)

    def ask(_: int) -> StepoutError:
        gate.wait()
        with pytest.raises(StoreUnavailableError) as caught:
            store.head("key")
        return caught.value

    with ThreadPoolExecutor(4) as pool:
        errors = list(pool.map(ask, range(4)))
    assert silent.asked == 1
    assert all(
        f"name could not be looked up for the connection to http://{silent.host}" in str(each) for each in errors
    )


def test_an_answer_that_comes_late_serves_who_still_waits_and_nobody_after_that(silent: SilentResolver) -> None:
    """What a name leads to may change: it is kept by the system's resolver alone."""
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(looked_up, silent.host, 80, seconds=3600) for _ in range(2)]
        assert silent.question.wait(60)
        silent.answer()
        assert waiting[0].result(60) == waiting[1].result(60) != []
    before = silent.asked
    assert looked_up(silent.host, 80, seconds=3600) != []
    assert silent.asked == before + 1


def test_who_waits_too_short_leaves_the_question_to_others(silent: SilentResolver) -> None:
    """A second wait joins the first question, unless that is so old that it may never be answered."""
    with pytest.raises(socket.gaierror, match=f"no answer to the lookup of {silent.host}"):
        looked_up(silent.host, 80, seconds=0.01)
    with pytest.raises(socket.gaierror):
        looked_up(silent.host, 80, seconds=0.01)
    assert silent.asked == 1


def test_a_question_that_was_forsaken_is_asked_again(silent: SilentResolver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its thread stays behind, and costs no later request anything."""
    monkeypatch.setattr(direct_connections, "_FORSAKEN", 0.0)
    for _ in range(2):
        with pytest.raises(socket.gaierror):
            looked_up(silent.host, 80, seconds=0.01)
    assert silent.asked == 2


def test_a_cancelled_request_does_not_wait_for_the_answer(silent: SilentResolver) -> None:
    """As while it connects."""
    store = _store(silent.host)

    def ask() -> None:
        with cancellable() as cancellation:
            pending.append(cancellation)
            store.head("key")

    pending: list[Any] = []
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask)
        assert silent.question.wait(60)
        pending[0].cancel()
        with pytest.raises(RequestCancelledError):
            asked.result(60)


def test_a_direct_connection_has_its_whole_time_for_name_and_answer(silent: SilentResolver) -> None:
    """Then the ordinary way is tried; for credentials of a container that is after two seconds."""
    connections = DirectConnections(Server(silent.host, 80, tls=False))
    with pytest.raises(OSError, match="no answer to the lookup"):
        connections.exchange(b"GET / HTTP/1.1\r\n\r\n", limit=10, seconds=0.1)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no alarms here")
def test_an_alarm_of_the_job_ends_the_wait(silent: SilentResolver) -> None:
    """The main thread hears signals while it waits, which it does not inside ``getaddrinfo``."""

    def handler(*_: object) -> None:
        raise InterruptedError("the job's own")

    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(InterruptedError, match="the job's own"):
            looked_up(silent.host, 80, seconds=3600)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_asks_for_itself(silent: SilentResolver) -> None:
    """The thread that asks for its parent is not there."""
    with pytest.raises(socket.gaierror):
        looked_up(silent.host, 80, seconds=0.01)

    def ask() -> int:
        silent.answer()
        return 0 if looked_up(silent.host, 80, seconds=60) else 1

    assert exit_code(begin_child(ask)) == 0


def test_where_no_thread_can_be_had_the_caller_asks_by_itself(
    silent: SilentResolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the end of the interpreter, and where a container allows no more."""

    def refuse(*_: object) -> int:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("_thread.start_new_thread", refuse)
    silent.answer()
    assert looked_up(silent.host, 80, seconds=60) != []


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "fe80::1%lo"])
def test_an_address_is_not_asked_about(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No thread is started for what the system only has to read."""
    monkeypatch.setattr("_thread.start_new_thread", None)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: ["found"])
    assert looked_up(host, 80, seconds=60) == ["found"]


def test_a_name_that_is_not_there_is_said_as_the_system_says_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the same numbers, by which libraries tell what failed."""

    def refuse(*_: object) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    with pytest.raises(socket.gaierror, match="no such name") as caught:
        looked_up("nowhere.test", 80, seconds=60)
    assert caught.value.errno == socket.EAI_NONAME


def test_the_time_for_a_name_is_taken_from_that_for_its_addresses(
    silent: SilentResolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both together have the connect timeout."""
    now, given = [1000.0], list[float]()

    def connecting(*_: object, seconds: float, **__: object) -> Any:
        given.append(seconds)
        raise TimeoutError("far enough")

    def found(*_: object, seconds: float, **__: object) -> list[Any]:
        now[0] += 4
        given.append(seconds)
        return []

    monkeypatch.setattr("stepout.artifacts.s3.connections.watch.addresses_of", found)
    monkeypatch.setattr("stepout.artifacts.s3.connections.watch.Connecting", connecting)
    shared = Shared(clock=lambda: now[0])
    with pytest.raises(TimeoutError, match="far enough"):
        ConnectionWatch(None, shared).connect(silent.host, 80, 10.0, options=(), source=None)
    assert given == [10.0, 6.0]

"""A proxy that spoils what passes between an HTTP client and a server: for faults that no server gives on demand.

It understands just enough HTTP/1.1: request heads and bodies with ``Content-Length``, answers with ``Content-Length``
or none. ``Wire.when`` arms a fault for requests whose line satisfies a predicate; each fault is spent after ``times``
requests. ``Wire.lines`` remembers every request line, ``Wire.connections`` those of each connection, and
``Wire.accepted`` counts connections.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Self
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

Kind = Literal[
    "reset",  # the connection is reset once the request has arrived; the server never sees it
    "status",  # the proxy answers with a status and S3's error document; the server never sees the request
    "lost",  # the server answers, the client gets a reset instead
    "truncate",  # half of the answer's body, then the end
    "stall",  # the answer never comes, until the wire closes or ``release`` is called
    "half",  # half of the answer's body, and the rest never comes, until the wire closes or ``release`` is called
    "deaf",  # the head is read, the body never, until the wire closes or ``release`` is called
    "cut",  # the connection is reset after half of the request's body
    "flip_answer",  # one bit of the answer's body is flipped
    "flip_request",  # one bit of the request's body is flipped
    "late_error",  # 200, with an error document in the body
    "rewrite",  # the server's answer, changed by ``rewrite``
]
Beyond = Literal[
    "refuse",  # nobody listens until there may be one more
    "reset",  # taken, and reset at once
    "silence",  # taken, and never answered
    "backlog",  # left in the kernel's queue until there may be one more
]
_REASON = {403: "Forbidden", 409: "Conflict", 500: "Internal Server Error", 503: "Service Unavailable"}
_BUSY = "ServiceUnavailable"  # not SlowDown, which asks for fewer requests and is no failure
_BLOCK = 1 << 16


def operation(line: str) -> str:
    """Name the S3 operation of a request line, as far as tests need to tell them apart."""
    method, target, _ = line.split(" ", 2)
    query = urlsplit(target).query
    if method == "PUT":
        return "UploadPart" if "partNumber=" in query else "PutObject"
    if method == "POST":
        return "CompleteMultipartUpload" if "uploadId=" in query else "CreateMultipartUpload"
    if method == "DELETE":
        return "AbortMultipartUpload" if "uploadId=" in query else "DeleteObject"
    return {"HEAD": "HeadObject", "GET": "GetObject"}[method]


@dataclass
class Fault:
    """What happens to the next ``times`` requests that satisfy ``wanted``."""

    wanted: Callable[[str], bool]
    kind: Kind
    times: int
    status: int = 503
    code: str = _BUSY
    hits: int = 0
    before: Callable[[], None] | None = None
    rewrite: Callable[[bytes], bytes] | None = None
    released: threading.Event = field(default_factory=threading.Event)
    struck: threading.Event = field(default_factory=threading.Event)
    halfway: threading.Event = field(default_factory=threading.Event)

    def release(self) -> None:
        """Let stalled requests go on: they are forwarded after all."""
        self.released.set()


class Wire:
    """A proxy in front of ``upstream``; a context manager. ``endpoint`` is where clients connect.

    A connection carries one exchange, unless ``keep_alive`` is set.

    Args:
        upstream: The server's URL.
        keep_alive: Whether connections stay open after an answer.
        tls: What TLS is spoken with; ``None``: none.
        limit: How many connections may be open; ``None``: any number.
        beyond: What becomes of further ones.
        delay: Seconds that each answer is held back.
    """

    def __init__(  # noqa: PLR0913 - keyword-only, each with its own meaning
        self,
        upstream: str,
        *,
        keep_alive: bool = False,
        tls: ssl.SSLContext | None = None,
        limit: int | None = None,
        beyond: Beyond = "reset",
        delay: float = 0.0,
    ) -> None:
        self._keep_alive, self._tls = keep_alive, tls
        self._limit, self._beyond, self._delay = limit, beyond, delay
        self._below = threading.Condition()
        self._serving = 0
        self._forgotten: set[socket.socket] = set()
        self._idle: set[socket.socket] = set()
        self.turned_away = 0
        parts = urlsplit(upstream)
        self._upstream = (parts.hostname or "127.0.0.1", parts.port or 80)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._address: tuple[str, int] = self._listener.getsockname()
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self._came_back = threading.Condition(self._lock)
        self._sockets: set[socket.socket] = set()
        self._closed = False
        self.lines: list[str] = []
        self.connections: list[list[str]] = []
        self.accepted = 0

    @property
    def endpoint(self) -> str:
        """The URL for clients."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self._address[1]}"

    @property
    def operations(self) -> list[str]:
        """The S3 operations seen so far, in order."""
        with self._lock:
            return [operation(line) for line in self.lines]

    def rewrite(self, wanted: str, change: Callable[[bytes], bytes], *, times: int = 1) -> Fault:
        """Change the server's next answers, head and body, to an S3 operation."""
        return self.arm(Fault(lambda line: operation(line) == wanted, "rewrite", times, rewrite=change))

    def when(self, wanted: str, kind: Kind, *, times: int = 1, status: int = 503, code: str = _BUSY) -> Fault:
        """Arm a fault for an S3 operation (``operation`` names them); a trial of the server is not struck."""
        return self.arm(
            Fault(lambda line: operation(line) == wanted and "/stepout-trial-" not in line, kind, times, status, code)
        )

    def limit(self, rate: float, *, burst: float) -> Fault:
        """Answer SlowDown to what comes faster than ``rate`` requests a second, above ``burst`` at once.

        And to the first five, however slow the machine is.
        """
        tokens, filled, first = burst, time.monotonic(), 5

        def refused(_line: str) -> bool:
            nonlocal tokens, filled, first
            if first:
                first -= 1
                return True
            now = time.monotonic()
            tokens, filled = min(burst, tokens + (now - filled) * rate), now
            taken = tokens >= 1
            tokens -= taken
            return not taken

        return self.arm(Fault(refused, "status", sys.maxsize, 503, "SlowDown"))

    def arm(self, fault: Fault) -> Fault:
        """Arm a fault with a predicate of its own on the request line."""
        with self._lock:
            self._faults.append(fault)
        return fault

    def hang_up(self) -> None:
        """Close every connection, as a server does with those that have been idle for long."""
        with self._lock:
            sockets, self._sockets = list(self._sockets), set()
        for each in sockets:
            _close(each)

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._closed = True
        with self._below:
            self._below.notify_all()
        with self._lock:
            faults, sockets = list(self._faults), list(self._sockets)
        for fault in faults:
            fault.release()
        self._listener.close()
        for each in sockets:
            _close(each)

    def close_idle(self, *, silently: bool = False) -> int:
        """Close connections that wait for a request, or forget them without a word; return how many they were.

        There will be one at least: an answer may have arrived before this side has come back to wait.
        """
        with self._lock:
            assert self._came_back.wait_for(lambda: self._idle - self._forgotten, 60)
            idle = list(self._idle)
            self._forgotten.update(idle)
        for each in [] if silently else idle:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        return len(idle)

    @property
    def waiting(self) -> int:
        """How many connections wait for a request."""
        with self._lock:
            return len(self._idle)

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        return self._address

    def _accept(self) -> None:
        while not self._closed:
            if self._limit is not None and self._beyond in ("refuse", "backlog"):
                self._await_room(self._limit)
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self._sockets.add(client)
                self.accepted += 1
            if self._limit is not None and self._serving >= self._limit:
                self.turned_away += 1
                if self._beyond == "reset":
                    _reset(client)
                    client.close()
                continue
            with self._below:
                self._serving += 1
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _await_room(self, limit: int) -> None:
        with self._below:
            if self._serving < limit:
                return
            if self._beyond == "refuse":
                self._listener.close()
            self._below.wait_for(lambda: self._serving < limit or self._closed)
            if self._beyond == "refuse" and not self._closed:
                self._listener = socket.create_server(self._address)

    def _serve(self, plain: socket.socket) -> None:
        lines: list[str] = []
        with self._lock:
            self.connections.append(lines)
        try:
            client = self._tls.wrap_socket(plain, server_side=True) if self._tls else plain
            with client, client.makefile("rb") as reader:
                while not self._closed and self._exchange(client, reader, lines):
                    pass
        except (OSError, ValueError):
            pass
        finally:
            with self._lock:
                self._sockets.discard(plain)
                self._idle.discard(plain)
            with self._below:
                self._serving -= 1
                self._below.notify()

    def _next_head(self, client: socket.socket, reader: object) -> bytes:
        with self._lock:
            self._idle.add(client)
            self._came_back.notify_all()
        head = _head(reader)
        with self._lock:
            self._idle.discard(client)
            forgotten = client in self._forgotten
        if forgotten:
            reader.read()  # type: ignore[attr-defined] # a buffered socket file; until the client gives up
            return b""
        return head

    def _exchange(self, client: socket.socket, reader: object, lines: list[str]) -> bool:
        head = self._next_head(client, reader)
        if not head:
            return False
        line = head.split(b"\r\n", 1)[0].decode()
        with self._lock:
            self.lines.append(line)
            lines.append(line)
            fault = next((each for each in self._faults if each.hits < each.times and each.wanted(line)), None)
            if fault:
                fault.hits += 1
        if b"100-continue" in head.lower():
            client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            head = _without(head, b"expect")
        kind = fault.kind if fault else None
        if fault and kind == "deaf":
            fault.struck.set()
            fault.released.wait()
        body = _exactly(reader, _length(head) // (2 if kind == "cut" else 1))
        if fault:
            fault.struck.set()
            if fault.before:
                fault.before()
        if fault and kind == "stall":
            fault.released.wait()
        if fault and kind in ("reset", "cut", "status", "late_error"):
            return _refuse(client, fault)
        if kind == "flip_request":
            body = _flipped(body)
        return self._forward(client, head, body, fault)

    def _forward(self, client: socket.socket, head: bytes, body: bytes, fault: Fault | None) -> bool:
        kind = fault.kind if fault else None
        with socket.create_connection(self._upstream) as server, server.makefile("rb") as answers:
            server.sendall(_without(head, b"connection")[:-2] + b"Connection: close\r\n\r\n")
            server.sendall(body)
            answer_head = _head(answers)
            bodiless = head.startswith(b"HEAD") or b" 204 " in answer_head[:16] or b" 304 " in answer_head[:16]
            chunked = b"transfer-encoding: chunked" in answer_head.lower()
            length = None if chunked or b"content-length" not in answer_head.lower() else _length(answer_head)
            answer = b"" if bodiless else (answers.read() if length is None else _exactly(answers, length))
        if self._delay:
            time.sleep(self._delay)
        if kind == "lost":
            _reset(client)
            return False
        if kind == "truncate":
            client.sendall(answer_head + answer[: len(answer) // 2])
            return False
        if fault and kind == "half":
            client.sendall(answer_head + answer[: len(answer) // 2])
            answer_head, answer = b"", answer[len(answer) // 2 :]
            fault.halfway.set()
            fault.released.wait()
        if self._keep_alive:
            answer_head = _without(answer_head, b"connection")
        if fault and fault.rewrite:
            answer_head, answer = fault.rewrite(answer_head + answer), b""
        client.sendall(answer_head + (_flipped(answer) if kind == "flip_answer" else answer))
        return length is not None or bodiless or (chunked and self._keep_alive)


def _refuse(client: socket.socket, fault: Fault) -> bool:
    if fault.kind in ("reset", "cut"):
        _reset(client)
        return False
    status = 200 if fault.kind == "late_error" else fault.status
    text = (
        f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{fault.code}</Code><Message>by the wire</Message></Error>'
    )
    reason = _REASON.get(status, "OK")
    head = f"HTTP/1.1 {status} {reason}\r\nContent-Type: application/xml\r\nContent-Length: {len(text)}\r\n\r\n"
    client.sendall((head + text).encode())
    return True


def _head(reader: object) -> bytes:
    lines = []
    while (line := reader.readline()) not in (b"\r\n", b""):  # type: ignore[attr-defined] # a buffered socket file
        lines.append(line)
    return b"".join([*lines, b"\r\n"]) if lines else b""


def _exactly(reader: object, length: int) -> bytes:
    data: bytes = reader.read(length)  # type: ignore[attr-defined] # a buffered socket file
    if len(data) != length:
        raise OSError("the peer went away in the middle")
    return data


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            return int(value)
    return 0


def _without(head: bytes, name: bytes) -> bytes:
    return b"\r\n".join(line for line in head.split(b"\r\n") if not line.lower().startswith(name + b":"))


def _flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :] if data else data


def _reset(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _close(each: socket.socket) -> None:
    with contextlib.suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
    each.close()

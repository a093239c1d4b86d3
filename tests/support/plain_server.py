"""A server that answers each request with the bytes that a test says, and remembers who asked for what."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator

__all__ = ["PlainServer", "credentials", "plain_answer", "plain_server"]

Answering = bytes | None
"""What a request is answered with; nothing at all: the connection is closed; ``None``: it hangs."""


def plain_answer(body: bytes, *, status: str = "200 OK", headers: str = "") -> bytes:
    """Return an answer with a length."""
    return f"HTTP/1.1 {status}\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode() + body


def credentials(access_key: str, secret_key: str, *, seconds: float = 3600, **changes: Any) -> bytes:
    """Return what a container's endpoint answers: keys that are good for so long from now."""
    expires = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds))
    found = {
        "AccessKeyId": access_key,
        "SecretAccessKey": secret_key,
        "Token": "a-session-token",
        "Expiration": expires,
        "RoleArn": "arn:aws:iam::123456789012:role/reader",
        **changes,
    }
    return plain_answer(json.dumps(found).encode())


class PlainServer:
    """A running server.

    Attributes:
        answer: Called with each request's head; says what it is answered with.
        requests: Every head that came, as text.
        connections: How many were opened.
        asked: Set with the first request.
    """

    def __init__(
        self, listener: socket.socket, answer: Callable[[str], Answering], tls: ssl.SSLContext | None = None
    ) -> None:
        self.answer = answer
        self.requests: list[str] = []
        self.connections = 0
        self.asked = threading.Event()
        self._listener, self._tls = listener, tls
        self._open: list[socket.socket] = []

    @property
    def port(self) -> int:
        """Its port."""
        return int(self._listener.getsockname()[1])

    @property
    def url(self) -> str:
        """Its URL, without a path."""
        host = self._listener.getsockname()[0]
        scheme = "http" if self._tls is None else "https"
        return f"{scheme}://[{host}]:{self.port}" if ":" in host else f"{scheme}://{host}:{self.port}"

    def run(self) -> None:
        """Take connections until the listener is closed."""
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            if self._tls is not None:
                sock = self._tls.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
            self._open.append(sock)
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def say(self, unasked: bytes) -> None:
        """Send something on the connection that was opened last, which nobody has asked for."""
        self._open[-1].sendall(unasked)

    def close(self) -> None:
        """Close everything."""
        for each in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _serve(self, sock: socket.socket) -> None:
        received = b""
        with contextlib.suppress(OSError):
            while True:
                while b"\r\n\r\n" not in received:
                    block = sock.recv(65_536)
                    if not block:
                        return
                    received += block
                head, _, received = received.partition(b"\r\n\r\n")
                self.requests.append(head.decode())
                self.asked.set()
                answer = self.answer(head.decode())
                if answer is None:
                    continue
                if not answer:
                    break
                sock.sendall(answer)
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)


@contextmanager
def plain_server(
    answer: Callable[[str], Answering] | bytes, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> Iterator[PlainServer]:
    """Run a server on loopback that answers so."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.bind((host, 0))
        listener.listen()
        said = answer if callable(answer) else lambda _: answer
        server = PlainServer(listener, said, tls)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.close()
            thread.join()

"""One HTTP/1.1 connection of the sink: heads parsed by hand, bodies read into one buffer and forgotten."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import ssl
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote, urlsplit

__all__ = ["Body", "ClosedError", "Head", "Wire"]

MIB = 1 << 20
_TAIL = 512
_TRAILER = re.compile(rb"(x-amz-checksum-[a-z0-9]+):\s*([A-Za-z0-9+/=]+)", re.IGNORECASE)


class ClosedError(Exception):
    """The client is gone."""


@dataclass(frozen=True)
class Head:
    """A request without its body."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]

    @property
    def bucket_and_key(self) -> tuple[str, str]:
        """Split the path of a path-style request."""
        bucket, _, key = self.path.lstrip("/").partition("/")
        return bucket, key


@dataclass
class Body:
    """What is left of a body that was read: its length, and the checksums that trailed it."""

    size: int = 0
    trailers: dict[str, str] = field(default_factory=dict)
    content: bytes | None = None


class Wire:
    """Reads requests and sends answers on one socket.

    Args:
        sock: A connected socket, TLS or not.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.sent = 0  # bytes of files, also of answers that the client did not wait for
        self._buffer = bytearray(MIB)
        self._view = memoryview(self._buffer)
        self._start = self._end = 0

    def head(self) -> Head:
        """Read the next request's head."""
        while (stop := self._buffer.find(b"\r\n\r\n", self._start, self._end)) < 0:
            self._fill()
        lines = bytes(self._view[self._start : stop]).decode("latin-1").split("\r\n")
        self._start = stop + 4
        method, target, _ = lines[0].split(" ", 2)
        parts = urlsplit(target)
        query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        return Head(method, unquote(parts.path), query, headers)

    def body(self, head: Head, *, keep: bool = False) -> Body:
        """Read a body; only the trailing checksums are kept, or all of it where it is XML to be looked at."""
        chunked = "chunked" in head.headers.get("transfer-encoding", "").lower()
        length = int(head.headers.get("content-length") or 0)
        if keep and not chunked:
            return Body(length, content=self._take(length))
        size, tail = self._chunks() if chunked else self._plain(length)
        trailers = (
            {name.decode().lower(): value.decode() for name, value in _TRAILER.findall(tail)}
            if "x-amz-trailer" in head.headers
            else {}
        )
        return Body(int(head.headers.get("x-amz-decoded-content-length") or size), trailers)

    def send(self, data: bytes | memoryview) -> None:
        """Send all of it."""
        self.sock.sendall(data)

    def send_file(self, file: int, view: memoryview, start: int, count: int) -> None:
        """Send a range of the pattern, by the kernel alone where there is no TLS."""
        if isinstance(self.sock, ssl.SSLSocket) or not hasattr(os, "sendfile"):
            for at in range(start, start + count, MIB):
                block = view[at : min(at + MIB, start + count)]
                self.send(block)
                self.sent += len(block)
            return
        while count:
            sent = os.sendfile(self.sock.fileno(), file, start, count)
            if sent == 0:
                raise ClosedError
            self.sent += sent
            start, count = start + sent, count - sent

    def close(self) -> None:
        """Close the connection, politely if it can be."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()

    def _fill(self) -> None:
        if self._start == self._end:
            self._start = self._end = 0
        elif self._end == len(self._buffer):
            rest = bytes(self._view[self._start : self._end])
            if len(rest) == len(self._buffer):
                raise ClosedError
            self._view[: len(rest)] = rest
            self._start, self._end = 0, len(rest)
        got = self.sock.recv_into(self._view[self._end :])
        if got == 0:
            raise ClosedError
        self._end += got

    def _drop(self, count: int) -> None:
        ready = min(count, self._end - self._start)
        self._start += ready
        count -= ready
        while count:
            got = self.sock.recv_into(self._view[: min(count, MIB)])
            if got == 0:
                raise ClosedError
            count -= got

    def _take(self, count: int) -> bytes:
        taken = bytearray()
        while len(taken) < count:
            if self._start == self._end:
                self._fill()
            step = min(count - len(taken), self._end - self._start)
            taken += self._view[self._start : self._start + step]
            self._start += step
        return bytes(taken)

    def _plain(self, length: int) -> tuple[int, bytes]:
        kept = min(length, _TAIL)
        self._drop(length - kept)
        return length, self._take(kept)

    def _chunks(self) -> tuple[int, bytes]:
        total, tail = 0, b""
        while size := int(self._line().split(b";")[0], 16):
            kept = min(size, _TAIL)
            self._drop(size - kept)
            tail = (tail + self._take(kept))[-_TAIL:]
            self._take(2)
            total += size
        while line := self._line():
            tail += line + b"\n"
        return total, tail

    def _line(self) -> bytes:
        while (stop := self._buffer.find(b"\r\n", self._start, self._end)) < 0:
            self._fill()
        line = bytes(self._view[self._start : stop])
        self._start = stop + 2
        return line

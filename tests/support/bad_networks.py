"""Names with several addresses, and addresses that answer nobody: what no test machine has of itself."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Any, Self

import pytest

if TYPE_CHECKING:
    from collections.abc import Sequence


class Blackhole:
    """An address whose SYNs are dropped: a listener that accepts nobody, with a backlog that is full.

    Args:
        host: Where it listens.
    """

    def __init__(self, host: str = "127.0.0.1") -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.socket(family, socket.SOCK_STREAM)
        self._listener.bind((host, 0))
        self._listener.listen(0)
        self.family, self.place = family, self._listener.getsockname()
        self._waiting: list[socket.socket] = []

    def __enter__(self) -> Self:
        for _ in range(16):  # Linux takes one more than the backlog says, others a few
            each = socket.socket(self.family, socket.SOCK_STREAM)
            self._waiting.append(each)
            each.settimeout(0.3)
            try:
                each.connect(self.place)
            except TimeoutError:
                return self
        pytest.skip("this system drops no connection, however full the backlog is")

    def __exit__(self, *exc: object) -> None:
        for each in (*self._waiting, self._listener):
            each.close()


class Name:
    """A name for this process: what ``socket.getaddrinfo`` says of it, and how often it was asked.

    Args:
        monkeypatch: pytest's.
        places: ``(family, sockaddr)`` in the system's order; each has a port of its own.
        host: The name, or an address that a certificate is for.
        port: That together with the host is meant.
    """

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        places: Sequence[tuple[int, Any]],
        *,
        host: str = "several.test",
        port: int = 80,
    ) -> None:
        self.places, self.asked = list(places), 0
        self._host, self._port, self.url = host, port, f"http://{host}:{port}"
        self._real, self._lock = socket.getaddrinfo, threading.Lock()
        monkeypatch.setattr(socket, "getaddrinfo", self._lookup)

    def _lookup(self, host: Any, port: Any, *rest: Any, **named: Any) -> Any:
        if (_text(host), port) != (self._host, self._port):
            return self._real(host, port, *rest, **named)
        with self._lock:
            self.asked += 1
        return [(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", place) for family, place in self.places]


class SilentResolver:
    """A resolver that answers nothing about one name for this process until the block ends; others are looked up.

    Args:
        monkeypatch: pytest's.
        host: The name.
        place: Where it leads once there are answers.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, place: Any, host: str = "silent.test") -> None:
        self.host, self.asked, self.question = host, 0, threading.Event()
        self._place, self._real, self._answers = place, socket.getaddrinfo, threading.Event()
        monkeypatch.setattr(socket, "getaddrinfo", self._lookup)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.answer()

    def answer(self) -> None:
        """Answer everything, from now on and until now."""
        self._answers.set()

    def _lookup(self, host: Any, *rest: Any, **named: Any) -> Any:
        if _text(host) != self.host:
            return self._real(host, *rest, **named)
        self.asked += 1
        self.question.set()
        self._answers.wait()
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", self._place)]


def _text(host: Any) -> Any:
    return host.decode() if isinstance(host, bytes) else host


def has_ipv6() -> bool:
    """Say whether this machine has ``::1``."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
        probe.bind(("::1", 0))
        return True
    return False

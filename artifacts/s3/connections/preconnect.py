"""Connections that are opened while an answer is waited for which must come before they are needed.

The parts of an upload go over several connections, and none can be sent before the server has begun the upload. Behind
a wide network a connection costs one round trip, with TLS two, and the beginning costs as many. Side by side they cost
that once.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from stepout.artifacts.s3.connections.pools import is_limited, lend
from stepout.artifacts.s3.internals import connect, give_back, pool_for, take_connection

if TYPE_CHECKING:
    from collections.abc import Iterator

_LONGEST_WAIT: Final = 1.0
"""Seconds. Who has waited so long for the first request to leave goes on and connects when a part is sent."""

_FIRST_SECONDS: Final = 0.01
"""What the request that begins the first upload has to itself, once it leaves."""


class Preconnections:
    """Connections to where a client sends requests of one kind.

    Where a version of botocore or urllib3 lacks the members that are needed (``internals``), behind a proxy, and where
    a server cannot be reached, nothing is opened beforehand, and the request that comes later does as it always did.

    Args:
        client: A boto3 S3 client.
        bucket: The bucket's name; requests to others say nothing.
        operation: The kind of request; the first one to leave tells where they go, which no rule has to guess.
    """

    def __init__(self, client: Any, bucket: str, operation: str) -> None:
        self.client = client
        self._bucket = bucket
        self._url: str | None = None
        self._settled, self._answered = threading.Event(), threading.Event()
        client.meta.events.register(f"before-send.s3.{operation}", self._see)

    def _see(self, request: Any, **_: Any) -> None:
        parts = urlsplit(request.url)
        if parts.netloc.startswith(f"{self._bucket}.") or parts.path.startswith(f"/{self._bucket}/"):
            self._url = request.url
            self._settled.set()

    def settle(self) -> None:
        """Say that the request was answered, or never will be: nobody waits for it any more."""
        self._settled.set()
        self._answered.set()

    @contextmanager
    def connection(self) -> Iterator[None]:
        """Hold a connection of the client's pool, open, for as long as the block takes.

        Held, because others who open one at the same time would else be given this one.
        """
        pool = self._pool()
        held = None if pool is None else _opened(pool)
        back = lend(pool, partial(_back, pool, held))
        try:
            yield
        finally:
            back()

    def _pool(self) -> Any:
        if not self._settled.wait(_LONGEST_WAIT) or self._url is None:
            return None
        # Its own connection comes first: where few are allowed, it must be among them.
        self._answered.wait(_FIRST_SECONDS)
        pool = pool_for(self.client, self._url)
        # Where there may be few, those that are held here would be missed by the request that begins the upload.
        return None if pool is None or is_limited(pool) else pool


def _back(pool: Any, held: Any) -> None:
    if pool is not None and held is not None:
        give_back(pool, held)


def _opened(pool: Any) -> Any:
    """Return an open connection of the pool, or ``None``; the request itself will say why there is none."""
    connection = take_connection(pool)
    if connection is None:
        return None
    try:
        connect(pool, connection)
    except Exception:  # noqa: BLE001 - the request itself will say what is wrong with the server
        connection.close()
    return connection

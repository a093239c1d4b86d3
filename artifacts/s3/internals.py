"""Every private member of botocore, urllib3 and http.client that this package touches; nothing else reaches for one.

None of these libraries promises them. Each function says in which version its member was seen and what happens where a
version has it no longer: it then returns ``None`` (or does nothing), and the caller goes on without the shortcut. No
import of botocore or urllib3 stands at the top: a cold read (``cold_start``) must not load them.

``tests/artifacts/s3/test_internals.py`` looks for each member in the versions that are installed.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

from stepout.artifacts.s3.job_signals import raise_own

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

# A name, not a function: each request of each connection looks.
ANSWERED_EARLY: Final = "_response_received"
"""The attribute of a connection of botocore's that says whether an answer came while its request was on its way."""
# botocore 1.43.106: AWSConnection._response_received, set where an answer came instead of "100 Continue".
# Without it: a connection answered that early is not recognised as half-used.


def http_session(client: Any) -> Any:
    """Return what sends a client's requests; ``None`` where this botocore keeps it elsewhere."""
    # botocore 1.43.106: BaseClient._endpoint, an Endpoint, whose http_session is a URLLib3Session.
    # Without it: small requests take the ordinary way, no connection is opened beforehand, and a connection that was
    # answered too early goes back to the pool as botocore does it.
    return getattr(getattr(client, "_endpoint", None), "http_session", None)


def request_signer(client: Any) -> Any:
    """Return what signs a client's requests; ``None`` where this botocore keeps it elsewhere."""
    # botocore 1.43.106: BaseClient._request_signer, a RequestSigner; its get_auth_instance can be replaced.
    # Without it: botocore reads a body once more to sign it, and there is no route that signs by itself.
    return getattr(client, "_request_signer", None)


def signer_at(base: Any, now: Callable[[], datetime]) -> Any:
    """Return a class of signers like ``base``, a ``SigV4Auth``, for which it is ``now()`` in UTC."""
    # botocore 1.43.106: SigV4Auth.add_auth sets context["timestamp"] and calls _modify_request_before_signing, which
    # copies it into X-Amz-Date; all that follows takes it from the context.
    # Without it: requests are signed with this machine's time, and refused where that is off.

    class SignerAt(base):  # type: ignore[misc] # botocore is imported late
        def _modify_request_before_signing(self, request: Any) -> None:
            request.context["timestamp"] = now().strftime("%Y%m%dT%H%M%SZ")
            super()._modify_request_before_signing(request)

    return SignerAt


def never_redirected(request: Any) -> None:
    """Let a request that was answered, as ``needs-retry`` shows it, not be sent to another region."""
    # botocore 1.43.106: S3RegionRedirectorv2 looks at context["s3_redirect"]["redirected"], and does that once itself.
    # Without it: where a server sends requests elsewhere and names no region, the error is a RecursionError's.
    found = request.get("context", {}).get("s3_redirect")
    if isinstance(found, dict):
        found["redirected"] = True


def credentials_of(client: Any) -> Any:
    """Return what a client signs with, refreshed as botocore does; ``None`` where this botocore keeps it elsewhere."""
    # botocore 1.43.106: RequestSigner._credentials; get_frozen_credentials is public.
    # Without it: small requests take the ordinary way.
    found = getattr(request_signer(client), "_credentials", None)
    return found if callable(getattr(found, "get_frozen_credentials", None)) else None


def pool_classes(client: Any) -> dict[str, Any] | None:
    """Return the classes of a client's connection pools by scheme; they may be replaced before the first request."""
    # botocore 1.43.106: URLLib3Session._pool_classes_by_scheme, the session's own dict, also behind proxies.
    # Without it: connections are used as botocore uses them, half-used ones included, and small requests take the
    # ordinary way.
    found = getattr(http_session(client), "_pool_classes_by_scheme", None)
    return found if isinstance(found, dict) else None


def open_pool(pool: Any) -> Any:
    """Return a class of pools like ``pool``, with public names for what urllib3 calls by private ones.

    The connections have ``open_socket()``, which returns a socket that is connected to ``lookup_name``. The pool has
    ``taken_back(connection)``, which it calls before others can use a connection, and ``taken(give)``, which returns
    the connection to use. All may be overridden.
    """
    # urllib3 2.8.0: HTTPConnection._new_conn is called by connect() for a socket to _dns_host,
    # HTTPConnectionPool._get_conn for a connection, and ._put_conn with each that comes back, or None.
    # Without _new_conn: addresses are tried one after the other, and what waits for a connection cannot be cancelled.
    # Without _get_conn and _put_conn: a limit of connections is not kept, and a connection belongs to its last request
    # until the next one; nothing more.

    class OpenConnection(pool.ConnectionCls):  # type: ignore[misc] # botocore's, with the scheme's TLS or none
        @property
        def lookup_name(self) -> str:
            """The host to look up, with the dot at its end if it has one."""
            return str(getattr(self, "_dns_host", self.host))

        def open_socket(self) -> Any:
            return super()._new_conn()

        def _new_conn(self) -> Any:
            return self.open_socket()

    class OpenPool(pool):  # type: ignore[misc] # as above
        ConnectionCls = OpenConnection

        def taken(self, give: Callable[[], Any]) -> Any:
            """Return a connection; for classes that inherit."""
            return give()

        def taken_back(self, connection: Any) -> None:
            """Do nothing; for classes that inherit."""

        def _get_conn(self, timeout: float | None = None) -> Any:
            return self.taken(partial(super()._get_conn, timeout))

        def _put_conn(self, connection: Any) -> None:
            if connection is not None:
                self.taken_back(connection)
            super()._put_conn(connection)

    return OpenPool


def trusts_the_usual(client: Any) -> bool:
    """Say whether a client verifies TLS by the usual certificates: no bundle of its own, and not nothing at all."""
    # botocore 1.43.106: URLLib3Session._verify is True, False or the path of a bundle.
    # Without it: obstore is not used over TLS.
    return getattr(http_session(client), "_verify", None) is True


def pool_for(client: Any, url: str) -> Any:
    """Return the pool from which a client would take the connection for ``url``; ``None`` behind a proxy."""
    found = _manager_and_pool(client, url, tunnels=False)
    return None if found is None else found[1]


class PoolFinder:
    """Finds the pool for one URL again and again, by a look-up; another one, once the client was closed.

    Args:
        client: A boto3 S3 client.
        url: Where requests go.
    """

    # urllib3 2.8.0: PoolManager.pools, a public mapping; a manager that is cleared forgets its pools and leaves them
    # as they are. Without it: the URL is taken apart each time.

    def __init__(self, client: Any, url: str) -> None:
        self._client, self._url = client, url
        self._known: tuple[Any, Any, Any] | None = None

    def pool(self) -> Any:
        """Return the pool, of tunnels where the client reaches ``url`` so; ``None`` behind any other proxy."""
        if self._known is not None:
            pools, key, pool = self._known
            if pools.get(key) is pool:
                return pool
        found = _manager_and_pool(self._client, self._url, tunnels=True)
        if found is None:
            return None
        pools, pool = getattr(found[0], "pools", {}), found[1]
        key = next((key for key in pools.keys() if pools.get(key) is pool), None)  # noqa: SIM118 - not iterable
        self._known = None if key is None else (pools, key, pool)
        return pool


def _manager_and_pool(client: Any, url: str, *, tunnels: bool) -> tuple[Any, Any] | None:
    # botocore 1.43.106: URLLib3Session._proxy_config.proxy_url_for, ._get_connection_manager (a urllib3.PoolManager),
    # ._setup_ssl_cert and ._verify, in the order of URLLib3Session.send. urllib3 2.8.0: _get_conn and _put_conn.
    # Without any of them: no connection is opened beforehand, and small requests take the ordinary way.
    session = http_session(client)
    try:
        proxy = session._proxy_config.proxy_url_for(url)  # noqa: SLF001 - see above, as all in this file
        if proxy and not (tunnels and url.startswith("https:")):
            return None
        manager = session._get_connection_manager(url, proxy)  # noqa: SLF001
        pool = manager.connection_from_url(url)
        if proxy and pool.proxy_config.use_forwarding_for_https:  # such a proxy ends TLS itself
            return None
        session._setup_ssl_cert(pool, url, session._verify)  # noqa: SLF001
    except Exception as error:  # noqa: BLE001 - whatever another version raises, nothing is lost
        raise_own(error)
        return None
    usable = callable(getattr(pool, "_get_conn", None)) and callable(getattr(pool, "_put_conn", None))
    return (manager, pool) if usable else None


def take_connection(pool: Any) -> Any:
    """Take a connection out of a pool that ``pool_for`` returned; ``None`` if it gives none."""
    # urllib3 2.8.0: HTTPConnectionPool._get_conn. Without it ``pool_for`` returned no pool.
    try:
        return pool._get_conn()  # noqa: SLF001
    except Exception as error:  # noqa: BLE001 - an empty or closed pool; the request itself will say why there is none
        raise_own(error)  # it may have waited for a minute
        return None


def connect(pool: Any, connection: Any) -> None:
    """Open a connection that was taken out of a pool, unless it is open.

    Raises:
        Exception: urllib3's, if that failed.
    """
    # urllib3 2.8.0: HTTPSConnectionPool._prepare_proxy, which connects to a proxy and through it.
    # Without it: small requests behind a proxy take the ordinary way, as after any failure.
    if connection.sock is not None:
        return
    connection.timeout = pool.timeout.connect_timeout
    if pool.proxy is None:
        connection.connect()
    else:
        pool._prepare_proxy(connection)  # noqa: SLF001


def give_back(pool: Any, connection: Any) -> None:
    """Give a connection back to the pool that it was taken out of."""
    # urllib3 2.8.0: HTTPConnectionPool._put_conn. Without it ``pool_for`` returned no pool.
    pool._put_conn(connection)  # noqa: SLF001


def response_below(body: Any, length: int) -> tuple[Any, Any] | None:
    """Return urllib3's and the standard library's response below a ``StreamingBody`` of a GetObject.

    Args:
        body: What botocore returned as ``Body``.
        length: How many bytes were announced.

    Returns:
        ``None`` unless everything is what is known: plain bytes, as many as were announced. A stub, a chunked body, or
        one that botocore checks on its way (a class of its own) is read by its public ``readinto``.
    """
    # botocore 1.43.106: StreamingBody._raw_stream. urllib3 2.8.0: HTTPResponse._fp. http.client of CPython 3.11 to
    # 3.14: HTTPResponse.chunked and .length, which are not documented.
    # Without any of them: the body is read by its public readinto, which copies once more.
    from http.client import HTTPResponse

    from botocore.response import StreamingBody

    pooled = getattr(body, "_raw_stream", None) if type(body) is StreamingBody else None
    response = getattr(pooled, "_fp", None)
    if not isinstance(response, HTTPResponse) or not hasattr(pooled, "release_conn"):
        return None
    plain = getattr(response, "chunked", True) is False and getattr(response, "length", None) == length
    return (pooled, response) if plain else None

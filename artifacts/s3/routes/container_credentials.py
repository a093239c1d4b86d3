"""Credentials of a container from the endpoint that its platform names (ECS, EKS Pod Identity, Lambda SnapStart).

By botocore's rules (``ContainerProvider``, ``ContainerMetadataFetcher``): which hosts may be asked over plain HTTP,
where the token of the request comes from, and how long before they expire credentials are fetched again. Whatever
differs from the plainest answer is an error here, and botocore is asked instead.

Credentials stand in no message, no record and no repr.
"""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from stepout.artifacts.s3.routes.direct_connections import DirectConnections, Server
from stepout.artifacts.s3.routes.http_exchange import NotPlainAnswerError, request_head
from stepout.schemas.text.foreign_text import logger

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_log = logger("stepout.artifacts")

RELATIVE_URI: Final = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"
FULL_URI: Final = "AWS_CONTAINER_CREDENTIALS_FULL_URI"
TOKEN: Final = "AWS_CONTAINER_AUTHORIZATION_TOKEN"  # noqa: S105 - a variable's name
TOKEN_FILE: Final = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"  # noqa: S105 - as above

_ECS: Final = "169.254.170.2"
_ALLOWED: Final = frozenset({_ECS, "169.254.170.23", "fd00:ec2::23", "localhost", "::1"})
_BYTE: Final = r"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_LOOPBACK: Final = re.compile(rf"127(?:\.{_BYTE}){{3}}")
# What is the same however a library normalizes a URL.
_URI: Final = re.compile(
    r"(https?)://(?:\[([0-9a-f:]+)\]|([a-z0-9](?:[a-z0-9.-]*[a-z0-9])?))(?::([1-9][0-9]{0,4}))?"
    r"((?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*/?(?:\?[A-Za-z0-9._~=&-]+)?)"
)

_SECONDS: Final = 2.0  # as botocore; three tries are botocore's, which comes after one that fails here
_LONGEST: Final = 65_536
_LONGEST_TOKEN: Final = 16_384
_LONGEST_LOCKED: Final = 5.0

ADVISORY: Final = 15 * 60
"""Seconds before they expire from which credentials are fetched again, if they can be."""

MANDATORY: Final = 10 * 60
"""Seconds before they expire from which they are of no use any more."""


class NoCredentialsHereError(Exception):
    """There are no credentials that are certain; botocore has to look for them. The text has none of what was read."""


class Keys(NamedTuple):
    """Credentials at one moment."""

    access_key: str
    secret_key: str
    token: str | None

    def __repr__(self) -> str:
        return "Keys(…)"


class Expiring(NamedTuple):
    """Credentials, and when they expire, in seconds since 1970."""

    keys: Keys
    expires: float


class Endpoint(NamedTuple):
    """Where credentials are asked for."""

    server: Server
    target: str


def endpoint_of(environ: Mapping[str, str]) -> Endpoint | None:
    """Return where the environment says that credentials are.

    Returns:
        ``None`` where it names no place, or one that botocore would not ask, or might understand otherwise.

    >>> endpoint_of({"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/v2/credentials/7f3c"}).target
    '/v2/credentials/7f3c'
    >>> endpoint_of({"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://192.0.2.1/"}) is None
    True
    """
    relative = environ.get(RELATIVE_URI)
    url = environ.get(FULL_URI, "") if relative is None else f"http://{_ECS}{relative}"
    found = _URI.fullmatch(url)
    if found is None:
        return None
    scheme, address, name, port, target = found.groups()
    host, tls = address or name, scheme == "https"
    if not (tls or host in _ALLOWED or _LOOPBACK.fullmatch(host)):
        return None
    number = int(port or (443 if tls else 80))
    if number > 65_535:  # noqa: PLR2004 - the last port
        return None
    return Endpoint(Server(host, number, tls), target if target.startswith("/") else f"/{target}")


def token_of(environ: Mapping[str, str]) -> str | None:
    """Return the token that the endpoint wants to see: a file's, which is read anew each time, before a variable's.

    Raises:
        NoCredentialsHereError: It cannot be read, or is no value of a header; botocore says what is wrong with it.
    """
    path, token = environ.get(TOKEN_FILE), environ.get(TOKEN)
    if path is not None:
        token = None
        # Raised outside: the error of a codec has the whole file in it, and would be this one's context.
        with contextlib.suppress(OSError, ValueError), open(path, encoding="ascii") as file:  # noqa: PTH123 - pathlib may not be loaded yet
            token = file.read(_LONGEST_TOKEN)
        if token is None:
            raise NoCredentialsHereError("the token's file cannot be read")
    if token is not None and not (token.isascii() and token.isprintable() and len(token) < _LONGEST_TOKEN):
        raise NoCredentialsHereError("the token is no value of a header")
    return token


def credentials_in(body: bytes | memoryview) -> Expiring:
    """Read an endpoint's answer.

    Raises:
        NoCredentialsHereError: It is none.
    """
    from datetime import datetime  # keys of the environment need none

    keys = moment = None
    # Raised outside: the error of a parser has the whole answer in it, and would be this one's context.
    with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
        found = json.loads(bytes(body))
        keys = Keys(found["AccessKeyId"], found["SecretAccessKey"], found["Token"] or None)
        moment = datetime.fromisoformat(found["Expiration"])
    if keys is None or moment is None:
        raise NoCredentialsHereError("an answer without credentials")
    texts = [keys.access_key, keys.secret_key, keys.token or "none"]
    if moment.tzinfo is None or not all(isinstance(each, str) and each and each.isascii() for each in texts):
        raise NoCredentialsHereError("an answer with credentials of another form")
    if not all(map(str.isprintable, texts)):
        raise NoCredentialsHereError("an answer with credentials that fit into no header")
    return Expiring(keys, moment.timestamp())


class ContainerCredentials:
    """What the endpoint gave, for as long as that is good; for any thread.

    Args:
        environ: The environment's variables, read at each fetch.
        now: Seconds since 1970.
        connect: Makes what sends requests to a server.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        *,
        now: Callable[[], float] = time.time,
        connect: Callable[[Server], Any] = DirectConnections,
    ) -> None:
        self._environ, self._now, self._connect = environ, now, connect
        self._kept: Expiring | None = None
        # One thread fetches at a time. It may be taken again by the same thread, in a signal's handler.
        self._fetching = threading.RLock()

    def current(self) -> Keys:
        """Return credentials that are good for now, fetched if need be.

        Raises:
            NoCredentialsHereError: The endpoint gives none, or none that are good.
            NotPlainAnswerError: Its answer has another form.
            OSError: It cannot be reached within two seconds.
        """
        kept = self._kept
        left = -1.0 if kept is None else kept.expires - self._now()
        if kept is not None and left > ADVISORY:
            return kept.keys
        good = kept is not None and left > MANDATORY
        if not self._fetching.acquire(timeout=0 if good else _LONGEST_LOCKED):
            if kept is not None and good:  # another thread fetches, and these will do
                return kept.keys
            raise NoCredentialsHereError("another thread waits for the endpoint")
        try:
            if self._kept is not kept and self._kept is not None:  # another thread has just fetched them
                return self._kept.keys
            return self._fetched(kept.keys if kept is not None and good else None)
        finally:
            self._fetching.release()

    def _fetched(self, instead: Keys | None) -> Keys:
        """Fetch and keep; what will do ``instead`` stays in use where that fails."""
        try:
            found = self._ask()
        except (OSError, NotPlainAnswerError, NoCredentialsHereError) as error:
            from stepout.artifacts.s3.job_signals import from_handler  # costs nothing while all is well

            if instead is None or from_handler(error) is not None:
                raise
            _log.debug("container credentials could not be fetched again yet (%s)", type(error).__name__)
            return instead
        if found.expires <= self._now():
            raise NoCredentialsHereError("the endpoint gives credentials that have expired")
        self._kept = found
        return found.keys

    def _ask(self) -> Expiring:
        endpoint = endpoint_of(self._environ)
        if endpoint is None:
            raise NoCredentialsHereError("the environment names no endpoint any more")
        headers = {
            "host": endpoint.server.host_header,
            "accept": "application/json",
            "accept-encoding": "identity",
            "user-agent": "stepout",
            "connection": "close",
        }
        token = token_of(self._environ)
        if token is not None:
            headers["authorization"] = token
        request = request_head("GET", endpoint.target, headers)
        # Servers in Go send more than 2 KiB in chunks, and session tokens are long.
        answer = self._connect(endpoint.server).exchange(request, limit=_LONGEST, seconds=_SECONDS, chunks=True)
        if answer.status != 200:  # noqa: PLR2004 - HTTP
            raise NoCredentialsHereError(f"the endpoint answered {answer.status}")
        return credentials_in(answer.body)

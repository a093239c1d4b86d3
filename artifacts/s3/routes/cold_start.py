"""A process's first reads, without botocore: most of a cold start is spent on importing it and making a client.

Where all that decides how S3 is reached stands in the environment, as in a Lambda or a container, whole objects of up
to ``LARGEST`` come over a socket of the standard library (``direct_connections``, ``signature``). The rule is
certainty: a variable, a file or a bucket's name that might mean something to botocore which is not known here closes
the route, and so does anything but a plain success: the request is repeated on the ordinary way, whose errors and
retries are the ones that callers see.

Importing botocore ends it as well. From then on a client costs little, and whoever imported it may have changed what it
does (stubs of tests, tracing). So the route needs no memory of its failures: the first one loads botocore.
"""

from __future__ import annotations

import os
import re
import stat
import sys
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from stepout.artifacts.s3.routes.container_credentials import (
    FULL_URI,
    RELATIVE_URI,
    TOKEN,
    TOKEN_FILE,
    ContainerCredentials,
    Keys,
    NoCredentialsHereError,
    endpoint_of,
)
from stepout.artifacts.s3.routes.direct_connections import DirectConnections, Server
from stepout.artifacts.s3.routes.http_exchange import request_head
from stepout.artifacts.s3.routes.signature import EMPTY_SHA256, RequestSigner
from stepout.artifacts.s3.routes.small_requests import NoPlainSuccessError
from stepout.artifacts.store import Arrived, ObjectInfo

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stepout.artifacts.store import Download

LARGEST: Final = 4 << 20
"""Bytes of the largest object that comes this way: what a read takes in one piece anyway (``pinned_object``)."""

_SECONDS: Final = 30.0
"""How long a request may take before the ordinary way is tried."""

# AWS_ variables that are understood here, or that change nothing about a GET. Any other one closes the route: botocore
# reads dozens, and will read more.
_KNOWN: Final = frozenset(
    {
        "AWS_ACCESS_KEY_ID",
        "AWS_CA_BUNDLE",
        "AWS_CONFIG_FILE",
        "AWS_DEFAULT_REGION",
        "AWS_EC2_METADATA_DISABLED",
        "AWS_ENDPOINT_URL",
        "AWS_EXECUTION_ENV",
        "AWS_REGION",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_SHARED_CREDENTIALS_FILE",
        "AWS_STS_REGIONAL_ENDPOINTS",
        FULL_URI,
        RELATIVE_URI,
        TOKEN,
        TOKEN_FILE,
    }
)
_KNOWN_PREFIXES: Final = ("AWS_ENDPOINT_URL_", "AWS_LAMBDA_", "AWS_XRAY_")
_TRUST: Final = frozenset({"CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_DIR", "SSL_CERT_FILE"})

# Regions of the partitions whose endpoints end in amazonaws.com.
_REGION: Final = re.compile(r"(?:(?:af|ap|ca|eu|il|me|mx|sa|us)|us-gov)-[a-z]+-[0-9]")
_ENDPOINT: Final = re.compile(r"(https?)://(?:\[([0-9a-f:]+)\]|([a-z0-9.-]+))(?::([1-9][0-9]{0,4}))?/?")
# Dots need another addressing; "--" and "-s3alias" mark directory buckets, access points and Outposts.
_BUCKET: Final = re.compile(r"(?!.*--)(?!.*-s3alias$)[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
_VERSION: Final = re.compile(r"[A-Za-z0-9._~-]+")
_OK: Final = 200


class BucketAddress(NamedTuple):
    """Where a bucket is.

    Attributes:
        server: Where requests go.
        path: What stands before the key in a request's path.
        region: The region to sign for.
    """

    server: Server
    path: str
    region: str

    @property
    def base(self) -> str:
        """The URL up to the key."""
        return f"{'https' if self.server.tls else 'http'}://{self.server.host_header}{self.path}"


def is_cold() -> bool:
    """Say whether botocore has not been imported in this process."""
    return "botocore" not in sys.modules


def place_of(bucket: str, environ: Mapping[str, str], *, by_path: bool = False) -> BucketAddress | None:
    """Say where a bucket is, if the environment alone decides it and who asks, for botocore as well.

    Args:
        bucket: Its name.
        environ: The environment's variables.
        by_path: Whether the path names the bucket on AWS too; on another endpoint it always does.

    Returns:
        ``None`` where it is not certain.
    """
    # As our clients, which know AWS_REGION where botocore finds none (``clients.make_client``).
    region = environ.get("AWS_DEFAULT_REGION", environ.get("AWS_REGION", "").strip())
    if not (_BUCKET.fullmatch(bucket) and _REGION.fullmatch(region) and _says_no_more(environ)):
        return None
    if not (_keys(environ) or _has_endpoint(environ)):
        return None
    given = environ.get("AWS_ENDPOINT_URL_S3", environ.get("AWS_ENDPOINT_URL"))
    if given is None:
        host = "s3.amazonaws.com" if region == "us-east-1" else f"s3.{region}.amazonaws.com"
        found = Server(host if by_path else f"{bucket}.{host}", 443, tls=True)
        path = f"/{bucket}/" if by_path else "/"
    else:
        endpoint = _ENDPOINT.fullmatch(given)
        if endpoint is None or "amazonaws" in given:  # AWS's own have meanings: accelerate, FIPS, VPC endpoints
            return None
        tls, path = endpoint[1] == "https", f"/{bucket}/"
        found = Server(endpoint[2] or endpoint[3], int(endpoint[4] or (443 if tls else 80)), tls)
    server = _trusting(found, environ) if found.tls else found
    return None if server is None else BucketAddress(server, path, region)


def _keys(environ: Mapping[str, str]) -> bool:
    return bool(environ.get("AWS_ACCESS_KEY_ID") and environ.get("AWS_SECRET_ACCESS_KEY"))


def _has_endpoint(environ: Mapping[str, str]) -> bool:
    """Say whether the container's endpoint is where botocore would get credentials, and nowhere else before.

    Before it botocore looks for keys in the environment, in profiles (files that are known to be blank by now) and in
    files of boto, its forerunner.
    """
    if environ.get("AWS_ACCESS_KEY_ID") or environ.get("AWS_SECRET_ACCESS_KEY"):
        return False
    endpoint = endpoint_of(environ)
    if endpoint is None or not all(map(_is_blank, ("/etc/boto.cfg", "~/.boto"))):
        return False
    # botocore asks it with the certificates that it trusts by itself, whatever it is told to trust for S3.
    return not endpoint.server.tls or _trusting(endpoint.server, environ) == endpoint.server


def _trusting(server: Server, environ: Mapping[str, str]) -> Server | None:
    """Return a server with TLS and what it is held against, or ``None`` where that is not certain."""
    if any(name.upper() == "SSLKEYLOGFILE" for name in environ):
        return None
    authority = environ.get("AWS_CA_BUNDLE")
    if authority is not None:  # it comes before all others, and nothing is trusted beside it
        return server._replace(authority=authority) if os.path.isfile(authority) else None  # noqa: PTH113 - as below
    return None if any(name.upper() in _TRUST for name in environ) else server


def _says_no_more(environ: Mapping[str, str]) -> bool:
    """Say whether no other variable, and no file, may have a say in requests."""
    for name, value in environ.items():
        upper = name.upper()
        if upper.startswith("AWS_") and name not in _KNOWN and not name.startswith(_KNOWN_PREFIXES):
            return False
        if upper.startswith("BOTO") or (upper.endswith("_PROXY") and value and upper != "NO_PROXY"):
            return False
    config = environ.get("AWS_CONFIG_FILE", "~/.aws/config")
    credentials = environ.get("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials")
    return all(map(_is_blank, (config, credentials, "~/.aws/models"))) and not _system_proxies()


def _is_blank(path: str) -> bool:
    """Say whether there is nothing to read in a file of botocore's."""
    found = os.path.expanduser(os.path.expandvars(path))  # noqa: PTH111 - as botocore does it
    if found == os.devnull:
        return True
    try:
        about = os.stat(found)  # noqa: PTH116 - pathlib may not be loaded yet, and one call is all there is
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):
        return False
    return stat.S_ISREG(about.st_mode) and about.st_size == 0


def _system_proxies() -> bool:
    """Say whether the system itself, rather than a variable, names proxies, as macOS and Windows do."""
    if sys.platform not in {"darwin", "win32"}:
        return False
    from urllib.request import getproxies

    return bool(set(getproxies()) - {"no"})


class ColdCredentials:
    """Those of the environment, else of the container's endpoint; for any thread.

    The environment is read anew at each use: a process that sleeps and wakes finds others there.

    Args:
        environ: The environment's variables.
        container: What asks the endpoint.
    """

    def __init__(self, environ: Mapping[str, str], container: ContainerCredentials) -> None:
        self._environ, self._container = environ, container

    def current(self) -> Keys:
        """Return credentials that are good for now.

        Raises:
            NoCredentialsHereError: There are none that are certain.
            NotPlainAnswerError: As for ``ContainerCredentials.current``.
            OSError: As for ``ContainerCredentials.current``.
        """
        found = self._environ
        if _keys(found):
            token = found.get("AWS_SESSION_TOKEN") or None
            return Keys(found["AWS_ACCESS_KEY_ID"], found["AWS_SECRET_ACCESS_KEY"], token)
        if not _has_endpoint(found):
            raise NoCredentialsHereError("the environment has no credentials any more")
        return self._container.current()


def cold_route(
    bucket: str,
    *,
    by_path: bool = False,
    endpoint_url: str | None = None,
    environ: Mapping[str, str] | None = None,
) -> ColdRoute | None:
    """Return the route to a bucket, if the environment alone decides how it is reached.

    Args:
        bucket: Its name.
        by_path: As for ``place_of``.
        endpoint_url: Where S3 is, whatever the environment says; ``None``: what it says.
        environ: ``None``: ``os.environ``.
    """
    found = os.environ if environ is None else environ
    deciding = found if endpoint_url is None else {**found, "AWS_ENDPOINT_URL_S3": endpoint_url}
    place = place_of(bucket, deciding, by_path=by_path)
    return None if place is None else ColdRoute(place, ColdCredentials(found, ContainerCredentials(found)))


class ColdRoute:
    """Reads objects of up to ``LARGEST`` bytes as long as there is no client; see ``SmallReads``.

    Args:
        place: Where the bucket is.
        credentials: Whose requests they are.
        cold: Whether the route may still be used.
        now: Seconds since 1970, for signatures.
    """

    def __init__(
        self,
        place: BucketAddress,
        credentials: ColdCredentials,
        *,
        cold: Callable[[], bool] = is_cold,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._place, self._credentials = place, credentials
        self._cold, self._now = cold, now
        self._signer = RequestSigner(place.region)
        self._connections = DirectConnections(place.server)

    def get(self, key: str, *, size: int, version_id: str | None, if_match: str | None) -> Download | None:
        """Open a whole object; see ``SmallReads.get``."""
        if size > LARGEST or not self._cold() or not _VERSION.fullmatch(version_id or "none"):
            return None
        query = "" if version_id is None else f"versionId={version_id}"
        headers = {"host": self._place.server.host_header, "accept-encoding": "identity", "user-agent": "stepout"}
        if if_match is not None:
            headers["if-match"] = if_match
        path = self._place.path + key
        signed = self._signer.sign(
            self._credentials.current(),
            method="GET",
            path=path,
            query=query,
            headers=headers,
            payload=EMPTY_SHA256,
            moment=self._now(),
        )
        request = request_head("GET", f"{path}?{query}" if query else path, signed)
        answer = self._connections.exchange(request, limit=size, seconds=_SECONDS)
        info = _info_of(answer.headers, len(answer.body))
        wanted = (version_id is None or info.version_id in {None, version_id}) and if_match in {None, info.etag}
        if answer.status != _OK or info.size != size or not wanted:
            raise NoPlainSuccessError(answer.status)
        return Arrived(info, answer.body)


_DATE: Final = re.compile(r"[A-Z][a-z]{2}, ([0-9]{2}) ([A-Z][a-z]{2}) ([0-9]{4}) ([0-9:]{8}) GMT")
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def _info_of(headers: Mapping[str, str], size: int) -> ObjectInfo:
    """Return what the headers of a GET said of an object; as ``answers.info_of_headers``, without ``email``."""
    date = _DATE.fullmatch(headers.get("last-modified", ""))
    modified = None
    if date is not None and date[2] in _MONTHS:
        modified = f"{date[3]}-{_MONTHS.index(date[2]) + 1:02}-{date[1]}T{date[4]}+00:00"
    version = headers.get("x-amz-version-id")
    return ObjectInfo(
        size=size,
        etag=headers.get("etag"),
        version_id=None if version == "null" else version,
        media_type=headers.get("content-type"),
        last_modified=modified,
    )

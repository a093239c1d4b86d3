"""A process's first small reads, without botocore: most of a cold start is spent on importing it and making a client.

Where all that decides how S3 is reached stands in the environment, as in a Lambda, whole small objects come through
obstore. The rule is certainty: a variable, a file or a bucket's name that might mean something to botocore which is not
known here closes the route, and so does anything but a plain success: the request is repeated on the ordinary way,
whose errors and retries are the ones that callers see.

obstore follows redirects (see ``route_obstore``), so only reads that are held against a checksum come this way.

Importing botocore ends it as well. From then on a client costs little, and whoever imported it may have changed what it
does (stubs of tests, tracing). So the route needs no memory of its failures: the first one loads botocore.
"""

from __future__ import annotations

import os
import re
import stat
import sys
import threading
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from stepout.artifacts.s3.request_template import RequestTemplate
from stepout.artifacts.s3.route_obstore import ObstoreBucket, may_wait_here, own_obstore
from stepout.artifacts.s3.small_requests import NoPlainSuccessError
from stepout.schemas.text.foreign_text import logger

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stepout.artifacts.store import Arrived, Download

_log = logger("stepout.artifacts")

_LONGEST_WAIT: Final = 40.0  # seconds; obstore ends a request after 30
_TICK: Final = 0.1  # waits are interrupted by signals everywhere but on Windows, which looks for them in between

# AWS_ variables that are understood here, or that change nothing about a GET. Any other one closes the route: botocore
# reads dozens, obstore others, and both will read more.
_KNOWN: Final = frozenset(
    {
        "AWS_ACCESS_KEY_ID",
        "AWS_CONFIG_FILE",
        "AWS_DEFAULT_REGION",
        "AWS_EC2_METADATA_DISABLED",
        "AWS_ENDPOINT_URL",
        "AWS_EXECUTION_ENV",
        "AWS_REGION",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_SHARED_CREDENTIALS_FILE",
    }
)
_KNOWN_PREFIXES: Final = ("AWS_ENDPOINT_URL_", "AWS_LAMBDA_", "AWS_XRAY_")
_TRUST: Final = frozenset({"CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSLKEYLOGFILE", "SSL_CERT_DIR", "SSL_CERT_FILE"})

# Regions of the partitions whose endpoints end in amazonaws.com. botocore does not read AWS_REGION.
_REGION: Final = re.compile(r"(?:(?:af|ap|ca|eu|il|me|mx|sa|us)|us-gov)-[a-z]+-[0-9]")
_ENDPOINT: Final = re.compile(r"(https?://[a-z0-9.-]+(?::[0-9]+)?)/?")
# Dots need another addressing; "--" and "-s3alias" mark directory buckets, access points and Outposts.
_BUCKET: Final = re.compile(r"(?!.*--)(?!.*-s3alias$)[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")


class BucketAddress(NamedTuple):
    """Where a bucket is: the URL up to the key, the region to sign for, and whether the host names the bucket."""

    base: str
    region: str
    virtual: bool


def is_cold() -> bool:
    """Say whether botocore has not been imported in this process."""
    return "botocore" not in sys.modules


def place_of(bucket: str, environ: Mapping[str, str], *, by_path: bool = False) -> BucketAddress | None:
    """Say where a bucket is, if the environment alone decides it, for botocore as well.

    Args:
        bucket: Its name.
        environ: The environment's variables.
        by_path: Whether the path names the bucket on AWS too; on another endpoint it always does.

    Returns:
        ``None`` where it is not certain.
    """
    region = environ.get("AWS_DEFAULT_REGION", "")
    if not (_BUCKET.fullmatch(bucket) and _REGION.fullmatch(region) and _keys(environ) and _says_no_more(environ)):
        return None
    given = environ.get("AWS_ENDPOINT_URL_S3", environ.get("AWS_ENDPOINT_URL"))
    if given is None:
        host = "s3.amazonaws.com" if region == "us-east-1" else f"s3.{region}.amazonaws.com"
        base = f"https://{host}/{bucket}/" if by_path else f"https://{bucket}.{host}/"
        return BucketAddress(base, region, virtual=not by_path) if _trusts_the_usual(environ) else None
    endpoint = _ENDPOINT.fullmatch(given)
    if endpoint is None or "amazonaws" in given:  # names of AWS's own have meanings: accelerate, FIPS, VPC endpoints
        return None
    if given.startswith("https:") and not _trusts_the_usual(environ):
        return None
    return BucketAddress(f"{endpoint[1]}/{bucket}/", region, virtual=False)


def _keys(environ: Mapping[str, str]) -> bool:
    return bool(environ.get("AWS_ACCESS_KEY_ID") and environ.get("AWS_SECRET_ACCESS_KEY"))


def _trusts_the_usual(environ: Mapping[str, str]) -> bool:
    return not any(name.upper() in _TRUST for name in environ)


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


class _Frozen(NamedTuple):
    access_key: str
    secret_key: str
    token: str | None


class _Credentials:
    """Those of the environment, read anew at each use: a process that sleeps and wakes finds others there."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def get_frozen_credentials(self) -> _Frozen:
        """Return them in botocore's words; ``KeyError`` if they have gone."""
        found = self._environ
        return _Frozen(
            found["AWS_ACCESS_KEY_ID"], found["AWS_SECRET_ACCESS_KEY"], found.get("AWS_SESSION_TOKEN") or None
        )


def cold_route(
    bucket: str,
    *,
    by_path: bool = False,
    endpoint_url: str | None = None,
    environ: Mapping[str, str] | None = None,
) -> ColdRoute | None:
    """Return the route to a bucket, if the environment alone decides how it is reached and obstore may be used.

    Args:
        bucket: Its name.
        by_path: As for ``place_of``.
        endpoint_url: Where S3 is, whatever the environment says; ``None``: what it says.
        environ: ``None``: ``os.environ``.
    """
    found = os.environ if environ is None else environ
    deciding = found if endpoint_url is None else {**found, "AWS_ENDPOINT_URL_S3": endpoint_url}
    place = place_of(bucket, deciding, by_path=by_path)
    if place is None:
        return None
    obstore = own_obstore()
    if obstore is None:
        return None
    template = RequestTemplate(
        base=place.base,
        headers={"user-agent": "stepout"},
        access_key="",
        region=place.region,
        service="s3",
        signed=frozenset(),
        payload_signed=True,
    )
    origin = place.base.removesuffix("/") if place.virtual else place.base.removesuffix(f"/{bucket}/")
    where = {"endpoint": origin, "aws_endpoint_url_s3": origin, "virtual_hosted_style_request": place.virtual}
    nothing: dict[str, Any] = {"config": {}, "attributes": {}, "tags": None}
    return ColdRoute(ObstoreBucket(obstore, template, _Credentials(found), bucket, where, nothing))


class ColdRoute:
    """Reads small objects as long as there is no client; see ``SmallReads``.

    Args:
        target: The bucket, as obstore reaches it without a client.
        cold: Whether the route may still be used.
    """

    def __init__(self, target: ObstoreBucket, *, cold: Callable[[], bool] = is_cold) -> None:
        self._target, self._cold = target, cold
        self._answered_in: int | None = None

    def get(self, key: str, *, size: int, version_id: str | None, if_match: str | None) -> Download | None:
        """Open a whole object; see ``SmallReads.get``."""
        if not self._cold():
            return None
        found = self._bounded(lambda: self._read(key, size, version_id, if_match))
        if found is None:
            raise NoPlainSuccessError
        return found

    def _bounded(self, act: Callable[[], Arrived | None]) -> Arrived | None:
        """Return what a read gives; ``None`` if it takes too long.

        Where obstore has returned once in this process its own limits hold, and only the main thread goes on waiting
        from outside: elsewhere a thread for each of many small reads would cost half as much as the read.
        """
        here = os.getpid()
        if self._answered_in == here and threading.current_thread() is not threading.main_thread():
            return act()
        results = _waited_for(act)
        if results:
            self._answered_in = here
        return results[0] if results else None

    def _read(self, key: str, size: int, version_id: str | None, if_match: str | None) -> Arrived | None:
        """Return the object, or ``None`` for whatever is not a plain success."""
        if not may_wait_here():
            return None
        try:
            found = self._target.get(key, version_id=version_id, if_match=if_match, limit=size)
        except Exception as error:  # noqa: BLE001 - obstore's; the request is repeated by the client we know
            _log.debug("a read of %s without botocore failed (%s)", key, type(error).__name__)
            return None
        return found if found.info.size == size else None


def _waited_for(act: Callable[[], Arrived | None]) -> list[Arrived | None]:
    """Return what a call into obstore gives, as a list of one; an empty one if it takes too long.

    A thread makes the call, because its end can be waited for with a limit, and in the main thread with signals heard:
    no handler would run during the call. When time is up or a handler raises, the thread is left behind: it ends by
    itself, or with the process.
    """
    results: list[Arrived | None] = []
    done = threading.Event()

    def run() -> None:
        try:
            results.append(act())
        finally:
            done.set()

    threading.Thread(target=run, name="stepout-cold", daemon=True).start()
    for _ in range(round(_LONGEST_WAIT / _TICK)):
        if done.wait(_TICK):
            break
    return results

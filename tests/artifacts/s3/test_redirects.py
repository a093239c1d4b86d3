"""Servers that send requests elsewhere: an error that says what to set, after a request or two, on every route."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from support.fast_store import fast_store
from support.plain_server import PlainServer, plain_answer, plain_server
from support.settled import settled

from stepout.artifacts.s3.clients import make_client
from stepout.artifacts.s3.store import S3Store
from stepout.artifacts.store_writes import WriteOptions
from stepout.schemas.errors import ConfigurationError, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DATA = b"data"
SHA256 = {"sha256": hashlib.sha256(DATA).hexdigest()}
KEYS: dict[str, Any] = {"aws_access_key_id": "a", "aws_secret_access_key": "b"}
SET = "set AWS_DEFAULT_REGION to the bucket's region, and AWS_ENDPOINT_URL_S3"

OPERATIONS: dict[str, Callable[[Any], Any]] = {
    "GetObject": lambda store: store.get("a"),
    "HeadObject": lambda store: store.head("a"),
    "PutObject": lambda store: store.put("a", [memoryview(DATA)], checksum=SHA256, options=WriteOptions()),
    "CreateMultipartUpload": lambda store: store.start_upload("a", options=WriteOptions()),
    "ListObjectsV2": lambda store: store.listing("a"),
}


class Moving:
    """What a server says once it moves: a status, headers, and a code, which the answer to a HEAD has not."""

    def __init__(self, status: int, code: str = "", *, headers: str = "", members: str = "") -> None:
        self._status, self._headers = status, headers
        self._body = f"<Error><Code>{code}</Code><Message>See there</Message>{members}</Error>" if code else ""
        self.moved = True

    def __call__(self, head: str) -> bytes:
        """Answer a request."""
        if not self.moved:
            md5, date = hashlib.md5(DATA).hexdigest(), "Sun, 22 Nov 2026 12:00:00 GMT"
            headers = f'ETag: "{md5}"\r\nLast-Modified: {date}\r\n'
            return plain_answer(b"" if head.startswith("PUT") else DATA, headers=headers)
        body = b"" if head.startswith("HEAD") else self._body.encode()
        return plain_answer(body, status=f"{self._status} Said", headers=self._headers)


def _own(url: str) -> Any:
    return settled(make_client(endpoint_url=url, region="us-east-1", tries=1, **KEYS), "bucket")


def _passed_in(url: str) -> Any:
    return settled(boto3.client("s3", endpoint_url=url, region_name="us-east-1", **KEYS), "bucket")


def _asked(server: PlainServer) -> list[str]:
    return [each.partition(" HTTP/")[0].partition("?")[0] for each in server.requests]


@pytest.mark.parametrize("client", [_own, _passed_in])
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(
    ("status", "code"), [(301, "PermanentRedirect"), (301, ""), (302, ""), (307, "TemporaryRedirect")]
)
def test_a_server_that_sends_requests_elsewhere_without_a_region_is_asked_for_it_once(
    status: int, code: str, operation: str, client: Callable[[str], Any]
) -> None:
    """By HeadBucket, which it answers in the same way; that answer is not asked about again."""
    with plain_server(Moving(status, code)) as server:
        with pytest.raises(ConfigurationError) as caught:
            OPERATIONS[operation](S3Store(client(server.url), "bucket"))
        assert _asked(server)[1:] == ["HEAD /bucket"]
    message = str(caught.value)
    assert message.startswith(f"{operation} s3://bucket/a: the server sends requests elsewhere ({status}")
    assert "The bucket is in another region, or the endpoint is wrong" in message
    assert SET in message


@pytest.mark.parametrize("client", [_own, _passed_in])
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(
    ("status", "code"),
    [(301, "PermanentRedirect"), (307, "TemporaryRedirect"), (400, "AuthorizationHeaderMalformed")],
)
def test_a_region_that_is_named_is_tried_once_and_then_said(
    status: int, code: str, operation: str, client: Callable[[str], Any]
) -> None:
    """Botocore signs for it and sends the request once more, to this endpoint."""
    region = "x-amz-bucket-region: eu-west-1\r\n"
    with plain_server(Moving(status, code, headers=region, members="<Region>eu-west-1</Region>")) as server:
        with pytest.raises(ConfigurationError, match="is in eu-west-1, the client asks us-east-1") as caught:
            OPERATIONS[operation](S3Store(client(server.url), "bucket"))
        assert ["/eu-west-1/" in each for each in server.requests] == [False, True]
    assert "Set AWS_DEFAULT_REGION=eu-west-1, and AWS_ENDPOINT_URL_S3" in str(caught.value)


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("code", ["AuthorizationHeaderMalformed", "IllegalLocationConstraintException"])
def test_a_region_that_is_refused_without_another_points_to_the_settings(code: str, operation: str) -> None:
    """The answer to a HEAD is a bare 400, which may mean other things as well."""
    with plain_server(Moving(400, code)) as server:
        with pytest.raises(StoreError if operation == "HeadObject" else ConfigurationError) as caught:
            OPERATIONS[operation](S3Store(_own(server.url), "bucket"))
        assert len(server.requests) <= 2
    message = str(caught.value)
    if operation == "HeadObject":
        assert "The region may be another one than us-east-1: see AWS_DEFAULT_REGION" in message
    else:
        assert f"does not take requests for the region us-east-1 (400 {code}). See there" in message
        assert SET in message


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_where_requests_are_sent_is_said_without_what_a_url_may_hide(status: int) -> None:
    """A name and a port; neither a user, nor a path, nor a query."""
    location = "Location: https://mary:hush@other.example:8443/door?key=word\r\n"
    with plain_server(Moving(status, headers=location)) as server, pytest.raises(ConfigurationError) as caught:
        S3Store(_own(server.url), "bucket").get("a")
    assert f"the server sends requests to https://other.example:8443 ({status})" in str(caught.value)
    assert not [each for each in ("mary", "hush", "door", "word") if each in str(caught.value)]


def test_the_endpoint_that_s3_names_is_said() -> None:
    """S3 has it in the body of its 301."""
    members = "<Endpoint>bucket.s3.eu-west-1.amazonaws.com</Endpoint>"
    said = Moving(301, "PermanentRedirect", members=members)
    with plain_server(said) as server, pytest.raises(ConfigurationError) as caught:
        S3Store(_own(server.url), "bucket").get("a")
    assert "sends requests to bucket.s3.eu-west-1.amazonaws.com (301 PermanentRedirect)" in str(caught.value)


# Other routes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("obstore", [True, False])
@pytest.mark.parametrize("verb", ["put", "get"])
def test_the_routes_for_small_requests_end_in_the_same_error(verb: str, obstore: bool) -> None:
    """They ask once, and the ordinary way says what is wrong."""
    answer = Moving(301, "PermanentRedirect")
    answer.moved = False
    acts: dict[str, Callable[[Any], Any]] = {
        "put": OPERATIONS["PutObject"],
        "get": lambda store: store.get_small("a", size=len(DATA)),
    }
    with plain_server(answer) as server, ThreadPoolExecutor(1) as pool:
        store = fast_store(_own(server.url), "bucket", obstore=obstore)
        for _ in range(2):  # learned from the first, and taken from the second on
            pool.submit(acts[verb], store).result()
        answer.moved = True
        before = len(server.requests)
        with pytest.raises(ConfigurationError, match="the server sends requests elsewhere") as caught:
            pool.submit(acts[verb], store).result()
        assert len(server.requests) - before <= 4
    assert SET in str(caught.value)


COLD = """
import json, sys
import stepout
pointer = json.loads(sys.argv[1])
try:
    stepout.resolve_artifact(pointer, allow=["s3://bucket/"]).read_bytes()
except stepout.ConfigurationError as error:
    print(error)
"""


def test_a_cold_read_ends_in_the_same_error(tmp_path: Path) -> None:
    """The first way asks once, the ordinary way once, and once for the region."""
    pointer = {"stepout": "pointer/1", "bucket": "bucket", "key": "a", "size": len(DATA), "checksum": SHA256}
    pointer["mediaType"] = "text/plain"
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith(("AWS_", "BOTO"))}
    kept = {name: value for name, value in kept.items() if not name.upper().endswith("_PROXY")}
    with plain_server(Moving(301, "PermanentRedirect")) as server:
        environ = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1"}
        done = subprocess.run(
            [sys.executable, "-c", COLD, json.dumps(pointer)],
            env={**kept, **environ, "HOME": str(tmp_path), "AWS_ENDPOINT_URL_S3": server.url},
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
        assert _asked(server) == ["GET /bucket/a", "GET /bucket/a", "HEAD /bucket"]
    assert done.stdout.startswith(
        "GetObject s3://bucket/a: the server sends requests elsewhere (301 PermanentRedirect)"
    )
    assert SET in done.stdout

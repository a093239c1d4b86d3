"""Every private member of botocore, urllib3 and http.client that is used is there in the versions that are installed.

A failure here breaks nothing for users: what ``internals`` says of the member falls back. It tells which library moved.
"""

from __future__ import annotations

import inspect
import socket
import sys
from datetime import UTC, datetime
from http.client import HTTPResponse
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import botocore
import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSHTTPConnection, AWSHTTPConnectionPool, AWSRequest
from botocore.httpsession import URLLib3Session
from botocore.response import StreamingBody
from botocore.signers import RequestSigner
from botocore.utils import S3RegionRedirectorv2

from stepout.artifacts.s3 import internals
from stepout.artifacts.s3.clients import make_client

if TYPE_CHECKING:
    from support.seaweed import Seaweed

BOTOCORE = f"botocore {botocore.__version__}"
URLLIB3 = f"urllib3 {version('urllib3')}"
PYTHON = f"CPython {sys.version.split()[0]}"
URL = "http://127.0.0.1:9/bucket/key"


@pytest.fixture(scope="module")
def client() -> Any:
    """A client that sends nothing."""
    return make_client(
        endpoint_url="http://127.0.0.1:9", region="eu-west-1", aws_access_key_id="a", aws_secret_access_key="b"
    )


def _broken(library: str, member: str, fallback: str) -> str:
    return f"{library} has no {member} any more: {fallback}. Mend artifacts/s3/internals.py, or live with the fallback"


def test_the_session_of_a_client_is_found(client: Any) -> None:
    """By ``_endpoint.http_session``; its ``send`` takes a prepared request."""
    session = internals.http_session(client)
    message = _broken(BOTOCORE, "BaseClient._endpoint.http_session", "small requests take the ordinary way")
    assert isinstance(session, URLLib3Session), message
    assert list(inspect.signature(session.send).parameters) == ["request"], _broken(
        BOTOCORE, "send(request)", "as said"
    )


def test_the_signer_of_a_client_is_found(client: Any) -> None:
    """By ``_request_signer``; what it is asked for a signer by can be replaced, and is asked by these names."""
    signer = internals.request_signer(client)
    message = _broken(BOTOCORE, "BaseClient._request_signer", "a body is read once more to be signed")
    assert isinstance(signer, RequestSigner), message
    names = inspect.signature(RequestSigner.get_auth_instance).parameters
    assert {"signing_name", "region_name", "signature_version"} <= set(names), message


def test_a_request_can_be_kept_from_another_region(client: Any) -> None:
    """By the word that ``S3RegionRedirectorv2`` leaves in a request's context before it sends it there."""
    request: Any = {"context": {"s3_redirect": {"redirected": False, "bucket": "b", "params": {}}}}
    internals.never_redirected(request)
    answer: Any = (SimpleNamespace(status_code=301), {"Error": {}, "ResponseMetadata": {"HTTPHeaders": {}}})
    redirector = S3RegionRedirectorv2(None, client)
    operation: Any = SimpleNamespace(name="HeadBucket")
    message = _broken(BOTOCORE, 's3_redirect["redirected"]', "a server that names no region ends in a RecursionError")
    assert redirector.redirect_from_error(request, answer, operation) is None, message
    internals.never_redirected({"context": {}})


def test_the_credentials_of_a_client_are_found(client: Any) -> None:
    """By ``_request_signer._credentials``."""
    message = _broken(BOTOCORE, "RequestSigner._credentials", "small requests take the ordinary way")
    found = internals.credentials_of(client)
    assert found is not None, message
    assert found.get_frozen_credentials()[:2] == ("a", "b"), message


def test_the_classes_of_pools_can_be_replaced(client: Any) -> None:
    """By ``_pool_classes_by_scheme``, and a pool's class says which connections it makes."""
    found = internals.pool_classes(client)
    fallback = "half-used connections go back to the pool"
    assert found is not None, _broken(BOTOCORE, "URLLib3Session._pool_classes_by_scheme", fallback)
    assert set(found) == {"http", "https"}, _broken(BOTOCORE, "pools by scheme", fallback)
    assert all(hasattr(pool, "ConnectionCls") for pool in found.values()), _broken(URLLIB3, "ConnectionCls", fallback)


def test_a_connection_says_whether_it_was_answered_early() -> None:
    """By ``_response_received``, which is there from the start."""
    connection = AWSHTTPConnection("127.0.0.1", 9)
    message = _broken(BOTOCORE, "AWSConnection._response_received", "half-used connections are not recognised")
    assert hasattr(connection, "_response_received"), message
    assert getattr(connection, internals.ANSWERED_EARLY) is False
    connection._response_received = True
    assert getattr(connection, internals.ANSWERED_EARLY) is True


@pytest.mark.parametrize(("verify", "usual"), [(None, True), (False, False), ("/some/bundle.pem", False)])
def test_what_a_client_trusts_is_found(verify: Any, usual: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """By ``_verify``."""
    for name in ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    keys: dict[str, Any] = {"aws_access_key_id": "a", "aws_secret_access_key": "b"}
    made = make_client(region="eu-west-1", **keys, **({} if verify is None else {"verify": verify}))
    message = _broken(BOTOCORE, "URLLib3Session._verify", "obstore is not used over TLS")
    assert internals.trusts_the_usual(made) is usual, message


def test_the_pool_of_a_url_gives_and_takes_connections(client: Any) -> None:
    """By ``_manager``, ``_proxy_config`` and ``_setup_ssl_cert`` of the session, ``_get_conn`` and ``_put_conn``."""
    fallback = "no connection is opened beforehand"
    session = internals.http_session(client)
    for member in ("_manager", "_proxy_config", "_setup_ssl_cert", "_verify"):
        assert hasattr(session, member), _broken(BOTOCORE, f"URLLib3Session.{member}", fallback)
    for member in ("_get_conn", "_put_conn"):
        assert hasattr(AWSHTTPConnectionPool, member), _broken(URLLIB3, f"HTTPConnectionPool.{member}", fallback)
    pool = internals.pool_for(client, URL)
    assert pool is not None, _broken(f"{BOTOCORE} with {URLLIB3}", "pool as this is looked for", fallback)
    connection = internals.take_connection(pool)
    assert connection is not None
    ours, theirs = socket.socketpair()
    with ours, theirs:
        connection.sock = ours
        internals.give_back(pool, connection)
        assert internals.take_connection(pool) is connection, _broken(URLLIB3, "pool that keeps connections", fallback)


def test_the_response_below_a_body_is_found(seaweed: Seaweed, bucket: str) -> None:
    """By ``_raw_stream``, ``_fp``, ``chunked`` and ``length``; of an answer that a server has sent."""
    client = seaweed.client()
    client.put_object(Bucket=bucket, Key="k", Body=b"0123456789")
    body = client.get_object(Bucket=bucket, Key="k")["Body"]
    fallback = "a body is copied once more while it is read"
    assert type(body) is StreamingBody, _broken(BOTOCORE, "StreamingBody as the body of an answer", fallback)
    assert hasattr(body, "_raw_stream"), _broken(BOTOCORE, "StreamingBody._raw_stream", fallback)
    response = getattr(body._raw_stream, "_fp", None)
    assert isinstance(response, HTTPResponse), _broken(URLLIB3, "HTTPResponse._fp", fallback)
    assert (response.chunked, response.length) == (False, 10), _broken(
        PYTHON, "HTTPResponse.chunked, .length", fallback
    )
    assert internals.response_below(body, 10) == (body._raw_stream, response)
    assert internals.response_below(body, 11) is None
    body.close()


def test_signatures_take_what_the_routes_pass(client: Any) -> None:
    """``S3SigV4Auth`` calls ``payload`` for a body's digest, and reads the client's configuration from the request."""
    request = AWSRequest(method="GET", url=URL, headers={}, data=b"")
    request.context["client_config"] = client.meta.config
    signer = S3SigV4Auth(internals.credentials_of(client).get_frozen_credentials(), "s3", "eu-west-1")
    signer.payload = lambda request: "known"  # type: ignore[method-assign]  # noqa: ARG005 - botocore's name
    signer.add_auth(request)
    message = _broken(BOTOCORE, "S3SigV4Auth.payload", "a body is read once more to be signed")
    assert request.headers["X-Amz-Content-SHA256"] == "known", message


def test_nothing_is_raised_where_members_are_gone() -> None:
    """Of an object that has none of them, each function says so by its answer."""
    bare: Any = SimpleNamespace()
    assert internals.http_session(bare) is None
    assert internals.request_signer(bare) is None
    assert internals.credentials_of(bare) is None
    assert internals.pool_classes(bare) is None
    assert internals.trusts_the_usual(bare) is False
    assert internals.pool_for(bare, URL) is None
    assert internals.response_below(bare, 0) is None


def test_no_other_file_reaches_for_a_private_member() -> None:
    """Of a library: what is not in ``internals`` does not look for names with an underscore in others' objects."""
    names = (
        "_endpoint", "_request_signer", "_credentials", "_pool_classes_by_scheme", "_response_received", "_verify",
        "_proxy_config", "_manager", "_setup_ssl_cert", "_get_conn", "_put_conn", "_raw_stream", "_fp",
    )  # fmt: skip
    owners = ("client", "session", "signer", "pool", "body", "connection")
    forbidden = {f'"{name}"' for name in names} | {f"{owner}.{name}" for owner in owners for name in names}
    others = [path for path in Path(internals.__file__).parent.glob("*.py") if path.name != "internals.py"]
    assert len(others) > 10
    texts = {path.name: path.read_text() for path in others}
    assert [(name, word) for name, text in texts.items() for word in forbidden if word in text] == []


def test_a_connection_asks_for_its_socket_and_a_pool_takes_it_back(client: Any) -> None:
    """By ``_new_conn`` and ``_put_conn``, which have public names in the classes that stepout makes."""
    fallback = "connections cannot be cancelled while they are opened, nor spread over addresses"
    assert "_new_conn" in inspect.getsource(AWSHTTPConnection.connect), _broken(URLLIB3, "_new_conn", fallback)
    pool = internals.pool_for(client, URL)
    seen: list[Any] = []
    pool.taken_back = seen.append
    connection = internals.take_connection(pool)
    assert callable(connection.open_socket)
    internals.give_back(pool, connection)
    assert seen == [connection], _broken(URLLIB3, "HTTPConnectionPool._put_conn", fallback)


def test_a_signer_takes_its_time_from_the_request(client: Any) -> None:
    """By ``_modify_request_before_signing``, which is called once the time has been set."""
    message = _broken(
        BOTOCORE, "SigV4Auth._modify_request_before_signing", "requests are signed with this machine's time"
    )
    request = AWSRequest(method="GET", url=URL, headers={}, data=None)
    request.context["client_config"] = client.meta.config
    signer = internals.signer_at(S3SigV4Auth, lambda: datetime(2001, 2, 3, 4, 5, 6, tzinfo=UTC))
    signer(internals.credentials_of(client).get_frozen_credentials(), "s3", "eu-west-1").add_auth(request)
    assert request.headers["X-Amz-Date"] == "20010203T040506Z", message
    assert "/20010203/eu-west-1/s3/" in request.headers["Authorization"], message

"""Credentials of a container: where they may come from, when they are fetched again, and what is left to botocore."""

from __future__ import annotations

import json
import logging
import threading
from typing import TYPE_CHECKING, Any

import pytest
from botocore.credentials import ContainerProvider
from botocore.utils import ContainerMetadataFetcher
from hypothesis import example, given
from hypothesis import strategies as st
from support.plain_server import credentials, plain_answer, plain_server

from stepout.artifacts.s3.routes.container_credentials import (
    ADVISORY,
    FULL_URI,
    MANDATORY,
    RELATIVE_URI,
    TOKEN,
    TOKEN_FILE,
    ContainerCredentials,
    Keys,
    NoCredentialsHereError,
    credentials_in,
    endpoint_of,
    token_of,
)
from stepout.artifacts.s3.routes.http_exchange import NotPlainAnswerError

if TYPE_CHECKING:
    from pathlib import Path

NEVER_SHOWN = ("the-secret", "a-session-token", "the-token")


# Where they are ----------------------------------------------------------------------------------------------------

HOSTS = st.sampled_from(
    [
        *("169.254.170.2", "169.254.170.23", "[fd00:ec2::23]", "localhost", "127.0.0.1", "127.255.0.9", "127.1"),
        *("127.0.0.256", "127.0.0.01", "192.0.2.1", "169.254.170.22", "example.com", "LOCALHOST", "0x7f.1", ""),
        *("[::1]", "[::2]", "[::ffff:127.0.0.1]"),
    ]
)
PARTS = st.sampled_from(
    ["", "/", "/v2/credentials/7f3c", "/a//b", "/a/../b", "/.", "?x=1", "/a?x=/b", "/a#b", "/é", "@b/"]
)


@given(
    scheme=st.sampled_from(["http", "https", "HTTP", "ftp"]),
    host=HOSTS,
    port=st.sampled_from(["", ":80", ":0", ":9001", ":99999"]),
    rest=PARTS,
)
@example(scheme="http", host="127.0.0.1", port=":9001", rest="/a?x=/b")
def test_an_endpoint_is_one_that_botocore_would_ask_in_the_same_way(
    scheme: str, host: str, port: str, rest: str
) -> None:
    """Nothing that botocore refuses is asked, and what is asked is the URL that was named."""
    url = f"{scheme}://{host}{port}{rest}"
    found = endpoint_of({FULL_URI: url})
    if found is None:
        return
    fetcher: Any = ContainerMetadataFetcher()
    fetcher._validate_allowed_url(url)
    path = found.target if rest.startswith("/") else found.target.removeprefix("/")
    assert url.startswith(f"{scheme}://{found.server.host_header}")
    assert url.endswith(path)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9001/c", "http://[::1]/", "http://169.254.170.23/v1/credentials", "https://id.example.com/c"]
)  # fmt: skip
def test_the_usual_endpoints_are_asked(url: str) -> None:
    """Loopback, EKS, and whatever has TLS."""
    assert endpoint_of({FULL_URI: url}) is not None


def test_the_relative_uri_comes_first() -> None:
    """As in botocore, and its host is fixed."""
    found = endpoint_of({RELATIVE_URI: "/v2/credentials/7f3c", FULL_URI: "http://127.0.0.1/"})
    assert found is not None
    assert (found.server.host, found.server.port, found.target) == ("169.254.170.2", 80, "/v2/credentials/7f3c")
    assert endpoint_of({RELATIVE_URI: "", FULL_URI: "http://192.0.2.1/"}) is not None
    assert endpoint_of({RELATIVE_URI: "2/c"}) is None  # of 169.254.170.22
    assert endpoint_of({}) is None


def test_the_token_is_the_files_before_the_variables(tmp_path: Path) -> None:
    """Read anew each time: platforms rotate it."""
    path = tmp_path / "token"
    environ = {TOKEN: "of-the-variable", TOKEN_FILE: str(path)}
    for token in ("first", "second"):
        path.write_text(token)
        provider: Any = ContainerProvider(environ)
        assert token_of(environ) == token == provider._build_headers()["Authorization"]
    assert token_of({TOKEN: "of-the-variable"}) == "of-the-variable"
    assert token_of({}) is None


@pytest.mark.parametrize("token", ["the-token\n", "the-token\r\nHost: other", "the-token é", "x" * 20_000, None])
def test_a_token_that_is_none_is_left_to_botocore(token: str | None, tmp_path: Path) -> None:
    """With a line break, of other characters, endless, or of a file that is missing; the error does not show it."""
    path = tmp_path / "token"
    if token is not None:
        path.write_text(token)
    with pytest.raises(NoCredentialsHereError) as caught:
        token_of({TOKEN_FILE: str(path)})
    assert "the-token" not in repr(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_an_answer_that_cannot_be_read_does_not_come_along_with_the_error() -> None:
    """A parser's error has all of what it read, and collectors of errors show whatever an error came of."""
    with pytest.raises(NoCredentialsHereError) as caught:
        credentials_in(b'{"SecretAccessKey": "the-secret", oops')
    assert caught.value.__context__ is None


# What they are -----------------------------------------------------------------------------------------------------


@given(
    st.recursive(
        st.none() | st.text(max_size=5) | st.floats(), lambda each: st.lists(each) | st.dictionaries(st.text(), each)
    )
)
def test_any_answer_is_credentials_or_none(document: Any) -> None:
    """No other error leaves the reader of answers."""
    with pytest.raises(NoCredentialsHereError):
        credentials_in(json.dumps(document).encode())


GOOD = {
    "AccessKeyId": "A",
    "SecretAccessKey": "the-secret",
    "Token": "a-session-token",
    "Expiration": "2026-11-29T12:00:00Z",
}


@pytest.mark.parametrize(
    "change",
    [
        {"AccessKeyId": ""},
        {"SecretAccessKey": None},
        {"Token": 7},
        {"Token": "a-session-token\n"},
        {"Expiration": "soon"},
        {"Expiration": "2026-11-29T12:00:00"},
        {"Expiration": 1764417600},
    ],
)
def test_an_answer_with_a_member_of_another_form_is_left_to_botocore(change: dict[str, Any]) -> None:
    """And its error shows nothing of it, nor does a cause."""
    assert credentials_in(json.dumps(GOOD).encode()).expires == 1795953600
    with pytest.raises(NoCredentialsHereError) as caught:
        credentials_in(json.dumps({**GOOD, **change}).encode())
    assert not any(word in repr(caught.value) for word in NEVER_SHOWN)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_keys_do_not_show_themselves() -> None:
    """Neither in a text nor in a record."""
    keys = Keys("A", "the-secret", "a-session-token")
    assert "secret" not in f"{keys} {keys!r} {(keys,)}"


# When they are fetched ---------------------------------------------------------------------------------------------


class _Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def _said(clock: _Clock, name: str, seconds: float) -> bytes:
    import datetime as dt

    expires = dt.datetime.fromtimestamp(clock.now + seconds, dt.UTC).isoformat()
    return credentials(name, "the-secret", Expiration=expires)


def test_credentials_are_kept_until_botocore_would_fetch_them_again() -> None:
    """Fifteen minutes before they expire."""
    clock = _Clock()
    answers = [_said(clock, "first", 3600), _said(clock, "second", 7200)]
    with plain_server(lambda _: answers.pop(0)) as server:
        found = ContainerCredentials({FULL_URI: f"{server.url}/c", TOKEN: "the-token"}, now=clock)
        assert [found.current().access_key for _ in range(3)] == ["first"] * 3
        clock.now += 3600 - ADVISORY - 1
        assert found.current().access_key == "first"
        clock.now += 2
        assert [found.current().access_key for _ in range(2)] == ["second"] * 2
        assert len(server.requests) == 2
        assert server.requests[0].startswith("GET /c HTTP/1.1\r\n")
        assert "\r\nauthorization: the-token" in server.requests[0]


@pytest.mark.parametrize("failure", [b"", plain_answer(b"no", status="500 Oops"), plain_answer(b"{}")])
def test_credentials_that_cannot_be_renewed_serve_until_shortly_before_their_end(
    failure: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """Until ten minutes before they expire; nothing of them is logged."""
    caplog.set_level(logging.DEBUG)
    clock = _Clock()
    answers = [_said(clock, "first", 3600)]
    with plain_server(lambda _: answers.pop(0) if answers else failure) as server:
        found = ContainerCredentials({FULL_URI: server.url}, now=clock)
        found.current()
        clock.now += 3600 - ADVISORY + 1
        assert found.current().access_key == "first"
        clock.now += ADVISORY - MANDATORY
        with pytest.raises((NoCredentialsHereError, NotPlainAnswerError, OSError)):
            found.current()
        answers.append(_said(clock, "later", 3600))
        assert found.current().access_key == "later"
    assert "fetched again" in caplog.text
    assert not any(word in caplog.text for word in NEVER_SHOWN)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"nonsense",
        plain_answer(b"not json"),
        plain_answer(b"x" * 100_000),
        plain_answer(b"no", status="403 Forbidden"),
        plain_answer(b"", status="302 Found", headers="Location: http://127.0.0.1:1/\r\n"),
        credentials("A", "the-secret", seconds=-1),
    ],
)
def test_an_endpoint_without_good_credentials_is_left_to_botocore(answer: bytes) -> None:
    """It is asked once; its tries are botocore's, and nothing is followed to another place."""
    with plain_server(answer) as server:
        found = ContainerCredentials({FULL_URI: server.url})
        with pytest.raises((NoCredentialsHereError, NotPlainAnswerError, OSError)) as caught:
            found.current()
        assert len(server.requests) == 1
        assert not any(word in str(caught.value) for word in NEVER_SHOWN)


def test_an_endpoint_that_hangs_is_left_to_botocore(monkeypatch: pytest.MonkeyPatch) -> None:
    """After two seconds, in a test after less."""
    monkeypatch.setattr("stepout.artifacts.s3.routes.container_credentials._SECONDS", 0.1)
    with plain_server(lambda _: None) as server, pytest.raises(TimeoutError):
        ContainerCredentials({FULL_URI: server.url}).current()


def test_an_environment_that_has_changed_is_seen() -> None:
    """An endpoint that is not to be asked any more is not."""
    environ = {FULL_URI: "http://192.0.2.1/"}
    with pytest.raises(NoCredentialsHereError):
        ContainerCredentials(environ).current()


def test_ipv6_is_asked_too() -> None:
    """On loopback; EKS has an address of its own."""
    try:
        with plain_server(credentials("A", "the-secret"), host="::1") as server:
            assert ContainerCredentials({FULL_URI: f"{server.url}/c"}).current().access_key == "A"
            assert f"host: [::1]:{server.port}" in server.requests[0]
    except OSError:
        pytest.skip("this machine has no IPv6")


def test_threads_that_need_credentials_at_once_ask_once() -> None:
    """The endpoint of a host serves all of its containers, and limits how often it is asked."""
    with plain_server(credentials("A", "the-secret")) as server:
        found, gate = ContainerCredentials({FULL_URI: server.url}), threading.Barrier(8)
        names: list[str] = []

        def read() -> None:
            gate.wait(60)
            names.append(found.current().access_key)

        threads = [threading.Thread(target=read) for _ in range(8)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        assert (names, len(server.requests)) == (["A"] * 8, 1)

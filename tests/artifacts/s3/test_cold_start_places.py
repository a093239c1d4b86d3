"""When the environment alone decides how S3 is reached, so that first reads may do without botocore."""

from __future__ import annotations

import os
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from stepout.artifacts.s3.clients import make_client, profile_named
from stepout.artifacts.s3.routes.cold_start import cold_route, place_of

if TYPE_CHECKING:
    from pathlib import Path

LAMBDA = {
    "AWS_ACCESS_KEY_ID": "access",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_SESSION_TOKEN": "token",
    "AWS_REGION": "eu-west-1",
    "AWS_DEFAULT_REGION": "eu-west-1",
    "AWS_EXECUTION_ENV": "AWS_Lambda_python3.13",
    "AWS_LAMBDA_FUNCTION_NAME": "reader",
    "AWS_XRAY_DAEMON_ADDRESS": "169.254.79.129:2000",
    "NO_PROXY": "localhost",
}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without files of botocore's."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    return tmp_path


def _sent(bucket: str, environ: dict[str, str], by_path: bool, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a GET, as botocore would send it in an environment."""
    for name in [each for each in os.environ if each.upper().startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    client = make_client(profile=profile_named("compatible" if by_path else "aws"), sign_payload=True)
    seen: list[str] = []

    class _StopError(Exception):
        pass

    def see(request: Any, **_: Any) -> None:
        seen.append(request.url)
        seen.append(request.headers["Authorization"].decode())
        raise _StopError

    client.meta.events.register("before-send.s3.GetObject", see)
    with pytest.raises(_StopError):
        client.get_object(Bucket=bucket, Key="runs/a")
    return "|".join(seen)


@pytest.mark.parametrize("by_path", [False, True])
@pytest.mark.parametrize("region", ["us-east-1", "eu-central-1", "ap-southeast-7", "us-gov-west-1", "mx-central-1"])
@pytest.mark.parametrize("endpoint", [None, "http://127.0.0.1:9000/", "https://s3.example.com", "http://[::1]:9000"])
def test_a_bucket_is_where_botocore_sees_it(
    by_path: bool, region: str, endpoint: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same URL, signed for the same region, in every kind of place that the route is used for."""
    environ = {**LAMBDA, "AWS_DEFAULT_REGION": region}
    if endpoint is not None:
        environ["AWS_ENDPOINT_URL"] = endpoint
    place = place_of("results-bucket", environ, by_path=by_path)
    assert place is not None
    sent = _sent("results-bucket", environ, by_path, monkeypatch)
    assert sent.startswith(f"{place.base}runs/a|")
    assert f"/{place.region}/s3/aws4_request" in sent


NO_KEYS = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
DOUBTS = [
    {"AWS_ACCESS_KEY_ID": ""},
    {"AWS_SECRET_ACCESS_KEY": ""},
    {"AWS_DEFAULT_REGION": ""},
    {"AWS_DEFAULT_REGION": "cn-north-1"},
    {"AWS_DEFAULT_REGION": "aws-global"},
    {"AWS_DEFAULT_REGION": "us-iso-east-1"},
    {"AWS_DEFAULT_REGION": "fips-us-east-1"},
    {"AWS_PROFILE": "other"},
    {"AWS_PROFILE": ""},
    {"AWS_SECURITY_TOKEN": "t"},
    {"AWS_CREDENTIAL_EXPIRATION": "2026-11-22T12:00:00Z"},
    {"AWS_ACCESS_KEY_ID": "", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/v2"},
    {**NO_KEYS, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/v2/../v3"},
    {**NO_KEYS, "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://192.0.2.1/"},
    {**NO_KEYS, "AWS_CONTAINER_CREDENTIALS_FULL_URI": "https://id.example.com/", "AWS_CA_BUNDLE": __file__},
    {"AWS_WEB_IDENTITY_TOKEN_FILE": "/token"},
    {"AWS_CA_BUNDLE": "/ca.pem"},
    {"AWS_USE_FIPS_ENDPOINT": "true"},
    {"AWS_USE_DUALSTACK_ENDPOINT": "true"},
    {"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"},
    {"AWS_S3_US_EAST_1_REGIONAL_ENDPOINT": "regional"},
    {"AWS_DATA_PATH": "/models"},
    {"AWS_ALLOW_INVALID_CERTIFICATES": "true"},
    {"AWS_SKIP_SIGNATURE": "true"},
    {"aws_s3_express": "true"},
    {"AWS_SOMETHING_OF_TOMORROW": "1"},
    {"BOTO_CONFIG": "/boto"},
    {"HTTPS_PROXY": "http://127.0.0.1:3128"},
    {"http_proxy": "http://127.0.0.1:3128"},
    {"ALL_PROXY": "socks5://127.0.0.1:1080"},
    {"REQUESTS_CA_BUNDLE": "/ca.pem"},
    {"SSL_CERT_FILE": "/ca.pem"},
    {"SSLKEYLOGFILE": "/keys", "AWS_CA_BUNDLE": __file__},
    {"AWS_ENDPOINT_URL": "https://s3.example.com", "SSL_CERT_DIR": "/certificates"},
    {"AWS_ENDPOINT_URL": ""},
    {"AWS_ENDPOINT_URL": "http://127.0.0.1:9000/base"},
    {"AWS_ENDPOINT_URL": "http://user@127.0.0.1:9000"},
    {"AWS_ENDPOINT_URL": "ftp://127.0.0.1"},
    {"AWS_ENDPOINT_URL_S3": "https://s3-accelerate.amazonaws.com"},
    {"AWS_ENDPOINT_URL_S3": "", "AWS_ENDPOINT_URL": "http://127.0.0.1:9000"},
]


@pytest.mark.parametrize("doubt", DOUBTS, ids=lambda doubt: ",".join(f"{n}={v}" for n, v in doubt.items()))
def test_a_variable_that_may_matter_closes_the_route(doubt: dict[str, str]) -> None:
    """Those that are known to, and those that nobody knows."""
    assert place_of("results", LAMBDA) is not None
    assert place_of("results", {**LAMBDA, **doubt}) is None
    assert cold_route("results", environ={**LAMBDA, **doubt}) is None


def test_certificates_do_not_matter_without_tls() -> None:
    """Many machines name them in the environment."""
    environ = {**LAMBDA, "AWS_ENDPOINT_URL": "http://127.0.0.1:9000", "SSL_CERT_FILE": "/ca.pem"}
    assert place_of("results", environ) is not None


@pytest.mark.parametrize(
    "bucket",
    [
        "arn:aws:s3:eu-west-1:123456789012:accesspoint/mine",
        "with.dots",
        "UPPER",
        "under_score",
        "ab",
        "mine--euw1-az1--x-s3",
        "mine-abc123-s3alias",
        "-dash",
        "dash-",
        "größe",
    ],
)
def test_a_bucket_of_another_kind_closes_the_route(bucket: str) -> None:
    """Access points, directory buckets, and names that do not fit into a host name."""
    assert place_of(bucket, LAMBDA) is None


@pytest.mark.parametrize("name", ["config", "credentials", "models"])
def test_a_file_of_botocores_closes_the_route(name: str, home: Path) -> None:
    """Settings, profiles, or descriptions of services; a file with nothing in it does not."""
    folder = home / ".aws"
    folder.mkdir()
    assert place_of("results", LAMBDA) is not None
    (folder / name).touch()
    assert place_of("results", LAMBDA) is not None
    (folder / name).write_text("[default]\n")
    assert place_of("results", LAMBDA) is None


def test_a_file_that_a_variable_names_closes_the_route(home: Path) -> None:
    """Wherever it is, be it no file at all; the null device is none."""
    (home / "settings").write_text("[default]\n")
    assert place_of("results", {**LAMBDA, "AWS_CONFIG_FILE": "~/settings"}) is None
    assert place_of("results", {**LAMBDA, "AWS_SHARED_CREDENTIALS_FILE": "$HOME/settings"}) is None
    assert place_of("results", {**LAMBDA, "AWS_CONFIG_FILE": str(home)}) is None
    assert place_of("results", {**LAMBDA, "AWS_CONFIG_FILE": "\0"}) is None
    assert place_of("results", {**LAMBDA, "AWS_CONFIG_FILE": str(home / "settings" / "below")}) is not None
    assert place_of("results", {**LAMBDA, "AWS_CONFIG_FILE": os.devnull}) is not None


def test_proxies_of_the_system_close_the_route(monkeypatch: pytest.MonkeyPatch) -> None:
    """MacOS and Windows have some beside the environment's."""
    proxies: dict[str, str] = {}
    monkeypatch.setattr(
        "stepout.artifacts.s3.routes.cold_start.sys", SimpleNamespace(platform="darwin", modules=sys.modules)
    )
    monkeypatch.setattr("urllib.request.getproxies", lambda: proxies)
    assert place_of("results", LAMBDA) is not None
    proxies["https"] = "http://127.0.0.1:3128"
    assert place_of("results", LAMBDA) is None

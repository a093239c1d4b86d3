"""No credential is left of what real botocore, urllib3 and http.client print when they debug."""

from __future__ import annotations

import base64
import http.client
import io
import json
import logging
import sys
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus

import boto3
import botocore.session
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from support.watch_events import serving

from stepout.callbacks.delivery.failure import cause_of
from stepout.callbacks.delivery.logs import redacted_logs
from stepout.callbacks.delivery.redaction import MARK, Redactor
from stepout.callbacks.lifecycle.uncaught import UncaughtHook
from stepout.callbacks.process.tail import Tail

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def _secret(name: str, size: int = 60) -> str:
    """A secret of the shape of its kind, with what has to be quoted in a URL and in JSON."""
    return f"{name}//+{'abcDEF0123456789' * 9}"[: size - 2] + "=="


STATIC = {"key": "AKIAEXAMPLESTATIC123", "secret": _secret("StaticSecret", 40), "token": _secret("StaticToken", 200)}
GIVEN = {"key": "ASIAEXAMPLEGIVEN1234", "secret": _secret("GivenSecret", 40), "token": _secret("GivenToken", 200)}
TASK_TOKEN = _secret("TaskToken", 120)
BASIC = _secret("ContainerAuthorization")
IMDS = _secret("MetadataToken")
ACCESS, REFRESH, CLIENT = _secret("AccessToken"), _secret("RefreshToken"), _secret("ClientSecret")
JWT = "eyJhbGciOiJSUzI1NiJ9." + "c2VjcmV0" * 8 + "." + "c2lnbmF0" * 8
SSE_KEY = "odd/key+of=32_bytes-for-uploads!"

SECRETS = [*STATIC.values(), *GIVEN.values(), TASK_TOKEN, BASIC, IMDS, ACCESS, REFRESH, CLIENT, JWT, SSE_KEY]

MEMBERS = {"AccessKeyId": GIVEN["key"], "SecretAccessKey": GIVEN["secret"], "Expiration": "2099-01-01T00:00:00Z"}
ROLE = {
    "accessKeyId": GIVEN["key"],
    "secretAccessKey": GIVEN["secret"],
    "sessionToken": GIVEN["token"],
    "expiration": 1,
}
STS = f"""<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials>
<AccessKeyId>{GIVEN["key"]}</AccessKeyId><SecretAccessKey>{GIVEN["secret"]}</SecretAccessKey>
<SessionToken>{GIVEN["token"]}</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration></Credentials>
</AssumeRoleResult></AssumeRoleResponse>"""


class Stub(BaseHTTPRequestHandler):
    """STS, SSO and the endpoints of containers and instances, as far as they hand out credentials."""

    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        asked = self.rfile.read(int(self.headers.get("content-length") or 0))
        if self.path.startswith(("/container", "/latest/meta-data/iam/security-credentials/role")):
            text = json.dumps({**MEMBERS, "Code": "Success", "Token": GIVEN["token"]})
        elif self.path.startswith("/latest/api/token"):
            text = IMDS
        elif self.path.startswith("/latest/"):
            text = "role"
        elif b"Action=AssumeRole" in asked:
            text = STS.replace("AssumeRole", "AssumeRoleWithWebIdentity") if b"WebIdentity" in asked else STS
        elif self.path.startswith("/federation"):
            text = json.dumps({"roleCredentials": ROLE})
        elif self.path.startswith("/token"):
            text = json.dumps({"accessToken": ACCESS, "refreshToken": REFRESH, "idToken": JWT, "expiresIn": 9})
        else:
            text = "{}" if "X-Amz-Target" in self.headers else "<A><PublishResult/></A>" if b"Action=" in asked else ""
        data = text.encode()
        self.send_response(200)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    do_GET = do_POST = do_PUT = do_HEAD = _answer  # noqa: N815 - the names are http.server's

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def stub() -> Iterator[str]:
    """The endpoint."""
    with serving(Stub) as endpoint:
        yield endpoint


ONCE = Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=5)


def _static(service: str, stub: str, **options: Any) -> Any:
    names = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
    keys: Any = dict(zip(names, STATIC.values(), strict=True))
    client: Any = boto3.client
    return client(service, region_name="eu-west-1", endpoint_url=stub, **{"config": ONCE, **keys, **options})


def _put(stub: str) -> None:
    _static("s3", stub).put_object(
        Bucket="bucket", Key="k", Body=b"x", SSECustomerKey=SSE_KEY, SSECustomerAlgorithm="AES256"
    )


def _presigned(stub: str) -> None:
    for version in ("s3v4", "s3", "s3v4a"):
        client = _static("s3", stub, config=Config(signature_version=version))
        try:
            logging.getLogger("botocore.test").debug(
                client.generate_presigned_url("get_object", {"Bucket": "b", "Key": "k"})
            )
        except (BotoCoreError, RuntimeError):  # Without awscrt, and for a name without a region.
            continue
    logging.getLogger("botocore.test").debug("%s", _static("s3", stub).generate_presigned_post("bucket", "key"))


def _reported(stub: str) -> None:
    _static("stepfunctions", stub).send_task_success(taskToken=TASK_TOKEN, output="{}")
    body = json.dumps({"stepout": "report/1", "taskToken": TASK_TOKEN})
    _static("sqs", stub).send_message(QueueUrl=f"{stub}/1/queue", MessageBody=json.dumps({"Message": body}))
    _static("sns", stub).publish(TopicArn="arn:aws:sns:eu-west-1:123456789012:topic", Message=body)


def _assumed(stub: str) -> None:
    sts = _static("sts", stub)
    sts.assume_role(RoleArn="arn:aws:iam::123456789012:role/job", RoleSessionName="session")
    web = {"RoleArn": "arn:aws:iam::123456789012:role/job", "RoleSessionName": "session", "WebIdentityToken": JWT}
    sts.assume_role_with_web_identity(**web)


def _from_sso(stub: str) -> None:
    _static("sso", stub).get_role_credentials(roleName="job", accountId="123456789012", accessToken=ACCESS)
    asked = {"clientId": "me", "clientSecret": CLIENT, "grantType": "refresh_token", "refreshToken": REFRESH}
    _static("sso-oidc", stub).create_token(**asked)


def _fetched(stub: str) -> None:
    """With whatever the environment hands out, asked anew."""
    session = botocore.session.Session()
    credentials = session.get_credentials()
    assert credentials is not None
    assert credentials.get_frozen_credentials().token == GIVEN["token"]
    logging.getLogger("botocore.test").debug("%r", credentials.get_frozen_credentials())
    client: Any = session.create_client("s3", region_name="eu-west-1", endpoint_url=stub, config=ONCE)
    client.get_object(Bucket="bucket", Key="k")


CALLS: dict[str, Callable[[str], None]] = {
    "static keys": _put,
    "presigned": _presigned,
    "reports": _reported,
    "assumed roles": _assumed,
    "SSO": _from_sso,
    "a role of a profile": _fetched,
    "a container's role": _fetched,
    "an instance's role": _fetched,
}


@pytest.fixture(params=CALLS)
def call(
    request: pytest.FixtureRequest, stub: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], None]:
    """One call, with an environment of its own."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    config = tmp_path / "config"
    config.write_text(
        f"[profile job]\nrole_arn = arn:aws:iam::123456789012:role/job\nsource_profile = base\nregion = eu-west-1\n"
        f"[profile base]\naws_access_key_id = {STATIC['key']}\naws_secret_access_key = {STATIC['secret']}\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    if request.param == "a role of a profile":
        monkeypatch.setenv("AWS_PROFILE", "job")
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", stub)
    elif request.param == "a container's role":
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{stub}/container")
        monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", BASIC)
    elif request.param == "an instance's role":
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "false")
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", stub)
    made = CALLS[request.param]

    def run() -> None:
        try:
            made(stub)
        except ClientError as error:  # The stub's answer to some of them is empty.
            logging.getLogger("botocore.test").debug("failed: %s", error)

    return run


@pytest.fixture
def debugging(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], str]]:
    """All that is logged, down to the last detail; http.client prints its part to standard output."""
    stream, root = io.StringIO(), logging.getLogger()
    handler, level = logging.StreamHandler(stream), root.level
    monkeypatch.setattr(http.client.HTTPConnection, "debuglevel", 1)
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield stream.getvalue
    root.removeHandler(handler)
    root.setLevel(level)


def _spellings(secret: str) -> set[str]:
    forms = {secret, quote(secret, safe=""), quote_plus(secret), json.dumps(secret)[1:-1]}
    forms.add(base64.b64encode(secret.encode()).decode())
    ends = {form[:12] for form in forms} | {form[-16:] for form in forms}
    return forms | {end for end in ends if len(set(end)) > 4}


def _left(text: str) -> list[str]:
    return [secret[:14] for secret in SECRETS if any(form in text for form in _spellings(secret))]


def test_no_secret_is_left_of_what_clients_log(
    call: Callable[[], None], debugging: Callable[[], str], capsys: pytest.CaptureFixture[str]
) -> None:
    """In no log line while a task runs, and the calls do print them otherwise."""
    with redacted_logs(Redactor()):
        call()
    assert _left(debugging()) == []
    call()
    raw = debugging() + capsys.readouterr().out
    assert _left(raw) != []


def test_no_secret_is_left_of_it_anywhere_else(
    call: Callable[[], None], debugging: Callable[[], str], capsys: pytest.CaptureFixture[str]
) -> None:
    """In no cause, no uncaught traceback and no tail of a command that printed it, http.client's lines included."""
    call()
    raw = debugging() + capsys.readouterr().out
    assert _left(raw) != []
    redactor = Redactor()
    once = redactor.text(raw)
    assert _left(once) == []
    assert redactor.text(once) == once
    assert _left(json.dumps(redactor.json({"message": raw, "lines": raw.splitlines()}))) == []
    error = RuntimeError(raw)
    assert _left(cause_of(error, run={}, redactor=redactor, budget=32_768)) == []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "excepthook", sys.__excepthook__)
        UncaughtHook(sys.__excepthook__)(RuntimeError, error, None)
    assert _left(capsys.readouterr().err) == []
    tail = Tail((10_000, 1 << 20))
    tail.add(raw.encode())
    assert _left(tail.text(redactor.text)) == []


CUT = [
    f"x-amz-security-token:{STATIC['token'][:40]}…",
    f"'X-Amz-Security-Token': b'{STATIC['token'][:40]}...",
    f'"SessionToken": "{STATIC["token"][:40]}',
    f'{{\\"SessionToken\\": \\"{STATIC["token"]}\\"}}',
    f"<SessionToken>{STATIC['token']}</SessionToken>",
    f"X-Amz-Security-Token={quote(STATIC['token'], safe='')}&X-Amz-Expires=9",
    f"X-Amz-Security-Token%3D{quote(STATIC['token'], safe='')}",
    f"AWS_SESSION_TOKEN={STATIC['token']}",
    f"aws_session_token = {STATIC['token']}",
    f"export AWS_SECRET_ACCESS_KEY='{STATIC['secret']}'",
    f"ReadOnlyCredentials(access_key='{STATIC['key']}', secret_key='{STATIC['secret']}', token='{STATIC['token']}')",
    f"Authorization: Basic {BASIC}\\r\\nAccept: x",
    f"Authorization: {BASIC}\n",
    f"'authorization': 'Bearer {ACCESS}'",
    f"x-amz-sso_bearer_token: {ACCESS}",
    f"x-aws-ec2-metadata-token: {IMDS}",
    f"X-Amz-S3session-Token: {STATIC['token']}",
    f"x-amz-server-side-encryption-customer-key: {base64.b64encode(SSE_KEY.encode()).decode()}",
    f"Invalid type for parameter, 'SSECustomerKey': '{SSE_KEY}'",
    f"STEPOUT_TASK_TOKEN={TASK_TOKEN}",
    f"taskToken%22%3A+%22{quote_plus(TASK_TOKEN)}%22",
    f"https://user:{ACCESS.replace('/', '-')}@proxy.example.com:3128",
]


@pytest.mark.parametrize("text", CUT)
def test_each_form_is_known_alone(text: str) -> None:
    """Cut short, escaped, quoted, in the environment or in a form."""
    told = Redactor().text(text)
    assert MARK in told
    assert _left(told) == []
    assert not any(secret.replace("/", "-") in told for secret in SECRETS)
    assert Redactor().text(told) == told


@pytest.mark.parametrize(
    "text",
    [
        "$.STEPOUT_TASK_TOKEN: must be the task token ($$.Task.Token)",
        "SessionToken: is missing",
        "SignedHeaders=host;x-amz-date;x-amz-security-token, next",
        '{"NextToken": "0123456789abcdef0123456789abcdef", "tokens": 3, "token": 7}',
        "the access key is wrong; secret key rotation; token bucket",
        "x-aws-ec2-metadata-token-ttl-seconds: 21600",
        "rows=3, s3://bucket/key?versionId=1, https://host:443/path@v2",
    ],
)
def test_what_is_no_credential_stays(text: str) -> None:
    """A name without a value is no secret, and neither is another's token."""
    assert Redactor().text(text) == text


def test_members_are_known_by_name_in_json() -> None:
    """However short the value is."""
    value = {"Credentials": {"SessionToken": "short", "Expiration": "2099", "NextToken": "page"}}
    assert Redactor().json(value)["Credentials"] == {"SessionToken": MARK, "Expiration": "2099", "NextToken": "page"}

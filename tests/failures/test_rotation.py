"""Credentials that rotate while a job runs: it asks for new ones in time, and the old ones are worth nothing."""

from __future__ import annotations

import functools
import json
import threading
import time
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

import boto3
import pytest
from botocore.exceptions import ClientError
from support import seaweed as servers
from support.containers import Container, environment_for
from support.seaweed import ADMIN, Identity

import stepout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.seaweed import Seaweed
    from support.sfn_strict import StrictStepFunctions

ROUND_BYTES = 13 << 20  # no multiple of a part: a whole part may be held back until the writer is closed
SECONDS = 60
USER = "job"
POLICY = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": ["s3:*"], "Resource": ["arn:aws:s3:::*"]}],
}


class Keys:
    """The keys of one user of the server, made and revoked through its IAM."""

    def __init__(self, server: Seaweed) -> None:
        self._server = server
        self._iam = boto3.client(
            "iam",
            endpoint_url=server.endpoint,
            region_name="us-east-1",
            aws_access_key_id=ADMIN.access_key,
            aws_secret_access_key=ADMIN.secret_key,
        )
        self._iam.create_user(UserName=USER)
        self._iam.put_user_policy(UserName=USER, PolicyName="all", PolicyDocument=json.dumps(POLICY))

    def make(self) -> Identity:
        """New keys, once the server takes them."""
        made = self._iam.create_access_key(UserName=USER)["AccessKey"]
        keys = Identity(USER, made["AccessKeyId"], made["SecretAccessKey"], ())
        _await(lambda: not self._refused(keys), "the new keys are not valid")
        return keys

    def revoke(self, keys: Identity) -> None:
        """Make keys worthless, and wait until the server refuses them."""
        self._iam.delete_access_key(UserName=USER, AccessKeyId=keys.access_key)
        _await(lambda: self._refused(keys), "the old keys are still valid")

    def _refused(self, keys: Identity) -> bool:
        try:
            self._server.client(keys).list_objects_v2(Bucket="results")
        except ClientError as error:
            return error.response["Error"]["Code"] == "InvalidAccessKeyId"
        return False


class Endpoint:
    """The address at which ECS gives a task its role's keys: whoever asks gets those of the day."""

    def __init__(self, current: Identity) -> None:
        self.current = current
        self.handed_out: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        answer = self._answer

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                content = answer()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as http.server has it
                """Say nothing."""

        return Handler

    def _answer(self) -> bytes:
        keys = self.current
        if keys.access_key not in self.handed_out:
            self.handed_out.append(keys.access_key)
        # In the last ten minutes of their life botocore asks for others before every request.
        expiry = (datetime.now(UTC) + timedelta(minutes=5)).strftime("%Y-%m-%dT%H:%M:%SZ")
        named = {"AccessKeyId": keys.access_key, "SecretAccessKey": keys.secret_key, "Token": ""}
        return json.dumps({**named, "Expiration": expiry}).encode()

    @property
    def url(self) -> str:
        """What AWS_CONTAINER_CREDENTIALS_FULL_URI is set to."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def own_seaweed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Seaweed]:
    """A server of the test's own, with an empty bucket, whose IAM may be written to."""
    usual = servers._command
    monkeypatch.setattr(servers, "_command", lambda *given: [*usual(*given), "-s3.iam.readOnly=false"])
    with servers.running_seaweed() as server:
        server.client().create_bucket(Bucket="results")
        yield server


def _await(condition: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.05)


SCRIPT = f"""
import stepout
with stepout.open_task() as task:
    with task.artifacts.open("mask", "wb") as sink:
        for _ in range(3):
            for _ in range(13):
                sink.write(b"m" * {ROUND_BYTES // 13})
            ready("ROUND")
            wait()
"""


def _arrived(client: Any, least: int) -> bool:
    """Whether every whole part of so many bytes has arrived: then no request with the old keys is on its way."""
    listed = client.list_multipart_uploads(Bucket="results").get("Uploads", [])
    uploads = [each for each in listed if "stepout-trial-" not in each["Key"]]  # the trial of a server ends meanwhile
    if not uploads:
        return False
    named = {"Bucket": "results", "Key": uploads[0]["Key"], "UploadId": uploads[0]["UploadId"]}
    sizes = [part["Size"] for part in client.list_parts(**named).get("Parts", [])]
    return bool(sizes) and sum(sizes) + max(sizes) > least


def test_credentials_that_rotate(own_seaweed: Seaweed, sfn_strict: StrictStepFunctions) -> None:
    """One upload under three sets of keys, each revoked when the next is handed out: it is whole."""
    token, admin, keys = sfn_strict.issue(), own_seaweed.client(), Keys(own_seaweed)
    with Endpoint(keys.make()) as endpoint:
        environment = environment_for(sfn_strict, own_seaweed)
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            del environment[name]
        environment |= {"AWS_CONTAINER_CREDENTIALS_FULL_URI": endpoint.url, "STEPOUT_BUCKET": "results"}
        container = Container(SCRIPT, token, environment)
        try:
            for done in (1, 2):
                container.until("ROUND")
                old, endpoint.current = endpoint.current, keys.make()
                _await(functools.partial(_arrived, admin, done * ROUND_BYTES), "the parts did not arrive")
                keys.revoke(old)
                container.go_on()
            ended, printed = container.until("ROUND").go_on().finish()
        finally:
            container.close()
    assert ended == 0, printed
    assert len(endpoint.handed_out) == 3
    pointer = sfn_strict.success(token)["artifacts"]["mask"]
    assert pointer["size"] == 3 * ROUND_BYTES
    stepout.resolve_artifact(pointer, allow=["s3://results/"], client=admin).verify()

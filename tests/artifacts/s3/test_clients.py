"""Which store ``client=`` means, what the client that we build sends, and what a write carries along."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from botocore.config import Config
from support.seaweed import READER
from support.settled import settled
from support.wire import Wire

from stepout.artifacts.memory import MemoryStore
from stepout.artifacts.process.budget import CONNECTIONS
from stepout.artifacts.s3.clients import make_client, profile_from_env, profile_named, store_for
from stepout.artifacts.s3.fast_store import FastS3Store
from stepout.artifacts.s3.store import S3Store
from stepout.artifacts.store import pooled_connections
from stepout.artifacts.store_writes import Encryption, StoreProfile, WriteOptions
from stepout.artifacts.transfer.plan import MIB
from stepout.artifacts.transfer.upload import Upload
from stepout.schemas.errors import AccessDeniedError, ArtifactNotFoundError, ConfigurationError, StoreError

if TYPE_CHECKING:
    from support.seaweed import Seaweed

KEYS: dict[str, Any] = {"aws_access_key_id": "a", "aws_secret_access_key": "b", "region": "eu-west-1"}


class Recorder:
    """Answers every request of a client itself, and remembers what would have left."""

    def __init__(self, client: Any) -> None:
        self.requests: list[Any] = []
        client.meta.events.register("before-send.s3", self._answer)

    def _answer(self, request: Any, **_: Any) -> AWSResponse:
        self.requests.append(request)
        body = b"<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>"
        text = body if "?uploads" in request.url else b""
        if "uploadId=u" in request.url and request.method == "POST":
            text = b"<CompleteMultipartUploadResult><ETag>e</ETag></CompleteMultipartUploadResult>"
        return AWSResponse(
            request.url, 200, HTTPHeaders.from_dict({"ETag": '"e"', "x-amz-version-id": "v1"}), _Raw(text)
        )

    def headers(self, number: int) -> dict[str, str]:
        """Return the headers of a request, names in lower case."""
        found = self.requests[number].headers.items()
        return {name.lower(): value.decode() if isinstance(value, bytes) else value for name, value in found}


class _Raw:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def stream(self, **_: Any) -> list[bytes]:
        return [self._data]


def test_a_store_is_used_as_it_is() -> None:
    """Anything that follows the protocol, for its own bucket only."""
    store = MemoryStore("results")
    assert store_for(store, "results") is store
    with pytest.raises(ArtifactNotFoundError, match="s3://other: no such bucket"):
        store_for(store, "other")


def test_a_client_is_used_as_it_is() -> None:
    """Whatever its settings; the profile comes from the environment unless it is passed."""
    client = make_client(**KEYS)
    store = store_for(client, "bucket", profile=StoreProfile(name="compatible"))
    assert isinstance(store, S3Store)
    assert store.client is client
    assert store.profile.name == "compatible"
    assert repr(store) == "S3Store('bucket', profile='compatible')"


def test_no_client_means_one_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Endpoint, region and profile are the environment's."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_REGION": "eu-west-1",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_ENDPOINT_URL_S3": "https://127.0.0.1:1",
        "STEPOUT_S3_PROFILE": "compatible",
    }.items():
        monkeypatch.setenv(name, value)
    store = store_for(None, "bucket")
    assert isinstance(store, FastS3Store)
    assert store.profile.multipart_checksum == "parts"
    ordinary = store.ordinary()
    assert ordinary.client.meta.endpoint_url == "https://127.0.0.1:1"
    assert ordinary.client.meta.config.s3["addressing_style"] == "path"
    (make_signed,) = ordinary._signed_client
    signed = make_signed()
    assert "payload_signing_enabled" not in signed.meta.config.s3


def test_profiles_have_names() -> None:
    """And a name that nobody knows is an error that says which there are."""
    assert profile_from_env({}) == profile_from_env({"STEPOUT_S3_PROFILE": ""}) == profile_named("aws")
    assert profile_from_env({"STEPOUT_S3_PROFILE": "compatible"}).multipart_checksum == "parts"
    with pytest.raises(ConfigurationError, match="STEPOUT_S3_PROFILE"):
        profile_from_env({"STEPOUT_S3_PROFILE": "minio"})


def test_a_client_that_cannot_be_built_is_a_configuration_error() -> None:
    """boto3's own words, in our class."""
    with pytest.raises(ConfigurationError, match="no S3 client"):
        make_client(endpoint_url="no url", **KEYS)


@pytest.mark.parametrize(
    ("endpoint", "sign", "signed"),
    [
        ("https://127.0.0.1:1", None, False), ("https://127.0.0.1:1", True, True),
        ("http://127.0.0.1:1", None, True), ("http://127.0.0.1:1", False, False),
    ],
)  # fmt: skip
def test_payloads_are_signed_where_nothing_else_protects_them(endpoint: str, sign: bool | None, signed: bool) -> None:
    """Unsigned over TLS, where the checksum header travels safely; signed over plain HTTP, unless told otherwise."""
    data = os.urandom(300_000)
    client = make_client(endpoint_url=endpoint, sign_payload=sign, **KEYS)
    recorder = Recorder(client)
    Upload(S3Store(settled(client, "bucket"), "bucket"), "key", options=WriteOptions()).send_buffer(data)
    headers = recorder.headers(0)
    assert headers["x-amz-content-sha256"] == (hashlib.sha256(data).hexdigest() if signed else "UNSIGNED-PAYLOAD")
    assert headers["x-amz-checksum-sha256"]
    assert headers["content-length"] == "300000"
    assert "x-amz-trailer" not in headers
    assert "x-amz-sdk-checksum-algorithm" not in headers


def test_a_refused_unsigned_payload_is_signed_once_and_remembered(seaweed: Seaweed, bucket: str) -> None:
    """Some bucket policies insist on signed payloads: one more try, and from then on signed at once."""
    made = []
    with Wire(seaweed.endpoint) as wire:
        wire.when("PutObject", "status", status=403, code="AccessDenied", times=1)

        def signed() -> Any:
            made.append(1)
            return seaweed.client(endpoint=wire.endpoint)

        client = settled(seaweed.client(endpoint=wire.endpoint), bucket)
        store = S3Store(client, bucket, signed_client=signed)
        for key in ("one", "two"):
            Upload(store, key, options=WriteOptions()).send_buffer(b"data")
        assert wire.operations == ["PutObject"] * 3
    assert made == [1]


def test_a_denial_that_signing_does_not_help_is_raised(seaweed: Seaweed, bucket: str) -> None:
    """After one signed try; the next write is not tried twice."""
    with Wire(seaweed.endpoint) as wire:
        client = seaweed.client(READER, endpoint=wire.endpoint)
        store = S3Store(client, bucket, signed_client=lambda: seaweed.client(READER, endpoint=wire.endpoint))
        for _ in range(2):
            with pytest.raises(AccessDeniedError):
                Upload(store, "key", options=WriteOptions()).send_buffer(b"data")
        assert wire.operations == ["PutObject"] * 3


OPTIONS = WriteOptions(
    media_type="image/png",
    encryption=Encryption(kms_key="arn:aws:kms:eu-west-1:123456789012:key/k", bucket_key=True),
    tags={"team": "a&b"},
    metadata={"made": "here"},
    storage_class="STANDARD_IA",
    expected_bucket_owner="123456789012",
    extra={"ObjectLockMode": "GOVERNANCE"},
)


def test_everything_that_rides_along_is_sent() -> None:
    """With a PutObject, and with the request that begins a multipart upload."""
    client = make_client(endpoint_url="https://127.0.0.1:1", **KEYS)
    recorder = Recorder(client)
    settled(client, "bucket")
    store = S3Store(client, "bucket", expected_bucket_owner="999999999999", request_payer="requester")
    uploaded = Upload(store, "key", options=OPTIONS).send_buffer(b"data")
    assert uploaded.version_id == "v1"
    Upload(store, "key", options=OPTIONS).send_buffer(bytes(9 * MIB))
    for number, create in ((0, True), (1, False)):
        headers = recorder.headers(number)
        assert headers["content-type"] == "image/png"
        assert headers["x-amz-server-side-encryption"] == "aws:kms"
        assert headers["x-amz-server-side-encryption-aws-kms-key-id"].endswith("key/k")
        assert headers["x-amz-server-side-encryption-bucket-key-enabled"] == "true"
        assert headers["x-amz-tagging"] == "team=a%26b"
        assert headers["x-amz-meta-made"] == "here"
        assert headers["x-amz-storage-class"] == "STANDARD_IA"
        assert headers["x-amz-expected-bucket-owner"] == "123456789012"
        assert headers["x-amz-object-lock-mode"] == "GOVERNANCE"
        assert headers["x-amz-request-payer"] == "requester"
        assert headers.get("if-none-match") == ("*" if create else None)
    done = recorder.headers(-1)
    assert done["if-none-match"] == "*"
    assert done["x-amz-mp-object-size"] == str(9 * MIB)
    assert done["x-amz-checksum-type"] == "FULL_OBJECT"
    assert done["x-amz-checksum-crc64nvme"]
    assert done["x-amz-expected-bucket-owner"] == "123456789012"


def test_encryption_without_a_key_is_sse_s3() -> None:
    """And ``overwrite`` sends no condition."""
    client = make_client(endpoint_url="https://127.0.0.1:1", **KEYS)
    recorder = Recorder(client)
    options = WriteOptions(mode="overwrite", encryption=Encryption())
    Upload(S3Store(settled(client, "bucket"), "bucket"), "key", options=options).send_buffer(b"data")
    headers = recorder.headers(0)
    assert headers["x-amz-server-side-encryption"] == "AES256"
    assert "if-none-match" not in headers


def test_kms_without_a_key_leaves_the_choice_to_s3() -> None:
    """The bucket's own key, or the managed one: naming an alias would be another request."""
    client = make_client(endpoint_url="https://127.0.0.1:1", **KEYS)
    recorder = Recorder(client)
    options = WriteOptions(encryption=Encryption(kms=True))
    Upload(S3Store(settled(client, "bucket"), "bucket"), "key", options=options).send_buffer(b"x")
    headers = recorder.headers(0)
    assert headers["x-amz-server-side-encryption"] == "aws:kms"
    assert "x-amz-server-side-encryption-aws-kms-key-id" not in headers


def test_a_parameter_that_s3_does_not_know_is_a_configuration_error() -> None:
    """Before anything is sent."""
    client = make_client(endpoint_url="https://127.0.0.1:1", **KEYS)
    options = WriteOptions(extra={"NoSuchThing": 1})
    with pytest.raises(ConfigurationError, match="NoSuchThing"):
        Upload(S3Store(settled(client, "bucket"), "bucket"), "key", options=options).send_buffer(b"data")


def test_a_presigned_url_reads_the_object(seaweed: Seaweed, seaweed_client: Any, bucket: str) -> None:
    """Anyone who has it, within its time."""
    from urllib.request import urlopen

    store = S3Store(seaweed_client, bucket)
    Upload(store, "a b/ü", options=WriteOptions()).send_buffer(b"data")
    url = store.presign("a b/ü", seconds=60)
    assert url.startswith(seaweed.endpoint)
    with urlopen(url) as answer:
        assert answer.read() == b"data"


@pytest.mark.parametrize("region", ["us-east-1", "eu-west-1", "eu-central-1", "us-gov-west-1", "cn-north-1"])
@pytest.mark.parametrize("version", [None, "s3", "s3v4"])
def test_a_presigned_url_is_always_signed_by_version_4(region: str, version: str | None) -> None:
    """In its own region, whatever the client's usual version, which stays what it was for others."""
    config = Config(signature_version=version) if version else None
    keys = {name: value for name, value in KEYS.items() if name != "region"}
    client = boto3.client("s3", region_name=region, config=config, **keys)
    before = client.generate_presigned_url("get_object", Params={"Bucket": "results", "Key": "k"})
    url = S3Store(client, "results").presign("k", version_id="v1", seconds=60)
    assert f"s3.{region}.amazonaws.com" in url or region == "us-east-1"
    assert "X-Amz-Algorithm=AWS4-HMAC-SHA256" in url
    assert "X-Amz-Signature=" in url
    assert "versionId=v1" in url
    assert "AWSAccessKeyId" not in url
    after = client.generate_presigned_url("get_object", Params={"Bucket": "results", "Key": "k"})
    assert ("AWSAccessKeyId" in after, after[:30]) == ("AWSAccessKeyId" in before, before[:30])


def test_versions_come_from_the_write_itself(seaweed_client: Any, bucket: str) -> None:
    """In a bucket that keeps versions, for both kinds of write; and an old version stays readable."""
    seaweed_client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    store, options = S3Store(seaweed_client, bucket), WriteOptions(mode="overwrite")
    first = Upload(store, "key", options=options).send_buffer(b"first")
    second = Upload(store, "key", options=options).send_buffer(bytes(9 * MIB))
    assert first.version_id
    assert second.version_id
    assert first.version_id != second.version_id
    with store.get("key", version_id=first.version_id) as download:
        assert b"".join(map(bytes, download.blocks())) == b"first"
    assert store.head("key").version_id == second.version_id


@pytest.mark.parametrize(("start", "stop"), [(0, 3), (2, 5), (2, None)])
def test_a_server_that_ignores_ranges_is_not_believed(
    seaweed_client: Any, bucket: str, start: int, stop: int | None
) -> None:
    """A whole body in answer to a request for a range raises instead of passing for that range."""
    seaweed_client.put_object(Bucket=bucket, Key="k", Body=b"0123456789")
    store = S3Store(seaweed_client, bucket)
    assert b"".join(store.get("k", start=start, stop=stop).blocks()) == b"0123456789"[start:stop]

    def without_range(request: Any, **_: Any) -> None:
        del request.headers["Range"]

    seaweed_client.meta.events.register("before-sign.s3.GetObject", without_range)
    try:
        with pytest.raises(StoreError, match="were asked for"):
            store.get("k", start=start, stop=stop)
    finally:
        seaweed_client.meta.events.unregister("before-sign.s3.GetObject", without_range)


def test_the_region_of_a_store_is_its_clients(seaweed_client: Any, bucket: str) -> None:
    """Pointers can say the region without a request."""
    assert S3Store(seaweed_client, bucket).region == seaweed_client.meta.region_name


def test_a_store_says_how_many_connections_its_client_keeps_open() -> None:
    """Ours as many as all transfers of a process have together, so that none is closed after each part."""
    keys: dict[str, Any] = {"aws_access_key_id": "a", "aws_secret_access_key": "b"}
    theirs = boto3.client("s3", config=Config(max_pool_connections=7), region_name="eu-central-1", **keys)
    stores = [S3Store(client, "results") for client in (theirs, make_client(region="eu-central-1", **keys))]
    assert [pooled_connections(store) for store in stores] == [7, CONNECTIONS]
    assert pooled_connections(FastS3Store("results", lambda: stores[0])) == 7
    assert pooled_connections(MemoryStore("results")) is None


def test_an_answer_without_a_length_is_not_read(seaweed_client: Any, bucket: str) -> None:
    """A proxy that drops Content-Length could cut an answer short unnoticed, so nothing is read."""
    seaweed_client.put_object(Bucket=bucket, Key="k", Body=b"0123456789")

    def without_length(parsed: dict[str, Any], **_: Any) -> None:
        del parsed["ContentLength"]

    seaweed_client.meta.events.register("after-call.s3.GetObject", without_length)
    try:
        with pytest.raises(StoreError, match="did not say how long"):
            S3Store(seaweed_client, bucket).get("k")
    finally:
        seaweed_client.meta.events.unregister("after-call.s3.GetObject", without_length)

"""Servers that are not AWS's: a promise that is not kept is noticed, and what goes into a pointer was looked at."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import secrets
import threading
from typing import TYPE_CHECKING, Any

import pytest
from support.fast_store import fast_store
from support.other_s3 import OtherS3, other_s3
from support.wire import Wire

from stepout import ArtifactManager, resolve_artifact
from stepout.artifacts.s3.store import S3Store
from stepout.artifacts.store_writes import WriteOptions
from stepout.artifacts.transfer.plan import MIB, TransferSettings
from stepout.artifacts.transfer.upload import Upload
from stepout.schemas.errors import ArtifactExistsError, ConfigurationError, SizeMismatchError, StepoutError, StoreError
from stepout.schemas.many_failed import ManyFailedError

if TYPE_CHECKING:
    from support.seaweed import Seaweed

    from stepout.schemas import Pointer

LARGE = os.urandom(9 * MIB)
SETTINGS = TransferSettings(memory=24 * MIB, part_size=5 * MIB)


def _manager(server: OtherS3, profile: str = "compatible", **options: Any) -> ArtifactManager:
    """A manager that writes to keys which others know, so that two of them collide."""
    client = fast_store(server.client(), "bucket", profile=_profile(profile)) if options.pop("quick", False) else None
    if client is not None:
        return ArtifactManager(client, "runs", layout="fixed", run=_run(), settings=SETTINGS, **options)
    return ArtifactManager(
        "bucket",
        "runs",
        client=server.client(),
        profile=profile,
        layout="fixed",
        run=_run(),
        settings=SETTINGS,
        **options,
    )


def _profile(name: str) -> Any:
    from stepout.artifacts.s3.clients import profile_named

    return profile_named(name)


def _run() -> Any:
    from stepout.schemas import RunIdentity

    return RunIdentity(execution="e", state="s", attempt=0)


def _write_stream(manager: ArtifactManager, name: str, data: bytes) -> Pointer:
    with manager.open(name, "wb") as file:
        file.write(data)
    return file.pointer


WRITES: dict[str, Any] = {
    "put_bytes": lambda manager, name, data: manager.put_bytes(name, data),
    "put_file": lambda manager, name, data: manager.put_file(name, io.BytesIO(data)),
    "open": _write_stream,
    "put_many": lambda manager, name, data: manager.put_many({name: data})[name],
}


def _read(server: OtherS3, pointer: Pointer, **options: Any) -> bytes:
    artifact = resolve_artifact(pointer.to_dict(), allow=["s3://bucket/"], client=server.client(), **options)
    return artifact.read_bytes()


# Write once -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("how", WRITES)
@pytest.mark.parametrize("profile", ["aws", "compatible", "no-checksums"])
def test_a_server_that_ignores_the_condition_of_a_put_is_named(how: str, profile: str, quick: bool) -> None:
    """The first write of a process is repeated; it raises, and so does every later one, before a byte is sent."""
    with other_s3(ignores_put_condition=True) as server:
        for number in range(2):
            manager = _manager(server, profile, quick=quick)
            with pytest.raises((ConfigurationError, ManyFailedError), match="STEPOUT_S3_PROFILE=unconditional"):
                WRITES[how](manager, "name", b"data" * (number + 1))
            assert manager.pointers == {}
        assert server.operations("name") == ["PUT", "PUT"]


@pytest.mark.parametrize("how", WRITES)
def test_a_server_that_ignores_the_condition_of_a_completion_is_named(how: str) -> None:
    """It is tried out while the parts are sent, on an object that is removed again; nothing is completed."""
    with other_s3(ignores_completion_condition=True) as server:
        manager = _manager(server)
        with pytest.raises((ConfigurationError, ManyFailedError), match="STEPOUT_S3_PROFILE=unconditional"):
            WRITES[how](manager, "name", LARGE)
        assert (server.objects, server.uploads) == ({}, {})
        assert "POST" not in server.operations("name")


def test_eight_racers_are_not_all_told_that_they_won() -> None:
    """Threads of one process wait for the first write to be settled."""
    told: list[object] = []
    with other_s3(ignores_put_condition=True) as server:

        def race() -> None:
            try:
                told.append(_manager(server).put_bytes("name", secrets.token_bytes(8)))
            except StepoutError as error:
                told.append(error)

        racers = [threading.Thread(target=race) for _ in range(8)]
        for each in racers:
            each.start()
        for each in racers:
            each.join()
        assert [type(each) for each in told] == [ConfigurationError] * 8
        assert server.operations("name") == ["PUT", "PUT"]


@pytest.mark.parametrize("how", WRITES)
@pytest.mark.parametrize("data", [b"small", LARGE], ids=["small", "large"])
def test_unconditional_looks_and_then_puts(how: str, data: bytes) -> None:
    """The same content again is success, other content is refused; no condition is sent."""
    with other_s3(ignores_put_condition=True, ignores_completion_condition=True) as server:
        first = WRITES[how](_manager(server, "unconditional"), "name", data)
        again = WRITES[how](_manager(server, "unconditional"), "name", data)
        assert (first.etag, first.checksum) == (again.etag, again.checksum)
        with pytest.raises((ArtifactExistsError, ManyFailedError), match="exists with other content"):
            WRITES[how](_manager(server, "unconditional"), "name", data[:-1] + b"?")
        assert _read(server, first) == data
        assert not any("if-none-match" in headers for _, _, headers in server.requests)


def test_an_honest_server_gets_the_first_write_twice_and_no_other(seaweed: Seaweed, bucket: str) -> None:
    """A PutObject more a process, endpoint and bucket, whoever writes; one trial before the first upload of parts."""
    with Wire(seaweed.endpoint) as wire:
        for number in range(3):
            store = S3Store(seaweed.client(endpoint=wire.endpoint), bucket)
            Upload(store, f"key{number}", options=WriteOptions()).send_buffer(b"data")
        assert wire.operations == ["PutObject"] * 4
        wire.lines.clear()
        for number in range(2):
            Upload(store, f"large{number}", options=WriteOptions(), settings=SETTINGS).send_buffer(LARGE)
        trial = [line for line in wire.lines if "stepout-trial-" in line]
        assert len(trial) == 6
        assert wire.operations.count("CompleteMultipartUpload") == 3
    assert [each["Key"] for each in seaweed.client().list_objects_v2(Bucket=bucket)["Contents"]] == [
        "key0", "key1", "key2", "large0", "large1",
    ]  # fmt: skip


AWS = [
    "https://s3.amazonaws.com",
    "https://s3.eu-west-1.amazonaws.com",
    "https://s3-fips.dualstack.us-gov-west-1.amazonaws.com",
    "https://s3.dualstack.eu-west-1.api.aws",
    "https://bucket.vpce-1a2b-3c.s3.eu-west-1.vpce.amazonaws.com",
    "https://s3-us-west-2.amazonaws.com",
    "https://s3.cn-north-1.amazonaws.com.cn",
    "https://s3express-use1-az4.us-east-1.amazonaws.com",
    "https://s3-accelerate.amazonaws.com",
    "https://b.s3-accesspoint.eu-west-1.amazonaws.com",
]
OTHERS = [
    "http://127.0.0.1:9000",
    "https://minio.example.com",
    "https://s3.eu-west-1.wasabisys.com",
    "https://s3-proxy-123.us-east-1.elb.amazonaws.com",
    "https://s3.amazonaws.com.example.net",
    "https://ec2-203-0-113-1.compute-1.amazonaws.com",
    "http://[",
    "",
]


@pytest.mark.parametrize("url", AWS + OTHERS)
def test_endpoints_of_aws_are_known(url: str) -> None:
    """Those of S3 in every partition; a customer's host under amazonaws.com is none."""
    from stepout.schemas.runtime.s3_profile import is_aws_endpoint

    assert is_aws_endpoint(url) is (url in AWS)


def test_aws_is_not_asked_twice() -> None:
    """Neither a repeated write, nor a trial, nor a look afterwards, with whatever profile."""
    from botocore.awsrequest import AWSResponse
    from botocore.compat import HTTPHeaders

    from stepout.artifacts.s3.clients import make_client

    class _Raw(io.BytesIO):
        def stream(self, *_: Any, **__: Any) -> Any:
            yield self.read()

    sent: list[str] = []
    client = make_client(region="eu-west-1", aws_access_key_id="a", aws_secret_access_key="b")

    def answer(request: Any, **_: Any) -> Any:
        sent.append(f"{request.method} {request.url.rpartition('/')[2]}")
        body = b"<R><UploadId>u</UploadId><ETag>e</ETag></R>" if request.method == "POST" else b""
        return AWSResponse(request.url, 200, HTTPHeaders.from_dict({"ETag": '"e"'}), _Raw(body))

    client.meta.events.register("before-send.s3", answer)
    for profile in ("aws", "compatible"):
        sent.clear()
        store = S3Store(client, "bucket", profile=_profile(profile))
        Upload(store, "one", options=WriteOptions()).send_buffer(b"data")
        assert sent == ["PUT one"]
        Upload(store, "two", options=WriteOptions(), settings=SETTINGS).send_buffer(LARGE)
        assert [each.partition(" ")[0] for each in sent[1:]] == ["POST", "PUT", "PUT", "POST"]


# Facts for pointers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", WRITES)
@pytest.mark.parametrize("profile", ["compatible", "unconditional", "no-checksums"])
def test_an_etag_that_get_does_not_repeat_stays_out_of_the_pointer(
    how: str, profile: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The object is read once, the pointer takes what GET says, and a log line names what the server does."""
    with other_s3(completes_with_another_etag=True) as server:
        pointer = WRITES[how](_manager(server, profile), "name", LARGE)
        assert _read(server, pointer) == LARGE
        assert pointer.etag == f'"{server.objects[pointer.url.removeprefix("s3://")].etag}"'
    assert "answers CompleteMultipartUpload with the ETag" in caplog.text


@pytest.mark.parametrize("mode", ["create", "overwrite"])
def test_an_object_that_is_not_what_was_committed_makes_no_pointer(mode: Any) -> None:
    """The server lost a byte, or somebody replaced it: the message says what was sent and what is there."""
    with other_s3(loses_the_end=True) as server, pytest.raises(SizeMismatchError, match="GET says 9,437,183"):
        _manager(server, mode=mode).put_bytes("name", LARGE)


def test_a_version_that_the_server_does_not_find_stays_out_of_the_pointer(caplog: pytest.LogCaptureFixture) -> None:
    """It could never be read."""
    with other_s3(unknown_versions=True) as server:
        pointer = _manager(server).put_bytes("name", LARGE)
        assert pointer.version_id is None
        assert _read(server, pointer) == LARGE
    assert "names version v1 and does not find it" in caplog.text


@pytest.mark.parametrize("data", [b"small", LARGE], ids=["small", "large"])
def test_a_weak_etag_stays_out_of_the_pointer(data: bytes) -> None:
    """If-Match never holds for one."""
    with other_s3(weak_etags=True) as server:
        pointer = _manager(server).put_bytes("name", data)
        assert pointer.etag is None
        adopted = _manager(server).adopt("other", pointer.url, verify="read")
        assert adopted.etag is None
        artifact = resolve_artifact(adopted.to_dict(), allow=["s3://bucket/"], client=server.client(), verify="pinned")
        with artifact.open() as file:
            assert file.read(3) == data[:3]


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


COMPOSITE = {"x-amz-checksum-sha256": _b64(hashlib.sha256(b"of the parts' checksums").digest())}


@pytest.mark.parametrize(
    "said",
    [
        COMPOSITE,  # moto: neither a suffix nor a type
        {**COMPOSITE, "x-amz-checksum-type": "FULL_OBJECT"},
        {"x-amz-checksum-crc64nvme": _b64(b"1234")},
        {"x-amz-checksum-crc64nvme": _b64(b"12345678")},
        {"x-amz-checksum-crc64nvme": _b64(b"1234"), "x-amz-checksum-type": "FULL_OBJECT"},
        {"x-amz-checksum-sha256": _b64(b"1234"), "x-amz-checksum-type": "FULL_OBJECT"},
        {"x-amz-checksum-sha256": "no base64!"},
    ],
)
def test_a_checksum_that_cannot_be_the_objects_is_not_adopted(said: dict[str, str]) -> None:
    """Nor does it make other content of the same: the object is read instead."""
    with other_s3(said_checksums=said) as server:
        pointer = _manager(server).put_bytes("name", LARGE)
        with pytest.raises(ConfigurationError, match='verify="read"'):
            _manager(server).adopt("other", pointer.url)
        adopted = _manager(server).adopt("other", pointer.url, verify="read")
        assert adopted.checksum == {"sha256": pointer.checksum["sha256"]}
        assert _read(server, adopted) == LARGE
        assert _manager(server).put_bytes("name", LARGE).checksum == pointer.checksum


def test_a_checksum_of_checksums_that_nothing_gives_away_costs_a_read() -> None:
    """The same content stays the same, other content of the same size is still refused."""
    with other_s3(said_checksums=COMPOSITE) as server:
        manager = _manager(server)
        pointer = manager.put_bytes("name", b"data")
        assert _manager(server).put_bytes("name", b"data").checksum == pointer.checksum
        with pytest.raises(ArtifactExistsError):
            _manager(server).put_bytes("name", b"else")


def test_adopt_asks_what_readers_will_see() -> None:
    """HEAD and GET that contradict each other make no pointer, unless the object is read."""
    with other_s3(head_has_another_etag=True) as server:
        pointer = _manager(server).put_bytes("name", b"data")
        with pytest.raises(ConfigurationError, match=r"answers HEAD with the ETag .* and GET with"):
            _manager(server).adopt("other", pointer.url)
        assert _read(server, _manager(server).adopt("other", pointer.url, verify="read")) == b"data"


# Checksum headers --------------------------------------------------------------------------------------------------

REFUSALS = [
    (501, "NotImplemented", "A header you provided implies functionality that is not implemented"),
    (400, "InvalidRequest", "x-amz-checksum-sha256 is not supported"),
    (400, "InvalidArgument", "Unsupported header"),
    (400, "BadRequest", "unknown checksum header"),
]


@pytest.mark.parametrize("refusal", REFUSALS)
@pytest.mark.parametrize("data", [b"small", LARGE], ids=["small", "large"])
def test_a_server_that_refuses_checksum_headers_gets_advice_and_a_profile(
    refusal: tuple[int, str, str], data: bytes
) -> None:
    """The message names the profile; with it both kinds of write and every read do without such a header."""
    with other_s3(refuses_checksums=refusal) as server:
        with pytest.raises(StepoutError, match=r"no-checksums.*stepout doctor --probe"):
            _manager(server).put_bytes("name", data)
        pointer = _manager(server, "no-checksums").put_bytes("name", data)
        assert _read(server, pointer) == data
        assert _manager(server, "no-checksums").put_bytes("name", data).etag == pointer.etag


@pytest.mark.parametrize("data", [b"small", LARGE], ids=["small", "large"])
def test_bytes_that_are_damaged_on_their_way_are_noticed_without_checksum_headers(
    seaweed: Seaweed, bucket: str, data: bytes
) -> None:
    """Content-MD5 stands in for them: what was flipped is sent again."""
    with Wire(seaweed.endpoint) as wire:
        client = seaweed.client(endpoint=wire.endpoint, sign_payload=False)
        store = S3Store(client, bucket, profile=_profile("no-checksums"))
        fault = wire.when("PutObject" if len(data) < MIB else "UploadPart", "flip_request")
        Upload(store, "key", options=WriteOptions(mode="overwrite"), settings=SETTINGS).send_buffer(data)
        with store.get("key") as download:
            assert b"".join(map(bytes, download.blocks())) == data
        assert fault.hits == 1


@pytest.mark.parametrize(
    "name", ["unconditional no-checksums", "no-checksums,unconditional", "compatible+unconditional"]
)
def test_words_of_a_profile_can_stand_together(name: str) -> None:
    """Separated as people write lists; each says what ``compatible`` says, and more."""
    profile = _profile(name)
    assert (profile.multipart_checksum, profile.conditional_writes) == ("parts", False)
    assert profile.checksum_headers is ("no-checksums" not in name)


@pytest.mark.parametrize("name", ["aws compatible", "aws,unconditional", "minio", "unconditional unconditonal"])
def test_words_that_are_no_profile_are_refused(name: str) -> None:
    """And named."""
    with pytest.raises(ConfigurationError, match="STEPOUT_S3_PROFILE"):
        _profile(name)


# Who pays, and what cannot be read ---------------------------------------------------------------------------------


def test_a_bucket_whose_readers_pay_can_be_written_and_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """HEAD, GET and ranges say so, by argument or from the environment; without, the refusal is the server's."""
    with other_s3(requester_pays=True) as server:
        manager = _manager(server, request_payer="requester")
        pointers = [manager.put_bytes(f"n{number}", b"data" * (number + 1)) for number in range(3)]
        adopted = manager.adopt("other", pointers[0].url)
        with pytest.raises(StepoutError):
            _read(server, pointers[0])
        for pointer in (*pointers, adopted):
            assert _read(server, pointer, request_payer="requester").startswith(b"data")
        found = resolve_artifact(
            pointers[2].to_dict(), allow=["s3://bucket/"], client=server.client(), request_payer="requester"
        )
        with found.open() as file:
            file.seek(4)
            assert file.read(4) == b"data"
        from urllib.request import urlopen

        with urlopen(found.presign()) as answer:
            assert answer.read() == b"data" * 3
        monkeypatch.setenv("STEPOUT_REQUEST_PAYER", "requester")
        assert _read(server, pointers[1]) == b"datadata"
        assert _manager(server).put_bytes("late", b"x").size == 1
        monkeypatch.setenv("STEPOUT_REQUEST_PAYER", "owner")
        with pytest.raises(ConfigurationError, match="STEPOUT_REQUEST_PAYER"):
            _read(server, pointers[1])


def test_small_reads_by_quick_routes_say_who_pays() -> None:
    """The second read of a kind goes another way, and pays as well."""
    with other_s3(requester_pays=True) as server:
        store = fast_store(server.client(), "bucket", profile=_profile("compatible"), request_payer="requester")
        for number in range(3):
            Upload(store, f"k{number}", options=WriteOptions()).send_buffer(b"data")
            with store.get_small(f"k{number}", size=4) as download:
                assert b"".join(map(bytes, download.blocks())) == b"data"
        assert all(headers.get("x-amz-request-payer") for _, _, headers in server.requests)


def test_a_cold_read_says_who_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client is made, since the way without one could not say it."""
    import sys

    from stepout.artifacts.reading.bucket_stores import BucketStores
    from stepout.artifacts.s3.fast_store import FastS3Store
    from stepout.artifacts.s3.routes.cold_start import ColdRoute

    monkeypatch.delitem(sys.modules, "botocore", raising=False)
    for name, value in {
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_DEFAULT_REGION": "eu-west-1",
    }.items():
        monkeypatch.setenv(name, value)
    store = BucketStores(request_payer="requester").of("bucket")
    assert isinstance(store, FastS3Store)
    assert not any(isinstance(route, ColdRoute) for route in store._first)


@pytest.mark.parametrize("storage_class", ["GLACIER", "DEEP_ARCHIVE", "deep_archive", " GLACIER "])
def test_outputs_are_never_archived(storage_class: str) -> None:
    """Refused when the manager is made, before a byte is sent by any put: the next state could not read them."""
    with other_s3() as server:
        with pytest.raises(ConfigurationError, match=r"cannot be read before they are restored.*Nothing was sent"):
            _manager(server, storage_class=storage_class)
        assert server.requests == []
        assert _manager(server, storage_class="GLACIER_IR").put_bytes("name", b"x").size == 1


@pytest.mark.parametrize("storage_class", ["GLACIER", "DEEP_ARCHIVE"])
def test_an_archived_object_is_named_as_one(storage_class: str) -> None:
    """By every read, and by adopt, which would make a pointer that the next state cannot follow."""
    with other_s3() as server:
        pointer = _manager(server).put_bytes("name", b"data")
        server.faults.archived = storage_class
        words = rf"archived and cannot be read \(InvalidObjectState, storage class {storage_class}\).*Restore"
        with pytest.raises(StoreError, match=words):
            _read(server, pointer)
        with pytest.raises(StoreError, match=f"is archived .{storage_class}.*nothing was adopted"):
            _manager(server).adopt("other", pointer.url)
        with pytest.raises(StoreError, match=words):
            _manager(server).adopt("other", pointer.url, verify="read")

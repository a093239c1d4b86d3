"""The cheaper routes of small objects: when they are taken, what they send, and that nothing else changes."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from botocore.credentials import Credentials
from support.fast_store import fast_store
from support.seaweed import ADMIN, READER
from support.settled import settled
from support.wire import Wire

from stepout.artifacts.s3 import fast_store as small_objects
from stepout.artifacts.s3.clients import make_client, own_client, store_for
from stepout.artifacts.s3.fast_store import FastS3Store, is_plain_key
from stepout.artifacts.s3.routes import route_botocore, route_obstore
from stepout.artifacts.s3.routes.request_template import RequestTemplate, template_of
from stepout.artifacts.s3.store import S3Store
from stepout.artifacts.store_writes import Encryption, StoreProfile, WriteOptions, Written
from stepout.schemas.errors import AccessDeniedError, ArtifactExistsError, ArtifactNotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.seaweed import Seaweed

PARTS = StoreProfile(name="compatible", multipart_checksum="parts")
ROUTES = ["route_obstore", "route_botocore"]


class Routes:
    """Counts which way requests went."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, client: Any) -> None:
        self.ways: list[str] = []
        for kind in (route_obstore.ObstoreBucket, route_botocore.TemplatedRequests):
            for verb in ("put", "get"):
                monkeypatch.setattr(kind, verb, self._counted(kind.__module__.rpartition(".")[2], getattr(kind, verb)))
        client.meta.events.register("before-send.s3", self._ordinary)

    def _ordinary(self, **_: Any) -> None:
        self.ways.append("ordinary")

    def _counted(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **options: Any) -> Any:
            self.ways.append(name)
            return real(*args, **options)

        return counted


@pytest.fixture
def routes(seaweed: Seaweed, bucket: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Routes]:
    """A client of its own, and what its requests' ways were."""
    client = settled(seaweed.client(), bucket)
    return client, Routes(monkeypatch, client)


def _put(store: Any, key: str, data: bytes = b"data", **options: Any) -> Written:
    digest = {"sha256": hashlib.sha256(data).hexdigest()}
    return store.put(key, [memoryview(data)], checksum=digest, options=WriteOptions(**options))  # type: ignore[no-any-return]


def _get(store: Any, key: str, **pin: Any) -> bytes:
    with store.get_small(key, size=10, **pin) as body:
        return b"".join(map(bytes, body.blocks()))


def _in_thread(act: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(act).result()


def test_the_first_request_teaches_the_others(routes: tuple[Any, Routes], bucket: str) -> None:
    """One ordinary request, then the light route in the main thread and obstore's in others."""
    client, seen = routes
    store = fast_store(client, bucket, profile=PARTS)
    for number in range(2):
        _put(store, f"k{number}")
    _in_thread(lambda: _put(store, "k2"))
    for number in range(2):
        assert _get(store, f"k{number}") == b"data"
    assert _in_thread(lambda: _get(store, "k2")) == b"data"
    assert seen.ways == ["ordinary", "route_botocore", "route_obstore", "ordinary", "route_botocore", "route_obstore"]


@pytest.mark.parametrize("route", ROUTES)
def test_a_route_stores_what_the_ordinary_way_stores(routes: tuple[Any, Routes], bucket: str, route: str) -> None:
    """Media type, metadata, tags, storage class and checksum are the same, and so is what is read back."""
    client, seen = routes
    store = fast_store(client, bucket, profile=PARTS)
    options: dict[str, Any] = {"media_type": "text/csv", "metadata": {"team": "maps"}, "tags": {"a b": "c&d", "e": ""}}
    run = _in_thread if route == "route_obstore" else lambda act: act()
    first = _put(store, "ordinary", **options)
    second = run(lambda: _put(store, "quick", **options))
    assert seen.ways == ["ordinary", route]
    assert first == second
    heads = [client.head_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED") for key in ("ordinary", "quick")]
    for member in ("ContentType", "Metadata", "ETag", "ContentLength"):
        assert heads[0][member] == heads[1][member]
    tags = [client.get_object_tagging(Bucket=bucket, Key=key)["TagSet"] for key in ("ordinary", "quick")]
    assert tags[0] == tags[1]
    infos = []
    for key in ("ordinary", "quick", "quick"):
        with run(partial(store.get_small, key, size=4)) as body:
            infos.append(body.info)
    assert infos[1].etag == infos[2].etag == second.etag
    assert infos[1].media_type == infos[2].media_type == "text/csv"
    assert infos[1].last_modified == infos[2].last_modified


@pytest.mark.parametrize("route", ROUTES)
def test_versions_are_told_and_read(routes: tuple[Any, Routes], bucket: str, route: str) -> None:
    """In a bucket with versions, a write tells its own, and a read gets the one it asks for."""
    client, seen = routes
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    store = fast_store(client, bucket, profile=PARTS)
    run = _in_thread if route == "route_obstore" else lambda act: act()
    written = [run(partial(_put, store, "key", b"v%d" % n, mode="overwrite")) for n in range(3)]
    assert len({each.version_id for each in written}) == 3
    assert None not in {each.version_id for each in written}
    assert [run(partial(_get, store, "key", version_id=w.version_id)) for w in written] == [b"v0", b"v1", b"v2"]
    assert seen.ways.count(route) == 4
    versions = client.list_object_versions(Bucket=bucket).get("Versions", [])
    for each in versions:
        client.delete_object(Bucket=bucket, Key="key", VersionId=each["VersionId"])


@pytest.mark.parametrize("route", ROUTES)
def test_errors_are_those_of_the_ordinary_way(routes: tuple[Any, Routes], bucket: str, route: str) -> None:
    """Taken keys, missing objects and changed ones raise exactly what ``S3Store`` raises."""
    client, seen = routes
    store, plain = fast_store(client, bucket, profile=PARTS), S3Store(client, bucket, profile=PARTS)
    run = _in_thread if route == "route_obstore" else lambda act: act()
    for key in ("a", "b"):
        run(partial(_put, store, key))
    run(lambda: _get(store, "a"))
    seen.ways.clear()
    for act, kind in (
        (lambda each: _put(each, "a"), ArtifactExistsError),
        (lambda each: each.get("missing") if each is plain else _get(each, "missing"), ArtifactNotFoundError),
    ):
        with pytest.raises(kind) as quick_error:
            run(partial(act, store))
        with pytest.raises(kind) as plain_error:
            act(plain)
        assert str(quick_error.value) == str(plain_error.value)
    assert seen.ways.count(route) == 2


@pytest.mark.parametrize("route", ROUTES)
def test_credentials_rotate_with_botocore(seaweed: Seaweed, bucket: str, route: str) -> None:
    """Every request is signed with what botocore's credentials are at that moment."""
    client = seaweed.client()
    now = {"identity": ADMIN}

    class Rotating(Credentials):
        def get_frozen_credentials(self) -> Any:
            identity = now["identity"]
            return Credentials(identity.access_key, identity.secret_key).get_frozen_credentials()

    client._request_signer._credentials = Rotating(ADMIN.access_key, ADMIN.secret_key)
    store = fast_store(client, bucket, profile=PARTS, obstore=route == "route_obstore")
    run = _in_thread if route == "route_obstore" else lambda act: act()
    for key in ("a", "b"):
        run(partial(_put, store, key))
    now["identity"] = READER
    with pytest.raises(AccessDeniedError):
        run(lambda: _put(store, "c"))
    assert run(lambda: _get(store, "a")) == b"data"
    now["identity"] = ADMIN
    assert run(lambda: _put(store, "d")).etag
    assert client.head_object(Bucket=bucket, Key="d")["ContentLength"] == 4


def test_one_request_for_each_object(seaweed: Seaweed, bucket: str) -> None:
    """No route looks first, and none asks twice."""
    with Wire(seaweed.endpoint) as wire:
        client = settled(seaweed.client(endpoint=wire.endpoint), bucket)
        store = fast_store(client, bucket, profile=PARTS)
        for number in range(3):
            _put(store, f"k{number}")
            _in_thread(partial(_put, store, f"t{number}"))
        for number in range(3):
            _get(store, f"k{number}")
            _in_thread(partial(_get, store, f"t{number}"))
        assert wire.operations == ["PutObject"] * 6 + ["GetObject"] * 6


def test_a_route_that_fails_again_and_again_rests(routes: tuple[Any, Routes], bucket: str) -> None:
    """After three failures in a row the ordinary way is taken for half a minute, then the route again."""
    client, seen = routes
    time = [0.0]
    store = fast_store(client, bucket, profile=PARTS, clock=lambda: time[0])
    for key in ("a", "b"):
        _put(store, key)
    for _ in range(5):
        with pytest.raises(ArtifactExistsError):
            _put(store, "a")
    assert seen.ways.count("route_botocore") == 1 + 3
    time[0] = 31.0
    _put(store, "c")
    _put(store, "d")
    assert seen.ways[-2:] == ["route_botocore", "route_botocore"]


def test_what_is_large_or_oddly_named_goes_the_ordinary_way(routes: tuple[Any, Routes], bucket: str) -> None:
    """Over 256 KiB, and with keys that libraries may write differently, nothing is saved and nothing risked."""
    client, seen = routes
    store = fast_store(client, bucket, profile=PARTS)
    _put(store, "a")
    _put(store, "größe")
    _put(store, "a b")
    _put(store, "large", b"x" * 300_000)
    assert _get(store, "größe") == b"data"
    with store.get_small("large", size=300_000) as body:
        assert sum(map(len, body.blocks())) == 300_000
    assert set(seen.ways) == {"ordinary"}


def test_an_object_that_is_larger_than_was_said_is_left_to_the_ordinary_way(seaweed_client: Any, bucket: str) -> None:
    """A route takes no more than its limit into memory, whatever the server has."""
    store = fast_store(seaweed_client, bucket, profile=PARTS)
    _put(store, "small")
    _get(store, "small")
    _put(store, "large", b"x" * 300_000)
    for run in (_in_thread, lambda act: act()):
        body = run(lambda: store.get_small("large", size=10))
        with body:
            assert type(body).__name__ == "S3Download"
            assert body.info.size == 300_000


@pytest.mark.parametrize("compressed", [True, False])
def test_bytes_come_as_they_are_stored(seaweed_client: Any, bucket: str, *, compressed: bool) -> None:
    """A content encoding is not undone: the checksum is of the stored bytes."""
    extra = {"ContentEncoding": "gzip"} if compressed else {}
    seaweed_client.put_object(Bucket=bucket, Key="odd", Body=b"not gzip at all", **extra)
    store = fast_store(seaweed_client, bucket, profile=PARTS)
    for run in (lambda act: act(), lambda act: act(), _in_thread):
        assert run(lambda: _get(store, "odd")) == b"not gzip at all"


def test_settings_of_each_kind_are_learned_apart(routes: tuple[Any, Routes], bucket: str) -> None:
    """Other tags are another kind of request, and its first goes the ordinary way; media types are all one kind."""
    client, seen = routes
    store = fast_store(client, bucket, profile=PARTS)
    _put(store, "a", media_type="text/plain")
    _put(store, "b", media_type="text/csv")
    _put(store, "c", tags={"x": "y"})
    _put(store, "d", tags={"x": "y"})
    _put(store, "e", mode="overwrite")
    assert seen.ways == ["ordinary", "route_botocore", "ordinary", "route_botocore", "ordinary"]
    for number in range(12):
        _put(store, f"f{number}", metadata={"n": str(number)})
    assert store.learned is not None
    assert len(store.learned._known["PutObject"]) == 8


def test_only_clients_that_we_build_are_quick(seaweed_client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that is passed in is used as it is."""
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    assert type(store_for(seaweed_client, "bucket")) is S3Store
    assert type(store_for(None, "bucket")) is FastS3Store
    assert repr(store_for(None, "bucket")) == "FastS3Store('bucket')"
    assert type(store_for(own_client(), "bucket", own=True)) is FastS3Store


# What a route needs -----------------------------------------------------------------------------------------------

HEADERS = {
    "User-Agent": "agent",
    "X-Amz-Content-SHA256": "0" * 64,
    "Authorization": "AWS4-HMAC-SHA256 Credential=key/20260101/eu-west-1/s3/aws4_request, "
    "SignedHeaders=host;x-amz-content-sha256;x-amz-date, Signature=abc",
}


def _client(**options: Any) -> Any:
    keys = {"aws_access_key_id": "key", "aws_secret_access_key": "secret", "region": "eu-west-1"}
    return make_client(**{"endpoint_url": "http://127.0.0.1:9", **keys, **options})


def _sample(url: str = "http://127.0.0.1:9/bucket/a", **headers: str) -> RequestTemplate:
    found = template_of(url, {**HEADERS, **headers}, "a")
    assert found is not None
    return found


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "AWS key:signature"},
        {"Authorization": HEADERS["Authorization"].replace("/s3/", "/s3express/")},
        {"Content-MD5": "x"},
        {"Content-Encoding": "aws-chunked"},
        {"x-amz-checksum-crc32": "x"},
    ],
)
def test_requests_that_cannot_be_copied_teach_nothing(headers: dict[str, str]) -> None:
    """Another signature, or a body in another frame, is no sample."""
    assert template_of("http://127.0.0.1:9/bucket/a", {**HEADERS, **headers}, "a") is None
    assert template_of("http://127.0.0.1:9/bucket/other", HEADERS, "a") is None


@pytest.mark.parametrize("key", ["a//b", "/a", "a/", "./a", "a/../b", "a b", "ä", "a+b", "", "a%20b", ".a"])
def test_keys_that_need_care_are_not_plain(key: str) -> None:
    """Whatever could be escaped or normalized is left to botocore."""
    assert not is_plain_key(key)


def test_botocores_route_signs_as_the_template_was_signed() -> None:
    """Other headers, or somebody else's key, mean that this botocore signs otherwise: no route."""
    client, sample = _client(), _sample()
    assert route_botocore.templated_requests(client, sample) is not None
    for change in ({"signed": frozenset({"host"})}, {"payload_signed": False}, {"region": "x"}, {"access_key": "x"}):
        changed = RequestTemplate(**{**sample.__dict__, **change})
        found = route_botocore.templated_requests(client, changed)
        # The region, and whether bodies are signed, are the sample's to say.
        assert (found is None) == bool({"signed", "access_key"} & change.keys())


@pytest.mark.parametrize("name", ["Cache-Control", "content-encoding", "storage_class"])
def test_metadata_that_obstore_would_make_a_header_has_no_obstore_route(name: str) -> None:
    """Metadata named storage-class would otherwise move small objects to Glacier."""
    assert route_obstore.obstore_bucket(_sample(**{f"x-amz-meta-{name}": "x"}), _client(), "bucket", environ={}) is None
    assert (
        route_obstore.obstore_bucket(_sample(**{"x-amz-meta-other": "x"}), _client(), "bucket", environ={}) is not None
    )


@pytest.mark.parametrize("member", ["_request_signer", "_endpoint"])
def test_a_botocore_that_keeps_its_parts_elsewhere_has_no_route(member: str) -> None:
    """Members that are not public may go away; then nothing breaks."""
    client = _client()
    setattr(client, member, object())
    assert route_botocore.templated_requests(client, _sample()) is None


def test_connections_that_are_not_ours_have_no_route(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where botocore keeps its pools elsewhere they stay as they are: nothing is tried on them in vain."""
    monkeypatch.setattr("stepout.artifacts.s3.connections.pools.pool_classes", lambda _: None)
    assert route_botocore.templated_requests(_client(), _sample()) is None


@pytest.mark.parametrize(
    ("base", "found"),
    [
        ("http://127.0.0.1:9/bucket/a", True),
        ("http://bucket.localhost:9/a", True),
        ("http://127.0.0.1:9/other/a", False),
        ("http://127.0.0.1:9/bucket/prefix/a", False),
    ],
)
def test_obstore_is_told_where_the_bucket_is(base: str, *, found: bool) -> None:
    """By path or by host name; anything else is not its business."""
    assert (route_obstore.obstore_bucket(_sample(base), _client(), "bucket", environ={}) is not None) == found


def test_obstore_is_not_used_for_what_it_cannot_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """Headers that it has no words for, variables that it alone reads, proxies, and own certificates rule it out."""
    client, sample = _client(), _sample()
    assert route_obstore.obstore_bucket(sample, client, "bucket", environ={}) is not None
    owner = _sample(**{"x-amz-expected-bucket-owner": "1" * 12})
    assert route_obstore.obstore_bucket(owner, client, "bucket", environ={}) is None
    assert route_obstore.obstore_bucket(sample, client, "bucket", environ={"AWS_PROXY_URL": "http://x"}) is None
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("no_proxy", "")
        patch.setenv("ALL_PROXY", "http://127.0.0.1:9")
        assert route_obstore.obstore_bucket(sample, client, "bucket") is None
        patch.delenv("ALL_PROXY")
        assert route_obstore.obstore_bucket(sample, client, "bucket") is not None
        patch.setenv("http_proxy", "http://127.0.0.1:9")
        assert route_obstore.obstore_bucket(sample, client, "bucket", environ={}) is None
        ipv6 = _sample("http://[::1]:9/bucket/a")
        for bypassed, straight in (("127.0.0.1,::1", False), ("::1,[::1]", True)):  # botocore looks for the latter
            patch.setenv("no_proxy", bypassed)
            found = route_obstore.obstore_bucket(ipv6, client, "bucket", environ={})
            assert (found is not None) == straight
    for name in ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "https_proxy", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    secure = _sample("https://bucket.s3.eu-west-1.amazonaws.com/a")
    assert route_obstore.obstore_bucket(secure, _client(endpoint_url=None), "bucket", environ={}) is not None
    own = _client(endpoint_url=None, verify="/some/bundle.pem")
    assert route_obstore.obstore_bucket(secure, own, "bucket", environ={}) is None


def test_obstore_says_encryption_and_storage_class() -> None:
    """Its requests bear the same headers as the sample."""
    server = _Listener()
    headers = {
        "x-amz-server-side-encryption": "aws:kms",
        "x-amz-server-side-encryption-aws-kms-key-id": "arn:key",
        "x-amz-server-side-encryption-bucket-key-enabled": "true",
        "x-amz-storage-class": "STANDARD_IA",
        "if-none-match": "*",
    }
    sample = _sample(f"{server.endpoint}/bucket/a", **headers)
    route = route_obstore.obstore_bucket(sample, _client(endpoint_url=server.endpoint), "bucket", environ={})
    assert route is not None
    assert route.put("b", b"body", media_type="text/plain") == Written(etag='"e"', version_id="v1")
    sent = server.heads[0]
    assert {name: sent[name] for name in headers} == headers
    digest = hashlib.sha256(b"body").hexdigest()
    assert (sent["content-type"], sent["x-amz-content-sha256"], sent["user-agent"]) == ("text/plain", digest, "agent")
    assert sent["x-amz-checksum-sha256"]


def test_an_answer_without_an_etag_is_no_success() -> None:
    """A 200 that says nothing of an object is repeated on the ordinary way."""
    server = _Listener(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    sample = _sample(f"{server.endpoint}/bucket/a")
    client = _client(endpoint_url=server.endpoint)
    route = route_obstore.obstore_bucket(sample, client, "bucket", environ={})
    assert route is not None
    with pytest.raises(Exception, match="ETag"):
        route.put("b", b"body", media_type="text/plain")


class _Listener:
    """Answers every request alike, and remembers its head."""

    def __init__(self, answer: bytes | None = None) -> None:
        import socket

        self._answer = answer or (
            b'HTTP/1.1 200 OK\r\nETag: "e"\r\nx-amz-version-id: v1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n'
        )
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.heads: list[dict[str, str]] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            client, _ = self._socket.accept()
            with client, client.makefile("rb") as reader:
                reader.readline()
                lines = iter(lambda: reader.readline().decode().strip(), "")
                head = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
                self.heads.append(head)
                reader.read(int(head.get("content-length", 0)))
                client.sendall(self._answer)


# Other processes --------------------------------------------------------------------------------------------------


def _python(program: str, seaweed: Seaweed, bucket: str) -> str:
    environment = {
        **os.environ,
        "AWS_ENDPOINT_URL": seaweed.endpoint,
        "AWS_ACCESS_KEY_ID": ADMIN.access_key,
        "AWS_SECRET_ACCESS_KEY": ADMIN.secret_key,
        "AWS_REGION": "us-east-1",
        "STEPOUT_S3_PROFILE": "compatible",
        "BUCKET": bucket,
    }
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_without_the_extra_everything_works(seaweed: Seaweed, bucket: str) -> None:
    """Where obstore and awscrt are not installed, the light route does it."""
    program = """
        import os, sys
        sys.modules.update(awscrt=None, obstore=None)
        import stepout
        manager = stepout.ArtifactManager(os.environ["BUCKET"])
        values = {f"n{n}": str(n).encode() for n in range(30)}
        pointers = manager.put_many(values)
        document = {"stepout": "output/1", "artifacts": {n: p.to_dict() for n, p in pointers.items()}}
        output = stepout.resolve_output(document, allow=[stepout.ANY_BUCKET])
        assert dict(output.read_many()) == values
        obstore, botocore = manager._writes.store._routes
        print([*obstore._buckets.values()], [type(each).__name__ for each in botocore._senders.values()])
    """
    assert _python(program, seaweed, bucket) == "[None] ['TemplatedRequests']"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_does_not_wait_for_the_threads_of_its_parent(seaweed: Seaweed, bucket: str) -> None:
    """Threads of obstore stay in the process that started them; a fork of it goes another way."""
    program = """
        import os, stepout
        manager = stepout.ArtifactManager(os.environ["BUCKET"])
        manager.put_many({f"a{n}": b"x" for n in range(10)})
        child = os.fork()
        if child == 0:
            manager.put_many({f"b{n}": b"x" for n in range(10)})
            os._exit(0)
        print(os.waitpid(child, 0)[1])
    """
    assert _python(program, seaweed, bucket) == "0"


def test_encryption_is_a_kind_of_its_own() -> None:
    """Two writes are alike if nothing but their media types differ."""
    plain = WriteOptions(media_type="a/b")
    assert small_objects._alike(plain, WriteOptions(media_type="c/d"))
    assert not small_objects._alike(plain, WriteOptions(encryption=Encryption(kms_key="k")))
    assert small_objects._alike(None, None)
    assert not small_objects._alike(None, plain)

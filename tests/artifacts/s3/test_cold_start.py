"""First reads without botocore: when they happen, when they must not, and that nothing else differs."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from support.plain_server import credentials, plain_answer, plain_server
from support.seaweed import ADMIN, READER
from support.wire import Wire, operation

from stepout.artifacts.allow import ANY_BUCKET, allowed_from
from stepout.artifacts.reading.access import Access
from stepout.artifacts.reading.artifact import Artifact
from stepout.artifacts.reading.bucket_stores import BucketStores
from stepout.artifacts.s3.clients import make_client
from stepout.artifacts.s3.fast_store import FastS3Store
from stepout.artifacts.s3.routes import cold_start as cold
from stepout.artifacts.s3.routes.cold_start import ColdRoute, cold_route
from stepout.artifacts.s3.routes.container_credentials import FULL_URI, TOKEN_FILE
from stepout.artifacts.s3.store import S3Store
from stepout.schemas import Pointer
from stepout.schemas.errors import (
    AccessDeniedError,
    ArtifactChangedError,
    ArtifactNotFoundError,
    ChecksumMismatchError,
    ConfigurationError,
    SizeMismatchError,
    StepoutError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.seaweed import Identity, Seaweed

DATA = os.urandom(10_000)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without files of botocore's."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    return tmp_path


@pytest.fixture
def wire(seaweed: Seaweed) -> Iterator[Wire]:
    """A proxy before the server."""
    with Wire(seaweed.endpoint) as found:
        yield found


def _environ(endpoint: str, identity: Identity = READER) -> dict[str, str]:
    return {
        "AWS_ACCESS_KEY_ID": identity.access_key,
        "AWS_SECRET_ACCESS_KEY": identity.secret_key,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL_S3": endpoint,
    }


def _put(client: Any, bucket: str, data: bytes = DATA, key: str = "runs/a.bin") -> Pointer:
    answer = client.put_object(Bucket=bucket, Key=key, Body=data)
    checksum = {"sha256": hashlib.sha256(data).hexdigest()}
    return Pointer(bucket=bucket, key=key, size=len(data), checksum=checksum, etag=answer["ETag"])


def _artifact(pointer: Pointer, environ: dict[str, str], client: Any) -> Artifact:
    """An artifact of this process, where botocore is loaded, read as if it were not."""
    route = cold_route(pointer.bucket, environ=environ)
    assert route is not None
    ordinary = S3Store(client, pointer.bucket)
    cold_again = ColdRoute(route._place, route._credentials, cold=lambda: True)
    store = FastS3Store(pointer.bucket, lambda: ordinary, first=[cold_again], obstore=False, light=False)
    access = Access(allowed=allowed_from(ANY_BUCKET), stores=BucketStores(store))
    return Artifact(pointer, access)


# A process of its own ----------------------------------------------------------------------------------------------

START = """
import json, os, signal, sys, threading
import stepout
pointer = json.loads(sys.argv[1])
def resolve():
    return stepout.resolve_artifact(pointer, allow=["s3://" + pointer["bucket"] + "/"])
"""


def _script(text: str, pointer: Pointer, environ: dict[str, str], home: Path) -> subprocess.Popen[str]:
    unset = ("AWS_", "BOTO", "STEPOUT_")
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith(unset)}
    kept = {name: value for name, value in kept.items() if not name.upper().endswith("_PROXY")}
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", START + text, json.dumps(pointer.to_dict())],
        env={**kept, "HOME": str(home), **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _run(text: str, pointer: Pointer, environ: dict[str, str], home: Path) -> str:
    process = _script(text, pointer, environ, home)
    out, errors = process.communicate(timeout=300)
    assert (errors, process.returncode) == ("", 0)
    return out.strip()


def _at_start() -> set[str]:
    """What any program of this interpreter has loaded, for example to measure coverage."""
    command = [sys.executable, "-c", "import sys; print(*sys.modules)"]
    return set(subprocess.run(command, capture_output=True, text=True, timeout=300, check=True).stdout.split())


READS = """
import hashlib
read = []
read.append(resolve().read_bytes())
thread = threading.Thread(target=lambda: read.append(resolve().read_bytes()))
thread.start()
thread.join()
assert [hashlib.sha256(each).hexdigest() for each in read] == [pointer["checksum"]["sha256"]] * 2
print("botocore" in sys.modules)
"""


def test_small_reads_do_without_botocore(seaweed: Seaweed, seaweed_client: Any, bucket: str, home: Path) -> None:
    """In the main thread and in others: verified bytes, a signature that the server checks, and no botocore."""
    pointer = _put(seaweed_client, bucket)
    assert _run(READS, pointer, _environ(seaweed.endpoint), home) == "False"


def test_anything_in_doubt_goes_through_botocore(
    seaweed: Seaweed, seaweed_client: Any, bucket: str, home: Path
) -> None:
    """A variable that is not known, a file with settings, or a large object; the bytes are the same."""
    pointer, environ = _put(seaweed_client, bucket), _environ(seaweed.endpoint)
    assert _run(READS, pointer, {**environ, "AWS_RETRY_MODE": "standard"}, home) == "True"
    config = home / "config"
    config.write_text("[default]\nretry_mode = standard\n")
    assert _run(READS, pointer, {**environ, "AWS_CONFIG_FILE": str(config)}, home) == "True"
    large = _put(seaweed_client, bucket, b"x" * (cold.LARGEST + 1), "runs/large")
    assert _run(READS, large, environ, home) == "True"


def test_a_small_read_loads_only_what_it_needs(seaweed: Seaweed, seaweed_client: Any, bucket: str, home: Path) -> None:
    """No obstore, no HTTP client, no rooms for large transfers and other tools' references, nothing that learns."""
    text = """
resolve().read_bytes()
print(*sorted(sys.modules))
"""
    loaded = set(_run(text, _put(seaweed_client, bucket), _environ(seaweed.endpoint), home).split()) - _at_start()
    assert "stepout.artifacts.s3.routes.cold_start" in loaded
    ours = {name.rpartition(".")[2] for name in loaded if name.startswith("stepout.")}
    assert not ours & {"parallel_get", "foreign", "route_obstore", "route_botocore", "request_template"}
    assert not ours & {"store_writes", "servers", "pace", "memory_granted", "read_limit", "regions"}
    assert not loaded & {"obstore", "awscrt", "http.client", "email", "urllib3", "queue", "random", "encodings.idna"}
    assert "stepout.artifacts.process.budget" not in loaded


def test_what_a_read_takes_in_one_piece_does_without_botocore(
    seaweed: Seaweed, seaweed_client: Any, bucket: str, home: Path
) -> None:
    """Up to the limit, and to a file as well."""
    text = """
import pathlib
artifact = resolve()
artifact.download("there")
print(pathlib.Path("there").read_bytes() == artifact.read_bytes(), "botocore" in sys.modules)
"""
    large = _put(seaweed_client, bucket, os.urandom(cold.LARGEST), "runs/large")
    folder = f"os.chdir({str(home)!r})\n"
    assert _run(folder + text, large, _environ(seaweed.endpoint), home) == "True False"


def test_credentials_are_those_of_the_moment(seaweed: Seaweed, seaweed_client: Any, bucket: str, home: Path) -> None:
    """A process that wakes up with other ones in its environment uses them, without making its store anew."""
    text = """
artifact = resolve()
artifact.read_bytes()
os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"] = "stepout-admin", "stepout-admin-secret"
artifact.read_bytes()
print("botocore" in sys.modules)
os.environ["AWS_SECRET_ACCESS_KEY"] = "wrong"
try:
    artifact.read_bytes()
except stepout.AccessDeniedError:
    print("denied", "botocore" in sys.modules)
"""
    pointer = _put(seaweed_client, bucket)
    assert _run(text, pointer, _environ(seaweed.endpoint), home).split() == ["False", "denied", "True"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_reads_without_botocore_too(
    seaweed: Seaweed, seaweed_client: Any, bucket: str, home: Path
) -> None:
    """Over connections of its own (``test_direct_connections``)."""
    text = """
artifact = resolve()
artifact.read_bytes()
child = os.fork()
if not child:
    artifact.read_bytes()
    os._exit(7 if "botocore" in sys.modules else 8)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
artifact.read_bytes()
"""
    assert _run(text, _put(seaweed_client, bucket), _environ(seaweed.endpoint), home) == "8"


# A container's credentials -----------------------------------------------------------------------------------------


def _contained(seaweed: Seaweed, url: str) -> dict[str, str]:
    environ = _environ(seaweed.endpoint)
    del environ["AWS_ACCESS_KEY_ID"], environ["AWS_SECRET_ACCESS_KEY"]
    return {**environ, FULL_URI: f"{url}/v1/credentials"}


def test_a_container_reads_with_what_its_endpoint_gives(
    seaweed: Seaweed, seaweed_client: Any, bucket: str, home: Path
) -> None:
    """Asked once for several reads, with the token of a file; S3 checks the signature. botocore is not loaded."""
    (home / "token").write_text("the-token")
    pointer = _put(seaweed_client, bucket)
    with plain_server(credentials(READER.access_key, READER.secret_key, Token="")) as server:
        environ = {**_contained(seaweed, server.url), TOKEN_FILE: str(home / "token")}
        assert _run(READS, pointer, environ, home) == "False"
        asked = [head for head in server.requests if "\r\nauthorization: the-token" in head]
        assert len(asked) == len(server.requests) == 2  # each of both artifacts that were resolved


def test_credentials_that_have_almost_expired_are_fetched_for_each_read(
    seaweed: Seaweed, seaweed_client: Any, bucket: str, home: Path
) -> None:
    """And rotation is seen: the second keys are others."""
    text = """
artifact = resolve()
artifact.read_bytes()
artifact.read_bytes()
print("botocore" in sys.modules)
"""
    pointer = _put(seaweed_client, bucket)
    answers = [credentials(each.access_key, each.secret_key, seconds=60, Token="") for each in (READER, ADMIN)]
    with plain_server(lambda _: answers.pop(0)) as server:
        assert _run(text, pointer, _contained(seaweed, server.url), home) == "False"
        assert not answers


def test_keys_of_the_environment_come_before_the_endpoints(
    seaweed: Seaweed, seaweed_client: Any, bucket: str, home: Path
) -> None:
    """As in botocore: the endpoint is not asked."""
    pointer = _put(seaweed_client, bucket)
    with plain_server(b"") as server:
        environ = {**_contained(seaweed, server.url), **_environ(seaweed.endpoint)}
        assert _run(READS, pointer, environ, home) == "False"
        assert server.requests == []


@pytest.mark.parametrize(
    "failure",
    [b"", b"nonsense", plain_answer(b"", status="500 Oops"), plain_answer(b"", status="403 No"), plain_answer(b"[]")],
)
def test_an_endpoint_that_fails_once_is_asked_again_by_botocore(
    failure: bytes, seaweed: Seaweed, seaweed_client: Any, bucket: str, home: Path
) -> None:
    """Refused, broken, or garbage: the read succeeds all the same."""
    pointer = _put(seaweed_client, bucket)
    answers = [failure]
    good = credentials(READER.access_key, READER.secret_key, Token="")
    with plain_server(lambda _: answers.pop() if answers else good) as server:
        text = "resolve().read_bytes()\nprint('botocore' in sys.modules)"
        assert _run(text, pointer, _contained(seaweed, server.url), home) == "True"


def test_a_host_that_may_not_be_asked_is_botocores_error(
    seaweed: Seaweed, seaweed_client: Any, bucket: str, home: Path
) -> None:
    """Whatever it says; nothing is sent to that host."""
    text = """
try:
    resolve().read_bytes()
except Exception as error:
    print(type(error).__name__, "botocore" in sys.modules, "192.0.2.1" in str(error))
"""
    environ = _contained(seaweed, "http://192.0.2.1")
    assert _run(text, _put(seaweed_client, bucket), environ, home).split()[1:] == ["True", "True"]


def test_tls_is_verified_against_the_bundle_that_is_named(
    certificate: tuple[str, Any], seaweed: Seaweed, seaweed_client: Any, bucket: str, home: Path
) -> None:
    """Without it neither way trusts the server."""
    pointer = _put(seaweed_client, bucket)
    with Wire(seaweed.endpoint, tls=certificate[1]) as wire:
        environ = {**_environ(wire.endpoint), "AWS_CA_BUNDLE": certificate[0]}
        assert _run(READS, pointer, environ, home) == "False"
        assert wire.operations == ["GetObject", "GetObject"]
        del environ["AWS_CA_BUNDLE"]
        text = "try: resolve().read_bytes()\nexcept stepout.StoreError as error: print(type(error).__name__)"
        assert _run(text, pointer, environ, home) == "StoreUnavailableError"
        assert len(wire.operations) == 2


@pytest.mark.skipif(sys.platform == "win32", reason="no signals of this kind")
def test_a_signal_is_handled_while_a_read_waits(seaweed_client: Any, bucket: str, home: Path, wire: Wire) -> None:
    """The main thread's handlers run during a read that hangs, and one that raises ends the process at once."""
    text = """
from stepout.artifacts.s3.routes import cold_start as cold
cold._SECONDS = 600.0
signal.signal(signal.SIGTERM, lambda *_: sys.exit(17))
resolve().read_bytes()
"""
    fault = wire.when("GetObject", "stall")
    process = _script(text, _put(seaweed_client, bucket), _environ(wire.endpoint), home)
    assert fault.struck.wait(60)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=300)  # less than the route's own limit
    assert (process.returncode, errors) == (17, "")
    assert wire.operations == ["GetObject"]


# The same errors ---------------------------------------------------------------------------------------------------


def _error(artifact: Artifact) -> StepoutError:
    with pytest.raises(StepoutError) as caught:
        artifact.read_bytes()
    return caught.value


@pytest.mark.parametrize("case", ["missing", "size", "larger", "changed", "damaged"])
def test_errors_are_those_of_the_ordinary_way(
    case: str, seaweed: Seaweed, seaweed_client: Any, bucket: str, wire: Wire
) -> None:
    """Missing, resized, replaced or damaged: the same class and the same words, from the client's answer."""
    fields = _put(seaweed_client, bucket).to_dict()
    changes: dict[str, dict[str, Any]] = {
        "missing": {"key": "runs/none"},
        "size": {"size": len(DATA) + 1},
        "larger": {"size": len(DATA) - 1},
        "changed": {"etag": '"0123456789abcdef0123456789abcdef"'},
        "damaged": {"checksum": {"sha256": "0" * 64}},
    }
    classes = {"missing": ArtifactNotFoundError, "changed": ArtifactChangedError, "damaged": ChecksumMismatchError}
    pointer = Pointer.from_dict({**fields, **changes[case]})
    client = seaweed.client(READER, endpoint=wire.endpoint)
    found = _error(_artifact(pointer, _environ(wire.endpoint), client))
    requests = wire.operations
    assert type(found) is classes.get(case, SizeMismatchError)
    ordinary = _error(Artifact(pointer, Access(allowed=allowed_from(ANY_BUCKET), stores=BucketStores(client))))
    assert (type(found), str(found)) == (type(ordinary), str(ordinary))
    assert requests == ["GetObject"] * (1 if case == "damaged" else 2)


def test_a_denied_read_says_so_as_ever(seaweed: Seaweed, seaweed_client: Any, bucket: str) -> None:
    """A wrong secret: 403, told by botocore's answer."""
    pointer = _put(seaweed_client, bucket)
    environ = {**_environ(seaweed.endpoint), "AWS_SECRET_ACCESS_KEY": "wrong"}
    client = make_client(
        endpoint_url=seaweed.endpoint, region="us-east-1", aws_access_key_id="nobody", aws_secret_access_key="wrong"
    )
    assert isinstance(_error(_artifact(pointer, environ, client)), AccessDeniedError)


@pytest.mark.parametrize("kind", ["reset", "status", "lost", "truncate"])
def test_a_broken_first_request_is_repeated(
    kind: Any, seaweed: Seaweed, seaweed_client: Any, bucket: str, wire: Wire
) -> None:
    """Once, by the client, and the read succeeds."""
    pointer = _put(seaweed_client, bucket)
    wire.when("GetObject", kind)
    client = seaweed.client(READER, endpoint=wire.endpoint)
    assert _artifact(pointer, _environ(wire.endpoint), client).read_bytes() == DATA
    assert wire.operations == ["GetObject", "GetObject"]


def test_a_flipped_bit_is_found(seaweed: Seaweed, seaweed_client: Any, bucket: str, wire: Wire) -> None:
    """Bytes that arrived without botocore are verified like all others."""
    pointer = _put(seaweed_client, bucket)
    wire.when("GetObject", "flip_answer")
    client = seaweed.client(READER, endpoint=wire.endpoint)
    assert isinstance(_error(_artifact(pointer, _environ(wire.endpoint), client)), ChecksumMismatchError)


def test_a_server_that_stalls_costs_time_and_no_more(
    seaweed: Seaweed, seaweed_client: Any, bucket: str, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The request ends, and the client's is answered."""
    monkeypatch.setattr(cold, "_SECONDS", 0.3)
    pointer = _put(seaweed_client, bucket)
    wire.when("GetObject", "stall")
    client = seaweed.client(READER, endpoint=wire.endpoint)
    assert _artifact(pointer, _environ(wire.endpoint), client).read_bytes() == DATA
    assert wire.operations == ["GetObject", "GetObject"]


def test_a_version_is_asked_for(seaweed_client: Any, bucket: str, wire: Wire) -> None:
    """The pointer's, not the newest."""
    seaweed_client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    old = seaweed_client.put_object(Bucket=bucket, Key="runs/a.bin", Body=DATA)["VersionId"]
    new = seaweed_client.put_object(Bucket=bucket, Key="runs/a.bin", Body=b"new")["VersionId"]
    checksum = {"sha256": hashlib.sha256(DATA).hexdigest()}
    pointer = Pointer(bucket=bucket, key="runs/a.bin", size=len(DATA), checksum=checksum, version_id=old)
    assert _artifact(pointer, _environ(wire.endpoint), seaweed_client).read_bytes() == DATA
    assert len(wire.lines) == 1
    assert f"versionId={old}" in wire.lines[0]
    for version in (old, new):
        seaweed_client.delete_object(Bucket=bucket, Key="runs/a.bin", VersionId=version)


def test_everything_else_is_the_ordinary_stores(seaweed: Seaweed, seaweed_client: Any, bucket: str) -> None:
    """Ranges, HEAD, links; and once botocore is there, small reads as well."""
    pointer = _put(seaweed_client, bucket)
    route = cold_route(bucket, environ=_environ(seaweed.endpoint))
    assert route is not None
    ordinary = S3Store(seaweed_client, bucket)
    store = FastS3Store(bucket, lambda: ordinary, first=[route])
    assert repr(store) == f"FastS3Store({bucket!r})"
    assert store.head(pointer.key).size == len(DATA)
    assert store.endpoint_url == seaweed.endpoint
    assert store.presign(pointer.key, seconds=60).startswith(seaweed.endpoint)
    with store.get_small(pointer.key, size=len(DATA)) as body:
        assert b"".join(map(bytes, body.blocks())) == DATA
    assert store.learned is not None
    assert store.learned._known["GetObject"]  # the request went through the ordinary store


# Which store -------------------------------------------------------------------------------------------------------


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """This process, as if botocore had not been imported, in an environment that decides everything."""
    for name in [each for each in os.environ if each.upper().startswith(("AWS_", "BOTO")) or "_proxy" in each.lower()]:
        monkeypatch.delenv(name)
    for name, value in {**_environ("http://127.0.0.1:9"), "AWS_DEFAULT_REGION": "eu-west-1"}.items():
        monkeypatch.setenv(name, value)
    others = {name: module for name, module in sys.modules.items() if name != "botocore"}
    monkeypatch.setattr("stepout.artifacts.s3.clients.sys", SimpleNamespace(modules=others))
    return monkeypatch


def _has_cold_route(**options: Any) -> bool:
    store = BucketStores(**options).of("results")
    return isinstance(store, FastS3Store) and any(isinstance(route, ColdRoute) for route in store._first)


@pytest.mark.usefixtures("fresh")
def test_an_access_makes_a_client_only_when_it_is_needed() -> None:
    """And one for all of its buckets and threads."""
    stores = BucketStores()
    first, second = stores.of("results"), stores.of("others")
    assert isinstance(first, FastS3Store)
    assert isinstance(second, FastS3Store)
    own = stores._client
    assert own.current is None
    assert first.endpoint_url == "http://127.0.0.1:9"
    assert second.region == "eu-west-1"
    assert first.ordinary().client is second.ordinary().client is own.get()
    assert stores.of("results") is first


@pytest.mark.usefixtures("fresh")
def test_an_owner_or_a_client_keeps_reads_ordinary(seaweed_client: Any) -> None:
    """The route cannot say whose bucket it expects, and a client that is passed is used."""
    assert _has_cold_route()
    assert not _has_cold_route(expected_bucket_owner="123456789012")
    assert not _has_cold_route(client=seaweed_client)


def test_the_extra_is_not_needed(fresh: pytest.MonkeyPatch) -> None:
    """The standard library does."""
    fresh.setitem(sys.modules, "obstore", None)
    assert _has_cold_route()


def test_a_profile_that_nobody_knows_is_an_error_as_ever(fresh: pytest.MonkeyPatch) -> None:
    """And not a read without a profile."""
    fresh.setenv("STEPOUT_S3_PROFILE", "nonsense")
    with pytest.raises(ConfigurationError, match="nonsense"):
        _has_cold_route()


def test_once_botocore_is_loaded_reads_are_ordinary(fresh: pytest.MonkeyPatch) -> None:
    """Whoever imported it may have changed what it does."""
    fresh.setattr("stepout.artifacts.s3.clients.sys", sys)
    assert not _has_cold_route()


def test_a_key_that_libraries_may_spell_differently_is_left_to_botocore(
    seaweed: Seaweed, seaweed_client: Any, bucket: str, wire: Wire
) -> None:
    """Only keys that are the same in a URL take the route."""
    pointer = _put(seaweed_client, bucket, key="runs/größe +.bin")
    client = seaweed.client(READER, endpoint=wire.endpoint)
    environ = _environ("http://127.0.0.1:9")  # nobody listens: a request there would fail first
    reads: list[bytes] = []
    thread = threading.Thread(target=lambda: reads.append(_artifact(pointer, environ, client).read_bytes()))
    thread.start()
    thread.join()
    assert reads == [DATA]
    assert [operation(line) for line in wire.lines] == ["GetObject"]

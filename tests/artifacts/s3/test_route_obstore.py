"""What obstore cannot do: follow a fork, stay with the server that was asked; what that may cost."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from support.seaweed import ADMIN

from stepout.artifacts.allow import ANY_BUCKET, allowed_from
from stepout.artifacts.memory import MemoryStore
from stepout.artifacts.reading.access import Access
from stepout.artifacts.reading.artifact import Artifact
from stepout.artifacts.reading.bucket_stores import BucketStores
from stepout.artifacts.s3.fast_store import FastS3Store
from stepout.artifacts.s3.routes.request_template import LearnedRequest, RequestTemplate
from stepout.artifacts.s3.routes.route_obstore import ObstoreBucket, ObstoreRoute
from stepout.artifacts.s3.server_clock import ServerClock
from stepout.artifacts.store import Arrived, ObjectInfo
from stepout.artifacts.store_writes import WriteOptions
from stepout.schemas import Pointer
from stepout.schemas.errors import ChecksumMismatchError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.seaweed import Seaweed

    from stepout.artifacts.store import Download

# Not imported: whoever imports obstore before stepout does closes its routes.
pytestmark = pytest.mark.skipif(find_spec("obstore") is None, reason="obstore is not installed")
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

DATA = b"what was written"
KEYS = {"AWS_ACCESS_KEY_ID": ADMIN.access_key, "AWS_SECRET_ACCESS_KEY": ADMIN.secret_key}

START = """
import json, os, signal, sys, threading

def use_obstore():
    import obstore
    from obstore.store import S3Store
    endpoint = os.environ["AWS_ENDPOINT_URL_S3"]
    store = S3Store(
        os.environ["BUCKET"], endpoint=endpoint, region="us-east-1", virtual_hosted_style_request=False,
        client_options={"allow_http": True},
    )
    assert bytes(obstore.get(store, "runs/a").bytes()) == b"what was written"

def read():
    import stepout
    return stepout.resolve_artifact(json.loads(os.environ["POINTER"]), allow=[stepout.ANY_BUCKET]).read_bytes()

def write(letter):
    import stepout
    manager = stepout.ArtifactManager(os.environ["BUCKET"])
    manager.put_bytes(letter, b"x")  # the first of its kind teaches the others
    manager.put_many({f"{letter}{n}": b"x" for n in range(10)})
    store = manager._writes.store
    obstore, _ = store._routes
    return obstore._bucket_for(store.learned._known["PutObject"][0]) is not None

def in_thread(act):
    thread = threading.Thread(target=act)
    thread.start()
    thread.join()

def ended(act):
    # What becomes of act in a child; nothing that it waits for outlives the alarm.
    child = os.fork()
    if not child:
        signal.alarm(20)
        try:
            act()
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
"""


def _sha256(data: bytes) -> dict[str, str]:
    return {"sha256": hashlib.sha256(data).hexdigest()}


def _pointer(bucket: str, checksum: dict[str, str]) -> Pointer:
    return Pointer(bucket=bucket, key="runs/a", size=len(DATA), checksum=checksum)


@pytest.fixture
def run(seaweed: Seaweed, seaweed_client: Any, bucket: str, tmp_path: Path) -> Any:
    """Run a program whose environment decides how S3 is reached; return what it prints."""
    seaweed_client.put_object(Bucket=bucket, Key="runs/a", Body=DATA)
    unset = ("AWS_", "BOTO", "STEPOUT_")
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith(unset)}
    environ = {
        **{name: value for name, value in kept.items() if not name.upper().endswith("_PROXY")},
        **KEYS,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL_S3": seaweed.endpoint,
        "BUCKET": bucket,
        "HOME": str(tmp_path),
        "POINTER": json.dumps(_pointer(bucket, _sha256(DATA)).to_dict()),
        "STEPOUT_S3_PROFILE": "compatible",
    }

    def run(program: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", START + textwrap.dedent(program)],
            env=environ, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert (done.stderr, done.returncode) == ("", 0)
        return done.stdout.strip()

    return run


# Forks -------------------------------------------------------------------------------------------------------------


@forks
@pytest.mark.parametrize("act", ["read", "lambda: in_thread(read)", "lambda: write('b')"])
def test_a_fork_of_a_program_that_used_obstore_itself_does_not_wait(run: Any, act: str) -> None:
    """Its threads stayed in the parent, which stepout has never seen: both routes are closed in the child."""
    assert run(f"use_obstore(); print(ended({act}))") == "0"


@forks
@pytest.mark.parametrize("act", ["read", "lambda: in_thread(read)", "lambda: write('b')"])
def test_a_fork_of_a_program_whose_obstore_stepout_loaded_does_not_wait(run: Any, act: str) -> None:
    """Whoever used it between that and the fork."""
    assert run(f"write('a'); use_obstore(); print(ended({act}))") == "0"


def test_whose_obstore_it_is_is_settled_when_it_is_needed(run: Any) -> None:
    """Loaded before: the light route writes. Loaded by stepout: obstore does, others use it too."""
    assert run("import obstore; print(write('b'))") == "False"
    assert run("write('a'); use_obstore(); print(write('b'))") == "True"


def test_threads_that_ask_at_once_get_one_answer(run: Any) -> None:
    """The one that is first to load obstore is no stranger to the others."""
    program = """
        from stepout.artifacts.s3.routes import route_obstore as native
        sys.setswitchinterval(1e-5)
        found, gate = [], threading.Barrier(16)
        def ask():
            gate.wait()
            found.append(native.own_obstore() is not None)
        threads = [threading.Thread(target=ask) for _ in range(16)]
        for each in threads: each.start()
        for each in threads: each.join()
        print(found.count(True))
    """
    assert run(program) == "16"


# Redirects ---------------------------------------------------------------------------------------------------------


@contextmanager
def _server(data: bytes, location: str | None = None) -> Iterator[Any]:
    """A server that has ``data`` under every key, or says that it is elsewhere."""
    seen: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.headers)
            self.send_response(200 if location is None else 307)
            if location is not None:
                self.send_header("Location", location + self.path)
            self.send_header("ETag", '"e"')
            self.send_header("Last-Modified", "Sun, 22 Nov 2026 12:00:00 GMT")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield SimpleNamespace(endpoint=f"http://127.0.0.1:{server.server_port}", seen=seen)
        finally:
            server.shutdown()


class _OrdinaryStore(MemoryStore):
    """What reads go to that obstore does not end; no request leaves through its client."""

    client = SimpleNamespace(meta=SimpleNamespace(events=SimpleNamespace(register=lambda *_: None)))
    connection = SimpleNamespace(current=client)


class _Native:
    """Obstore, asked before anything was learned, and in any thread."""

    def __init__(self, endpoint: str) -> None:
        import obstore

        template = RequestTemplate(
            base=f"{endpoint}/results/",
            headers={"user-agent": "stepout"},
            access_key=ADMIN.access_key,
            region="us-east-1",
            service="s3",
            signed=frozenset(),
            payload_signed=True,
        )
        keys = SimpleNamespace(access_key=ADMIN.access_key, secret_key=ADMIN.secret_key, token=None)
        credentials = SimpleNamespace(get_frozen_credentials=lambda: keys)
        where = {"endpoint": endpoint, "aws_endpoint_url_s3": endpoint, "virtual_hosted_style_request": False}
        nothing: dict[str, Any] = {"config": {}, "attributes": {}, "tags": None}
        self._bucket = ObstoreBucket(obstore, template, credentials, ServerClock(), "results", where, nothing)

    def get(self, key: str, *, size: int, version_id: str | None, if_match: str | None) -> Download | None:
        """See ``SmallReads``."""
        return self._bucket.get(key, version_id=version_id, if_match=if_match, limit=size)


def _artifact(endpoint: str, verify: Any, checksum: dict[str, str]) -> Artifact:
    """An artifact of a store that reads by obstore as long as it may, and has the right bytes itself."""
    ordinary: Any = _OrdinaryStore("results")
    ordinary.put("runs/a", [memoryview(DATA)], checksum=_sha256(DATA), options=WriteOptions())
    store = FastS3Store("results", lambda: ordinary, first=[_Native(endpoint)], obstore=False, light=False)
    access = Access(allowed=allowed_from(ANY_BUCKET), stores=BucketStores(store), verify=verify)
    return Artifact(_pointer("results", checksum), access)


def test_what_a_redirect_brings_is_held_against_the_checksum() -> None:
    """Obstore follows it to wherever it leads, without the signature, and cannot be told not to."""
    with _server(b"what others have") as elsewhere, _server(b"", elsewhere.endpoint) as asked:
        with pytest.raises(ChecksumMismatchError):
            _artifact(asked.endpoint, True, _sha256(DATA)).read_bytes()
        assert (len(asked.seen), len(elsewhere.seen)) == (1, 1)
        assert "Authorization" in asked.seen[0]
        assert "Authorization" not in elsewhere.seen[0]


@pytest.mark.parametrize("verify", ["pinned", False, "no checksum"])
def test_reads_that_are_not_hashed_do_not_follow_redirects(verify: Any) -> None:
    """Nothing would tell that the bytes are another server's, so obstore is not asked."""
    checksum = {} if verify == "no checksum" else _sha256(DATA)
    with _server(b"what others have") as elsewhere, _server(b"", elsewhere.endpoint) as asked:
        found = _artifact(asked.endpoint, True if verify == "no checksum" else verify, checksum).read_bytes()
        assert found == DATA
        assert asked.seen == elsewhere.seen == []


def test_what_obstore_needs_is_made_by_one_thread_while_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those take the next route meanwhile: it is made once, and nobody waits for it."""
    route, known = ObstoreRoute("bucket"), LearnedRequest(options=None, client=None, url="", headers={}, key="key")
    made: list[object] = []

    def make(*_: object) -> Any:
        made.append(_in_thread(get))
        return SimpleNamespace(clock=ServerClock(), get=lambda *_, **__: Arrived(ObjectInfo(size=1), memoryview(b"x")))

    def get() -> Any:
        return route.get(known, "key", version_id=None, if_match=None)

    monkeypatch.setattr(LearnedRequest, "template", lambda _: "template")
    monkeypatch.setattr("stepout.artifacts.s3.routes.route_obstore.obstore_bucket", make)
    monkeypatch.setattr("stepout.artifacts.s3.routes.route_obstore.may_wait_here", lambda: True)
    assert [_in_thread(get).info.size for _ in range(3)] == [1, 1, 1]
    assert made == [None]


def _in_thread(act: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(act).result()

"""Every put of more than one block announces a list whose digests are those of the stored bytes, or stores nothing."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from support.directories import files_of
from support.seaweed import ADMIN
from support.wire import Fault, Wire, operation

from stepout.artifacts import ArtifactManager, MemoryStore, TransferSettings, blocks, checksums
from stepout.artifacts.process import servers
from stepout.artifacts.process.servers import ListUses
from stepout.artifacts.store_writes import Encryption, StoreProfile
from stepout.schemas import Pointer, RunIdentity
from stepout.schemas.errors import (
    AccessDeniedError,
    ArtifactExistsError,
    ConfigurationError,
    StepoutError,
    StoreUnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from support.seaweed import Seaweed

    from stepout.artifacts.store import ObjectInfo
    from stepout.artifacts.store_writes import PartReceipt, WriteOptions, Written

RUN = RunIdentity(run_id="again")
KIB, MIB = 1 << 10, 1 << 20
DATA = os.urandom(17 * MIB + 5)
LARGE = memoryview(DATA)[: 9 * MIB]
ONE_REQUEST = TransferSettings(memory=256 * MIB, part_size=64 * MIB)
PROFILES = {
    "full": None,
    "crc32": StoreProfile(multipart_checksum="crc32"),
    "parts": StoreProfile(name="compatible", multipart_checksum="parts"),
    "unconditional": StoreProfile(name="compatible", multipart_checksum="parts", conditional_writes=False),
}


@pytest.fixture
def without_awscrt(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The library as it is where awscrt is not installed."""
    monkeypatch.setitem(sys.modules, "awscrt", None)
    checksums._native_crc64nvme.cache_clear()
    yield
    checksums._native_crc64nvme.cache_clear()


class Pipe:
    """A stream whose length nobody knows."""

    def __init__(self, data: memoryview) -> None:
        self.read = io.BytesIO(data).read


def _put(manager: ArtifactManager, how: str, data: memoryview, path: Path, **options: Any) -> Pointer:
    if how == "bytes":
        return manager.put_bytes("a", data, **options)
    if how == "stream":
        return manager.put_file("a", Pipe(data), **options)
    if how == "writer":
        with manager.open("a", **options) as writer:
            for start in range(0, len(data), 1_000_003):
                writer.write(data[start : start + 1_000_003])
        return writer.pointer
    path.write_bytes(data)
    if how == "file":
        return manager.put_file("a", path, **options)
    listing = manager.put_directory("a", path.parent, **options)
    (entry,) = files_of(manager_store(manager), listing).values()
    return entry.pointer


def manager_store(manager: ArtifactManager) -> MemoryStore:
    """Return the store that a test's manager was made with."""
    store = manager._writes.store
    assert isinstance(store, MemoryStore)
    return store


def _check(pointer: Pointer, read: Callable[[str], bytes], *, algorithm: str | None) -> None:
    """Hold every digest that a pointer announces against the bytes that are stored."""
    data, member = memoryview(read(pointer.key)), pointer.blocks
    one = pointer.size <= (MIB if algorithm == "sha256" else 256 * KIB)
    if one or algorithm is None:
        assert member is None
        return
    assert member is not None
    assert member["algorithm"] == algorithm
    if member["place"] == "object":
        found = read(member["key"])
        assert len(found) > blocks.POINTER_LIMIT
        assert member["sha256"] == hashlib.sha256(found).hexdigest()
        assert member["key"].rpartition("/")[2] == f"blocks-{member['sha256']}"
    else:
        found = blocks.decoded(member["digests"], pointer.url)
        assert len(found) <= blocks.POINTER_LIMIT
    listed = blocks.read_list(member, found, pointer.size, pointer.url)
    for index, start in enumerate(range(0, pointer.size, listed.size)):
        assert listed.holds(index, data[start : start + listed.size])
    if "crc64nvme" in pointer.checksum:
        assert pointer.checksum["crc64nvme"] == checksums.crc_of("crc64nvme", [data])
    assert pointer.checksum["sha256"] == hashlib.sha256(data).hexdigest()


# What is announced is what is stored -------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["bytes", "file", "stream", "writer", "directory"])
@pytest.mark.parametrize(
    "size",
    [256 * KIB - 1, 256 * KIB, 256 * KIB + 1, MIB + 1, 8 * MIB - 1, 8 * MIB, 8 * MIB + 1, len(DATA)],
)
@pytest.mark.parametrize("choice", ["crc", "sha256", "none"])
def test_every_digest_is_that_of_the_stored_block(tmp_path: Path, how: str, size: int, choice: str) -> None:
    """However the bytes come, around each size at which something changes: one block, one request, parts."""
    store = MemoryStore("results")
    pointer = _put(ArtifactManager(store), how, memoryview(DATA)[:size], tmp_path / "file", blocks=choice)
    algorithm = {"crc": "crc64nvme", "sha256": "sha256", "none": None}[choice]
    _check(pointer, store.read, algorithm=algorithm)
    stored = {pointer.key, (pointer.blocks or {}).get("key", pointer.key)}
    others = set(store.keys()) - stored
    assert all(key.endswith("/a.jsonl") for key in others)
    assert Pointer.from_dict(pointer.to_dict()) == pointer


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("size", [MIB, len(DATA)])
def test_other_servers_get_the_same_list(tmp_path: Path, profile: str, size: int) -> None:
    """What a server checks of an upload's parts does not change which digests there are."""
    store = MemoryStore("results", profile=PROFILES[profile])
    manager = ArtifactManager(store)
    pointer = _put(manager, "stream", memoryview(DATA)[:size], tmp_path / "file")
    _check(pointer, store.read, algorithm="crc64nvme")


@pytest.mark.usefixtures("without_awscrt")
@pytest.mark.parametrize("profile", ["full", "parts"])
@pytest.mark.parametrize(("size", "place"), [(MIB, "pointer"), (12 * MIB, "pointer"), (len(DATA), "object")])
def test_without_awscrt_the_digests_are_crc32(tmp_path: Path, profile: str, size: int, place: str) -> None:
    """They are half as long, so the list of an object in parts may still be in the pointer."""
    store = MemoryStore("results", profile=PROFILES[profile])
    pointer = _put(ArtifactManager(store), "file", memoryview(DATA)[:size], tmp_path / "file")
    _check(pointer, store.read, algorithm="crc32")
    assert pointer.blocks is not None
    assert pointer.blocks["place"] == place


@pytest.mark.parametrize("profile", ["aws", "compatible", "unconditional", "no-checksums"])
def test_a_real_server_keeps_them(seaweed_client: Any, bucket: str, profile: str) -> None:
    """One request, and parts, on SeaweedFS in every profile; a second manager puts the same again."""

    def read(key: str) -> bytes:
        data: bytes = seaweed_client.get_object(Bucket=bucket, Key=key)["Body"].read()
        return data

    for _ in range(2):
        manager = ArtifactManager(bucket, client=seaweed_client, profile=profile, layout="fixed", run=RUN)
        for name, size in (("one", MIB), ("parts", len(LARGE))):
            _check(manager.put_bytes(name, LARGE[:size]), read, algorithm="crc64nvme")


def test_many_puts_and_documents_have_lists_too() -> None:
    """All puts go one way."""
    store = MemoryStore("results")
    manager = ArtifactManager(store)
    for pointer in manager.put_many({"a": bytes(MIB), "b": "x" * MIB, "c": ["y" * MIB]}).values():
        _check(pointer, store.read, algorithm="crc64nvme")
    _check(manager.put_document("a-document", {"x": "y" * MIB}), store.read, algorithm="crc64nvme")
    put = manager.put_many({"d": bytes(3 * MIB)}, blocks="sha256")["d"]
    _check(put, store.read, algorithm="sha256")


def test_an_adopted_object_has_none() -> None:
    """Nobody has seen its bytes."""
    store = MemoryStore("results")
    manager = ArtifactManager(store)
    key = manager.put_bytes("a", bytes(MIB)).key
    assert manager.adopt("b", f"s3://results/{key}", verify="read").blocks is None


@pytest.mark.parametrize("wrong", ["md5", "None", True, 1, ["crc"], "crc64nvme"])
def test_another_choice_is_refused_before_anything_is_read(wrong: Any) -> None:
    """The message says which there are; ``None`` counts as absent."""
    store = MemoryStore("results")
    manager = ArtifactManager(store)
    with pytest.raises(ConfigurationError, match="'crc', 'sha256' or 'none'"):
        manager.put_file("a", Pipe(LARGE), blocks=wrong)
    assert manager.put_bytes("a", bytes(MIB), blocks=None).blocks is not None  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="'crc', 'sha256' or 'none'"):  # although such puts were planned before
        manager.put_bytes("b", bytes(MIB), blocks=wrong)


# The list that is an object ----------------------------------------------------------------------------------------


class Journal(MemoryStore):
    """Remembers what was asked, with which options, and how much of it at once."""

    def __init__(self, **options: Any) -> None:
        super().__init__("results", **options)
        self.puts: list[tuple[str, WriteOptions]] = []
        self.completed: list[str] = []
        self.most = 0
        self._now = 0
        self._journal = threading.Lock()

    def _enter(self, step: int) -> None:
        with self._journal:
            self._now += step
            self.most = max(self.most, self._now)

    def put(
        self, key: str, body: Sequence[memoryview], *, checksum: Mapping[str, str], options: WriteOptions
    ) -> Written:
        """Store and remember."""
        self.puts.append((key, options))
        self._enter(1)
        try:
            return super().put(key, body, checksum=checksum, options=options)
        finally:
            self._enter(-1)

    def put_part(self, key: str, upload: str, number: int, body: Sequence[memoryview], *, checksum: str) -> PartReceipt:
        """Store and remember."""
        self._enter(1)
        try:
            return super().put_part(key, upload, number, body, checksum=checksum)
        finally:
            self._enter(-1)

    def complete_upload(self, key: str, *rest: Any, **named: Any) -> Written:
        """Complete, once the list is there."""
        self.completed = self.keys()
        return super().complete_upload(key, *rest, **named)


def test_the_list_is_kept_as_the_artifact_is_and_stored_before_it() -> None:
    """Encryption, tags, metadata and storage class are the artifact's; only the media type is its own."""
    store = Journal()
    manager = ArtifactManager(
        store,
        encryption=Encryption(kms_key="alias/mine"),
        tags={"team": "maps"},
        metadata={"who": "me"},
        storage_class="STANDARD_IA",
    )
    pointer = manager.put_bytes("a", LARGE, media_type="text/csv")
    ((key, options),) = store.puts
    assert pointer.blocks is not None
    assert store.completed == [key] == [pointer.blocks["key"]]
    assert (options.encryption, options.tags) == (Encryption(kms_key="alias/mine"), {"team": "maps"})
    assert (options.metadata, options.storage_class) == ({"who": "me"}, "STANDARD_IA")
    assert (options.media_type, options.mode) == ("application/octet-stream", "create")
    assert pointer.media_type == "text/csv"


def test_one_request_that_is_large_has_its_list_first() -> None:
    """With large parts, more than 8 MiB are one PutObject."""
    store = Journal()
    pointer = ArtifactManager(store, settings=ONE_REQUEST).put_bytes("a", LARGE)
    assert pointer.blocks is not None
    assert [key for key, _ in store.puts] == [pointer.blocks["key"], pointer.key]
    _check(pointer, store.read, algorithm="crc64nvme")


def test_the_list_is_within_the_connections() -> None:
    """It is one of the requests that may be in flight at once."""
    store = Journal()
    settings = TransferSettings(connections=1)
    assert ArtifactManager(store, settings=settings).put_bytes("a", DATA).blocks is not None
    assert store.most == 1


def test_the_list_is_not_counted_as_progress() -> None:
    """The bytes of a progress report are the artifact's."""
    seen: list[tuple[int, int | None]] = []
    store = MemoryStore("results")
    manager = ArtifactManager(store, progress=lambda _name, done, total: seen.append((done, total)))
    manager.put_bytes("a", LARGE)
    assert seen[-1] == (len(LARGE), len(LARGE))
    assert max(done for done, _ in seen) == len(LARGE)


@pytest.mark.parametrize("mode", ["create", "overwrite"])
@pytest.mark.parametrize("settings", [TransferSettings(memory=64 * MIB), ONE_REQUEST])
def test_a_rerun_with_the_same_content_finds_its_list(mode: Any, settings: TransferSettings) -> None:
    """In a fixed layout the keys are the same, the list's too; other content has another list."""
    store = MemoryStore("results")
    first, again = (
        ArtifactManager(store, layout="fixed", run=RUN, mode=mode, settings=settings).put_bytes("a", LARGE)
        for _ in range(2)
    )
    assert first.blocks == again.blocks
    assert len(store.keys()) == 2
    manager = ArtifactManager(store, layout="fixed", run=RUN, mode="overwrite", settings=settings)
    other = manager.put_bytes("a", bytes(len(LARGE)))
    assert other.blocks is not None
    assert other.blocks != first.blocks
    _check(other, store.read, algorithm="crc64nvme")


class Blind(MemoryStore):
    """Lets nobody look."""

    def head(self, key: str, *, version_id: str | None = None) -> ObjectInfo:  # noqa: ARG002 - the protocol's
        """Refuse."""
        raise AccessDeniedError(f"{key}: denied")


def test_two_artifacts_of_one_content_share_a_list_even_if_nobody_may_look() -> None:
    """A role that may only write puts the same bytes under two names, as it could without lists."""
    store = Blind("results")
    manager = ArtifactManager(store)
    one, two = manager.put_bytes("a", LARGE), manager.put_bytes("b", LARGE)
    assert one.blocks == two.blocks
    assert len(store.keys()) == 3


def test_other_bytes_at_the_lists_key_fail_the_put() -> None:
    """They are not overwritten, and the artifact is not stored."""
    store = MemoryStore("results")
    key = ((ArtifactManager(store, layout="fixed", run=RUN).put_bytes("a", LARGE).blocks) or {})["key"]
    store.replace(key, b"other")
    with pytest.raises(ArtifactExistsError, match="blocks-"):
        ArtifactManager(store, layout="fixed", run=RUN).put_bytes("b", LARGE)
    assert len(store.keys()) == 2  # "a" and its list
    assert store.open_uploads == []


# Faults ------------------------------------------------------------------------------------------------------------


def _is_list(line: str) -> bool:
    return line.startswith("PUT ") and "/blocks-" in line


@pytest.fixture
def wire(seaweed: Seaweed) -> Iterator[Wire]:
    """A wire before a real server."""
    with Wire(seaweed.endpoint) as wire:
        yield wire


@pytest.fixture
def environ(monkeypatch: pytest.MonkeyPatch, wire: Wire) -> dict[str, str]:
    """Where and who one is, for this process and others."""
    found = {
        "AWS_ENDPOINT_URL": wire.endpoint,
        "AWS_ACCESS_KEY_ID": ADMIN.access_key,
        "AWS_SECRET_ACCESS_KEY": ADMIN.secret_key,
        "AWS_REGION": "us-east-1",
    }
    for name, value in found.items():
        monkeypatch.setenv(name, value)
    return found


def _left(client: Any, bucket: str) -> tuple[list[str], int]:
    found = client.list_objects_v2(Bucket=bucket).get("Contents", [])
    uploads = client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
    return [each["Key"] for each in found], len(uploads)


def _check_not_completed(wire: Wire) -> None:
    assert "CompleteMultipartUpload" not in [operation(line) for line in wire.lines if "/a?" in line]


@pytest.mark.usefixtures("impatient", "environ")
@pytest.mark.parametrize(
    "answer", [(403, "AccessDenied", AccessDeniedError), (500, "InternalError", StoreUnavailableError)]
)
@pytest.mark.parametrize("memory", [64 * MIB, 256 * MIB])
def test_a_list_that_cannot_be_stored_fails_the_put(
    wire: Wire, seaweed_client: Any, bucket: str, answer: tuple[int, str, type[StepoutError]], memory: int
) -> None:
    """In parts and as one request: the error names the list, nothing is stored, no upload is left behind."""
    status, code, error = answer
    wire.arm(Fault(_is_list, "status", 1000, status, code))
    manager = ArtifactManager(bucket, settings=TransferSettings(memory=memory))
    with pytest.raises(error, match="blocks-"):
        manager.put_bytes("a", LARGE)
    assert manager.pointers == {}
    assert _left(seaweed_client, bucket) == ([], 0)
    _check_not_completed(wire)


@pytest.mark.usefixtures("impatient", "environ")
@pytest.mark.parametrize("kind", ["status", "lost", "reset", "flip_request"])
def test_a_passing_fault_of_the_list_is_survived(wire: Wire, seaweed_client: Any, bucket: str, kind: Any) -> None:
    """It is tried again as every other request of an upload is."""
    fault = wire.arm(Fault(_is_list, kind, 1))
    pointer = ArtifactManager(bucket).put_bytes("a", LARGE)
    assert fault.hits == 1
    _check(
        pointer,
        lambda key: seaweed_client.get_object(Bucket=bucket, Key=key)["Body"].read(),
        algorithm="crc64nvme",
    )


@pytest.mark.usefixtures("environ")
@pytest.mark.parametrize("memory", [64 * MIB, 256 * MIB])
def test_an_abort_while_the_list_is_stored_leaves_no_artifact(
    wire: Wire, seaweed_client: Any, bucket: str, memory: int
) -> None:
    """From another thread, as a signal's watcher does it; the list goes with the upload, once its request has ended."""
    fault = wire.arm(Fault(_is_list, "stall", 1))
    manager = ArtifactManager(bucket, settings=TransferSettings(memory=memory))

    def abort() -> None:
        fault.struck.wait(60)
        threading.Timer(0.2, fault.release).start()  # abort waits for it
        manager.abort()

    thread = threading.Thread(target=abort)
    thread.start()
    with pytest.raises(StepoutError, match="aborted"):
        manager.put_bytes("a", LARGE)
    thread.join()
    assert _left(seaweed_client, bucket) == ([], 0)


SCRIPT = """
import sys
import stepout
stepout.ArtifactManager(sys.argv[1]).put_bytes("a", bytes(9 << 20))
"""


def test_a_process_that_is_killed_while_the_list_is_stored_leaves_no_artifact(
    wire: Wire, environ: dict[str, str], seaweed_client: Any, bucket: str
) -> None:
    """SIGKILL: the parts stay until a lifecycle rule ends them, as they always did; nothing is committed."""
    fault = wire.arm(Fault(_is_list, "stall", 1))
    with subprocess.Popen([sys.executable, "-c", SCRIPT, bucket], env=os.environ | environ) as process:
        assert fault.struck.wait(60)
        process.kill()
    fault.release()
    keys, _ = _left(seaweed_client, bucket)
    assert [key for key in keys if "/blocks-" not in key] == []
    _check_not_completed(wire)


# The list of an upload that fails -----------------------------------------------------------------------------------


class Failing(Journal):
    """Refuses artifacts for a while, and can remove; perhaps it may not."""

    def __init__(self, *, may_remove: bool = True, **options: Any) -> None:
        super().__init__(**options)
        self.refuses, self.may_remove = False, may_remove
        self.removed: list[str] = []

    def put(
        self, key: str, body: Sequence[memoryview], *, checksum: Mapping[str, str], options: WriteOptions
    ) -> Written:
        """Take lists alone while it refuses."""
        if self.refuses and "/blocks-" not in key:
            raise AccessDeniedError(f"{key}: denied")
        return super().put(key, body, checksum=checksum, options=options)

    def complete_upload(self, key: str, *rest: Any, **named: Any) -> Written:
        """Refuse."""
        if self.refuses:
            raise AccessDeniedError(f"{key}: denied")
        return super().complete_upload(key, *rest, **named)

    def remove(self, key: str, *, version_id: str | None = None) -> None:  # noqa: ARG002 - the protocol's signature
        """Remove an object, if that is allowed."""
        if not self.may_remove:
            raise AccessDeniedError(f"{key}: s3:DeleteObject is denied")
        self.removed.append(key)
        del self._versions[key]


def _fails(manager: ArtifactManager, store: Failing, name: str = "a") -> None:
    store.refuses = True
    with pytest.raises(AccessDeniedError, match=f"/{name}: denied"):
        manager.put_bytes(name, LARGE)
    store.refuses = False


@pytest.mark.parametrize("settings", [TransferSettings(memory=64 * MIB), ONE_REQUEST])
def test_an_upload_that_fails_takes_its_list_along(settings: TransferSettings) -> None:
    """In parts and as one request; a second try makes it anew."""
    store = Failing()
    manager = ArtifactManager(store, settings=settings)
    _fails(manager, store)
    assert store.keys() == []
    assert len(store.removed) == 1
    _check(manager.put_bytes("b", LARGE), store.read, algorithm="crc64nvme")


@pytest.mark.parametrize("settings", [TransferSettings(memory=64 * MIB), ONE_REQUEST])
def test_a_list_that_another_artifact_relies_on_stays(settings: TransferSettings) -> None:
    """It was there before, as the answer to the put says."""
    store = Failing()
    manager = ArtifactManager(store, settings=settings)
    pointer = manager.put_bytes("a", LARGE)
    _fails(manager, store, "b")
    assert store.removed == []
    _check(pointer, store.read, algorithm="crc64nvme")


@pytest.mark.parametrize(
    "options",
    [
        {"layout": "fixed", "run": RUN},
        {"run": RunIdentity(nonce="shared")},
        {"mode": "overwrite"},
        {"profile": PROFILES["unconditional"]},
    ],
    ids=["fixed layout", "a nonce that was given", "overwrite", "no conditions"],
)
def test_a_list_that_another_process_may_rely_on_stays(options: dict[str, Any]) -> None:
    """A rerun at the same keys finds it there; and a server that answers without a condition says not who made it."""
    profile = options.pop("profile", None)
    store = Failing(profile=profile)
    _fails(ArtifactManager(store, **options), store)
    assert store.removed == []
    assert len(store.keys()) == 1


_FORKS = """
import os
from stepout.artifacts import ArtifactManager, MemoryStore
from stepout.schemas.errors import AccessDeniedError

class Refusing(MemoryStore):
    removed = 0
    def complete_upload(self, *args, **options):
        raise AccessDeniedError("denied")
    def remove(self, key, *, version_id=None):
        self.removed += 1

store = Refusing("results")
manager = ArtifactManager(store)
child = os.fork()
try:
    manager.put_bytes("a", bytes(9 << 20))
except AccessDeniedError:
    if not child:
        os._exit(store.removed)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert store.removed == 1
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_list_stays_where_a_fork_goes_on_with_a_copy_of_the_manager() -> None:
    """Another fork has the same keys, and may rely on it."""
    subprocess.run([sys.executable, "-c", _FORKS], check=True)


def test_a_list_that_may_not_be_removed_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    """The put's own error is what counts; the log has a line for those who look."""
    caplog.set_level("DEBUG", "stepout.artifacts")
    store = Failing(may_remove=False)
    _fails(ArtifactManager(store), store)
    told = [each for each in caplog.records if "could not be removed" in each.message]
    assert [each.levelname for each in told] == ["DEBUG"]


@pytest.mark.parametrize("committed", [[False, True], [True, False], [False, False]])
def test_the_last_of_several_uploads_decides(committed: list[bool]) -> None:
    """Whoever has made the list: it goes if nobody was committed, once."""
    uses, removed = ListUses(), list[str]()
    for _ in committed:
        uses.join("key")
    uses.made("key", lambda: removed.append("key"))
    for each in committed:
        assert removed == []
        uses.leave("key", committed=each)
    assert removed == ([] if any(committed) else ["key"])


def test_an_upload_waits_for_a_removal_before_it_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long that takes; else it would find the list there, and rely on it."""
    monkeypatch.setattr(servers, "_POLL_SECONDS", 0.001)
    uses, order = ListUses(), list[str]()
    begun, go = threading.Event(), threading.Event()

    def remove() -> None:
        begun.set()
        assert go.wait(60)
        order.append("removed")

    def join() -> None:
        uses.join("key")
        order.append("joined")

    uses.join("key")
    uses.made("key", remove)
    threads = [threading.Thread(target=lambda: uses.leave("key", committed=False)), threading.Thread(target=join)]
    threads[0].start()
    assert begun.wait(60)
    threads[1].start()
    threads[1].join(0.05)  # many waits
    assert order == []
    go.set()
    for each in threads:
        each.join(60)
    assert order == ["removed", "joined"]


@pytest.mark.usefixtures("environ")
def test_a_real_server_has_no_list_of_an_upload_that_failed(wire: Wire, seaweed_client: Any, bucket: str) -> None:
    """On SeaweedFS, through a client that stepout builds."""
    wire.arm(Fault(lambda line: operation(line) == "CompleteMultipartUpload", "status", 1000, 403, "AccessDenied"))
    with pytest.raises(AccessDeniedError):
        ArtifactManager(bucket).put_bytes("a", LARGE)
    assert any(_is_list(line) for line in wire.lines)
    assert _left(seaweed_client, bucket) == ([], 0)

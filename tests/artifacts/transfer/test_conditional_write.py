"""The rules of writing once: what an answer means, and how a doubtful one is settled."""

from __future__ import annotations

import hashlib
import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepout.artifacts.memory import MemoryStore
from stepout.artifacts.retries import WRITES, Retries, RetryPolicy
from stepout.artifacts.store import ConflictError, ConnectionBrokenError, ObjectInfo, UploadGoneError
from stepout.artifacts.store_writes import StoreProfile, WriteOptions
from stepout.artifacts.transfer.conditional_write import Content, Match, compare, look_first, put_once, settled
from stepout.artifacts.transfer.plan import MIB, TransferSettings
from stepout.artifacts.transfer.upload import Upload
from stepout.schemas.errors import (
    AccessDeniedError,
    ArtifactExistsError,
    ArtifactNotFoundError,
    ChecksumMismatchError,
    StepoutError,
    StoreError,
    StoreUnavailableError,
)

DATA = b"the artifact"
SENT = Content(size=len(DATA), checksum={"sha256": hashlib.sha256(DATA).hexdigest()})
CREATE, OVERWRITE = WriteOptions(), WriteOptions(mode="overwrite")

hexes = st.sampled_from(["aa", "bb"])
checksums = st.dictionaries(st.sampled_from(["sha256", "crc64nvme", "crc32"]), hexes)


@given(size=st.integers(1, 3), found_size=st.integers(1, 3), sent=checksums, found=checksums)
def test_comparing_uses_everything_both_sides_have(
    size: int, found_size: int, sent: dict[str, str], found: dict[str, str]
) -> None:
    """Same: equal size, and every shared checksum equal, at least one; unknown: none shared; else other."""
    match = compare(Content(size=size, checksum=sent), ObjectInfo(size=found_size, checksum=found))
    shared = sent.keys() & found.keys()
    equal = all(sent[name] == found[name] for name in shared)
    if size != found_size or not equal:
        assert match is Match.OTHER
    else:
        assert match is (Match.SAME if shared else Match.UNKNOWN)


def test_two_empty_objects_are_the_same() -> None:
    """There is nothing to compare, and nothing to differ."""
    assert compare(Content(size=0, checksum={"sha256": "x"}), ObjectInfo(size=0)) is Match.SAME


class Faulty(MemoryStore):
    """A store in memory whose HEAD can be spoilt."""

    head_error: StepoutError | None = None
    heads = reads = 0
    hide_checksums = False

    def head(self, key: str, *, version_id: str | None = None) -> ObjectInfo:
        """Count, fail if told to, and hide the checksums if told to."""
        self.heads += 1
        if self.head_error is not None:
            raise self.head_error
        info = super().head(key, version_id=version_id)
        return ObjectInfo(size=info.size, etag=info.etag) if self.hide_checksums else info

    def get(self, *args: Any, **options: Any) -> Any:
        """Count."""
        self.reads += 1
        return super().get(*args, **options)


def test_a_write_that_succeeds_is_not_looked_at() -> None:
    """The answer itself carries the version; a look afterwards would race."""
    store = Faulty(versioned=True)
    assert put_once(store, "key", [memoryview(DATA)], SENT, CREATE).version_id
    assert store.heads == 0


@pytest.mark.parametrize(
    "error", [ArtifactExistsError("412"), UploadGoneError("gone"), StoreUnavailableError("lost")], ids=str
)
@pytest.mark.parametrize("options", [CREATE, OVERWRITE], ids=["create", "overwrite"])
def test_the_same_content_is_success(error: StoreError, options: WriteOptions) -> None:
    """A taken key, a vanished upload and a lost answer may all mean that our own write was done."""
    store = Faulty(versioned=True)
    store.replace("key", DATA)
    info = store.head("key")
    written = settled(store, "key", SENT, options, error)
    assert (written.etag, written.version_id) == (info.etag, info.version_id)


@pytest.mark.parametrize("error", [ArtifactExistsError("412"), UploadGoneError("gone"), StoreUnavailableError("lost")])
def test_other_content_is_an_error_that_says_how_it_differs(error: StoreError) -> None:
    """Sizes first, then checksums."""
    store = Faulty()
    store.replace("key", b"another one")
    with pytest.raises(FileExistsError, match=rf"11 bytes there, {len(DATA)} to write"):
        settled(store, "key", SENT, CREATE, error)
    store.replace("key", DATA[::-1])
    with pytest.raises(ArtifactExistsError, match=r"sha256 [0-9a-f]{64} there"):
        settled(store, "key", SENT, CREATE, error)


@pytest.mark.parametrize("error", [UploadGoneError("gone"), StoreUnavailableError("lost")], ids=["gone", "lost"])
def test_an_overwrite_that_was_lost_is_retryable(error: StoreError) -> None:
    """What is there is the old object, or none: it was not committed."""
    store = Faulty()
    with pytest.raises(StoreUnavailableError, match="not committed, no object is there"):
        settled(store, "key", SENT, OVERWRITE, error)
    store.replace("key", b"old")
    with pytest.raises(StoreUnavailableError, match="not committed, another object is there"):
        settled(store, "key", SENT, OVERWRITE, error)


def test_without_a_shared_checksum_the_object_is_read_once() -> None:
    """Two writers may have left checksums of different kinds."""
    store = Faulty()
    store.hide_checksums = True
    store.replace("key", DATA)
    assert settled(store, "key", SENT, CREATE, ArtifactExistsError("412")).etag
    assert store.reads == 1
    store.replace("key", DATA[::-1])
    with pytest.raises(ArtifactExistsError, match="other content"):
        settled(store, "key", SENT, CREATE, ArtifactExistsError("412"))


@pytest.mark.parametrize("denied", [AccessDeniedError("denied or missing"), StoreUnavailableError("503")])
def test_without_the_right_to_look_it_exists(denied: StepoutError) -> None:
    """The message says that it could not be compared, not that it differs."""
    store = Faulty()
    store.head_error = denied
    with pytest.raises(ArtifactExistsError, match="exists, could not compare"):
        settled(store, "key", SENT, CREATE, ArtifactExistsError("412"))
    with pytest.raises(StoreUnavailableError, match="looking at the key failed too"):
        settled(store, "key", SENT, CREATE, StoreUnavailableError("lost"))


def test_a_key_that_was_taken_and_is_free_again_is_a_conflict() -> None:
    """Somebody else is at work there; the bytes may be sent anew."""
    with pytest.raises(ConflictError, match="gone again"):
        settled(Faulty(), "key", SENT, CREATE, ArtifactExistsError("412"))


@pytest.mark.parametrize("error", [ConflictError("409"), AccessDeniedError("403"), ChecksumMismatchError("flip")])
def test_what_a_look_cannot_settle_is_raised_as_it_is(error: StoreError) -> None:
    """A conflict, a denial and damage need no look."""
    store = Faulty()
    with pytest.raises(type(error)):
        settled(store, "key", SENT, CREATE, error)
    assert store.heads == 0


BLIND = StoreProfile(name="compatible", multipart_checksum="parts", conditional_writes=False)


def test_a_server_without_conditions_is_looked_at_first() -> None:
    """The same content is success without a write, other content an error, and a free key is written."""
    store = Faulty(profile=BLIND)
    assert look_first(store, "key", SENT, CREATE) is None
    assert look_first(store, "key", SENT, OVERWRITE) is None
    assert look_first(Faulty(), "key", SENT, CREATE) is None
    store.replace("key", DATA)
    assert look_first(store, "key", SENT, CREATE)
    store.replace("key", b"other")
    with pytest.raises(ArtifactExistsError):
        look_first(store, "key", SENT, CREATE)


@pytest.mark.parametrize("size", [100, 11 * MIB])
def test_uploads_look_first_where_they_must(size: int) -> None:
    """Both kinds of write, and the parts of one that was not needed are removed."""
    store, data = Faulty(profile=BLIND), os.urandom(size)
    settings = TransferSettings(memory=24 * MIB, part_size=5 * MIB)
    for _ in range(2):
        assert Upload(store, "key", options=CREATE, settings=settings).send_buffer(data).size == size
    with pytest.raises(ArtifactExistsError):
        Upload(store, "key", options=CREATE, settings=settings).send_buffer(data[:-1])
    assert store.read("key") == data
    assert store.open_uploads == []


@pytest.mark.parametrize(
    ("error", "tries"),
    [
        (StoreUnavailableError("503"), 6), (ChecksumMismatchError("flip"), 2), (ConflictError("409"), 1),
        (AccessDeniedError("403"), 1), (ArtifactNotFoundError("404"), 1), (StoreError("?"), 1),
    ],
)  # fmt: skip
def test_only_what_may_pass_is_tried_again(error: StepoutError, tries: int) -> None:
    """Busy stores six times, damage twice, everything else once."""
    calls: list[int] = []
    pauses: list[float] = []

    def request() -> None:
        calls.append(1)
        raise error

    with pytest.raises(type(error)):
        Retries(pauses.append, chance=lambda: 0.0).run(request)
    assert len(calls) == tries
    assert pauses == [WRITES.pause_before(attempt, 0.0) for attempt in range(2, tries + 1)]


def test_a_connection_that_broke_is_followed_by_another_at_once() -> None:
    """The first time; from then on as for a server that is busy."""
    pauses: list[float] = []

    def request() -> None:
        raise ConnectionBrokenError("reset")

    with pytest.raises(ConnectionBrokenError):
        Retries(pauses.append, chance=lambda: 0.0).run(request)
    assert pauses == [0, *(WRITES.pause_before(attempt, 0.0) for attempt in range(3, WRITES.tries + 1))]


def test_a_conflict_is_tried_again_where_the_bytes_go_anew() -> None:
    """A single PutObject carries everything with it."""
    assert WRITES.again(ConflictError("409"), 1, 0.0, conflicts=True)
    assert not WRITES.again(ConflictError("409"), 3, 0.0, conflicts=True)


def test_no_try_begins_after_the_policy_s_time() -> None:
    """Requests that stall until they time out are not repeated as often as those that are refused at once."""
    now, calls = [0.0], []

    def request() -> None:
        calls.append(now[0])
        now[0] += 60.0
        raise StoreUnavailableError("timed out")

    policy = RetryPolicy(tries=10, seconds=100.0)
    with pytest.raises(StoreUnavailableError):
        Retries(lambda _: None, policy=policy, clock=lambda: now[0]).run(request)
    assert calls == [0.0, 60.0]

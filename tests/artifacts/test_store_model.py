"""Any sequence of writes and reads equals a dictionary's; and the in-memory store refuses what S3 refuses."""

from __future__ import annotations

import io
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from stepout.artifacts.memory import MemoryStore
from stepout.artifacts.store_writes import PartReceipt, WriteOptions
from stepout.artifacts.transfer.plan import MIB, TransferSettings
from stepout.artifacts.transfer.upload import Upload
from stepout.schemas.errors import ArtifactExistsError, ArtifactNotFoundError, SizeMismatchError, StoreError

keys = st.sampled_from(["a", "b", "c/d"])
# Around the limits of the smallest parts: nothing, one put, one part exactly, one byte more, three parts.
sizes = st.sampled_from([0, 1, 1000, 5 * MIB - 1, 5 * MIB, 5 * MIB + 1, 11 * MIB])
ways = st.sampled_from(["write", "buffer", "stream"])


class StoreModel(RuleBasedStateMachine):
    """Uploads against a dictionary of what must be there."""

    def __init__(self) -> None:
        super().__init__()
        self.store = MemoryStore(versioned=True)
        self.model: dict[str, bytes] = {}

    def _upload(self, key: str, mode: Any) -> Upload:
        settings = TransferSettings(memory=16 * MIB, part_size=5 * MIB)
        return Upload(self.store, key, options=WriteOptions(mode=mode), settings=settings)

    @rule(key=keys, size=sizes, fill=st.integers(0, 3), way=ways, mode=st.sampled_from(["create", "overwrite"]))
    def put(self, key: str, size: int, fill: int, way: str, mode: str) -> None:
        """A write replaces, or is refused if something else is there."""
        data, upload = bytes([fill]) * size, self._upload(key, mode)
        taken = mode == "create" and self.model.get(key, data) != data
        try:
            if way == "write":
                upload.write(data[: size // 3])
                upload.write(data[size // 3 :])
                uploaded = upload.commit()
            else:
                uploaded = upload.send_buffer(data) if way == "buffer" else upload.send_stream(io.BytesIO(data))
        except ArtifactExistsError:
            assert taken
        else:
            assert not taken
            assert uploaded.version_id == self.store.head(key).version_id
            self.model[key] = data

    @rule(key=keys, size=sizes)
    def abort(self, key: str, size: int) -> None:
        """An aborted write changes nothing."""
        upload = self._upload(key, "overwrite")
        upload.write(bytes(size))
        upload.abort()
        upload.abort()
        with pytest.raises(StoreError, match="aborted"):
            upload.write(b"more")
        with pytest.raises(StoreError, match="aborted"):
            upload.commit()

    @rule(key=keys, start=st.integers(0, 1000))
    def get(self, key: str, start: int) -> None:
        """A read gives what the dictionary holds."""
        if key not in self.model:
            with pytest.raises(ArtifactNotFoundError):
                self.store.get(key)
        elif start < max(len(self.model[key]), 1):
            with self.store.get(key, start=start, stop=start + 500) as download:
                assert b"".join(map(bytes, download.blocks(97))) == self.model[key][start : start + 500]

    @rule(key=keys)
    def delete(self, key: str) -> None:
        """What is deleted is gone."""
        self.store.delete(key)
        self.model.pop(key, None)

    @invariant()
    def nothing_else_is_there(self) -> None:
        """Exactly the dictionary's objects, and no upload left open."""
        assert {key: stored.data for key, stored in self.store.objects.items()} == self.model
        assert self.store.open_uploads == []


StoreModel.TestCase.settings = settings(max_examples=settings().max_examples // 4, stateful_step_count=15)
TestStoreModel = StoreModel.TestCase


def test_versions_stay_readable() -> None:
    """Each write of a versioned store has an id of its own, and old ones can still be read."""
    store = MemoryStore(versioned=True)
    written = [
        Upload(store, "key", options=WriteOptions(mode="overwrite")).send_buffer(data) for data in (b"one", b"two")
    ]
    with store.get("key", version_id=written[0].version_id) as download:
        assert b"".join(map(bytes, download.blocks())) == b"one"
    assert store.read("key") == b"two"
    with pytest.raises(ArtifactNotFoundError, match="in version nope"):
        store.head("key", version_id="nope")


def test_parts_must_be_known_ordered_and_large_enough() -> None:
    """The rules of CompleteMultipartUpload hold in memory too."""
    store, options = MemoryStore(), WriteOptions()
    upload = store.start_upload("key", options=options)
    small = [store.put_part("key", upload, number, [memoryview(b"x")], checksum=_crc(b"x")) for number in (1, 2)]

    def complete(parts: list[PartReceipt], size: int = 2) -> None:
        store.complete_upload("key", upload, parts, size=size, checksum=None, options=options)

    with pytest.raises(StoreError, match="at least 5,242,880 bytes"):
        complete(small)
    with pytest.raises(StoreError, match="in order"):
        complete(small[::-1])
    with pytest.raises(StoreError, match="never uploaded"):
        complete([*small, PartReceipt(number=3, etag="e", size=1, checksum="c")])
    with pytest.raises(SizeMismatchError):
        complete(small[:1], size=7)
    assert store.open_uploads == ["key"]
    assert store.keys() == []


def _crc(data: bytes) -> str:
    from stepout.artifacts.checksums import crc_of

    return crc_of("crc64nvme", [memoryview(data)])


def test_a_checksum_that_nobody_knows_is_an_error() -> None:
    """Rather than taken unverified."""
    with pytest.raises(StoreError, match="md4"):
        MemoryStore().put("key", [], checksum={"md4": "00"}, options=WriteOptions())


def test_it_describes_itself_without_its_content() -> None:
    """The repr is for logs."""
    store = MemoryStore("results")
    Upload(store, "key", options=WriteOptions()).send_buffer(b"secret")
    assert repr(store) == "MemoryStore('results', 1 objects)"
    assert store.objects["key"].options.media_type == "application/octet-stream"
    assert store.presign("key", version_id="v1", seconds=60) == "memory://results/key?expires=60&versionId=v1"

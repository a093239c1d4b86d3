"""A directory's second try: what the first one left with the same content is named where it lies, not sent again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from support.directories import entries_of, files_of, fill
from support.seaweed import ADMIN, Seaweed
from support.wire import Fault, Wire, operation

from stepout.artifacts import ArtifactManager, MemoryStore
from stepout.artifacts.store import Lists, ObjectInfo
from stepout.artifacts.writing import resume
from stepout.schemas import RunIdentity
from stepout.schemas.errors import AccessDeniedError, ArtifactExistsError, ConfigurationError, StoreError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from typing import Any

    from stepout.artifacts.store_writes import WriteOptions, Written


class Counting(MemoryStore):
    """Counts what is put, and fails for one key if told to, once so many others were put."""

    def __init__(self, **options: Any) -> None:
        super().__init__("results", **options)
        self.sent: list[str] = []
        self.failing: tuple[str, int] | None = None

    def put(
        self, key: str, body: Sequence[memoryview], *, checksum: Mapping[str, str], options: WriteOptions
    ) -> Written:
        """Count, or fail."""
        if self.failing is not None and key.endswith(self.failing[0]):
            deadline = time.monotonic() + 120
            while len(self.keys()) < self.failing[1] and time.monotonic() < deadline:
                time.sleep(0.001)
            raise StoreError("no")
        self.sent.append(key)
        return super().put(key, body, checksum=checksum, options=options)

    def put_part(self, key: str, *args: Any, **options: Any) -> Any:
        """Count."""
        self.sent.append(key)
        return super().put_part(key, *args, **options)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A directory with files of all kinds: plain names, a folded one, an empty one, one of blocks, one in parts."""
    fill(tmp_path, "a-b", "a/x", "größe.txt", "zz.txt")
    (tmp_path / "empty").touch()
    (tmp_path / "blocks.bin").write_bytes(os.urandom(300 << 10))
    (tmp_path / "parts.bin").write_bytes(os.urandom(1 << 10) * (9 << 10))
    return tmp_path


def put_alone(store: Counting, manager: ArtifactManager, root: Path) -> None:
    """Send everything but the last file, as a try that was killed would have."""
    (root / "zz.txt").rename(root.parent / "zz.txt")
    manager.put_directory("d", root)
    (root.parent / "zz.txt").rename(root / "zz.txt")
    store.sent.clear()


@pytest.mark.parametrize("versioned", [False, True])
def test_what_an_earlier_try_left_is_not_sent_again(root: Path, versioned: bool) -> None:
    """Every kind of file is found by its content; its pointer has the earlier key and version, and its blocks."""
    store = Counting(versioned=versioned)
    first = ArtifactManager(store, "runs", run=RunIdentity(nonce="one"))
    put_alone(store, first, root)
    second = ArtifactManager(store, "runs", run=RunIdentity(nonce="two"))
    pointer = second.put_directory("d", root, resume_from=first.url)
    assert [key.rpartition("/")[2] for key in store.sent if "/blocks-" not in key] == ["zz.txt", "d.jsonl"]
    files = files_of(store, pointer)
    assert set(files) == {"a-b", "a/x", "blocks.bin", "empty", "größe.txt", "parts.bin", "zz.txt"}
    for path, file in files.items():
        kept = store.objects[file.pointer.key]
        assert kept.data == (root / path).read_bytes()
        assert (file.pointer.version_id is not None) is versioned
        assert file.pointer.url.startswith(second.url if path == "zz.txt" else first.url)
    alone = second.put_file("alone", root / "parts.bin")
    assert files["parts.bin"].pointer.blocks == alone.blocks
    assert files["parts.bin"].pointer.checksum == alone.checksum


def test_a_list_of_blocks_of_what_is_there_is_relied_on(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of the moment at which it is stored; nothing waits for a further word on it."""
    store, told = Counting(), list[bool]()
    first = ArtifactManager(store, "runs", run=RunIdentity(nonce="one"))
    put_alone(store, first, root)
    monkeypatch.setattr(resume, "put_list", lambda *_: told.append)
    second = ArtifactManager(store, "runs", run=RunIdentity(nonce="two"))
    second.put_directory("d", root, resume_from=first.url)
    assert told == [True]


def test_what_differs_is_sent_under_the_new_key(root: Path) -> None:
    """Another content of the same size is sent, and the earlier object stays as it is."""
    store = Counting()
    first = ArtifactManager(store, "runs", run=RunIdentity(nonce="one"))
    put_alone(store, first, root)
    (root / "a-b").write_text("b-a")
    second = ArtifactManager(store, "runs", run=RunIdentity(nonce="two"))
    files = files_of(store, second.put_directory("d", root, resume_from=first.url.removesuffix("/")))
    assert files["a-b"].pointer.url.startswith(second.url)
    assert store.read(files["a-b"].pointer.key) == b"b-a"
    assert store.read(files["a/x"].pointer.key) == b"a/x"
    assert sorted(key.rpartition("/")[2] for key in store.sent if "/blocks-" not in key) == [
        "a-b",
        "d.jsonl",
        "zz.txt",
    ]


def test_a_third_try_finds_what_both_earlier_ones_left(tmp_path: Path) -> None:
    """The second try sends only what the first had not; so the third is told of both, in any order."""
    names = [f"{number:03}" for number in range(20)]
    fill(tmp_path, *names[:10])
    store = Counting()
    tries = [ArtifactManager(store, "runs", run=RunIdentity(nonce=nonce)) for nonce in ("one", "two", "three")]
    tries[0].put_directory("d", tmp_path)
    fill(tmp_path, *names[10:19])
    tries[1].put_directory("d", tmp_path, resume_from=tries[0].url)
    fill(tmp_path, *names)
    (tmp_path / "000").write_text("700")
    store.sent.clear()
    pointer = tries[2].put_directory("d", tmp_path, resume_from=[tries[1].url, tries[0].url, tries[1].url])
    assert [key.rpartition("/")[2] for key in store.sent] == ["000", "019", "d.jsonl"]
    files = files_of(store, pointer)
    assert {path: store.read(file.pointer.key).decode() for path, file in files.items()} == {
        **{name: name for name in names},
        "000": "700",
    }


def test_a_resumed_directory_expires_with_the_first_of_its_files(tmp_path: Path) -> None:
    """A rule counts from when an object was written, so what an earlier try left goes earlier than what is sent now."""
    fill(tmp_path, "a")
    store = Counting()
    first = ArtifactManager(store, run=RunIdentity(nonce="one"), keep="1d")
    before = first.put_directory("d", tmp_path).expires_at
    fill(tmp_path, "b")
    second = ArtifactManager(
        store, run=RunIdentity(nonce="two"), keep="1d", clock=lambda: datetime.now(UTC) + timedelta(hours=10)
    )
    pointer = second.put_directory("d", tmp_path, resume_from=first.url)
    assert before is not None
    assert pointer.expires_at is not None
    assert abs(datetime.fromisoformat(pointer.expires_at) - datetime.fromisoformat(before)) < timedelta(hours=1)
    assert {file.pointer.expires_at for file in files_of(store, pointer).values()} == {pointer.expires_at}
    later = ArtifactManager(store, keep="1d", clock=lambda: datetime.now(UTC) + timedelta(hours=30))
    late = files_of(store, later.put_directory("d", tmp_path, resume_from=[first.url, second.url]))
    assert all(file.pointer.url.startswith(later.url) for file in late.values())
    alone = second.put_directory("alone", tmp_path).expires_at
    assert alone is not None
    assert alone > pointer.expires_at


def test_a_fixed_layout_looks_at_its_own_folder_and_at_an_earlier_attempts(tmp_path: Path) -> None:
    """A retry has another folder; what the attempt before left is found, and what this one left before a kill."""
    fill(tmp_path, "a", "b", "zz.txt")
    store = Counting()
    first = ArtifactManager(store, run=RunIdentity(execution="e", state="s", attempt=0), layout="fixed")
    first.put_directory("d", tmp_path)
    fill(tmp_path, "c", "d")
    store.failing = ("/zz2.txt", 6)
    (tmp_path / "zz2.txt").touch()
    second = RunIdentity(execution="e", state="s", attempt=1)
    with pytest.raises(StoreError, match="no"):
        ArtifactManager(store, run=second, layout="fixed").put_directory("d", tmp_path, resume_from=first.url)
    store.failing = None
    store.sent.clear()
    ArtifactManager(store, run=second, layout="fixed").put_directory("d", tmp_path, resume_from=first.url)
    assert [key.rpartition("/")[2] for key in store.sent] == ["zz2.txt", "d.jsonl"]


def test_a_fixed_layout_resumes_by_itself(tmp_path: Path) -> None:
    """A second process of the attempt finds the first one's files; other content at a key is an error, as ever."""
    fill(tmp_path, *(f"{number:03}" for number in range(50)), "zz.txt")
    store, run = Counting(), RunIdentity(execution="e", state="s")
    store.failing = ("/zz.txt", 50)
    with pytest.raises(StoreError, match="no"):
        ArtifactManager(store, "runs", run=run, layout="fixed").put_directory("d", tmp_path)
    store.failing = None
    store.sent.clear()
    again = ArtifactManager(store, "runs", run=run, layout="fixed")
    assert len(entries_of(store, again.put_directory("d", tmp_path))) == 51
    assert [key.rpartition("/")[2] for key in store.sent] == ["zz.txt", "d.jsonl"]
    (tmp_path / "007").write_text("700")
    with pytest.raises(ArtifactExistsError, match="other content"):
        ArtifactManager(store, "runs", run=run, layout="fixed").put_directory("d", tmp_path)


def test_a_fixed_layout_without_the_right_to_list_sends_everything(tmp_path: Path) -> None:
    """Who may only put can still put; who names an earlier folder is told that it may not be listed."""

    class Closed(Counting):
        def iter_objects(self, prefix: str) -> Any:
            """Refuse."""
            raise AccessDeniedError(prefix)

    fill(tmp_path, "a")
    store = Closed()
    ArtifactManager(store, layout="fixed").put_directory("d", tmp_path)
    with pytest.raises(AccessDeniedError):
        ArtifactManager(store).put_directory("d", tmp_path, resume_from="s3://results/x/")


@pytest.mark.parametrize("kept", [{}, {"crc32": True}, {"crc64nvme": True}])
def test_what_the_server_keeps_is_compared(tmp_path: Path, kept: dict[str, bool]) -> None:
    """A full-object CRC is as good as a SHA-256; without any checksum the file is sent."""
    from stepout.artifacts.checksums import crc_of

    class Other(Counting):
        def head(self, key: str, *, version_id: str | None = None) -> ObjectInfo:
            """Describe an object with other checksums."""
            info, data = super().head(key, version_id=version_id), [memoryview(self.read(key))]
            checksum = {name: crc_of("crc32" if name == "crc32" else "crc64nvme", data) for name in kept}
            return ObjectInfo(size=info.size, etag=info.etag, checksum=checksum)

    fill(tmp_path, "a", "b")
    store = Other()
    first = ArtifactManager(store)
    first.put_directory("d", tmp_path)
    store.sent.clear()
    second = ArtifactManager(store, run=RunIdentity(nonce="two"))
    pointer = second.put_directory("d", tmp_path, resume_from=first.url)
    assert len(store.sent) == (1 if kept else 3)
    assert all("sha256" in file.pointer.checksum for file in files_of(store, pointer).values())


@pytest.mark.parametrize(
    "url",
    ["s3://other/runs/x/", "s3://results/", "s3://results/elsewhere/x/", "s3://results/runs2/", "runs/x", [""], 7],
)
def test_an_earlier_folder_lies_below_the_prefix(tmp_path: Path, url: Any) -> None:
    """Another bucket, another prefix and what is no URL are refused before anything is sent; the message says why."""
    store = Counting()
    with pytest.raises(ConfigurationError, match="Clean-up looks for records below the prefix"):
        ArtifactManager(store, "runs").put_directory("d", tmp_path, resume_from=url)
    assert store.sent == []


def test_more_than_a_page_is_listed(bucket: str, seaweed: Seaweed) -> None:
    """A listing goes on behind a thousand objects, with their sizes; SeaweedFS has it in an order of its own."""
    from concurrent.futures import ThreadPoolExecutor

    from stepout.artifacts.s3.store import S3Store

    client = seaweed.client()
    store = S3Store(client, bucket)
    keys = [f"x/{number:04}" for number in range(1003)] + ["x-y", "x/a-b", "x/a/b"]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: client.put_object(Bucket=bucket, Key=key, Body=b"12"), keys))
    assert isinstance(store, Lists)
    found = list(store.iter_objects("x/"))
    assert sorted(each.key for each in found) == sorted(key for key in keys if key.startswith("x/"))
    assert {each.size for each in found} == {2}
    for page in range(0, len(keys), 1000):
        client.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key} for key in keys[page : page + 1000]]})


_PRODUCER = """
import sys
from stepout.artifacts import ArtifactManager
from stepout.schemas import RunIdentity
bucket, root, nonce, earlier = sys.argv[1:]
manager = ArtifactManager(bucket, "runs", run=RunIdentity(execution="e", state="s", nonce=nonce))
print(manager.put_directory("d", root, resume_from=earlier or None).to_json())
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_a_killed_process_is_resumed(bucket: str, seaweed: Seaweed, tmp_path: Path) -> None:
    """After SIGKILL in the middle, a second process sends only what is not there."""
    fill(tmp_path / "in", *(f"{number // 50}/{number:04}" for number in range(300)))
    client = seaweed.client()
    environment = {
        **os.environ,
        "AWS_ACCESS_KEY_ID": ADMIN.access_key,
        "AWS_SECRET_ACCESS_KEY": ADMIN.secret_key,
        "AWS_DEFAULT_REGION": "us-east-1",
    }

    def run(nonce: str, earlier: str, endpoint: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", _PRODUCER, bucket, str(tmp_path / "in"), nonce, earlier]
        return subprocess.Popen(
            command, env={**environment, "AWS_ENDPOINT_URL_S3": endpoint}, stdout=subprocess.PIPE, text=True
        )

    def count() -> int:
        return int(client.list_objects_v2(Bucket=bucket, Prefix="runs/")["KeyCount"])

    left = threading.Semaphore(100)
    with Wire(seaweed.endpoint, keep_alive=True) as wire:
        rest = Fault(lambda line: operation(line) == "PutObject" and not left.acquire(blocking=False), "stall", 1000)
        wire.arm(rest)
        first = run("one", "", wire.endpoint)
        assert rest.struck.wait(60)
        first.send_signal(signal.SIGKILL)
        first.communicate()
    before = count()
    assert 50 <= before < 300
    folder = client.list_objects_v2(Bucket=bucket, Prefix="runs/", MaxKeys=1)["Contents"][0]["Key"].split("/d/")[0]
    with Wire(seaweed.endpoint, keep_alive=True) as wire:
        second = run("two", f"s3://{bucket}/{folder}/", wire.endpoint)
        text, _ = second.communicate(timeout=300)
        puts = [each for each in wire.operations if each.startswith("PutObject")]
    assert second.returncode == 0
    assert '"files":300' in text
    # The first write to a server that is not AWS is sent twice, to see whether it keeps its condition. What was under
    # way at the kill, sixteen at most, may have arrived after the count.
    assert 301 - before - 16 <= len(puts) <= 301 - before + 2
    page = client.list_objects_v2(Bucket=bucket)["Contents"]
    client.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": each["Key"]} for each in page]})

"""What the consumer's tests share: a bucket in memory with artifacts in it, and a store whose connections break."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from stepout.artifacts.memory import MemoryStore
from stepout.artifacts.resolve import resolve_artifact
from stepout.artifacts.store_writes import StoreProfile, WriteOptions
from stepout.schemas import Pointer
from stepout.schemas.errors import StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from stepout.artifacts.reading.artifact import Artifact
    from stepout.artifacts.store import Download, ObjectInfo

ALLOW = ["s3://results/runs/"]


@dataclass
class Shelf:
    """A bucket in memory, and how to put bytes into it and get the artifact back."""

    store: MemoryStore = field(default_factory=lambda: MemoryStore("results"))

    def put(self, data: bytes, name: str = "a.bin", **members: Any) -> Pointer:
        """Store bytes and return their pointer; ``members`` replace what it says."""
        key = f"runs/{name}"
        sha256 = hashlib.sha256(data).hexdigest()
        options = WriteOptions(mode="overwrite")
        written = self.store.put(key, [memoryview(data)], checksum={"sha256": sha256}, options=options)
        said = {
            "size": len(data),
            "checksum": {"sha256": sha256},
            "etag": written.etag,
            "version_id": written.version_id,
        }
        return Pointer(bucket="results", key=key, **{**said, **members})

    def artifact(self, data: bytes, name: str = "a.bin", **members: Any) -> Artifact:
        """Store bytes and return their artifact."""
        return resolve_artifact(self.put(data, name, **members), allow=ALLOW, client=self.store)

    def damage(self, data: bytes, position: int, bit: int = 0, **members: Any) -> Artifact:
        """Store bytes, flip one bit of what is stored, and return the artifact that knows the bytes as they were.

        The pointer has no ETag then, as if the server had damaged the bytes and not noticed.
        """
        pointer = self.put(data, etag=None, **members)
        flipped = bytearray(data)
        flipped[position] ^= 1 << bit
        self.store.replace(pointer.key, bytes(flipped))
        return resolve_artifact(pointer, allow=ALLOW, client=self.store)


class _BrokenDownload:
    def __init__(self, inner: Download, length: int, error: BaseException) -> None:
        self._inner = inner
        self._left = length
        self._error = error
        self.closed = False

    @property
    def info(self) -> ObjectInfo:
        return self._inner.info

    def __enter__(self) -> Download:
        return self

    def __exit__(self, *exc: object) -> None:
        self.closed = True

    def blocks(self, size: int = 1 << 20, lend: Callable[[], memoryview] | None = None) -> Iterator[memoryview]:
        for view in self._inner.blocks(size, lend):
            yield view[: self._left]
            self._left -= len(view)
            if self._left <= 0:
                raise self._error


class BreakingStore:
    """A store in front of another, whose downloads break after some bytes, and which counts what is asked.

    Args:
        inner: The store that has the objects.
        lengths: After how many bytes each download breaks, in turn; ``None``: not at all; -1: it cannot be opened.
        error: What it raises then; ``None``: that the connection broke.
    """

    def __init__(self, inner: MemoryStore, lengths: Sequence[int | None], error: BaseException | None = None) -> None:
        self._inner = inner
        self._error = error or StoreUnavailableError("the connection broke")
        self._lengths = list(lengths)
        self.requests: list[tuple[int, int | None, str | None]] = []
        self.downloads: list[_BrokenDownload] = []
        self.before: Callable[[], None] = lambda: None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    @property
    def bucket(self) -> str:
        """The bucket's name."""
        return self._inner.bucket

    @property
    def profile(self) -> StoreProfile:
        """What the store can do."""
        return self._inner.profile

    def get(self, key: str, *, start: int = 0, stop: int | None = None, **pin: Any) -> Download:
        """Open a range that may break."""
        self.requests.append((start, stop, pin.get("if_match")))
        self.before()
        length = self._lengths.pop(0) if self._lengths else None
        if length == -1:
            msg = "the store is away"
            raise StoreUnavailableError(msg)
        inner = self._inner.get(key, start=start, stop=stop, **pin)
        if length is None:
            return inner
        self.downloads.append(_BrokenDownload(inner, length, self._error))
        return self.downloads[-1]


class _DamagedDownload:
    def __init__(self, inner: Download, position: int, damaged: Callable[[], None]) -> None:
        self._inner = inner
        self._position = position
        self._damaged = damaged

    @property
    def info(self) -> ObjectInfo:
        return self._inner.info

    def __enter__(self) -> Download:
        return self

    def __exit__(self, *exc: object) -> None:
        self._inner.__exit__(*exc)

    def blocks(self, size: int = 1 << 20, lend: Callable[[], memoryview] | None = None) -> Iterator[memoryview]:
        at = self._position
        for view in self._inner.blocks(size, lend):
            block = bytearray(view)
            if 0 <= at < len(block):
                block[at] ^= 1
                self._damaged()
            at -= len(block)
            yield memoryview(block)


class DamagingStore(BreakingStore):
    """A store in front of another, one of whose answers arrives with a bit flipped.

    Args:
        inner: The store that has the objects.
        request: Which answer, counted from 0.
        position: Which of the object's bytes.
    """

    def __init__(self, inner: MemoryStore, request: int, position: int) -> None:
        super().__init__(inner, ())
        self._place = request, position
        self.damaged = False
        """Whether the bit has been flipped in a block that a reader asked for."""

    def get(self, key: str, *, start: int = 0, stop: int | None = None, **pin: Any) -> Download:
        """Open a range that may be damaged on its way."""
        number = len(self.requests)
        download = super().get(key, start=start, stop=stop, **pin)
        request, position = self._place
        return _DamagedDownload(download, position - start, self._flip) if number == request else download

    def _flip(self) -> None:
        self.damaged = True

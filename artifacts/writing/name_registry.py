"""What one manager has written and is writing: names, pointers, and the uploads that an abort must reach."""

from __future__ import annotations

import threading
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Protocol

from stepout.schemas.errors import ArtifactExistsError, StoreError
from stepout.schemas.runtime.process import renew_after_fork

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stepout.artifacts.store_writes import Mode
    from stepout.schemas import Pointer

_ABORT_SECONDS: Final = 10.0


class Abortable(Protocol):
    """A write that can be ended from any thread."""

    def abort(self) -> None:
        """End it, leaving nothing; idempotent."""
        ...


class NameRegistry:
    """The names of one manager; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a forgotten writer may be collected while this thread holds it
        self._pointers: dict[str, Pointer] = {}
        self._taken: set[str] = set()
        self._lost: set[str] = set()
        self._open: dict[int, Abortable] = {}
        self._ended: str | None = None
        self._aborted = False
        renew_after_fork(self)

    def renew(self) -> None:
        """In a forked child, drop the parent's writes and make a new lock: a parent's thread may hold the old one."""
        self._lock = threading.RLock()
        self._taken, self._lost, self._open = set(), set(), {}

    @property
    def pointers(self) -> Mapping[str, Pointer]:
        """Every committed artifact by name, in the order of their commits: a copy that does not change."""
        with self._lock:
            return MappingProxyType(dict(self._pointers))

    @property
    def unfinished(self) -> list[str]:
        """The names that are being written, or whose write was lost and neither repeated nor waived since."""
        with self._lock:
            return sorted(self._taken | self._lost)

    @property
    def ended(self) -> bool:
        """Whether new writes are refused."""
        with self._lock:
            return self._ended is not None

    def begin(self, name: str | None, mode: Mode, upload: Abortable) -> None:
        """Take a name, and register the upload that ``end`` is to reach.

        Args:
            name: ``None`` for an object that is no artifact: a closed manager takes no artifact, but a task still
                writes its documents through it, until the manager is aborted.
            mode: Whether a name that was written already may be written again.
            upload: The upload that writes the object.

        Raises:
            ArtifactExistsError: The name is being written, or was written and ``mode`` is not ``"overwrite"``.
            StoreError: The manager was aborted or closed.
        """
        with self._lock:
            if name is not None or self._aborted:
                self._check_open()
            if name is not None:
                self._take(name, mode)
            self._open[id(upload)] = upload

    def _take(self, name: str, mode: Mode) -> None:
        if name in self._taken or (name in self._pointers and mode != "overwrite"):
            state = "is being written" if name in self._taken else f"is written already, at {self._pointers[name].url}"
            msg = f"artifact {name!r} {state} by this manager; nothing was read or sent. Choose another name"
            raise ArtifactExistsError(msg)
        self._taken.add(name)

    def commit(self, name: str | None, pointer: Pointer, upload: Abortable) -> None:
        """Record that a write is done; an artifact's pointer is there under its name from now on."""
        with self._lock:
            self._open.pop(id(upload), None)
            if name is None:
                return
            self._taken.discard(name)
            self._lost.discard(name)
            self._pointers.pop(name, None)
            self._pointers[name] = pointer

    def fail(self, name: str | None, upload: Abortable) -> None:
        """Forget a write that failed, and give its name back."""
        with self._lock:
            self._open.pop(id(upload), None)
            if name is not None:
                self._taken.discard(name)

    def lose(self, name: str) -> None:
        """Record that a write ended without an abort by the job: the task must not succeed."""
        with self._lock:
            self._lost.add(name)

    def waive(self, name: str) -> None:
        """Record that the job does not need an artifact any more."""
        with self._lock:
            self._lost.discard(name)

    def end(self, reason: str, *, aborted: bool) -> None:
        """Refuse artifacts, and documents too if aborted; abort what is open. Idempotent, the first reason stays."""
        with self._lock:
            self._ended = self._ended or reason
            self._aborted = self._aborted or aborted
            uploads, self._open = list(self._open.values()), {}
        # Each abort waits a little for its requests in flight, so all aborts run at once.
        threads = [threading.Thread(target=upload.abort, daemon=True) for upload in uploads]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(_ABORT_SECONDS)

    def close(self) -> None:
        """Refuse new artifacts, and abort what is open; idempotent.

        Raises:
            StoreError: A write was still open; or one was lost, and its name not written since.
        """
        unfinished = [] if self.ended else self.unfinished
        self.end("is closed", aborted=False)
        if unfinished:
            names = ", ".join(unfinished)
            raise StoreError(
                f"not committed when the artifact manager was closed: {names}; nothing of it was kept. Open it in a "
                "with block, close it, or call its writer's abort() to do without it"
            )

    def check_open(self) -> None:
        """Raise if new artifacts are refused.

        Raises:
            StoreError: The manager was aborted or closed.
        """
        with self._lock:
            self._check_open()

    def _check_open(self) -> None:
        if self._ended is not None:
            raise StoreError(f"this artifact manager {self._ended}; nothing more is written through it")

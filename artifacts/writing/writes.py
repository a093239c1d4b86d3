"""From a planned put to a recorded pointer: reserve the name, upload the bytes, make the pointer, record it.

``ArtifactManager`` plans a put and encodes the value; this module does the rest, in the same order for every write.
``Writes.put`` takes these steps for bytes in memory. A put that encodes while it sends, or sends more than one object,
takes the same steps in a ``with writes.upload(planned)`` block.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from stepout.artifacts.run import rfc3339
from stepout.artifacts.transfer.progress import for_artifact
from stepout.artifacts.transfer.upload import Upload
from stepout.schemas.runtime.events import Events, current_operation
from stepout.schemas.runtime.process import Home

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextlib import AbstractContextManager

    from stepout.artifacts.formats.tables import EncodedTable
    from stepout.artifacts.run import Clock
    from stepout.artifacts.store import Store
    from stepout.artifacts.transfer.buffer_pool import BufferPool
    from stepout.artifacts.transfer.conditional_write import Uploaded
    from stepout.artifacts.transfer.plan import TransferSettings
    from stepout.artifacts.transfer.progress import Progress, ProgressReport
    from stepout.artifacts.writing.name_registry import NameRegistry
    from stepout.artifacts.writing.planned_put import PlannedPut
    from stepout.schemas import Pointer
    from stepout.schemas.runtime.events import Operation


@dataclass(frozen=True, kw_only=True)
class Writes:
    """The parts that all writes of a manager share.

    Attributes:
        store: Where artifacts go.
        settings: How much one transfer may use.
        registry: Names, pointers and open uploads.
        clock: Where ``createdAt`` comes from.
        progress: Called as bytes go out.
        pool: Buffers that all uploads share; ``None``: each has its own.
        home: The process that a task reports from; any process if there is no task.
        events: Who is told of each put.
    """

    store: Store
    settings: TransferSettings
    registry: NameRegistry
    clock: Clock
    progress: Progress | None = None
    pool: BufferPool | None = None
    home: Home = field(default_factory=lambda: Home(claimed=False), repr=False, compare=False)
    events: Events = field(default_factory=Events, repr=False, compare=False)

    def put(self, planned: PlannedPut, data: bytes | memoryview) -> Pointer:
        """Write bytes, which must not change during the call.

        Raises:
            ArtifactExistsError: The name is taken, or the key holds something else.
            OtherProcessError: This process was forked off the task's.
            StoreError: The write failed; nothing was kept.
        """
        with self.told(planned):
            upload = self.start(planned)
            try:  # as ``upload`` does it: every small put comes here
                return self.record(planned, upload, upload.send_buffer(data))
            except BaseException:
                upload.abort()
                self.registry.fail(planned.name, upload)
                raise

    @contextmanager
    def upload(
        self, planned: PlannedPut, report: ProgressReport | None = None, *, operation: str | None = None
    ) -> Iterator[Upload]:
        """Hold the put's name and an open upload; an exception aborts the upload, and gives the name back."""
        with self.told(planned, operation):
            upload = self.start(planned, report)
            try:
                yield upload
            except BaseException:
                upload.abort()
                self.registry.fail(planned.name, upload)
                raise

    def told(self, planned: PlannedPut, operation: str | None = None) -> AbstractContextManager[Operation | None, None]:
        """Return the operation of a put, which listeners are told of."""
        if not self.events.listening:
            return self.events.nothing
        name, draft = planned.name, planned.draft
        what = operation or ("document" if name is None else "put")
        return self.events.operation("put", what, artifact=name, bucket=draft.bucket, key=draft.key)

    def start(self, planned: PlannedPut, report: ProgressReport | None = None) -> Upload:
        """Take the put's name and open its upload; nothing is sent before its first part is full.

        The name is taken before anything is read, so that a second put of it costs nothing.

        Args:
            planned: What is to be written.
            report: Called with the number of bytes sent, in place of the progress report under the put's name.

        Raises:
            ArtifactExistsError: The name is taken.
            OtherProcessError: This process was forked off the task's, which would never see the pointer.
            StoreError: The manager was aborted or closed.
        """
        what = "the document" if planned.name is None else "artifact"
        self.check_process(f"writing {what} {planned.label!r}")
        if report is None and self.progress is not None:
            report = for_artifact(self.progress, planned.label)
        upload = Upload(
            self.store,
            planned.key,
            options=planned.options,
            settings=self.settings,
            progress=report,
            blocks=planned.blocks,
            pool=self.pool,
        )
        self.registry.begin(planned.name, planned.options.mode, upload)
        return upload

    def record(
        self, planned: PlannedPut, upload: Upload, uploaded: Uploaded, annotations: Mapping[str, Any] | None = None
    ) -> Pointer:
        """Make the pointer of what was written, and record it under the put's name.

        Args:
            planned: What was to be written.
            upload: From ``start`` or ``upload``; it has ended.
            uploaded: The result of the upload.
            annotations: The put's own annotations.
        """
        pointer = planned.pointer(uploaded, rfc3339(self.clock()), annotations)
        self.commit(planned.name, pointer, upload, uploaded.size)
        return pointer

    def commit(self, name: str | None, pointer: Pointer, upload: Upload, size: int) -> None:
        """Record a pointer, and count the bytes that were sent for it."""
        self.registry.commit(name, pointer, upload)
        if (operation := current_operation("put")) is not None:
            operation.add_bytes(size)
            operation.describe(bucket=pointer.bucket, key=pointer.key)

    def record_table(self, planned: PlannedPut, upload: Upload, encoded: EncodedTable) -> Pointer:
        """Commit a table whose last byte was written, and record its pointer."""
        own = encoded.annotation
        annotations = {"rows": own["rows"], "columns": own["columns"], "parquet": own}
        return self.record(planned, upload, upload.commit(encoded.blocks), annotations)

    def check_process(self, action: str) -> None:
        """Raise in a process that was forked off the task's: its pointers would be lost there.

        Raises:
            OtherProcessError: This process was forked. Nothing was read or sent.
        """
        self.home.check(action, "task and its artifact manager")

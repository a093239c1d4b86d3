"""What ``ArtifactManager.open`` returns: a file object whose content is committed when it is closed, or not at all."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

from stepout.artifacts.media_types import DEFAULT, TEXT, media_type_of
from stepout.schemas.errors import ConfigurationError
from stepout.schemas.runtime.process import Home, not_picklable
from stepout.schemas.text.foreign_text import logger

if TYPE_CHECKING:
    from types import TracebackType
    from typing import NoReturn, Self

    from typing_extensions import Buffer

    from stepout.artifacts.writing.planned_put import PlannedPut, PutOptions, PutPlanner
    from stepout.artifacts.writing.writes import Writes
    from stepout.schemas import Pointer

_log = logger("stepout.artifacts.writer")


if TYPE_CHECKING:

    class _BinaryFile(io.BufferedIOBase, BinaryIO):
        """What type checkers take for a binary file, wherever one is expected."""

else:
    _BinaryFile = io.BufferedIOBase


class ArtifactWriter(_BinaryFile):
    """Streams bytes into one artifact; ``ArtifactManager.open`` makes it.

    The artifact exists once its ``with`` block ends, or once ``close()`` is called while no exception is handled.
    Leaving the block with an exception, ``close()`` in an ``except`` or ``finally`` clause that an exception led to (it
    may have cut the content short), or forgetting the writer leaves nothing, and fails the task: until the name is
    written after all, or ``abort()`` says that the job does without it.
    """

    def __init__(self, writes: Writes, planned: PlannedPut) -> None:
        super().__init__()
        self._writes = writes
        self._planned = planned
        self._home = Home()  # a copy in a forked process could not tell its parent what it wrote
        self._pointer: Pointer | None = None
        self._position = 0
        self._entered = False
        self._seen = sys.exc_info()[1]
        self._ended = True  # until the upload is open: ``start`` may raise
        self._upload = writes.start(planned)
        self._ended = False

    def __reduce__(self) -> NoReturn:
        not_picklable("artifact writer")

    def __repr__(self) -> str:
        state = "committed" if self._pointer else "aborted" if self._ended else "open"
        return f"ArtifactWriter({self.name!r}, {state}, {self._position} bytes)"

    @property
    def name(self) -> str:
        """The artifact's name."""
        return self._planned.label

    @property
    def mode(self) -> str:
        """``"wb"``: gzip and wave take a file object without a mode for one to read."""
        return "wb"

    @property
    def pointer(self) -> Pointer:
        """The artifact's pointer, once it is committed.

        Raises:
            ConfigurationError: The writer is open, or was aborted.
        """
        if self._pointer is None:
            state = "was aborted, so there is none" if self._ended else "is not closed; leave its with block first"
            raise ConfigurationError(f"no pointer: the writer of artifact {self.name!r} {state}")
        return self._pointer

    def writable(self) -> bool:
        """Return ``True``."""
        self._check_open()
        return True

    def readable(self) -> bool:
        """Return ``False``."""
        self._check_open()
        return False

    def seekable(self) -> bool:
        """Return ``False``: bytes that were taken may have been sent."""
        self._check_open()
        return False

    def tell(self) -> int:
        """Return how many bytes were written."""
        self._check_open()
        return self._position

    def write(self, data: Buffer, /) -> int:
        """Take all of ``data``.

        Args:
            data: Bytes, or anything whose memory is contiguous.

        Returns:
            Its length in bytes.

        Raises:
            StoreError: The upload failed for good, or was aborted. Nothing is kept.
            ValueError: The writer is closed.
        """
        self._check_open()
        try:
            self._check_process()
            taken = self._upload.write(data)
        except (TypeError, BufferError):
            raise  # not bytes: nothing was taken
        except BaseException:
            self._lose("a write to it failed")
            raise
        self._position += taken
        return taken

    def flush(self) -> None:
        """Do nothing: bytes go out in parts, and none is visible before the commit."""
        if self.closed:  # and not _check_open: io.IOBase.close flushes what has ended
            raise self._closed()

    def close(self) -> None:
        """Commit, unless an exception is being handled that was not when the writer was opened. Idempotent.

        ``io`` calls ``close()`` both for complete content and for content that an exception cut short (``finally``,
        ``contextlib.closing``, ``TextIOWrapper``). Code that handles an exception should use a ``with`` block.

        Raises:
            StoreError: The commit failed. Nothing is kept.
        """
        error = sys.exc_info()[1]
        if self.closed or self._ended:
            self._mark_closed()
        elif error is None or error is self._seen:
            self._commit()
        elif not self._entered:  # in its own block __exit__ decides: the exception may yet be handled inside it
            name = type(error).__name__
            self._lose(f"it was closed while {name} was handled; to keep it, close it after the except clause")

    def abort(self) -> None:
        """End the write and leave nothing; the name is free again. Idempotent, callable from any thread."""
        self._writes.registry.waive(self.name)
        self._abort()

    def __enter__(self) -> Self:
        super().__enter__()
        self._entered = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._entered = False
        if kind is not None:
            self._lose(f"its with block was left by {kind.__name__}")
        elif self.closed or self._ended:
            self._mark_closed()
        else:
            self._commit()

    def __del__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """End a write that was never closed; at collection, io.IOBase would close it, which would commit a part."""
        if getattr(self, "_ended", True):
            return
        if self._home.here:
            self._lose("it was opened and never closed")
        else:
            self._abort()  # a forked process's copy, which ends alone

    def _check_open(self) -> None:
        if self.closed or self._ended:
            raise self._closed()

    def _check_process(self) -> None:
        self._home.check(f"writing to {self._planned.draft.url}", "upload")

    def _closed(self) -> ValueError:
        return ValueError(f"the writer of artifact {self.name!r} is closed")

    def _commit(self) -> None:
        try:
            self._check_process()
            pointer = self._writes.record(self._planned, self._upload, self._upload.commit())
        except BaseException:
            self._lose("its commit failed")
            raise
        self._ended, self._seen = True, None
        self._pointer = pointer
        self._mark_closed()

    def _lose(self, why: str) -> None:
        """End a write that the job did not abort: the task must not succeed without it."""
        if not self._ended:
            _log.warning("artifact %s: nothing is kept, since %s", self.name, why)
            self._writes.registry.lose(self.name)
        self._abort()

    def _abort(self) -> None:
        if not self._ended:
            self._ended = True
            self._upload.abort()
            self._writes.registry.fail(self._planned.name, self._upload)
        self._seen = None
        self._mark_closed()

    def _mark_closed(self) -> None:
        if not self.closed:
            super().close()


class ArtifactTextWriter(io.TextIOWrapper):
    """Streams text as UTF-8 into one artifact; commits and aborts as ``ArtifactWriter`` does."""

    def __init__(self, writer: ArtifactWriter) -> None:
        # Newlines as they are written, on every system: the same text gives the same bytes.
        super().__init__(writer, encoding="utf-8", newline="", write_through=False)
        self._writer = writer

    def __reduce__(self) -> NoReturn:
        not_picklable("artifact writer")

    @property
    def mode(self) -> str:
        """``"w"``."""
        return "w"

    @property
    def pointer(self) -> Pointer:
        """The artifact's pointer, once it is committed; see ``ArtifactWriter.pointer``."""
        return self._writer.pointer

    def abort(self) -> None:
        """End the write and leave nothing; see ``ArtifactWriter.abort``."""
        self._writer.abort()

    def __enter__(self) -> Self:
        self._writer.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.flush()
        self._writer.__exit__(kind, error, trace)

    def __del__(self) -> None:
        self._writer.forget()


def open_writer(
    planner: PutPlanner, writes: Writes, name: str, kind: Literal["wb", "w"], options: PutOptions
) -> ArtifactWriter | ArtifactTextWriter:
    """Open an artifact for writing; ``ArtifactManager.open`` says what it takes and raises."""
    if options.get("mode") in ("wb", "w"):  # open(name, mode="wb"), as the builtin has it
        kind = options.pop("mode")  # type: ignore[assignment]  # the builtin's meaning of mode
    if kind not in ("wb", "w"):
        raise ConfigurationError(
            f"open({name!r}, {kind!r}): expected 'wb' or 'w'; artifacts are written, not read, here"
        )
    media_type, suffix = (TEXT, ".txt") if kind == "w" else (DEFAULT, "")
    suffix_wanted = options.get("suffix")
    if suffix_wanted is not None and options.get("media_type") is None:
        media_type = media_type_of(Path(f"x{suffix_wanted}"))
    writer = ArtifactWriter(writes, planner.plan(name, media_type, suffix, options))
    return ArtifactTextWriter(writer) if kind == "w" else writer

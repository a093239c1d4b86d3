"""The body of a GetObject on its way, read straight into the caller's buffers where the HTTP library allows it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Protocol

from stepout.artifacts.s3.connections.cancellation import cancelled_request, current_cancellation
from stepout.artifacts.s3.internals import response_below
from stepout.artifacts.s3.job_signals import from_handler
from stepout.schemas.errors import StoreError, StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from stepout.artifacts.store import Download, ObjectInfo


class S3Download:
    """A body on its way, read into one reused buffer, or into the buffers that are lent.

    Args:
        answer: What botocore returned.
        info: What its head says of the object.
        subject: ``s3://bucket/key``.
    """

    def __init__(self, answer: Mapping[str, Any], info: ObjectInfo, subject: str) -> None:
        self._body = answer["Body"]
        if "ContentLength" not in answer:
            self._body.close()
            raise StoreError(
                f"{subject}: the server did not say how long its answer is; nothing was read. A proxy between may have "
                "removed Content-Length"
            )
        self._length: int = answer["ContentLength"]
        below = response_below(self._body, self._length)
        self._wire: _Wire = self._body if below is None else _Direct(*below)
        self._subject = subject
        self._pid = os.getpid()
        self._cancellation = current_cancellation()
        self.info = info

    def __enter__(self) -> Download:
        return self

    def __exit__(self, *exc: object) -> None:
        self._body.close()

    def blocks(self, size: int = 1 << 20, lend: Callable[[], memoryview] | None = None) -> Iterator[memoryview]:
        """Yield the bytes in order; see ``Download.blocks``."""
        if lend is None:
            own = memoryview(bytearray(min(size, max(self._length, 1))))
            lend = lambda: own  # noqa: E731 - as short as that
        received = 0
        while received < self._length:
            buffer = lend()
            count = self._read_into(buffer, received)
            if not count:
                raise self._broken(received)
            received += count
            yield buffer[:count]
        self._read_into(memoryview(bytearray(1)), received)  # the end: connections go back, botocore's checks run

    def _read_into(self, buffer: memoryview, received: int) -> int:
        if os.getpid() != self._pid:  # the rest belongs to the process that asked; whoever reads here asks for it anew
            raise self._broken(received)
        try:
            count: int = self._wire.readinto(buffer)
        except Exception as error:
            if self._cancelled and from_handler(error) is None:
                raise cancelled_request(f"GetObject {self._subject}") from error
            from stepout.artifacts.s3.errors import translate

            translated = translate(error, operation="GetObject", subject=self._subject)
            if isinstance(translated, StoreUnavailableError):
                raise self._broken(received) from error
            raise translated from error
        return count

    @property
    def _cancelled(self) -> bool:
        return self._cancellation is not None and self._cancellation.cancelled

    def _broken(self, received: int) -> StoreError:
        if self._cancelled:
            return cancelled_request(f"GetObject {self._subject}")
        return StoreUnavailableError(
            f"GetObject {self._subject}: the connection broke after {received:,} of {self._length:,} bytes. "
            "Trying again later may help"
        )


# Below botocore -----------------------------------------------------------------------------------------------------


class _Wire(Protocol):
    def readinto(self, buffer: memoryview, /) -> int: ...


class _Direct:
    """The standard library's response, which reads from the socket into the buffer.

    botocore's ``readinto`` ends in urllib3's, which reads into fresh memory and copies: over half of what receiving
    costs. A response that was read to its end gives its connection back to the pool.
    """

    def __init__(self, pooled: Any, response: Any) -> None:
        self._pooled = pooled
        self._response = response

    def readinto(self, buffer: memoryview, /) -> int:
        count: int = self._response.readinto(buffer)
        if not count and self._response.isclosed():
            self._pooled.release_conn()
        return count

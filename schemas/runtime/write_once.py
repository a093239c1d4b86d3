"""Whether a server keeps ``If-None-Match``: a process believes what it answers, not what it promises. No network.

AWS keeps the promise (https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html). Some other
servers pass over the header and answer 200, so that the second writer replaces the first and both are told that they
won. So the first conditional PutObject of a process is sent twice: the second one has to be refused.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Final, TypeVar

from stepout.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

_TRIES: Final = 3

T = TypeVar("T")


class WriteOnce:
    """What this process knows of one bucket on one server; for any thread.

    Args:
        endpoint: The server's URL.

    Attributes:
        puts_are_settled: Whether PutObject was seen to keep the promise, and nothing else was seen since. A plain
            value, since every small write looks at it.
    """

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._lock = threading.RLock()  # a signal handler may write in the middle of a write
        self.puts_are_settled = self._completions = self._trying = False
        self._ignored: str | None = None

    def put(self, write: Callable[[], T], *, refused: Callable[[Exception], bool], subject: str) -> T:
        """Run a conditional PutObject, the first one twice; others wait until that one is settled.

        Args:
            write: The request; the same each time.
            refused: Says whether an error means that the key is taken.
            subject: ``s3://bucket/key``.

        Raises:
            ConfigurationError: The server ignores the condition, or was seen to; then nothing is sent.
        """
        if not self.puts_are_settled:
            with self._lock:
                if not self.puts_are_settled:
                    return self._first(write, refused, subject)
        return write()

    def before_completion(self, honoured: Callable[[], bool | None], *, subject: str) -> None:
        """See to it that the server honours the condition of CompleteMultipartUpload; asked once.

        Args:
            honoured: Tries it out on an object of its own; ``None`` if that cannot be seen.
            subject: ``s3://bucket/key`` of what is to be written.

        Raises:
            ConfigurationError: The server ignores the condition.
        """
        if self._completions and self._ignored is None:
            return
        with self._lock:
            self._check(subject)
            if not self._completions and not self._trying:
                self._trying = True  # the trial completes an upload, too
                try:
                    self._completions = honoured() is not False
                finally:
                    self._trying = False
                if not self._completions:
                    self._ignored, self.puts_are_settled = "CompleteMultipartUpload", False
                    self._check(subject)

    def _first(self, write: Callable[[], T], refused: Callable[[Exception], bool], subject: str) -> T:
        self._check(subject)
        try:
            done = write()
        except Exception as error:
            self.puts_are_settled = refused(error)
            raise
        for _ in range(_TRIES):
            try:
                write()
            except Exception as error:  # noqa: BLE001 - the write itself is done; the next one asks again
                if refused(error):
                    self.puts_are_settled = True
                    return done
            else:
                self._ignored = "PutObject"
                self._check(subject, " It was written twice, with the same bytes, to see that, and stays there.")
        return done

    def _check(self, subject: str, more: str = " Nothing was written.") -> None:
        if self._ignored is None:
            return
        raise ConfigurationError(
            f"{self._ignored} {subject}: the server at {self._endpoint} ignores If-None-Match: a second writer would "
            f"replace the first, and both would be told that they won.{more} Set STEPOUT_S3_PROFILE=unconditional "
            "(together with what it says now): stepout then looks before it writes, and two writers at the same "
            "moment are not told apart; or write with mode='overwrite'"
        )


# Added to only. The process is part of the key: a lock that a thread held when another one forked stays held there.
_SEEN: Final[dict[tuple[int, str, str], WriteOnce]] = {}


def write_once_at(endpoint: str, bucket: str) -> WriteOnce:
    """Return what this process knows of a bucket on a server: the same object each time."""
    place = (os.getpid(), endpoint, bucket)
    return _SEEN.get(place) or _SEEN.setdefault(place, WriteOnce(endpoint))

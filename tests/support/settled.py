"""A server's word on ``If-None-Match``, taken beforehand: for tests that count requests or spoil a certain one."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from stepout.schemas.errors import ArtifactExistsError
from stepout.schemas.runtime import write_once

if TYPE_CHECKING:
    from collections.abc import Callable


def _answers() -> Callable[[], None]:
    said = iter([None, ArtifactExistsError("412")])

    def write() -> None:
        error = next(said)
        if error is not None:
            raise error

    return write


def settled(client: Any, bucket: str) -> Any:
    """Let this process know that the client's server honours conditions in this bucket; return the client."""
    # Not what was found out of another server of the tests, which had the same port before.
    write_once._SEEN.pop((os.getpid(), client.meta.endpoint_url, bucket), None)
    known = write_once.write_once_at(client.meta.endpoint_url, bucket)
    known.put(_answers(), refused=lambda _: True, subject=f"s3://{bucket}")
    known.before_completion(lambda: True, subject=f"s3://{bucket}")
    return client

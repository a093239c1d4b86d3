"""A ``FastS3Store`` over a client that a test has, as ``store_for`` makes one over a client of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stepout.artifacts.s3.fast_store import FastS3Store
from stepout.artifacts.s3.store import S3Store

if TYPE_CHECKING:
    from collections.abc import Callable


def fast_store(
    client: Any,
    bucket: str,
    *,
    obstore: bool = True,
    light: bool = True,
    clock: Callable[[], float] = lambda: 0.0,
    **options: Any,
) -> FastS3Store:
    """Return the store; ``options`` are those of ``S3Store``."""
    ordinary = S3Store(client, bucket, **options)
    return FastS3Store(bucket, lambda: ordinary, obstore=obstore, light=light, clock=clock)

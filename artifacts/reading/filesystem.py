"""A pointer for tools that read through fsspec (pandas, dask, zarr, …), by s3fs: the one place that knows it.

s3fs reads a version where it is told one, and otherwise holds every range to the ETag that it saw when it opened the
object. That is a pin, not a proof: nothing hashes what it reads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stepout.schemas.errors import ArtifactChangedError, ArtifactNotFoundError, ConfigurationError, SizeMismatchError

if TYPE_CHECKING:
    from s3fs import S3FileSystem

    from stepout.schemas.pointer import Pointer


def fsspec_path(pointer: Pointer, *, endpoint_url: str | None, region: str | None, **options: Any) -> tuple[Any, str]:
    """Return a file system and a path in it, after one look at the object.

    Args:
        pointer: What to read; the caller has checked it against the allow-list.
        endpoint_url: The server; ``None``: as s3fs finds it.
        region: The server's region; ``None``: as s3fs finds it.
        options: For ``s3fs.S3FileSystem``, such as ``key``, ``secret`` or ``profile``.

    Returns:
        The file system, and ``bucket/key``, with ``?versionId=…`` where the pointer has a version.

    Raises:
        ArtifactChangedError: Another object is there.
        ArtifactNotFoundError: None is there.
        ConfigurationError: s3fs is not installed.
        SizeMismatchError: The object has another size than the pointer says.
    """
    system = _file_system(pointer, endpoint_url, region, options)
    path = f"{pointer.bucket}/{pointer.key}"
    if pointer.version_id is not None:
        path = f"{path}?versionId={pointer.version_id}"
    try:
        found = system.info(path)
    except FileNotFoundError as error:
        raise ArtifactNotFoundError(f"{pointer.url}: the object does not exist") from error
    if pointer.etag is not None and found.get("ETag") not in {None, pointer.etag}:
        raise ArtifactChangedError(f"{pointer.url}: the object has changed since it was written; write it anew")
    if found["size"] != pointer.size:
        raise SizeMismatchError(f"{pointer.url}: {pointer.size:,} bytes expected, {found['size']:,} found")
    return system, path


def _file_system(pointer: Pointer, endpoint_url: str | None, region: str | None, options: Any) -> S3FileSystem:
    try:
        from s3fs import S3FileSystem
    except ImportError as error:
        message = "fsspec paths need s3fs, which is not installed: pip install 'stepout[s3fs]'"
        raise ConfigurationError(message) from error
    given = dict(options)
    given["client_kwargs"] = {"region_name": region, **given.get("client_kwargs", {})}
    given.setdefault("endpoint_url", endpoint_url)
    # s3fs keeps file systems and listings for the process; a pinned read must look for itself.
    return S3FileSystem(
        version_aware=pointer.version_id is not None, use_listings_cache=False, skip_instance_cache=True, **given
    )

"""Write-once: what an answer to a write means, and how a doubtful answer is settled.

A write ends in one of these ways: done; the key is taken (412), perhaps by ourselves through a try whose answer was
lost; a conflict (409), to be sent anew; or no answer, so that only a look can tell. ``compare`` holds what is there
against what was sent, as a function of values; ``settled`` looks.
"""

from __future__ import annotations

import enum
import hashlib
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from stepout.artifacts.store import (
    ConflictError,
    InvalidPartError,
    ListsParts,
    Located,
    ObjectInfo,
    SlowDownError,
    UploadGoneError,
)
from stepout.artifacts.store_writes import WriteOptions, Written
from stepout.schemas.errors import (
    AccessDeniedError,
    ArtifactChangedError,
    ArtifactExistsError,
    ArtifactNotFoundError,
    SizeMismatchError,
    StepoutError,
    StoreError,
    StoreUnavailableError,
)
from stepout.schemas.runtime.s3_profile import is_aws_endpoint
from stepout.schemas.text.foreign_text import logger

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stepout.artifacts.retries import Retries
    from stepout.artifacts.store import Store
    from stepout.artifacts.store_writes import PartReceipt

_log = logger("stepout.artifacts")


_NO_ETAG: Final = "Its pointer has no ETag; readers hold it to its checksum"


class Content(NamedTuple):
    """What was sent.

    Attributes:
        size: In bytes.
        checksum: Full-object checksums, hex by algorithm.
        blocks: What the pointer says of its blocks' digests; ``None`` where there are none.
    """

    size: int
    checksum: Mapping[str, str]
    blocks: Mapping[str, Any] | None = None


class Uploaded(NamedTuple):
    """A committed artifact.

    Attributes:
        size: In bytes.
        checksum: Full-object checksums, lower-case hex: ``sha256`` always, ``crc64nvme`` where it was computed.
        etag: As the store sent it.
        version_id: From the write's own answer, in a bucket that keeps versions.
        blocks: What the pointer says of its blocks' digests; ``None`` where there are none.
    """

    size: int
    checksum: Mapping[str, str]
    etag: str | None = None
    version_id: str | None = None
    blocks: Mapping[str, Any] | None = None


class Match(enum.Enum):
    """The result of comparing the stored object with the sent bytes."""

    SAME = "same"
    OTHER = "other"
    UNKNOWN = "no checksum in common"


def compare(sent: Content, found: ObjectInfo) -> Match:
    """Compare by size and by every full-object checksum that both sides have."""
    if sent.size != found.size:
        return Match.OTHER
    shared = [name for name in sent.checksum if name in found.checksum]
    if not shared:
        return Match.SAME if sent.size == 0 else Match.UNKNOWN
    same = all(sent.checksum[name] == found.checksum[name] for name in shared)
    return Match.SAME if same else Match.OTHER


def put_once(store: Store, key: str, views: Sequence[memoryview], sent: Content, options: WriteOptions) -> Written:
    """Put a whole object, and settle the answer; as ``put_or_found`` without its second word."""
    return put_or_found(store, key, views, sent, options)[0]


def put_or_found(
    store: Store, key: str, views: Sequence[memoryview], sent: Content, options: WriteOptions
) -> tuple[Written, bool]:
    """Put a whole object, and settle the answer.

    Args:
        store: Where it goes.
        key: Under which key.
        views: Its bytes, in order.
        sent: What they are.
        options: ``mode`` says whether something else there is an error.

    Returns:
        What was written or found, and whether it is certain that this request has made it.

    Raises:
        StoreError: As ``settled`` does, or as the store did.
    """
    if options.mode == "create" and not store.profile.conditional_writes:
        found = look_first(store, key, sent, options)
        if found is not None:
            return found, False
    try:
        written = store.put(key, views, checksum={"sha256": sent.checksum["sha256"]}, options=options)
    except SlowDownError:
        raise  # nothing was stored, and a look would be one more request
    except StoreError as error:
        return settled(store, key, sent, options, error), False
    return written, options.mode == "create" and store.profile.conditional_writes


def completed(  # noqa: PLR0913 - what one completion carries
    store: Store,
    key: str,
    upload: str,
    *,
    receipts: Sequence[PartReceipt],
    sent: Content,
    options: WriteOptions,
    retries: Retries,
) -> Written:
    """Complete a multipart upload, and once more if a second request for a part has replaced its ETag.

    Where a part was asked for twice, both requests may arrive, and the server keeps the later one: the same bytes,
    but on some servers (SSE-KMS) with another ETag. It then answers InvalidPart and has completed nothing. What it has
    is listed and compared with what was sent; only then are its ETags taken.

    Args:
        store: Where it goes.
        key: Under which key.
        upload: Its id.
        receipts: Of all parts, in order.
        sent: What the object holds.
        options: Of the write.
        retries: How the completion is repeated.

    Raises:
        InvalidPartError: The server has other parts than those that were sent, or does not say so.
        StoreError: As the store did; for ``settled`` to look at.
    """

    def complete(parts: Sequence[PartReceipt]) -> Written:
        checksum = sent.checksum.get(store.profile.multipart_checksum)
        return store.complete_upload(key, upload, parts, size=sent.size, checksum=checksum, options=options)

    try:
        return retries.run(partial(complete, receipts))
    except InvalidPartError as error:
        return retries.run(partial(complete, _parts_there(store, key, upload, receipts, error)))


def _parts_there(
    store: Store, key: str, upload: str, receipts: Sequence[PartReceipt], error: InvalidPartError
) -> Sequence[PartReceipt]:
    """Return the receipts with the ETags that the server has; raise ``error`` unless it has all that was sent."""
    if not isinstance(store, ListsParts):
        raise error
    try:
        there = {part.number: part for part in store.list_parts(key, upload)}
    except StepoutError as second:
        raise InvalidPartError(f"{error}. Its parts could not be compared: {second}") from second
    found = [replace(sent, etag=there[sent.number].etag) for sent in receipts if sent.number in there]
    # A checksum that is not listed differs from the one that was sent.
    if found == list(receipts) or [there.get(each.number) for each in receipts] != found:
        raise error
    _log.info("%s: parts that were sent twice have the ETag of the second request", _url(store, key))
    return found


def settled(store: Store, key: str, sent: Content, options: WriteOptions, error: StoreError) -> Written:
    """Find out what became of a write whose last request failed.

    Args:
        store: Where it goes.
        key: Under which key.
        sent: What it holds.
        options: ``mode`` says whether something else there is an error.
        error: What the request raised.

    Returns:
        What is there, if it is what was sent: then the write was done, perhaps by a try whose answer was lost.

    Raises:
        ArtifactExistsError: Other content is there, or content that could not be compared.
        ConflictError: Nothing was stored; the bytes must be sent anew.
        StoreUnavailableError: No answer, and what is there is not what was sent.
        StoreError: ``error``, where no look could tell more.
    """
    if isinstance(error, ArtifactExistsError):
        return _settle_taken(store, key, sent, error)
    # A conflict is one of the errors of an unavailable store, but it says for sure that nothing was stored.
    if isinstance(error, UploadGoneError | StoreUnavailableError) and not isinstance(error, ConflictError):
        return _settle_lost(store, key, sent, options, error)
    raise error


def takes_its_word(store: Store) -> bool:
    """Say whether the server's description of an object that it has just stored can be used without a check."""
    if store.profile.name == "aws":
        return True
    return isinstance(store, Located) and is_aws_endpoint(store.endpoint_url)


def confirmed(store: Store, key: str, sent: Content, options: WriteOptions, written: Written) -> Written:
    """Read the result of a multipart upload as a reader will, if the server's answer may be wrong.

    Args:
        store: Where it is.
        key: Under which key.
        sent: What it holds.
        options: ``mode`` says whose the object may be if it is not ours.
        written: What CompleteMultipartUpload answered.

    Returns:
        The ETag and the version for a pointer: each one that GET repeats, else ``None``.

    Raises:
        ArtifactExistsError: Another writer has replaced it (``mode="create"``).
        ArtifactChangedError: The same with ``mode="overwrite"``.
        SizeMismatchError: What is there has another size.
        StoreError: Nothing is there.
    """
    if takes_its_word(store):
        return written
    try:
        found, version = _seen(store, key, written.version_id)
    except ArtifactNotFoundError as error:
        message = f"{_url(store, key)}: CompleteMultipartUpload succeeded, and GET finds no object: the server lost it"
        raise StoreError(f"{message}, or somebody removed it. No pointer was made") from error
    except (AccessDeniedError, StoreUnavailableError) as error:
        # The commit itself was confirmed, so this is no failure; but an ETag that nobody has seen GET repeat could make
        # every read fail with 412.
        _log.warning("%s was committed and could not be looked at: %s. %s", _url(store, key), error, _NO_ETAG)
        return Written(version_id=written.version_id)
    if found.size != sent.size:
        message = f"{_url(store, key)}: {sent.size:,} bytes were sent and committed, GET says {found.size:,}"
        raise SizeMismatchError(f"{message}: the server damaged it, or another writer replaced it. No pointer was made")
    # A version is ours alone. ETags are compared without their quotes, which some servers leave out of one answer.
    if version is not None or _bare(found.etag) == _bare(written.etag):
        return Written(etag=found.etag, version_id=version)
    _log.warning(
        "%s: the server answers CompleteMultipartUpload with the ETag %s and GET with %s; the object was read once, to "
        "be sure that it is the one that was written",
        _url(store, key),
        written.etag,
        found.etag,
    )
    if _read_and_compare(store, key, sent, found) is Match.SAME:
        return Written(etag=found.etag)
    message = f"{_url(store, key)} was replaced by another writer while it was committed, or the server damaged it"
    kind = ArtifactExistsError if options.mode == "create" else ArtifactChangedError
    raise kind(f"{message}: ETag {written.etag} was committed, {found.etag} is there, with other bytes")


def _seen(store: Store, key: str, version_id: str | None) -> tuple[ObjectInfo, str | None]:
    """Return GET's description of an object, and the version; ``None`` for a version that GET does not find."""
    try:
        return _glimpse(store, key, version_id), version_id
    except (ArtifactNotFoundError, StoreError) as error:
        if version_id is None or isinstance(error, (AccessDeniedError, StoreUnavailableError)):
            raise
        found = _glimpse(store, key, None)
        _log.warning(
            "%s: the server names version %s and does not find it (%s); the pointer goes without",
            _url(store, key),
            version_id,
            error,
        )
        return found, None


def _glimpse(store: Store, key: str, version_id: str | None) -> ObjectInfo:
    with store.get(key, start=0, stop=1, version_id=version_id) as download:
        for _ in download.blocks():
            pass
        return download.info


def _bare(etag: str | None) -> str:
    return (etag or "").strip('"')


def look_first(store: Store, key: str, sent: Content, options: WriteOptions) -> Written | None:
    """Stand in for ``If-None-Match`` where a server does not honour it; another writer may slip in afterwards.

    Returns:
        What is there, if it is the same; ``None`` if the key is free or the server looks for itself.

    Raises:
        ArtifactExistsError: Other content is there.
    """
    if options.mode != "create" or store.profile.conditional_writes:
        return None
    try:
        found = store.head(key)
    except ArtifactNotFoundError:
        return None
    return _accept_same(store, key, sent, found, ArtifactExistsError(f"{_url(store, key)} exists"))


def _settle_taken(store: Store, key: str, sent: Content, error: ArtifactExistsError) -> Written:
    try:
        found = store.head(key)
        return _accept_same(store, key, sent, found, error)
    except ArtifactNotFoundError:
        # 412 and then 404: nothing of ours is there, so the bytes may be sent anew, as after a 409.
        message = (
            f"{_url(store, key)} was taken and is gone again: another process is at work there; nothing was written"
        )
        raise ConflictError(message) from error
    except AccessDeniedError as denied:
        message = (
            f"{_url(store, key)} exists, could not compare: looking at it was denied. Nothing was written. Grant "
            "s3:GetObject (and kms:Decrypt) to let a rerun find its own artifact, or write under another key"
        )
        raise ArtifactExistsError(message) from denied
    except StoreUnavailableError as unavailable:
        message = f"{_url(store, key)} exists, could not compare: the store did not answer. Nothing was written"
        raise ArtifactExistsError(message) from unavailable


def _accept_same(store: Store, key: str, sent: Content, found: ObjectInfo, error: Exception) -> Written:
    match = compare(sent, found)
    doubtful = match is Match.OTHER and sent.size == found.size and not takes_its_word(store)
    # A checksum of checksums may look like one of the bytes, on servers that do not say which it is.
    if match is Match.UNKNOWN or doubtful:
        match = _read_and_compare(store, key, sent, found)
    if match is Match.SAME:
        return Written(etag=found.etag, version_id=found.version_id)
    message = (
        f"{_url(store, key)} exists with other content: {found.size:,} bytes there, {sent.size:,} to write"
        f"{_differing(sent, found)}. It was left as it is. Write under another key, or with mode='overwrite'"
    )
    raise ArtifactExistsError(message) from error


def _differing(sent: Content, found: ObjectInfo) -> str:
    for name, value in sent.checksum.items():
        if name in found.checksum and found.checksum[name] != value:
            return f", {name} {found.checksum[name]} there, {value} to write"
    return ""


def _read_and_compare(store: Store, key: str, sent: Content, found: ObjectInfo) -> Match:
    """Read the object once: two writers may have left checksums of different kinds (SeaweedFS, composite ones)."""
    digest = hashlib.sha256()
    with store.get(key, version_id=found.version_id, if_match=found.etag) as download:
        for block in download.blocks():
            digest.update(block)
    return Match.SAME if digest.hexdigest() == sent.checksum["sha256"] else Match.OTHER


def _settle_lost(store: Store, key: str, sent: Content, options: WriteOptions, error: StoreError) -> Written:
    """The answer was lost, or the upload is gone: if the stored object equals the sent bytes, the write succeeded."""
    try:
        found = store.head(key)
        return _accept_same(store, key, sent, found, error)
    except ArtifactExistsError:
        # An overwrite is allowed to find another object: it is the old one, so the write was not done.
        if options.mode == "create":
            raise
        raise _undone(store, key, error, "another object is there") from error
    except ArtifactNotFoundError:
        raise _undone(store, key, error, "no object is there") from error
    except (AccessDeniedError, StoreUnavailableError) as second:
        raise _undone(store, key, error, f"looking at the key failed too ({second})") from error


def _undone(store: Store, key: str, error: StoreError, found: str) -> StoreUnavailableError:
    return StoreUnavailableError(f"{_url(store, key)} was not committed, {found}: {error}")


def _url(store: Store, key: str) -> str:
    return f"s3://{store.bucket}/{key}"

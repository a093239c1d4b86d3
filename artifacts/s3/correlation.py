"""Whether an answer can be that of its request: what it repeats is compared with what was sent.

On a connection that two processes share (a client that lived through a fork), or that went on half-used, answers reach
requests that they do not belong to: a 200 then proves nothing, and its ETag is another object's. S3 repeats in an
answer some of what it was asked: the checksum that it verified, the key, the range, the version. Pure functions, of
answers as botocore names their members; each returns what does not fit, or ``None``.

The MD5 in an ETag is looked at only where nothing better is repeated, and only where an ETag is one: not under SSE-KMS
or with a customer's key, and not in a directory bucket
(https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html).
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from stepout.artifacts.checksums import to_base64

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CHECKSUM_MEMBERS: Final = {"sha256": "ChecksumSHA256", "crc64nvme": "ChecksumCRC64NVME", "crc32": "ChecksumCRC32"}

_MD5: Final = re.compile(r'"?([0-9a-fA-F]{32})"?')
_RANGE: Final = re.compile(r"bytes ([0-9]+)-([0-9]+)/(?:[0-9]+|\*)")
_DIRECTORY_BUCKET: Final = re.compile(r".*--xa?-s3")


def etag_of(body: Sequence[memoryview]) -> str | None:
    """Return the MD5 of a body in hex; ``None`` where this Python computes none (FIPS)."""
    try:
        digest = hashlib.md5(usedforsecurity=False)
    except ValueError:
        return None
    for view in body:
        digest.update(view)
    return digest.hexdigest()


def is_md5_of(etag: str | None, body: Sequence[memoryview]) -> bool:
    """Say whether an ETag is the MD5 of a body."""
    found = _MD5.fullmatch(etag or "")
    return found is not None and found[1].lower() == etag_of(body)


def foreign_put(answer: Mapping[str, Any], *, checksum: Mapping[str, str]) -> str | None:
    """Look at an answer to PutObject.

    Args:
        answer: Its members.
        checksum: What was sent, hex by algorithm.
    """
    return _repeated(answer, checksum) or None if answer.get("ETag") else "it has no ETag"


def other_etag(
    answer: Mapping[str, Any], *, checksum: Mapping[str, str], body: Sequence[memoryview], bucket: str
) -> str | None:
    """Look at the ETag of an answer to PutObject that repeats no checksum.

    Args:
        answer: Its members.
        checksum: What was sent, hex by algorithm.
        body: The bytes that were sent.
        bucket: The bucket's name or access point.
    """
    etag = answer["ETag"]
    plain = answer.get("ServerSideEncryption") in {None, "AES256"} and answer.get("SSECustomerAlgorithm") is None
    if _repeated(answer, checksum) is not None or not plain or _DIRECTORY_BUCKET.fullmatch(bucket):
        return None
    if not _MD5.fullmatch(etag) or is_md5_of(etag, body) or etag_of(body) is None:
        return None
    return f"its ETag is {etag}, the MD5 of what was sent is {etag_of(body)}"


def foreign_part(answer: Mapping[str, Any], *, checksum: Mapping[str, str]) -> str | None:
    """Look at an answer to UploadPart; an ETag that is another part's is refused when the upload is completed."""
    if not answer.get("ETag"):
        return "it has no ETag"
    return _repeated(answer, checksum) or None


def foreign_completion(answer: Mapping[str, Any], *, key: str, checksum: Mapping[str, str]) -> str | None:
    """Look at an answer to CompleteMultipartUpload.

    Args:
        answer: Its members.
        key: The object's.
        checksum: The full-object checksum that was sent, hex by algorithm; empty where none was.
    """
    if not answer.get("ETag"):
        return "it has no ETag"
    return _other_key(answer, key) or _repeated(answer, checksum) or None


def foreign_start(answer: Mapping[str, Any], *, key: str) -> str | None:
    """Look at an answer to CreateMultipartUpload."""
    return _other_key(answer, key) if answer.get("UploadId") else "it has no UploadId"


def foreign_download(
    answer: Mapping[str, Any],
    *,
    start: int,
    stop: int | None,
    version_id: str | None = None,
    if_match: str | None = None,
) -> str | None:
    """Look at the head of an answer to GetObject.

    Args:
        answer: Its members.
        start: The first byte that was asked for.
        stop: One behind the last; ``None``: the end.
        version_id: The version that was asked for.
        if_match: The ETag that was insisted on.
    """
    etag, version = answer.get("ETag"), answer.get("VersionId")
    if if_match is not None and etag is not None and _bare(etag) != _bare(if_match):
        return f"its ETag is {etag}, {if_match} was asked for"
    if version_id is not None and version is not None and version != version_id:
        return f"its version is {version}, {version_id} was asked for"
    if start == 0 and stop is None:
        return None
    found = _RANGE.fullmatch(str(answer.get("ContentRange", "")))
    if found is None or int(found[1]) != start or (stop is not None and int(found[2]) >= stop):
        return f"bytes from {start:,} on were asked for, and it has others"
    length = int(found[2]) - start + 1
    if answer.get("ContentLength", length) != length:
        return f"{length:,} bytes are announced, and {answer['ContentLength']:,} to follow"
    return None


def _repeated(answer: Mapping[str, Any], checksum: Mapping[str, str]) -> str | None:
    """Return what is wrong with the checksums that it repeats; empty if they fit, ``None`` if it repeats none."""
    if answer.get("ChecksumType") == "COMPOSITE":
        return None
    compared = False
    for algorithm, sent in checksum.items():
        value = answer.get(CHECKSUM_MEMBERS[algorithm])
        if not value or "-" in value:  # a checksum of checksums ends in the number of parts
            continue
        compared = True
        if value != to_base64(sent):
            return f"its {algorithm} is {value}, {to_base64(sent)} was sent"
    return "" if compared else None


def _other_key(answer: Mapping[str, Any], key: str) -> str | None:
    said = answer.get("Key")
    return f"its key is {said!r}" if said and key not in {said, unquote(said)} else None


def _bare(etag: str) -> str:
    return etag.removeprefix("W/").strip('"')

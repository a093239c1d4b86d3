"""What answers to S3's requests mean, from their members as botocore names them. Pure functions."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final

from stepout.artifacts.checksums import from_base64
from stepout.artifacts.s3.correlation import CHECKSUM_MEMBERS
from stepout.artifacts.store import ARCHIVES, ObjectInfo
from stepout.artifacts.store_writes import PartReceipt, Written

if TYPE_CHECKING:
    from collections.abc import Mapping

_BYTES: Final = {"sha256": 32, "crc64nvme": 8, "crc32": 4}
_DATE: Final = re.compile(r"[A-Z][a-z]{2}, (\d{2}) ([A-Z][a-z]{2}) (\d{4}) (\d{2}):(\d{2}):(\d{2}) GMT", re.ASCII)
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_PARTS: Final = re.compile(r'(?:W/)?"?.*-[0-9]+"?')


def written_of(answer: Mapping[str, Any]) -> Written:
    """Return what an answer to a write said of the object."""
    return Written(etag=answer.get("ETag"), version_id=_version(answer))


def receipt_of(part: Mapping[str, Any], algorithm: str) -> PartReceipt:
    """Return what ListParts says of a part, with its checksum if it has one of this algorithm."""
    checksum = _hex_of(part.get(CHECKSUM_MEMBERS[algorithm]), _BYTES[algorithm])
    return PartReceipt(number=part["PartNumber"], etag=part["ETag"], size=part["Size"], checksum=checksum or "")


def _version(answer: Mapping[str, Any]) -> str | None:
    version: str | None = answer.get("VersionId")
    return None if version == "null" else version


def _checksums(answer: Mapping[str, Any]) -> dict[str, str]:
    """Return the full-object checksums of an answer, as far as they can be any.

    A checksum of checksums (composite) should say so by its type and end in the number of parts. Some servers do
    neither; the ETag of an object that came in parts gives them away: there SHA-256 is always composite, and a CRC is
    unless its type is named (https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html).
    """
    kind, in_parts = answer.get("ChecksumType"), _PARTS.fullmatch(answer.get("ETag") or "") is not None
    if kind == "COMPOSITE" or (in_parts and kind != "FULL_OBJECT"):
        return {}
    found = {}
    for algorithm, member in CHECKSUM_MEMBERS.items():
        checksum = _hex_of(answer.get(member), _BYTES[algorithm])
        if checksum is not None and not (in_parts and algorithm == "sha256"):
            found[algorithm] = checksum
    return found


def _hex_of(value: object, size: int) -> str | None:
    """Return a checksum if it is one of so many bytes."""
    try:
        found = from_base64(value) if isinstance(value, str) else ""
    except ValueError:
        return None
    return found if len(found) == 2 * size else None


def _archived(answer: Mapping[str, Any]) -> str | None:
    """Return the class that an object has to be restored from before it can be read."""
    kept: str | None = answer.get("ArchiveStatus")
    if kept is None and answer.get("StorageClass") in ARCHIVES:
        kept = answer["StorageClass"]
    return None if 'ongoing-request="false"' in (answer.get("Restore") or "") else kept


def info_of(answer: Mapping[str, Any]) -> ObjectInfo:
    """Return what a HEAD or GET said of an object, from its members as botocore names them."""
    modified, size = answer.get("LastModified"), answer.get("ContentLength", 0)
    whole = answer.get("ContentRange", "").rpartition("/")[2]
    return ObjectInfo(
        size=int(whole) if whole.isdigit() else size,
        etag=answer.get("ETag"),
        version_id=_version(answer),
        checksum=_checksums(answer),
        media_type=answer.get("ContentType"),
        metadata=answer.get("Metadata") or {},
        last_modified=modified.isoformat() if modified else None,
        archived=_archived(answer),
    )


def info_of_headers(headers: Mapping[str, str], size: int) -> ObjectInfo:
    """Return what the headers of a GET said of an object that came whole.

    Args:
        headers: By lower-case name.
        size: How many bytes have come.
    """
    modified = headers.get("last-modified")
    return info_of(
        {
            "ContentLength": size,
            "ETag": headers.get("etag"),
            "VersionId": headers.get("x-amz-version-id"),
            "ContentType": headers.get("content-type"),
            "LastModified": _moment(modified) if modified else None,
        }
    )


def _moment(text: str) -> datetime:
    """Read the date of a header; the usual form without the parser of all, which takes as long as a signature."""
    found = _DATE.fullmatch(text)
    if found is None or found[2] not in _MONTHS:
        return parsedate_to_datetime(text)
    day, _, year, hour, minute, second = found.groups()
    month = _MONTHS.index(found[2]) + 1
    return datetime(int(year), month, int(day), int(hour), int(minute), int(second), tzinfo=UTC)

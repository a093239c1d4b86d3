"""What lies below a prefix of a bucket, by S3's own clock: versions of objects and open uploads, and taking them away.

A look at a whole bucket, for clean-up; a task that writes or reads needs none of it. Ages are the difference of two
times that the server told: when it wrote something, and the ``Date`` of its answer. So this machine's clock is not
asked.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final

from stepout.artifacts.s3.errors import translate
from stepout.artifacts.store import ConflictError, UploadGoneError
from stepout.schemas.errors import ArtifactExistsError, ArtifactNotFoundError, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_METHOD: Final = {
    "ListObjectVersions": "list_object_versions",
    "ListObjectsV2": "list_objects_v2",
    "ListMultipartUploads": "list_multipart_uploads",
    "HeadObject": "head_object",
    "DeleteObject": "delete_object",
    "AbortMultipartUpload": "abort_multipart_upload",
}

_AMAZON: Final = "AmazonS3"

NO_VERSION: Final = "null"
"""The version of an object that was written while its bucket kept no versions."""


@dataclass(frozen=True, slots=True)
class StoredVersion:
    """One version of one object.

    Attributes:
        key: The object's key.
        version_id: ``"null"`` where the bucket kept no versions when it was written.
        etag: With its quotes.
        size: In bytes.
        age: How long ago it was written, by the server's clock.
        latest: Whether it is what a reader gets who names no version.
    """

    key: str
    version_id: str
    etag: str
    size: int
    age: timedelta
    latest: bool


@dataclass(frozen=True, slots=True)
class StoredUpload:
    """One multipart upload that was neither completed nor aborted.

    Attributes:
        key: The key of the object that it would make.
        upload_id: S3's.
        age: How long ago it was begun, by the server's clock.
    """

    key: str
    upload_id: str
    age: timedelta


class Inventory:
    """Lists and removes what is in one bucket.

    Args:
        client: A boto3 S3 client that repeats requests by itself.
        bucket: A bucket's name, or the ARN of an access point.
        expected_bucket_owner: An account id; S3 refuses every request if the bucket belongs to another one.
        request_payer: ``"requester"`` for buckets whose readers pay.

    Attributes:
        now: The time that the server told last, with an answer to a listing.
    """

    def __init__(
        self, client: Any, bucket: str, *, expected_bucket_owner: str | None = None, request_payer: str | None = None
    ) -> None:
        self.bucket = bucket
        self.now = datetime.min.replace(tzinfo=UTC)
        self._client = client
        self._server: str | None = None
        common = {"ExpectedBucketOwner": expected_bucket_owner, "RequestPayer": request_payer}
        self._common = {name: value for name, value in common.items() if value is not None}

    def versions(self, prefix: str, *, most: int = 1_000) -> Iterator[list[StoredVersion]]:
        """Yield all versions of all objects whose key begins with ``prefix``, a page at a time, in the order of keys.

        Markers of deletions are left out.

        Args:
            prefix: Compared as text.
            most: How many one page has, 1,000 at most.

        Raises:
            StoreError: They could not be listed, or the server does not say what time it is.
        """
        marks: dict[str, Any] = {}
        while True:
            answer = self._call("ListObjectVersions", prefix, Prefix=prefix, MaxKeys=most, **marks)
            now = self.now = self._time(answer, prefix)
            yield [
                StoredVersion(
                    key=found["Key"],
                    version_id=found.get("VersionId") or NO_VERSION,
                    etag=found.get("ETag", ""),
                    size=found.get("Size", 0),
                    age=_age(now, found["LastModified"]),
                    latest=bool(found.get("IsLatest", True)),
                )
                for found in answer.get("Versions", ())
            ]
            if not answer.get("IsTruncated"):
                return
            marks = {"KeyMarker": answer["NextKeyMarker"], "VersionIdMarker": answer.get("NextVersionIdMarker")}

    def newest(self, prefix: str) -> Iterator[list[StoredVersion]]:
        """Yield the objects whose key begins with ``prefix``, a page at a time, each as what a reader gets.

        To be asked after ``versions``, by whom it would harm to miss one: SeaweedFS 4 passes over ``M-x/`` where a page
        of versions ends within ``M/``. Amazon's S3 has all of them there, so nothing is asked of it.

        Raises:
            StoreError: As for ``versions``.
        """
        marks: dict[str, Any] = {}
        while self._server != _AMAZON:
            answer = self._call("ListObjectsV2", prefix, Prefix=prefix, **marks)
            now = self._time(answer, prefix)
            yield [
                StoredVersion(
                    key=found["Key"],
                    version_id=NO_VERSION,
                    etag=found.get("ETag", ""),
                    size=found.get("Size", 0),
                    age=_age(now, found["LastModified"]),
                    latest=True,
                )
                for found in answer.get("Contents", ())
            ]
            following = answer.get("NextContinuationToken")
            if following in {None, marks.get("ContinuationToken")}:  # a server that gives one page again and again
                return
            marks = {"ContinuationToken": following}

    def uploads(self, prefix: str) -> Iterator[list[StoredUpload]]:
        """Yield the open uploads of keys that begin with ``prefix``, a page at a time.

        Raises:
            StoreError: As for ``versions``.
        """
        marks: dict[str, Any] = {}
        while True:
            answer = self._call("ListMultipartUploads", prefix, Prefix=prefix, **marks)
            now = self.now = self._time(answer, prefix)
            yield [
                StoredUpload(key=found["Key"], upload_id=found["UploadId"], age=_age(now, found["Initiated"]))
                for found in answer.get("Uploads", ())
            ]
            if not answer.get("IsTruncated"):
                return
            marks = {"KeyMarker": answer["NextKeyMarker"], "UploadIdMarker": answer["NextUploadIdMarker"]}

    def look(self, version: StoredVersion) -> tuple[StoredVersion, Mapping[str, str]] | None:
        """Return a version as it is now, and what its writer said of it; ``None`` if it is gone.

        What has no id of its own may be another object by now: then so are its ETag and its age. SeaweedFS lists
        another ETag than HEAD and GET have.

        Raises:
            StoreError: It cannot be asked for.
        """
        answer = self._head(version)
        if answer is None:
            return None
        age = _age(self._time(answer, version.key), answer["LastModified"])
        return replace(version, etag=answer["ETag"], size=answer["ContentLength"], age=age), answer.get(
            "Metadata"
        ) or {}

    def remove(self, version: StoredVersion) -> bool:
        """Remove a version for good, if it is still what ``look`` returned: what has a version's id never changes.

        What has none can be replaced at any time. So it goes only while it has the same ETag
        (https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-deletes.html, since 2025; for a server that
        passes over ``If-Match``, the look right before is all there is).

        Returns:
            Whether it was removed here: not if it is gone, or another object has taken its place.

        Raises:
            StoreError: It could not be removed.
        """
        how = {"VersionId": version.version_id}
        if version.version_id == NO_VERSION:
            answer = self._head(version)
            if answer is None or answer["ETag"] != version.etag:
                return False
            # S3 names the version "null" where the bucket keeps versions now, and says nothing where it never did.
            # There, a deletion without a version would only put a marker over it.
            how = how if answer.get("VersionId") or not version.latest else {"IfMatch": version.etag}
        try:
            self._call("DeleteObject", version.key, **how)
        except (ArtifactNotFoundError, ArtifactExistsError, ConflictError):  # 404, 412, 409
            return False
        return True

    def _head(self, version: StoredVersion) -> Any:
        named = version.version_id != NO_VERSION or not version.latest
        try:
            return self._call("HeadObject", version.key, VersionId=version.version_id if named else None)
        except ArtifactNotFoundError:
            return None

    def abort(self, upload: StoredUpload) -> bool:
        """Forget an open upload; tell whether it was there.

        Raises:
            StoreError: It could not be aborted.
        """
        try:
            self._call("AbortMultipartUpload", upload.key, UploadId=upload.upload_id)
        except UploadGoneError:
            return False
        return True

    def _call(self, operation: str, key: str, **parameters: Any) -> Any:
        known = {**self._common, **{name: value for name, value in parameters.items() if value is not None}}
        if "Prefix" not in known:  # only a listing has no key
            known["Key"] = key
        try:
            return getattr(self._client, _METHOD[operation])(Bucket=self.bucket, **known)
        except Exception as error:
            region = self._client.meta.region_name
            subject = f"s3://{self.bucket}/{key}"
            raise translate(error, operation=operation, subject=subject, client_region=region) from error

    def _time(self, answer: Any, key: str) -> datetime:
        """Return the server's time."""
        headers = answer["ResponseMetadata"]["HTTPHeaders"]
        said, self._server = headers.get("date"), headers.get("server")
        if said is None:
            raise StoreError(
                f"s3://{self.bucket}/{key}: the server's answers have no Date, so nobody knows how old an object "
                "is; nothing was removed. A proxy between may have taken it out"
            )
        return parsedate_to_datetime(said)


def _age(now: datetime, written: datetime) -> timedelta:
    """Return the time between two that a server told; its ``Date`` has whole seconds, so it may be the earlier one."""
    return max(now - written, timedelta(0))

"""One S3 bucket through a boto3 client: few verbs, typed errors, checksums that the server verifies."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from stepout.artifacts.checksums import best_crc, md5_of, to_base64
from stepout.artifacts.process.budget import process_budget
from stepout.artifacts.retries import SLOWED_READ_RETRIES
from stepout.artifacts.s3.answers import info_of, receipt_of, written_of
from stepout.artifacts.s3.connections.cancellation import cancellable, cancelled_request, current_cancellation
from stepout.artifacts.s3.correlation import (
    CHECKSUM_MEMBERS,
    foreign_completion,
    foreign_download,
    foreign_part,
    foreign_put,
    foreign_start,
    is_md5_of,
    other_etag,
)
from stepout.artifacts.s3.job_signals import from_handler
from stepout.artifacts.s3.redirects import ask_region_once
from stepout.artifacts.s3.request_bodies import request_body
from stepout.artifacts.s3.response_body import S3Download
from stepout.artifacts.s3.signing import presigned
from stepout.artifacts.s3.write_parameters import write_parameters
from stepout.artifacts.store import Arrived, ConflictError, ObjectInfo, SlowDownError, UploadGoneError
from stepout.artifacts.store_writes import ListedObject, PartReceipt, StoreProfile, WriteOptions, Written
from stepout.schemas.errors import (
    AccessDeniedError,
    ArtifactExistsError,
    StepoutError,
    StoreError,
    StoreUnavailableError,
)
from stepout.schemas.runtime.process import PerProcess
from stepout.schemas.runtime.s3_profile import is_aws_endpoint
from stepout.schemas.runtime.write_once import write_once_at
from stepout.schemas.text.foreign_text import logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from stepout.artifacts.process.budget import ProcessBudget
    from stepout.artifacts.process.servers import ServerState
    from stepout.artifacts.retries import Retries
    from stepout.artifacts.store import Cancellation, Download
    from stepout.schemas.runtime.write_once import WriteOnce

_log = logger("stepout.artifacts")

_PAYLOADS = frozenset({"PutObject", "UploadPart"})

# Who calls these repeats them by itself (``transfer``), and can end its pauses early.
_REPEATED_ABOVE = frozenset({"PutObject", "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"})
_METHOD = {
    "PutObject": "put_object",
    "CreateMultipartUpload": "create_multipart_upload",
    "UploadPart": "upload_part",
    "CompleteMultipartUpload": "complete_multipart_upload",
    "AbortMultipartUpload": "abort_multipart_upload",
    "ListParts": "list_parts",
    "DeleteObject": "delete_object",
    "HeadObject": "head_object",
    "GetObject": "get_object",
    "ListObjectsV2": "list_objects_v2",
}


class S3Store:
    """One bucket, spoken to through a boto3 S3 client that is used as it is.

    Args:
        client: A boto3 S3 client; or a ``PerProcess`` of one, which is made anew in a process that was forked.
        bucket: A bucket's name, or the ARN of an access point.
        profile: What the server can do; ``None``: everything that S3 can.
        expected_bucket_owner: An account id; S3 refuses every request if the bucket belongs to another one.
        request_payer: ``"requester"`` for buckets whose readers pay.
        signed_client: Makes a client that signs payloads. Given when ``client`` does not: a 403 on a payload is then
            tried once more, signed, and what helped is remembered.
        retries: How often a request is sent that nobody above repeats; ``None``: once, since the client tries again,
            but for what the server refuses because there are too many requests.
    """

    def __init__(  # noqa: PLR0913 - keyword-only, each with its own meaning
        self,
        client: Any,
        bucket: str,
        *,
        profile: StoreProfile | None = None,
        expected_bucket_owner: str | None = None,
        request_payer: str | None = None,
        signed_client: Callable[[], Any] | None = None,
        retries: Retries | None = None,
    ) -> None:
        self.connection = client if isinstance(client, PerProcess) else PerProcess(None, client, name="S3 client")
        self._bucket = bucket
        self.profile = profile or StoreProfile(multipart_checksum=best_crc())
        self._signed_client = [] if signed_client is None else [signed_client]
        self._common = {"ExpectedBucketOwner": expected_bucket_owner, "RequestPayer": request_payer}
        self._etags_are_md5 = True
        self._retries = retries or SLOWED_READ_RETRIES
        self._server: tuple[ProcessBudget, ServerState] | None = None
        if self.connection.passed_in:
            ask_region_once(client)

    def __repr__(self) -> str:
        return f"S3Store({self._bucket!r}, profile={self.profile.name!r})"

    @property
    def client(self) -> Any:
        """The boto3 client of now: after a fork, or once payloads have to be signed, it is another one."""
        return self.connection.current or self.connection.get()

    @property
    def bucket(self) -> str:
        """The bucket's name or access point."""
        return self._bucket

    @property
    def pooled(self) -> int:
        """How many connections the client keeps open."""
        count: int = self.client.meta.config.max_pool_connections
        return count

    @property
    def region(self) -> str | None:
        """The client's region, for pointers; a reader never trusts it."""
        name: str | None = self.client.meta.region_name
        return name

    @property
    def endpoint_url(self) -> str:
        """The server that the client talks to."""
        url: str = self.client.meta.endpoint_url
        return url

    @property
    def server(self) -> ServerState:
        """What this process knows of that server; every request through this store takes part in it."""
        budget, known = process_budget(), self._server
        if known is None or known[0] is not budget:  # the child of a fork has a budget of its own
            known = self._server = (budget, budget.server(self))
        return known[1]

    # Writing -----------------------------------------------------------------------------------------------------

    def put(
        self, key: str, body: Sequence[memoryview], *, checksum: Mapping[str, str], options: WriteOptions
    ) -> Written:
        """Store a whole object; see ``Store.put``.

        S3 takes one checksum a request, so SHA-256 is sent where it is known.
        """
        trial = self.trial_of(options)
        if trial is None:
            return self._put_object(key, body, checksum=checksum, options=options)
        return trial.put(
            lambda: self._put_object(key, body, checksum=checksum, options=options),
            refused=_is_refusal,
            subject=self._subject(key),
        )

    def _put_object(
        self, key: str, body: Sequence[memoryview], *, checksum: Mapping[str, str], options: WriteOptions
    ) -> Written:
        algorithm = "sha256" if "sha256" in checksum else next(iter(checksum))
        answer = self._call(
            "PutObject",
            key,
            Body=request_body(body, sha256=checksum.get("sha256")),
            **self._guard(CHECKSUM_MEMBERS[algorithm], checksum[algorithm], body),
            **self._condition(options),
            **write_parameters(options),
        )
        sent = {algorithm: checksum[algorithm]}
        self._believe("PutObject", key, foreign_put(answer, checksum=sent))
        if self._etags_are_md5 and (why := other_etag(answer, checksum=sent, body=body, bucket=self._bucket)):
            return self._looked_up(key, answer, body, why)
        return written_of(answer)

    def start_upload(self, key: str, *, options: WriteOptions) -> str:
        """Begin a multipart upload; see ``Store.start_upload``."""
        wanted = self.profile.multipart_checksum
        kind = {"ChecksumAlgorithm": "SHA256"} if self.profile.checksum_headers else {}
        if wanted != "parts":
            kind = {"ChecksumAlgorithm": wanted.upper(), "ChecksumType": "FULL_OBJECT"}
        answer = self._call("CreateMultipartUpload", key, **kind, **write_parameters(options))
        if (why := foreign_start(answer, key=key)) is not None:
            self.drop_idle(f"CreateMultipartUpload {self._subject(key)}", why)
            if answer.get("UploadId"):  # of this key after all, or none of anybody's
                self.abort_upload(key, answer["UploadId"])
            answer = self._call("CreateMultipartUpload", key, **kind, **write_parameters(options))
        self._believe("CreateMultipartUpload", key, None if answer.get("UploadId") else "it has no UploadId")
        upload: str = answer["UploadId"]
        return upload

    def put_part(self, key: str, upload: str, number: int, body: Sequence[memoryview], *, checksum: str) -> PartReceipt:
        """Send one part; see ``Store.put_part``."""
        answer = self._call(
            "UploadPart",
            key,
            UploadId=upload,
            PartNumber=number,
            Body=request_body(body, sha256=checksum if self._part_member == CHECKSUM_MEMBERS["sha256"] else None),
            **self._guard(self._part_member, checksum, body),
        )
        self._believe("UploadPart", key, foreign_part(answer, checksum={self._part_algorithm: checksum}))
        return PartReceipt(number=number, etag=answer["ETag"], size=sum(map(len, body)), checksum=checksum)

    def complete_upload(  # noqa: PLR0913 - the protocol's signature
        self,
        key: str,
        upload: str,
        parts: Sequence[PartReceipt],
        *,
        size: int,
        checksum: str | None,
        options: WriteOptions,
    ) -> Written:
        """Commit a multipart upload; see ``Store.complete_upload``."""
        self.try_completion(key, options=options)
        listed = [
            {"PartNumber": part.number, "ETag": part.etag}
            | ({self._part_member: to_base64(part.checksum)} if self.profile.checksum_headers else {})
            for part in parts
        ]
        whole = {}
        if checksum is not None:
            whole = {self._part_member: to_base64(checksum), "ChecksumType": "FULL_OBJECT", "MpuObjectSize": size}
        answer = self._call(
            "CompleteMultipartUpload",
            key,
            UploadId=upload,
            MultipartUpload={"Parts": listed},
            ExpectedBucketOwner=options.expected_bucket_owner or self._common["ExpectedBucketOwner"],
            **whole,
            **self._condition(options),
        )
        sent = {} if checksum is None else {self._part_algorithm: checksum}
        self._believe("CompleteMultipartUpload", key, foreign_completion(answer, key=key, checksum=sent))
        return written_of(answer)

    def abort_upload(self, key: str, upload: str) -> None:
        """Forget a multipart upload; see ``Store.abort_upload``."""
        with contextlib.suppress(UploadGoneError):
            self._call("AbortMultipartUpload", key, UploadId=upload)

    def list_parts(self, key: str, upload: str) -> list[PartReceipt]:
        """Return the parts that the server has; see ``ListsParts.list_parts``."""
        found: list[PartReceipt] = []
        marker: int | None = None
        while True:
            answer = self._call("ListParts", key, UploadId=upload, PartNumberMarker=marker)
            found += [receipt_of(each, self._part_algorithm) for each in answer.get("Parts", ())]
            following = answer.get("NextPartNumberMarker")
            if not answer.get("IsTruncated") or following in {None, marker}:
                return found
            marker = following

    def remove(self, key: str, *, version_id: str | None = None) -> None:
        """Remove an object, or one version of it; one that is not there is no error."""
        self._call("DeleteObject", key, VersionId=version_id)

    def try_completion(self, key: str, *, options: WriteOptions) -> None:
        """See to it, once a process, that CompleteMultipartUpload honours its condition; AWS is not asked.

        Raises:
            ConfigurationError: The server ignores it.
        """
        trial = self.trial_of(options)
        if trial is not None:
            from stepout.artifacts.s3.server_trial import honours_completion

            trial.before_completion(lambda: honours_completion(self, key, options), subject=self._subject(key))

    # Reading -----------------------------------------------------------------------------------------------------

    def head(self, key: str, *, version_id: str | None = None) -> ObjectInfo:
        """Describe an object; see ``Store.head``."""
        mode = "ENABLED" if self.profile.checksum_headers else None
        answer = self._call("HeadObject", key, VersionId=version_id, ChecksumMode=mode)
        if answer.get("ContentLength") is None:
            raise StoreError(
                f"{self._subject(key)}: the server does not say how many bytes it has; nothing was read. A proxy "
                "between may have removed Content-Length"
            )
        return info_of(answer)

    def get(
        self,
        key: str,
        *,
        start: int = 0,
        stop: int | None = None,
        version_id: str | None = None,
        if_match: str | None = None,
    ) -> Download:
        """Open a range of an object; see ``Store.get``."""
        if stop is not None and stop <= start:
            return Arrived(self.head(key, version_id=version_id), memoryview(b""))  # no range that HTTP can ask for
        wanted = None if start == 0 and stop is None else f"bytes={start}-{'' if stop is None else stop - 1}"
        answer = self._call("GetObject", key, Range=wanted, VersionId=version_id, IfMatch=if_match)
        why = foreign_download(answer, start=start, stop=stop, version_id=version_id, if_match=if_match)
        if why is not None:  # said twice, on connections of its own, it is what the server means
            answer["Body"].close()
            self.drop_idle(f"GetObject {self._subject(key)}", why)
            answer = self._call("GetObject", key, Range=wanted, VersionId=version_id, IfMatch=if_match)
            if foreign_download(answer, start=start, stop=stop) is not None:
                answer["Body"].close()
                raise StoreError(
                    f"{self._subject(key)}: bytes from {start:,} on were asked for, and the server answered with "
                    "others; nothing was read. A server between may ignore Range headers"
                )
        return S3Download(answer, info_of(answer), self._subject(key))

    def listing(self, prefix: str) -> list[tuple[str, str]]:
        """Return the keys that begin with ``prefix`` and when each was written, a thousand at most."""
        answer = self._call("ListObjectsV2", prefix, Prefix=prefix)
        return [(each["Key"], each["LastModified"].isoformat()) for each in answer.get("Contents", ())]

    def iter_objects(self, prefix: str) -> Iterator[ListedObject]:
        """Yield every object whose key begins with ``prefix``; see ``Lists.iter_objects``."""
        token: str | None = None
        while True:
            answer = self._call("ListObjectsV2", prefix, Prefix=prefix, ContinuationToken=token)
            for each in answer.get("Contents", ()):
                yield ListedObject(
                    key=each["Key"],
                    size=each["Size"],
                    etag=each.get("ETag"),
                    last_modified=each["LastModified"].isoformat(),
                )
            following = answer.get("NextContinuationToken")
            if following is None or following == token:  # a server that gives one page again and again
                return
            token = following

    def presign(self, key: str, *, version_id: str | None = None, seconds: int) -> str:
        """Return a URL that gives anyone the object for ``seconds``, by Signature Version 4; see ``Store.presign``."""
        parameters = {"Bucket": self._bucket, "Key": key, "VersionId": version_id}
        known = {name: value for name, value in parameters.items() if value is not None}
        return presigned(self.client, known, seconds, request_payer=self._common["RequestPayer"])

    def cancellable(self) -> AbstractContextManager[Cancellation]:
        """Let any thread end the requests that this one sends inside the block; see ``Cancels.cancellable``."""
        return cancellable()

    # Inside ------------------------------------------------------------------------------------------------------

    def drop_idle(self, what: str, why: str) -> None:
        """Give up idle connections: one of them may be ahead of its answers, or behind."""
        _log.warning("%s: this answer cannot be that of the request, %s; connections are opened anew", what, why)
        _close_idle(self.client)

    def _believe(self, operation: str, key: str, why: str | None) -> None:
        """Raise what a lost answer raises, if this one is another request's: what became of ours is not known."""
        if why is not None:
            what = f"{operation} {self._subject(key)}"
            self.drop_idle(what, why)
            raise StoreUnavailableError(f"{what}: the answer cannot be that of this request, {why}. Trying again helps")

    def _looked_up(self, key: str, answer: Mapping[str, Any], body: Sequence[memoryview], why: str) -> Written:
        """Find out whether an ETag that is no MD5 is the server's way, a slip of its answer, or another object's."""
        # Connections first: the look must not get the next stray answer.
        self.drop_idle(f"PutObject {self._subject(key)}", why)
        found = self.head(key)
        if found.etag == answer["ETag"]:
            self._etags_are_md5 = False
            return written_of(answer)
        if not is_md5_of(found.etag, body):
            self._believe("PutObject", key, why)
        # What is there is what was sent, whatever was answered.
        return Written(etag=found.etag, version_id=found.version_id)

    @property
    def _part_algorithm(self) -> str:
        wanted = self.profile.multipart_checksum
        return "sha256" if wanted == "parts" else wanted

    def trial_of(self, options: WriteOptions) -> WriteOnce | None:
        """Return what this process knows of the server's conditions, if a write has one; AWS keeps its promise."""
        if not self._condition(options) or is_aws_endpoint(self.endpoint_url):
            return None
        return write_once_at(self.endpoint_url, self._bucket)

    def _guard(self, member: str, checksum: str, body: Sequence[memoryview]) -> dict[str, str]:
        """Return what lets the server see that the bytes arrived as they were sent."""
        if self.profile.checksum_headers:
            return {member: to_base64(checksum)}
        return {"ContentMD5": to_base64(md5_of(body))}

    @property
    def _part_member(self) -> str:
        return CHECKSUM_MEMBERS[self._part_algorithm]

    def _subject(self, key: str) -> str:
        return f"s3://{self._bucket}/{key}"

    def _condition(self, options: WriteOptions) -> dict[str, Any]:
        if options.mode == "create" and self.profile.conditional_writes:
            return {"IfNoneMatch": "*"}
        return {}

    def _call(self, operation: str, key: str, **parameters: Any) -> Any:
        merged = {**self._common, **{name: value for name, value in parameters.items() if value is not None}}
        known = {name: value for name, value in merged.items() if value is not None}
        if "Prefix" not in known:  # only a listing has no key
            known["Key"] = key
        if operation not in _REPEATED_ABOVE:
            return self._repeated(self._retries, operation, key, known)
        try:
            return self._send(self.client, operation, key, known)
        except AccessDeniedError:
            if operation not in _PAYLOADS or not self._signed_client:
                raise
            return self._send_signed(operation, key, known)

    def _repeated(self, retries: Retries, operation: str, key: str, known: Mapping[str, Any]) -> Any:
        # Not by ``retries.run``, which would call back: most requests succeed at once and need to know nothing of it.
        attempt, began = 1, retries.clock()
        while True:
            try:
                return self._send(self.client, operation, key, known, until=began + retries.seconds)
            except StepoutError as error:
                attempt = retries.next_attempt(error, attempt, began)

    def _send(
        self, client: Any, operation: str, key: str, known: Mapping[str, Any], *, until: float | None = None
    ) -> Any:
        """Send one request, in its turn where the server asks for fewer; all but the routes' go through here."""
        cancellation = current_cancellation()
        if cancellation is not None and cancellation.cancelled:
            raise cancelled_request(f"{operation} {self._subject(key)}")
        pace = self.server.pace
        admission = pace.admit(until) if pace.engaged else None
        try:
            answer = getattr(client, _METHOD[operation])(Bucket=self._bucket, **known)
        except Exception as error:
            if cancellation is not None and cancellation.cancelled:
                raise (from_handler(error) or cancelled_request(f"{operation} {self._subject(key)}")) from error
            found = self._translated(error, client, operation, key)
            if isinstance(found, SlowDownError):
                pace.refused(admission)
                raise SlowDownError(f"{found}. {pace}") from error
            if admission is not None and not isinstance(found, StoreUnavailableError):
                pace.succeeded(admission)  # it was taken, and answered
            raise found from error
        if admission is not None:
            pace.succeeded(admission)
        return answer

    def _translated(self, error: Exception, client: Any, operation: str, key: str) -> StepoutError:
        from stepout.artifacts.s3.errors import translate

        region = client.meta.region_name
        # An answer that came before the body was sent leaves a connection half-used; ours are closed by then.
        if operation in _PAYLOADS and self.connection.passed_in:
            _close_idle(client)
        return translate(error, operation=operation, subject=self._subject(key), client_region=region)

    def _send_signed(self, operation: str, key: str, known: Mapping[str, Any]) -> Any:
        # Only one thread tries: each would build a client, which takes a second. The others repeat their request
        # through whatever client is the current one by then. ``pop`` gives it to one of them, and needs no lock.
        try:
            make = self._signed_client.pop()
        except IndexError:  # another thread has just settled it
            return self._send(self.client, operation, key, known)
        signed = make()
        answer = self._send(signed, operation, key, known)
        self.connection.become(make, signed)
        return answer


def _close_idle(client: Any) -> None:
    """Close the connections of a client that nobody uses at the moment; it opens others when it needs them."""
    close = getattr(client, "close", None)
    if callable(close):
        with contextlib.suppress(Exception):
            close()


def _is_refusal(error: Exception) -> bool:
    return isinstance(error, ArtifactExistsError | ConflictError)

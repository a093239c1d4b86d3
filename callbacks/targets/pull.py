"""Pull mode, for ``.sync`` of ECS, EKS, Batch and Glue: the outcome is an S3 object, which a later state reads.

The output document is written last and once: ``PutObject`` with ``If-None-Match: *``, so of several attempts the first
success wins, and a later success is told so. A failure gets a key beside the document, never the document's own key.
Conditional writes and their answers (412, 409):
https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from typing import TYPE_CHECKING, Any, Final

from stepout.callbacks.delivery.answers import answer_to, status_of
from stepout.callbacks.delivery.clients import build_client
from stepout.callbacks.delivery.decisions import Answer
from stepout.callbacks.delivery.retry_loop import RetryLoop
from stepout.callbacks.targets.local import failure_document
from stepout.callbacks.targets.pull_reading import body_of
from stepout.schemas.array import own_url
from stepout.schemas.errors import ConfigurationError, InvalidDocumentError, TaskClosedError
from stepout.schemas.progress import progress_key
from stepout.schemas.pull import failure_key
from stepout.schemas.runtime.process import PerProcess
from stepout.schemas.runtime.s3_profile import is_aws_endpoint, payer_of, profile_words_from
from stepout.schemas.runtime.write_once import write_once_at
from stepout.schemas.text.foreign_text import logger
from stepout.schemas.text.json_text import dump_json, load_json
from stepout.schemas.text.locations import MAX_KEY_BYTES, key_fault, split_s3_url

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mypy_boto3_s3 import S3Client

    from stepout.callbacks.targets.context import TargetContext
    from stepout.schemas import RunIdentity
    from stepout.schemas.progress import TaskProgress

_log = logger("stepout.callbacks.pull")

_TAKEN: Final = 412
_REFUSALS: Final = frozenset({409, 412})
_MISSING: Final = 404
_BUCKET: Final = re.compile(r"[A-Za-z0-9._-]{3,255}|arn:aws[a-z0-9-]*:s3[a-z0-9:/._-]*|(?!.)")  # or it is missing
_LOOKED_AT: Final = 1 << 20  # bytes to read of an object that is at the URL already; no attempt's output is larger
_NONCE_BYTES: Final = 6
_FAILURE_ROOM: Final = 64  # bytes by which a failure's key may be longer than the output's


def target_from_url(url: str, context: TargetContext) -> PullTarget:
    """Make the target for ``s3://bucket/key``; each child of an array job gets its own key.

    Raises:
        ConfigurationError: The URL is invalid, no client could be built, or the execution is not known.
    """
    check_run(url, context.run)
    reached: Any = {"profile": profile_words_from(context.environ), "request_payer": payer_of(context.environ)}
    target = PullTarget(own_url(url, context.environ), context.run, environ=context.environ, **reached)
    target.connect()
    return target


def check_run(url: str, run: RunIdentity) -> None:
    """Raise ``ConfigurationError`` if a reader could not tell which run wrote this output.

    The URL alone does not tell, because an earlier run may have had the same URL.
    """
    if run.execution is None:
        raise ConfigurationError(
            f"{url.partition(':')[0]}: STEPOUT_EXECUTION is not set, so nobody who reads the outcome could tell "
            "whose it is: pass $$.Execution.Id, or any name that only this run has, such as the job's id (and the "
            "same to whoever resolves it)"
        )


class PullTarget:
    """Writes the outcome to an S3 object, from which a later state reads it.

    Args:
        url: ``s3://bucket/key``; it must be new for each state of each execution.
        run: Identifies this run; its attempt is part of a failure's key.
        client: A boto3 S3 client, used as it is; one with short timeouts and without hidden retries is built otherwise.
        profile: The words of ``STEPOUT_S3_PROFILE``; with any but ``aws``, a client that is built here addresses
            buckets by path.
        request_payer: ``"requester"`` for buckets whose readers pay.
        environ: The task's environment: it gives the region where boto3 knows none; ``None`` for ``os.environ``.
        nonce: Part of a failure's key; by default the run's own, or a random one.
        delivery: Retries a report while time is left.

    Raises:
        ConfigurationError: The URL is not of the form ``s3://bucket/key``.
    """

    def __init__(  # noqa: PLR0913 - by keyword, each with its own meaning
        self,
        url: str,
        run: RunIdentity,
        client: S3Client | None = None,
        *,
        profile: frozenset[str] = frozenset({"aws"}),
        request_payer: str | None = None,
        environ: Mapping[str, str] | None = None,
        nonce: str | None = None,
        delivery: RetryLoop | None = None,
    ) -> None:
        self._bucket, self._key = _place(url)
        self.url = f"s3://{self._bucket}/{self._key}"
        self._attempt = run.attempt
        self._nonce = nonce or run.nonce or os.urandom(_NONCE_BYTES).hex()
        self._profile = profile
        self._payer: dict[str, Any] = {} if request_payer is None else {"RequestPayer": request_payer}
        self._client = PerProcess(
            lambda: build_client("s3", profile=profile, environ=environ, near=self._bucket), client, name="S3 client"
        )
        self._delivery = delivery or RetryLoop(
            f"Allow s3:PutObject and s3:GetObject on {self.url}* to the task's role, under KMS also "
            "kms:GenerateDataKey and kms:Decrypt, and see that AWS_DEFAULT_REGION is its region. A server "
            "that is not AWS's may need STEPOUT_S3_PROFILE (stepout doctor --probe)."
        )

    def __repr__(self) -> str:
        return f"PullTarget({self.url!r})"

    @property
    def failure_url(self) -> str:
        """Where this attempt's failure goes, if it fails."""
        return f"s3://{self._bucket}/{self._failure_key}"

    def limit(self, seconds: float) -> None:
        """Make every report give up so many seconds from now; callable from any thread."""
        self._delivery.limit(seconds)

    def success(self, document: Mapping[str, Any]) -> None:
        """Write the output document, unless one is there already.

        Raises:
            TaskClosedError: Another attempt succeeded first; no output points to this attempt's artifacts.
            ConfigurationError: The server ignores conditions, so that the last success would win, not the first.
            TaskError: The report could not be delivered.
        """
        body = dump_json(document)
        lost = False

        def put() -> None:
            nonlocal lost
            try:
                self._put_once(body)
            except Exception as error:
                if status_of(error) == _TAKEN:
                    self._settle(body, ours_perhaps=lost)
                    return
                # S3 may have stored the object although it answered 500 or 503: then the object at the URL can be ours.
                lost = lost or answer_to(error) in {Answer.LOST, Answer.UNAVAILABLE}
                raise

        self._delivery.run(f"PutObject {self.url}", put)

    def failure(self, error: str, cause: str) -> None:
        """Write ``{"error": …, "cause": …}`` beside the place of the output document.

        Raises:
            TaskError: The report could not be delivered.
        """
        body = dump_json(failure_document(error, cause))
        self._delivery.run(f"PutObject {self.failure_url}", lambda: self._put(self._failure_key, body))

    def report_progress(self, progress: TaskProgress) -> None:
        """Write ``{url}.progress.json``, in one request; it replaces what is there, and nobody takes it for an outcome.

        Raises:
            TaskError: It was not written.
        """
        key = progress_key(self._key)
        what = f"PutObject s3://{self._bucket}/{key}"
        self._delivery.run(what, lambda: self._put(key, progress.to_text().encode()), tries=1)

    def heartbeat(self) -> None:
        """Send nothing, because the service that started the task watches it; but build the client for the report.

        Raises:
            ConfigurationError: No client could be built.
        """
        self.connect()

    def connect(self) -> S3Client:
        """Return the client, built now if need be.

        Raises:
            ConfigurationError: No client could be built, e.g. because no region is set.
        """
        return self._client.get()

    @property
    def _failure_key(self) -> str:
        return failure_key(self._key, attempt=self._attempt, nonce=self._nonce)

    def _put_once(self, body: bytes) -> None:
        """Write the output document if there is none yet, by a conditional write or after a check."""
        if "unconditional" in self._profile:
            if self._there(len(body)) is not None:
                self._settle(body, ours_perhaps=True)
                return
            self._put(self._key, body)
            return
        endpoint = str(self.connect().meta.endpoint_url)
        if is_aws_endpoint(endpoint):
            self._put(self._key, body, IfNoneMatch="*")
            return
        write_once_at(endpoint, self._bucket).put(
            lambda: self._put(self._key, body, IfNoneMatch="*"),
            refused=lambda error: status_of(error) in _REFUSALS,
            subject=self.url,
        )

    def _put(self, key: str, body: bytes, **condition: Any) -> None:
        if "no-checksums" in self._profile:
            md5 = hashlib.md5(body, usedforsecurity=False).digest()
            guard = {"ContentMD5": base64.b64encode(md5).decode()}
        else:
            guard = {"ChecksumSHA256": base64.b64encode(hashlib.sha256(body).digest()).decode()}
        more: dict[str, Any] = {**guard, **condition, **self._payer}
        answer = self.connect().put_object(
            Bucket=self._bucket, Key=key, Body=body, ContentType="application/json", **more
        )
        sent = guard.get("ChecksumSHA256")
        if answer.get("ChecksumSHA256", sent) != sent:  # whether this request succeeded is not known
            raise ConnectionError("the answer is another request's: it repeats another checksum than was sent")

    def _there(self, size: int) -> bytes | None:
        """Return what lies at the URL, empty if it is larger than any output; ``None`` if there is nothing."""
        try:
            answer = self.connect().get_object(Bucket=self._bucket, Key=self._key, **self._payer)
        except Exception as error:
            if status_of(error) == _MISSING:
                return None
            raise
        return body_of(answer, max(size, _LOOKED_AT)) or b""

    def _settle(self, body: bytes, *, ours_perhaps: bool) -> None:
        """Find out whether the object is this report's, from a try whose answer was lost, or another attempt's."""
        try:
            there = self._there(len(body))
        except Exception as error:
            if answer_to(error) is not Answer.DENIED or ours_perhaps:
                raise
            raise _closed(self.url, "an output that this task may not read (s3:GetObject)") from error
        if there != body:
            raise _closed(self.url, winner_of(there or b""))


def winner_of(text: bytes | str) -> str:
    """Name the run that wrote an output, for people, and show nothing else of the output."""
    try:
        document = load_json(text)
    except InvalidDocumentError:
        return "something that is no output document"
    producer = document.get("producer") if isinstance(document, dict) else None
    attempt = producer.get("attempt") if isinstance(producer, dict) else None
    return f"the output of attempt {attempt}" if isinstance(attempt, int) else "another output"


def _closed(url: str, winner: str) -> TaskClosedError:
    return TaskClosedError(
        f"{url} holds {winner}: the first success counts, and this one came later. Its artifacts were written, but "
        "nothing points to them, and they may be removed. If no other attempt ran, the URL was used before: build it "
        "from $$.Execution.Name and the state's name"
    )


def _place(url: str) -> tuple[str, str]:
    try:
        bucket, key = split_s3_url(url)
        fault = key_fault(key)
    except ValueError:
        bucket, key, fault = "", "", "is missing"
    if not _BUCKET.fullmatch(bucket):
        raise ConfigurationError("pull mode wants s3://bucket/key; the URL's bucket has a name that no bucket has")
    if fault is None and len(key.encode()) > MAX_KEY_BYTES - _FAILURE_ROOM:
        fault = f"has over {MAX_KEY_BYTES - _FAILURE_ROOM} bytes, which leaves no room for the failures beside it"
    if fault is not None:
        raise ConfigurationError(f"pull mode wants s3://bucket/key; the URL's key {fault}")
    return bucket, key

"""From an answer of S3, or the lack of one, to an error of ours: pure functions of code, status and operation.

Codes are S3's (https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html). A HEAD has no body, so its
"code" is only the status.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from stepout.artifacts.job_signals import from_handler
from stepout.artifacts.store import ConflictError, UploadGoneError
from stepout.schemas.errors import (
    AccessDeniedError,
    ArtifactChangedError,
    ArtifactExistsError,
    ArtifactNotFoundError,
    ChecksumMismatchError,
    ConfigurationError,
    SizeMismatchError,
    StoreError,
    StoreUnavailableError,
)

if TYPE_CHECKING:
    from stepout.schemas.errors import StepoutError

__all__ = ["CREDENTIALS_REFUSED", "IAM_ACTION", "Answer", "classify", "translate"]

IAM_ACTION = {
    "PutObject": "s3:PutObject",
    "CreateMultipartUpload": "s3:PutObject",
    "UploadPart": "s3:PutObject",
    "CompleteMultipartUpload": "s3:PutObject",
    "AbortMultipartUpload": "s3:AbortMultipartUpload",
    "HeadObject": "s3:GetObject",
    "ListObjectsV2": "s3:ListBucket",
    "GetObject": "s3:GetObject",
}
_READS = frozenset({"HeadObject", "GetObject"})

_EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired"})
_BAD_IDENTITY = frozenset({"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "InvalidClientTokenId"})
CREDENTIALS_REFUSED = _EXPIRED | _BAD_IDENTITY
"""Codes that every request with the same credentials is answered with."""
_WRONG_REGION = frozenset(
    {"PermanentRedirect", "TemporaryRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"}
)
_BAD_CHECKSUM = frozenset({"BadDigest", "InvalidDigest", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch"})
_BUSY = frozenset(
    {
        "SlowDown",
        "InternalError",
        "ServiceUnavailable",
        "RequestTimeout",
        "OperationAborted",
        "Throttling",
        "TooManyRequests",
    }
)
_KMS = "KMS."

_DENIED, _MISSING, _CONFLICT, _PRECONDITION, _SERVER, _NOT_IMPLEMENTED = 403, 404, 409, 412, 500, 501


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What S3 said, as far as it matters here.

    Attributes:
        operation: As botocore names it, e.g. ``PutObject``.
        code: S3's error code; for a HEAD the status as text.
        status: The HTTP status; 200 is possible for CompleteMultipartUpload.
        subject: ``s3://bucket/key``.
        detail: S3's own message.
        region: The region that S3 says the bucket is in, if it says so.
        client_region: The region that the client talks to.
    """

    operation: str
    code: str
    status: int
    subject: str
    detail: str = ""
    region: str | None = None
    client_region: str | None = None


def classify(answer: Answer) -> StepoutError:
    """Turn S3's answer into the error to raise."""
    for rule in (_identity, _denied, _wrong_region, _absent, _condition, _integrity, _unsupported, _busy):
        error = rule(answer)
        if error is not None:
            return error
    return StoreError(_say(answer, f"S3 answered {answer.status} {answer.code}", answer.detail))


def _say(answer: Answer, what: str, advice: str = "") -> str:
    text = f"{answer.operation} {answer.subject}: {what}"
    return f"{text}. {advice}".rstrip(". ") if advice else text


def _identity(answer: Answer) -> StepoutError | None:
    if answer.code in _EXPIRED:
        advice = "Temporary credentials were copied or not renewed; use the task role, which rotates by itself"
        return AccessDeniedError(_say(answer, f"the credentials have expired ({answer.code})", advice))
    if answer.code == "RequestTimeTooSkewed":
        return StoreError(
            _say(answer, "this machine's clock is more than 15 minutes off (RequestTimeTooSkewed)", "Set it")
        )
    if answer.code in _BAD_IDENTITY:
        advice = "Check the access key, the secret, and that both belong to this endpoint"
        return AccessDeniedError(_say(answer, f"the credentials were refused ({answer.code})", advice))
    return None


def _denied(answer: Answer) -> StepoutError | None:
    if answer.code.startswith(_KMS):
        advice = "The caller needs kms:GenerateDataKey to write and kms:Decrypt to read, on an enabled key"
        return AccessDeniedError(_say(answer, f"KMS refused ({answer.code})", advice))
    if answer.code == "InvalidObjectState":
        return StoreError(_say(answer, "the object is archived (InvalidObjectState)", "Restore it before reading it"))
    if answer.status != _DENIED and answer.code != "AccessDenied":
        return None
    if "kms:" in answer.detail.lower():
        return AccessDeniedError(
            _say(answer, "access denied by KMS", "Grant kms:GenerateDataKey and kms:Decrypt on the key")
        )
    action = IAM_ACTION.get(answer.operation, f"s3:{answer.operation}")
    if answer.operation in _READS:
        advice = f"Grant {action} on it; without s3:ListBucket on the bucket, S3 does not tell the two apart"
        return AccessDeniedError(_say(answer, "denied or missing", advice))
    advice = f"Grant {action} on it, and check the bucket policy and the expected bucket owner"
    return AccessDeniedError(_say(answer, "access denied", advice))


def _wrong_region(answer: Answer) -> StepoutError | None:
    if answer.code not in _WRONG_REGION and answer.status not in (301, 307):
        return None
    where = f"in {answer.region}" if answer.region else "in another region"
    asked = f", the client asks {answer.client_region}" if answer.client_region else ""
    advice = f"Set AWS_DEFAULT_REGION={answer.region or '…'} or pass a client of that region"
    return ConfigurationError(_say(answer, f"the bucket is {where}{asked} ({answer.code})", advice))


def _absent(answer: Answer) -> StepoutError | None:
    if answer.code == "NoSuchBucket":
        return ArtifactNotFoundError(_say(answer, "the bucket does not exist", "Check its name and the endpoint"))
    if answer.code == "NoSuchUpload":
        return UploadGoneError(_say(answer, "the multipart upload does not exist: aborted, expired or completed"))
    if answer.code == "NoSuchVersion":
        return ArtifactNotFoundError(_say(answer, "the object does not exist in this version"))
    if answer.status == _MISSING and answer.operation not in _READS:
        return ArtifactNotFoundError(_say(answer, f"not found ({answer.code})", "Check the bucket and the endpoint"))
    if answer.status == _MISSING or answer.code == "NoSuchKey":
        return ArtifactNotFoundError(_say(answer, "the object does not exist"))
    return None


def _condition(answer: Answer) -> StepoutError | None:
    if answer.status == _PRECONDITION or answer.code == "PreconditionFailed":
        if answer.operation in _READS:
            return ArtifactChangedError(_say(answer, "the object has changed since it was written (412)"))
        return ArtifactExistsError(_say(answer, "the key is taken (412)", "Nothing was written"))
    if answer.status == _CONFLICT or answer.code in ("ConditionalRequestConflict", "OperationAborted"):
        return ConflictError(_say(answer, f"a concurrent write to the same key ({answer.code})", "Nothing was written"))
    return None


def _integrity(answer: Answer) -> StepoutError | None:
    if answer.code in _BAD_CHECKSUM and answer.operation == "CompleteMultipartUpload":
        advice = "If it is a server without full-object checksums, set STEPOUT_S3_PROFILE=compatible"
        what = f"the server does not find the checksum of the parts that it took ({answer.code})"
        return ChecksumMismatchError(_say(answer, what, advice))
    if answer.code in _BAD_CHECKSUM:
        return ChecksumMismatchError(_say(answer, f"the bytes that arrived are not those sent ({answer.code})"))
    if answer.code == "InvalidRequest" and "checksum" in answer.detail.lower():
        advice = f"{answer.detail}. For servers without full-object checksums set STEPOUT_S3_PROFILE=compatible"
        return ChecksumMismatchError(_say(answer, "the server refused the checksum", advice))
    if answer.code in ("EntityTooLarge", "EntityTooSmall", "IncompleteBody"):
        return SizeMismatchError(_say(answer, f"the server refused the size ({answer.code})", answer.detail))
    return None


def _unsupported(answer: Answer) -> StepoutError | None:
    if answer.status != _NOT_IMPLEMENTED and answer.code != "NotImplemented":
        return None
    advice = "Leave out what it does not know, or set STEPOUT_S3_PROFILE=compatible if it is not AWS"
    what = f"the server does not support something that was asked for ({answer.code})"
    return ConfigurationError(_say(answer, what, f"{answer.detail.rstrip('. ')}. {advice}".lstrip(". ")))


def _busy(answer: Answer) -> StepoutError | None:
    if answer.code in _BUSY or answer.status >= _SERVER or answer.status == 429:  # noqa: PLR2004 - Too Many Requests
        what = f"the store went on answering {answer.status} {answer.code}"
        return StoreUnavailableError(_say(answer, what, "Trying again later may help"))
    return None


# From botocore's exceptions to the above ---------------------------------------------------------------------------


def translate(error: Exception, *, operation: str, subject: str, client_region: str | None = None) -> StepoutError:
    """Turn whatever botocore raised into one of ours; the caller raises it from the original.

    What a signal's handler of the job's raised meanwhile is raised as it is: it is no answer of S3's.
    """
    from botocore import exceptions

    if isinstance(error, exceptions.ClientError):
        return classify(_answer(error.response, operation, subject, client_region))
    if (own := from_handler(error)) is not None:
        raise own
    again = "Trying again later may help"
    rules: tuple[tuple[tuple[type[Exception], ...], type[StepoutError], str], ...] = (
        (
            (exceptions.FlexibleChecksumError,),
            ChecksumMismatchError,
            "the bytes that arrived have another checksum than S3 sent",
        ),
        (
            (exceptions.NoCredentialsError, exceptions.PartialCredentialsError),
            AccessDeniedError,
            "no credentials. Give the task a role, or set AWS_PROFILE",
        ),
        (
            (exceptions.TokenRetrievalError, exceptions.SSOError),
            AccessDeniedError,
            f"the credentials could not be fetched ({type(error).__name__})",
        ),
        (
            (exceptions.CredentialRetrievalError,),  # the endpoint of the task role is busy or restarts
            StoreUnavailableError,
            f"the credentials could not be fetched ({type(error).__name__}). {again}",
        ),
        (
            (exceptions.HTTPClientError, exceptions.ConnectionError, exceptions.IncompleteReadError, OSError),
            StoreUnavailableError,
            f"{_wire(error)}. {again}",
        ),
        ((exceptions.BotoCoreError,), ConfigurationError, str(error)),
    )
    for kinds, ours, text in rules:
        if isinstance(error, kinds):
            return ours(f"{operation} {subject}: {text}")
    return StoreError(f"{operation} {subject}: {type(error).__name__}: {error}")


def _wire(error: Exception) -> str:
    name = type(error).__name__
    kind = "timed out" if "Timeout" in name else "the connection failed"
    place = urlsplit(str(getattr(error, "kwargs", {}).get("endpoint_url", "")))
    where = f" to {place.scheme}://{place.netloc}" if place.netloc else ""
    return f"{kind}{where} ({name})"


def _answer(response: Any, operation: str, subject: str, client_region: str | None) -> Answer:
    said = response.get("Error", {})
    meta = response.get("ResponseMetadata", {})
    headers = meta.get("HTTPHeaders", {})
    return Answer(
        operation=operation,
        code=str(said.get("Code", "")),
        status=int(meta.get("HTTPStatusCode", 0)),
        subject=subject,
        detail=str(said.get("Message", "")),
        region=said.get("Region") or headers.get("x-amz-bucket-region"),
        client_region=client_region,
    )

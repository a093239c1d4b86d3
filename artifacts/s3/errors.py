"""From an answer of S3, or the lack of one, to an error of ours: pure functions of code, status and operation.

Codes are S3's (https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html). A HEAD has no body, so its
"code" is only the status.
"""

from __future__ import annotations

from dataclasses import dataclass
from email.utils import formatdate
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from stepout.artifacts.s3.job_signals import from_handler
from stepout.artifacts.store import (
    ConflictError,
    ConnectionBrokenError,
    InvalidPartError,
    PlaceMissingError,
    SlowDownError,
    UploadGoneError,
)
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
from stepout.schemas.runtime.regions import NO_REGION

if TYPE_CHECKING:
    from stepout.schemas.errors import StepoutError

IAM_ACTION = {
    "PutObject": "s3:PutObject",
    "CreateMultipartUpload": "s3:PutObject",
    "UploadPart": "s3:PutObject",
    "CompleteMultipartUpload": "s3:PutObject",
    "AbortMultipartUpload": "s3:AbortMultipartUpload",
    "ListParts": "s3:ListMultipartUploadParts",
    "DeleteObject": "s3:DeleteObject",
    "HeadObject": "s3:GetObject",
    "ListObjectsV2": "s3:ListBucket",
    "ListObjectVersions": "s3:ListBucketVersions",
    "ListMultipartUploads": "s3:ListBucketMultipartUploads",
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
        "InternalError",
        "ServiceUnavailable",
        "RequestTimeout",
        "OperationAborted",
    }
)
_SLOW = frozenset(
    {
        "BandwidthLimitExceeded",
        "RequestLimitExceeded",
        "RequestThrottled",
        "SlowDown",
        "SlowDownRead",
        "SlowDownWrite",
        "Throttling",
        "ThrottlingException",
        "TooManyRequests",
        "TooManyRequestsException",
    }
)
_SLOWER = "reduce your request rate"
_UNAVAILABLE, _TOO_MANY = 503, 429
_KMS = "KMS."

_PROBE = "stepout doctor --probe s3://BUCKET/PREFIX says what the server needs"
_CHECKSUM_PROFILES = (
    "For servers without full-object checksums of multipart uploads set STEPOUT_S3_PROFILE=compatible, for those that "
    f"refuse x-amz-checksum headers STEPOUT_S3_PROFILE=no-checksums; {_PROBE}"
)
_PROFILES = (
    "If it is not AWS, set STEPOUT_S3_PROFILE to compatible (no full-object checksums), no-checksums (no checksum "
    f"headers) or unconditional (no If-None-Match); {_PROBE}"
)
_REFUSED = frozenset({400, 405, 415})
_PROFILED = frozenset({"PutObject", "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload", "HeadObject"})
# What AWS answers with 400, and no profile would change.
_OF_THE_CALLER = frozenset(
    {
        "EntityTooLarge",
        "EntityTooSmall",
        "ExpiredToken",
        "InvalidBucketName",
        "InvalidStorageClass",
        "InvalidTag",
        "KeyTooLongError",
        "MalformedXML",
        "MetadataTooLarge",
        "RequestTimeout",
        "UserKeyMustBeSpecified",
    }
)

_DENIED, _MISSING, _CONFLICT, _PRECONDITION, _SERVER, _NOT_IMPLEMENTED = 403, 404, 409, 412, 500, 501
_BAD_REQUEST = 400
_MOVED = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True, kw_only=True)
class S3Answer:
    """What S3 said, as far as it matters here.

    Attributes:
        operation: As botocore names it, e.g. ``PutObject``.
        code: S3's error code; for a HEAD the status as text.
        status: The HTTP status; 200 is possible for CompleteMultipartUpload.
        subject: ``s3://bucket/key``.
        detail: S3's own message.
        storage_class: Where S3 says that it keeps the object.
        region: The region that S3 says the bucket is in, if it says so.
        client_region: The region that the client talks to.
        elsewhere: The server that requests should go to instead, if the answer says so; never a whole URL.
        asked_at: What time it is here.
        answered_at: What time S3 says that it is there.
    """

    operation: str
    code: str
    status: int
    subject: str
    detail: str = ""
    storage_class: str | None = None
    region: str | None = None
    client_region: str | None = None
    elsewhere: str = ""
    asked_at: str = ""
    answered_at: str = ""


def classify(answer: S3Answer) -> StepoutError:
    """Turn S3's answer into the error to raise."""
    for rule in (_slowed, _identity, _denied, _wrong_region, _absent, _condition, _integrity, _unsupported, _busy):
        error = rule(answer)
        if error is not None:
            return error
    return StoreError(_say(answer, f"S3 answered {answer.status} {answer.code}", answer.detail))


def _say(answer: S3Answer, what: str, advice: str = "") -> str:
    text = f"{answer.operation} {answer.subject}: {what}"
    return f"{text}. {advice}".rstrip(". ") if advice else text


def _payer(answer: S3Answer) -> str:
    """Name the setting, where S3 itself says that whoever asks has to pay."""
    if "requester" not in answer.detail.lower():
        return ""
    return '. Its readers pay: say request_payer="requester" (STEPOUT_REQUEST_PAYER=requester)'


def _identity(answer: S3Answer) -> StepoutError | None:
    if answer.code in _EXPIRED:
        advice = "Temporary credentials were copied or not renewed; use the task role, which rotates by itself"
        return AccessDeniedError(_say(answer, f"the credentials have expired ({answer.code})", advice))
    if answer.code == "RequestTimeTooSkewed":
        clocks = f". Here it is {answer.asked_at}, at the server {answer.answered_at}" if answer.answered_at else ""
        what = f"this machine's clock, or the server's, is more than 15 minutes off (RequestTimeTooSkewed){clocks}"
        return StoreError(_say(answer, what, "Set it"))
    if answer.code in _BAD_IDENTITY:
        advice = "Check the access key, the secret, and that both belong to this endpoint"
        return AccessDeniedError(_say(answer, f"the credentials were refused ({answer.code})", advice))
    return None


def _denied(answer: S3Answer) -> StepoutError | None:
    if answer.code.startswith(_KMS):
        advice = "The caller needs kms:GenerateDataKey to write and kms:Decrypt to read, on an enabled key"
        return AccessDeniedError(_say(answer, f"KMS refused ({answer.code})", advice))
    if answer.code == "InvalidObjectState":
        kept = f", storage class {answer.storage_class}" if answer.storage_class else ""
        advice = (
            "Restore it first (aws s3api restore-object), which takes minutes to days, and keep what states still read "
            "in STANDARD, STANDARD_IA, GLACIER_IR or INTELLIGENT_TIERING"
        )
        return StoreError(_say(answer, f"the object is archived and cannot be read (InvalidObjectState{kept})", advice))
    if answer.status != _DENIED and answer.code != "AccessDenied":
        return None
    if "kms:" in answer.detail.lower():
        return AccessDeniedError(
            _say(answer, "access denied by KMS", "Grant kms:GenerateDataKey and kms:Decrypt on the key")
        )
    action = IAM_ACTION.get(answer.operation, f"s3:{answer.operation}")
    if answer.operation in _READS:
        advice = (
            f"Grant {action} on it; without s3:ListBucket on the bucket, S3 does not tell the two apart{_payer(answer)}"
        )
        return AccessDeniedError(_say(answer, "denied or missing", advice))
    advice = f"Grant {action} on it, and check the bucket policy and the expected bucket owner{_payer(answer)}"
    return AccessDeniedError(_say(answer, "access denied", advice))


def _wrong_region(answer: S3Answer) -> StepoutError | None:
    other = answer.region is not None and answer.region != answer.client_region
    moved = answer.status in _MOVED
    # The answer to a HEAD has no code, but perhaps a header.
    unnamed = answer.operation == "HeadObject" and answer.status == _BAD_REQUEST and other
    if not (moved or unnamed or answer.code in _WRONG_REGION):
        return None
    code = f"({answer.status})" if answer.code in {"", str(answer.status)} else f"({answer.status} {answer.code})"
    asked = answer.client_region or "its own"
    if other:
        advice = (
            f"Set AWS_DEFAULT_REGION={answer.region}, and AWS_ENDPOINT_URL_S3, if it is set, to an endpoint of that "
            "region; or pass a client of it"
        )
        return ConfigurationError(
            _say(answer, f"the bucket is in {answer.region}, the client asks {asked} {code}", advice)
        )
    what = f"the server does not take requests for the region {asked} {code}"
    if moved:
        what = f"the server sends requests {answer.elsewhere or 'elsewhere'} {code}"
    advice = (
        "The bucket is in another region, or the endpoint is wrong: set AWS_DEFAULT_REGION to the bucket's region, and "
        "AWS_ENDPOINT_URL_S3, if it is set, to where that answers; or pass such a client"
    )
    return ConfigurationError(_say(answer, what, _with(answer.detail, advice)))


def _absent(answer: S3Answer) -> StepoutError | None:
    if answer.code == "NoSuchBucket":
        return PlaceMissingError(_say(answer, "the bucket does not exist", "Check its name and the endpoint"))
    if answer.code == "NoSuchUpload":
        return UploadGoneError(_say(answer, "the multipart upload does not exist: aborted, expired or completed"))
    if answer.code == "NoSuchVersion":
        return ArtifactNotFoundError(_say(answer, "the object does not exist in this version"))
    if answer.status == _MISSING and answer.operation not in _READS:
        return ArtifactNotFoundError(_say(answer, f"not found ({answer.code})", "Check the bucket and the endpoint"))
    if answer.status == _MISSING or answer.code == "NoSuchKey":
        return ArtifactNotFoundError(_say(answer, "the object does not exist"))
    return None


def _condition(answer: S3Answer) -> StepoutError | None:
    if answer.status == _PRECONDITION or answer.code == "PreconditionFailed":
        if answer.operation in _READS:
            return ArtifactChangedError(_say(answer, "the object has changed since it was written (412)"))
        return ArtifactExistsError(_say(answer, "the key is taken (412)", "Nothing was written"))
    if answer.status == _CONFLICT or answer.code in ("ConditionalRequestConflict", "OperationAborted"):
        return ConflictError(_say(answer, f"a concurrent write to the same key ({answer.code})", "Nothing was written"))
    return None


def _integrity(answer: S3Answer) -> StepoutError | None:
    if answer.code == "InvalidPart":
        what = "the server has another part than the one that was sent, or does not have it (InvalidPart)"
        return InvalidPartError(_say(answer, what, "Nothing was stored"))
    if answer.code in _BAD_CHECKSUM and answer.operation == "CompleteMultipartUpload":
        advice = f"If it is a server without full-object checksums, set STEPOUT_S3_PROFILE=compatible; {_PROBE}"
        what = f"the server does not find the checksum of the parts that it took ({answer.code})"
        return ChecksumMismatchError(_say(answer, what, advice))
    if answer.code in _BAD_CHECKSUM:
        return ChecksumMismatchError(_say(answer, f"the bytes that arrived are not those sent ({answer.code})"))
    if answer.code == "InvalidRequest" and "checksum" in answer.detail.lower():
        advice = _with(answer.detail, _CHECKSUM_PROFILES)
        return ChecksumMismatchError(_say(answer, "the server refused the checksum", advice))
    if answer.code in ("EntityTooLarge", "EntityTooSmall", "IncompleteBody"):
        return SizeMismatchError(_say(answer, f"the server refused the size ({answer.code})", answer.detail))
    return None


def _unsupported(answer: S3Answer) -> StepoutError | None:
    """Say what to do about a server that is not AWS's: one that lacks something, or refuses a header."""
    lacking = answer.status == _NOT_IMPLEMENTED or answer.code == "NotImplemented"
    refused = answer.status in _REFUSED and answer.operation in _PROFILED
    refused = refused and answer.code not in _OF_THE_CALLER | _BUSY
    if not lacking and not refused:
        return None
    detail = answer.detail.lower()
    if "checksum" in detail:
        what, advice = "the server refuses checksum headers", _CHECKSUM_PROFILES
    elif "if-none-match" in detail or "conditional" in detail:
        what, advice = "the server refuses conditional writes", f"Set STEPOUT_S3_PROFILE=unconditional; {_PROBE}"
    elif lacking:
        what = "the server does not support something that was asked for"
        advice = f"Leave out what it does not know. {_PROFILES}"
    else:
        advice = _PROFILES
        if answer.operation == "HeadObject":  # without a body, and so without a code
            advice = f"The region may be another one than {answer.client_region}: see AWS_DEFAULT_REGION. {_PROFILES}"
        return StoreError(_say(answer, f"S3 answered {answer.status} {answer.code}", _with(answer.detail, advice)))
    return ConfigurationError(_say(answer, f"{what} ({answer.code})", _with(answer.detail, advice)))


def _with(detail: str, advice: str) -> str:
    return f"{detail.rstrip('. ')}. {advice}" if detail else advice


def is_slow_down(status: int, code: str, detail: str = "", *, head: bool = False) -> bool:
    """Say whether an answer asks for fewer requests, and its request was not carried out.

    Args:
        status: HTTP's.
        code: S3's.
        detail: S3's message.
        head: Whether a HEAD was answered, which has no body: of its 503 S3's usual reason is taken for granted.
    """
    unavailable = status == _UNAVAILABLE and (head or _SLOWER in detail.lower())
    return code in _SLOW or status == _TOO_MANY or unavailable


def _slowed(answer: S3Answer) -> StepoutError | None:
    if not is_slow_down(answer.status, answer.code, answer.detail, head=answer.operation == "HeadObject"):
        return None
    code = answer.code if answer.code != str(answer.status) else ""
    what = f"the server went on asking for fewer requests ({f'{answer.status} {code}'.rstrip()})"
    advice = (
        "S3 counts the requests of each prefix: give tasks that run at once prefixes that differ in their first "
        "characters, or run fewer of them at once"
    )
    return SlowDownError(_say(answer, what, advice))


def _busy(answer: S3Answer) -> StepoutError | None:
    if answer.code in _BUSY or answer.status >= _SERVER:
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
        ((exceptions.ConnectionClosedError,), ConnectionBrokenError, f"{_wire(error)}. {again}"),
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


def translate_item(error: Exception, *, url: str, table: str) -> StepoutError:
    """Turn whatever a DynamoDB client raised when it read an item into one of ours; as ``translate`` does.

    Args:
        error: What it raised.
        url: The item's, ``dynamodb://table/key``.
        table: The table's name.
    """
    from botocore.exceptions import ClientError, NoRegionError

    code = error.response.get("Error", {}).get("Code") if isinstance(error, ClientError) else None
    if code == "ResourceNotFoundException":
        return PlaceMissingError(f"there is no DynamoDB table {table} in this account and region")
    if code == "AccessDeniedException":
        return AccessDeniedError(f"GetItem: access to the DynamoDB table {table} denied. Grant dynamodb:GetItem on it")
    if isinstance(error, NoRegionError):
        return ConfigurationError(f"{url} cannot be read: {NO_REGION}")
    return translate(error, operation="GetItem", subject=url)


def _wire(error: Exception) -> str:
    name = type(error).__name__
    kind = "timed out" if "Timeout" in name else "the connection failed"
    if type(getattr(error, "kwargs", {}).get("error")).__name__ == "NameResolutionError":  # urllib3's
        kind = "the server's name could not be looked up for the connection"
    place = _server_of(str(getattr(error, "kwargs", {}).get("endpoint_url", "")))
    where = f" to {place}" if place else ""
    return f"{kind}{where} ({name})"


def _server_of(url: str) -> str:
    """Return the beginning of a URL that names a server; the rest may have credentials in it, as may its user."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}" if parts.netloc else ""


def _detail(said: Any) -> str:
    """Return S3's message, and which header it is about (NotImplemented, InvalidArgument)."""
    message, header = str(said.get("Message", "")), said.get("Header") or said.get("ArgumentName")
    return f"{message.rstrip('. ')} ({header})" if header and str(header) not in message else message


def _answer(response: Any, operation: str, subject: str, client_region: str | None) -> S3Answer:
    said = response.get("Error", {})
    meta = response.get("ResponseMetadata", {})
    headers = meta.get("HTTPHeaders", {})
    return S3Answer(
        operation=operation,
        code=str(said.get("Code", "")),
        status=int(meta.get("HTTPStatusCode", 0)),
        subject=subject,
        detail=_detail(said),
        storage_class=said.get("StorageClass") or headers.get("x-amz-storage-class"),
        region=said.get("Region") or headers.get("x-amz-bucket-region"),
        client_region=client_region,
        elsewhere=f"to {place}" if (place := said.get("Endpoint") or _server_of(headers.get("location", ""))) else "",
        asked_at=formatdate(usegmt=True),
        answered_at=str(headers.get("date", "")),
    )

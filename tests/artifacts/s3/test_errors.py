"""What S3 says, and what we say then: pure, so every case is one line."""

from __future__ import annotations

import re

import pytest
from botocore import exceptions

from stepout.artifacts.s3.errors import S3Answer, classify, translate
from stepout.artifacts.store import ConflictError, InvalidPartError, PlaceMissingError, SlowDownError, UploadGoneError
from stepout.schemas.errors import (
    AccessDeniedError,
    ArtifactChangedError,
    ArtifactExistsError,
    ArtifactNotFoundError,
    ChecksumMismatchError,
    ConfigurationError,
    SizeMismatchError,
    StepoutError,
    StoreError,
    StoreUnavailableError,
)

CASES: list[tuple[str, str, int, type[StepoutError], str]] = [
    ("PutObject", "NoSuchBucket", 404, PlaceMissingError, "the bucket does not exist"),
    ("PutObject", "AccessDenied", 403, AccessDeniedError, "Grant s3:PutObject"),
    ("AbortMultipartUpload", "AccessDenied", 403, AccessDeniedError, "Grant s3:AbortMultipartUpload"),
    ("HeadObject", "403", 403, AccessDeniedError, "denied or missing.*s3:ListBucket"),
    ("GetObject", "AccessDenied", 403, AccessDeniedError, "denied or missing"),
    ("PutObject", "ExpiredToken", 400, AccessDeniedError, "expired.*task role"),
    ("PutObject", "InvalidAccessKeyId", 403, AccessDeniedError, "credentials were refused"),
    ("PutObject", "SignatureDoesNotMatch", 403, AccessDeniedError, "credentials were refused"),
    ("PutObject", "RequestTimeTooSkewed", 403, StoreError, "clock"),
    ("GetObject", "KMS.DisabledException", 400, AccessDeniedError, "kms:Decrypt"),
    ("GetObject", "InvalidObjectState", 403, StoreError, "archived.*Restore"),
    ("HeadObject", "301", 301, ConfigurationError, "another region"),
    ("PutObject", "PermanentRedirect", 301, ConfigurationError, "another region"),
    ("PutObject", "AuthorizationHeaderMalformed", 400, ConfigurationError, "another region"),
    ("PutObject", "IllegalLocationConstraintException", 400, ConfigurationError, "another region"),
    ("HeadObject", "404", 404, ArtifactNotFoundError, "the object does not exist"),
    ("GetObject", "NoSuchKey", 404, ArtifactNotFoundError, "the object does not exist"),
    ("GetObject", "NoSuchVersion", 404, ArtifactNotFoundError, "in this version"),
    ("PutObject", "NotFound", 404, ArtifactNotFoundError, "not found"),
    ("ListParts", "AccessDenied", 403, AccessDeniedError, "Grant s3:ListMultipartUploadParts"),
    ("CompleteMultipartUpload", "InvalidPart", 400, InvalidPartError, "another part than the one that was sent"),
    ("CompleteMultipartUpload", "NoSuchUpload", 404, UploadGoneError, "aborted, expired or completed"),
    ("PutObject", "PreconditionFailed", 412, ArtifactExistsError, "the key is taken"),
    ("CompleteMultipartUpload", "PreconditionFailed", 200, ArtifactExistsError, "the key is taken"),
    ("GetObject", "PreconditionFailed", 412, ArtifactChangedError, "has changed"),
    ("HeadObject", "412", 412, ArtifactChangedError, "has changed"),
    ("PutObject", "ConditionalRequestConflict", 409, ConflictError, "concurrent write"),
    ("PutObject", "OperationAborted", 409, ConflictError, "concurrent write"),
    ("UploadPart", "BadDigest", 400, ChecksumMismatchError, "not those sent"),
    ("UploadPart", "XAmzContentChecksumMismatch", 400, ChecksumMismatchError, "not those sent"),
    ("UploadPart", "XAmzContentSHA256Mismatch", 400, ChecksumMismatchError, "not those sent"),
    ("CompleteMultipartUpload", "EntityTooSmall", 400, SizeMismatchError, "refused the size"),
    ("PutObject", "EntityTooLarge", 400, SizeMismatchError, "refused the size"),
    ("PutObject", "SlowDown", 503, SlowDownError, "503 SlowDown"),
    ("CompleteMultipartUpload", "InternalError", 200, StoreUnavailableError, "InternalError"),
    ("PutObject", "TooManyRequests", 429, SlowDownError, "429"),
    ("HeadObject", "503", 503, SlowDownError, r"fewer requests \(503\)"),
    ("GetObject", "ServiceUnavailable", 503, StoreUnavailableError, "503"),
    ("CompleteMultipartUpload", "BadDigest", 400, ChecksumMismatchError, "STEPOUT_S3_PROFILE=compatible"),
    ("PutObject", "NotImplemented", 501, ConfigurationError, "does not support.*STEPOUT_S3_PROFILE"),
    ("GetObject", "InvalidRange", 416, StoreError, "416 InvalidRange"),
]


@pytest.mark.parametrize(("operation", "code", "status", "expected", "words"), CASES)
def test_each_answer_has_its_error(
    operation: str, code: str, status: int, expected: type[StepoutError], words: str
) -> None:
    """The class says who can do something about it; the message names operation, object and remedy."""
    error = classify(S3Answer(operation=operation, code=code, status=status, subject="s3://bucket/key"))
    assert type(error) is expected
    assert str(error).startswith(f"{operation} s3://bucket/key: ")
    assert re.search(words, str(error))


def test_the_region_is_named_when_s3_names_it() -> None:
    """The message says where the bucket is and where the client asked."""
    response = {
        "Error": {"Code": "301", "Message": "Moved"},
        "ResponseMetadata": {"HTTPStatusCode": 301, "HTTPHeaders": {"x-amz-bucket-region": "eu-west-1"}},
    }
    error = translate(
        exceptions.ClientError(response, "HeadObject"),  # type: ignore[arg-type] # as much as the code looks at
        operation="HeadObject",
        subject="s3://b/k",
        client_region="us-east-1",
    )
    assert isinstance(error, ConfigurationError)
    assert "in eu-west-1, the client asks us-east-1" in str(error)
    assert "AWS_DEFAULT_REGION=eu-west-1" in str(error)


def test_a_location_that_is_no_url_is_left_out() -> None:
    """The error is the same without it."""
    response = {"ResponseMetadata": {"HTTPStatusCode": 301, "HTTPHeaders": {"location": "http://[oops"}}}
    error = exceptions.ClientError(response, "GetObject")  # type: ignore[arg-type] # as much as the code looks at
    found = translate(error, operation="GetObject", subject="s3://b/k", client_region="us-east-1")
    assert "the server sends requests elsewhere (301)" in str(found)


def test_kms_is_recognised_in_the_text_of_an_access_denied() -> None:
    """S3 answers AccessDenied and names the KMS action in its message only."""
    said = "User is not authorized to perform: kms:GenerateDataKey on this resource"
    error = classify(S3Answer(operation="PutObject", code="AccessDenied", status=403, subject="s3://b/k", detail=said))
    assert "access denied by KMS" in str(error)


@pytest.mark.parametrize("operation", ["PutObject", "GetObject"])
def test_a_bucket_whose_readers_pay_points_to_the_setting(operation: str) -> None:
    """Where the server says it in the message of an access denied."""
    said = "Requester pays: the request has no x-amz-request-payer"
    error = classify(S3Answer(operation=operation, code="AccessDenied", status=403, subject="s3://b/k", detail=said))
    assert "STEPOUT_REQUEST_PAYER=requester" in str(error)


def test_a_server_without_full_object_checksums_points_to_the_profile() -> None:
    """The remedy is a setting, so the message names it."""
    said = "Checksum Type FULL_OBJECT is not supported"
    error = classify(
        S3Answer(operation="UploadPart", code="InvalidRequest", status=400, subject="s3://b/k", detail=said)
    )
    assert "STEPOUT_S3_PROFILE=compatible" in str(error)


@pytest.mark.parametrize(
    ("raised", "expected", "words"),
    [
        (exceptions.NoCredentialsError(), AccessDeniedError, "no credentials"),
        (exceptions.PartialCredentialsError(provider="env", cred_var="x"), AccessDeniedError, "no credentials"),
        (exceptions.CredentialRetrievalError(provider="x", error_msg="y"), StoreUnavailableError, "not be fetched"),
        (exceptions.TokenRetrievalError(provider="x", error_msg="y"), AccessDeniedError, "could not be fetched"),
        (exceptions.FlexibleChecksumError(error_msg="x"), ChecksumMismatchError, "another checksum"),
        (exceptions.ConnectTimeoutError(endpoint_url="x"), StoreUnavailableError, "timed out"),
        (exceptions.ReadTimeoutError(endpoint_url="x"), StoreUnavailableError, "timed out"),
        (exceptions.EndpointConnectionError(endpoint_url="x"), StoreUnavailableError, "the connection failed"),
        (
            exceptions.EndpointConnectionError(endpoint_url="http://127.0.0.1:9/bucket/key?X-Amz-Signature=secret"),
            StoreUnavailableError,
            "the connection failed to http://127.0.0.1:9 (",
        ),
        (exceptions.SSLError(endpoint_url="x", error=ValueError("y")), StoreUnavailableError, "the connection failed"),
        (exceptions.IncompleteReadError(actual_bytes=1, expected_bytes=2), StoreUnavailableError, "connection failed"),
        (ConnectionResetError(), StoreUnavailableError, "the connection failed"),
        (exceptions.ParamValidationError(report="Unknown parameter"), ConfigurationError, "Unknown parameter"),
        (RuntimeError("odd"), StoreError, "RuntimeError: odd"),
    ],
)
def test_what_botocore_raises_by_itself_is_translated_too(
    raised: Exception, expected: type[StepoutError], words: str
) -> None:
    """No foreign exception reaches the caller."""
    error = translate(raised, operation="GetObject", subject="s3://b/k")
    assert type(error) is expected
    assert words in str(error)

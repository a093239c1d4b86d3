"""Which ``Answer`` an exception of boto3 stands for."""

from __future__ import annotations

from typing import Any

from stepout.callbacks.delivery.decisions import Answer

# Error codes of the Step Functions model and of AWS's common errors; those of S3, DynamoDB, SQS and SNS only where the
# HTTP status does not decide.
_CODES = {
    "TaskTimedOut": Answer.CLOSED,
    "TaskDoesNotExist": Answer.CLOSED,
    "InvalidToken": Answer.INVALID_TOKEN,
    "InvalidOutput": Answer.INVALID_OUTPUT,
    "KmsAccessDeniedException": Answer.KMS,
    "KmsInvalidStateException": Answer.KMS,
    "KmsThrottlingException": Answer.THROTTLED,
    "ThrottlingException": Answer.THROTTLED,
    "Throttling": Answer.THROTTLED,
    "TooManyRequestsException": Answer.THROTTLED,
    "RequestLimitExceeded": Answer.THROTTLED,
    "RequestThrottled": Answer.THROTTLED,  # SQS, with status 403
    "Throttled": Answer.THROTTLED,
    # DynamoDB, with status 400; S3: two conditional writes at once (409), and a body that took too long (400).
    "ProvisionedThroughputExceededException": Answer.THROTTLED,
    "TransactionConflictException": Answer.THROTTLED,
    "ConditionalRequestConflict": Answer.THROTTLED,
    "OperationAborted": Answer.THROTTLED,
    "RequestTimeout": Answer.UNAVAILABLE,
    "AccessDeniedException": Answer.DENIED,
    "AccessDenied": Answer.DENIED,
    "UnrecognizedClientException": Answer.DENIED,
    "InvalidClientTokenId": Answer.DENIED,
    "InvalidSignatureException": Answer.DENIED,
    "SignatureDoesNotMatch": Answer.DENIED,
    "IncompleteSignature": Answer.DENIED,
    "MissingAuthenticationToken": Answer.DENIED,
    "OptInRequired": Answer.DENIED,
    "AWS.SimpleQueueService.NonExistentQueue": Answer.MISSING,
    "QueueDoesNotExist": Answer.MISSING,
    "InvalidAddress": Answer.MISSING,  # SQS: the queue's URL
    "NotFound": Answer.MISSING,  # SNS
    "ActivityDoesNotExist": Answer.MISSING,
    "InvalidArn": Answer.MISSING,
    "ResourceNotFoundException": Answer.MISSING,
    "NoSuchBucket": Answer.MISSING,
    # Credentials of a task role rotate; the next try fetches new ones.
    "ExpiredTokenException": Answer.UNAVAILABLE,
    "ExpiredToken": Answer.UNAVAILABLE,
}

_TOO_MANY = 429
_FORBIDDEN = (401, 403)
_SERVER = 500
# A gateway's word for "the server behind me did not answer".
_GATEWAY = (502, 504)

# By name, so that this table needs no import of botocore.
_CLASSES = {
    "ConnectTimeoutError": Answer.UNSENT,
    "EndpointConnectionError": Answer.UNSENT,
    "ProxyConnectionError": Answer.UNSENT,
    "SSLError": Answer.UNSENT,
    "MetadataRetrievalError": Answer.UNSENT,
    "CredentialRetrievalError": Answer.UNSENT,
    "NoCredentialsError": Answer.DENIED,
    "PartialCredentialsError": Answer.DENIED,
    "NoRegionError": Answer.DENIED,
    "TokenRetrievalError": Answer.DENIED,
    "UnauthorizedSSOTokenError": Answer.DENIED,
    "ConnectionClosedError": Answer.LOST,
    "ReadTimeoutError": Answer.LOST,
    "HTTPClientError": Answer.LOST,
    "ResponseStreamingError": Answer.LOST,
    "IncompleteReadError": Answer.LOST,
    "ResponseParserError": Answer.LOST,
    "ConnectionRefusedError": Answer.UNSENT,
    "ConnectionError": Answer.LOST,
}


def answer_to(error: BaseException) -> Answer:
    """Return the answer that an exception stands for.

    Args:
        error: From a call of a boto3 client, or from building the client.

    Returns:
        The answer; ``REFUSED`` for an unknown error.
    """
    if _response(error):
        return _by_response(error_code(error), status_of(error))
    for kind in type(error).__mro__:
        if (answer := _CLASSES.get(kind.__name__)) is not None:
            return answer
    return Answer.REFUSED


def _by_response(code: str, status: int) -> Answer:
    if code in _CODES:
        return _CODES[code]
    # KMS.AccessDeniedException (SQS), KMSAccessDenied (SNS), KMS.DisabledException (S3), KMS.ThrottlingException, …
    if code[:3].casefold() == "kms":
        return Answer.THROTTLED if "throttl" in code.casefold() else Answer.KMS
    if status == _TOO_MANY:
        return Answer.THROTTLED
    if status in _GATEWAY:
        return Answer.LOST
    if status >= _SERVER:
        return Answer.UNAVAILABLE
    return Answer.DENIED if status in _FORBIDDEN else Answer.REFUSED


def error_code(error: BaseException) -> str:
    """Return the error code of a service's answer; empty text if the service gave no answer."""
    return str(_response(error).get("Error", {}).get("Code", ""))


def status_of(error: BaseException) -> int:
    """Return the HTTP status of a service's answer; 0 if the service gave no answer."""
    return int(_response(error).get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def condition_failed(error: BaseException) -> bool:
    """Whether DynamoDB refused a write because the write's condition does not hold."""
    return error_code(error) == "ConditionalCheckFailedException"


def name_of(error: BaseException) -> str:
    """Return the error's code, or its class and first line, for people."""
    if response := _response(error):
        code, message = response["Error"].get("Code"), response["Error"].get("Message")
        return f"{code}: {message}" if message else str(code)
    first = str(error).partition("\n")[0]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def _response(error: BaseException) -> dict[str, Any]:
    """What botocore keeps of an answered error (``ClientError.response``); empty for any other exception."""
    response = getattr(error, "response", None)
    return response if isinstance(response, dict) and "Error" in response else {}

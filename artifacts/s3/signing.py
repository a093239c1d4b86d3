"""How the clients that we build sign, by whose clock, and when they wait for the server before they send a body."""

from __future__ import annotations

import threading
from typing import Any, Final

from stepout.artifacts.s3.internals import request_signer, signer_at
from stepout.artifacts.s3.request_bodies import ViewBody
from stepout.artifacts.s3.server_clock import ServerClock

_presigning = threading.local()

_OFFSET: Final = "stepout-clock-offset"


def sign_at_server_time(client: Any) -> None:
    """Let a client sign with the time of its server, once that has refused a request for its time.

    botocore signs with this machine's clock alone. S3 refuses what is more than 15 minutes off, and says in each answer
    what time it is. The request is signed anew and repeated at once, whatever the client was told of retries, and what
    it signs later has the right time from the start. ``server_clock_of`` gives that time to other routes.

    Args:
        client: A boto3 S3 client that nobody else uses yet.
    """
    signer = request_signer(client)
    if signer is None:
        return
    clock = ServerClock()
    original = signer.get_auth_instance

    def get_auth_instance(**arguments: Any) -> Any:
        usual = original(**arguments)
        if not clock.offset or arguments["signature_version"] != "s3v4":
            return usual
        from botocore.auth import S3SigV4Auth

        shifted = signer_at(S3SigV4Auth, clock.now)
        return shifted(usual.credentials, arguments["signing_name"], arguments["region_name"])

    def note_offset(request: Any, **_: Any) -> None:
        request.context.setdefault(_OFFSET, clock.offset)

    def needs_retry(response: Any, request_dict: Any, **_: Any) -> float | None:
        offset = request_dict["context"].get(_OFFSET)
        if response is None or offset is None or not clock.corrected_by(response[1], offset):
            return None
        # Once a request: servers behind one name may each have another time, and refuse it for ever.
        request_dict["context"][_OFFSET] = None
        return 0.0

    signer.get_auth_instance = get_auth_instance
    signer.server_clock = clock
    client.meta.events.register_first("request-created.s3", note_offset, unique_id="stepout-clock-noted")
    client.meta.events.register_first("needs-retry.s3", needs_retry, unique_id="stepout-server-clock")


def server_clock_of(client: Any) -> ServerClock:
    """Return the time of a client's server; this machine's for a client that a caller passed in."""
    found = getattr(request_signer(client), "server_clock", None)
    return found if isinstance(found, ServerClock) else ServerClock()


def sign_known_bodies(client: Any) -> None:
    """Let a client that signs payloads take a body's SHA-256 from the body, which computes it once at most.

    Where awscrt is installed, botocore lets it read the body for every signature, in small pieces under the
    interpreter's lock. Only ``ViewBody`` is signed here; whatever else a request carries, or another kind of signature
    (S3 Express, SigV4a), stays botocore's, and so do credentials, regions and redirects.

    Args:
        client: A boto3 S3 client that nobody else uses yet.
    """
    from botocore.auth import S3SigV4Auth

    signer = request_signer(client)  # botocore offers no other way to choose a signer for one client
    if signer is None:  # then slower, and just as right
        return
    original, clock = signer.get_auth_instance, server_clock_of(client)

    class KnownBody(signer_at(S3SigV4Auth, clock.now)):  # type: ignore[misc] # botocore is imported late
        def payload(self, request: Any) -> str:
            return str(request.body.sha256())

    class Choice:
        def __init__(self, usual: Any, known: Any) -> None:
            self._usual, self._known = usual, known

        def add_auth(self, request: Any) -> None:
            chosen = self._known if isinstance(request.body, ViewBody) else self._usual
            chosen.add_auth(request)

    def get_auth_instance(**arguments: Any) -> Any:
        usual = original(**arguments)
        if arguments["signature_version"] != "s3v4":
            return usual
        known = KnownBody(usual.credentials, arguments["signing_name"], arguments["region_name"])
        return Choice(usual, known)

    signer.get_auth_instance = get_auth_instance


def sign_payloads(client: Any) -> None:
    """Let a client that was built to send payloads unsigned sign them, as one does that was told nothing.

    Only a client knows whether its endpoint has TLS, and building another one takes as long as a hundred requests.

    Args:
        client: A boto3 S3 client that nobody else uses yet.
    """
    # botocore asks the configuration at every signature (``S3SigV4Auth``).
    client.meta.config.s3.pop("payload_signing_enabled", None)


def send_parts_at_once(client: Any) -> None:
    """Send parts without waiting for ``100 Continue``, which costs a round trip each.

    What the wait is for (a denial, another region, before the body has left) has been answered by then: every upload of
    parts begins with a request without a body. Single PutObjects keep it.

    Args:
        client: A boto3 S3 client that nobody else uses yet.
    """
    client.meta.events.register("before-sign.s3.UploadPart", _forget_expect)


def _forget_expect(request: Any, **_: Any) -> None:
    del request.headers["Expect"]  # no error where there is none


def presigned(client: Any, parameters: dict[str, Any], seconds: int, *, request_payer: str | None = None) -> str:
    """Return a presigned URL of a GET, by Signature Version 4.

    botocore presigns for S3 with Version 2 wherever a region still takes that, and only a client's configuration says
    otherwise. So the signer is chosen here, for this call alone: what else presigns with the client is left as it is,
    and so are Multi-Region Access Points, directory buckets and clients without credentials, which sign otherwise.

    Args:
        client: A boto3 S3 client, perhaps another's.
        parameters: Of ``GetObject``.
        seconds: How long the URL is to be valid.
        request_payer: Who pays, which the URL then says: a header would be theirs to send who use it
            (https://docs.aws.amazon.com/AmazonS3/latest/userguide/ObjectsinRequesterPaysBuckets.html).
    """
    events = client.meta.events
    events.register_first("choose-signer.s3.GetObject", _choose_version_4, unique_id="stepout-presigned")
    events.register_first("before-endpoint-resolution.s3", _name_the_region, unique_id="stepout-presigned-region")
    events.register_first("before-sign.s3.GetObject", _say_who_pays, unique_id="stepout-presigned-payer")
    _presigning.on, _presigning.payer = True, request_payer
    try:
        return str(client.generate_presigned_url("get_object", Params=parameters, ExpiresIn=seconds))
    finally:
        _presigning.on = False


def _name_the_region(context: dict[str, Any], **_: Any) -> None:
    # The global endpoint redirects to the region of a new bucket, and the host is part of what Version 4 signs.
    if getattr(_presigning, "on", False):
        context["use_global_endpoint"] = False


def _say_who_pays(request: Any, **_: Any) -> None:
    if getattr(_presigning, "on", False) and _presigning.payer is not None:
        request.url += f"{'&' if '?' in request.url else '?'}x-amz-request-payer={_presigning.payer}"


def _choose_version_4(signature_version: Any, **_: Any) -> str | None:
    usual = ("s3-query", "s3v4-query", "v4-query", "v2-query")
    return "s3v4-query" if getattr(_presigning, "on", False) and signature_version in usual else None

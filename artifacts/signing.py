"""How the clients that we build sign bodies made of views, and when they wait for the server before they send one."""

from __future__ import annotations

from typing import Any

from stepout.artifacts.bodies import ViewBody

__all__ = ["send_parts_at_once", "sign_known_bodies"]


def sign_known_bodies(client: Any) -> None:
    """Let a client that signs payloads take a body's SHA-256 from the body, which computes it once at most.

    Where awscrt is installed, botocore lets it read the body for every signature, in small pieces under the
    interpreter's lock. Only ``ViewBody`` is signed here; whatever else a request carries, or another kind of signature
    (S3 Express, SigV4a), stays botocore's, and so do credentials, regions and redirects.

    Args:
        client: A boto3 S3 client that nobody else uses yet.
    """
    from botocore.auth import S3SigV4Auth

    signer = getattr(client, "_request_signer", None)  # botocore offers no other way to choose a signer for one client
    if signer is None:  # then slower, and just as right
        return
    original = signer.get_auth_instance

    class KnownBody(S3SigV4Auth):  # botocore is imported late
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

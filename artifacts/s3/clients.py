"""Which store a ``client=`` argument means, and the clients that are built where none was passed.

Stores over a client are imported when there is one: a cold read (``cold_start``) does without.
"""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from stepout.artifacts.store import is_store
from stepout.schemas.errors import ArtifactNotFoundError, ConfigurationError
from stepout.schemas.runtime.process import PerProcess
from stepout.schemas.runtime.s3_profile import PROFILE_VARIABLE, payer_of, profile_words

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stepout.artifacts.s3.fast_store import FastS3Store
    from stepout.artifacts.s3.routes.small_requests import SmallReads
    from stepout.artifacts.s3.store import S3Store
    from stepout.artifacts.store import Store
    from stepout.artifacts.store_writes import StoreProfile


def profile_named(name: str) -> StoreProfile:
    """Return the profile that these words make.

    ``aws``: full-object checksums of multipart uploads (CRC64NVME with awscrt, else CRC32) and conditional writes.
    ``compatible``: a checksum per part only; conditional writes as well, which MinIO, Ceph, SeaweedFS and ministack
    honour. ``unconditional``: the same for servers that ignore conditions: a look, then a write. ``no-checksums``: for
    servers that refuse checksum headers. The last two can stand together: see ``docs/how-to/s3-servers.md``.

    Raises:
        ConfigurationError: There is no such profile.
    """
    return _profile_of(profile_words(name))


def _profile_of(words: frozenset[str]) -> StoreProfile:
    from stepout.artifacts.checksums import best_crc  # a cold read does without these two
    from stepout.artifacts.store_writes import StoreProfile

    if words == {"aws"}:
        return StoreProfile(name="aws", multipart_checksum=best_crc())
    return StoreProfile(
        name=" ".join(sorted(words - {"compatible"}, reverse=True)) or "compatible",
        multipart_checksum="parts",
        conditional_writes="unconditional" not in words,
        checksum_headers="no-checksums" not in words,
    )


def profile_from_env(environ: Mapping[str, str] | None = None) -> StoreProfile:
    """Return the profile that ``STEPOUT_S3_PROFILE`` names; ``aws`` where it is unset or empty.

    Raises:
        ConfigurationError: It names no profile.
    """
    return profile_named((os.environ if environ is None else environ).get(PROFILE_VARIABLE) or "aws")


def checked_payer(payer: object) -> str | None:
    """Return ``request_payer`` if it is one of its values.

    Raises:
        ConfigurationError: It is not.
    """
    if payer is None or payer == "requester":
        return "requester" if payer else None
    raise ConfigurationError(f"request_payer is {payer!r}: expected 'requester' or None")


def payer_from_env(environ: Mapping[str, str] | None = None) -> str | None:
    """Return what ``STEPOUT_REQUEST_PAYER`` says: ``"requester"``, or ``None`` where it is unset or empty.

    Raises:
        ConfigurationError: It says something else.
    """
    return payer_of(os.environ if environ is None else environ)


def make_client(  # noqa: PLR0913 - keyword-only, each with its own meaning
    *,
    endpoint_url: str | None = None,
    region: str | None = None,
    near: str | None = None,
    connections: int | None = None,
    profile: StoreProfile | None = None,
    sign_payload: bool | None = None,
    tries: int = 3,
    reads_only: bool = False,
    aws_profile: str | None = None,
    **client_options: Any,
) -> Any:
    """Build an S3 client that reads every body once.

    It comes from botocore's session, which is what boto3's wraps: credentials, region and endpoint are found in the
    same places. What boto3 adds (``upload_file``, resources) is not used here, and loading it costs every cold start.

    Checksums are ours and travel as headers, so botocore computes none. Payloads go unsigned over TLS, which protects
    them already, and signed over plain HTTP.

    Args:
        endpoint_url: Where S3 is; ``None``: AWS, or what the environment says.
        region: ``None``: what the environment says, ``AWS_REGION`` last.
        near: The ARN of something in the region, for where the environment names none: an access point's, say.
        connections: How many stay open; ``None``: as many as a process's transfers may have together.
        profile: With any but ``aws``, buckets are addressed by path.
        sign_payload: ``True`` signs over TLS too, ``False`` not even over plain HTTP, where nothing but the checksum
            then ties the bytes to the request.
        tries: How often botocore sends a request. 1 for a client that only stores use: they repeat what is worth it
            (``retries``), and botocore's tries would multiply theirs.
        reads_only: It sends no bodies. Then none is prepared for, and none is signed otherwise than by botocore.
        aws_profile: What ``AWS_PROFILE`` would say, which is not asked then.
        client_options: Passed on to botocore, e.g. ``aws_access_key_id``.

    Raises:
        ConfigurationError: botocore could not build a client, e.g. for want of a region.
    """
    from botocore.exceptions import BotoCoreError
    from botocore.session import get_session

    from stepout.artifacts.s3.client_models import find_s3_alone
    from stepout.artifacts.s3.connections.pools import use_own_connections
    from stepout.artifacts.s3.redirects import ask_region_once
    from stepout.artifacts.s3.signing import send_parts_at_once, sign_at_server_time, sign_known_bodies, sign_payloads
    from stepout.schemas.runtime.regions import fallback_region

    # As the variable would: credentials of the environment come before those of a profile that it names.
    session = get_session({"profile": (None, None, aws_profile, None)} if aws_profile else None)
    try:
        find_s3_alone(session)
        region = region or session.get_config_variable("region") or fallback_region(os.environ, near=near)
        options = {**client_options, "endpoint_url": endpoint_url, "region_name": region}
        signed = bool(sign_payload)
        client = session.create_client("s3", config=_config(connections, profile, tries, signed=signed), **options)
        if sign_payload is None and client.meta.endpoint_url.startswith("http:"):
            signed = True
            sign_payloads(client)
    except (BotoCoreError, ValueError) as error:
        raise ConfigurationError(f"no S3 client could be built: {error}") from error
    use_own_connections(client)
    ask_region_once(client)
    sign_at_server_time(client)
    if reads_only:
        return client
    send_parts_at_once(client)
    if signed:
        sign_known_bodies(client)
    return client


def _config(connections: int | None, profile: StoreProfile | None, tries: int, *, signed: bool) -> Any:
    from botocore.config import Config

    from stepout.artifacts.process.budget import CONNECTIONS
    from stepout.artifacts.s3.connections.watch import READ_SECONDS, SEND_SECONDS

    s3: dict[str, Any] = {} if signed else {"payload_signing_enabled": False}
    if profile is not None and profile.name != "aws":
        s3["addressing_style"] = "path"
    return Config(
        connect_timeout=SEND_SECONDS,
        read_timeout=READ_SECONDS,
        max_pool_connections=CONNECTIONS if connections is None else connections,
        retries={"mode": "standard", "total_max_attempts": tries},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        tcp_keepalive=True,
        user_agent_extra="stepout",
        s3=cast("Any", s3),
    )


def own_client(
    *, profile: StoreProfile | None = None, near: str | None = None, sign_payload: bool | None = None
) -> PerProcess[Any]:
    """Return a client of our own for ``store_for``, made when it is needed, and anew in a forked process.

    Args:
        profile: ``None``: what ``STEPOUT_S3_PROFILE`` says when it is made.
        near: As for ``make_client``.
        sign_payload: As for ``make_client``.
    """
    return PerProcess(
        lambda: make_client(profile=profile or profile_from_env(), near=near, sign_payload=sign_payload, tries=1),
        name="S3 client",
    )


class ReaderSettings(NamedTuple):
    """Where a client that reads finds its server and its credentials; names only, so they may travel.

    Attributes:
        endpoint_url: Where S3 is; ``None``: AWS, or what the environment says.
        aws_profile: The profile of the shared configuration files; ``None``: what the environment says.
    """

    endpoint_url: str | None = None
    aws_profile: str | None = None

    def client(self) -> Any:
        """Build a client for stores that only read.

        Raises:
            ConfigurationError: As for ``make_client``.
        """
        return make_client(
            endpoint_url=self.endpoint_url,
            aws_profile=self.aws_profile,
            profile=profile_from_env(),
            sign_payload=True,
            tries=1,
            reads_only=True,
        )

    def settled(self, environ: Mapping[str, str] | None = None) -> ReaderSettings:
        """Return them with what the environment says in the place of what they leave open; a password in a URL goes."""
        found = os.environ if environ is None else environ
        ignored = found.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true"
        endpoint = None if ignored else found.get("AWS_ENDPOINT_URL_S3") or found.get("AWS_ENDPOINT_URL")
        profile = found.get("AWS_DEFAULT_PROFILE") or found.get("AWS_PROFILE")
        endpoint = self.endpoint_url or endpoint or None
        if endpoint is not None:  # botocore passes over it, but a pickle would show it
            endpoint = re.sub("^([a-z]+://)[^/?#]*@", r"\1", endpoint)
        return ReaderSettings(endpoint, self.aws_profile or profile or None)


def store_for(  # noqa: PLR0913 - keyword-only, each with its own meaning
    client: Any,
    bucket: str,
    *,
    profile: StoreProfile | None = None,
    expected_bucket_owner: str | None = None,
    request_payer: str | None = None,
    own: bool = False,
    near: str | None = None,
) -> Store:
    """Say which store a ``client=`` argument means.

    Args:
        client: ``None``: a client is built from the environment. A store, such as ``MemoryStore``: itself. Anything
            else: a boto3 S3 client, used as it is.
        bucket: The bucket that is wanted.
        profile: What the server can do; ``None``: what ``STEPOUT_S3_PROFILE`` says.
        expected_bucket_owner: The account that the bucket must belong to.
        request_payer: ``"requester"`` for buckets whose readers pay; ``None``: what ``STEPOUT_REQUEST_PAYER`` says.
        own: The client is ``own_client``'s; small objects may then take faster routes, as they may with ``None``.
        near: As for ``make_client``; the bucket's own, if it is an access point's ARN.

    Raises:
        ArtifactNotFoundError: A store was passed, and it holds another bucket.
        ConfigurationError: There is no such profile, or no client could be built.
    """
    if is_store(client):
        if client.bucket != bucket:
            message = f"s3://{bucket}: no such bucket, the store that was passed as client holds {client.bucket!r} only"
            raise ArtifactNotFoundError(message)
        return client
    payer = request_payer or payer_from_env()
    signed: PerProcess[Any] | None = None
    if client is None:
        near = bucket if bucket.startswith("arn:") else near
        client, own = own_client(profile=profile, near=near), True
        if client.get().meta.endpoint_url.startswith("https:"):
            signed = own_client(profile=profile, near=near, sign_payload=True)

    return own_store(
        client,
        bucket,
        profile=profile,
        expected_bucket_owner=expected_bucket_owner,
        request_payer=payer,
        signed=signed,
        own=own,
    )


def own_store(  # noqa: PLR0913 - keyword-only, each with its own meaning
    client: Any,
    bucket: str,
    *,
    profile: StoreProfile | None = None,
    expected_bucket_owner: str | None,
    request_payer: str | None,
    signed: PerProcess[Any] | None = None,
    own: bool = True,
    settings: ReaderSettings | None = None,
) -> FastS3Store | S3Store:
    """Return the store over a client, ours or a caller's, as ``store_for`` says.

    Args:
        client: A boto3 S3 client, or a ``PerProcess`` of one.
        bucket: The bucket that is wanted.
        profile: As for ``store_for``.
        expected_bucket_owner: The account that the bucket must belong to.
        request_payer: ``"requester"`` for buckets whose readers pay; the environment is not asked.
        signed: Makes a client that signs payloads, where ``client`` does not.
        own: As for ``store_for``.
        settings: What ``client`` was made from, where that is more than the environment.

    Raises:
        ConfigurationError: ``STEPOUT_S3_PROFILE`` names no profile.
    """
    # Refused now if there is no such profile, though it may be made later.
    words = profile_words(os.environ.get(PROFILE_VARIABLE) or "aws")

    def ordinary() -> S3Store:
        from stepout.artifacts.retries import READ_RETRIES
        from stepout.artifacts.s3.store import S3Store

        return S3Store(
            client,
            bucket,
            profile=profile or _profile_of(words),
            expected_bucket_owner=expected_bucket_owner,
            request_payer=request_payer,
            signed_client=None if signed is None else signed.get,
            retries=READ_RETRIES if own else None,
        )

    if not own:
        return ordinary()
    from stepout.artifacts.s3.fast_store import FastS3Store

    first: list[SmallReads] = []
    settings = settings or ReaderSettings()
    # The cold route cannot say whose bucket is expected, nor who pays, and knows no profiles. Once botocore is loaded
    # it saves nothing.
    plain = expected_bucket_owner is None and request_payer is None and settings.aws_profile is None
    if plain and "botocore" not in sys.modules:
        from stepout.artifacts.s3.routes.cold_start import cold_route

        route = cold_route(bucket, by_path=words != {"aws"}, endpoint_url=settings.endpoint_url)
        first = [] if route is None else [route]
    return FastS3Store(bucket, ordinary, first=first)


def make_dynamodb_client(connections: int) -> Any:
    """Build a DynamoDB client that reads outcomes, by boto3's session: a program may have set up its default one.

    Args:
        connections: How many stay open.
    """
    import boto3
    from botocore.config import Config

    from stepout.schemas.runtime.regions import fallback_region

    session = boto3.DEFAULT_SESSION or boto3.session.Session()
    region = session.region_name or fallback_region(os.environ)
    config = Config(connect_timeout=5, read_timeout=20, max_pool_connections=connections)
    return session.client("dynamodb", region_name=region, config=config)

"""The buckets that a manager reaches: its own, and those that it adopts from."""

from __future__ import annotations

from typing import Any

from stepout.artifacts.keys import check_prefix
from stepout.artifacts.s3.clients import profile_named, store_for
from stepout.artifacts.store import Store
from stepout.artifacts.store_writes import StoreProfile
from stepout.schemas.errors import ConfigurationError
from stepout.schemas.rules import POINTER_TEXTS
from stepout.schemas.text.locations import split_s3_url


class Buckets:
    """Makes the store of a bucket.

    Args:
        client: A boto3 S3 client, or a store, which is used for every bucket; ``None``: one is built.
        profile: What the server can do; ``None`` means that ``STEPOUT_S3_PROFILE`` decides.
        expected_bucket_owner: An account id.
        request_payer: ``"requester"`` where the requester pays.
        near: The execution's ARN, for its region.
    """

    def __init__(
        self,
        client: Any,
        *,
        profile: StoreProfile | None,
        expected_bucket_owner: str | None,
        request_payer: str | None,
        near: str | None,
    ) -> None:
        self._client, self._profile = client, profile
        self._expected_bucket_owner, self._request_payer, self._near = expected_bucket_owner, request_payer, near

    def own(self, bucket: str | Store, prefix: str) -> tuple[Store, str]:
        """Return the manager's own store, and the checked prefix of its keys.

        Raises:
            ConfigurationError: There is no bucket, the prefix is not safe, or the client is invalid.
        """
        if isinstance(bucket, Store):
            if self._client is not None:
                raise ConfigurationError(
                    "bucket is a store already: pass a bucket's name with client=, or the store alone"
                )
            self._client = bucket
            check_bucket(bucket.bucket)
            return bucket, check_prefix(prefix)
        name, prefix = place_of(bucket, prefix)
        check_client(self._client)
        return self.store(name), prefix

    def store(self, bucket: str) -> Store:
        """Return the store of a bucket by its name."""
        return store_for(
            self._client,
            bucket,
            profile=self._profile,
            expected_bucket_owner=self._expected_bucket_owner,
            request_payer=self._request_payer,
            near=self._near,
        )


def check_bucket(bucket: str) -> str:
    """Return a bucket's name, or the ARN of an access point, if a pointer can hold it.

    Raises:
        ConfigurationError: A pointer cannot hold it.
    """
    problem = next(POINTER_TEXTS["bucket"].problems(bucket, "bucket"), None)
    if problem is not None:
        raise ConfigurationError(f"bucket {bucket[:80]!r} {problem.message}; nothing was sent")
    return bucket


def place_of(bucket: object, prefix: str) -> tuple[str, str]:
    """Return the bucket and the checked prefix from the arguments ``bucket`` and ``prefix``.

    Args:
        bucket: A bucket's name, an access point's ARN, or ``s3://bucket/prefix``, to which ``prefix`` is appended.
        prefix: See ``check_prefix``.

    Raises:
        ConfigurationError: ``bucket`` names no bucket, or the prefix is not safe.

    >>> place_of("s3://results/runs/", "team")
    ('results', 'runs/team')
    """
    if not isinstance(bucket, str) or not bucket:
        shown = "empty" if bucket == "" else f"of type {type(bucket).__name__}"
        msg = f"bucket is {shown}: expected a bucket's name, s3://bucket/prefix or a store"
        raise ConfigurationError(f"{msg}; set STEPOUT_BUCKET or pass bucket=. Nothing was sent")
    if not bucket.startswith("s3://"):
        return check_bucket(bucket), check_prefix(prefix)
    try:
        name, above = split_s3_url(bucket)
    except ValueError:
        raise ConfigurationError(f"{bucket!r} is no s3://bucket/prefix; nothing was sent") from None
    above = check_prefix(above)
    return check_bucket(name), check_prefix(f"{above}/{prefix}" if above and prefix else above or prefix)


def check_profile(profile: StoreProfile | str | None) -> StoreProfile | None:
    """Return the profile that an argument means; ``None`` means that ``STEPOUT_S3_PROFILE`` decides.

    Raises:
        ConfigurationError: The profile is invalid.
    """
    if profile is None or isinstance(profile, StoreProfile):
        return profile
    if not isinstance(profile, str):
        msg = f"profile is of type {type(profile).__name__}: expected 'aws', 'compatible', … or a StoreProfile"
        raise ConfigurationError(msg)
    return profile_named(profile)


def check_client(client: Any) -> None:
    """Refuse a client that is neither a boto3 S3 client nor a store.

    Raises:
        ConfigurationError: The client is neither.
    """
    if client is None or isinstance(client, Store) or callable(getattr(client, "put_object", None)):
        return
    msg = f"client is of type {type(client).__module__}.{type(client).__qualname__}: expected boto3.client('s3')"
    raise ConfigurationError(f"{msg} (of a boto3 resource: resource.meta.client), a store such as MemoryStore, or None")

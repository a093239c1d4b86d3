"""The options of a manager's writes, checked before anything is sent."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal

from stepout.artifacts.retention import KEEP_TAG, keep_tag
from stepout.artifacts.s3.clients import checked_payer, payer_from_env, profile_from_env
from stepout.artifacts.store import ARCHIVES
from stepout.artifacts.store_writes import Encryption, WriteOptions
from stepout.artifacts.transfer.plan import TransferSettings
from stepout.schemas import RunIdentity
from stepout.schemas.errors import ConfigurationError
from stepout.schemas.problems import member
from stepout.schemas.runtime.environment import meant_for, warn_of_unknown

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from stepout.artifacts.commit_record import RecordedTask

# https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-tagging.html
_TAGS, _TAG_NAME, _TAG_VALUE = 10, 128, 256
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingMetadata.html
_METADATA_BYTES: Final = 2048
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$&'*+.^_`|~-]+")
_ACCOUNT = re.compile(r"[0-9]{12}")


@dataclass(frozen=True, kw_only=True)
class ObjectLock:
    """Object Lock for every object of a manager; its bucket must have it switched on.

    Attributes:
        mode: ``"GOVERNANCE"`` or ``"COMPLIANCE"``, together with ``retain_until``.
        retain_until: With its time zone.
        legal_hold: Keep it until somebody lifts the hold.
    """

    mode: Literal["GOVERNANCE", "COMPLIANCE"] | None = None
    retain_until: datetime | None = None
    legal_hold: bool = False

    def __post_init__(self) -> None:
        if (self.mode is None) != (self.retain_until is None):
            raise ConfigurationError("object_lock: mode and retain_until belong together")
        if self.mode not in (None, "GOVERNANCE", "COMPLIANCE"):
            raise ConfigurationError(f"object_lock: mode is {self.mode!r}, expected 'GOVERNANCE' or 'COMPLIANCE'")
        if self.retain_until is not None and self.retain_until.tzinfo is None:
            raise ConfigurationError("object_lock: retain_until has no time zone; pass datetime(..., tzinfo=UTC)")

    def parameters(self) -> dict[str, object]:
        """Return PutObject's parameters for it."""
        found: dict[str, object] = {}
        if self.mode is not None:
            found |= {"ObjectLockMode": self.mode, "ObjectLockRetainUntilDate": self.retain_until}
        if self.legal_hold:
            found["ObjectLockLegalHoldStatus"] = "ON"
        return found


def encryption_of(setting: Encryption | str | None) -> Encryption | None:
    """Return the encryption for an ``encryption=`` argument.

    Args:
        setting: ``Encryption(…)``; ``"AES256"``; ``"aws:kms"``, the account's own key for S3; or the ARN or alias of a
            KMS key.

    Raises:
        ConfigurationError: The setting is invalid.
    """
    if setting is None or isinstance(setting, Encryption):
        return setting
    if setting == "AES256":
        return Encryption()
    if setting == "aws:kms":
        return Encryption(kms=True)
    if isinstance(setting, str) and setting.startswith(("arn:", "alias/")):
        return Encryption(kms_key=setting)
    shown = repr(setting) if isinstance(setting, str) else f"of type {type(setting).__name__}"
    msg = "expected Encryption(kms_key=…, bucket_key=…), 'AES256', 'aws:kms', or the ARN or alias of a KMS key"
    raise ConfigurationError(f"encryption is {shown}: {msg}")


def check_transfer(settings: TransferSettings | None) -> TransferSettings:
    """Return the settings of a transfer; ``None`` stands for the usual ones.

    Raises:
        ConfigurationError: The settings are of another type.
    """
    if settings is not None and not isinstance(settings, TransferSettings):
        raise ConfigurationError(
            f"settings is of type {type(settings).__name__}: expected TransferSettings(memory=…, connections=…)"
        )
    return settings or TransferSettings()


def write_options(  # noqa: PLR0913 - one keyword for each setting of S3
    *,
    mode: Any,
    encryption: Encryption | str | None,
    tags: Mapping[str, str] | None,
    metadata: Mapping[str, str] | None,
    storage_class: str | None,
    expected_bucket_owner: str | None,
    object_lock: ObjectLock | None,
    request_payer: str | None,
) -> WriteOptions:
    """Check the settings of a manager's writes.

    Raises:
        ConfigurationError: One is outside S3's limits.
    """
    if expected_bucket_owner is not None and not (
        isinstance(expected_bucket_owner, str) and _ACCOUNT.fullmatch(expected_bucket_owner)
    ):
        raise ConfigurationError("expected_bucket_owner: expected an AWS account id, 12 digits as text")
    if storage_class is not None and not (isinstance(storage_class, str) and storage_class):
        raise ConfigurationError("storage_class: expected text, for example 'STANDARD_IA'")
    if object_lock is not None and not isinstance(object_lock, ObjectLock):
        msg = f"object_lock is of type {type(object_lock).__name__}: expected ObjectLock(mode=…, retain_until=…)"
        raise ConfigurationError(msg)
    if storage_class is not None and storage_class.strip().upper() in ARCHIVES:
        raise ConfigurationError(
            f"storage_class is {storage_class!r}: its objects cannot be read before they are restored, which takes "
            "minutes to days, so the next state could not read the output. Use 'STANDARD_IA', 'GLACIER_IR' or "
            "'INTELLIGENT_TIERING', and a lifecycle rule to archive later what nobody needs. Nothing was sent"
        )
    checked_payer(request_payer)
    extra = object_lock.parameters() if object_lock is not None else {}
    return WriteOptions(
        mode=mode,
        encryption=encryption_of(encryption),
        tags=_tags(tags or {}),
        metadata=_metadata(metadata or {}),
        storage_class=storage_class,
        expected_bucket_owner=expected_bucket_owner,
        extra=extra,
    )


def _tags(tags: Mapping[str, str]) -> dict[str, str]:
    if not isinstance(tags, Mapping):
        raise ConfigurationError(f"tags are of type {type(tags).__name__}: expected a dict such as {{'team': 'maps'}}")
    if len(tags) > _TAGS:
        raise ConfigurationError(f"tags: S3 takes {_TAGS} an object, got {len(tags)}")
    if KEEP_TAG in tags:
        raise ConfigurationError(f"tags: {KEEP_TAG} is what keep= writes: pass keep='30d', say. Nothing was sent")
    for name, value in tags.items():
        if not (isinstance(name, str) and isinstance(value, str)):
            raise ConfigurationError(f"tags: names and values are text; {_not_text('tags', name, value)}")
        if not 1 <= len(name) <= _TAG_NAME or len(value) > _TAG_VALUE:
            raise ConfigurationError(f"tags: S3 takes names of 1 to {_TAG_NAME} characters, values of {_TAG_VALUE}")
    return dict(tags)


def with_keep(options: WriteOptions, keep: timedelta) -> WriteOptions:
    """Return the options of objects that lifecycle rules remove after so long.

    Raises:
        ConfigurationError: With the tag that says so, there are more than S3 takes.
    """
    if len(options.tags) >= _TAGS:
        raise ConfigurationError(f"tags: S3 takes {_TAGS} an object; keep= needs one of them. Nothing was sent")
    return replace(options, tags={**options.tags, **keep_tag(keep)})


def _not_text(what: str, name: object, value: object) -> str:
    if not isinstance(name, str):
        return f"{member(what, name)} has a name of type {type(name).__name__}"
    return f"{member(what, name)} is of type {type(value).__name__}: write str() of it"


def _metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    if not isinstance(metadata, Mapping):
        raise ConfigurationError(f"metadata is of type {type(metadata).__name__}: expected a dict of text")
    size = 0
    for name, value in metadata.items():
        if not (isinstance(name, str) and isinstance(value, str)):
            raise ConfigurationError(f"metadata: names and values are text; {_not_text('metadata', name, value)}")
        if not _HEADER_NAME.fullmatch(name) or not value.isascii() or not value.isprintable():
            raise ConfigurationError("metadata: they travel as HTTP headers, so names and values are printable ASCII")
        size += len(name) + len(value)
    if size > _METADATA_BYTES:
        raise ConfigurationError(f"metadata: S3 takes {_METADATA_BYTES:,} bytes of names and values, got {size:,}")
    return dict(metadata)


def with_record(options: WriteOptions, task: RecordedTask) -> WriteOptions:
    """Return the options of objects that say which task they belong to.

    Raises:
        ConfigurationError: That and the caller's metadata are more than S3 takes, or use the same names.
    """
    said = task.to_metadata()
    if _size(said) > _METADATA_BYTES:  # Of names that are not ASCII. Clean-up only lists what names no execution.
        said = replace(task, execution=None, parent_execution=None).to_metadata()
    if clash := sorted(set(said) & {name.lower() for name in options.metadata}):
        raise ConfigurationError(f"metadata: {', '.join(clash)} is what a task that keeps a record says itself")
    metadata = {**options.metadata, **said}
    size = _size(metadata)
    if size > _METADATA_BYTES:
        own = size - _size(said)
        raise ConfigurationError(
            f"metadata: S3 takes {_METADATA_BYTES:,} bytes of names and values, got {size:,}: {own:,} are yours, the "
            "rest says which task's record the objects belong to. Use less metadata, or keep no record "
            "(STEPOUT_COMMIT_RECORD=off). Nothing was sent"
        )
    return replace(options, metadata=metadata)


def _size(metadata: Mapping[str, str]) -> int:
    return sum(len(name) + len(value) for name, value in metadata.items())


def settings_from_env(environ: Mapping[str, str], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a manager from the environment and from the overrides.

    Args:
        environ: See ``ArtifactManager.from_env``.
        overrides: Arguments by name; for those that are ``None`` or empty, the environment decides.

    Raises:
        ConfigurationError: There is no bucket, or a variable is invalid.
    """
    warn_of_unknown(environ)
    found = dict(overrides)
    found["bucket"] = found.get("bucket") or environ.get("STEPOUT_BUCKET")
    if not found["bucket"]:
        msg = (
            "no bucket for artifacts: set STEPOUT_BUCKET to a bucket's name or to s3://bucket/prefix (in the task "
            "definition, or in the state's container overrides), or pass bucket="
        )
        raise ConfigurationError(msg + meant_for(environ, "STEPOUT_BUCKET"))
    if found.get("prefix") is None:
        found["prefix"] = environ.get("STEPOUT_PREFIX") or ""
    if found.get("run") is None:
        found["run"] = RunIdentity.from_env(environ)
    if found.get("profile") is None:
        found["profile"] = profile_from_env(environ)
    if found.get("request_payer") is None:
        found["request_payer"] = payer_from_env(environ)
    return found
